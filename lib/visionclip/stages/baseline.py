"""Stage 07: how far phantoms alone go. Classifiers trained on phantoms and their masks are scored on photographs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas
import torch

from visionclip import streams
from visionclip.data import phantoms
from visionclip.data.labelled import LabelledImages
from visionclip.data.phantoms import STRIDE
from visionclip.data.tasks import Dataset
from visionclip.evaluation import classification, fidelity, tables
from visionclip.evaluation.classification import can_predict, predict
from visionclip.evaluation.intervals import Interval, auc_interval, over_seeds
from visionclip.models.classifier import CONDITIONS, DEFINING, Classifier
from visionclip.training.classification import Settings, train

TRAINING, HELD_OUT = "training phantoms of the baseline", "held-out phantoms of the baseline"
TWINS = 0.35  # healthy twins, as a share of the other eyes


def draw(count: int, purpose: str, seed: int, size: int, twins: float = TWINS, **given) -> LabelledImages:
    """``count`` phantoms with finding maps, prepared as photographs are; ``twins`` as many of them healthy twins."""
    eyes, drawn_from = phantoms.with_healthy_twins(count, twins, seed, purpose)
    return phantoms.draw(eyes, drawn_from, size, f"{purpose}, {size} px", masks="findings", **given)


def check_sizes(sizes: Sequence[int], updates: Sequence[int]) -> None:
    """Raise ValueError unless there are updates for each size, and finding maps fit them all."""
    if len(sizes) != len(updates) or not sizes:
        raise ValueError(f"sizes, updates: {len(sizes)} and {len(updates)} given; give updates for each size")
    for size in sizes:
        if size % STRIDE:
            raise ValueError(f"sizes: {size} given; finding maps need multiples of {STRIDE}")


def coarse_to_fine(
    folder: Path, count: int, sizes: Sequence[int], updates: Sequence[int], seed: int, width: int
) -> Classifier:
    """A classifier trained at each of ``sizes`` in turn, for as many updates, on at most ``count`` phantoms.

    What is learnt at few pixels need not be learnt at many, see docs/decisions.md. A stopped run goes on from
    ``folder``.

    Raises:
        ValueError: no size is given, or not as many updates.
    """
    trained = None
    for size, steps in zip(sizes, updates, strict=True):
        settings = Settings(updates=steps, seed=seed, width=width)
        drawn = draw(min(count, steps * settings.batch_size), TRAINING, seed, size)
        checkpoint = folder / f"{size}px.safetensors"
        trained = train(drawn, settings, checkpoint=checkpoint, start=trained, label=f"classifier, {size} px")
    if trained is None:
        raise ValueError("sizes: none given")
    return trained


def untrained(width: int) -> Classifier:
    """A classifier with random weights, as a control."""
    torch.manual_seed(streams.integer(0, "weights of the untrained classifier"))
    return Classifier(width).train(False)


def predict_all(
    classifier: Classifier, datasets: Sequence[Dataset]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Logits N×J of each dataset by its name: of the conditions alone, and combined with the finding maps."""
    both = {dataset.name: predict(classifier, dataset.images.pixels) for dataset in datasets}
    return {name: alone for name, (alone, _) in both.items()}, {name: combined for name, (_, combined) in both.items()}


def evaluate_all(datasets: Sequence[Dataset], logits: Mapping[str, np.ndarray], resamples: int) -> list[dict]:
    """A result for each task of every dataset that the classifier can predict; ``logits`` N×J by the dataset's name."""
    return [row for dataset in datasets for row in classification.evaluate(dataset, logits[dataset.name], 0, resamples)]


def by_seed(results: Sequence[Sequence[dict]]) -> list[dict]:
    """For each dataset and task the AUC of every seed, their mean and its interval."""
    rows = []
    for of_task in zip(*results, strict=True):
        values = [result["auc"].value for result in of_task]
        row = {name: of_task[0][name] for name in ("dataset", "task", "split", "n")}
        rows.append({**row, "seeds": values, "auc": over_seeds(values)})
    return rows


def seed_table(combined: Sequence[dict], alone: Sequence[dict], untrained: Sequence[dict]) -> pandas.DataFrame:
    """One row a task: the AUC of each seed and their mean, the mean without the finding maps, and that of random
    weights."""
    return pandas.DataFrame(
        {
            "dataset": f"{row['dataset']} ({row['split']})",
            "task": row["task"],
            "n": row["n"],
            "AUC of each seed": ", ".join(f"{Interval(value)}" for value in row["seeds"]),
            "mean": str(row["auc"]),
            "without maps": str(without["auc"]),
            "random weights": f"{Interval(control['auc'].value)}",
        }
        for row, without, control in zip(combined, alone, untrained, strict=True)
    )


def by_condition(held_out: LabelledImages, alone: Sequence[np.ndarray], combined: Sequence[np.ndarray]) -> list[dict]:
    """On held-out phantoms, for each of ``CONDITIONS`` the mean AUC over seeds with its interval, without the finding
    maps and combined with them; undefined where ``fidelity.label_fidelity`` is."""
    without, combined_with = (
        [fidelity.label_fidelity(logits, CONDITIONS, held_out.conditions) for logits in seeds]
        for seeds in (alone, combined)
    )
    return [
        {
            "condition": name,
            "positives": without[0][name]["positives"],
            "auc": over_seeds([of_seed[name]["auc"] for of_seed in without]),
            "combined": over_seeds([of_seed[name]["auc"] for of_seed in combined_with]),
        }
        for name in CONDITIONS
    ]


def condition_table(rows: Sequence[dict]) -> pandas.DataFrame:
    """One row a condition, as text."""
    shown = [{**row, "with finding maps": str(row["combined"]) if row["condition"] in DEFINING else ""} for row in rows]
    return tables.table(shown, ("condition", "positives", "AUC", "with finding maps"))


def by_grade(dataset: Dataset, logits: np.ndarray) -> list[dict]:
    """For a graded task, the AUC of "any retinopathy" of all higher grades, and of each, against grade 0."""
    rows = []
    for task in dataset.tasks:
        if not task.ordinal or not can_predict(task):
            continue
        ranking = logits[:, CONDITIONS.index("dr_grade>=1")]
        highest = len(task.classes)
        kinds = {"any of them": range(1, highest)} | {task.classes[label].name: [label] for label in range(1, highest)}
        for name, labels in kinds.items():
            chosen = np.isin(task.targets, [0, *labels])
            positive = task.targets[chosen] > 0
            row = {"dataset": dataset.name, "against none": name, "n": int(positive.sum())}
            rows.append({**row, "auc": auc_interval(positive, ranking[chosen])})
    return rows


def grade_table(rows: Sequence[dict]) -> pandas.DataFrame:
    """One row a grade, as text."""
    return tables.table(rows, ("dataset", "against none", "n", "AUC"))
