"""A phantom's masks in a few channels: what tells the generator where things are."""

from collections.abc import Mapping

import numpy as np

# Which of the phantom's masks share a channel: things that look alike and cannot be mistaken given the label.
LAYOUT_CHANNELS: dict[str, tuple[str, ...]] = {
    "field": ("field",),
    "disc": ("disc",),
    "cup": ("cup",),
    "fovea": ("fovea",),
    "artery": ("artery",),
    "vein": ("vein", "neovessel"),
    "dark": ("microaneurysms", "haemorrhage", "pigment"),
    "bright": ("exudate", "cotton_wool", "drusen"),
    "pale": ("atrophy", "scar", "fibrosis"),
    "veil": ("membrane", "swelling"),
}


def layout(masks: Mapping[str, np.ndarray]) -> np.ndarray:
    """Group a phantom's masks (each bool H×W) into ``LAYOUT_CHANNELS``: uint8 in {0, 1}, C×H×W.

    Raises:
        ValueError: a mask has no channel, or there is no field mask.
    """
    unknown = set(masks) - {name for names in LAYOUT_CHANNELS.values() for name in names}
    if unknown or "field" not in masks:
        raise ValueError(f"layout: masks {sorted(unknown)} have no channel in LAYOUT_CHANNELS, or 'field' is missing")
    grouped = np.zeros((len(LAYOUT_CHANNELS), *masks["field"].shape), np.uint8)
    for channel, names in zip(grouped, LAYOUT_CHANNELS.values(), strict=True):
        for name in names:
            if name in masks:
                channel |= masks[name].astype(np.uint8)
    return grouped
