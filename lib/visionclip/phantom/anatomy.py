"""The healthy eye but for its vessels: pigment and choroid, nerve-fibre sheen, disc, fovea, innocent look-alikes."""

import cv2
import numpy as np

from visionclip.phantom.eye import Eye, blobs

BLOND, DARK = np.array([0.78, 0.43, 0.24]), np.array([0.54, 0.26, 0.13])


def background(eye: Eye) -> None:
    """Pigment epithelium over choroid: base colour, slow unevenness, fine granularity, darker macula."""
    rng, pigment = eye.dice("background"), eye.factors["pigment"]
    base = BLOND + (DARK - BLOND) * pigment
    base = base * (1 + rng.normal(0, (0.02, 0.06, 0.15)))
    mottled = rng.uniform(0.5, 2.2, 3)
    slow = 0.055 * mottled[0] * eye.noise(rng, 4) + 0.025 * mottled[1] * eye.noise(rng, 11)
    slow = slow + 0.015 * mottled[2] * eye.noise(rng, 36)
    grain = 0.012 * eye.noise(rng, min(eye.size, 110))
    strange = 0.12 * eye.factors["strangeness"] * rng.random() * eye.noise(rng, int(rng.integers(5, 90)))
    light = 1 + slow + grain + strange
    for plane, level, weight in zip(eye.image, base, (0.6, 1.0, 0.9), strict=True):
        tint = 0.035 * eye.noise(rng, 5)  # hue drifts over the field, red least
        plane[:] = float(level) * (1 + weight * (light - 1 + tint))
    from_fovea = eye.distance(eye.fovea)
    xanthophyll = np.exp(-((from_fovea / rng.uniform(0.5, 1.1)) ** 2)) * rng.uniform(0.3, 0.95)
    centre = np.exp(-((from_fovea / rng.uniform(0.2, 0.32)) ** 2)) * rng.uniform(0.1, 0.45)
    eye.absorb(None, xanthophyll + centre, (0.35, 0.55, 0.5))
    eye.mark("fovea", 0.2 - from_fovea, 0)


def choroid_lines(eye: Eye, rng: np.random.Generator, count: int, width: float, wander: float) -> np.ndarray:
    """Coverage (0 to 1, S×S) of large choroidal vessels: wandering bands that fan out from the posterior pole."""
    starts = eye.scatter(count, rng, rim=1.0)
    heading = np.arctan2(starts[:, 1] - eye.fovea[1], starts[:, 0] - eye.fovea[0]) + rng.normal(0, 0.5, count)
    turns = np.cumsum(rng.normal(0, wander, (count, 12)), axis=1)
    angle = heading[:, None] + turns
    step = 0.16
    lines = starts[:, None] + step * np.cumsum(np.stack((np.cos(angle), np.sin(angle)), axis=2), axis=1)
    canvas = eye.canvas()
    third = count // 3
    for group, share in ((lines[:third], 0.6), (lines[third : 2 * third], 1.0), (lines[2 * third :], 1.5)):
        eye.stroke(canvas, group, width * share)
    return eye.coverage(canvas, 0.02)


def bare_choroid(eye: Eye, rng: np.random.Generator, depth: float) -> np.ndarray:
    """How white bared sclera shines, 0 to 1: large choroidal vessels of visibility ``depth`` cross it, patches vary."""
    lines = choroid_lines(eye, rng, 110, 0.05, 0.35) * depth
    return np.clip(0.95 - lines + 0.2 * depth * eye.noise(rng, 9) + 0.1 * eye.noise(rng, 30), 0.1, 1)


def choroid(eye: Eye) -> None:
    """Tessellation: choroidal vessels seen through thin pigment, orange between dark spaces (dark red on a blond eye).

    Mild forms are normal, in patches, mostly below the disc and outside the macula.
    """
    strength = eye.factors["tessellation"]
    if strength < 0.03:
        return
    rng = eye.dice("choroid")
    lines = choroid_lines(eye, rng, int(rng.integers(220, 420)), rng.uniform(0.03, 0.06), 0.28)
    place = np.clip(0.75 + 0.5 * eye.noise(rng, 4), 0, 1.3)
    lines = lines * np.clip(0.7 + 0.5 * eye.noise(rng, 6), 0.15, 1)  # some lie deeper
    if strength < 0.6:
        place *= np.clip(eye.distance(eye.fovea) / 1.6 - 0.2, 0, 1)
        place *= np.clip(0.65 + rng.uniform(-0.1, 0.5) * eye.y / 2 + 0.6 * eye.noise(rng, 3), 0, 1.2)
    elif rng.random() < 0.5:
        place *= 1.2 * np.exp(-((eye.distance(0.5 * eye.fovea) / rng.uniform(1.6, 2.8)) ** 2))
    alpha = strength * place * rng.uniform(0.5, 1.3)
    if eye.factors["pigment"] > rng.uniform(0.1, 0.35):
        eye.absorb(None, alpha * (1 - lines), (0.26, 0.34, 0.36))
        eye.absorb(None, alpha * lines, (-0.22, -0.04, 0.1))
    else:
        eye.absorb(None, alpha * lines, (0.12, 0.32, 0.28))


def sheen(eye: Eye) -> None:
    """Nerve-fibre striae round the disc and bright reflexes of a young retina: along vessels, round the macula."""
    strength = eye.factors["sheen"]
    if strength < 0.05:
        return
    rng = eye.dice("sheen")
    ring = np.exp(-(((eye.distance((0, 0)) - 0.8) / 0.7) ** 2))
    poles = np.sin(eye.angle) ** 2
    streak = 0.75 + 0.25 * np.sin(eye.angle * int(rng.integers(30, 60)) + 2 * eye.noise(rng, 12))
    glow = 0.18 * strength * ring * poles * streak
    if strength > 0.3:
        from_fovea = eye.distance(eye.fovea)
        warped = from_fovea + 0.2 * eye.noise(rng, 7)
        shimmer = np.clip(0.45 + 0.55 * eye.noise(rng, 48), 0, 1.6)
        for _ in range(int(rng.integers(1, 4))):  # a wide ring round the macula, in shreds
            size, width = rng.uniform(0.7, 1.9), rng.uniform(0.12, 0.3)
            pieces = np.clip(eye.noise(rng, 9) - 0.1, 0, 1.2) * shimmer
            glow += strength * rng.uniform(0.04, 0.2) * np.exp(-(((warped - size) / width) ** 2)) * pieces
        vessel = np.maximum(*eye.vessels.values())
        coarse = cv2.resize(vessel, (128, 128), interpolation=cv2.INTER_AREA)
        around = cv2.GaussianBlur(coarse, (0, 0), 0.1 * eye.scale * 128 / eye.size)
        beside = np.clip(cv2.resize(around, (eye.size, eye.size)) - 0.6 * vessel, 0, 1)
        spots = np.clip(eye.noise(rng, 16) + 0.2, 0, 1.5) * np.exp(-(((from_fovea - 1.7) / 0.9) ** 2))
        glow += strength * rng.uniform(0, 1.3) * beside * spots * shimmer
        glow = np.minimum(glow, 0.5)
    eye.cover(None, glow, (0.8, 0.8, 0.76))


def fovea(eye: Eye) -> None:
    """The pin-point foveal reflex, or its ring, and a few hard drusen: look-alikes that are no lesion."""
    rng = eye.dice("fovea")
    strength = eye.factors["foveal_reflex"]
    if strength:
        spot = eye.fovea + rng.normal(0, 0.03, 2)
        from_spot = eye.distance(spot)
        if rng.random() < 0.6:
            reflex = np.exp(-((from_spot / 0.04) ** 2))
        else:
            reflex = np.exp(-(((from_spot - 0.1) / 0.03) ** 2)) * np.clip(0.5 + eye.noise(rng, 9), 0, 1)
        eye.cover(None, 0.5 * strength * reflex, (1.0, 0.85, 0.6))
    count = int(eye.factors["hard_drusen"])
    if count:
        canvas = eye.canvas()
        eye.fill(canvas, blobs(eye.scatter(count, rng), rng.uniform(0.012, 0.022, count), rng), 0.7)
        eye.cover(None, eye.coverage(canvas), (0.92, 0.75, 0.42))


# Disc -------------------------------------------------------------------------------------------------------------


def disc(eye: Eye) -> None:
    """Optic disc and cup. Drawn under the vessels, so call it before them.

    Vertical diameter 1 DD by definition, horizontal about 0.9; the rim is pink to orange, the cup pale yellow.
    """
    rng, factors = eye.dice("disc"), eye.factors
    tilt = factors["disc_tilt"]
    lean = rng.normal(0, 0.25) * (0.3 + tilt)
    wide, tall = rng.normal(0.46, 0.015) * (1 - 0.35 * tilt), 0.5
    cos, sin = float(np.cos(lean)), float(np.sin(lean))
    across, down = eye.x * cos + eye.y * sin, eye.y * cos - eye.x * sin
    shape = cv2.magnitude(across / wide, down / tall) * (1 + 0.025 * eye.noise(rng, 5))
    _crescent(eye, rng, across, down, wide)
    swelling = factors["disc_swelling"]
    edge = rng.uniform(0.05, 0.12) + 0.5 * swelling
    alpha = np.clip((1 + 0.35 * swelling - shape) / edge + 0.5, 0, 1)
    alpha = alpha * alpha * (3 - 2 * alpha)
    rim = np.array([1.0, 0.61, 0.35]) * rng.uniform(0.9, 1.05) + rng.normal(0, 0.03, 3)
    rim = rim + factors["disc_pallor"] * (np.array([1.02, 0.9, 0.72]) - rim)
    rim = rim + swelling * 0.5 * (np.array([0.93, 0.6, 0.42]) - rim)
    eye.cover("swelling" if swelling else None, alpha * (1 - 0.25 * swelling), tuple(rim))
    nasal = np.clip(-across / wide, 0, 1) * (shape < 1)
    eye.absorb(None, nasal * alpha * (1 - factors["disc_pallor"]), (0.03, 0.14, 0.16))

    ratio = factors["cup_to_disc"]
    centre_x, centre_y = rng.normal(0.03, 0.02), rng.normal(0, 0.02)
    room = max(0.0, 1 - ratio)
    place = np.pi / 2 + rng.choice((0, np.pi)) + rng.uniform(-0.35, 0.35)
    notch = factors["rim_notch"] * np.exp((np.cos(eye.angle - np.float32(place)) - 1) / 0.1)
    reach = ratio + notch * room * 0.9
    cup = cv2.magnitude((across - centre_x * room) / (wide * rng.uniform(0.92, 1.02)), (down - centre_y * room) / tall)
    soft = rng.uniform(0.06, 0.16) + 0.1 * (ratio < 0.6)
    hollow = np.clip((reach - cup) / soft + 0.5, 0, 1) * (1 - 0.8 * swelling)
    pale = rng.uniform(0.75, 1.0)
    eye.cover(None, hollow * pale * alpha, (1.1, 0.92, 0.66))
    eye.masks["disc"], eye.masks["cup"] = shape < 1, (cup < reach) & (shape < 1)
    _disc_drusen(eye)


def _crescent(eye: Eye, rng, across, down, wide) -> None:
    """Peripapillary (beta-zone) atrophy, temporal first; in long eyes it surrounds the disc. Over 0.35 DD it counts as
    atrophy (META-PM takes it with diffuse atrophy); smaller ones are a look-alike."""
    width = eye.factors["crescent"]
    if not width:
        return
    towards, shift = rng.normal(0, 0.5), width * rng.uniform(0.25, 0.55)
    centre = float(shift * np.cos(towards)), float(shift * np.sin(towards))
    shape = cv2.magnitude((across - centre[0]) / (wide + 0.5 * width), (down - centre[1]) / (0.5 + 0.32 * width))
    shape = shape + rng.uniform(0.03, 0.16) * eye.noise(rng, 7) + 0.05 * eye.noise(rng, 22)
    alpha = np.clip((1 - shape) / rng.uniform(0.05, 0.16) + 0.5, 0, 1)
    if rng.random() < 0.5:  # a fainter outer zone, where some pigment epithelium is left
        alpha = np.maximum(alpha * 0.9, 0.4 * np.clip((rng.uniform(1.15, 1.5) - shape) / 0.2 + 0.5, 0, 1))
    texture = bare_choroid(eye, rng, rng.uniform(0.1, 0.8)) * rng.uniform(0.55, 1)
    name = "atrophy" if width > 0.35 else None
    eye.cover(name, np.clip(alpha * texture, 0, 1), tuple(np.array((1.06, 0.84, 0.54)) * rng.uniform(0.9, 1.3)))
    if rng.random() < 0.5:
        line = np.exp(-(((shape - 1) / 0.06) ** 2)) * np.clip(0.4 + eye.noise(rng, 8), 0, 1)
        eye.absorb("pigment" if name else None, 0.8 * line, (0.5, 0.55, 0.5))


def _disc_drusen(eye: Eye) -> None:
    """Buried hyaline bodies: lumpy, yellow, refractile nodules under a cupless disc."""
    count = int(eye.factors["disc_drusen"])
    if not count:
        return
    rng = eye.dice("disc drusen")
    centres = rng.normal(0, 0.26, (count, 2))
    canvas = eye.canvas()
    eye.fill(canvas, blobs(centres, rng.uniform(0.05, 0.11, count), rng, 0.15), rng.uniform(0.5, 0.9, count))
    eye.cover("drusen", eye.coverage(canvas, 0.015), (1.0, 0.9, 0.6))
