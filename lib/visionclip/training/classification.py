"""Training the supervised baseline: conditions of an eye, and where the phantoms' masks are there, maps of findings.

The masks are worth more than any other choice that was tried, see docs/decisions.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from visionclip import keys, streams
from visionclip.data.augment import augment
from visionclip.data.images import standardise, to_tensor
from visionclip.data.labelled import LabelledImages
from visionclip.models import supervision
from visionclip.models.classifier import Classifier, targets
from visionclip.training import loop
from visionclip.training.loop import Update

Prepare = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Settings(loop.Settings):
    """How a classifier is built and trained.

    The learning rate does not fall: the averaged weights settle instead, as in SWAD (Cha et al. 2021), whose aim is
    also another domain; measured in docs/decisions.md.
    """

    width: int = 32  # channels of the first layer
    map_weight: float = 1.0  # of the loss of the finding maps, that of the conditions having 1
    balanced: bool = False  # rare conditions weigh as much as common ones, so that a logit of 0 is the threshold
    augmentation: float = 1.0  # strength, 0 to 1
    batch_size: int = 24
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warmup: float = 0.04
    schedule: str = "constant"
    clip: float = 5.0
    ema: float = 0.995
    precision: str = "auto"
    checkpoint_every: int = 100


def train(
    images: LabelledImages,
    settings: Settings,
    prepare: Prepare = standardise,
    checkpoint: Path | None = None,
    start: Classifier | None = None,
    label: str = "classifier",
) -> Classifier:
    """A classifier that has seen nothing but ``images``, in inference mode.

    ``prepare`` makes pixels float N×3×S×S in [0, 255] the network's input. The ``masks`` of ``images`` are uint8
    N×C×S/4×S/4, the share of each cell that a finding covers, of 255. It begins with the weights of ``start``, of the
    same width, which may have been trained at another size. With ``checkpoint`` (a file) a stopped run goes on.
    """
    settings = loop.on_this_machine(settings)
    torch.manual_seed(streams.integer(settings.seed, "initial weights of the classifier"))
    network = Classifier(settings.width)
    if start:
        network.load_state_dict(start.state_dict())
    wanted = targets(images.conditions)
    known = keys.arrays(images.pixels, images.masks, images.marked, wanted)
    key = settings.key(known, prepare.__name__, keys.weights(start), keys.code(__file__))
    labels = torch.from_numpy(wanted)
    rarity = _rarity(wanted) if settings.balanced else None
    marked = np.ones(len(images), bool) if images.marked is None else images.marked
    known_masks = images.masks if settings.map_weight > 0 else None

    def step(update: Update) -> dict[str, torch.Tensor]:
        rows = np.sort(update.rows(len(images)))
        pixels = to_tensor(images.pixels[rows]).to(update.device)
        masks = None if known_masks is None else torch.from_numpy(known_masks[rows]).to(update.device)
        source = update.torch_rng("augmentation for the classifier")
        pixels, masks = augment(pixels, settings.augmentation, source, masks)
        own = update.share(np.arange(len(rows)))
        logits, maps = update.network(prepare(pixels[own]).contiguous(memory_format=torch.channels_last))
        weights = None if rarity is None else rarity.to(update.device)
        loss = label_loss(logits.float(), labels[rows].to(update.device), own, weights)
        if masks is not None:
            known = torch.from_numpy(marked[rows]).to(update.device)
            share = known.float().mean()
            loss = loss + settings.map_weight * supervision.map_loss(maps.float(), masks[own] / 255, known[own], share)
        return {"loss": loss}

    loop.train(network, step, settings, label, key, checkpoint)
    return network


def label_loss(
    logits: torch.Tensor, truth: torch.Tensor, own: np.ndarray, pos_weight: torch.Tensor | None
) -> torch.Tensor:
    """Cross-entropy of logits n×J, the rows ``own`` of a batch with targets N×J in {0, 1}: the mean over those known.

    NaN is an unknown target, which counts for nothing. The whole batch says how many there are, so that n processes
    together have the loss of one.
    """
    known = (~truth.isnan()).to(logits)
    targets, weight = truth.nan_to_num(0)[own], known[own]
    loss = functional.binary_cross_entropy_with_logits(logits, targets, weight, pos_weight=pos_weight)
    return loss / known.mean().clamp_min(1 / known.numel())


def _rarity(wanted: np.ndarray) -> torch.Tensor:
    """How much a positive of each condition weighs, to count as much as all negatives; NaN is unknown."""
    known = (~np.isnan(wanted)).sum(0).clip(1).astype(np.float32)
    share = (np.nansum(wanted, axis=0) / known).clip(1 / known, 1)
    return torch.from_numpy(((1 - share) / share).clip(0.1, 20).astype(np.float32))
