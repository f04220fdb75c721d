"""What a set of logits is worth: classification scores with bootstrap intervals, and the fits of the size curve.

Scores are named as the field names them: ``accuracy``; ``aca``, the mean of the recalls of the classes (FLAIR's metric,
also called balanced accuracy); ``macro_f1``; ``auc``, one against rest, averaged over the classes; ``kappa``, quadratic
weighted (Cohen, Psychological Bulletin 1968); ``average_precision`` and ``sensitivity`` (at a specificity of 90 %), one
against rest as ``auc``; ``brier``, the squared distance of the softmax from the truth, 0 to 2 (Brier 1950); ``ece``,
the expected calibration error over bins of equal mass (Nixon et al., arXiv 1904.01685). Averages are over the classes
present among the targets and give each the same weight; a prediction may be any class. A score that is undefined is
None, never NaN.
"""

from collections.abc import Sequence

import numpy as np
from scipy import optimize, special, stats

RANKED = ("auc", "average_precision", "sensitivity")  # of one class against the rest
SCORES = ("auc", "aca", "accuracy", "macro_f1", "kappa", "average_precision", "sensitivity", "brier", "ece")
SPECIFICITY = 0.9
BINS = 15
CONFIDENCE = 0.95
BLOCK = 4_000_000  # image weights held at once: 32 MB

Interval = dict[str, float | None]


def scores(targets: np.ndarray, logits: np.ndarray, ordinal: bool) -> dict[str, float | None]:
    """The ``SCORES`` of integer targets N in [0, K) and logits N×K (any scale, higher is likelier).

    The predicted class is the one with the highest logit, the first of equals. ``RANKED`` scores rank images by their
    log-odds of the class against the rest under a softmax (for K = 2 the difference of the logits); equal ones count
    half. They and ``kappa`` are None where fewer than two classes are present, ``kappa`` also where not ``ordinal``.

    Raises:
        ValueError: shapes don't match, there is no image, a target is no class, or a logit isn't finite.
    """
    targets, logits = _checked(targets, logits)
    measured = _measure(targets, logits, ordinal, np.ones((1, len(targets))))
    return {name: _number(values[0]) for name, values in measured.items()}


def with_intervals(
    targets: np.ndarray,
    logits: np.ndarray,
    ordinal: bool,
    rng: np.random.Generator,
    resamples: int = 1000,
    groups: Sequence[str] | None = None,
) -> dict:
    """The ``scores`` with 95 % intervals, beside what trivial answers reach.

    Intervals are percentiles of a stratified bootstrap (Efron & Tibshirani 1993): images are resampled within each
    class, so every resample keeps the class counts; ``kappa`` and ``accuracy`` are thereby conditional on the mix of
    classes. A class of one image can't vary, so the intervals say nothing of its uncertainty. Where ``groups`` (both
    eyes of a patient, say) hold several images, whole groups are resampled instead, as their images aren't independent;
    a resample that lacks a class doesn't count for the scores which need it.

    Returns:
        ``n`` images in ``groups`` groups; for each of ``SCORES`` a mapping of ``value``, ``low`` and ``high``, all None
        where undefined (``kappa`` as a whole None where not ``ordinal``); ``majority_accuracy``, of always answering
        the commonest class; ``chance_aca``, 1/K.

    Raises:
        ValueError: as ``scores``, or ``resamples`` is below 1.
    """
    targets, logits = _checked(targets, logits)
    if resamples < 1:
        raise ValueError(f"resamples: {resamples} given; at least 1 is needed")
    values = scores(targets, logits, ordinal)
    step = max(1, BLOCK // len(targets))
    members = np.unique(np.arange(len(targets)) if groups is None else np.asarray(groups), return_inverse=True)[1]
    clustered = members.max() + 1 < len(targets)
    blocks = []
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        weights = _resampled_groups(members, count, rng) if clustered else _resampled(targets, count, rng)
        with np.errstate(divide="ignore", invalid="ignore"):  # a class that no group of the resample holds
            blocks.append(_measure(targets, logits, ordinal, weights))
    drawn = {name: np.concatenate([block[name] for block in blocks]) for name in SCORES}
    return {
        "n": len(targets),
        "groups": int(members.max()) + 1,
        **{name: _interval(values[name], drawn[name]) for name in SCORES if name != "kappa"},
        "kappa": _interval(values["kappa"], drawn["kappa"]) if ordinal else None,
        "majority_accuracy": float(np.bincount(targets).max() / len(targets)),
        "chance_aca": 1 / logits.shape[1],
    }


def summary_interval(values: Sequence[float | None]) -> Interval:
    """Mean of repeated runs (seeds) as ``value`` with the 95 % t-interval of that mean as ``low`` and ``high``.

    The interval of fewer than two values is None; so is everything where a value is undefined (None or NaN).
    """
    runs = np.array(values, float)
    if not runs.size or not np.isfinite(runs).all():
        return {"value": None, "low": None, "high": None}
    mean = float(runs.mean())
    if runs.size < 2:
        return {"value": mean, "low": None, "high": None}
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, runs.size - 1) * stats.sem(runs))
    return {"value": mean, "low": mean - half, "high": mean + half}


def power_law(sizes: Sequence[float], errors: Sequence[float]) -> dict[str, float | int] | None:
    """Fit error = coefficient · size^-exponent by least squares of log error on log size.

    The form is that of scaling laws (Hestness et al., arXiv 1712.00409), without their irreducible error, which a
    handful of points can't identify. An error of zero or undefined has no logarithm: its point is left out.

    Returns:
        ``exponent`` with its 95 % t-interval ``low`` and ``high``, ``coefficient``, ``r_squared`` in log space (0 to 1)
        and ``points``, how many were fitted; None for fewer than three points of different size.

    Raises:
        ValueError: the two differ in length, or a size isn't positive.
    """
    sizes, errors = np.array(sizes, float), np.array(errors, float)
    if sizes.shape != errors.shape or not (sizes > 0).all():
        raise ValueError(
            f"power law: {sizes.size} sizes and {errors.size} errors; give one error for each size above 0"
        )
    usable = np.isfinite(errors) & (errors > 0)
    sizes, errors = sizes[usable], errors[usable]
    if np.unique(sizes).size < 3:
        return None
    line = stats.linregress(np.log(sizes), np.log(errors))
    half = stats.t.ppf((1 + CONFIDENCE) / 2, sizes.size - 2) * line.stderr
    return {
        "exponent": float(-line.slope),
        "low": float(-line.slope - half),
        "high": float(-line.slope + half),
        "coefficient": float(np.exp(line.intercept)),
        "r_squared": float(line.rvalue**2),
        "points": int(sizes.size),
    }


def temperature(targets: np.ndarray, logits: np.ndarray) -> float:
    """The number that logits N×K are to be divided by so that their softmax fits the targets best (Guo et al. 2017).

    Least negative log likelihood, between 1/100 and 100.
    """
    targets, logits = _checked(targets, logits)

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float(np.mean(special.logsumexp(scaled, axis=1) - scaled[np.arange(len(targets)), targets]))

    return float(np.exp(optimize.minimize_scalar(loss, bounds=np.log((0.01, 100)), method="bounded").x))


def delong(positive: np.ndarray, first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Compare the AUCs of two rankings of the same N images (DeLong et al., Biometrics 1988).

    ``positive`` is bool N; the rankings are N scores each, higher for likelier positive.

    Returns:
        ``difference`` first minus second with its 95 % interval ``low`` and ``high``, and the two-sided ``p``.

    Raises:
        ValueError: there are fewer than two positives or negatives.
    """
    positive = np.asarray(positive, bool)
    if min(positive.sum(), (~positive).sum()) < 2:
        raise ValueError("delong: at least two positives and two negatives are needed")
    placed = [_placements(positive, np.asarray(one, float)) for one in (first, second)]
    contrast = [one - other for one, other in zip(*placed, strict=True)]
    difference = float(contrast[0].mean())
    spread = float(np.sqrt(sum(part.var(ddof=1) / part.size for part in contrast)))
    half = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * spread
    p = float(2 * stats.norm.sf(abs(difference) / spread)) if spread else float(difference == 0)
    return {"difference": difference, "low": difference - half, "high": difference + half, "p": p}


def auc_interval(positive: np.ndarray, ranking: np.ndarray) -> Interval:
    """AUC of one ranking of N images with DeLong's 95 % interval, within 0 and 1; raises as ``delong``."""
    alone = delong(positive, ranking, np.zeros(len(ranking)))  # a constant ranking has 0.5 and no variance
    return {
        name: min(max(alone[of] + 0.5, 0.0), 1.0)
        for name, of in {"value": "difference", "low": "low", "high": "high"}.items()
    }


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


def _checked(targets: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    targets, logits = np.asarray(targets), np.asarray(logits, float)
    if targets.ndim != 1 or logits.ndim != 2 or len(targets) != len(logits) or not logits.size:
        raise ValueError(
            f"scores: targets {targets.shape} and logits {logits.shape}; N targets, N×K logits and N, K > 0 are needed"
        )
    classes = logits.shape[1]
    if not np.issubdtype(targets.dtype, np.integer) or targets.min() < 0 or targets.max() >= classes:
        raise ValueError(f"scores: targets must be integers from 0 to {classes - 1}; leave out rows of no class (-1)")
    if not np.isfinite(logits).all():
        raise ValueError("scores: a logit is NaN or infinite; the model that gave it has diverged")
    return targets.astype(int), logits


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _interval(value: float | None, drawn: np.ndarray) -> Interval:
    if value is None:
        return {"value": None, "low": None, "high": None}
    low, high = np.nanpercentile(drawn, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return {"value": value, "low": float(low), "high": float(high)}


def _resampled(targets: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each image is drawn, float64 resamples×N: with replacement, within its class."""
    weights = np.empty((resamples, len(targets)))
    rows = np.arange(resamples)[:, None]
    for label in np.unique(targets):
        members = np.flatnonzero(targets == label)
        cells = rows * members.size + rng.integers(members.size, size=(resamples, members.size))
        weights[:, members] = np.bincount(cells.ravel(), minlength=cells.size).reshape(cells.shape)
    return weights


def _resampled_groups(members: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each image is drawn, float64 resamples×N, when groups are; ``members`` number the images' groups."""
    count = int(members.max()) + 1
    cells = np.arange(resamples)[:, None] * count + rng.integers(count, size=(resamples, count))
    drawn = np.bincount(cells.ravel(), minlength=resamples * count).reshape(resamples, count)
    return drawn[:, members].astype(float)


def _measure(targets: np.ndarray, logits: np.ndarray, ordinal: bool, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Each of ``SCORES`` as R values, one for each row of image weights R×N; NaN where undefined."""
    classes = logits.shape[1]
    present = np.unique(targets)
    cells = np.eye(classes * classes)[targets * classes + logits.argmax(axis=1)]
    confusion = (weights @ cells).reshape(-1, classes, classes)  # R × target × prediction
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    of_target, of_prediction = confusion.sum(axis=2), confusion.sum(axis=1)
    undefined = np.full(len(weights), np.nan)
    several = present.size > 1
    ranked = np.mean([_ranked(logits, targets, label, weights) for label in present], axis=0) if several else None
    probabilities = special.softmax(logits, axis=1)
    distance = np.square(probabilities - np.eye(classes)[targets]).sum(axis=1)
    return {
        **{name: undefined if ranked is None else ranked[place] for place, name in enumerate(RANKED)},
        "brier": weights @ distance / weights.sum(axis=1),
        "ece": _calibration_error(probabilities, targets, weights),
        "aca": (hits[:, present] / of_target[:, present]).mean(axis=1),
        "accuracy": hits.sum(axis=1) / of_target.sum(axis=1),
        "macro_f1": (2 * hits[:, present] / (of_target + of_prediction)[:, present]).mean(axis=1),
        "kappa": _kappa(confusion) if ordinal and several else undefined,
    }


def _kappa(confusion: np.ndarray) -> np.ndarray:
    """Quadratic weighted kappa of each of R×K×K confusion counts that hold two or more target classes."""
    grades = np.arange(confusion.shape[1])
    penalty = np.square(grades[:, None] - grades)
    expected = (
        confusion.sum(axis=2)[:, :, None] * confusion.sum(axis=1)[:, None] / confusion.sum(axis=(1, 2))[:, None, None]
    )
    return 1 - (penalty * confusion).sum(axis=(1, 2)) / (penalty * expected).sum(axis=(1, 2))


def _calibration_error(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error for each row of image weights R×N, over ``BINS`` bins of equal mass of each row."""
    confidence = probabilities.max(axis=1)
    order = np.argsort(confidence, kind="stable")
    gap = (confidence - (probabilities.argmax(axis=1) == targets))[order]
    mass = weights[:, order]
    total = mass.sum(axis=1, keepdims=True)
    place = ((np.cumsum(mass, axis=1) - mass / 2) / total * BINS).astype(int)
    return sum(np.abs(((place == number) * mass) @ gap) for number in range(BINS)) / total[:, 0]


def _ranked(logits: np.ndarray, targets: np.ndarray, label: int, weights: np.ndarray) -> np.ndarray:
    """The ``RANKED`` scores of one class against the rest for each row of image weights R×N, 3×R.

    The area under the ROC curve is the share of (positive, negative) pairs in the right order, ties counting half (Mann
    & Whitney 1947); average precision is the sum of precisions weighted by the recall that each threshold adds.
    """
    rest = np.delete(logits, label, axis=1)
    odds = logits[:, label] - special.logsumexp(rest, axis=1)  # a softmax would saturate and tie what differs
    order = np.argsort(odds, kind="stable")
    ties = np.flatnonzero(np.diff(odds[order], prepend=-np.inf))  # where each run of equal odds starts
    sorted_weights, positive = weights[:, order], (targets == label)[order]
    positives = np.add.reduceat(sorted_weights * positive, ties, axis=1)
    negatives = np.add.reduceat(sorted_weights * ~positive, ties, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    all_positives, all_negatives = positives.sum(axis=1), negatives.sum(axis=1)
    hits, alarms = (np.cumsum(part[:, ::-1], axis=1) for part in (positives, negatives))  # from the likeliest on
    precision = hits / np.maximum(hits + alarms, 1e-12)
    allowed = alarms <= (1 - SPECIFICITY) * all_negatives[:, None] * (1 + 1e-9)
    return np.stack(
        (
            (positives * below).sum(axis=1) / (all_positives * all_negatives),
            (positives[:, ::-1] * precision).sum(axis=1) / all_positives,
            (hits * allowed).max(axis=1) / all_positives,
        )
    )
