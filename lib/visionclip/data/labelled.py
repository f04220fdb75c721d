"""Labelled images in memory: what all sets are, drawn, generated or photographed."""

from collections.abc import Iterable, Sized
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from visionclip import conditions, keys

NOTHING_FOUND = "no finding stated"  # of an eye with unknown diseases: it may not be called normal
_KEY_OF_ENTRY = [name.partition(">=")[0] for name in conditions.VECTOR_NAMES]


def vector(eye: conditions.Conditions) -> np.ndarray:
    """``conditions.vector`` of an eye, float32 in {0, 1}, with NaN for each entry of an unknown condition."""
    known = [key in eye for key in _KEY_OF_ENTRY]
    return np.where(known, conditions.vector(eye), np.float32(np.nan))


def presentation(eye: conditions.Conditions) -> str:
    """``conditions.presentation``, or ``NOTHING_FOUND`` where no disease is known but not all are ruled out."""
    shown = conditions.presentation(eye)
    return NOTHING_FOUND if shown == "normal" and any(key not in eye for key in conditions.DISEASES) else shown


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """N images of one size and what is known of each.

    ``pixels`` are uint8 N×S×S×3 RGB; ``conditions`` are complete for drawn eyes and partial for photographs, whose
    labels leave open what they don't name ({}: all); ``sources`` say what made an image, ``keys`` name it. ``groups``
    are the patient or examination of each, empty where every image is its own. ``masks`` are uint8 N×C×h×w, one channel
    for each of ``mask_names``; what their values mean is said by whoever makes them. ``marked`` is bool N where only
    some images have masks, those of the others being 0. ``sentences`` are a caption that each image came with and the
    facts that it states, ("", {}) of an image without; empty where none has any.

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
    marked: np.ndarray | None = None
    sentences: list[tuple[str, dict[str, int]]] = field(default_factory=list)

    def __post_init__(self):
        masks = self.pixels if self.masks is None else self.masks
        marked = self.pixels if self.marked is None else self.marked
        written = self.sentences or self.keys
        columns: tuple[Sized, ...] = (self.pixels, self.conditions, self.sources, self.members, masks, marked, written)
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
        """float32 N×K in {0, 1}, NaN where unknown: ``vector`` of each image."""
        return np.stack([vector(eye) for eye in self.conditions])

    @property
    def key(self) -> str:
        """A digest of pixels, masks, which images have any, and conditions."""
        held = [one for one in (self.pixels, self.masks, self.marked) if one is not None]
        seen = [keys.arrays(one) if isinstance(one, np.ndarray) else one.key for one in held]
        return keys.digest([seen, self.mask_names, [dict(eye) for eye in self.conditions]])

    def without_masks(self) -> "LabelledImages":
        """The same images, of which only the conditions are known."""
        return replace(self, masks=None, mask_names=(), marked=None)

    def take(self, indices: Iterable[int]) -> "LabelledImages":
        """The images at these places, in this order; what is on disk stays there."""
        places = np.arange(len(self))[list(indices)]

        def of(column: list) -> list:
            return [column[place] for place in places] if column else []

        names = ("conditions", "sources", "keys", "groups", "sentences")
        lists: dict[str, Any] = {name: of(getattr(self, name)) for name in names}
        masks = None if self.masks is None else self.masks.take(places, axis=0)
        marked = None if self.marked is None else self.marked[places]
        return replace(self, pixels=self.pixels.take(places, axis=0), masks=masks, marked=marked, **lists)
