"""A linear probe: how much of a task lies in the image features, whatever the prompts make of it.

FLAIR's probe (Silva-Rodríguez et al., Medical Image Analysis 2025): a logistic regression with C = 0.316 and balanced
classes on the features before the projection. Unlike FLAIR's, its folds never part the images of a group, as both eyes
of a patient resemble each other. It is trained on real labels, and therefore never stands among zero-shot scores.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from visionclip import streams
from visionclip.data.tasks import Dataset, Task
from visionclip.evaluation import scoring

FOLDS = 5
STRENGTH = 0.316  # inverse of the regularisation, scikit-learn's C


def regression(strength: float = 1.0) -> Pipeline:
    """A logistic regression of balanced classes on standardised features."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, class_weight="balanced", max_iter=5000))


def folds(task: Task, groups: Sequence[str], seed: int) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """Indices of the training and the test images of each of ``FOLDS`` folds; a group is never on both sides.

    Only images of a class take part. None where a class has fewer groups than there are folds.
    """
    known = np.flatnonzero(task.targets >= 0)
    targets, members = task.targets[known], np.asarray(groups)[known]
    if min(len(set(members[targets == label])) for label in range(len(task.classes))) < FOLDS:
        return None
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=streams.integer(seed, "probe folds") >> 31)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")
        parted = list(splitter.split(known, targets, members))
    everywhere = all(len(set(targets[train])) == len(task.classes) for train, _ in parted)
    return [(known[train], known[test]) for train, test in parted] if everywhere else None


def out_of_fold(features: np.ndarray, task: Task, groups: Sequence[str], seed: int) -> np.ndarray | None:
    """Logits float64 N×K (log-probabilities; 0 for images of no class) from features N×D, each image's from the probe
    that was not trained on its fold; None where ``folds`` is."""
    parted = folds(task, groups, seed)
    if parted is None:
        return None
    logits = np.zeros((len(task.targets), len(task.classes)))
    for train, test in parted:
        fitted = regression(STRENGTH).fit(features[train], task.targets[train])
        logits[test] = np.log(fitted.predict_proba(features[test]).clip(1e-12))
    return logits


def evaluate(dataset: Dataset, features: np.ndarray, seed: int, resamples: int) -> tuple[list[dict], list[str]]:
    """A result for each task that can be probed, as of ``scoring.evaluate``, and one line for each that can't.

    ``features`` are float N×D, those of the images before the projection.
    """
    logits, skipped = {}, []
    for task in dataset.tasks:
        of_task = out_of_fold(features, task, dataset.images.members, seed)
        if of_task is None:
            why = f"too few patients or examinations of a class for {FOLDS} folds; not probed"
            skipped.append(f"{dataset.name}, {task.name}: {why}")
        else:
            logits[task.name] = of_task
    return scoring.evaluate(dataset, logits, seed, resamples), skipped
