"""Labelled images in memory: what all sets are, drawn, generated or photographed."""

from collections.abc import Iterable, Sized
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from visionclip import conditions


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """N images of one size and what is known of each.

    ``pixels`` are uint8 N×S×S×3 RGB; ``conditions`` complete for drawn eyes, {} where nothing is known; ``sources``
    say what made an image, ``keys`` name it. ``groups`` are the patient or examination of each, empty where every image
    is its own. ``masks`` are uint8 N×C×h×w, one channel for each of ``mask_names``; what their values mean is said by
    whoever makes them.

    Raises:
        ValueError: the columns are not of one length.
    """

    pixels: np.ndarray
    conditions: list[dict[str, int]]
    sources: list[str]
    keys: list[str]
    groups: list[str] = field(default_factory=list)
    masks: np.ndarray | None = None
    mask_names: tuple[str, ...] = ()

    def __post_init__(self):
        masks = self.pixels if self.masks is None else self.masks
        columns: tuple[Sized, ...] = (self.pixels, self.conditions, self.sources, self.members, masks)
        if {len(column) for column in columns} != {len(self.keys)}:
            raise ValueError(f"labelled images: {len(self.keys)} keys for columns of {[*map(len, columns)]}")

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def members(self) -> list[str]:
        """The group of each image, or its own key where there are no groups."""
        return self.groups or self.keys

    @property
    def vectors(self) -> np.ndarray:
        """float32 N×K in {0, 1}, ``conditions.vector`` of each image."""
        return np.stack([conditions.vector(eye) for eye in self.conditions])

    def without_masks(self) -> "LabelledImages":
        """The same images, of which only the conditions are known."""
        return replace(self, masks=None, mask_names=())

    def take(self, indices: Iterable[int]) -> "LabelledImages":
        """The images at these places, in this order; what is on disk stays there."""
        places = np.arange(len(self))[list(indices)]

        def of(column: list) -> list:
            return [column[place] for place in places] if column else []

        lists: dict[str, Any] = {name: of(getattr(self, name)) for name in ("conditions", "sources", "keys", "groups")}
        masks = None if self.masks is None else self.masks[places]
        return replace(self, pixels=self.pixels.take(places, axis=0), masks=masks, **lists)
