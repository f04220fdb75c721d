"""Graded tasks grade by grade: which grades are predicted at all, which are seen to differ from none, and what finding
the referable ones costs healthy eyes.

The mean over the grades hides that some are never predicted: a grade between two others is rarely the likeliest one.
Retinopathy is "referable" from moderate on (ICDR, Wilkinson et al., Ophthalmology 2003).
"""

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
from scipy import special
from sklearn.metrics import confusion_matrix

from visionclip import conditions, streams
from visionclip.data.tasks import Dataset, Task
from visionclip.evaluation import false_alarms, scoring
from visionclip.evaluation.intervals import Interval, bootstrap, mean_auc, share
from visionclip.evaluation.metrics import FEWEST

RETINOPATHY = "dr_grade"
REFERABLE = 2  # the lowest grade that is
SENSITIVITY = 0.8  # for referable eyes, at which healthy ones are counted


def predictions(task: Task, logits: np.ndarray) -> dict[str, np.ndarray]:
    """The class int N that logits N×K predict: the ``scoring.LIKELIEST``, and of a graded task that
    ``scoring.BY_THRESHOLDS`` (see ``scoring.cumulative``) too."""
    likeliest = {scoring.LIKELIEST: logits.argmax(1)}
    return likeliest | ({scoring.BY_THRESHOLDS: scoring.cumulative(logits).argmax(1)} if task.ordinal else {})


def confusions(task: Task, logits: np.ndarray) -> dict[str, np.ndarray]:
    """Counts int K×K (rows: truth) of each way of ``predictions``, over the images of a class."""
    targets, of_known = scoring.known(task, logits)
    labels = range(len(task.classes))
    return {
        name: confusion_matrix(targets, predicted, labels=labels)
        for name, predicted in predictions(task, of_known).items()
    }


def recalls(dataset: Dataset, logits: Mapping[str, np.ndarray]) -> list[dict]:
    """One row a grade of each graded task that is ``scoring.scorable``: ``n`` images of it, and for the likeliest grade
    and ``by_thresholds`` how often it is ``predicted`` of any image and its ``recall`` (``intervals.share``).

    ``logits`` are N×K for each task by its name. A grade without images has no recall.
    """
    rows, members = [], np.array(dataset.images.members)
    for task in scoring.scorable(dataset).tasks:
        if not task.ordinal:
            continue
        targets, of_known = scoring.known(task, logits[task.name])
        groups, ways = members[task.targets >= 0], predictions(task, of_known)
        for label, one in enumerate(task.classes):
            own = targets == label
            about = {"dataset": dataset.name, "split": dataset.split, "task": task.name, "grade": one.name}
            row: dict = {**about, "n": int(own.sum())}
            for suffix, way in (("", scoring.LIKELIEST), ("_by_thresholds", scoring.BY_THRESHOLDS)):
                right = ways[way] == label
                row[f"predicted{suffix}"] = int(right.sum())
                row[f"recall{suffix}"] = share(right[own], groups[own]) if own.any() else Interval(None)
            rows.append(row)
    return rows


def never_predicted(rows: Sequence[Mapping]) -> list[str]:
    """A sentence for each task of ``recalls``: which grades no image is given, by either way."""

    def clause(opening: str, key: str, of_task: Sequence[Mapping]) -> str:
        names = [row["grade"] for row in of_task if not row[key]]
        return f"{opening} never {' or '.join(names)}" if names else f"{opening} each of the grades somewhere"

    sentences = []
    for (dataset, split, task), grouped in groupby(rows, lambda row: (row["dataset"], row["split"], row["task"])):
        of_task = list(grouped)
        likeliest = clause("the likeliest grade is", "predicted", of_task)
        by_thresholds = clause("by thresholds it is", "predicted_by_thresholds", of_task)
        sentences.append(f"{dataset} ({split}), {task}: {likeliest}; {by_thresholds}.")
    return sentences


def retinopathy(dataset: Dataset) -> Task | None:
    """The task that grades retinopathy, from none on: the first graded one whose classes are grades of it, the first of
    them no retinopathy."""
    for task in dataset.tasks:
        keys = {key for one in task.classes for facts in one.facts for key in facts}
        if task.ordinal and keys == {RETINOPATHY} and all(map(conditions.is_normal, task.classes[0].facts)):
            return task
    return None


def against_none(dataset: Dataset, logits: Mapping[str, np.ndarray]) -> list[dict]:
    """One row a grade of retinopathy: the AUC with which its images rank above those without retinopathy, by how surely
    there is any (``intervals.mean_auc``); ``n`` images of the grade, and ``none`` without.

    ``logits`` are N×K for each task by its name. Grades that have no image, and datasets without such a task, have no
    row.
    """
    task = retinopathy(dataset)
    if task is None:
        return []
    rows, members = [], np.array(dataset.images.members)
    of_task = logits[task.name]
    any_grade = special.logsumexp(of_task[:, 1:], axis=1) - of_task[:, 0]
    without = task.targets == 0
    for label, one in enumerate(task.classes[1:], 1):
        own = task.targets == label
        if not own.any() or not without.any():
            continue
        both = own | without
        row = {"dataset": dataset.name, "split": dataset.split, "grade": one.name, "n": int(own.sum())}
        auc = mean_auc(own[None, both], any_grade[None, both], members[both])
        rows.append({**row, "none": int(without.sum()), "auc": auc})
    return rows


def false_referrals(dataset: Dataset, logits: Mapping[str, np.ndarray], seed: int, resamples: int) -> list[dict]:
    """The share of healthy eyes (``false_alarms.healthy``) that are called referable where ``SENSITIVITY`` of the eyes
    with referable retinopathy are; one row, none where the dataset has no such eyes.

    Eyes are ranked by the probability of a referable grade. Its interval is of a bootstrap, as the threshold is found
    on the same eyes and varies with them; there is none where either kind is of fewer than
    ``metrics.FEWEST`` patients.
    """
    task, healthy = retinopathy(dataset), np.zeros(len(dataset), bool)
    if task is None:
        return []
    referable_classes = [all(facts.get(RETINOPATHY, 0) >= REFERABLE for facts in one.facts) for one in task.classes]
    referable = np.isin(task.targets, np.flatnonzero(referable_classes))
    healthy[false_alarms.healthy(dataset)] = True
    if not healthy.any() or not referable.any():
        return []
    used = healthy | referable
    of_task, is_one = logits[task.name][used], np.array(referable_classes)
    ranking = special.logsumexp(of_task[:, is_one], axis=1) - special.logsumexp(of_task[:, ~is_one], axis=1)
    positive, members = referable[used], np.array(dataset.images.members)[used]
    counts = {"healthy": int(healthy.sum()), "referable": int(referable.sum())}

    def measure(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"share": _called(ranking, positive, weights)}

    rng = streams.rng(seed, "bootstrap of false referrals")
    called = bootstrap(measure, positive.astype(int), rng, resamples, members.tolist())["share"]
    fewest = min(len(set(members[one])) for one in (positive, ~positive))
    called = called if fewest >= FEWEST else Interval(called.value)
    return [{"dataset": dataset.name, "split": dataset.split, **counts, "false_referrals": called}]


def _called(ranking: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Of weights R×N of the images, the share R of the others that reach the highest level that ``SENSITIVITY`` of the
    ``positive`` reach."""
    levels = np.unique(ranking)[::-1]
    reached = (ranking[:, None] >= levels).astype(float)
    found, called = (weights[:, own] @ reached[own] for own in (positive, ~positive))
    place = (found >= SENSITIVITY * found[:, -1:] - 1e-9).argmax(1)  # the lowest level is reached by all
    share = called[np.arange(len(weights)), place] / called[:, -1]
    return np.where(found[:, -1] > 0, share, np.nan)  # a resample without a positive has no such level
