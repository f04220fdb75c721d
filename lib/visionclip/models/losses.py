"""Contrastive objectives over B images and their U distinct captions, behind one interface, and their floors.

Captions repeat, and several are true of one image, so that one-hot targets punish true pairs. ``OBJECTIVES`` maps a
name to a function of unit-length embeddings (images B×D, texts U×D), the inverse temperature ``scale``, the ``bias`` of
the logits (used by the sigmoid alone) and ``Matches``. Each returns two scalars: the loss, and its floor, the lowest
value that it can reach on this batch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

EXCLUDED = -1e4  # a logit that no softmax feels; minus infinity times a target of 0 would be NaN


@dataclass(frozen=True)
class Matches:
    """What is known of a batch: ``own`` B is the index of each image's own caption; ``positives`` B×U is 1 where the
    caption is true of the image; ``meanings`` U numbers what the captions mean; ``labels`` B×K are the images'
    conditions in {0, 1}, NaN where unknown; ``unknown`` B×U is True where a caption may be true of the image or not
    (None: nowhere). Such a pair is neither a positive nor a negative: no objective counts it."""

    own: torch.Tensor
    positives: torch.Tensor
    meanings: torch.Tensor
    labels: torch.Tensor
    unknown: torch.Tensor | None = None

    def without_unknown(self, logits: torch.Tensor, own: bool = False) -> torch.Tensor:
        """The logits B×U (B×B of each image's ``own`` caption) with those of unknown pairs out of every softmax."""
        if self.unknown is None:
            return logits
        return logits.masked_fill(self.unknown[:, self.own] if own else self.unknown, EXCLUDED)


Loss = tuple[torch.Tensor, torch.Tensor]
Bias = torch.Tensor | None
Objective = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Bias, Matches], Loss]


def clip(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, bias: Bias, matches: Matches) -> Loss:
    """Symmetric cross-entropy with one-hot targets (Radford et al., ICML 2021).

    A caption shared by two images counts twice, as in the original: the loss knows no duplicates. Nothing in an image
    says which of two captions of one meaning stands beside it, so that the floor is the sum over meanings of p ln(B p).
    """
    logits = matches.without_unknown(scale * images @ texts[matches.own].T, own=True)
    meanings = matches.meanings[matches.own]
    return _symmetric(logits, torch.eye(len(images), device=images.device)), _entropy(meanings[:, None] == meanings)


def multi_positive(
    images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, bias: Bias, matches: Matches
) -> Loss:
    """Symmetric cross-entropy against ``targets`` (soft targets as in UniCL, Yang et al., CVPR 2022).

    Each image needs at least one true caption and each caption one image, as in any batch with its own captions.
    """
    logits = matches.without_unknown(scale * images @ texts.T)
    return _symmetric(logits, matches.positives), _entropy(matches.positives)


def sigmoid(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, bias: Bias, matches: Matches) -> Loss:
    """Every pair judged alone, true or not (SigLIP, Zhai et al., ICCV 2023), summed over pairs, a Bth of it.

    ``bias`` is to start at ``starting_bias``. What is true of an image follows from it, so that the floor is 0.
    """
    signs = 2 * matches.positives.to(images.dtype) - 1
    logits = scale * images @ texts.T + (0 if bias is None else bias)
    each = -functional.logsigmoid(signs * logits)
    loss = (each if matches.unknown is None else each.masked_fill(matches.unknown, 0)).sum() / len(images)
    return loss, torch.zeros((), device=images.device)


def similarity(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, bias: Bias, matches: Matches) -> Loss:
    """Cross-entropy in which each negative counts by how unlike its image is, in the manner of ViLReF's weighted
    similarity coupling (Yang et al., arXiv 2408.10894; no open implementation).

    In the denominator the caption of image j weighs 1 minus the Jaccard index of the conditions of images i and j (of
    those known in both), and nothing where it is true of image i: false negatives are left out, near ones pushed away
    slowly. The floor is 0.
    """
    logits = scale * images @ texts[matches.own].T
    labels = matches.labels.to(logits)
    known, labels = (~labels.isnan()).to(logits), labels.nan_to_num(0)
    shared = labels @ labels.T
    either = labels @ known.T + known @ labels.T - shared
    unlike = 1 - torch.where(either > 0, shared / either.clamp_min(1), 1.0)
    weights = unlike * (1 - matches.positives[:, matches.own].to(logits))
    if matches.unknown is not None:
        weights = weights.masked_fill(matches.unknown[:, matches.own], 0)
    weights = weights.fill_diagonal_(1.0)
    weighted = logits + weights.clamp_min(1e-30).log()
    own = logits.diagonal()
    loss = (torch.logsumexp(weighted, 1) - own).mean() + (torch.logsumexp(weighted, 0) - own).mean()
    return loss / 2, torch.zeros((), device=images.device)


OBJECTIVES: dict[str, Objective] = {
    "clip": clip,
    "multi_positive": multi_positive,
    "sigmoid": sigmoid,
    "similarity": similarity,
}


def starting_bias(positive_rate: float) -> float:
    """The logit of the expected share of true pairs (0 to 1, exclusive): with it the sigmoid starts unbiased."""
    return math.log(positive_rate / (1 - positive_rate))


def targets(positives: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The target distribution of each image over captions (B×U) and of each caption over images (U×B); rows sum to 1.

    Every caption hands one unit evenly to the images it is true of, and an image's target is what it was handed. So
    "no glaucoma", true of nearly all, weighs little for each, and a caption that fits one image alone weighs most.
    """
    by_text = positives.T / positives.T.sum(1, keepdim=True)
    return by_text.T / by_text.T.sum(1, keepdim=True), by_text


def _symmetric(logits: torch.Tensor, positives: torch.Tensor) -> torch.Tensor:
    by_image, by_text = targets(positives.to(logits))
    return (functional.cross_entropy(logits, by_image) + functional.cross_entropy(logits.T, by_text)) / 2


def _entropy(positives: torch.Tensor) -> torch.Tensor:
    """The mean entropy of the targets, below which no cross-entropy falls."""
    by_image, by_text = (torch.special.entr(rows).sum(1).mean() for rows in targets(positives.float()))
    return (by_image + by_text) / 2
