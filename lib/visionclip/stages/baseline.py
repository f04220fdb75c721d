"""Stage 07: how far phantoms alone go. Readers taught on phantoms are asked about the reported photographs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas
from sklearn.metrics import roc_auc_score

from visionclip import conditions, runs
from visionclip.data import images
from visionclip.data.folders import Dataset
from visionclip.evaluation import metrics, zero_shot
from visionclip.models import classifier
from visionclip.stages import transfer

FEWEST = 5  # eyes with and without a condition below which no AUC is quoted
RED = ("microaneurysms", "haemorrhage", "neovessel")
YELLOW = ("exudate", "cotton_wool", "drusen", "atrophy")
GREEN = ("disc", "fovea")


def held_out(count: int, seed: int, size: int) -> classifier.Lessons:
    """``count`` phantoms that teach no reader, with healthy twins as those that do."""
    return transfer.lessons(transfer.ARMS[transfer.WHOLE], count, seed + 1_000_000, size, "held-out phantoms")


def check_sizes(sizes: Sequence[int], updates: Sequence[int]) -> None:
    """Raise ValueError unless there are updates for each size, and a reader can take them all."""
    if len(sizes) != len(updates) or not sizes:
        raise ValueError(f"sizes, updates: {len(sizes)} and {len(updates)} given; give updates for each size")
    for size in sizes:
        classifier.check_size(size)


def coarse_to_fine(
    folder: Path, count: int, sizes: Sequence[int], updates: Sequence[int], seed: int, width: int
) -> classifier.Reader:
    """A reader taught at each of ``sizes`` in turn, for as many updates, by at most ``count`` phantoms.

    What is learnt at few pixels need not be learnt at many: 150 updates at 384 px, after 700 at 256, gave an AUC of
    0.91 for any retinopathy and 0.93 for referable, 400 at 384 px from the start 0.85 and 0.88 (IDRiD's train split,
    as named, one seed). What each step taught is kept below ``folder`` and read back from there.
    """
    taught = None
    for size, steps in zip(sizes, updates, strict=True):
        settings = classifier.Settings(steps, seed=seed, width=width)
        taught = teach(folder / f"{size}px", count, size, settings, taught)
    return taught


def teach(
    folder: Path, count: int, size: int, settings: classifier.Settings, start: classifier.Reader | None = None
) -> classifier.Reader:
    """The reader that phantoms of the settings' seed teach, ``count`` of them or as many as are seen; kept in
    ``folder`` and read back from there.

    A stopped run goes on from its checkpoint, which a finished one leaves no longer.
    """
    arm = transfer.ARMS[transfer.WHOLE]
    count = min(count, settings.updates * settings.batch_size)
    told = {"count": count, "size": size, "settings": repr(settings), "arm": repr(arm)}
    told["pixels"] = transfer.digest(arm, settings.seed, size)
    if start:
        told["start"] = classifier.fingerprint(start)
    kept, checkpoint = folder / "taught.json", folder / "checkpoint.safetensors"
    if kept.is_file() and runs.read_json(kept) == told:
        return classifier.load(folder)[0]
    lessons = transfer.lessons(arm, count, settings.seed, size, f"phantoms of {size} px, seed {settings.seed}")
    taught = classifier.teach(lessons, settings, checkpoint=checkpoint, start=start)
    classifier.save(taught, size, folder)
    runs.write_json(kept, told)
    checkpoint.unlink(missing_ok=True)
    return taught


def evaluate(dataset: Dataset, odds: np.ndarray, seed: int, resamples: int) -> list[dict]:
    """A result for each task that a reader can answer, in the shape of ``zero_shot.evaluate``'s."""
    tasks = [task for task in dataset.tasks if classifier.can_answer(task)]
    return zero_shot.evaluate(
        replace(dataset, tasks=tasks),
        {task.name: classifier.task_logits(task, odds) for task in tasks},
        seed,
        resamples,
    )


def ask(taught: classifier.Reader, datasets: Sequence[Dataset]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Log-odds N×J for each dataset by name, as named and as borne out by the maps."""
    answers = {dataset.name: classifier.read(taught, dataset.pixels) for dataset in datasets}
    return {name: named for name, (named, _) in answers.items()}, {
        name: joined for name, (_, joined) in answers.items()
    }


def evaluate_all(datasets: Sequence[Dataset], odds: Mapping[str, np.ndarray], resamples: int) -> list[dict]:
    """``evaluate`` of every dataset."""
    return [row for dataset in datasets for row in evaluate(dataset, odds[dataset.name], 0, resamples)]


def by_seed(results: Sequence[Sequence[dict]]) -> list[dict]:
    """For each dataset and task the AUC of every seed's reader, their mean and its 95 % t-interval."""
    rows = []
    for of_task in zip(*results, strict=True):
        values = [result["auc"]["value"] for result in of_task]
        row = {name: of_task[0][name] for name in ("dataset", "task", "split", "n")}
        rows.append({**row, "seeds": values, "auc": metrics.summary_interval(values)})
    return rows


def seed_table(rows: Sequence[dict], named: Sequence[dict], untaught: Sequence[dict]) -> pandas.DataFrame:
    """One row a task: the AUC of each seed and their mean, the mean of what the readers name without their maps, and
    that of a reader that was taught nothing."""
    return pandas.DataFrame(
        {
            "dataset": f"{row['dataset']} ({row['split']})",
            "task": row["task"],
            "n": row["n"],
            "AUC of each seed": ", ".join(f"{value:.3f}" for value in row["seeds"]),
            "mean": zero_shot.cell(row["auc"]),
            "as named": zero_shot.cell(alone["auc"]),
            "untaught": f"{control['auc']['value']:.3f}",
        }
        for row, alone, control in zip(rows, named, untaught, strict=True)
    )


def by_condition(held: classifier.Lessons, named: Sequence[np.ndarray], borne_out: Sequence[np.ndarray]) -> list[dict]:
    """On held-out phantoms, for each of ``classifier.NAMED`` the mean AUC over seeds with its interval, as named and as
    borne out by the maps.

    None where fewer than ``FEWEST`` have the condition, or lack it.
    """
    rows = []
    for place, target in enumerate(classifier.targets(held.eyes).T > 0):
        enough = min(target.sum(), (~target).sum()) >= FEWEST
        row = {"condition": classifier.NAMED[place], "positives": int(target.sum())}
        for name, seeds in (("auc", named), ("borne_out", borne_out)):
            values = [roc_auc_score(target, odds[:, place]) if enough else None for odds in seeds]
            row[name] = metrics.summary_interval(values)
        rows.append(row)
    return rows


def condition_table(rows: Sequence[dict]) -> pandas.DataFrame:
    return pandas.DataFrame(
        {
            "condition": row["condition"],
            "positives": row["positives"],
            "AUC": zero_shot.cell(row["auc"]),
            "borne out": zero_shot.cell(row["borne_out"]) if row["condition"] in classifier.FINDINGS else "",
        }
        for row in rows
    )


def by_grade(dataset: Dataset, odds: np.ndarray) -> list[dict]:
    """For a graded task, the AUC of "any retinopathy" of all higher grades, and of each, against grade 0, with DeLong's
    interval."""
    rows = []
    for task in dataset.tasks:
        if not task.ordinal or not classifier.can_answer(task):
            continue
        ranking = odds[:, classifier.NAMED.index("dr_grade>=1")]
        highest = len(task.classes)
        kinds = {"any of them": range(1, highest)} | {task.classes[label].name: [label] for label in range(1, highest)}
        for name, labels in kinds.items():
            chosen = np.isin(task.targets, [0, *labels])
            positive = task.targets[chosen] > 0
            if positive.sum() >= 2:
                interval = metrics.auc_interval(positive, ranking[chosen])
                rows.append({"dataset": dataset.name, "against none": name, "n": int(positive.sum()), "auc": interval})
    return rows


def grade_table(rows: Sequence[dict]) -> pandas.DataFrame:
    return pandas.DataFrame({**row, "auc": zero_shot.cell(row["auc"])} for row in rows).rename(columns={"auc": "AUC"})


def overlay(pixels: np.ndarray, maps: np.ndarray) -> list[np.ndarray]:
    """Pictures uint8 S×S×3, greyed, with blood in red, bright lesions in yellow, disc and fovea in green.

    ``maps`` are shares or chances N×C×s×s, 0 to 1, of ``classifier.MAPPED``.
    """
    names, pictures = list(classifier.MAPPED), []
    for picture, mapped in zip(pixels, maps, strict=True):
        grey = np.repeat(picture[..., 1:2] * 0.6, 3, axis=2).astype(np.float32)
        for shown, colour in ((GREEN, (60, 200, 90)), (YELLOW, (255, 220, 40)), (RED, (255, 40, 40))):
            share = mapped[[names.index(name) for name in shown]].max(0).astype(np.float32)
            alpha = cv2.resize(share, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)[..., None]
            inside = images.field_of_view(picture)[..., None]
            alpha = np.clip(alpha, 0, 1) * inside * (0.35 if shown is GREEN else 0.9)
            grey = grey * (1 - alpha) + np.array(colour, np.float32) * alpha
        pictures.append(grey.astype(np.uint8))
    return pictures


def shown(lessons: classifier.Lessons, count: int) -> list[int]:
    """Places of ``count`` eyes with several mapped lesions, one of a kind of presentation."""
    lesions = [place for place, name in enumerate(classifier.MAPPED) if name not in ("disc", "cup", "fovea", "vessels")]
    richness = (lessons.maps[:, lesions] > 60).any((2, 3)).sum(1)
    found: dict[str, int] = {}
    for place in np.argsort(-richness, kind="stable"):
        found.setdefault(conditions.presentation(lessons.eyes[place]), int(place))
    return list(found.values())[:count]
