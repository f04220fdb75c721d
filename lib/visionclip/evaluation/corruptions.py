"""What happens to photographs on their way: 16 corruptions at 5 strengths, after ImageNet-C (Hendrycks & Dietterich,
ICLR 2019), with what is particular to a fundus camera in the place of weather.

Levels of noise are ImageNet-C's; widths are shares of the side, so that a strength is the same at any resolution. The
black surround stays black, as a camera's mask is laid over the picture afterwards.
"""

from collections.abc import Callable

import cv2
import numpy as np

from visionclip import streams
from visionclip.data.field_of_view import BLACK

STRENGTHS = (1, 2, 3, 4, 5)
Change = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]  # float32 S×S×3 from 0 to 1, level, stream


def corrupt(pixels: np.ndarray, name: str, strength: int, seed: int) -> np.ndarray:
    """Prepared images uint8 N×S×S×3 after the corruption ``name`` of ``CORRUPTIONS`` at strength 1 to 5.

    Raises:
        ValueError: there is no such corruption or strength.
    """
    if name not in CORRUPTIONS or strength not in STRENGTHS:
        raise ValueError(f"corrupt: {name!r} at {strength}; choose from {', '.join(CORRUPTIONS)} at 1 to 5")
    change, levels = CORRUPTIONS[name]
    changed = np.empty_like(pixels)
    for place, image in enumerate(pixels):
        rng = streams.rng(seed, f"corruption: {name}", strength, place)
        picture = change(image.astype(np.float32) / 255, levels[strength - 1], rng).clip(0, 1)
        inside = image.max(2, keepdims=True) > BLACK
        changed[place] = (picture * 255 + 0.5).astype(np.uint8) * inside
    return changed


def _gaussian(picture: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    return picture + rng.normal(0, level, picture.shape)


def _shot(picture: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    return rng.poisson(picture * level) / level


def _impulse(picture: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    hit = rng.random(picture.shape[:2])[..., None]
    return np.where(hit < level, (hit < level / 2).astype(np.float32), picture)


def _speckle(picture: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    return picture * (1 + rng.normal(0, level, picture.shape))


def _defocus(picture: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    radius = level * len(picture)
    axis = np.arange(-int(radius) - 1, int(radius) + 2)
    disc = (radius + 0.5 - np.hypot(axis[:, None], axis)).clip(0, 1).astype(np.float32)
    return cv2.filter2D(picture, -1, disc / disc.sum())


def _motion(picture: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    length = max(round(level * len(picture)), 2) | 1
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1
    turn = cv2.getRotationMatrix2D((length / 2 - 0.5, length / 2 - 0.5), float(rng.uniform(0, 180)), 1)
    turned = cv2.warpAffine(line, turn, (length, length))
    return cv2.filter2D(picture, -1, turned / turned.sum())


def _blur(picture: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    return cv2.GaussianBlur(picture, (0, 0), level * len(picture))


def _zoom(picture: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """The mean of the picture at several magnifications, up to 1 + ``level``."""
    side = len(picture)
    scales = np.linspace(1, 1 + level, 6)
    turns = [cv2.getRotationMatrix2D((side / 2 - 0.5, side / 2 - 0.5), 0, float(scale)) for scale in scales]
    return np.mean([cv2.warpAffine(picture, turn, (side, side)) for turn in turns], axis=0)


def _brighter(picture: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    return picture + level


def _darker(picture: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    return picture * level


def _contrast(picture: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    mean = picture[picture.max(2) > BLACK / 255].mean(0) if picture.any() else 0
    return (picture - mean) * level + mean


def _saturation(picture: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    grey = picture.mean(2, keepdims=True)
    return grey + (picture - grey) * level


def _jpeg(picture: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    coded = cv2.imencode(".jpg", (picture[..., ::-1] * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, int(level)])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))[..., ::-1].astype(np.float32) / 255


def _pixelate(picture: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    side = len(picture)
    small = cv2.resize(picture, (max(round(side * level), 2),) * 2, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (side, side), interpolation=cv2.INTER_NEAREST)


def _uneven(picture: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Light that falls off towards one side and the rim."""
    axis = np.linspace(-1, 1, len(picture), dtype=np.float32)
    turn = rng.uniform(0, 2 * np.pi)
    side = np.cos(turn) * axis[:, None] + np.sin(turn) * axis
    rim = axis[:, None] ** 2 + axis**2
    return picture * (1 - level * (0.5 + 0.35 * side + 0.25 * rim)).clip(0.03, 1)[..., None]


def _haze(picture: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Scattered light, as of a cloudy lens: a pale veil, thicker in the middle."""
    axis = np.linspace(-1, 1, len(picture), dtype=np.float32)
    veil = (level * np.exp(-(axis[:, None] ** 2 + axis**2)))[..., None]
    return picture * (1 - veil) + veil * np.array([0.75, 0.7, 0.6], np.float32)


CORRUPTIONS: dict[str, tuple[Change, tuple[float, ...]]] = {
    "noise": (_gaussian, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot noise": (_shot, (60, 25, 12, 5, 3)),
    "impulse noise": (_impulse, (0.03, 0.06, 0.09, 0.17, 0.27)),
    "speckle noise": (_speckle, (0.15, 0.2, 0.35, 0.45, 0.6)),
    "defocus": (_defocus, (0.006, 0.01, 0.016, 0.024, 0.035)),
    "motion blur": (_motion, (0.02, 0.035, 0.05, 0.075, 0.1)),
    "gaussian blur": (_blur, (0.004, 0.008, 0.012, 0.018, 0.026)),
    "zoom blur": (_zoom, (0.06, 0.1, 0.15, 0.2, 0.26)),
    "brighter": (_brighter, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "darker": (_darker, (0.75, 0.55, 0.4, 0.25, 0.15)),
    "contrast": (_contrast, (0.6, 0.45, 0.3, 0.2, 0.1)),
    "saturation": (_saturation, (0.7, 0.4, 0.15, 1.8, 2.5)),
    "JPEG": (_jpeg, (25, 18, 15, 10, 7)),
    "pixelate": (_pixelate, (0.6, 0.5, 0.4, 0.3, 0.25)),
    "uneven light": (_uneven, (0.3, 0.5, 0.7, 0.9, 1.1)),
    "haze": (_haze, (0.2, 0.35, 0.5, 0.65, 0.8)),
}
