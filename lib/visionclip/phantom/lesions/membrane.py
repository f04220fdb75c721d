"""Epiretinal membrane: a sheen, its folds, and the vessels it pulls."""

import cv2
import numpy as np

from visionclip.phantom.eye import Eye
from visionclip.phantom.lesions.shapes import draw_threads, off_centre


def membrane(eye: Eye) -> None:
    """Epiretinal membrane about the macula (Gass): a greyish, granular sheen that glistens in fine flecks, wrinkles and
    pulls the vessels below; an opaque, white pucker when densest."""
    density, rng = eye.factors["membrane"], eye.dice("membrane")
    centre = off_centre(eye, rng, 0.35)
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
    draw_threads(eye, folds, lines[::2], 0.012, 0.6)
    draw_threads(eye, folds, lines[1::2], 0.022, 0.9)
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
        draw_threads(eye, canvas, lines[part::4], width, strength)
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
