"""The healthy eye but for vessels and disc: pigment and choroid, nerve-fibre sheen, fovea, innocent look-alikes."""

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
