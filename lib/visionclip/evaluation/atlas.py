"""Drawn eyes beside photographs of the same condition, of sets whose licence lets a report show them."""

from collections.abc import Mapping, Sequence

import numpy as np

from visionclip.data import folders, labelled
from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import Dataset, stated


def beside(
    drawn: LabelledImages, datasets: Sequence[Dataset]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], str]:
    """By presentation (``conditions.presentation``) the first drawn eye and the first photograph, uint8 S×S×3, of
    those that both have, and whom to credit; a photograph in which nothing is stated to be there shows none."""
    shown = [one for one in datasets if folders.credit(one.name)]
    photographs: dict[str, np.ndarray] = {}
    for one in shown:
        photographs = _first(one.images.pixels, stated(one)) | photographs
    eyes = _first(drawn.pixels, drawn.conditions)
    both = [name for name in eyes if name in photographs]
    credits = dict.fromkeys(folders.credit(one.name) for one in shown)
    return {name: eyes[name] for name in both}, {name: photographs[name] for name in both}, "; ".join(credits)


def _first(pixels: np.ndarray, eyes: Sequence[Mapping[str, int]]) -> dict[str, np.ndarray]:
    """The first image of each presentation."""
    found: dict[str, np.ndarray] = {}
    for image, eye in zip(pixels, eyes, strict=True):
        found.setdefault(labelled.presentation(eye), image)
    return dict(sorted(found.items()))
