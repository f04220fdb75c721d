"""What a set of logits is worth: classification scores with intervals, and the fits of the size curve.

Scores are named as the field names them: ``accuracy``; ``aca`` (ACA), the mean of the recalls of the classes (FLAIR's
metric, also called balanced accuracy); ``macro_f1``; ``auc`` (AUC), one against rest, averaged over the classes;
``kappa`` (QWK), quadratic weighted (Cohen, Psychological Bulletin 1968); ``average_precision`` and ``sensitivity`` (at
a specificity of 90 %), one against rest as ``auc``; ``brier``, the squared distance of the softmax from the truth, 0 to
2 (Brier 1950); ``ece`` (ECE), the calibration error over bins of equal mass (Nixon et al., arXiv 1904.01685).
Averages are over the classes present among the targets and give each the same weight; a prediction may be any class.
The ``ece`` of few images is noise for the most part, and above 0 however well a model is calibrated: its low limit is 0
where it is what a calibrated model would have.
"""

from collections.abc import Sequence

import numpy as np
from scipy import optimize, special, stats

from visionclip.evaluation.intervals import CONFIDENCE, Interval, bootstrap, design_effect, mean_auc, share

RANKED = ("auc", "average_precision", "sensitivity")  # of one class against the rest
SCORES = ("auc", "aca", "accuracy", "macro_f1", "kappa", "average_precision", "sensitivity", "brier", "ece")
SPECIFICITY = 0.9
BINS = 15
FEWEST = 10  # images of a class, for limits of what is resampled class by class
DRAWS = 4000  # from a posterior: what errs in its limits is a twentieth of its spread


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
    return {name: float(values[0]) if np.isfinite(values[0]) else None for name, values in measured.items()}


def scores_with_intervals(
    targets: np.ndarray,
    logits: np.ndarray,
    ordinal: bool,
    rng: np.random.Generator,
    resamples: int = 1000,
    groups: Sequence[str] | None = None,
) -> dict:
    """The ``scores`` as intervals, with what trivial predictions reach.

    All take ``groups`` into account where they hold several images. ``accuracy`` has the limits of a ``share``, ``auc``
    those of ``mean_auc``; ``aca``, ``macro_f1`` and ``kappa`` those of a posterior, given how many images each class
    has (``_confusion_intervals``); ``ece`` of a test (``_calibration_interval``). ``brier``, ``average_precision`` and
    ``sensitivity`` are resampled (``bootstrap``), the last two only where each class is of ``FEWEST`` groups: of fewer
    a bootstrap is far too narrow.

    Returns:
        ``n`` images in ``groups`` groups; for each of ``SCORES`` an ``Interval``; ``majority_accuracy``, of always
        predicting the commonest class; ``chance_aca``, 1/K.

    Raises:
        ValueError: as ``scores``, or ``resamples`` is below 1.
    """
    targets, logits = _checked(targets, logits)
    resampled = bootstrap(lambda weights: _of_images(targets, logits, weights), targets, rng, resamples, groups)
    members = np.arange(len(targets)) if groups is None else np.asarray(groups)
    if min(len(set(members[targets == label])) for label in set(targets)) < FEWEST:
        resampled |= {name: Interval(resampled[name].value) for name in RANKED}
    return {
        "n": len(targets),
        "groups": len(targets) if groups is None else len(set(groups)),
        **resampled,
        "auc": _auc_interval(targets, logits, groups),
        "ece": _calibration_interval(special.softmax(logits, axis=1), targets, rng, groups),
        **_confusion_intervals(targets, logits, ordinal, rng, groups),
        "accuracy": share(logits.argmax(axis=1) == targets, groups),
        "majority_accuracy": float(np.bincount(targets).max() / len(targets)),
        "chance_aca": 1 / logits.shape[1],
    }


def one_against_rest(targets: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each of the K classes present whether N images are of it, bool K×N, and their log-odds of it against the rest,
    float64 K×N: what ``auc`` is the mean over."""
    present = np.unique(targets)
    return present[:, None] == targets, np.stack([_ranking(logits, label) for label in present])


def temperature(targets: np.ndarray, logits: np.ndarray) -> float:
    """The number that logits N×K are to be divided by so that their softmax fits the targets best (Guo et al. 2017).

    Least negative log likelihood, between 1/100 and 100.
    """
    targets, logits = _checked(targets, logits)

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float(np.mean(special.logsumexp(scaled, axis=1) - scaled[np.arange(len(targets)), targets]))

    return float(np.exp(optimize.minimize_scalar(loss, bounds=np.log((0.01, 100)), method="bounded").x))


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


def _measure(targets: np.ndarray, logits: np.ndarray, ordinal: bool, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Each of ``SCORES`` as R values, one for each row of image weights R×N; NaN where undefined."""
    classes = logits.shape[1]
    cells = np.eye(classes * classes)[targets * classes + logits.argmax(axis=1)]
    return {
        **_of_images(targets, logits, weights),
        "ece": _calibration_error(special.softmax(logits, axis=1), targets, weights),
        **_of_confusion((weights @ cells).reshape(-1, classes, classes), np.unique(targets), ordinal),
    }


def _of_images(targets: np.ndarray, logits: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """The ``RANKED`` scores and ``brier``, as ``_measure``."""
    present = np.unique(targets)
    if present.size > 1:
        ranked = np.mean([_ranked(logits, targets, label, weights) for label in present], axis=0)
    else:
        ranked = np.full((len(RANKED), len(weights)), np.nan)
    distance = np.square(special.softmax(logits, axis=1) - np.eye(logits.shape[1])[targets]).sum(axis=1)
    return {**dict(zip(RANKED, ranked, strict=True)), "brier": weights @ distance / weights.sum(axis=1)}


def _of_confusion(confusion: np.ndarray, present: np.ndarray, ordinal: bool) -> dict[str, np.ndarray]:
    """The scores of R confusion matrices R×K×K, target × prediction; ``present`` are the classes among the targets."""
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    of_target, of_prediction = confusion.sum(axis=2), confusion.sum(axis=1)
    return {
        "aca": (hits[:, present] / of_target[:, present]).mean(axis=1),
        "accuracy": hits.sum(axis=1) / of_target.sum(axis=1),
        "macro_f1": (2 * hits[:, present] / (of_target + of_prediction)[:, present]).mean(axis=1),
        "kappa": _kappa(confusion) if ordinal and present.size > 1 else np.full(len(confusion), np.nan),
    }


def _auc_interval(targets: np.ndarray, logits: np.ndarray, groups: Sequence[str] | None) -> Interval:
    positives, rankings = one_against_rest(targets, logits)
    return mean_auc(positives, rankings, groups) if len(positives) > 1 else Interval(None)


def _confusion_intervals(
    targets: np.ndarray,
    logits: np.ndarray,
    ordinal: bool,
    rng: np.random.Generator,
    groups: Sequence[str] | None,
) -> dict[str, Interval]:
    """The scores of the confusion matrix with limits from independent posteriors of what each class is predicted as.

    The prior of a class is Dirichlet's, one half for the right answer and one half for all wrong ones together, so that
    its recall has the posterior of Jeffreys, Beta(right + ½, wrong + ½) (Brown et al., Statistical Science 2001): a
    class that is always right, or never, still varies. Where ``groups`` hold several images, the counts of a class are
    divided by the ``design_effect`` on its recall. Limits are widened to the score where the prior moves them past it.
    """
    classes, predictions = logits.shape[1], logits.argmax(axis=1)
    members, present = None if groups is None else np.asarray(groups), np.unique(targets)
    prior = np.where(np.eye(classes) > 0, 0.5, 0.5 / max(classes - 1, 1))
    confusion, drawn = np.zeros((1, classes, classes)), np.zeros((DRAWS, classes, classes))
    for label in present:
        own = targets == label
        counts, right = np.bincount(predictions[own], minlength=classes), predictions[own] == label
        effect = design_effect(right - right.mean(), None if members is None else members[own])
        confusion[0, label] = counts
        drawn[:, label] = counts.sum() * rng.dirichlet(counts / effect + prior[label], DRAWS)
    of_draws = _of_confusion(drawn, present, ordinal)
    return {
        name: Interval.within(float(value), of_draws[name])
        for name, (value,) in _of_confusion(confusion, present, ordinal).items()
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
    gap = (confidence - _shared(confidence, probabilities.argmax(axis=1) == targets))[order]
    mass = weights[:, order]
    total = mass.sum(axis=1, keepdims=True)
    place = ((np.cumsum(mass, axis=1) - mass / 2) / total * BINS).astype(int)
    return sum(np.abs(((place == number) * mass) @ gap) for number in range(BINS)) / total[:, 0]


def _shared(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """float64 N: how often answers of the same confidence are right, so that none of several bins gets the right ones
    by their order in a file."""
    level = np.unique(confidence, return_inverse=True)[1]
    return (np.bincount(level, right) / np.bincount(level))[level]


def _calibration_interval(
    probabilities: np.ndarray, targets: np.ndarray, rng: np.random.Generator, groups: Sequence[str] | None
) -> Interval:
    """Expected calibration error of probabilities N×K with limits from the inversion of a test.

    A bootstrap adds its noise to that of the estimate, as absolute gaps don't cancel, and so leaves the estimate out.
    Here a true error of t times the estimate, its gaps in the bins t times those measured, is within the limits where
    2.5 % or more of what noise makes of it are on either side of the estimate; for t = 0 that is consistency resampling
    (Bröcker & Smith, Weather and Forecasting 2007). The noise of a bin is normal with the variance of its accuracy, by
    the mean of Jeffreys' posterior, times the ``design_effect`` of ``groups``. Gaps that noise gave either sign gain
    more by further noise than true ones of one sign, so that the high limit is at least that of all bins' mean gap.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
    count = len(targets)
    place = np.empty(count, int)
    place[np.argsort(confidence, kind="stable")] = (np.arange(count) + 0.5) / count * BINS
    place = np.unique(place, return_inverse=True)[1]  # fewer images than bins leave some empty
    images = np.bincount(place)
    shared = _shared(confidence, right)
    accuracy = (np.bincount(place, shared) + 0.5) / (images + 1)
    gap = np.bincount(place, confidence - shared) / images
    effect = design_effect(confidence - right - gap[place], groups)
    spread = np.sqrt(accuracy * (1 - accuracy) / images * effect)
    noise, mass = rng.normal(0, spread, (DRAWS, images.size)), images / count
    error = float(np.abs(gap) @ mass)

    def largest(level: float) -> float:
        """The multiple of the gaps whose error, with noise, is below the estimate in a share of ``level``."""

        def excess(multiple: float) -> float:
            return float(np.quantile(np.abs(multiple * gap + noise) @ mass, level)) - error

        if excess(0) >= 0:
            return 0.0
        beyond = 1.0
        while excess(beyond) < 0:
            beyond *= 2
        return float(optimize.brentq(excess, 0, beyond, xtol=1e-4))

    low, high = (largest(level) * error for level in ((1 + CONFIDENCE) / 2, (1 - CONFIDENCE) / 2))
    of_mean_gap = abs(float(gap @ mass)) + float(stats.norm.ppf((1 + CONFIDENCE) / 2) * np.linalg.norm(mass * spread))
    return Interval(error, min(low, error), min(max(high, of_mean_gap, error), 1.0))


def _ranking(logits: np.ndarray, label: int) -> np.ndarray:
    """Log-odds of one class against the rest under a softmax, N, which itself would saturate and tie what differs."""
    return logits[:, label] - special.logsumexp(np.delete(logits, label, axis=1), axis=1)


def _ranked(logits: np.ndarray, targets: np.ndarray, label: int, weights: np.ndarray) -> np.ndarray:
    """The ``RANKED`` scores of one class against the rest for each row of image weights R×N, 3×R.

    The area under the ROC curve is the share of (positive, negative) pairs in the right order, ties counting half (Mann
    & Whitney 1947); average precision is the sum of precisions weighted by the recall that each threshold adds.
    """
    ranking = _ranking(logits, label)
    order = np.argsort(ranking, kind="stable")
    ties = np.flatnonzero(np.diff(ranking[order], prepend=-np.inf))  # where each run of equal ones starts
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
