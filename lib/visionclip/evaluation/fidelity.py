"""Do generated retinas show what they were made to show? Measured before they train anything.

A referee trained on phantoms alone predicts the conditions of generated images and of held-out phantoms: the second is
the ceiling of the first. The kernel distance between its features of both says whether they look alike, next to its
floor (phantoms against phantoms). Precision, recall and coverage part what is wrong from what is missing.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import polynomial_kernel

from visionclip.conditions import Conditions
from visionclip.evaluation.intervals import CONFIDENCE, Interval, mean_auc, share
from visionclip.evaluation.statements import CONDITIONS, targets

NEAREST = 5  # images that make a neighbourhood, as Naeem et al. have it
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


def kernel_distance(one: np.ndarray, other: np.ndarray, rng: np.random.Generator, halves: int = 200) -> Interval:
    """Kernel distance of two feature sets N×D and M×D, with its 95 % interval over images.

    The unbiased squared maximum mean discrepancy with the kernel (x.y / D + 1)^3 (KID, Binkowski et al. 2018), on
    features scaled to unit mean square; about 0, also slightly below, for sets of one distribution. Its standard error
    is the spread over random halves of both sets (the delete-half jackknife, Shao & Wu 1989), as a bootstrap would
    show an image twice and find it near itself; for sets that hardly differ it is too wide by a half or so. With fewer
    than four images of either there are no limits.

    Raises:
        ValueError: a set has fewer than two images.
    """
    if min(len(one), len(other)) < 2:
        raise ValueError(f"kernel distance: {len(one)} and {len(other)} images; give at least two of each")
    scale = np.sqrt(np.mean(np.square(one), dtype=np.float64)) or 1.0
    both = np.concatenate([one, other]).astype(np.float64) / scale
    kernel, first = polynomial_kernel(both, degree=3), len(one)
    whole = _discrepancy(kernel, np.arange(first), np.arange(first, len(both)))
    if min(len(one), len(other)) < 4:
        return Interval(whole)
    parts = [
        _discrepancy(
            kernel, rng.permutation(first)[: first // 2], first + rng.permutation(len(other))[: len(other) // 2]
        )
        for _ in range(halves)
    ]
    error = stats.norm.ppf((1 + CONFIDENCE) / 2) * float(np.sqrt(np.mean(np.square(np.array(parts) - whole))))
    return Interval(whole, whole - error, whole + error)


def _discrepancy(kernel: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy of the images at these places of a kernel's matrix."""
    within = 0.0
    for places in (one, other):
        own = kernel[np.ix_(places, places)]
        within += (own.sum() - np.trace(own)) / (len(places) * (len(places) - 1))
    return float(within - 2 * kernel[np.ix_(one, other)].mean())


def neighbourhoods(real: np.ndarray, made: np.ndarray) -> dict[str, Interval]:
    """By the ``NEAREST`` neighbours in features N×D of real images and M×D of made ones, shares (0 to 1) with Wilson's
    intervals: ``precision``, of made images that lie within the neighbourhood of a real one; ``recall``, of real images
    within that of a made one (Kynkäänniemi et al. 2019); ``coverage``, of real images whose neighbourhood has a made
    one in it (Naeem et al. 2020). Two halves of one large set have precision and recall near 1, and coverage of 0.97.

    Raises:
        ValueError: a set has ``NEAREST`` images or fewer.
    """
    if min(len(real), len(made)) <= NEAREST:
        raise ValueError(f"neighbourhoods: {len(real)} and {len(made)} images; give more than {NEAREST} of each")
    real, made = real.astype(np.float64), made.astype(np.float64)
    apart = cdist(real, made)
    of_real, of_made = _radii(real), _radii(made)
    return {
        "precision": share((apart <= of_real[:, None]).any(0)),
        "recall": share((apart <= of_made[None]).any(1)),
        "coverage": share(apart.min(1) <= of_real),
    }


def _radii(features: np.ndarray) -> np.ndarray:
    """How far the ``NEAREST``-th other image of N×D is from each."""
    return np.sort(cdist(features, features), axis=1)[:, NEAREST]
