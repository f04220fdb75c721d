"""What glaucoma leaves outside the disc: lost nerve fibres and blood at its margin."""

import numpy as np

from visionclip.phantom.eye import Eye
from visionclip.phantom.lesions.shapes import BLOOD, draw_threads


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
    draw_threads(eye, canvas, threads, 0.022, 0.9)
    eye.absorb("haemorrhage", eye.coverage(canvas, 0.01) * rng.uniform(0.5, 1), BLOOD)
