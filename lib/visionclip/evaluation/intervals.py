"""The one shape of a score with its interval, where intervals come from, and tests of differences.

Intervals are of 95 % and hold their estimate. What can't be had, such as the AUC of one class alone, is an ``Interval``
without a value, and an interval that would say nothing has no limits; only what can't be meant raises. A bootstrap
can't vary what all images of a class agree in, and is too narrow for few of them (docs/decisions.md): a share has
Wilson's interval, AUC has Newcombe's, and only what has no such formula is resampled.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize, stats

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

    @classmethod
    def within(cls, value: float, drawn: np.ndarray) -> "Interval":
        """A score with the percentiles of what was ``drawn`` of it, R values, widened to hold it; NaN is undefined."""
        if not np.isfinite(value):
            return cls(None)
        drawn = drawn[np.isfinite(drawn)]
        ends = np.percentile(drawn, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)]).tolist() if drawn.size else (0, 0)
        return _between(value, *ends)

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
    """The scores that ``measure`` gives, with percentile intervals of a bootstrap (Efron & Tibshirani 1993), which are
    widened to hold the score where it is biased.

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
        scored[name] = Interval.within(float(value), np.concatenate([block[name] for block in blocks]))
    return scored


def _between(value: float, low: float, high: float) -> Interval:
    """A value within its limits, which are left out where they are one, within rounding: they would claim certainty."""
    return Interval(value, min(low, value), max(high, value)) if high - low > 1e-9 else Interval(value)


def _resampled(strata: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of N is drawn, float64 resamples×N: with replacement, within its stratum."""
    weights = np.empty((resamples, len(strata)))
    rows = np.arange(resamples)[:, None]
    for label in np.unique(strata):
        members = np.flatnonzero(strata == label)
        cells = rows * members.size + rng.integers(members.size, size=(resamples, members.size))
        weights[:, members] = np.bincount(cells.ravel(), minlength=cells.size).reshape(cells.shape)
    return weights


def design_effect(deviations: np.ndarray, groups: Sequence | np.ndarray | None = None) -> float:
    """By how much the variance of a sum of N ``deviations`` from their mean grows as images of a group go together
    (Kish, Survey Sampling 1965): from 1 to what images that are all alike in each group have.

    That largest value also stands where nothing deviates, and so nothing says how alike they are. N divided by it is
    the effective number of images (Korn & Graubard, Survey Methodology 1998).
    """
    members = np.arange(len(deviations)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    sizes, sums = np.bincount(members), np.bincount(members, deviations)
    largest, alone = float(sizes @ sizes) / len(deviations), float(deviations @ deviations)
    return min(max(float(sums @ sums) / alone, 1.0), largest) if alone > 1e-18 else largest


def share(successes: np.ndarray, groups: Sequence | np.ndarray | None = None) -> Interval:
    """The share of N images (bool) with Wilson's interval (Journal of the American Statistical Association 1927), of as
    many images as they are worth by the ``design_effect`` of their groups; of no images there is none."""
    if not len(successes):
        return Interval(None)
    value = float(np.mean(successes))
    count = len(successes) / design_effect(successes - value, groups)
    z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    centre = (value + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * float(np.sqrt(value * (1 - value) / count + z * z / (4 * count**2)))
    return Interval(value, max(min(centre - half, value), 0.0), min(max(centre + half, value), 1.0))  # but for rounding


def difference(one: Interval, other: Interval) -> Interval:
    """``one`` minus ``other``, of scores on different images, with limits from theirs (Zou & Donner, Statistics in
    Medicine 2008: the squares of their arms add up); without limits where either has none."""
    if one.value is None or other.value is None:
        return Interval(None)
    value = one.value - other.value
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return Interval(value)
    below = np.hypot(one.value - one.low, other.high - other.value)
    above = np.hypot(one.high - one.value, other.value - other.low)
    return Interval(value, float(value - below), float(value + above))


def over_seeds(values: Sequence[float | None] | np.ndarray) -> Interval:
    """Mean of the scores of R repeated runs with the t-interval of that mean.

    It is of other seeds on the same images: what other images would change isn't in it. One run has no limits, nor have
    runs that all say the same; where a score is undefined (None) there is no mean.
    """
    runs = np.array(values, float)
    if not runs.size or not np.isfinite(runs).all():
        return Interval(None)
    mean = float(runs.mean())
    if runs.size < 2:
        return Interval(mean)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, runs.size - 1) * stats.sem(runs))
    return _between(mean, mean - half, mean + half)


def score_over_seeds(values: Sequence[float | None] | np.ndarray) -> Interval:
    """As ``over_seeds``, of scores from 0 to 1: beyond these no limit lies."""
    whole = over_seeds(values)
    limits = (None if end is None else min(max(end, 0.0), 1.0) for end in (whole.low, whole.high))
    return Interval(whole.value, *limits)


def paired(values: np.ndarray, reference: np.ndarray) -> Comparison:
    """The mean difference of two scores of the same R runs, with its t-interval and the p-value of a paired t-test.

    One run is untested, and so are runs that all differ by as much: of so few a t-test would call that certain.
    """
    differences = values - reference
    varies = np.ptp(differences) >= 1e-9 if len(values) else False
    p = float(stats.ttest_rel(values, reference).pvalue) if varies else None
    return Comparison(over_seeds(differences), 1.0 if p is None and len(values) > 1 and not differences.any() else p)


def detectable(differences: np.ndarray, power: float = 0.8) -> float | None:
    """The least true mean of R paired differences that a two-sided t-test of R runs finds with this ``power`` (0 to 1):
    (t_{1-α/2} + t_power) · s / √R, the t of R - 1 degrees of freedom (Bloom, Evaluation Review 1995). A smaller one
    could well hide. None for one run, or where nothing varies."""
    values = np.asarray(differences, float)
    if values.size < 2 or np.ptp(values) < 1e-9:
        return None
    freedom = values.size - 1
    return float((stats.t.ppf(1 - SIGNIFICANT / 2, freedom) + stats.t.ppf(power, freedom)) * stats.sem(values))


def delong(
    positive: np.ndarray, first: np.ndarray, second: np.ndarray, groups: Sequence | np.ndarray | None = None
) -> Comparison:
    """The AUC of ``first`` minus that of ``second``, two rankings of the same N images.

    ``positive`` is bool N; the rankings are N finite scores each, higher for likelier positive. Undefined where there
    are fewer than two positives or negatives (DeLong et al., Biometrics 1988); untested, and without limits, where the
    rankings differ by as much for every image of a class, as one without an error from one of errors alone. The
    variance has the ``design_effect`` of ``groups``, and the degrees of freedom of Brunner & Munzel (Biometrical
    Journal 2000) in the place of infinitely many, as a class may have few images.

    It asks whether two rankings that are there differ on other images. Of how they came about, as by a training that
    another seed would have ended elsewhere, it says nothing.

    Raises:
        ValueError: positives, rankings or groups differ in length, or a score isn't finite.
    """
    positive, *rankings = np.asarray(positive, bool), np.asarray(first, float), np.asarray(second, float)
    if any(one.shape != positive.shape or not np.isfinite(one).all() for one in rankings):
        raise ValueError(f"delong: give one finite score in each ranking for each of the {positive.size} images")
    if min(positive.sum(), (~positive).sum()) < 2:
        return Comparison(Interval(None))
    aucs, influences = zip(*(_influence(positive, one) for one in rankings), strict=True)
    difference, influence = aucs[0] - aucs[1], influences[0] - influences[1]
    parts = [part @ part * part.size / (part.size - 1) for part in (influence[positive], influence[~positive])]
    if sum(parts) < 1e-18:
        return Comparison(Interval(difference)) if difference else Comparison(Interval(0.0, 0.0, 0.0), 1.0)
    freedom = sum(parts) ** 2 / sum(part**2 / (count - 1) for part, count in zip(parts, _counts(positive), strict=True))
    spread = float(np.sqrt(sum(parts) * design_effect(influence, groups)))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * spread
    p = float(2 * stats.t.sf(abs(difference) / spread, freedom))
    return Comparison(Interval(difference, difference - half, difference + half), p)


def mean_difference(
    positives: np.ndarray, first: np.ndarray, second: np.ndarray, groups: Sequence | np.ndarray | None = None
) -> Interval:
    """The mean over K of the AUC of ``first`` minus that of ``second``, rankings K×N of the same N images, as those of
    several tasks, before and after something was done to the images.

    ``positives`` are bool K×N; undefined where one of them has fewer than two positives or negatives. The limits are
    normal ones, of DeLong's variance (Biometrics 1988) of the mean with the ``design_effect`` of ``groups``.
    """
    positives = np.asarray(positives, bool)
    if not len(positives) or any(min(_counts(positive)) < 2 for positive in positives):
        return Interval(None)
    differences, influence = [], np.zeros(positives.shape[1])
    for positive, one, other in zip(positives, first, second, strict=True):
        (auc, pull), (other_auc, other_pull) = _influence(positive, one), _influence(positive, other)
        differences.append(auc - other_auc)
        influence += (pull - other_pull) / len(positives)
    value = float(np.mean(differences))
    half = float(
        stats.norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt(influence @ influence * design_effect(influence, groups))
    )
    return _between(value, value - half, value + half)


def mean_auc(positives: np.ndarray, rankings: np.ndarray, groups: Sequence | np.ndarray | None = None) -> Interval:
    """The mean AUC of K rankings of the same N images, of one class against the rest each, say.

    ``positives`` are bool K×N, ``rankings`` finite scores K×N, higher for likelier positive; undefined where one of
    them lacks positives or negatives. Each AUC has the limits of Newcombe (Statistics in Medicine 2006, his method 5),
    which hold for few images and without an error; its counts of images are divided by the ``design_effect`` of
    ``groups``, or by how much more DeLong's variance is than Hanley and McNeil's, if that is more: scores of odd shape
    vary more than their model has it. The limits of the mean follow from theirs and from how the AUCs go together over
    the images (Zou & Donner, Statistics in Medicine 2008).
    """
    positives, rankings = np.asarray(positives, bool), np.asarray(rankings, float)
    if not all(min(_counts(positive)) for positive in positives):
        return Interval(None)
    aucs, influences = zip(*(_influence(*one) for one in zip(positives, rankings, strict=True)), strict=True)
    members = np.arange(positives.shape[1]) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums = np.array([np.bincount(members, influence) for influence in influences])
    variance, limits = np.square(sums).sum(1), []
    for positive, auc, influence, own in zip(positives, aucs, influences, variance, strict=True):
        expected = _auc_variance(auc, *_counts(positive))
        effect = max(design_effect(influence, groups), own / expected if expected else 1.0)
        counts = [count / effect for count in _counts(positive)]
        limits.append((auc - _least_auc(auc, *counts), 1 - auc - _least_auc(1 - auc, *counts)))
    scale = np.sqrt(np.outer(variance, variance))
    alike = np.divide(sums @ sums.T, scale, out=np.ones_like(scale), where=scale > 1e-18)  # 1 where nothing tells
    below, above = (float(np.sqrt(max(half @ alike @ half, 0))) / len(aucs) for half in np.transpose(limits))
    value = float(np.mean(aucs))
    return _between(value, max(value - below, 0.0), min(value + above, 1.0))


def _counts(positive: np.ndarray) -> tuple[int, int]:
    return int(positive.sum()), int((~positive).sum())


def _least_auc(auc: float, positives: float, negatives: float) -> float:
    """The least AUC from which a sample's is no further than chance takes it, by the variance there."""
    if auc <= 0:
        return 0.0
    z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))

    def beyond(true: float) -> float:
        return (auc - true) ** 2 - z * z * _auc_variance(true, positives, negatives)

    return float(optimize.brentq(beyond, 0, auc * (1 - 1e-9)))  # not up to 1, where there is no variance


def _auc_variance(auc: float, positives: float, negatives: float) -> float:
    """Variance of a sample's AUC (Hanley & McNeil, Radiology 1982), symmetric in both classes as Newcombe has it."""
    others = (positives + negatives) / 2 - 1
    terms = 1 + others * (1 - auc) / (2 - auc) + others * auc / (1 + auc)
    return auc * (1 - auc) * terms / (positives * negatives)


def _influence(positive: np.ndarray, ranking: np.ndarray) -> tuple[float, np.ndarray]:
    """AUC of a ranking of N images, and by how much each image pulls at it, N numbers of sum 0."""
    of_positives, of_negatives = _placements(positive, ranking)
    auc, pull = float(of_positives.mean()), np.empty(len(ranking))
    pull[positive] = (of_positives - auc) / of_positives.size
    pull[~positive] = (of_negatives - auc) / of_negatives.size
    return auc, pull


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
