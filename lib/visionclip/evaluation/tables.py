"""Results as tables for people: one function a table, numbers with their intervals as text."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas

from visionclip.data import folders
from visionclip.data.published import PUBLISHED
from visionclip.evaluation.intervals import Comparison, Interval
from visionclip.evaluation.scoring import OF_CLASS, OF_CONFIDENCE, PHANTOMS

TITLES = {
    "auc": "AUC",
    "aca": "ACA",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "kappa": "QWK",
    "average_precision": "average precision",
    "sensitivity": "sensitivity at 90 % specificity",
    "ece": "ECE",
    "brier": "Brier",
}


def score_table(results: Sequence[Mapping]) -> pandas.DataFrame:
    """One row a task: every score with its interval, and what chance and the commonest class reach."""
    return pandas.DataFrame(
        {
            "dataset": f"{result['dataset']} ({result['split']})",
            "task": result["task"],
            "n": result["n"],
            **_cells(result, ("auc", "aca")),
            "chance": f"{result['chance_aca']:.3f}",
            **_cells(result, ("accuracy",)),
            "majority": f"{result['majority_accuracy']:.3f}",
            **_cells(result, ("macro_f1", "kappa")),
        }
        for result in results
    )


def grade_table(results: Sequence[Mapping]) -> pandas.DataFrame:
    """Two rows a graded task: the likeliest grade predicted, and the median one."""
    return pandas.DataFrame(
        {"dataset": result["dataset"], "task": result["task"], "prediction": name, **_cells(scored, OF_CLASS)}
        for result in results
        if "by_thresholds" in result
        for name, scored in (("likeliest grade", result), ("by thresholds", result["by_thresholds"]))
    )


def detection_table(results: Sequence[Mapping]) -> pandas.DataFrame:
    """One row a task: detection scores with intervals, and calibration before and after the temperature."""
    return pandas.DataFrame(
        {
            "dataset": result["dataset"],
            "task": result["task"],
            **_cells(result, ("average_precision", "sensitivity", *OF_CONFIDENCE)),
            **{f"{TITLES[score]}, scaled": f"{result['scaled'][score]:.3f}" for score in OF_CONFIDENCE},
        }
        for result in results
    )


def _cells(scored: Mapping, names: Sequence[str]) -> dict[str, str]:
    return {TITLES[name]: str(Interval.of(scored[name])) for name in names}


def auc_table(results: Sequence[Mapping]) -> pandas.DataFrame:
    """Name, AUC and limits of every task, for a forest plot; NaN where there is none."""
    rows = [
        {"name": f"{result['dataset']}: {result['task']}", **asdict(Interval.of(result["auc"]))} for result in results
    ]
    table = pandas.DataFrame(rows, columns=["name", "value", "low", "high"])
    return table.astype({"value": float, "low": float, "high": float})


def control_table(rows: Sequence[Mapping]) -> pandas.DataFrame:
    """One row a task: the model's AUC, then each control's; * where it differs from the model at an adjusted 5 %."""

    def rival(row: Mapping, name: str) -> str:
        star = row["against"].get(name, Comparison(Interval(None))).star
        return f"{Interval(row[name])}{star}"

    return pandas.DataFrame(
        {
            "dataset": row["dataset"],
            "task": row["task"],
            "AUC": str(Interval(row["auc"])),
            **{name: rival(row, name) for name in ("random weights", "colour statistics")},
            **{
                name: f"{row[name]['mean']:.3f} ({row[name]['low']:.3f} to {row[name]['high']:.3f})"
                for name in ("shuffled prompts", "single prompts")
            },
        }
        for row in rows
    )


def retrieval_table(result: Mapping[str, Mapping]) -> pandas.DataFrame:
    """Recall in retrieval as rows of direction, k, recall and chance."""
    return pandas.DataFrame(
        {"direction": direction, "k": k, "recall": score["value"], "chance": score["chance"]}
        for direction, scores in result.items()
        for k, score in scores.items()
    )


def missing_table(folder: Path) -> pandas.DataFrame:
    """The published sets that are not below ``folder``: owner, terms, size and how to get them."""
    absent = folders.missing(folder) if folder.is_dir() else PUBLISHED
    return pandas.DataFrame(
        {
            "dataset": one.name,
            "folder": one.folder,
            "images": one.images,
            "owner": one.owner,
            "terms": one.terms,
            "how to get it": one.get,
            "what labels.csv needs": one.labels,
        }
        for one in absent
    )


def published_table() -> pandas.DataFrame:
    """VisionCLIP's published accuracies with what always predicting the commonest class gives."""
    return pandas.DataFrame(
        {
            "dataset": one.name,
            "VisionCLIP accuracy": f"{one.accuracy:.3f}",
            "majority accuracy": f"{one.majority:.3f}",
            "difference": f"{one.accuracy - one.majority:+.3f}",
        }
        for one in PUBLISHED
        if one.accuracy is not None and one.majority is not None
    )


def headline(results: Sequence[Mapping]) -> list[dict[str, str]]:
    """For the index page: the mean over the phantoms' tasks, then each real task's AUC with its interval."""
    aucs = [Interval.of(one["auc"]).value for one in results if one["dataset"] == PHANTOMS]
    defined = [value for value in aucs if value is not None]
    real = [
        {"name": f"{one['dataset']} {one['task']} ({one['split']}), AUC", "value": str(Interval.of(one["auc"]))}
        for one in results
        if one["dataset"] != PHANTOMS
    ]
    mean = Interval(float(np.mean(defined)) if defined else None)
    return [{"name": f"{PHANTOMS}, mean AUC", "value": str(mean)}, *real]
