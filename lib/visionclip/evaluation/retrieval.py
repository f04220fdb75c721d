"""How images and captions lie to each other in the shared space: retrieval, alignment, uniformity, collapse."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy import stats

from visionclip.text.captions import Caption

RANKS = (1, 5, 10)
COLLAPSED = 0.995  # mean cosine of texts with different meanings, above which the text tower is of no use


def retrieval(image_embeds: torch.Tensor, text_embeds: torch.Tensor, positives: np.ndarray) -> dict[str, dict]:
    """Recall at each of ``RANKS`` in both directions, 0 to 1, with what chance reaches.

    A query is a hit at k if one of its k nearest is true of it; ``positives`` is bool N×M. Chance for a query with r
    positives of m is that of one among k drawn without replacement, 1 - C(m - r, k) / C(m, k). Queries without a
    positive are left out, so that there are ``n``; the values are None where all are.
    """
    similarity = (image_embeds @ text_embeds.T).numpy()
    result = {}
    for name, scores, truth in (
        ("image to text", similarity, positives),
        ("text to image", similarity.T, positives.T),
    ):
        usable = truth.any(1)
        order = np.argsort(-scores[usable], axis=1, kind="stable")[:, : max(RANKS)]
        hits = np.take_along_axis(truth[usable], order, axis=1)
        among, true = truth.shape[1], truth[usable].sum(1)
        result[name] = {
            f"R@{k}": {
                "value": _mean(np.any(hits[:, :k], axis=1)),
                "chance": _mean(1 - stats.hypergeom.pmf(0, among, true, min(k, among))),
                "n": len(true),
            }
            for k in RANKS
        }
    return result


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None


def alignment(image_embeds: torch.Tensor, text_embeds: torch.Tensor) -> float:
    """Mean squared distance of matching pairs, both N×P, 0 (best) to 4 (Wang & Isola, ICML 2020)."""
    return (image_embeds - text_embeds).square().sum(1).mean().item()


def uniformity(embeds: torch.Tensor) -> float:
    """Log of the mean Gaussian potential of N×P embeddings: 0 when collapsed, about -4 when spread (same paper)."""
    return torch.pdist(embeds).square().mul(-2).exp().mean().log().item()


def text_spread(text_embeds: torch.Tensor, captions: Sequence[Caption]) -> float:
    """Mean cosine between captions of different meaning, -1 to 1; near 1 the text tower has collapsed."""
    meaning = np.array([caption.semantic_id for caption in captions])
    different = torch.from_numpy(meaning[:, None] != meaning[None])
    return (text_embeds @ text_embeds.T)[different].mean().item()


def refuse_collapse(spread: float) -> None:
    """Fail the run when the text tower maps different meanings to one point.

    Raises:
        RuntimeError: the mean cosine reaches ``COLLAPSED``.
    """
    if spread >= COLLAPSED:
        raise RuntimeError(
            f"text tower collapsed: captions of different meaning have a mean cosine of {spread:.3f} "
            f"(limit {COLLAPSED}); lower learning_rate or train longer"
        )
