"""A few labelled images, and a run that is cut off, for the tests of what learns from images."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import torch

from visionclip import conditions, phantom
from visionclip.data.labelled import LabelledImages
from visionclip.models import generator
from visionclip.models.generator import VisionCLIPDDPMPipeline
from visionclip.training import loop


def discs(count: int, size: int = 16) -> LabelledImages:
    """Grey squares with a bright spot on the side of the disc, and their layouts."""
    rng = np.random.default_rng(0)
    eyes = conditions.balanced(count, rng)
    pixels = rng.integers(60, 90, (count, size, size, 3), dtype=np.uint8)
    layouts = np.zeros((count, len(phantom.MASKS), size, size), np.uint8)
    layouts[:, phantom.MASKS.index("field")] = 1
    disc = phantom.MASKS.index("disc")
    rows, columns = np.s_[3 * size // 8 : 5 * size // 8], (size // 16, 5 * size // 16)
    for image, grid, eye in zip(pixels, layouts, eyes, strict=True):
        first, last = columns if not eye["eye_side"] else (size - columns[1], size - columns[0])
        image[rows, first:last], grid[disc, rows, first:last] = 240, 1
    names = [str(number) for number in range(count)]
    return LabelledImages(pixels, eyes, ["phantom"] * count, names, masks=layouts, mask_names=phantom.MASKS)


def pipeline(images: LabelledImages, **named: object) -> VisionCLIPDDPMPipeline:
    """A generator of such images that has learnt nothing, but draws."""
    torch.manual_seed(0)
    network = generator.fitted(images.pixels, 2, conditions.VECTOR_NAMES, images.mask_names, (16, 32))
    for layer in (network.unet.conv_out, network.gains):
        torch.nn.init.normal_(layer.weight, std=0.1)
    return VisionCLIPDDPMPipeline(network.train(False), generator.solver(), **named)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Equal to the bit, in every weight and buffer."""
    states = one.state_dict(), other.state_dict()
    return all(torch.equal(a, b) for a, b in zip(*(state.values() for state in states), strict=True))


def stop_after(updates: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut the training loop off, as Ctrl-C does, after so many updates."""

    def interrupted(items: Iterable, label: str, total: int | None = None) -> Iterator:
        for done, item in enumerate(items):
            if done == updates:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr(loop, "progress", interrupted)


def save_every_update(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints by the clock, which is as if it always struck."""
    monkeypatch.setattr(loop.time, "monotonic", itertools.count(0, 1e6).__next__)


def watch(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the updates that the training loop takes from now on."""
    taken: list[int] = []

    def noted(items: Iterable[int], label: str, total: int | None = None) -> Iterator[int]:
        for item in items:
            taken.append(item)
            yield item

    monkeypatch.setattr(loop, "progress", noted)
    return taken
