"""What the image tower sees in an update: whole eyes at few pixels, and windows of others at native scale."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from visionclip.data import windows
from visionclip.data.augment import augment
from visionclip.data.images import standardise, to_tensor
from visionclip.data.labelled import LabelledImages
from visionclip.training.loop import Update

STRIDE = 4  # pixels of a cell along its side


@dataclass(frozen=True)
class Views:
    """A process's share of an update: standardised float ``pixels`` n×3×S×S, of which the first ``whole`` are whole
    eyes and the rest windows.

    ``covered`` is the share (0 to 1) of each of their cells n×C×S/4×S/4 that each finding covers, None without masks;
    ``known`` is bool n, False where an image has none, and ``share`` (0 to 1) of the whole update's views have some.
    """

    pixels: torch.Tensor
    whole: int
    covered: torch.Tensor | None
    known: torch.Tensor
    share: torch.Tensor

    def with_windows(self, pixels: torch.Tensor, covered: torch.Tensor, whole: int, count: int) -> "Views":
        """The same with this process's windows; the update has ``whole`` eyes and ``count`` windows over all."""
        known = torch.cat([self.known, self.known.new_ones(len(pixels))])
        covered = covered if self.covered is None else torch.cat([self.covered, covered])
        share = (self.share * whole + count) / (whole + count)
        return Views(torch.cat([self.pixels, pixels]), self.whole, covered, known, share)


def of_update(
    images: LabelledImages, rows: np.ndarray, size: int, count: int, update: Update, strength: float
) -> Views:
    """The images at these ``rows`` at ``size`` pixels (0: as they are), augmented by ``strength``, and beside them
    ``count`` windows of images that have masks."""
    size = size or images.pixels.shape[1]
    views = _whole(images, rows, size, update, strength)
    if not count or views.covered is None:
        return views
    return views.with_windows(*_windows(images, size, count, update, strength), len(rows), count)


def _whole(images: LabelledImages, rows: np.ndarray, size: int, update: Update, strength: float) -> Views:
    batch = to_tensor(images.pixels[rows]).to(update.device)
    if size != batch.shape[-1]:
        batch = functional.interpolate(batch.float(), size=size, mode="area" if size < batch.shape[-1] else "bilinear")
    masks = None if images.masks is None else torch.from_numpy(images.masks[rows]).to(update.device)
    batch, masks = augment(batch, strength, update.torch_rng("augmentation"), masks)
    known = torch.ones(len(rows), dtype=torch.bool, device=update.device)
    if images.marked is not None:
        known = torch.from_numpy(images.marked[rows]).to(update.device)
    own = update.share(np.arange(len(rows)))
    covered = None
    if masks is not None:
        covered = functional.interpolate(masks[own], size=-(-size // STRIDE), mode="area") / 255
    return Views(standardise(batch[own]), len(own), covered, known[own], known.float().mean())


def _windows(
    images: LabelledImages, size: int, count: int, update: Update, strength: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """This process's share of the windows, n×3×S×S, and what findings cover of their cells, n×C×S/4×S/4."""
    rng = update.rng("windows")
    cut, masks = windows.draw(images, rng.choice(windows.places(images), count), size, rng)
    source = update.torch_rng("augmentation of windows")
    batch, covered = augment(
        to_tensor(cut).to(update.device), strength, source, torch.from_numpy(masks).to(update.device)
    )
    own = update.share(np.arange(count))
    return standardise(windows.centre(batch[own], size)), windows.centre(covered[own], size // STRIDE) / 255
