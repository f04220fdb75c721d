"""Losses of what is known of each eye and cell: conditions by sentences that state them, maps by names of findings."""

from collections.abc import Sequence

import torch
from torch.nn import functional

FULL = 3.0  # a cell counts as full when a third of it is covered: small lesions fill no cell
SHOWN = 1 / 30  # of a cell, from which on it shows a finding, here and where maps are scored: half a pixel of sixteen
RARE = 6.0  # further weight of cells that show a finding
SMOOTH = 1.0  # cells added to both sides of a Dice score: a finding that no eye of a batch has still has one


def condition_loss(logits: torch.Tensor, values: Sequence[int], truth: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of "at least" questions: whether each condition is at least at each of its values above 0.

    ``logits`` are B×V of statements, those of each condition in turn at its values 0, 1 …, of which there are
    ``values``; ``truth`` is int B×K, -1 where unknown. As several statements may make a condition at least what is
    asked, its logit is the difference of two logarithms of sums (ordinal regression, Frank & Hall, ECML 2001). The mean
    over the questions whose answer is known.
    """
    total, count = logits.new_zeros(()), logits.new_zeros(())
    for of_condition, known in zip(logits.split(list(values), dim=1), truth.T, strict=True):
        for value in range(1, of_condition.shape[1]):
            at_least = of_condition[:, value:].logsumexp(1) - of_condition[:, :value].logsumexp(1)
            each = functional.binary_cross_entropy_with_logits(
                at_least, (known >= value).to(at_least), reduction="none"
            )
            total, count = total + each[known >= 0].sum(), count + (known >= 0).sum()
    return total / count.clamp_min(1)


def map_loss(
    logits: torch.Tensor, covered: torch.Tensor, known: torch.Tensor, share: float | torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of finding maps N×C×s×s, where ``covered`` is the share (0 to 1) of each cell.

    ``known`` is bool N, False where an image has no masks, and ``share`` the share of the whole batch that has, so that
    n processes together have the loss of one. Cells that show a finding weigh more: they are few.
    """
    cells = _full(covered)
    weight = (1 + RARE * (covered > SHOWN)) * known[:, None, None, None]
    return functional.binary_cross_entropy_with_logits(logits, cells, weight) / max(float(share), 1e-6)


def _full(covered: torch.Tensor) -> torch.Tensor:
    """How far each cell counts as one that shows a finding, 0 to 1, from the share of it that is covered."""
    return (FULL * covered).clamp(max=1)


def overlaps(logits: torch.Tensor, covered: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """What the Dice score of each finding is made of, 2×C, to be added up over the parts of a batch: cells that show it
    and are said to, and both counts together. Arguments as of ``map_loss``.
    """
    cells = _full(covered)
    likely, counted = torch.sigmoid(logits.float()), known[:, None, None, None].float()
    return torch.stack([(counted * likely * cells).sum((0, 2, 3)), (counted * (likely + cells)).sum((0, 2, 3))])


def dice_loss(overlaps: torch.Tensor) -> torch.Tensor:
    """One minus the Dice score over all cells of a batch (Milletari et al., 3DV 2016), the mean over the findings.

    In it a microaneurysm weighs as much as all vessels, which fill a thousand times as many cells.
    """
    shared, both = overlaps
    return (1 - (2 * shared + SMOOTH) / (both + SMOOTH)).mean()
