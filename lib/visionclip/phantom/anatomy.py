"""The healthy eye but for vessels and disc: pigment and choroid, nerve-fibre sheen, fovea, innocent look-alikes."""

import cv2
import numpy as np

from visionclip.phantom.eye import Eye, blobs

SHARES = (0.7, 1.0, 1.3)  # of the mean width, that choroidal vessels have
BLOND, DARK = np.array([0.78, 0.43, 0.24]), np.array([0.54, 0.26, 0.13])


def background(eye: Eye) -> None:
    """Pigment epithelium over choroid: base colour, slow unevenness, fine granularity, darker macula."""
    rng, pigment = eye.dice("background"), eye.factors["pigment"]
    base = BLOND + (DARK - BLOND) * pigment
    base = base * (1 + rng.normal(0, (0.02, 0.06, 0.15)))
    mottled = rng.uniform(0.5, 2.2, 3)
    slow = 0.055 * mottled[0] * eye.noise(rng, 4) + 0.025 * mottled[1] * eye.noise(rng, 11)
    slow = slow + 0.015 * mottled[2] * eye.noise(rng, 36)
    grain = 0.012 * eye.noise(rng, 110)
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


def choroid_courses(
    rng: np.random.Generator, pole: np.ndarray, width: float, reach: float
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Courses of large choroidal vessels, in groups: N×K×2 in DD, and N factors of their ``width`` (DD).

    Stripes over the whole eye: from ``pole`` they run out as far as ``reach`` DD, bend to the four vortex veins in the
    oblique meridians, between which lie watersheds (Hayreh, Br J Ophthalmol 1975), and lie one to two widths apart:
    where there is room for it a vessel divides at an acute angle, and now and then one joins the next.
    """
    # From ring to ring of twice the radius, as many new ones start between those that are there.
    ring, count = 0.3, max(6, round(0.3 * np.pi / width))
    every = (np.arange(count) + rng.uniform(-0.2, 0.2, count)) * 2 * np.pi / count + rng.uniform(0, 2 * np.pi)
    own, mother, birth = every, every, np.full(count, 0.02)
    sway = rng.uniform(0, 2 * np.pi, 2)  # of neighbours together, so that they stay parallel
    groups = []
    while True:
        count, steps = len(own), int((reach - birth.min()) / 0.26) + 3
        out = (reach - birth)[:, None] * np.linspace(0, 1, steps)
        radius = birth[:, None] + out
        angle = own[:, None] + (mother - own)[:, None] * np.exp(-out / (0.35 * ring + 0.15))
        # Two in five move over to a neighbour's course; those near a watershed turn to either side of it.
        joins = rng.choice((-1, 0, 0, 0, 1), (count, 1)) * 2 * np.pi / len(every)
        angle = angle + joins / (1 + np.exp(-(radius - ring * rng.uniform(1.2, 4, (count, 1))) / (0.1 + 0.1 * ring)))
        angle = angle + 0.2 * np.clip(radius / 7, 0, 1) * np.sin(4 * angle)
        angle = angle + 0.12 * np.sin(2 * angle + 0.9 * radius + sway[0])
        angle = angle + 0.08 * np.sin(3 * angle - 1.7 * radius + sway[1])
        noise = rng.standard_normal((count, steps))
        waves = sum(cv2.GaussianBlur(noise, (0, 0), size, sigmaY=1e-6) * size for size in (0.7, 2))
        angle = angle + 0.7 * width * waves * np.clip(out / 0.3, 0, 1) / (radius + 0.3)
        lines = pole + radius[..., None] * np.stack((np.cos(angle), np.sin(angle)), axis=2)
        groups.append((lines, rng.choice(SHARES, count)))
        if 1.6 * ring > reach:
            return groups
        after = np.append(every[1:], every[0] + 2 * np.pi)
        own = every + (after - every) * rng.uniform(0.4, 0.6, len(every))
        mother = np.where(rng.random(len(every)) < 0.5, every, after)
        birth = np.minimum(ring * rng.uniform(1.2, 2, len(own)), reach - 0.1)
        every, ring = np.sort(np.concatenate((every, own))), 2 * ring


def choroid_lines(eye: Eye, rng: np.random.Generator, width: float) -> np.ndarray:
    """Coverage (0 to 1, S×S) of large choroidal vessels, about ``width`` DD wide and as far apart."""
    pole = 0.06 * eye.fovea + rng.normal(0, 0.1, 2)  # behind the disc: no star is seen
    reach = float(np.hypot(*(eye.gaze - pole))) + eye.factors["field_radius"]
    canvas = eye.canvas()
    for lines, shares in choroid_courses(rng, pole, width, reach):
        for share in SHARES:
            eye.stroke(canvas, lines[shares == share], width * share)
    return _mottled(eye, rng, eye.coverage(canvas, rng.uniform(0.02, 0.05)), width)


def _mottled(eye: Eye, rng: np.random.Generator, lines: np.ndarray, width: float) -> np.ndarray:
    """Choroidal vessels as the pigment epithelium lets them through: they waver, join, fade and come again."""
    across = 2 * eye.factors["field_radius"]  # DD
    humps = [round(across / (size * width)) for size in (2.5, 5, 12)]
    scale = eye.scale * width * rng.uniform(0.15, 0.5)  # pixels
    rows, columns = np.mgrid[: eye.size, : eye.size].astype(np.float32)
    aside = [scale * (eye.noise(rng, humps[0]) + eye.noise(rng, humps[1])) for _ in range(2)]
    wavering = cv2.remap(lines, columns + aside[0], rows + aside[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    seen = 0.75 + rng.uniform(0.1, 0.45) * (eye.noise(rng, humps[1]) + eye.noise(rng, humps[2]))
    return wavering * np.clip(seen, 0, 1)


def bare_choroid(eye: Eye, rng: np.random.Generator, depth: float) -> np.ndarray:
    """How white bared sclera shines, 0 to 1: large choroidal vessels of visibility ``depth`` cross it, patches vary."""
    lines = choroid_lines(eye, rng, 0.06) * depth
    return np.clip(0.95 - lines + 0.2 * depth * eye.noise(rng, 9) + 0.1 * eye.noise(rng, 30), 0.1, 1)


def choroid(eye: Eye) -> None:
    """Tessellation: choroidal vessels seen through thin pigment, orange between dark spaces (dark red on a blond eye).

    Mild forms are normal: mostly below and nasal, outside the macula, stronger here than there.
    """
    strength = eye.factors["tessellation"]
    if strength < 0.03:
        return
    rng = eye.dice("choroid")
    lines = choroid_lines(eye, rng, rng.uniform(0.05, 0.085))
    place = np.clip(0.85 + 0.25 * eye.noise(rng, 3), 0.2, 1.3)
    lines = lines * np.clip(0.8 + 0.35 * eye.noise(rng, 7), 0.2, 1)  # some lie deeper
    if strength < 0.6:
        place *= np.clip(eye.distance(eye.fovea) / 1.6 - 0.2, 0, 1)
        below, nasal = rng.uniform(0.1, 0.3), rng.uniform(0, 0.25)
        place *= np.clip(0.65 + below * eye.y - nasal * (eye.x - 0.5 * eye.fovea[0]), 0.1, 1.2)
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
