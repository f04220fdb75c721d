"""Do generated retinas show what they were made to show? Measured before they train anything.

A referee trained on phantoms alone predicts the conditions of generated images and of held-out phantoms: the second is
the ceiling of the first. The kernel distance between its features of both says whether they look alike, next to its
floor (phantoms against phantoms).
"""

from collections.abc import Sequence

import numpy as np
from sklearn.metrics.pairwise import polynomial_kernel

from visionclip.conditions import Conditions
from visionclip.evaluation.intervals import mean_auc
from visionclip.evaluation.statements import CONDITIONS, targets

FEWEST = 5  # images with and without a condition below which no rate is quoted


def label_fidelity(
    logits: np.ndarray, names: Sequence[str], conditions: Sequence[Conditions]
) -> dict[str, dict[str, float | int | None]]:
    """AUC with its limits ``low`` and ``high`` (``intervals.mean_auc``), recall and specificity (0 to 1, logit above 0)
    of logits N×J of J ``names``, which are of ``CONDITIONS``, against the conditions that N images were made from; and
    the number of positives.

    Rates are None where fewer than ``FEWEST`` images have the condition, or lack it. Images of which it isn't known
    are left out.
    """
    wanted = targets(conditions)[:, [CONDITIONS.index(name) for name in names]]
    result = {}
    for name, truth, of_all in zip(names, wanted.T, logits.T, strict=True):
        known = ~np.isnan(truth)
        target, logit = truth[known] > 0, of_all[known]
        row: dict[str, float | int | None] = dict.fromkeys(("auc", "low", "high", "recall", "specificity"))
        if min(target.sum(), (~target).sum()) >= FEWEST:
            auc = mean_auc(target[None], logit[None])
            row = {
                "auc": auc.value,
                "low": auc.low,
                "high": auc.high,
                "recall": float((logit[target] > 0).mean()),
                "specificity": float((logit[~target] <= 0).mean()),
            }
        result[name] = {**row, "positives": int(target.sum())}
    return result


def kernel_distance(
    one: np.ndarray, other: np.ndarray, rng: np.random.Generator, subsets: int = 50, size: int = 200
) -> dict[str, float]:
    """Kernel distance of two feature sets N×D and M×D: the mean and standard deviation over random subsets.

    The unbiased squared maximum mean discrepancy with the kernel (x.y / D + 1)^3 (KID, Binkowski et al. 2018), on
    features scaled to unit mean square; about 0, also slightly below, for sets of one distribution.

    Raises:
        ValueError: a set has fewer than two images.
    """
    size = min(size, len(one), len(other))
    if size < 2:
        raise ValueError(f"kernel distance: {len(one)} and {len(other)} images; give at least two of each")
    scale = np.sqrt(np.mean(np.square(one), dtype=np.float64)) or 1.0
    distances = []
    for _ in range(subsets):
        x = one[rng.choice(len(one), size, replace=False)].astype(np.float64) / scale
        y = other[rng.choice(len(other), size, replace=False)].astype(np.float64) / scale
        xx, yy, xy = (polynomial_kernel(a, b, degree=3) for a, b in ((x, x), (y, y), (x, y)))
        within = (xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (size * (size - 1))
        distances.append(within - 2 * xy.mean())
    return {"mean": float(np.mean(distances)), "standard_deviation": float(np.std(distances))}
