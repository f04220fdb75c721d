"""Windows of eyes at native scale: what covers a pixel of an eye that is seen whole covers several of its window."""

import cv2
import numpy as np

from visionclip.conditions import FINDINGS
from visionclip.data.labelled import LabelledImages

MARGIN = 4 / 3  # what is cut out, as a multiple of the window: augmentation turns and shifts it
ZOOM = (0.75, 1.33)  # cameras differ in how many pixels they give an eye
AIMED = 0.6  # share of windows at a lesion, or at the disc: elsewhere most show neither
TOUCHED = 25  # of 255, the share of a cell from which on a finding is there
WANDER = 0.2  # of what is cut out: how far from its middle the aim may be


def draw(
    images: LabelledImages, rows: np.ndarray, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One window of each of these images, with its margin, and its masks: uint8 N×T×T×3 and N×C×t×t.

    T is ``size`` times ``MARGIN``, in whole cells of the masks, whose stride t keeps. ``centre`` takes the margin off.

    Raises:
        ValueError: the images have no masks.
    """
    if images.masks is None:
        raise ValueError("windows: no finding maps; draw the phantoms with them")
    side = with_margin(size)
    stride = images.pixels.shape[1] // images.masks.shape[-1]
    pixels = np.empty((len(rows), side, side, 3), np.uint8)
    masks = np.empty((len(rows), images.masks.shape[1], side // stride, side // stride), np.uint8)
    for place, (whole, findings) in enumerate(zip(images.pixels[rows], images.masks[rows], strict=True)):
        cells = min(round(side / rng.uniform(*ZOOM)) // stride, findings.shape[-1])
        top, left = _corner(findings, cells, images.mask_names, rng)
        cut = whole[top * stride : (top + cells) * stride, left * stride : (left + cells) * stride]
        pixels[place] = _resized(cut, side)
        for channel, mask in enumerate(findings[:, top : top + cells, left : left + cells]):
            masks[place, channel] = _resized(mask, side // stride)
    return pixels, masks


def with_margin(size: int) -> int:
    """The side in pixels of what is cut out for a window of ``size``, a multiple of 4."""
    return round(size * MARGIN / 4) * 4


def centre(planes, size: int):
    """The middle ``size``×``size`` of N×C×T×T, an array or a tensor."""
    start = (planes.shape[-1] - size) // 2
    return planes[..., start : start + size, start : start + size]


def _corner(masks: np.ndarray, cells: int, names: tuple[str, ...], rng: np.random.Generator) -> tuple[int, int]:
    """Top and left cell of a square of ``cells`` that lies in an eye with the findings uint8 C×s×s."""
    side = masks.shape[-1]
    aims = [place for place, name in enumerate(names) if FINDINGS[name].lesion or name == "disc"]
    shown = [mask for mask in masks[aims] if (mask > TOUCHED).any()]
    if shown and rng.random() < AIMED:
        found = np.argwhere(shown[rng.integers(len(shown))] > TOUCHED)
        middle = found[rng.integers(len(found))] + 0.5 + rng.uniform(-WANDER, WANDER, 2) * cells
    else:
        radius, angle = np.sqrt(rng.uniform()) * 0.4 * side, rng.uniform(0, 2 * np.pi)
        middle = side / 2 + radius * np.array([np.sin(angle), np.cos(angle)])
    top, left = np.clip(np.round(middle - cells / 2).astype(int), 0, side - cells)
    return int(top), int(left)


def _resized(plane: np.ndarray, side: int) -> np.ndarray:
    method = cv2.INTER_AREA if len(plane) > side else cv2.INTER_LINEAR
    return cv2.resize(plane, (side, side), interpolation=method)
