"""Blood, lipid and infarcts: what diabetes, hypertension and a branch occlusion leave in the retina.

Blood and lipid are drawn from barely visible to stark, sharp to soft, on an evenly or unevenly mottled ground: what it
buys is in docs/decisions.md.
"""

import cv2
import numpy as np

from visionclip.phantom.eye import Eye, fibre_direction
from visionclip.phantom.lesions.shapes import BLOOD, DISC_DIAMETER, draw_spots, draw_threads, towards

LIPID = (1.06, 0.84, 0.37)
VEIN_CELLS = 56  # cells across the image in which it counts how much vein there is: about 0.12 DD each


def microaneurysms(eye: Eye) -> None:
    """Round red dots of 20 to 110 micrometres with a soft edge, mostly at the posterior pole (ETDRS report 10: under
    125 micrometres)."""
    count, rng = int(eye.factors["microaneurysms"]), eye.dice("microaneurysms")
    centres = eye.scatter(count, rng, towards(eye.fovea, 2.4))
    radii = np.exp(rng.normal(np.log(0.0145), 0.3, count)).clip(10 / DISC_DIAMETER, 55 / DISC_DIAMETER)
    canvas = eye.canvas()
    draw_spots(
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
    draw_spots(
        eye, canvas, centres, radii, (1 - rng.uniform(0.05, 0.5, count)) * strength, rng, 0.25, stretch, direction
    )
    large = np.nonzero(radii > 0.026)[0]  # dense where the blood pools, thinner around
    pools = centres[large] + 0.3 * radii[large, None] * rng.normal(0, 1, (len(large), 2))
    inner = rng.uniform(0.35, 0.7, len(large)) * radii[large]
    draw_spots(eye, canvas, pools, inner, strength[large], rng, 0.35, stretch[large], direction[large], 10)
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
    near = towards(np.zeros(2), spread)
    if eye.factors["vein_occlusion"] == "none":
        centres = eye.scatter(count, rng, lambda points: territory(points) * near(points))
    else:
        centres = _clumped(eye, count, rng, lambda points: territory(points) * near(points))
    size = 1.0 if eye.factors["vein_occlusion"] == "none" else 1.4
    half = size * np.exp(rng.normal(np.log(0.085), 0.45, count)).clip(0.035, 0.22)
    heading = fibre_direction(centres, eye.fovea) + rng.normal(0, 0.1, count)
    slim = rng.uniform(0.1, 0.32, count)
    canvas = eye.canvas()
    draw_spots(eye, canvas, centres, slim * half, rng.uniform(0.5, 0.95, count), rng, 0.3, 0.7 / slim, heading)
    along = np.stack((np.cos(heading), np.sin(heading)), axis=1)[:, None]
    across = along[..., ::-1] * (-1, 1)
    offset = rng.uniform(-1, 1, (count, 8, 1))  # threads are longest in the middle of the flame
    middle = 1.3 * offset * slim[:, None, None] * across + rng.normal(0, 0.2, (count, 8, 1)) * along
    reach = along * (1.15 - 0.6 * offset**2) * rng.uniform(0.5, 1, (count, 8, 1))
    bow = 0.12 * offset * across
    threads = np.stack((middle - reach - bow, middle, middle + reach - bow), axis=2) * half[:, None, None, None]
    lines = (centres[:, None, None] + threads).reshape(-1, 3, 2)
    draw_threads(eye, canvas, lines[::2], 0.008 * size, 0.8)
    draw_threads(eye, canvas, lines[1::2], 0.014 * size, 0.9)
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
    draw_spots(eye, canvas, spots, radii, strength, rng, 0.35, stretch, rng.uniform(0, np.pi, count))
    eye.cover("exudate", eye.coverage(canvas, rng.uniform(0.001, 0.009)) * rng.uniform(0.15, 0.9), LIPID)


def exudates(eye: Eye) -> None:
    """Clusters of hard exudates more than 1 DD from the fovea: retinopathy without macular edema."""
    rng = eye.dice("exudates")
    near = towards(eye.fovea, 2.2)

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
    draw_spots(eye, canvas, spots, radii, rng.uniform(0.3, 1, count), rng, 0.3, rng.uniform(1, 2.6, count), angle)
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
    draw_spots(eye, canvas, centres, radii, strength, rng, 0.4, stretch, fibres + np.pi / 2)
    along = np.stack((np.cos(fibres), np.sin(fibres)), axis=1)[:, None]
    across = along[..., ::-1] * (-1, 1) * stretch[:, None, None]
    offset = rng.uniform(-0.8, 0.8, (count, 10, 1))
    begin = offset * across - along * rng.uniform(0.4, 1.5, (count, 10, 1))
    end = offset * across + along * rng.uniform(0.4, 1.5, (count, 10, 1))
    wisps = centres[:, None, None] + np.stack((begin, end), axis=2) * radii[:, None, None, None]
    draw_threads(eye, canvas, wisps.reshape(-1, 2, 2), 0.012, 0.6)
    alpha = rng.uniform(0.2, 0.8) * eye.coverage(canvas, rng.uniform(0.012, 0.028))
    eye.cover("cotton_wool", alpha, (0.95, 0.83, 0.62))
