"""Stage 04: score a checkpoint on held-out phantoms and on every labelled folder, without training on any of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas
import torch
from scipy import special
from sklearn.metrics import roc_curve

from visionclip import conditions, runs
from visionclip.data import folders
from visionclip.data.folders import ClassOf, Dataset, Task
from visionclip.data.shards import Images
from visionclip.evaluation import metrics
from visionclip.text.captions import PLAIN, Style, prompts
from visionclip.training.contrastive import encode_images, encode_texts

PHANTOMS = "held-out phantoms"
SCORES = {"auc": "AUC", "aca": "ACA", "accuracy": "accuracy", "macro_f1": "macro F1", "kappa": "κ"}
DETECTION = {"average_precision": "average precision", "sensitivity": "sensitivity at 90 % specificity"}
CONFIDENCE = {"ece": "ECE", "brier": "Brier"}
ANSWERED = ("aca", "accuracy", "macro_f1", "kappa")


def load_all(folder: Path, size: int, protocol: str = "flair") -> list[Dataset]:
    """Every dataset folder below ``folder``, prepared at ``size`` pixels; none where the folder does not exist.

    ``protocol`` is "flair" or "own", see ``folders.protocol_rows``.
    """
    found = folders.find(folder) if folder.is_dir() else []
    return [folders.load(path, size, folders.protocol_rows(path, protocol)) for path in found]


def alternatives(
    network, tokenizer, task: Task, languages: Sequence[str], prompt_count: int, style: Style = PLAIN
) -> list[torch.Tensor]:
    """For each class a tensor A×P: one embedding for each alternative.

    An embedding is the mean of the unit-length prompts of all languages, made unit-length again (CLIP's prompts).
    """
    embedded = []
    for one in task.classes:
        means = []
        for facts in one.facts:
            texts = [text for language in languages for text in prompts(facts, language, prompt_count, style)]
            means.append(encode_texts(network, tokenizer, texts).mean(0))
        embedded.append(torch.nn.functional.normalize(torch.stack(means), dim=1))
    return embedded


def class_logits(image_embeds: torch.Tensor, classes: Sequence[torch.Tensor], scale: float) -> np.ndarray:
    """Logits float64 N×K from image embeddings N×P and the alternatives of each class.

    A class is the union of its alternatives ("referable" is grade 2, 3 or 4), so its probability is their sum.
    """
    logits = [torch.logsumexp(scale * image_embeds @ embeds.T, dim=1) for embeds in classes]
    return torch.stack(logits, dim=1).double().numpy()


def phantom_tasks(held_out: Images) -> Dataset:
    """The held-out phantoms as a dataset: the grade of retinopathy, referable or not, each disease or none.

    Diseases that fewer than two of the phantoms show are named in ``unscored``.
    """
    grades = [conditions.VOCABULARY["dr_grade"].highest + 1, [eye["dr_grade"] for eye in held_out.conditions]]
    tasks = [
        Task(
            "dr_grade",
            True,
            [ClassOf(f"grade {grade}", [{"dr_grade": grade}]) for grade in range(grades[0])],
            np.array(grades[1]),
        ),
        Task(
            "referable_dr",
            False,
            [
                ClassOf("not referable", [{"dr_grade": 0}, {"dr_grade": 1}]),
                ClassOf("referable", [{"dr_grade": grade} for grade in (2, 3, 4)]),
            ],
            (np.array(grades[1]) >= 2).astype(int),
        ),
    ]
    unscored = {}
    for key in conditions.DISEASES[1:]:
        name = conditions.VOCABULARY[key].english[0]
        targets = np.array([eye[key] for eye in held_out.conditions])
        if targets.sum() < 2:
            unscored[key] = f"{name}: fewer than two held-out phantoms show it"
            continue
        classes = [ClassOf(f"no {name}", [{key: 0}]), ClassOf(name, [{key: 1}])]
        tasks.append(Task(key, False, classes, targets))
    return Dataset(PHANTOMS, "held out", held_out.pixels, held_out.keys, tasks, {}, unscored)


def cumulative(logits: np.ndarray) -> np.ndarray:
    """Logits N×K of K grades, read by their thresholds: the answer is the grade at which "this grade or more" and "this
    grade or less" both have at least half of the probability, the median in place of the mode.

    The logit of a grade is the smaller of the log-odds of those two statements (Frank & Hall, ECML 2001, ask one
    question a threshold), so that its sign says whether both hold and its size by how much.
    """
    probability = special.softmax(logits, axis=1)
    at_least = np.cumsum(probability[:, ::-1], axis=1)[:, ::-1]
    at_most = np.cumsum(probability, axis=1)
    # The first grade is never too low, the last never too high: their statements are certain, within rounding.
    return np.minimum(special.logit(at_least.clip(1e-12, 1 - 1e-12)), special.logit(at_most.clip(1e-12, 1 - 1e-12)))


def predict(
    network, tokenizer, dataset: Dataset, languages: Sequence[str], prompt_count: int, style: Style = PLAIN
) -> dict[str, np.ndarray]:
    """Logits N×K of every task of the dataset, each image encoded once."""
    if not dataset.tasks:
        return {}
    image_embeds = encode_images(network, dataset.pixels)
    scale = network.scale.item()
    return {
        task.name: class_logits(
            image_embeds, alternatives(network, tokenizer, task, languages, prompt_count, style), scale
        )
        for task in dataset.tasks
    }


def fit_temperature(phantoms: Dataset, logits: dict[str, np.ndarray]) -> float:
    """What to divide the model's logits by, from all two-class tasks of the held-out phantoms together."""
    tasks = two_class_tasks(phantoms)
    return metrics.temperature(
        np.concatenate([task.targets for task in tasks]), np.concatenate([logits[task.name] for task in tasks])
    )


def evaluate(
    dataset: Dataset, logits: dict[str, np.ndarray], seed: int, resamples: int, temperature: float = 1.0
) -> list[dict]:
    """One result a task, in the shape of ``numbers.json``, over the rows that belong to one of its classes.

    ``scaled`` holds what ``temperature`` makes of the scores that depend on confidence. Graded tasks are also read by
    ``cumulative`` thresholds, as ``by_thresholds``: the scores that depend on which grade is answered.
    """
    results = []
    groups = np.array(dataset.groups or dataset.keys)
    for task in dataset.tasks:
        known = task.targets >= 0
        rng = np.random.default_rng(seed)
        scored = metrics.with_intervals(
            task.targets[known], logits[task.name][known], task.ordinal, rng, resamples, groups[known]
        )
        scaled = metrics.scores(task.targets[known], logits[task.name][known] / temperature, task.ordinal)
        scored["scaled"] = {score: scaled[score] for score in CONFIDENCE}
        if task.ordinal:
            median = metrics.with_intervals(
                task.targets[known],
                cumulative(logits[task.name][known]),
                True,
                np.random.default_rng(seed),
                resamples,
                groups[known],
            )
            scored["by_thresholds"] = {score: median[score] for score in ANSWERED}
        results.append({"dataset": dataset.name, "task": task.name, "split": dataset.split, **scored})
    return results


def cell(interval: dict | None) -> str:
    """A value with its interval as tables print it, a dash where there is none."""
    if interval is None or interval["value"] is None:
        return "–"
    if interval["low"] is None:
        return f"{interval['value']:.3f}"
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def score_table(results: Sequence[dict]) -> pandas.DataFrame:
    """One row a task: every score with its interval, what chance and the commonest class reach right beside theirs."""
    rows = []
    for result in results:
        row = {"dataset": f"{result['dataset']} ({result['split']})", "task": result["task"], "n": result["n"]}
        for score, title in SCORES.items():
            row[title] = cell(result[score])
            if score == "aca":
                row["chance"] = f"{result['chance_aca']:.3f}"
            if score == "accuracy":
                row["majority"] = f"{result['majority_accuracy']:.3f}"
        rows.append(row)
    return pandas.DataFrame(rows)


def grade_table(results: Sequence[dict]) -> pandas.DataFrame:
    """Two rows a graded task: its answers as the likeliest grade and as the median one."""
    return pandas.DataFrame(
        {
            "dataset": result["dataset"],
            "task": result["task"],
            "answer": answer,
            **{SCORES[score]: cell(found[score]) for score in ANSWERED},
        }
        for result in results
        if "by_thresholds" in result
        for answer, found in (("likeliest grade", result), ("by thresholds", result["by_thresholds"]))
    )


def detection_table(results: Sequence[dict]) -> pandas.DataFrame:
    """One row a task: detection scores with intervals, and calibration before and after the temperature."""
    return pandas.DataFrame(
        {
            "dataset": result["dataset"],
            "task": result["task"],
            **{title: cell(result[score]) for score, title in (DETECTION | CONFIDENCE).items()},
            **{f"{title}, scaled": f"{result['scaled'][score]:.3f}" for score, title in CONFIDENCE.items()},
        }
        for result in results
    )


def auc_table(results: Sequence[dict]) -> pandas.DataFrame:
    """Name, AUC and interval of every task, for a forest plot."""
    return pandas.DataFrame({"name": f"{result['dataset']}: {result['task']}", **result["auc"]} for result in results)


def figure_tasks(dataset: Dataset) -> list[Task]:
    """The tasks whose confusion matrix is drawn: all of a real set; of the phantoms the first, the grade."""
    return dataset.tasks[:1] if dataset.name == PHANTOMS else dataset.tasks


def two_class_tasks(dataset: Dataset) -> list[Task]:
    """The tasks that have one receiver operating characteristic."""
    return [task for task in dataset.tasks if len(task.classes) == 2]


def roc_curves(dataset: Dataset, logits: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """False and true positive rates of each two-class task by its name."""
    curves = {}
    for task in two_class_tasks(dataset):
        known = task.targets >= 0
        false, true, _ = roc_curve(task.targets[known], logits[task.name][known] @ [-1, 1])
        curves[task.name] = (false, true)
    return curves


def missing_table(folder: Path) -> pandas.DataFrame:
    """The published sets that are not below ``folder``: owner, terms, size and how to get them."""
    absent = folders.missing(folder) if folder.is_dir() else folders.PUBLISHED
    return pandas.DataFrame(
        {
            "dataset": one.name,
            "folder": one.folder,
            "images": one.images,
            "owner": one.owner,
            "terms": one.terms,
            "how to get it": one.get,
            "what labels.csv needs": one.layout,
        }
        for one in absent
    )


def published_table() -> pandas.DataFrame:
    """VisionCLIP's published accuracies with what always answering the commonest class gives."""
    return pandas.DataFrame(
        {
            "dataset": one.name,
            "VisionCLIP accuracy": f"{one.accuracy:.3f}",
            "majority accuracy": f"{one.majority:.3f}",
            "difference": f"{one.accuracy - one.majority:+.3f}",
        }
        for one in folders.PUBLISHED
        if one.accuracy is not None
    )


def write_predictions(folder: Path, datasets: Sequence[Dataset], logits: dict[str, dict[str, np.ndarray]]) -> None:
    """One CSV a task: file, target (-1: none) and the logit of each class, for paired comparisons later."""
    for dataset in datasets:
        for task in dataset.tasks:
            table = pandas.DataFrame(logits[dataset.name][task.name], columns=[one.name for one in task.classes])
            table.insert(0, "target", task.targets)
            table.insert(0, "file", dataset.keys)
            with runs.atomic(folder / f"{dataset.name}-{task.name}.csv".replace(" ", "-")) as temporary:
                table.to_csv(temporary, index=False, float_format="%.6g")


def headline(results: Sequence[dict]) -> list[dict[str, str]]:
    """For the index page: the mean over the phantoms' tasks, then each real task's AUC with its interval."""
    on_phantoms = [result["auc"]["value"] for result in results if result["dataset"] == PHANTOMS]
    real = [
        {"name": f"{result['dataset']} {result['task']} ({result['split']}), AUC", "value": cell(result["auc"])}
        for result in results
        if result["dataset"] != PHANTOMS
    ]
    return [{"name": f"{PHANTOMS}, mean AUC", "value": f"{np.mean(on_phantoms):.3f}"}, *real]
