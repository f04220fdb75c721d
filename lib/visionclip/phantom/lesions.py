"""What disease changes: one function for each kind of lesion, each led by the factor of its name.

Sizes are in disc diameters (DD, about 1800 micrometres). ``UNDER`` and ``OVER`` are the order of drawing.

Blood and lipid are drawn from barely visible to stark, sharp to soft, on an evenly or unevenly mottled ground: what it
buys is in docs/decisions.md.
"""

import cv2
import numpy as np

from visionclip.phantom.anatomy import bare_choroid
from visionclip.phantom.eye import Eye, blobs, fibre_direction
from visionclip.phantom.factors import bell

DISC_DIAMETER = 1800  # micrometres
BLOOD = (0.28, 0.64, 0.48)  # share of light absorbed by intraretinal blood, R G B
DEEP_BLOOD = (0.44, 0.74, 0.60)
LIPID = (1.06, 0.84, 0.37)


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
) -> None:
    """Fill irregular ellipses (as ``blobs``) whose area is right however small they are.

    OpenCV's smooth edge makes a filled outline wider by 0.65 pixels of the canvas, and none smaller than 0.85: as much
    as a microaneurysm's own radius at the sizes that are trained on. What is smaller is drawn fainter instead.
    """
    pixel = 1 / (eye.scale * eye.fine)  # of the canvas, DD
    inner = np.maximum(radii - 0.65 * pixel, 0.2 * pixel)
    longer = np.maximum((radii * stretch - 0.65 * pixel) / inner, 1)
    faint = np.minimum((radii / (0.85 * pixel)) ** 2, 1)
    eye.fill(canvas, blobs(centres, inner, rng, rough, longer, direction), strength * faint)


def _threads(eye: Eye, canvas: np.ndarray, lines: np.ndarray, width: float, strength: float = 1.0) -> None:
    """Draw N lines N×K×2 as wide as ``width`` DD says, thinner than a pixel of the canvas as fainter ones.

    OpenCV's smooth lines of 1 and 2 pixels are 1.3 and 3.6 pixels wide, thicker ones 1.7 wider than they are called.
    """
    pixel = 1 / (eye.scale * eye.fine)
    wanted = width / pixel
    thickness = 1 if wanted < 2.2 else max(2, round(wanted - 1.7))
    drawn = 1.3 if thickness == 1 else thickness + 1.7
    eye.stroke(canvas, lines, thickness * pixel, strength * min(wanted / drawn, 1))


def microaneurysms(eye: Eye) -> None:
    """Round red dots of 20 to 110 micrometres with a soft edge, mostly at the posterior pole (ETDRS report 10: under
    125 micrometres)."""
    count, rng = int(eye.factors["microaneurysms"]), eye.dice("microaneurysms")
    centres = eye.scatter(count, rng, _towards(eye.fovea, 2.4))
    radii = np.exp(rng.normal(np.log(0.0145), 0.3, count)).clip(10 / DISC_DIAMETER, 55 / DISC_DIAMETER)
    canvas = eye.canvas()
    _deposits(eye, canvas, centres, radii, rng.uniform(0.5, 1, count), rng, 0.08, rng.uniform(1, 1.25, count))
    eye.absorb("microaneurysms", eye.coverage(canvas, rng.uniform(0.002, 0.007)) * rng.uniform(0.35, 1), BLOOD)


def haemorrhages(eye: Eye) -> None:
    """Dot and blot haemorrhages of the deep retina, irregular, 0.03-0.3 DD (ETDRS report 10). The many of a severe
    retinopathy are spread over all four quadrants (4-2-1 rule); in a vein occlusion they keep to its territory."""
    count, rng = int(eye.factors["haemorrhages"]), eye.dice("haemorrhages")
    if count >= 90:
        centres = np.concatenate([eye.scatter(-(-count // 4), rng, _quadrant(eye, index)) for index in range(4)])
    else:
        centres = eye.scatter(count, rng, _territory(eye))
    count = len(centres)
    radii = np.exp(rng.normal(np.log(rng.uniform(0.018, 0.032)), 0.6, count)).clip(0.012, 0.18)
    stretch = 1 + rng.gamma(2, 0.5, count).clip(0, 2.5)  # dots are round, blots are drawn out
    canvas = eye.canvas()
    strength, direction = rng.uniform(0.4, 1, count), rng.uniform(0, np.pi, count)
    _deposits(eye, canvas, centres, radii, strength, rng, 0.25, stretch, direction)
    eye.absorb("haemorrhage", eye.coverage(canvas, rng.uniform(0.003, 0.016)) * rng.uniform(0.25, 1), BLOOD)
    eye.parameters["haemorrhages_by_quadrant"] = quadrant_counts(eye, centres)


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

    def weight(points: np.ndarray) -> np.ndarray:
        angle = np.arctan2(points[:, 1] * upwards, points[:, 0])
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
    centres = eye.scatter(count, rng, lambda points: territory(points) * near(points))
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
    eye.absorb("haemorrhage", eye.coverage(canvas, rng.uniform(0.004, 0.012)), (0.26, 0.64, 0.48))


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
    for centre in centres:
        offsets, radii = _cluster(rng, typical, load)
        spots = centre + offsets
        if outside:
            away = np.hypot(*(spots - eye.fovea).T) > outside + 0.15
            spots, radii = spots[away], radii[away]
        count, radii = len(spots), radii.clip(0.005, 0.1)
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
    """Exudates in Henle's layer, radiating from the fovea (Keith-Wagener-Barker 4, neuroretinitis)."""
    rng = eye.dice("macular star")
    rays = int(rng.integers(9, 18))
    angle = np.linspace(0, 2 * np.pi, rays, endpoint=False) + rng.normal(0, 0.12, rays)
    angle = angle[rng.random(rays) < rng.uniform(0.55, 1)]
    canvas = eye.canvas()
    for theta in angle:
        reach = np.arange(0.22, rng.uniform(0.45, 0.95), 0.06)
        spots = eye.fovea + reach[:, None] * (np.cos(theta), np.sin(theta)) + rng.normal(0, 0.012, (len(reach), 2))
        _deposits(eye, canvas, spots, rng.uniform(0.008, 0.022, len(reach)), 0.95, rng, 0.2, 1.8, theta)
    eye.cover("exudate", eye.coverage(canvas, 0.005), LIPID)


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
    """Preretinal haemorrhage: dense, boat-shaped with a flat top where blood has settled, or a vitreous cloud."""
    rng = eye.dice("preretinal")
    for centre in eye.scatter(int(eye.factors["preretinal"]), rng, rim=0.75):
        wide, tall = rng.uniform(0.45, 1.3), rng.uniform(0.3, 0.8)
        alpha = eye.region(centre, (wide, tall), rng, 0.35, 0.12)
        if rng.random() < 0.6:
            alpha = alpha * np.clip((eye.y - centre[1] + 0.3 * tall) / 0.06, 0, 1)
        eye.absorb("haemorrhage", alpha * rng.uniform(0.8, 1), DEEP_BLOOD)


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
    """Panretinal photocoagulation scars: rows of pale round spots with pigment, outside the arcades (DRS)."""
    count, rng = int(eye.factors["laser"]), eye.dice("laser")
    spacing = rng.uniform(0.24, 0.36)
    span = np.arange(-5, 5, spacing)
    grid: np.ndarray = np.stack(np.meshgrid(span, span), axis=2).reshape(-1, 2) + eye.gaze
    grid = grid + rng.normal(0, 0.14 * spacing, grid.shape)
    outside = (np.hypot(*(grid - eye.fovea).T) > 1.9) & (np.hypot(*grid.T) > 1.0)
    grid = grid[outside & (np.hypot(*(grid - eye.gaze).T) < 0.95 * eye.factors["field_radius"])]
    centres = grid[rng.permutation(len(grid))[:count]]
    count = len(centres)
    radii = rng.uniform(0.055, 0.1, count)
    canvas, pigment = eye.canvas(), eye.canvas()
    _deposits(eye, canvas, centres, radii, rng.uniform(0.4, 0.9, count), rng, 0.2)
    dark = centres + rng.normal(0, 0.02, (count, 2))
    _deposits(eye, pigment, dark, 0.5 * radii, rng.uniform(0, 1, count), rng, 0.4)
    eye.cover("scar", 0.7 * eye.coverage(canvas, 0.012), (0.92, 0.76, 0.48))
    eye.absorb("scar", eye.coverage(pigment), (0.6, 0.65, 0.6))
    eye.parameters["laser_spots"] = count


# Macular degeneration ---------------------------------------------------------------------------------------------


def drusen(eye: Eye) -> None:
    """Soft drusen: pale yellow mounds of 63 to over 125 micrometres (0.035-0.07 DD and more), often confluent, round
    the fovea (Beckman classification, Ferris 2013)."""
    count, rng = int(eye.factors["drusen"]), eye.dice("drusen")
    centres = eye.fovea + rng.normal(0, rng.uniform(0.35, 0.85), (count, 2))
    median = eye.factors["drusen_size"] / 2 / DISC_DIAMETER
    radii = np.exp(rng.normal(np.log(median), 0.35, count)).clip(0.6 * median, 2.5 * median)
    canvas = eye.canvas()
    _deposits(eye, canvas, centres, radii, rng.uniform(0.5, 1, count), rng, 0.15)
    alpha = eye.coverage(canvas, median * rng.uniform(0.4, 0.9)) * rng.uniform(0.25, 0.75)  # no sharp margin
    eye.cover("drusen", alpha, (0.96, 0.80, 0.48))


def macular_pigment(eye: Eye) -> None:
    """Clumps of displaced pigment epithelium at the macula (Beckman: pigmentary abnormality; Fuchs spot in myopia)."""
    count, rng = int(eye.factors["macular_pigment"]), eye.dice("macular pigment")
    centres = eye.fovea + rng.normal(0, 0.4, (count, 2))
    canvas = eye.canvas()
    outlines = blobs(
        centres, rng.uniform(0.025, 0.08, count), rng, 0.5, rng.uniform(1, 2, count), rng.uniform(0, 3, count)
    )
    eye.fill(canvas, outlines, rng.uniform(0.4, 1, count))
    eye.absorb("pigment", eye.coverage(canvas, 0.012), (0.55, 0.6, 0.55))


def geographic_atrophy(eye: Eye) -> None:
    """Sharply bordered round loss of pigment epithelium, 175 micrometres and more, choroidal vessels seen (AREDS)."""
    radius, rng = eye.factors["geographic_atrophy"], eye.dice("geographic atrophy")
    alpha = eye.region(eye.fovea + rng.normal(0, 0.1, 2), (radius, radius * rng.uniform(0.75, 1.2)), rng, 0.3, 0.06)
    for _ in range(int(rng.integers(0, 4))):
        spot, small = eye.fovea + rng.normal(0, 0.6, 2), rng.uniform(0.1, 0.3)
        alpha = np.maximum(alpha, eye.region(spot, (small, small), rng, 0.25, 0.05))
    texture = bare_choroid(eye, rng, rng.uniform(0.1, 0.7))
    eye.cover("atrophy", alpha * texture * rng.uniform(0.5, 0.9), (0.95, 0.74, 0.46))


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


def scars(eye: Eye) -> None:
    """Healed chorioretinitis: punched-out white sclera and choroid with clumped black pigment at the rim (SUN)."""
    rng = eye.dice("scars")
    centres = eye.scatter(int(eye.factors["scars"]), rng, rim=0.85)
    texture = bare_choroid(eye, rng, rng.uniform(0, 0.5))
    for centre in centres:
        radius = 0.28 * np.exp(bell(rng, 0, 0.5, -1, 1.2))
        alpha = eye.region(centre, (radius, radius * rng.uniform(0.6, 1.1)), rng, 0.4, 0.06)
        eye.cover("scar", alpha * texture * rng.uniform(0.6, 1), (1.02, 0.92, 0.70))
        wide = cv2.GaussianBlur(alpha, (0, 0), max(0.05 * eye.scale, 0.5))
        rim = np.clip(4 * wide * (1 - wide), 0, 1) * np.clip(0.35 + 0.8 * eye.noise(rng, 22), 0, 1)
        eye.absorb("pigment", rim * rng.uniform(0.5, 1), (0.75, 0.8, 0.75))


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
    for _ in range(int(eye.factors["patchy_atrophy"])):
        centre = eye.fovea * rng.uniform(0, 1.2) + rng.normal(0, 0.9, 2)
        radius = 0.38 * np.exp(bell(rng, 0, 0.5, -1.1, 1.1))
        alpha = eye.region(centre, (radius, radius * rng.uniform(0.5, 1.2)), rng, 0.5, 0.08)
        eye.cover("atrophy", alpha * texture * rng.uniform(0.55, 1), (1.02, 0.90, 0.64))
        wide = cv2.GaussianBlur(alpha, (0, 0), max(0.05 * eye.scale, 0.5))
        rim = np.clip(4 * wide * (1 - wide), 0, 1) * np.clip(0.1 + 0.8 * eye.noise(rng, 24), 0, 1)
        eye.absorb("pigment", rim * rng.uniform(0.2, 1), (0.65, 0.7, 0.65))


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
    """Epiretinal membrane: cellophane sheen and fine folds that radiate from its centre; opaque when dense (Gass)."""
    density, rng = eye.factors["membrane"], eye.dice("membrane")
    centre = _off_centre(eye, rng, 0.25)
    alpha = eye.region(centre, tuple(rng.uniform(0.7, 1.5, 2)), rng, 0.5, 0.5)
    eye.cover("membrane", density * alpha * np.clip(0.32 + 0.22 * eye.noise(rng, 14), 0, 0.8), (0.86, 0.84, 0.72))
    epicentre = centre + rng.normal(0, 0.35, 2)
    x, y = eye.x - np.float32(epicentre[0]), eye.y - np.float32(epicentre[1])
    angle = cv2.phase(x, y) + 0.3 * eye.noise(rng, 8)
    folds = np.sin(angle * int(rng.integers(14, 34))) * np.clip(0.6 + 0.6 * eye.noise(rng, 7), 0, 1)
    folds = density * alpha * folds * np.clip(eye.distance(epicentre) / 0.3, 0, 1)
    eye.absorb("membrane", folds, (0.06, 0.1, 0.1))
    canvas = eye.canvas()
    for _ in range(int(rng.integers(3, 9))):
        start = centre + rng.normal(0, 0.45, 2)
        theta = np.arctan2(*(start - epicentre)[::-1]) + np.cumsum(rng.normal(0, 0.12, 8))
        line = start + np.cumsum(np.stack((np.cos(theta), np.sin(theta)), axis=1), axis=0) * rng.uniform(0.04, 0.09)
        _threads(eye, canvas, line[None], rng.uniform(0.015, 0.04), rng.uniform(0.5, 1))
    eye.cover("membrane", 0.4 * density * eye.coverage(canvas, 0.01), (0.95, 0.93, 0.82))


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
    canvas = eye.canvas()
    eye.stroke(canvas, np.stack((0.42 * outward, rng.uniform(0.58, 0.72) * outward))[None], 0.06)
    eye.absorb("haemorrhage", eye.coverage(canvas, 0.012), BLOOD)


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
            eye.layer(painter)
