"""Results as tables for people: one function a table, numbers with their intervals as text."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas

from visionclip.data import folders
from visionclip.data.published import PUBLISHED
from visionclip.data.tasks import Dataset
from visionclip.evaluation.evidence import Rule
from visionclip.evaluation.intervals import Comparison, Interval
from visionclip.evaluation.scoring import BY_THRESHOLDS, LIKELIEST, OF_CLASS, PHANTOMS

TEXTS = {  # what stands below a title, from the entries of a result
    "AUC": "{auc}",
    "ACA": "{aca}",
    "ACA (chance)": "{aca} ({chance_aca:.3f})",
    "accuracy": "{accuracy}",
    "accuracy (majority)": "{accuracy} ({majority_accuracy:.3f})",
    "macro F1": "{macro_f1}",
    "QWK": "{kappa}",
    "average precision": "{average_precision}",
    "sensitivity at 90 % specificity": "{sensitivity}",
    "ECE": "{ece}",
    "Brier": "{brier}",
    "ECE, scaled": "{scaled[ece]:.3f}",
    "Brier, scaled": "{scaled[brier]:.3f}",
}
SPREAD = "{{{0}[mean]:.3f}} ({{{0}[low]:.3f}} to {{{0}[high]:.3f}})"


def table(rows: Iterable[Mapping], titles: Sequence[str], **texts: str) -> pandas.DataFrame:
    """One row each, a column a title: the text of that title in ``texts`` or ``TEXTS``, filled with the row's entries,
    or the entry of that name as it is. Scores may be intervals or what JSON made of them."""

    def entry(value: object) -> object:
        is_score = value is None or (isinstance(value, Mapping) and "value" in value)
        return Interval.of(value) if is_score else value  # type: ignore[arg-type]

    texts = TEXTS | texts
    entries = [{name: entry(value) for name, value in row.items()} for row in rows]
    return pandas.DataFrame(
        [[texts[title].format_map(row) if title in texts else row[title] for title in titles] for row in entries],
        columns=list(titles),
    )


def in_order(results: Iterable[Mapping]) -> list[Mapping]:
    """Results of reported photographs first, then of those to choose by, then of phantoms."""

    def rank(one: Mapping) -> int:
        return 2 if one["dataset"] == PHANTOMS else int(one.get("split") == folders.DEVELOPMENT)

    return sorted(results, key=rank)


def score_table(results: Sequence[Mapping]) -> pandas.DataFrame:
    """One row a task: every score with its interval, and what chance and the commonest class reach."""
    titles = ("dataset", "task", "n", "AUC", "ACA (chance)", "accuracy (majority)", "macro F1", "QWK")
    return table(in_order(results), titles, dataset="{dataset} ({split})")


def dataset_table(datasets: Sequence[Dataset], native: Mapping[str, Sequence[int]]) -> pandas.DataFrame:
    """One row a task of each set: its images, its patients where they are known, the pixels that its files have
    (``native`` by name, the shorter side of each), and how many images are of each class."""
    rows = []
    for one in datasets:
        sizes = sorted(native.get(one.name, ()))
        span = " to ".join(dict.fromkeys(str(size) for size in (sizes[0], sizes[-1]))) if sizes else "drawn"
        about = {
            "dataset": one.name,
            "split": one.split,
            "patients": str(len(set(one.images.groups))) if one.images.groups else "–",
            "pixels": span,
        }
        for task in one.tasks:
            counts = [f"{int((task.targets == place).sum())} {of.name}" for place, of in enumerate(task.classes)]
            rows.append({**about, "task": task.name, "images": len(one), "classes": ", ".join(counts)})
    titles = ("dataset", "images", "patients", "pixels", "task", "classes")
    return table(in_order(rows), titles, dataset="{dataset} ({split})")


def rule_table(rules: Mapping[str, Rule]) -> pandas.DataFrame:
    """One row a condition: whether it has evidence, its threshold, and how this does on the phantoms that fixed it."""
    rows = [
        {"condition": name, **vars(rule), "limit": rule.threshold, "by": "sentences and findings"}
        for name, rule in rules.items()
    ]
    alone = [{**row, "by": "sentences"} if row["evidence"] is None else row for row in rows]
    texts = {"threshold": "{limit:+z.2f}", "sensitivity, phantoms": "{sensitivity:.2f}"}
    texts |= {"specificity, phantoms": "{specificity:.2f}"}
    return table(alone, ("condition", "by", *texts), **texts)


def threshold_table(rows: Sequence[Mapping]) -> pandas.DataFrame:
    """One row a task of ``evidence.at_thresholds``: the threshold fixed on phantoms, and what it does on these eyes."""
    texts = {"n": "{positive} of {n}", "threshold": "{limit:+z.2f}"}
    texts |= {"sensitivity": "{sensitivity}", "specificity": "{specificity}"}
    rows = [{**row, "limit": row["threshold"]} for row in in_order(rows)]
    return table(rows, ("dataset", "task", *texts), dataset="{dataset} ({split})", **texts)


def evidence_table(results: Sequence[Mapping], by_sentences: Sequence[Mapping]) -> pandas.DataFrame:
    """One row a task: its AUC by sentences alone, with the evidence of findings, and the difference, ``gain`` of a
    result, with its paired interval."""
    rows = []
    for both, alone in zip(results, by_sentences, strict=True):
        before, after = (str(Interval(Interval.of(one["auc"]).value)) for one in (alone, both))
        difference = f"{Interval.of(both['gain']):+.3f}"
        rows.append({**both, "sentences": before, "with findings": after, "difference": difference})
    titles = ("dataset", "task", "n", "sentences", "with findings", "difference")
    return table(in_order(rows), titles, dataset="{dataset} ({split})")


def tuned_table(results: Sequence[Mapping], tuned: Sequence[Mapping]) -> pandas.DataFrame:
    """One row a task of the sets that something was chosen by: its AUC on the split that chose, and on the reported."""
    reported = {(one["dataset"], one["task"]): one for one in results}
    rows = []
    for one in tuned:
        other = reported.get((one["dataset"], one["task"]))
        there = {"reported": "{split}: {auc}".format_map(other)} if other else {"reported": "–"}
        rows.append({**one, **there})
    return table(rows, ("dataset", "task", "tuned on", "reported"), **{"tuned on": "{split}: {auc}"})


def localisation_table(results: Sequence[Mapping], untrained: Sequence[Mapping] = ()) -> pandas.DataFrame:
    """One row a finding: how its maps agree with its masks, and what chance gives.

    Rows may name their dataset and split, the disease in place of a finding, and the method that made the maps. In
    round brackets stands what chance gives, and what random weights reach where ``untrained`` has the same rows. Where
    lesions were counted there is the share found at one false positive an image.
    """
    chance = ("average_precision", "dice", "lesion_sensitivity")  # none where too few images show the finding
    results = [{**row, "chance": {score: Interval(row["chance"].get(score)) for score in chance}} for row in results]
    names = ("dataset", "disease", "finding", "method")
    texts = {"n": "{showing} of {n}", "pixel AUC": "{pixel_auc}"}
    texts |= {"average precision (chance)": "{average_precision} ({chance[average_precision]})"}
    texts |= {"pointing": "{pointing}", "Dice (chance)": "{dice} ({chance[dice]})"}
    if any(row["lesions"] for row in results) and "method" not in results[0]:
        texts |= {"lesions found (chance)": "{lesion_sensitivity} ({chance[lesion_sensitivity]})"}
    if untrained:
        beside = [{f"random_{score}": row[score] for score in ("pixel_auc", "average_precision")} for row in untrained]
        results = [{**row, **other} for row, other in zip(results, beside, strict=True)]
        both = "{average_precision} ({chance[average_precision]}, {random_average_precision})"
        changed = {"pixel AUC": ("pixel AUC (random weights)", "{pixel_auc} ({random_pixel_auc})")}
        changed |= {"average precision (chance)": ("average precision (chance, random weights)", both)}
        texts = dict(changed.get(title, (title, text)) for title, text in texts.items())
    titles = [name for name in names if results and name in results[0]] or ["finding"]
    return table(results, [*titles, *texts], dataset="{dataset} ({split})", **texts)


def grade_table(results: Sequence[Mapping]) -> pandas.DataFrame:
    """Two rows a graded task: the likeliest grade predicted, and the median one."""
    rows = [
        {**result, "prediction": name, **{score: scored[score] for score in OF_CLASS}}
        for result in in_order(results)
        if "by_thresholds" in result
        for name, scored in ((LIKELIEST, result), (BY_THRESHOLDS, result["by_thresholds"]))
    ]
    return table(rows, ("dataset", "task", "prediction", "ACA", "accuracy", "macro F1", "QWK"))


def recall_table(rows: Sequence[Mapping]) -> pandas.DataFrame:
    """One row a grade of ``grades.recalls``: its recall by both ways of predicting, and how often it is predicted."""
    texts = {f"recall, {LIKELIEST}": "{recall}", f"recall, {BY_THRESHOLDS}": "{recall_by_thresholds}"}
    texts |= {"predicted": "{predicted} and {predicted_by_thresholds}"}
    return table(in_order(rows), ("dataset", "task", "grade", "n", *texts), dataset="{dataset} ({split})", **texts)


def against_none_table(rows: Sequence[Mapping]) -> pandas.DataFrame:
    """One row a grade of ``grades.against_none``."""
    return table(in_order(rows), ("dataset", "grade", "n", "none", "AUC"), dataset="{dataset} ({split})")


def referral_table(rows: Sequence[Mapping]) -> pandas.DataFrame:
    """One row a dataset of ``grades.false_referrals``."""
    called = {"healthy, called referable": "{false_referrals}"}
    return table(in_order(rows), ("dataset", "referable", "healthy", *called), dataset="{dataset} ({split})", **called)


def detection_table(results: Sequence[Mapping]) -> pandas.DataFrame:
    """One row a task: detection scores with intervals, and calibration before and after the temperature."""
    scores = ("average precision", "sensitivity at 90 % specificity", "ECE", "Brier", "ECE, scaled", "Brier, scaled")
    return table(in_order(results), ("dataset", "task", *scores), dataset="{dataset} ({split})")


def auc_table(results: Sequence[Mapping]) -> pandas.DataFrame:
    """Name, AUC and limits of every task, for a forest plot; NaN where there is none."""
    rows = [
        {"name": f"{one['dataset']}: {one['task']}", **asdict(Interval.of(one["auc"]))} for one in in_order(results)
    ]
    aucs = pandas.DataFrame(rows, columns=["name", "value", "low", "high"])
    return aucs.astype({"value": float, "low": float, "high": float})


def control_table(rows: Sequence[Mapping]) -> pandas.DataFrame:
    """One row a task: the model's AUC, then each control's; * where it differs from the model at an adjusted 5 %."""
    rivals = ("random weights", "colour statistics")
    untested = Comparison(Interval(None))
    starred = [
        {
            **row,
            **{name: f"{Interval(row[name])}{row['against'].get(name, untested).star}" for name in rivals},
            "rank": "{rank} of {of}".format_map(row["rank"]) if row["rank"] else "–",
        }
        for row in rows
    ]
    texts = {"AUC": "{auc:.3f}", "single prompts": SPREAD.format("single prompts"), "rank of its sentence": "{rank}"}
    return table(
        in_order(starred), ("dataset", "task", "AUC", *rivals, "single prompts", "rank of its sentence"), **texts
    )


def rank_table(rows: Sequence[Mapping]) -> pandas.DataFrame:
    """One row a task of the prompt matrix: the AUC of its own sentence, its rank among all, and the best of all."""
    shown = []
    for row in rows:
        best = max(row["auc"], key=row["auc"].__getitem__)
        own = max(row["right"], key=row["auc"].__getitem__, default=None)
        auc, rank = ("–", "–") if own is None else (f"{row['auc'][own]:.3f}", f"{row['rank']} of {row['of']}")
        shown.append(
            {**row, "AUC": auc, "rank": rank, "sentence": own or "–", "best": f"{best} {row['auc'][best]:.3f}"}
        )
    titles = ("dataset", "task", "sentence", "AUC", "rank", "best of all")
    return table(shown, titles, dataset="{dataset} ({split})", AUC="{AUC}", **{"best of all": "{best}"})


def retrieval_table(result: Mapping[str, Mapping]) -> pandas.DataFrame:
    """Recall in retrieval as rows of direction, k, recall and chance."""
    return pandas.DataFrame(
        {"direction": direction, "k": k, "recall": score["value"], "chance": score["chance"]}
        for direction, scores in result.items()
        for k, score in scores.items()
    )


def missing_table(folder: Path) -> pandas.DataFrame:
    """The published sets that are not below ``folder``: owner, terms, size and how to get them."""
    absent = folders.missing(folder)
    texts = {"dataset": "{name}", "how to get it": "{get}", "what labels.csv needs": "{labels}"}
    titles = ("dataset", "folder", "images", "owner", "terms", "how to get it", "what labels.csv needs")
    return table(map(vars, absent), titles, **texts)


def published_table() -> pandas.DataFrame:
    """VisionCLIP's published figures with what always predicting the commonest class, and guessing, give: whether they
    are accuracy or ACA it doesn't say."""
    rows = [
        {
            "dataset": one.name,
            **vars(one),
            "aca": 1 / len(one.plan.tasks[0].classes),
            "difference": one.accuracy - one.majority,
        }
        for one in PUBLISHED
        if one.accuracy is not None and one.majority is not None
    ]
    texts = {"VisionCLIP, accuracy or ACA (unknown)": "{accuracy:.3f}", "majority accuracy": "{majority:.3f}"}
    texts |= {"above it": "{difference:+.3f}", "chance ACA": "{aca:.3f}"}
    return table(rows, ("dataset", *texts), **texts)


def headline(results: Sequence[Mapping]) -> list[dict[str, str]]:
    """For the index page: the mean over the phantoms' tasks, then each real task's AUC with its interval.

    Sets to choose by are left out: what they reach is no result.
    """
    aucs = [Interval.of(one["auc"]).value for one in results if one["dataset"] == PHANTOMS]
    defined = [value for value in aucs if value is not None]
    real = [
        {"name": f"{one['dataset']} {one['task']} ({one['split']}), AUC", "value": str(Interval.of(one["auc"]))}
        for one in results
        if one["dataset"] != PHANTOMS and one["split"] != folders.DEVELOPMENT
    ]
    mean = Interval(float(np.mean(defined)) if defined else None)
    return [{"name": f"{PHANTOMS}, mean AUC", "value": str(mean)}, *real]
