"""What many lesions are drawn with: spots, threads and patches whose area is right however small they are."""

import numpy as np

from visionclip.phantom.eye import Eye, blobs

DISC_DIAMETER = 1800  # micrometres
BLOOD = (0.28, 0.64, 0.48)  # share of light absorbed by intraretinal blood, R G B


def towards(centre: np.ndarray, spread: float):
    """Weight that favours positions near ``centre``."""
    return lambda points: np.exp(-((np.hypot(*(points - centre).T) / spread) ** 2))


def off_centre(eye: Eye, rng: np.random.Generator, spread: float) -> np.ndarray:
    """A point about ``spread`` DD from the fovea, 2."""
    return eye.fovea + rng.normal(0, spread, 2)


def draw_spots(
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


def draw_threads(eye: Eye, canvas: np.ndarray, lines: np.ndarray, width: float, strength: float = 1.0) -> None:
    """Draw N lines N×K×2 as wide as ``width`` DD says, thinner than a pixel of the canvas as fainter ones.

    OpenCV's smooth lines of 1 and 2 pixels are 1.3 and 3.6 pixels wide, thicker ones 1.7 wider than they are called.
    """
    pixel = 1 / (eye.scale * eye.fine)
    wanted = width / pixel
    thickness = 1 if wanted < 2.2 else max(2, round(wanted - 1.7))
    drawn = 1.3 if thickness == 1 else thickness + 1.7
    eye.stroke(canvas, lines, thickness * pixel, strength * min(wanted / drawn, 1))


def patches(
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
    draw_spots(eye, canvas, places, rng.uniform(0.4, 0.7, len(small)) * small, dense, rng, 0.2, large / small, turned)
    soft = eye.coverage(canvas, 0.4 * edge)
    return np.clip(soft + 0.76 * soft * (1 - soft) * eye.noise(rng, 64), 0, 1)
