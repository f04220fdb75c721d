"""Is this a photograph of a retina at all? A rule that refuses what the model has no word for.

A model that is asked for diseases names one in a kitchen too. So the picture is looked at before the model is. Blood
and pigment make a retina about as red as green or redder, greener than blue and never grey. Beyond that twenty numbers
of the prepared picture (outline, colours, how colours go together, how much detail at which width, whether it is dark
lines, and along which directions) are compared with those of phantoms by their Mahalanobis distance. Phantoms alone
say what is usual; how far is too far was fixed on photographs for development (docs/decisions.md).
"""

import itertools
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from visionclip.data import images
from visionclip.data.field_of_view import BLACK

SIDE = 128  # pixels at which a picture is measured
WIDTHS = (1.0, 2.0, 4.0, 8.0)  # pixels, of the details measured at that side
MEASURES = (
    *("field", "corners", "red to green", "blue to green", "brightness", "overexposed"),
    *("spread of hue", "spread of light", "red with green", "blue with green"),
    *(f"detail of {width:g} px" for width in WIDTHS),
    *("dark lines", "dark lines or bright", "one direction", "upright or level", "brightest part", "light of the rim"),
)
RED, BLUE = -0.12, 0.02  # logarithms of red over green, at least, and of blue over green, at most
BRIGHT = 1.3  # logarithm of how much brighter the brightest part is than usual, at most
GREY = -4.3  # spread of hue, at least
RULE = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class Rule:
    """What is usual: the ``mean`` of K measures and their ``precision`` K×K, and the largest distance, ``limit``."""

    mean: np.ndarray
    precision: np.ndarray
    limit: float

    def distances(self, measured: np.ndarray) -> np.ndarray:
        """The Mahalanobis distance of each of N×K measures, float64 N."""
        away = measured - self.mean
        return np.sqrt(np.einsum("nk,kl,nl->n", away, self.precision, away))


def reasons(image: np.ndarray) -> list[str]:
    """Why a picture, uint8 H×W×3, is refused, in words for a person; empty where it may be a retina."""
    if images.prepare(image, SIDE).max() <= BLACK:
        return ["the picture is black"]
    measured = measure(image)
    if not _red(measured[None])[0]:
        return ["these are not the colours of a retina: red, less green, least blue"]
    if rule().distances(measured[None])[0] <= rule().limit:
        return []
    return [f"this does not look like a photograph of a retina: unusual are its {' and '.join(unusual(measured))}"]


def _red(measured: np.ndarray) -> np.ndarray:
    """Which of N×K measures have the colours of a retina, bool N."""
    red, blue, hue = (measured[:, MEASURES.index(name)] for name in ("red to green", "blue to green", "spread of hue"))
    return (red >= RED) & (blue <= BLUE) & (hue >= GREY)


def unusual(measured: np.ndarray, count: int = 2) -> list[str]:
    """The ``count`` of ``MEASURES`` K by which a picture differs most from phantoms, each in its own spread."""
    known = rule()
    spread = np.sqrt(np.diag(np.linalg.inv(known.precision)))
    return [MEASURES[place] for place in np.argsort(-np.abs(measured - known.mean) / spread)[:count]]


def refused(pixels: np.ndarray) -> np.ndarray:
    """Which of N pictures uint8 N×S×S×3 are refused, bool N."""
    return np.array([bool(reasons(one)) for one in pixels], bool)


def fit(phantoms: np.ndarray, photographs: np.ndarray, share: float = 0.01) -> Rule:
    """The rule by whose distance ``share`` (0 to 1) of ``photographs`` are refused; both uint8 N×S×S×3."""
    usual = np.stack([measure(one) for one in phantoms])
    known = Rule(usual.mean(0), np.linalg.inv(np.cov(usual.T)), np.inf)
    far = known.distances(np.stack([measure(one) for one in photographs]))
    return Rule(known.mean, known.precision, float(np.quantile(far, 1 - share)))


@cache
def rule() -> Rule:
    """The rule that was fixed once."""
    held = json.loads(RULE.read_text("utf-8"))
    return Rule(np.array(held["mean"]), np.array(held["precision"]), held["limit"])


def measure(image: np.ndarray) -> np.ndarray:
    """The ``MEASURES`` of a picture uint8 H×W×3, float64 K, all finite."""
    picture = images.prepare(image, SIDE).astype(np.float32)
    inside = cv2.erode((picture.max(2) > BLACK).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    if inside.sum() < SIDE:
        inside = np.ones_like(inside)
    field = inside.astype(np.float32)
    smooth = _blurred(picture, field, 3.0)
    red, green, blue = np.moveaxis(smooth, 2, 0)
    mean = [float(one[inside].mean()) + 1 for one in (red, green, blue)]
    hue = np.log((red + 1) / (green + 1))[inside]
    light = green[inside]
    return np.array(
        [
            *_outline(inside),
            *(np.log(mean[0] / mean[1]), np.log(mean[2] / mean[1]), np.log(sum(mean))),
            float((picture.max(2)[inside] > 250).mean()) ** 0.5,
            np.log(hue.std() + 0.01),
            np.log(light.std() / mean[1] + 0.01),
            *_together(picture, field),
            *_details(picture, field, mean[1]),
            min(np.log((np.quantile(light, 0.99) + 5) / (np.median(light) + 5)), BRIGHT),
            _rim(green, inside),
        ]
    )


def _outline(inside: np.ndarray) -> tuple[float, float]:
    """The share of the picture that is not black, and of its four corners."""
    side = SIDE // 8
    corners = [
        inside[rows, columns]
        for rows in (slice(side), slice(-side, None))
        for columns in (slice(side), slice(-side, None))
    ]
    return float(inside.mean()), float(np.mean(corners))


def _blurred(picture: np.ndarray, field: np.ndarray, width: float) -> np.ndarray:
    """float32 H×W×C smoothed within the field, whose black surround does not reach in."""
    weight = cv2.GaussianBlur(field, (0, 0), width)[..., None] + 1e-3
    mixed = cv2.GaussianBlur(picture * field[..., None], (0, 0), width)
    return mixed.reshape(picture.shape) / weight


def _together(picture: np.ndarray, field: np.ndarray) -> list[float]:
    """How red and blue details go with green ones: two correlations, -1 to 1."""
    details = (_blurred(picture, field, 1.0) - _blurred(picture, field, 6.0))[field > 0]
    red, green, blue = details.T + 0.0
    return [float((one * green).mean() / np.sqrt((one**2).mean() * (green**2).mean() + 1.0)) for one in (red, blue)]


def _details(picture: np.ndarray, field: np.ndarray, mean: float) -> list[float]:
    """Of green: how strong details of each width are, how dark lines are and whether they are dark, and whether edges
    have one direction or those of a page."""
    green, inside = picture[..., 1:2], field > 0
    levels = [_blurred(green, field, width)[..., 0] for width in (WIDTHS[0] / 2, *WIDTHS)]
    bands = [finer - coarser for finer, coarser in itertools.pairwise(levels)]
    strong = [float(np.log(band[inside].std() / mean + 0.002)) for band in bands]
    xx, yy, xy = (cv2.Sobel(levels[1], cv2.CV_32F, *order) for order in ((2, 0), (0, 2), (1, 1)))
    root = np.sqrt((xx - yy) ** 2 / 4 + xy**2)
    ridge, valley = (np.maximum(sign * (xx + yy) / 2 + root, 0)[inside].mean() for sign in (1, -1))
    fine = levels[1] - levels[4]  # without glare, which has one direction too
    right, down = (cv2.Sobel(fine, cv2.CV_32F, *order)[inside] for order in ((1, 0), (0, 1)))
    energy = float((right**2 + down**2).sum()) + 1.0
    one = np.hypot((right**2 - down**2).sum(), 2 * (right * down).sum()) / energy
    fourfold = float((right**4 - 6 * right**2 * down**2 + down**4).sum()) / (
        float(((right**2 + down**2) ** 2).sum()) + 1
    )
    return [*strong, np.log(ridge / mean + 0.002), np.log((ridge + 0.1) / (valley + 0.1)), float(one), fourfold]


def _rim(green: np.ndarray, inside: np.ndarray) -> float:
    """The light of the outer part of the field over that of its middle, a logarithm."""
    depth = cv2.distanceTransform(np.pad(inside.astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    # of a field a few pixels wide at least its edge, whose depth is 1
    outer, middle = inside & (depth < max(0.3 * depth.max(), 1.5)), inside & (depth > 0.6 * depth.max())
    return float(np.log((green[outer].mean() + 5) / (green[middle].mean() + 5)))
