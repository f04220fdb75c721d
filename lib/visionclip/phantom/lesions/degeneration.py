"""Scars of inflammation, pigmentary retinopathy and what a long eye does to its ground."""

import cv2
import numpy as np

from visionclip.phantom.anatomy import bare_choroid
from visionclip.phantom.eye import Eye
from visionclip.phantom.lesions.shapes import draw_threads, patches


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
    alpha = patches(eye, centres, radii, rng, edge, rng.uniform(0.5, 1, count))
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
    draw_threads(eye, canvas, lines, 0.035)
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
    alpha = patches(eye, centres, radii, rng, edge, rng.uniform(0.55, 1, count))
    eye.cover("atrophy", alpha * texture, (1.02, 0.90, 0.64))
    _pigment_rim(eye, alpha, rng)


def lacquer_cracks(eye: Eye) -> None:
    """Breaks of Bruch's membrane: fine yellowish, branching lines across the macula (META-PM plus sign)."""
    count, rng = int(eye.factors["lacquer_cracks"]), eye.dice("lacquer cracks")
    start = eye.fovea * rng.uniform(0.5, 1.1, (count, 1)) + rng.normal(0, 0.45, (count, 2))
    heading = rng.normal(0, 0.5) + rng.normal(0, 0.35, (count, 1)) + np.cumsum(rng.normal(0, 0.25, (count, 16)), axis=1)
    path = np.cumsum(np.stack((np.cos(heading), np.sin(heading)), axis=2), axis=1) * rng.uniform(0.05, 0.12)
    canvas = eye.canvas()
    draw_threads(eye, canvas, start[:, None] + path, rng.uniform(0.025, 0.05))
    eye.cover("atrophy", 0.75 * eye.coverage(canvas, 0.01), (0.95, 0.82, 0.52))


def staphyloma(eye: Eye) -> None:
    """Posterior staphyloma: an outpouching that is paler within and darker at its wall (META-PM plus sign)."""
    depth, rng = eye.factors["staphyloma"], eye.dice("staphyloma")
    shape = eye.distance(eye.fovea * rng.uniform(0.3, 0.8)) / rng.uniform(1.7, 2.4) + 0.08 * eye.noise(rng, 6)
    wall = np.exp(-(((shape - 1) / 0.16) ** 2))
    within = np.clip((1 - shape) * 2, 0, 1)
    eye.absorb("atrophy", depth * wall, (0.3, 0.36, 0.36))
    eye.absorb("atrophy", depth * within, (-0.06, -0.2, -0.2))
