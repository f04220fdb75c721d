"""What disease changes: one function for each kind of lesion, each led by the factor of its name.

Sizes are in disc diameters (DD, about 1800 micrometres). ``UNDER`` and ``OVER`` are the order of drawing.

Blood and lipid are drawn from barely visible to stark, sharp to soft, on an evenly or unevenly mottled ground: what it
buys is in docs/decisions.md.
"""

import cv2
import numpy as np

from visionclip.phantom.anatomy import bare_choroid
from visionclip.phantom.eye import Eye, blobs, fibre_direction

DISC_DIAMETER = 1800  # micrometres
BLOOD = (0.28, 0.64, 0.48)  # share of light absorbed by intraretinal blood, R G B
DEEP_BLOOD = (0.44, 0.74, 0.60)
LIPID = (1.06, 0.84, 0.37)
VEIN_CELLS = 56  # cells across the image in which it counts how much vein there is: about 0.12 DD each


def _towards(centre: np.ndarray, spread: float):
    """Weight that favours positions near ``centre``."""
    return lambda points: np.exp(-((np.hypot(*(points - centre).T) / spread) ** 2))


# Diabetic and vascular --------------------------------------------------------------------------------------------


def _deposits(
    eye: Eye,
    canvas: np.ndarray,
    centres: np.ndarray,
    radii: np.ndarray,
    strength: np.ndarray | float,
    rng: np.random.Generator,
    rough: float = 0.1,
    stretch: np.ndarray | float = 1.0,
    direction: np.ndarray | float = 0.0,
    corners: int = 16,
) -> None:
    """Fill irregular ellipses (as ``blobs``) whose area is right however small they are.

    OpenCV's smooth edge makes a filled outline wider by 0.65 pixels of the canvas, and none smaller than 0.85: as much
    as a microaneurysm's own radius at the sizes that are trained on. What is smaller is drawn fainter instead.
    """
    pixel = 1 / (eye.scale * eye.fine)  # of the canvas, DD
    inner = np.maximum(radii - 0.65 * pixel, 0.2 * pixel)
    longer = np.maximum((radii * stretch - 0.65 * pixel) / inner, 1)
    faint = np.minimum((radii / (0.85 * pixel)) ** 2, 1)
    eye.fill(canvas, blobs(centres, inner, rng, rough, longer, direction, corners), strength * faint)


def _threads(eye: Eye, canvas: np.ndarray, lines: np.ndarray, width: float, strength: float = 1.0) -> None:
    """Draw N lines N×K×2 as wide as ``width`` DD says, thinner than a pixel of the canvas as fainter ones.

    OpenCV's smooth lines of 1 and 2 pixels are 1.3 and 3.6 pixels wide, thicker ones 1.7 wider than they are called.
    """
    pixel = 1 / (eye.scale * eye.fine)
    wanted = width / pixel
    thickness = 1 if wanted < 2.2 else max(2, round(wanted - 1.7))
    drawn = 1.3 if thickness == 1 else thickness + 1.7
    eye.stroke(canvas, lines, thickness * pixel, strength * min(wanted / drawn, 1))


def _patches(
    eye: Eye,
    centres: np.ndarray,
    radii: np.ndarray,
    rng: np.random.Generator,
    edge: float,
    strength: np.ndarray | float,
) -> np.ndarray:
    """Lobed patches, float32 S×S in [0, 1], each about as large as an ellipse of its ``radii`` (N×2, DD) and as dense
    as its ``strength`` says; their borders, ``edge`` DD wide, fray."""
    lobes = rng.integers(3, 7, len(centres))
    size = np.repeat(radii, lobes, axis=0)
    small, large = size.min(axis=1), size.max(axis=1)
    places = np.repeat(centres, lobes, axis=0) + rng.normal(0, 0.28, size.shape).clip(-0.5, 0.5) * size
    turned = np.where(size[:, 0] >= size[:, 1], 0, np.pi / 2)
    dense = np.repeat(np.broadcast_to(strength, len(centres)), lobes)
    canvas = eye.canvas()
    _deposits(eye, canvas, places, rng.uniform(0.4, 0.7, len(small)) * small, dense, rng, 0.2, large / small, turned)
    soft = eye.coverage(canvas, 0.4 * edge)
    return np.clip(soft + 0.76 * soft * (1 - soft) * eye.noise(rng, 64), 0, 1)


def microaneurysms(eye: Eye) -> None:
    """Round red dots of 20 to 110 micrometres with a soft edge, mostly at the posterior pole (ETDRS report 10: under
    125 micrometres)."""
    count, rng = int(eye.factors["microaneurysms"]), eye.dice("microaneurysms")
    centres = eye.scatter(count, rng, _towards(eye.fovea, 2.4))
    radii = np.exp(rng.normal(np.log(0.0145), 0.3, count)).clip(10 / DISC_DIAMETER, 55 / DISC_DIAMETER)
    canvas = eye.canvas()
    _deposits(
        eye, canvas, centres, radii, rng.uniform(0.5, 1, count), rng, 0.08, rng.uniform(1, 1.25, count), corners=8
    )
    eye.absorb("microaneurysms", eye.coverage(canvas, rng.uniform(0.002, 0.007)) * rng.uniform(0.35, 1), BLOOD)


def haemorrhages(eye: Eye) -> None:
    """Dot and blot haemorrhages of the deep retina, irregular, 0.03-0.3 DD (ETDRS report 10), in clumps and along the
    veins. The many of a severe retinopathy are smaller and spread over all four quadrants (4-2-1 rule); in a vein
    occlusion they keep to its territory."""
    count, rng = int(eye.factors["haemorrhages"]), eye.dice("haemorrhages")
    many = count >= 90 and eye.factors["vein_occlusion"] != "branch"
    quadrants = [_quadrant(eye, index) for index in range(4)]
    centres = _clumped(eye, -(-count // 4), rng, *quadrants) if many else _clumped(eye, count, rng, _territory(eye))
    count = len(centres)
    typical = rng.uniform(0.017, 0.028) if many else rng.uniform(0.021, 0.036)
    radii = np.exp(rng.normal(np.log(typical), 0.6, count)).clip(0.012, 0.16)
    stretch = 1 + rng.gamma(2, 0.5, count).clip(0, 2.5)  # dots are round, blots are drawn out
    canvas = eye.canvas()
    strength, direction = rng.uniform(0.4, 1, count), rng.uniform(0, np.pi, count)
    _deposits(
        eye, canvas, centres, radii, (1 - rng.uniform(0.05, 0.5, count)) * strength, rng, 0.25, stretch, direction
    )
    large = np.nonzero(radii > 0.026)[0]  # dense where the blood pools, thinner around
    pools = centres[large] + 0.3 * radii[large, None] * rng.normal(0, 1, (len(large), 2))
    inner = rng.uniform(0.35, 0.7, len(large)) * radii[large]
    _deposits(eye, canvas, pools, inner, strength[large], rng, 0.35, stretch[large], direction[large], 10)
    mottled = np.clip(0.85 + 0.3 * eye.noise(rng, 90), 0.3, 1)
    alpha = mottled * eye.coverage(canvas, rng.uniform(0.003, 0.014))
    eye.absorb("haemorrhage", alpha * rng.uniform(0.45, 1.1), BLOOD)
    eye.parameters["haemorrhages_by_quadrant"] = quadrant_counts(eye, centres)


def _clumped(eye: Eye, count: int, rng: np.random.Generator, *weights) -> np.ndarray:
    """``count`` places in DD after each of the ``weights``, N×2 in all, more of them beside veins and in a few clumps.

    Each is one of three, chosen apart from the others: a vein that looks a little different at another size moves few.
    """
    thirds = [eye.scatter(3 * count, rng, weight).reshape(3, count, 2) for weight in weights]
    places = np.concatenate(thirds, axis=1)
    clumps = eye.scatter(6, rng)
    apart = np.hypot(*np.moveaxis(places[..., None, :] - clumps, 3, 0)).min(axis=2)
    coarse = cv2.resize(eye.vessels["vein"], (VEIN_CELLS, VEIN_CELLS), interpolation=cv2.INTER_AREA)
    column, row = ((eye.pixels(places) + 0.5) * (VEIN_CELLS / eye.size)).astype(int).clip(0, VEIN_CELLS - 1).T
    chance = (0.05 + coarse[row, column].T) * (0.3 + np.exp(-((apart / 0.6) ** 2)))
    chance *= 1e-6 + np.concatenate(
        [weight(part.reshape(-1, 2)).reshape(3, count) for weight, part in zip(weights, thirds, strict=True)], axis=1
    )
    chosen = (rng.exponential(1, chance.shape) / chance).argmin(axis=0)
    return places[chosen, np.arange(len(chosen))]


def _quadrant(eye: Eye, index: int):
    signs = (-1, 1)[index % 2], (-1, 1)[index // 2]
    return lambda points: ((points - eye.gaze) * signs > 0.05).all(axis=1).astype(float)


def quadrant_counts(eye: Eye, centres: np.ndarray) -> list[int]:
    """Number of ``centres`` (N×2, DD) in each quadrant about the middle of the field."""
    offset = centres - eye.gaze
    index = (offset[:, 0] > 0) + 2 * (offset[:, 1] > 0)
    return np.bincount(index, minlength=4).tolist()


def _territory(eye: Eye):
    """Where blood lies: the sector of a branch vein (above or below the raphe), else anywhere."""
    if eye.factors["vein_occlusion"] != "branch":
        return lambda points: np.ones(len(points))
    rng = eye.dice("occluded branch")
    upwards, middle, half = rng.choice((-1, 1)), np.deg2rad(rng.uniform(30, 75)), np.deg2rad(rng.uniform(28, 45))
    eye.parameters["occluded_branch"] = "superior" if upwards < 0 else "inferior"

    start = rng.uniform(0, 0.9) * np.array((np.cos(middle), np.sin(middle)))  # the crossing where the vein is closed

    def weight(points: np.ndarray) -> np.ndarray:
        angle = np.arctan2(points[:, 1] * upwards - start[1], points[:, 0] - start[0])
        raphe = points[:, 1] * upwards > 0.12 * points[:, 0] - 0.1
        return np.exp(-(((angle - middle) / half) ** 4)) * raphe

    return weight


def flames(eye: Eye) -> None:
    """Flame haemorrhages: blood between nerve fibres, so drawn along them, a slim body with frayed ends. Near the disc
    in hypertension (Keith-Wagener-Barker 3), in the occluded vein's territory in vein occlusion."""
    count, rng = int(eye.factors["flames"]), eye.dice("flames")
    territory = _territory(eye)
    spread = 2.6 if eye.factors["vein_occlusion"] != "none" else 1.6
    near = _towards(np.zeros(2), spread)
    if eye.factors["vein_occlusion"] == "none":
        centres = eye.scatter(count, rng, lambda points: territory(points) * near(points))
    else:
        centres = _clumped(eye, count, rng, lambda points: territory(points) * near(points))
    size = 1.0 if eye.factors["vein_occlusion"] == "none" else 1.4
    half = size * np.exp(rng.normal(np.log(0.085), 0.45, count)).clip(0.035, 0.22)
    heading = fibre_direction(centres, eye.fovea) + rng.normal(0, 0.1, count)
    slim = rng.uniform(0.1, 0.32, count)
    canvas = eye.canvas()
    _deposits(eye, canvas, centres, slim * half, rng.uniform(0.5, 0.95, count), rng, 0.3, 0.7 / slim, heading)
    along = np.stack((np.cos(heading), np.sin(heading)), axis=1)[:, None]
    across = along[..., ::-1] * (-1, 1)
    offset = rng.uniform(-1, 1, (count, 8, 1))  # threads are longest in the middle of the flame
    middle = 1.3 * offset * slim[:, None, None] * across + rng.normal(0, 0.2, (count, 8, 1)) * along
    reach = along * (1.15 - 0.6 * offset**2) * rng.uniform(0.5, 1, (count, 8, 1))
    bow = 0.12 * offset * across
    threads = np.stack((middle - reach - bow, middle, middle + reach - bow), axis=2) * half[:, None, None, None]
    lines = (centres[:, None, None] + threads).reshape(-1, 3, 2)
    _threads(eye, canvas, lines[::2], 0.008 * size, 0.8)
    _threads(eye, canvas, lines[1::2], 0.014 * size, 0.9)
    alpha = eye.coverage(canvas, rng.uniform(0.004, 0.012))
    if eye.factors["vein_occlusion"] != "none":  # where they lie close they run together
        near = 2 * round(0.12 * eye.scale) + 1
        sheet = cv2.blur(cv2.blur(alpha, (near, near)), (near, near)) * np.clip(0.9 + 0.7 * eye.noise(rng, 36), 0, 2)
        alpha = np.maximum(alpha, np.clip(rng.uniform(0.6, 2.4) * sheet, 0, 0.85))
    eye.absorb("haemorrhage", alpha, (0.26, 0.64, 0.48))


def _cluster(rng: np.random.Generator, typical: float, load: float) -> tuple[np.ndarray, np.ndarray]:
    """One group of hard exudates about the origin, of ``typical`` radius, more of them with the eye's ``load``: places
    N×2 and radii N in DD.

    Loose specks; a circinate ring or a part of it; or a confluent plaque among specks.
    """
    kind = rng.choice(("specks", "ring", "plaque"), p=(0.4, 0.28, 0.32))
    count = int(np.clip(load * np.exp(rng.uniform(0, np.log(130))), 1, 250))
    radii = np.exp(rng.normal(np.log(typical), 0.5, count))
    if kind == "ring":
        angle = rng.uniform(0, 2 * np.pi) + rng.normal(0, rng.uniform(0.8, 2.2), count)
        bent = 1 + rng.normal(0, 0.12) * np.cos(2 * angle) + rng.normal(0, 0.12) * np.sin(3 * angle)
        ring = rng.uniform(0.18, 0.55) * bent * rng.normal(1, rng.uniform(0.06, 0.2), count)
        return np.stack((ring * np.cos(angle), ring * np.sin(angle) * rng.uniform(0.6, 1)), axis=1), radii
    places = rng.normal(0, rng.uniform(0.1, 0.42, 2), (count, 2))
    if kind == "plaque":
        pieces = int(np.exp(rng.uniform(np.log(3), np.log(50))))
        walk = np.cumsum(rng.normal(0, rng.uniform(0.6, 1.3) * 0.028, (pieces, 2)), axis=0)  # grown piece by piece
        places = np.concatenate((places, walk))
        radii = np.concatenate((radii, np.exp(rng.normal(np.log(0.026), 0.45, pieces))))
    return places, radii


def _lipid(eye: Eye, centres: np.ndarray, rng: np.random.Generator, outside: float = 0.0) -> None:
    """Hard exudates: small waxy yellow deposits with sharp margins, from single specks to rings and plaques (ETDRS);
    none within ``outside`` DD of the fovea."""
    canvas = eye.canvas()
    typical = np.exp(rng.uniform(np.log(0.008), np.log(0.016)))
    load = np.exp(rng.normal(0, 0.8))
    clusters = [_cluster(rng, typical, load) for _ in centres]
    spots = np.concatenate(
        [np.zeros((0, 2)), *(c + offsets for c, (offsets, _) in zip(centres, clusters, strict=True))]
    )
    radii = np.concatenate([np.zeros(0), *(sizes for _, sizes in clusters)]).clip(0.005, 0.1)
    if outside:
        away = np.hypot(*(spots - eye.fovea).T) > outside + 0.15
        spots, radii = spots[away], radii[away]
    count = len(spots)
    strength, stretch = rng.uniform(0.5, 1, count), rng.uniform(1, 2, count)
    _deposits(eye, canvas, spots, radii, strength, rng, 0.35, stretch, rng.uniform(0, np.pi, count))
    eye.cover("exudate", eye.coverage(canvas, rng.uniform(0.001, 0.009)) * rng.uniform(0.15, 0.9), LIPID)


def exudates(eye: Eye) -> None:
    """Clusters of hard exudates more than 1 DD from the fovea: retinopathy without macular edema."""
    rng = eye.dice("exudates")
    near = _towards(eye.fovea, 2.2)

    def weight(points: np.ndarray) -> np.ndarray:
        return near(points) * (np.hypot(*(points - eye.fovea).T) > 1.4)

    _lipid(eye, eye.scatter(int(eye.factors["exudates"]), rng, weight, rim=0.85), rng, outside=1.05)


def macular_exudates(eye: Eye) -> None:
    """Hard exudates within 1 DD of the fovea: clinically significant macular edema (ETDRS report 1)."""
    count, rng = int(eye.factors["macular_exudates"]), eye.dice("macular exudates")
    angle, reach = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.15, 0.85, count)
    _lipid(eye, eye.fovea + np.stack((reach * np.cos(angle), reach * np.sin(angle)), axis=1), rng)


def macular_star(eye: Eye) -> None:
    """Exudates in Henle's layer, radiating from the fovea, often only on the side of the disc (Keith-Wagener-Barker 4,
    neuroretinitis)."""
    rng = eye.dice("macular star")
    rays = int(rng.integers(10, 22))
    angle = np.pi + rng.uniform(1, np.pi) * rng.uniform(-1, 1, rays) + rng.normal(0, 0.1, rays)
    number = rng.integers(2, 9, rays)
    angle = np.repeat(angle, number)
    count = len(angle)
    reach = np.repeat(rng.uniform(0.4, 0.95, rays), number) * rng.uniform(0.3, 1, count)
    spots = eye.fovea + reach[:, None] * np.stack((np.cos(angle), np.sin(angle)), axis=1)
    spots = spots + rng.normal(0, 0.018, (count, 2))
    radii = np.exp(rng.normal(np.log(0.011), 0.5, count)).clip(0.004, 0.035)
    canvas = eye.canvas()
    _deposits(eye, canvas, spots, radii, rng.uniform(0.3, 1, count), rng, 0.3, rng.uniform(1, 2.6, count), angle)
    eye.cover("exudate", eye.coverage(canvas, rng.uniform(0.002, 0.008)) * rng.uniform(0.4, 0.95), LIPID)


def narrowing(eye: Eye) -> None:
    """Copper wire: the reflex of a thickened wall takes the width of a narrowed artery and is orange (Scheie 1953)."""
    shine = eye.factors["narrowing"] * eye.factors["light_reflex"]
    eye.absorb(None, shine * eye.vessels["artery"] ** 2, (-0.14, -0.2, 0.0))


def macular_swelling(eye: Eye) -> None:
    """Retinal thickening: a greyish, slightly opaque elevation that hides the foveal darkening (ETDRS report 1)."""
    strength, rng = eye.factors["macular_swelling"], eye.dice("macular swelling")
    alpha = eye.region(eye.fovea + rng.normal(0, 0.15, 2), tuple(rng.uniform(0.5, 1.0, 2)), rng, 0.3, 0.4)
    mean = eye.image.mean(axis=(1, 2))
    eye.cover("swelling", 0.45 * strength * alpha, tuple(mean * (1.08, 1.14, 1.1)))


def cotton_wool(eye: Eye) -> None:
    """Nerve-fibre infarcts: white-grey patches of 0.1-0.4 DD across the fibres, feathered along them, within 3 DD of
    the disc (ETDRS soft exudates)."""
    count, rng = int(eye.factors["cotton_wool"]), eye.dice("cotton wool")
    territory = _territory(eye)

    def weight(points: np.ndarray) -> np.ndarray:
        near = np.exp(-(((np.hypot(*points.T) - 2.2) / 1.3) ** 2))
        return territory(points) * near * (np.hypot(*(points - eye.fovea).T) > 0.8)

    centres = eye.scatter(count, rng, weight)
    fibres = fibre_direction(centres, eye.fovea)
    radii = np.exp(rng.normal(np.log(0.052), 0.42, count)).clip(0.025, 0.15)
    stretch, strength = rng.uniform(1.2, 2.8, count), rng.uniform(0.5, 1, count)
    canvas = eye.canvas()
    _deposits(eye, canvas, centres, radii, strength, rng, 0.4, stretch, fibres + np.pi / 2)
    along = np.stack((np.cos(fibres), np.sin(fibres)), axis=1)[:, None]
    across = along[..., ::-1] * (-1, 1) * stretch[:, None, None]
    offset = rng.uniform(-0.8, 0.8, (count, 10, 1))
    begin = offset * across - along * rng.uniform(0.4, 1.5, (count, 10, 1))
    end = offset * across + along * rng.uniform(0.4, 1.5, (count, 10, 1))
    wisps = centres[:, None, None] + np.stack((begin, end), axis=2) * radii[:, None, None, None]
    _threads(eye, canvas, wisps.reshape(-1, 2, 2), 0.012, 0.6)
    alpha = rng.uniform(0.2, 0.8) * eye.coverage(canvas, rng.uniform(0.012, 0.028))
    eye.cover("cotton_wool", alpha, (0.95, 0.83, 0.62))


def _capillaries(
    eye: Eye, canvas: np.ndarray, origin: np.ndarray, stems: int, reach: float, fan: float, rng: np.random.Generator
) -> None:
    """A net of fine new or widened capillaries, ``reach`` DD long: stems leave ``origin`` over ``fan`` radians, fork
    twice and thin out (30 to 12 micrometres), and loops join their ends."""
    heading = rng.uniform(0, 2 * np.pi) + fan * (np.linspace(-0.5, 0.5, stems) + rng.normal(0, 0.1, stems))
    start, length = origin + rng.normal(0, 0.02, (stems, 2)), np.full(stems, 0.5 * reach)
    for width in (0.017, 0.011, 0.007):
        length = length * rng.uniform(0.6, 1.3, len(start))
        curl = np.cumsum(rng.normal(0, 0.22, (len(start), 9)), axis=1) + rng.normal(0, 0.06, (len(start), 1)) * range(9)
        angle = heading[:, None] + curl
        step = (length / 9)[:, None, None]
        path = np.cumsum(np.stack((np.cos(angle), np.sin(angle)), axis=2) * step, axis=1)
        lines = np.concatenate((start[:, None], start[:, None] + path), axis=1)
        _threads(eye, canvas, lines[:, :6], width, 0.95)
        _threads(eye, canvas, lines[:, 5:], 0.8 * width, 0.9)
        owner = np.repeat(np.arange(len(lines)), 2)
        start = lines[owner, rng.integers(4, 10, len(owner))]
        heading = angle[owner, -1] + np.tile((-1, 1), len(lines)) * rng.uniform(0.3, 1.1, len(owner))
        length = 0.6 * length[owner]
    ends, beyond = lines[:, -1], 1.18  # neighbours' ends are joined by loops that bulge outwards
    order = np.argsort(np.arctan2(*(ends - origin).T[::-1]))
    ends, following = ends[order], np.roll(ends[order], -1, axis=0)
    close = np.hypot(*(ends - following).T) < 0.45 * reach
    top = origin + beyond * (0.5 * (ends + following) - origin)
    t = np.linspace(0, 1, 7)[:, None]
    loops = (1 - t) ** 2 * ends[:, None] + 2 * t * (1 - t) * top[:, None] + t**2 * following[:, None]
    _threads(eye, canvas, loops[close], 0.008, 0.9)


def irma(eye: Eye) -> None:
    """Intraretinal microvascular abnormalities: small tortuous loops between vessels (ICDR severe)."""
    rng = eye.dice("irma")
    canvas = eye.canvas()
    for origin in eye.scatter(int(eye.factors["irma"]), rng, rim=0.8):
        _capillaries(eye, canvas, origin, int(rng.integers(2, 4)), rng.uniform(0.2, 0.45), rng.uniform(1, 3), rng)
    eye.absorb("neovessel", eye.coverage(canvas) * rng.uniform(0.5, 1), (0.24, 0.6, 0.45))


def neovessels(eye: Eye) -> None:
    """New vessels: fans of fine loops on the disc (NVD) or along the arcades (NVE) (ICDR proliferative)."""
    count, rng = int(eye.factors["neovessels"]), eye.dice("neovessels")
    origins = eye.scatter(count, rng, lambda p: np.exp(-(((np.hypot(*p.T) - 2) / 1) ** 2)), rim=0.8)
    if rng.random() < 0.5:
        origins[:1] = rng.normal(0, 0.2, 2)
    canvas = eye.canvas()
    for origin in origins:
        _capillaries(eye, canvas, origin, int(rng.integers(4, 9)), rng.uniform(0.45, 1.1), rng.uniform(2, 5), rng)
    eye.absorb("neovessel", eye.coverage(canvas) * rng.uniform(0.5, 1), (0.22, 0.62, 0.46))


def preretinal(eye: Eye) -> None:
    """Preretinal haemorrhage: dense, boat-shaped with a level top where blood has settled, or a vitreous cloud."""
    rng = eye.dice("preretinal")
    blood = np.zeros((eye.size, eye.size), np.float32)
    cloud, ripple = eye.noise(rng, 18), eye.noise(rng, 12)
    for centre in eye.scatter(int(eye.factors["preretinal"]), rng, rim=0.75):
        wide = np.exp(rng.uniform(np.log(0.2), np.log(0.85)))
        tall = wide * rng.uniform(0.35, 0.8)
        edge = np.exp(rng.uniform(np.log(0.04), np.log(0.3)))
        alpha = _patches(eye, centre[None], np.array([[wide, tall]]), rng, edge, 1.0)
        below = (eye.y - np.float32(centre[1])) / np.float32(tall)
        if rng.random() < 0.6:  # cells sink: level above, denser below
            level = below + rng.normal(0, 0.12) * (eye.x - np.float32(centre[0])) + 0.05 * ripple
            alpha = alpha * np.clip((level + 0.3) * tall / rng.uniform(0.05, 0.16), 0, 1)
            alpha = alpha * np.clip(0.75 + 0.3 * below, 0.4, 1)
        else:
            alpha = alpha * np.clip(0.7 + 0.3 * cloud, 0.1, 1)
        blood = np.maximum(blood, alpha * rng.uniform(0.5, 1))
    mean = eye.image.mean(axis=(1, 2))  # it hides what lies below
    eye.cover("haemorrhage", 0.5 * blood, tuple(mean * (1 - 0.9 * np.array(DEEP_BLOOD))))
    eye.absorb("haemorrhage", 0.75 * blood, DEEP_BLOOD)


def fibrosis(eye: Eye) -> None:
    """Fibrovascular tissue: grey-white bands and veils along the arcades and on the disc (advanced PDR, Klein 1984)."""
    rng = eye.dice("fibrosis")
    for _ in range(int(eye.factors["fibrosis"])):
        angle = rng.choice((-1, 1)) * rng.uniform(0.6, 1.5)
        start = rng.uniform(0, 1.2) * np.array((np.cos(angle), np.sin(angle)))
        heading = angle * np.linspace(1, 0.2, 14) + rng.normal(0, 0.2, 14)
        line = start + np.cumsum(np.stack((np.cos(heading), np.sin(heading)), axis=1), axis=0) * rng.uniform(0.08, 0.18)
        canvas = eye.canvas()
        eye.stroke(canvas, line[None], rng.uniform(0.1, 0.3), 0.9)
        eye.stroke(canvas, line[None, : int(rng.integers(4, 12))], rng.uniform(0.2, 0.5), 0.9)
        veil = eye.coverage(canvas, 0.06) * np.clip(0.75 + 0.3 * eye.noise(rng, 18), 0, 1)
        eye.cover("fibrosis", veil * rng.uniform(0.25, 0.75), (0.88, 0.80, 0.66))


def laser(eye: Eye) -> None:
    """Panretinal photocoagulation scars: rows of pale spots of 0.1-0.3 DD outside the arcades (DRS), faint to plain;
    old ones gather pigment."""
    count, rng = int(eye.factors["laser"]), eye.dice("laser")
    size = rng.uniform(0.05, 0.1)
    spacing = size * rng.uniform(2.6, 5)
    span = np.arange(-5, 5, spacing)
    grid: np.ndarray = np.stack(np.meshgrid(span, span), axis=2).reshape(-1, 2) + eye.gaze
    grid = grid + rng.normal(0, 0.18 * spacing, grid.shape)
    outside = (np.hypot(*(grid - eye.fovea).T) > 1.9) & (np.hypot(*grid.T) > 1.0)
    grid = grid[outside & (np.hypot(*(grid - eye.gaze).T) < 0.97 * eye.factors["field_radius"])]
    focus = eye.scatter(3, rng)  # sittings: the spots lie in fields
    apart = np.hypot(*np.moveaxis(grid[:, None] - focus, 2, 0)).min(axis=1)
    centres = grid[np.argsort(rng.exponential(1, len(grid)) / (0.1 + np.exp(-((apart / 1.2) ** 2))))[:count]]
    count = len(centres)
    radii = size * np.exp(rng.normal(0, 0.25, count)).clip(0.5, 1.6)
    faded = np.clip(0.6 + rng.normal(0, 0.25, count), 0.1, 1)
    canvas, pigment = eye.canvas(), eye.canvas()
    _deposits(eye, canvas, centres, radii, faded, rng, 0.25, rng.uniform(1, 1.4, count), rng.uniform(0, np.pi, count))
    pale = np.array((0.88, 0.74, 0.5)) - rng.uniform(0, 1) * np.array((0.25, 0.12, 0.02))
    alpha = eye.coverage(canvas, rng.uniform(0.012, 0.035)) * rng.uniform(0.15, 0.7)
    eye.cover("scar", alpha * np.clip(0.85 + 0.25 * eye.noise(rng, 60), 0, 1.2), tuple(pale))
    old = np.nonzero(rng.random(count) < rng.uniform(-0.3, 0.8))[0].repeat(3)
    grains = centres[old] + radii[old, None] * rng.normal(0, 0.45, (len(old), 2))
    _deposits(
        eye, pigment, grains, radii[old] * rng.uniform(0.12, 0.45, len(old)), rng.uniform(0.2, 0.9, len(old)), rng, 0.5
    )
    eye.absorb("scar", eye.coverage(pigment, 0.008), (0.5, 0.55, 0.5))
    eye.parameters["laser_spots"] = count


# Macular degeneration ---------------------------------------------------------------------------------------------


def drusen(eye: Eye) -> None:
    """Soft drusen: pale yellow mounds of 63 to over 125 micrometres (0.035-0.07 DD and more), often confluent, round
    the fovea (Beckman classification, Ferris 2013), faint, among more and smaller hard ones."""
    count, rng = int(eye.factors["drusen"]), eye.dice("drusen")
    spread = rng.uniform(0.35, 0.95)
    centres = eye.fovea + rng.normal(0, spread, (count, 2))
    median = eye.factors["drusen_size"] / 2 / DISC_DIAMETER
    radii = np.exp(rng.normal(np.log(median), 0.4, count)).clip(0.6 * median, 2.2 * median)
    small = int(count * rng.uniform(0, 2.5))
    dots = eye.fovea + rng.normal(0, 1.3 * spread, (small, 2))
    canvas = eye.canvas()
    _deposits(eye, canvas, dots, rng.uniform(0.008, 0.018, small), rng.uniform(0.2, 0.8, small), rng, 0.15)
    _deposits(eye, canvas, centres, radii, rng.uniform(0.25, 1, count), rng, 0.2, rng.uniform(1, 1.4, count))
    soft = eye.coverage(canvas, median * rng.uniform(0.35, 0.9))  # no sharp margin
    eye.cover("drusen", soft * rng.uniform(0.12, 0.7), (0.95, 0.76, 0.42))


def macular_pigment(eye: Eye) -> None:
    """Clumps of displaced pigment epithelium at the macula (Beckman: pigmentary abnormality; Fuchs spot in myopia)."""
    count, rng = int(eye.factors["macular_pigment"]), eye.dice("macular pigment")
    centres = eye.fovea + rng.normal(0, 0.4, (count, 2))
    canvas = eye.canvas()
    radii = np.exp(rng.normal(np.log(0.035), 0.5, count)).clip(0.012, 0.09)
    strength, stretch = rng.uniform(0.3, 1, count), rng.uniform(1, 2, count)
    _deposits(eye, canvas, centres, radii, strength, rng, 0.3, stretch, rng.uniform(0, np.pi, count))
    alpha = eye.coverage(canvas, 0.014) * np.clip(0.8 + 0.3 * eye.noise(rng, 110), 0.2, 1.1)
    eye.absorb("pigment", alpha, (0.55, 0.6, 0.55))


def geographic_atrophy(eye: Eye) -> None:
    """Bordered loss of pigment epithelium, 175 micrometres and more, choroidal vessels seen (AREDS): sharp or fraying,
    often of several patches that have met."""
    radius, rng = eye.factors["geographic_atrophy"], eye.dice("geographic atrophy")
    more = int(rng.integers(0, 4))
    spread = np.full((more + 1, 1), 0.3 + 0.5 * radius)
    spread[0] = 0.1
    radii = np.append(radius, rng.uniform(0.08, 0.35, more))[:, None] * rng.uniform(0.7, 1, (more + 1, 2))
    edge = np.exp(rng.uniform(np.log(0.05), np.log(0.3)))
    alpha = _patches(eye, eye.fovea + spread * rng.normal(0, 1, radii.shape), radii, rng, edge, 1.0)
    texture = bare_choroid(eye, rng, rng.uniform(0.35, 1))
    eye.cover("atrophy", alpha * texture * rng.uniform(0.35, 0.8), (0.94, 0.72, 0.44))


def _off_centre(eye: Eye, rng: np.random.Generator, spread: float) -> np.ndarray:
    return eye.fovea + rng.normal(0, spread, 2)


def subretinal_fluid(eye: Eye) -> None:
    """Neurosensory or pigment-epithelial detachment: a dome, yellowish-grey, with a shaded lower rim (AREDS)."""
    radius, rng = eye.factors["subretinal_fluid"], eye.dice("subretinal fluid")
    alpha = eye.region(_off_centre(eye, rng, 0.15), (radius, radius * rng.uniform(0.7, 1.1)), rng, 0.2, 0.15)
    shade = cv2.GaussianBlur(alpha, (0, 0), 0.15 * eye.scale)
    eye.cover("swelling", 0.4 * alpha * shade, (0.86, 0.66, 0.40))
    eye.absorb("swelling", 1.2 * alpha * np.clip(1 - shade, 0, 1), (0.2, 0.25, 0.25))


def subretinal_blood(eye: Eye) -> None:
    """Subretinal haemorrhage: dark red to grey-green, blurred edge, retinal vessels crossing above (AREDS)."""
    radius, rng = eye.factors["subretinal_blood"], eye.dice("subretinal blood")
    alpha = eye.region(_off_centre(eye, rng, 0.3), (radius, radius * rng.uniform(0.55, 1)), rng, 0.45, 0.15)
    alpha = alpha * np.clip(0.85 + 0.2 * eye.noise(rng, 9), 0, 1)
    eye.absorb("haemorrhage", alpha * rng.uniform(0.7, 1), (0.5, 0.68, 0.5))


def disciform_scar(eye: Eye) -> None:
    """Subretinal fibrosis: a raised yellow-white plaque with pigment at its border (AREDS)."""
    radius, rng = eye.factors["disciform_scar"], eye.dice("disciform scar")
    centre = _off_centre(eye, rng, 0.15)
    alpha = eye.region(centre, (radius, radius * rng.uniform(0.6, 1)), rng, 0.35, 0.12)
    eye.cover("fibrosis", alpha * rng.uniform(0.6, 0.9), (0.94, 0.84, 0.62))
    rim = np.clip(4 * alpha * (1 - alpha), 0, 1) * np.clip(0.3 + eye.noise(rng, 10), 0, 1)
    eye.absorb("pigment", rim, (0.5, 0.55, 0.5))


# Choroid and retina -----------------------------------------------------------------------------------------------


def _pigment_rim(eye: Eye, alpha: np.ndarray, rng: np.random.Generator) -> None:
    """Pigment that has gathered at places along the border of a patch ``alpha`` (S×S, 0 to 1), and a little within."""
    wide = cv2.GaussianBlur(alpha, (0, 0), max(rng.uniform(0.025, 0.06) * eye.scale, 0.5))
    clumps = np.clip(rng.uniform(-0.3, 0.4) + 0.6 * eye.noise(rng, 18) + 0.4 * eye.noise(rng, 60), 0, 1)
    rim = (4 * wide * (1 - wide) + 0.15 * wide) * clumps
    eye.absorb("pigment", rim * rng.uniform(0.4, 1), (0.65, 0.7, 0.65))


def scars(eye: Eye) -> None:
    """Healed chorioretinitis: punched-out white sclera and choroid with clumped black pigment at the rim (SUN)."""
    rng = eye.dice("scars")
    centres = eye.scatter(int(eye.factors["scars"]), rng, rim=0.85)
    texture = bare_choroid(eye, rng, rng.uniform(0.2, 0.8))
    count = len(centres)
    radii = 0.28 * np.exp(rng.normal(0, 0.5, count).clip(-1, 1.2))[:, None] * rng.uniform(0.65, 1.1, (count, 2))
    edge = np.exp(rng.uniform(np.log(0.03), np.log(0.16)))
    alpha = _patches(eye, centres, radii, rng, edge, rng.uniform(0.5, 1, count))
    eye.cover("scar", alpha * texture, (0.98, 0.86, 0.62))
    _pigment_rim(eye, alpha, rng)


def active_lesions(eye: Eye) -> None:
    """Active choroiditis or retinitis: fuzzy creamy infiltrates without pigment (SUN)."""
    rng = eye.dice("active lesions")
    for centre in eye.scatter(int(eye.factors["active_lesions"]), rng, rim=0.8):
        radius = rng.uniform(0.12, 0.55)
        alpha = eye.region(centre, (radius, radius * rng.uniform(0.7, 1)), rng, 0.25, 0.2)
        eye.cover("scar", 0.7 * alpha, (0.93, 0.80, 0.55))


def bone_spicules(eye: Eye) -> None:
    """Retinitis pigmentosa: branching pigment along vessels of the mid-periphery, over a grey, thinned epithelium."""
    count, rng = int(eye.factors["bone_spicules"]), eye.dice("bone spicules")
    far = np.clip((eye.distance((1.2, 0)) - 1.7) / 0.8, 0, 1)
    eye.absorb("pigment", 0.5 * far * np.clip(0.7 + 0.4 * eye.noise(rng, 14), 0, 1), (0.42, 0.3, 0.1))
    centres = eye.scatter(count, rng, lambda p: np.clip((np.hypot(p[:, 0] - 1.2, p[:, 1]) - 1.6) / 0.8, 0, 1), rim=0.97)
    angle = rng.uniform(0, 2 * np.pi, (count, 3))[..., None] + np.cumsum(rng.normal(0, 0.4, (count, 3, 4)), axis=2)
    path = np.cumsum(np.stack((np.cos(angle), np.sin(angle)), axis=3), axis=2) * rng.uniform(
        0.03, 0.06, (count, 1, 1, 1)
    )
    lines = (centres[:, None, None] + path).reshape(-1, 4, 2)
    canvas = eye.canvas()
    _threads(eye, canvas, lines, 0.035)
    eye.absorb("pigment", eye.coverage(canvas), (0.7, 0.72, 0.65))


def diffuse_atrophy(eye: Eye) -> None:
    """Ill-defined yellowish pallor of the posterior pole (META-PM category 2)."""
    strength, rng = eye.factors["diffuse_atrophy"], eye.dice("diffuse atrophy")
    centre = eye.fovea * rng.uniform(0.1, 0.9) + rng.normal(0, 0.2, 2)
    alpha = eye.region(centre, tuple(rng.uniform(1.2, 2.4, 2)), rng, 0.5, 1.4)
    eye.cover("atrophy", 0.6 * strength * alpha * bare_choroid(eye, rng, rng.uniform(0.2, 0.8)), (0.92, 0.70, 0.40))


def patchy_atrophy(eye: Eye) -> None:
    """Well-defined grey-white patches, pigment clumped at the edges (META-PM category 3; 4 if at the fovea)."""
    rng = eye.dice("patchy atrophy")
    texture = bare_choroid(eye, rng, rng.uniform(0.1, 0.6))
    count = int(eye.factors["patchy_atrophy"])
    centres = eye.fovea * rng.uniform(0, 1.2, (count, 1)) + rng.normal(0, 0.9, (count, 2))
    radii = 0.38 * np.exp(rng.normal(0, 0.5, count).clip(-1.1, 1.1))[:, None] * rng.uniform(0.6, 1.2, (count, 2))
    edge = np.exp(rng.uniform(np.log(0.04), np.log(0.2)))
    alpha = _patches(eye, centres, radii, rng, edge, rng.uniform(0.55, 1, count))
    eye.cover("atrophy", alpha * texture, (1.02, 0.90, 0.64))
    _pigment_rim(eye, alpha, rng)


def lacquer_cracks(eye: Eye) -> None:
    """Breaks of Bruch's membrane: fine yellowish, branching lines across the macula (META-PM plus sign)."""
    count, rng = int(eye.factors["lacquer_cracks"]), eye.dice("lacquer cracks")
    start = eye.fovea * rng.uniform(0.5, 1.1, (count, 1)) + rng.normal(0, 0.45, (count, 2))
    heading = rng.normal(0, 0.5) + rng.normal(0, 0.35, (count, 1)) + np.cumsum(rng.normal(0, 0.25, (count, 16)), axis=1)
    path = np.cumsum(np.stack((np.cos(heading), np.sin(heading)), axis=2), axis=1) * rng.uniform(0.05, 0.12)
    canvas = eye.canvas()
    _threads(eye, canvas, start[:, None] + path, rng.uniform(0.025, 0.05))
    eye.cover("atrophy", 0.75 * eye.coverage(canvas, 0.01), (0.95, 0.82, 0.52))


def staphyloma(eye: Eye) -> None:
    """Posterior staphyloma: an outpouching that is paler within and darker at its wall (META-PM plus sign)."""
    depth, rng = eye.factors["staphyloma"], eye.dice("staphyloma")
    shape = eye.distance(eye.fovea * rng.uniform(0.3, 0.8)) / rng.uniform(1.7, 2.4) + 0.08 * eye.noise(rng, 6)
    wall = np.exp(-(((shape - 1) / 0.16) ** 2))
    within = np.clip((1 - shape) * 2, 0, 1)
    eye.absorb("atrophy", depth * wall, (0.3, 0.36, 0.36))
    eye.absorb("atrophy", depth * within, (-0.06, -0.2, -0.2))


def membrane(eye: Eye) -> None:
    """Epiretinal membrane about the macula (Gass): a greyish, granular sheen that glistens in fine flecks, wrinkles and
    pulls the vessels below; an opaque, white pucker when densest."""
    density, rng = eye.factors["membrane"], eye.dice("membrane")
    centre = _off_centre(eye, rng, 0.35)
    epicentre = centre + rng.normal(0, 0.25, 2)
    radii = rng.uniform(0.4, 1.1, 2)
    whole = eye.region(centre, tuple(radii), rng, 0.5, 0.5)
    patch = whole * np.clip(0.55 + 0.55 * eye.noise(rng, 9), 0, 1)
    _pull(eye, np.clip(2.5 * patch - 0.6, 0, 1) * min(0.3 + density, 1), epicentre, rng)
    eye.mark("membrane", patch, 0.25)

    mean = eye.image.mean(axis=(1, 2))
    dulled = np.exp(-((eye.distance(eye.fovea) / 0.3) ** 2)) * whole
    eye.cover("membrane", 0.45 * density * dulled, tuple(mean * (1.05, 1.1, 1.1)))
    grain = np.clip(0.5 + 0.35 * eye.noise(rng, 40) + 0.3 * eye.noise(rng, 110), 0, 1.6)
    sheen = density * rng.uniform(0.2, 0.45) * patch * grain
    if density > 0.84:
        pucker = 0.32 * min((density - 0.84) / 0.1, 1) * np.clip(1.6 * patch - 0.5, 0, 1)
        sheen += pucker * np.clip(0.5 + 0.5 * grain, 0, 1.3)
    eye.cover("membrane", sheen, (0.83, 0.81, 0.69))

    folds = eye.canvas()
    count = int(density * rng.integers(4, 22))
    start = centre + rng.normal(0, 0.35, (count, 2))
    radial = np.arctan2(*(start - epicentre).T[::-1])
    heading = (radial + rng.normal(0, 0.5, count))[:, None] + np.cumsum(rng.normal(0, 0.25, (count, 7)), axis=1)
    step = rng.uniform(0.012, 0.07, (count, 1, 1))
    lines = start[:, None] + np.cumsum(step * np.stack((np.cos(heading), np.sin(heading)), axis=2), axis=1)
    _threads(eye, folds, lines[::2], 0.012, 0.6)
    _threads(eye, folds, lines[1::2], 0.022, 0.9)
    glint = rng.uniform(1.2, 2) * _flecks(eye, centre, radii, epicentre, rng) - 0.27 * eye.coverage(folds, 0.006)
    eye.absorb("membrane", density * glint * np.clip(2 * whole, 0, 1), (-0.2, -0.5, -0.6))


def _flecks(
    eye: Eye, centre: np.ndarray, radii: np.ndarray, epicentre: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Coverage, S×S, of the sparkle of a wrinkled surface: short wavy striae of 0.01-0.03 DD width in clumps, most of
    them across the pull towards ``epicentre``."""
    clumps = int(rng.integers(4, 12))
    places = centre + rng.normal(0, 0.55, (clumps, 2)) * radii
    sizes, numbers = rng.uniform(0.06, 0.35, clumps), rng.integers(8, 75, clumps)
    count = int(numbers.sum())
    start = np.repeat(places, numbers, axis=0) + np.repeat(sizes, numbers)[:, None] * rng.normal(0, 1, (count, 2))
    turn = np.repeat(rng.normal(0, 0.5, clumps), numbers) + rng.normal(0, 0.6, count)
    heading = np.arctan2(*(start - epicentre).T[::-1]) + np.pi / 2 + turn
    angle = heading[:, None] + np.cumsum(rng.normal(0, 0.45, (count, 4)), axis=1)
    step = np.exp(rng.normal(np.log(0.014), 0.5, (count, 1, 1))).clip(0.004, 0.035)
    lines = start[:, None] + np.cumsum(step * np.stack((np.cos(angle), np.sin(angle)), axis=2), axis=1)
    canvas = eye.canvas()
    for part, width, strength in ((0, 0.01, 0.4), (1, 0.017, 0.5), (2, 0.012, 0.9), (3, 0.024, 0.3)):
        _threads(eye, canvas, lines[part::4], width, strength)
    return eye.coverage(canvas, 0.004)


def _pull(eye: Eye, where: np.ndarray, epicentre: np.ndarray, rng: np.random.Generator) -> None:
    """Shift what has been drawn, and its masks, towards ``epicentre`` and in waves, as far as ``where`` (S×S, 0 to 1)
    says; never at the disc."""
    reach = where * np.clip(eye.distance((0, 0)) - 0.7, 0, 1)
    wave = rng.uniform(0.01, 0.035) * eye.noise(rng, 22), rng.uniform(0.01, 0.035) * eye.noise(rng, 22)
    strength = rng.uniform(0.05, 0.3)
    if not reach.any():
        return
    left, top, wide, tall = cv2.boundingRect((reach > 0).astype(np.uint8))
    window = slice(top, top + tall), slice(left, left + wide)
    x, y = eye.x[window] - np.float32(epicentre[0]), eye.y[window] - np.float32(epicentre[1])
    closer = strength * np.exp(-2 * (x * x + y * y))
    x, y = (reach[window] * (closer * offset + waves[window]) for offset, waves in ((x, wave[0]), (y, wave[1])))
    (a, b), (c, d) = eye.turn * (eye.mirror, 1) * eye.scale  # as ``Eye.pixels``
    columns = (np.arange(left, left + wide) + a * x + b * y).astype(np.float32)
    rows = (np.arange(top, top + tall)[:, None] + c * x + d * y).astype(np.float32)
    for plane in (*eye.image, *eye.vessels.values()):
        plane[window] = cv2.remap(plane, columns, rows, cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE)
    for name in set(eye.masks) - {"disc", "cup", "fovea", "membrane"}:
        moved = eye.masks[name].copy()
        moved[window] = cv2.remap(moved.astype(np.uint8), columns, rows, cv2.INTER_NEAREST) > 0
        eye.masks[name] = moved


def nerve_fibre_defect(eye: Eye) -> None:
    """Wedge of lost nerve fibres from the disc margin along an arcade: darker, striae gone (Hoyt; EGS guidelines)."""
    depth, rng = eye.factors["nerve_fibre_defect"], eye.dice("nerve fibre defect")
    side, middle = float(rng.choice((-1, 1))), float(np.deg2rad(rng.uniform(45, 75)))
    bend = np.clip(eye.x / eye.fovea[0], 0, 1.6)
    swing = np.arctan2(side * eye.y, eye.x) + 0.45 * bend
    wedge = np.exp(-(((swing - middle) / rng.uniform(0.1, 0.2)) ** 4))
    from_disc = eye.distance((0, 0))
    reach = np.clip((from_disc - 0.45) / 0.1, 0, 1) * np.exp(-((from_disc / 3) ** 4))
    eye.absorb("atrophy", depth * wedge * reach, (0.08, 0.2, 0.22))


def disc_haemorrhage(eye: Eye) -> None:
    """Drance haemorrhage: one splinter across the disc margin, most often below and temporal."""
    rng = eye.dice("disc haemorrhage")
    angle = rng.choice((-1, 1), p=(0.35, 0.65)) * rng.uniform(0.5, 1.3)
    outward = np.array((np.cos(angle), np.sin(angle)))
    begin, end = rng.uniform(0.36, 0.46, 6), rng.uniform(0.54, 0.74, 6)
    aside = rng.normal(0, 0.022, (6, 1)) * outward[::-1] * (-1, 1)
    threads = np.stack((begin[:, None] * outward + 0.6 * aside, end[:, None] * outward + 1.3 * aside), axis=1)
    canvas = eye.canvas()
    _threads(eye, canvas, threads, 0.022, 0.9)
    eye.absorb("haemorrhage", eye.coverage(canvas, 0.01) * rng.uniform(0.5, 1), BLOOD)


# Deep to superficial: under the retinal vessels, then above them.
UNDER = (
    staphyloma,
    diffuse_atrophy,
    bone_spicules,
    geographic_atrophy,
    drusen,
    lacquer_cracks,
    patchy_atrophy,
    scars,
    active_lesions,
    laser,
    macular_pigment,
    macular_swelling,
    subretinal_fluid,
    subretinal_blood,
    disciform_scar,
    nerve_fibre_defect,
)
OVER = (
    narrowing,
    microaneurysms,
    haemorrhages,
    exudates,
    macular_exudates,
    macular_star,
    cotton_wool,
    irma,
    flames,
    disc_haemorrhage,
    membrane,
    neovessels,
    fibrosis,
    preretinal,
)


def paint(eye: Eye, painters: tuple) -> None:
    """Call each painter whose factor is not zero."""
    for painter in painters:
        if eye.factors[painter.__name__]:
            # A membrane moves what lies below it, which must not be seen twice.
            painter(eye) if painter is membrane else eye.layer(painter)
