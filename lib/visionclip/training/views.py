"""What the image tower sees in an update: whole eyes at few pixels, and windows of others that were drawn at many."""

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
    images: LabelledImages,
    rows: np.ndarray,
    size: int,
    update: Update,
    strength: float,
    details: LabelledImages | None = None,
    count: int = 0,
) -> Views:
    """The images at these ``rows`` at ``size`` pixels (0: as they are), augmented by ``strength``, and beside them
    ``count`` windows of eyes drawn in ``details``.

    Raises:
        ValueError: the windows can't be shared out among the processes.
    """
    size = size or images.pixels.shape[1]
    views = _whole(images, rows, size, update, strength)
    if details is None or not count or views.covered is None:
        return views
    if count % update.world:
        raise ValueError(f"windows: {count} for {update.world} processes; give a multiple of that")
    return views.with_windows(*_windows(details, size, count, update, strength), len(rows), count)


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
    details: LabelledImages, size: int, count: int, update: Update, strength: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """This process's share of the windows, n×3×S×S, and what findings cover of their cells, n×C×S/4×S/4."""
    rng = update.rng("windows")
    cut, masks = windows.draw(details, rng.integers(len(details), size=count), size, rng)
    source = update.torch_rng("augmentation of windows")
    drawn, covered = to_tensor(cut).to(update.device), torch.from_numpy(masks).to(update.device)
    batch, moved = augment(drawn, strength, source, covered)
    assert moved is not None  # as masks were given
    own, cells = update.share(np.arange(count)), -(-size // STRIDE)
    return standardise(windows.centre(batch[own], size)), windows.centre(moved[own], cells) / 255
