"""Scores of any model's logits on the tasks of a dataset, and which tasks of which sets can be scored."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
from scipy import special
from sklearn.metrics import roc_curve

from visionclip import conditions, runs, streams
from visionclip.data import folders
from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import ClassOf, Dataset, NothingToScore, Task
from visionclip.evaluation import metrics
from visionclip.evaluation.intervals import Interval, mean_difference, share

PHANTOMS = "held-out phantoms"
OF_CLASS = ("aca", "accuracy", "macro_f1", "kappa")  # scores that depend on which class is predicted
OF_CONFIDENCE = ("ece", "brier")
RELIABLE = 5  # bins of a reliability diagram
LEARNT = 0.6  # mean AUC: a model that reaches less has learnt too little to tell what another set is worth
LIKELIEST, BY_THRESHOLDS = "likeliest", "by thresholds"  # how a grade is predicted


def load_all(folder: Path, size: int, protocol: str = "flair") -> list[Dataset]:
    """Every dataset folder below ``folder`` that is there, prepared at ``size`` pixels, with its ``scorable`` tasks.

    ``protocol`` is "flair" or "own", see ``folders.protocol_rows``. A set without an image of the reported rows is left
    out with a warning of one line.
    """
    datasets = []
    for path in folders.find(folder):
        try:
            datasets.append(scorable(folders.load(path, size, folders.protocol_rows(path, protocol))))
        except NothingToScore as reason:
            logging.getLogger(__name__).warning("left out: %s", reason)
    return datasets


def load_tuned(folder: Path, size: int) -> list[Dataset]:
    """The training splits below ``folder`` that the drawing and the settings were chosen by (``folders.TUNED``)."""
    paths = [path for path in folders.find(folder) if path.name.lower() in folders.TUNED]
    return [
        scorable(folders.load(path, size, folders.TRAIN)) for path in paths if folders.has_rows(path, folders.TRAIN)
    ]


def load_development(folder: Path, size: int) -> list[Dataset]:
    """What may be chosen by, of the sets below ``folder``: those for development, whole, and ``train`` splits, but for
    those that are reported (REFUGE's, see ``folders.protocol_rows``)."""
    sets = []
    for path in folders.find(folder):
        if folders.is_development(path):
            sets.append(folders.load(path, size, {}))
        elif folders.has_rows(path, folders.TRAIN) and not folders.reports(path, folders.TRAIN):
            sets.append(folders.load(path, size, folders.TRAIN))
    return sets


def development(folder: Path, size: int) -> list[Dataset]:
    """Of ``load_development`` the sets with a task that can be scored, each named with its split."""
    sets = map(scorable, load_development(folder, size))
    return [replace(one, name=f"{one.name} ({one.split})") for one in sets if one.tasks]


def phantom_tasks(held_out: LabelledImages) -> Dataset:
    """The held-out phantoms as a dataset: the grade of retinopathy, referable or not, each other disease or none. An
    image held out of which a disease is unknown is of no class of its task."""
    grade = np.array([eye.get("dr_grade", -1) for eye in held_out.conditions])
    grades = [{"dr_grade": value} for value in range(conditions.VOCABULARY["dr_grade"].highest + 1)]
    referable = [ClassOf("not referable", grades[:2]), ClassOf("referable", grades[2:])]
    tasks = [
        Task("dr_grade", True, [ClassOf(f"grade {value}", [facts]) for value, facts in enumerate(grades)], grade),
        Task("referable_dr", False, referable, np.where(grade < 0, -1, grade >= 2)),
    ]
    for key in conditions.DISEASES[1:]:
        name = conditions.VOCABULARY[key].english[0]
        classes = [ClassOf(f"no {name}", [{key: 0}]), ClassOf(name, [{key: 1}])]
        tasks.append(Task(key, False, classes, np.array([eye.get(key, -1) for eye in held_out.conditions])))
    return scorable(Dataset(PHANTOMS, "held out", held_out, tasks, {}, {}, []))


def scorable(dataset: Dataset) -> Dataset:
    """The dataset without tasks that can't be scored, which ``unscored`` names with the reason.

    Two classes with two images (of different groups, where there are groups) are needed: of one image alone nothing
    would say how sure a score is.
    """
    members, tasks, unscored = np.array(dataset.images.members), [], dict(dataset.unscored)
    for task in dataset.tasks:
        counts = [len(set(members[task.targets == label])) for label in range(len(task.classes))]
        if sum(count >= 2 for count in counts) >= 2:
            tasks.append(task)
        else:
            held = ", ".join(f"{one.name} {count}" for one, count in zip(task.classes, counts, strict=True))
            unscored[task.name] = (
                f"{dataset.name}, {task.name}: two classes with two images, of different patients, are needed ({held})"
            )
    return replace(dataset, tasks=tasks, unscored=unscored)


def known(task: Task, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Targets M and logits M×K (or any other rows) of the M of N images that are of a class."""
    of_class = task.targets >= 0
    return task.targets[of_class], logits[of_class]


def two_class_tasks(dataset: Dataset) -> list[Task]:
    """The tasks that have one receiver operating characteristic."""
    return [task for task in scorable(dataset).tasks if len(task.classes) == 2]


def figure_tasks(dataset: Dataset) -> list[Task]:
    """The tasks whose confusion matrix is drawn: all of a real set; of the phantoms the first, the grade."""
    return dataset.tasks[:1] if dataset.name == PHANTOMS else dataset.tasks


def cumulative(logits: np.ndarray) -> np.ndarray:
    """Logits N×K of K grades, read by their thresholds: the grade predicted is the one at which "this grade or more"
    and "this grade or less" both have at least half of the probability, the median in place of the mode.

    The logit of a grade is the smaller of the log-odds of those two statements (Frank & Hall, ECML 2001, have one
    classifier a threshold), so that its sign says whether both hold and its size by how much.
    """
    probability = special.softmax(logits, axis=1)
    at_least = np.cumsum(probability[:, ::-1], axis=1)[:, ::-1]
    at_most = np.cumsum(probability, axis=1)
    # The first grade is never too low, the last never too high: their statements are certain, within rounding.
    return np.minimum(special.logit(at_least.clip(1e-12, 1 - 1e-12)), special.logit(at_most.clip(1e-12, 1 - 1e-12)))


def fit_temperature(phantoms: Dataset, logits: Mapping[str, np.ndarray]) -> float:
    """What to divide the model's logits by, from all two-class tasks of the held-out phantoms; 1 if there is none.

    ``logits`` are N×K for each task of the phantoms by its name, as ``predict`` gives them.
    """
    tasks = two_class_tasks(phantoms)
    if not tasks:
        return 1.0
    targets, of_tasks = zip(*(known(task, logits[task.name]) for task in tasks), strict=True)
    return metrics.temperature(np.concatenate(targets), np.concatenate(of_tasks))


def evaluate(
    dataset: Dataset, logits: Mapping[str, np.ndarray], seed: int, resamples: int, temperature: float = 1.0
) -> list[dict]:
    """One result for each task that is ``scorable``, as in ``numbers.json``, over the rows of one of its classes.

    ``logits`` are N×K for each task by its name; a task without them is left out. ``resamples`` are the bootstrap's.
    ``scaled`` holds what ``temperature`` makes of the scores that depend on confidence. Graded tasks are also read by
    ``cumulative`` thresholds, as ``by_thresholds``: the scores that depend on which grade is predicted.
    """
    results, members = [], np.array(dataset.images.members)
    for task in scorable(dataset).tasks:
        if task.name not in logits:
            continue
        targets, of_task = known(task, logits[task.name])
        groups = members[task.targets >= 0].tolist()
        rng = streams.rng(seed, "bootstrap")
        scored = metrics.scores_with_intervals(targets, of_task, task.ordinal, rng, resamples, groups)
        scaled = metrics.scores(targets, of_task / temperature, task.ordinal)
        scored["scaled"] = {score: scaled[score] for score in OF_CONFIDENCE}
        if task.ordinal:
            rng = streams.rng(seed, "bootstrap")
            median = metrics.scores_with_intervals(targets, cumulative(of_task), True, rng, resamples, groups)
            scored["by_thresholds"] = {score: median[score] for score in OF_CLASS}
        results.append({"dataset": dataset.name, "task": task.name, "split": dataset.split, **scored})
    return results


def evaluate_all(
    datasets: Sequence[Dataset], logits: Mapping[str, Mapping], seed: int, resamples: int, temperature: float = 1.0
) -> list[dict]:
    """What ``evaluate`` gives of every dataset, one after another; ``logits`` are by its name and its task's."""
    return [result for one in datasets for result in evaluate(one, logits[one.name], seed, resamples, temperature)]


def gains(dataset: Dataset, logits: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> dict[str, Interval]:
    """By how much the AUC of each task is higher by ``logits`` than by ``other``, N×K each for the same images, with a
    paired interval over images (``intervals.mean_difference``)."""
    members, found = np.array(dataset.images.members), {}
    for task in scorable(dataset).tasks:
        targets, of_task = known(task, logits[task.name])
        positives, first = metrics.one_against_rest(targets, of_task)
        second = metrics.one_against_rest(targets, known(task, other[task.name])[1])[1]
        found[task.name] = mean_difference(positives, first, second, members[task.targets >= 0])
    return found


def reliability(dataset: Dataset, logits: Mapping[str, np.ndarray], temperature: float = 1.0) -> dict[str, list[dict]]:
    """Of each two-class task how often the second class is true where its ``predicted`` probability (0 to 1, mean of
    the bin, after division by ``temperature``) is about so: the ``observed`` share with Wilson's interval, and ``n``,
    a row for each of up to ``RELIABLE`` bins of about as many images each."""
    found, members = {}, np.array(dataset.images.members)
    for task in two_class_tasks(dataset):
        targets, of_task = known(task, logits[task.name])
        probability, groups = special.softmax(of_task / temperature, axis=1)[:, 1], members[task.targets >= 0]
        bins = np.array_split(np.argsort(probability, kind="stable"), min(RELIABLE, len(targets)))
        found[task.name] = [
            {
                "predicted": float(probability[own].mean()),
                "observed": share(targets[own] == 1, groups[own]),
                "n": len(own),
            }
            for own in bins
        ]
    return found


def roc_curves(dataset: Dataset, logits: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """False and true positive rates (0 to 1, a point a threshold) of each two-class task by its name.

    ``logits`` are N×K for each task by its name.
    """
    of_tasks = {task.name: known(task, logits[task.name]) for task in two_class_tasks(dataset)}
    return {name: roc_curve(targets, of_task @ [-1, 1])[:2] for name, (targets, of_task) in of_tasks.items()}


def write_predictions(folder: Path, datasets: Sequence[Dataset], logits: Mapping[str, Mapping]) -> None:
    """One CSV a task: file, target (-1: none) and the logit of each class, for paired comparisons later; what an
    earlier run left in ``folder`` goes."""
    shutil.rmtree(folder, ignore_errors=True)
    for dataset in datasets:
        for task in dataset.tasks:
            table = pandas.DataFrame(logits[dataset.name][task.name], columns=[one.name for one in task.classes])
            table.insert(0, "target", task.targets)
            table.insert(0, "file", dataset.images.keys)
            with runs.atomic(folder / f"{dataset.name}-{task.name}.csv".replace(" ", "-")) as temporary:
                table.to_csv(temporary, index=False, float_format="%.6g")
