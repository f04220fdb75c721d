"""The one shape of a score with its interval, where intervals come from, and tests of differences.

Intervals are of 95 %. What can't be had, such as the AUC of one class alone, is an ``Interval`` without a value, and
an interval that would say nothing has no limits; only what can't be meant raises.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
SIGNIFICANT = 0.05  # p below which a difference is more than chance
BLOCK = 4_000_000  # image weights held at once: 32 MB


@dataclass(frozen=True)
class Interval:
    """A score with its limits: None where there are none, and all None where the score is undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, given: "Interval | Mapping | None") -> "Interval":
        """An interval, or what JSON made of it; of None, the undefined one."""
        if isinstance(given, Interval):
            return given
        return cls(*((given or {}).get(name) for name in ("value", "low", "high")))

    def __format__(self, spec: str) -> str:
        """``0.812 [0.700, 0.900]``, ``0.812`` without limits, ``–`` without a value; ``spec`` is of each number."""
        if self.value is None:
            return "–"
        value, *limits = (format(x, spec or ".3f") for x in (self.value, self.low, self.high) if x is not None)
        return f"{value} [{', '.join(limits)}]" if limits else value

    def __str__(self) -> str:
        return format(self)


@dataclass(frozen=True)
class Comparison:
    """A difference with its two-sided p-value, and the same corrected for how many were tested; None if untested."""

    difference: Interval
    p: float | None = None
    adjusted_p: float | None = None

    @property
    def star(self) -> str:
        """``*`` where the corrected p-value is below ``SIGNIFICANT``, for tables."""
        return "*" if self.adjusted_p is not None and self.adjusted_p < SIGNIFICANT else ""


def bootstrap(
    measure: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    strata: np.ndarray,
    rng: np.random.Generator,
    resamples: int = 1000,
    groups: Sequence[str] | None = None,
) -> dict[str, Interval]:
    """The scores that ``measure`` gives, with percentile intervals of a bootstrap (Efron & Tibshirani 1993).

    ``measure`` turns weights of N images, float64 R×N, into R values of each score, NaN where undefined. Images are
    resampled within each of ``strata`` (int N, their class): every resample keeps the class counts, and what depends on
    the mix of classes is conditional on it. A stratum of one image can't vary, so the intervals say nothing of its
    uncertainty. Where ``groups`` (both eyes of a patient, say) hold several images, whole groups are resampled, as
    their images aren't independent. A resample in which a score is undefined doesn't count for it; where all that
    count say the same (one group, one image a class, not one error), there are no limits.

    Raises:
        ValueError: ``resamples`` is below 1.
    """
    if resamples < 1:
        raise ValueError(f"resamples: {resamples} given; at least 1 is needed")
    count = len(strata)
    members = np.unique(np.arange(count) if groups is None else np.asarray(groups), return_inverse=True)[1]
    if (units := members.max() + 1) < count:
        strata = np.zeros(units, int)
    else:
        members = np.arange(count)
    step = max(1, BLOCK // count)
    blocks = []
    for start in range(0, resamples, step):
        weights = _resampled(strata, min(step, resamples - start), rng)[:, members]
        with np.errstate(divide="ignore", invalid="ignore"):  # a class that no group of the resample holds
            blocks.append(measure(weights))
    scored = {}
    for name, (value,) in measure(np.ones((1, count))).items():
        drawn = np.concatenate([block[name] for block in blocks])
        drawn = drawn[np.isfinite(drawn)]
        ends = np.percentile(drawn, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)]).tolist() if drawn.size else (0, 0)
        scored[name] = _between(float(value), *ends) if np.isfinite(value) else Interval(None)
    return scored


def _between(value: float, low: float, high: float) -> Interval:
    """A value with its limits, which are left out where they are one, within rounding: they would claim certainty."""
    return Interval(value, low, high) if high - low > 1e-9 else Interval(value)


def _resampled(strata: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of N is drawn, float64 resamples×N: with replacement, within its stratum."""
    weights = np.empty((resamples, len(strata)))
    rows = np.arange(resamples)[:, None]
    for label in np.unique(strata):
        members = np.flatnonzero(strata == label)
        cells = rows * members.size + rng.integers(members.size, size=(resamples, members.size))
        weights[:, members] = np.bincount(cells.ravel(), minlength=cells.size).reshape(cells.shape)
    return weights


def over_seeds(values: Sequence[float | None] | np.ndarray) -> Interval:
    """Mean of the scores of R repeated runs with the t-interval of that mean.

    One run has no limits, nor have runs that all say the same; where a score is undefined (None) there is no mean.
    """
    runs = np.array(values, float)
    if not runs.size or not np.isfinite(runs).all():
        return Interval(None)
    mean = float(runs.mean())
    if runs.size < 2:
        return Interval(mean)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, runs.size - 1) * stats.sem(runs))
    return _between(mean, mean - half, mean + half)


def paired(values: np.ndarray, reference: np.ndarray) -> Comparison:
    """The mean difference of two scores of the same R runs, with its t-interval and the p-value of a paired t-test; one
    run is untested."""
    p = float(np.nan_to_num(stats.ttest_rel(values, reference).pvalue, nan=1.0)) if len(values) > 1 else None
    return Comparison(over_seeds(values - reference), p)


def delong(positive: np.ndarray, first: np.ndarray, second: np.ndarray) -> Comparison:
    """The AUC of ``first`` minus that of ``second``, two rankings of the same N images.

    ``positive`` is bool N; the rankings are N finite scores each, higher for likelier positive. Undefined where there
    are fewer than two positives or negatives (DeLong et al., Biometrics 1988); untested, and without limits, where the
    rankings differ by as much for every image of a class, as one without an error from one of errors alone.

    Raises:
        ValueError: the three differ in length, or a score isn't finite.
    """
    positive, *rankings = np.asarray(positive, bool), np.asarray(first, float), np.asarray(second, float)
    if any(one.shape != positive.shape or not np.isfinite(one).all() for one in rankings):
        raise ValueError(f"delong: give one finite score in each ranking for each of the {positive.size} images")
    if min(positive.sum(), (~positive).sum()) < 2:
        return Comparison(Interval(None))
    placed = [_placements(positive, one) for one in rankings]
    contrast = [one - other for one, other in zip(*placed, strict=True)]
    difference = float(contrast[0].mean())
    spread = float(np.sqrt(sum(part.var(ddof=1) / part.size for part in contrast)))
    half = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * spread
    if difference and not spread:
        return Comparison(Interval(difference))
    p = float(2 * stats.norm.sf(abs(difference) / spread)) if spread else 1.0
    return Comparison(Interval(difference, difference - half, difference + half), p)


def auc_interval(positive: np.ndarray, ranking: np.ndarray) -> Interval:
    """AUC of one ranking of N images with DeLong's interval, within 0 and 1; undefined and refused as ``delong``.

    A ranking without an error has no limits: DeLong's variance is 0 then, however few the images.
    """
    constant = np.zeros(len(ranking))  # its AUC is 0.5, and has no variance
    above = delong(positive, ranking, constant).difference
    ends = [min(max(end + 0.5, 0.0), 1.0) for end in (above.value, above.low, above.high) if end is not None]
    return _between(*ends) if len(ends) == 3 else Interval(*ends) if ends else above


def _placements(positive: np.ndarray, ranking: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each positive the share of negatives below it, for each negative that of positives above; ties count half."""
    ranks = stats.rankdata(ranking)
    above, below = ranking[positive], ranking[~positive]
    of_positives = (ranks[positive] - stats.rankdata(above)) / below.size
    of_negatives = 1 - (ranks[~positive] - stats.rankdata(below)) / above.size
    return of_positives, of_negatives


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm, Scandinavian Journal of Statistics 1979), in the order given."""
    p = np.asarray(p_values, float)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)).clip(max=1)
    return adjusted.tolist()


def adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same with ``adjusted_p``: Holm's correction over those that have a p-value."""
    corrected = iter(holm([one.p for one in comparisons if one.p is not None]))
    return [one if one.p is None else replace(one, adjusted_p=next(corrected)) for one in comparisons]
