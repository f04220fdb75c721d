"""Contrastive objectives over a batch of B images and its U distinct captions, and what they can reach at best.

Captions repeat and several are true of one image, so one-hot targets punish right answers. All functions take
unit-length embeddings and ``positives`` (B×U, 1 where the caption is a right answer for the image).
"""

import torch
from torch.nn import functional


def clip_loss(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Symmetric cross-entropy with one-hot targets (Radford et al., ICML 2021).

    ``images`` B×D, ``texts`` U×D, ``scale`` the inverse temperature, ``own`` B the index of each image's own
    caption. A caption shared by two images counts twice, as in the original: the loss knows no duplicates.
    """
    logits = scale * images @ texts[own].T
    targets = torch.arange(len(images), device=images.device)
    return (functional.cross_entropy(logits, targets) + functional.cross_entropy(logits.T, targets)) / 2


def targets(positives: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What each image should answer (B×U) and each caption (U×B); rows sum to 1.

    Every caption hands one unit evenly to the images it is true of, and an image's answer is what it was handed. So
    "no glaucoma", true of nearly all, weighs little for each, and a caption that fits one image alone weighs most.
    """
    by_text = positives.T / positives.T.sum(1, keepdim=True)
    return by_text.T / by_text.T.sum(1, keepdim=True), by_text


def multi_positive_loss(
    images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, positives: torch.Tensor
) -> torch.Tensor:
    """Symmetric cross-entropy against ``targets`` (soft targets as in UniCL, Yang et al., CVPR 2022).

    Each image needs at least one right caption and each caption one image, as in any batch with its own captions.
    """
    logits = scale * images @ texts.T
    by_image, by_text = targets(positives.to(logits))
    return (functional.cross_entropy(logits, by_image) + functional.cross_entropy(logits.T, by_text)) / 2


def floor(positives: torch.Tensor) -> torch.Tensor:
    """The lowest value that either loss can reach on this batch: the mean entropy of its targets.

    For the one-hot loss pass B×B, 1 where image i's own caption means the same as image j's: nothing in the image says
    which of the two stands beside it, and the floor becomes the sum over meanings of p ln(B p).
    """
    entropies = [torch.special.entr(rows).sum(1).mean() for rows in targets(positives.float())]
    return sum(entropies) / 2


def alignment(images: torch.Tensor, texts: torch.Tensor) -> float:
    """Mean squared distance of matching pairs, both N×D, 0 (best) to 4 (Wang & Isola, ICML 2020)."""
    return (images - texts).square().sum(1).mean().item()


def uniformity(embeddings: torch.Tensor) -> float:
    """Log of the mean Gaussian potential of N×D embeddings: 0 when collapsed, about -4 when spread (same paper)."""
    return torch.pdist(embeddings).square().mul(-2).exp().mean().log().item()
