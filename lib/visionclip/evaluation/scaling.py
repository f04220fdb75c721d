"""The law by which an error falls with the number of training images, and what a doubling is worth.

error = floor + coefficient · images^-exponent (Hestness et al., arXiv 1712.00409; with its irreducible part), fitted to
log-odds, where the spread over seeds is alike at all sizes and no limit leaves 0 to 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from visionclip.evaluation.intervals import CONFIDENCE, Interval

LEAST = 1e-4  # error, as AUC of few images can be 1
STEEPEST = 2.0  # exponent
SIZES = 4  # of different number of images, as the law has three parameters


@dataclass(frozen=True)
class Law:
    """error = ``floor`` + ``coefficient`` · images^-``exponent``, 0 to 1."""

    floor: float
    coefficient: float
    exponent: float

    def auc(self, images: float | np.ndarray) -> np.ndarray:
        """The AUC (0 to 1) at so many images."""
        return 1 - _error(np.array([self.floor, self.coefficient, self.exponent]), np.asarray(images, float))

    def doubling(self, images: float) -> float:
        """By how much AUC rises from so many images to twice as many."""
        return float(self.auc(2 * images) - self.auc(images))


def logit(aucs: Sequence[float] | np.ndarray) -> np.ndarray:
    """The log-odds of AUCs (0 to 1), of which those at the ends are taken inside by ``LEAST``."""
    return special.logit(np.clip(aucs, LEAST, 1 - LEAST))


def over_sizes(aucs: Mapping[int, Sequence[float]]) -> dict[int, Interval]:
    """The mean of each size's AUCs on log-odds with its t-interval, 0 to 1, from the spread over seeds pooled over all
    sizes: two seeds alone would have one degree of freedom. One seed has no limits."""
    values = {size: logit(own) for size, own in aucs.items()}
    freedom = sum(len(own) - 1 for own in values.values())
    squares = sum(float(np.square(own - own.mean()).sum()) for own in values.values())
    if not freedom or squares < 1e-18:
        return {size: Interval(float(special.expit(own.mean()))) for size, own in values.items()}
    spread = stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * np.sqrt(squares / freedom)
    ends = {size: own.mean() + spread / np.sqrt(len(own)) * np.array([0, -1, 1]) for size, own in values.items()}
    return {size: Interval(*special.expit(three).tolist()) for size, three in ends.items()}


def fit(aucs: Mapping[int, Sequence[float]]) -> Law | None:
    """The law through the AUCs of each size's seeds, by least squares of log-odds; None below ``SIZES`` sizes."""
    if len(aucs) < SIZES:
        return None
    means = {size: float(logit(own).mean()) for size, own in aucs.items()}
    return _fit(
        np.array(list(means), float), np.array(list(means.values())), np.array([len(own) for own in aucs.values()])
    )


def resampled(aucs: Mapping[int, Sequence[float]], rng: np.random.Generator, resamples: int) -> list[Law]:
    """The laws of a bootstrap over seeds: deviations from the mean of their size, on log-odds, are drawn anew of those
    of all sizes, and widened by √(k / (k - 1)) as k seeds lie nearer to their own mean than to the truth (Davison &
    Hinkley 1997, chapter 6). Empty for one seed a size or fewer than ``SIZES`` sizes."""
    own = {size: logit(values) for size, values in aucs.items()}
    several = [values for values in own.values() if len(values) > 1]
    if len(own) < SIZES or not several:
        return []
    residuals = np.concatenate([(one - one.mean()) * np.sqrt(len(one) / (len(one) - 1)) for one in several])
    sizes, counts = np.array(list(own), float), np.array([len(values) for values in own.values()])
    means = np.array([values.mean() for values in own.values()])
    drawn = [[rng.choice(residuals, count).mean() for count in counts] for _ in range(resamples)]
    start = _start(_fit(sizes, means, counts), sizes)
    return [_fit(sizes, means + np.array(deviations), counts, [start]) for deviations in drawn]


def _error(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    floor, coefficient, exponent = values
    return np.clip(floor + coefficient * sizes**-exponent, LEAST, 1 - LEAST)


def _start(law: Law, sizes: np.ndarray) -> list[float]:
    """A law as ``_fit`` is started, within its limits."""
    above = law.coefficient * sizes.min() ** -law.exponent
    return np.clip([law.floor, above, law.exponent], 1e-3, [0.999, 0.999, STEEPEST - 1e-3]).tolist()


def _fit(
    sizes: np.ndarray, means: np.ndarray, counts: np.ndarray, starts: Sequence[Sequence[float]] | None = None
) -> Law:
    """Least squares from several ``starts``; what the smallest size has above the floor takes the coefficient's place,
    which would trade with the exponent."""
    smallest, weights = sizes.min(), np.sqrt(counts)
    highest = float(special.expit(-means).max())

    def of(given: np.ndarray) -> np.ndarray:
        floor, above, exponent = given
        return np.array([floor, above * smallest**exponent, exponent])

    def residuals(given: np.ndarray) -> np.ndarray:
        return weights * (special.logit(1 - _error(of(given), sizes)) - means)

    limits = ([0.0, 0.0, 0.0], [1.0, 1.0, STEEPEST])
    starts = starts or [
        [share * highest, (1 - share) * highest, exponent] for share in (0.1, 0.8) for exponent in (0.1, 0.6)
    ]
    fits = [optimize.least_squares(residuals, start, bounds=limits) for start in starts]
    floor, coefficient, exponent = of(min(fits, key=lambda one: one.cost).x).tolist()
    return Law(floor, coefficient, exponent)
