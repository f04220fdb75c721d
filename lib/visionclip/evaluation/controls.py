"""Controls of zero-shot scores: what needs no training on retinas.

- *random weights*: the same two towers as they are initialised;
- *colour statistics*: a logistic regression on mean, spread and skew of the channels, trained on held-out phantoms;
- *rank*: the place of the task's own sentence among all sentences, by AUC (see ``prompt_matrix``);
- *single prompts*: each wording alone in place of the ensemble; mean and range, never the best.

What is compared are rankings of one set of images by the weights of one training run: a difference holds for those
weights and for images like these. What an ingredient of the training is worth only several runs with it and without
can say (``stages.transfer``, ``stages.diversity``).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from sklearn.model_selection import cross_val_predict

from visionclip import conditions, streams
from visionclip.data import field_of_view
from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import Dataset, Task
from visionclip.evaluation import metrics, prompt_matrix, scoring, zero_shot
from visionclip.evaluation.encoding import encode_images
from visionclip.evaluation.intervals import Comparison, adjusted, delong
from visionclip.evaluation.probe import FOLDS, regression
from visionclip.models.visionclip import VisionCLIP
from visionclip.text.grammar import PLAIN, Style


def untrained(network: VisionCLIP, seed: int) -> VisionCLIP:
    """Towers of the same shape with random weights; torch's own generator stays as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(streams.integer(seed, "random weights"))
        return VisionCLIP(network.config)


def colour_statistics(pixels: np.ndarray) -> np.ndarray:
    """float64 N×9 of uint8 N×S×S×3: mean, standard deviation and skew of red, green and blue inside the field."""
    rows = []
    for image in pixels:
        inside = image[field_of_view.visible(image)].astype(float)
        inside = inside if len(inside) else image.reshape(-1, 3).astype(float)
        mean = inside.mean(0)
        centred = inside - mean
        square = centred * centred  # a power of three takes far longer
        spread = np.sqrt(square.mean(0))
        skew = (square * centred).mean(0) / np.maximum(spread, 1) ** 3
        rows.append(np.concatenate([mean, spread, skew]))
    return np.array(rows)


def colour_logits(dataset: Dataset, held_out: LabelledImages) -> dict[str, np.ndarray]:
    """Logits N×K of every task from colour statistics alone, by a regression trained on the held-out phantoms.

    The phantoms themselves are scored by cross-validation, those of no class alike for each. A task is left out where a
    class has fewer than ``FOLDS`` phantoms.
    """
    drawn = colour_statistics(held_out.pixels)
    features = drawn if dataset.name == scoring.PHANTOMS else colour_statistics(dataset.images.pixels)
    logits = {}
    for task in dataset.tasks:
        member = np.array(
            [[any(_holds(facts, eye) for facts in one.facts) for one in task.classes] for eye in held_out.conditions]
        )
        rows = np.flatnonzero(member.sum(1) == 1)
        labels = member[rows].argmax(1)
        if np.bincount(labels, minlength=len(task.classes)).min() < FOLDS:
            continue
        if features is drawn:
            probabilities = np.full((len(drawn), len(task.classes)), 1 / len(task.classes))
            probabilities[rows] = cross_val_predict(regression(), drawn[rows], labels, cv=FOLDS, method="predict_proba")
        else:
            probabilities = regression().fit(drawn[rows], labels).predict_proba(features)
        logits[task.name] = np.log(probabilities.clip(1e-12))
    return logits


def _holds(facts: Mapping[str, int], eye: Mapping[str, int]) -> bool:
    """Whether an eye is of a class of these facts, of which none stands for a normal eye's."""
    return conditions.holds(facts or dict.fromkeys(conditions.DISEASES, 0), eye)


def single_prompts(
    alternatives: Sequence[Sequence[Sequence[torch.Tensor]]], image_embeds: torch.Tensor, task: Task, scale: float
) -> list[float]:
    """AUC (0 to 1) of each wording alone: ``alternatives`` hold for each language its ``prompt_embeddings``, of which
    every class has its i-th wording in set i."""
    aucs = []
    for language in alternatives:
        for number in range(max(len(rows) for one in language for rows in one)):
            classes = [torch.stack([rows[number % len(rows)] for rows in one]) for one in language]
            aucs.append(_auc(task, zero_shot.class_logits(image_embeds, classes, scale)))
    return aucs


def _auc(task: Task, logits: np.ndarray) -> float:
    auc = metrics.scores(*scoring.known(task, logits), task.ordinal)["auc"]
    return np.nan if auc is None else auc  # which no scorable task has


def compare(
    network: VisionCLIP,
    tokenizer,
    dataset: Dataset,
    held_out: LabelledImages,
    logits: Mapping[str, np.ndarray],
    languages: Sequence[str],
    count: int,
    seed: int,
    style: Style = PLAIN,
) -> list[dict]:
    """For each task that is ``scorable`` the AUC (0 to 1) of every control, and how the model differs from two of them.

    ``count`` wordings (10 or more) are tried alone. ``against`` holds, for two-class tasks, the ``Comparison`` with
    random weights and with colour statistics; ``adjust`` corrects their p-values. ``rank`` is that of the right
    sentence, and among how many (``of``). A control that can't be had is None.
    """
    dataset = scoring.scorable(dataset)
    members = np.array(dataset.images.members)
    image_embeds, rows = encode_images(network, dataset.images.pixels), []
    pairs = prompt_matrix.pairs(network, tokenizer, languages, style)
    ranked = prompt_matrix.evaluate(dataset, image_embeds, pairs, network.scale.item())
    ranks = {row["task"]: {"rank": row["rank"], "of": row["of"]} for row in ranked if row["rank"] is not None}
    rivals = {
        "random weights": zero_shot.predict(untrained(network, seed), tokenizer, dataset, languages, 1, style),
        "colour statistics": colour_logits(dataset, held_out),
    }
    for task in dataset.tasks:
        against: dict[str, Comparison] = {}
        row = {"dataset": dataset.name, "task": task.name, "auc": _auc(task, logits[task.name]), "against": against}
        for name, of_task in rivals.items():
            other = of_task.get(task.name)
            row[name] = None if other is None else _auc(task, other)
            if other is not None and len(task.classes) == 2:
                targets, both = scoring.known(task, np.stack([logits[task.name], other], axis=1) @ [-1.0, 1.0])
                against[name] = delong(targets == 1, both[:, 0], both[:, 1], members[task.targets >= 0])
        wordings = [zero_shot.prompt_embeddings(network, tokenizer, task, [one], count, style) for one in languages]
        row["rank"] = ranks.get(task.name)
        row["single prompts"] = _summary(single_prompts(wordings, image_embeds, task, network.scale.item()))
        rows.append(row)
    return rows


def _summary(values: Sequence[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "low": min(values), "high": max(values)}


def adjust(rows: Sequence[dict]) -> None:
    """Correct the p-values of all comparisons together, in place."""
    corrected = iter(adjusted([comparison for row in rows for comparison in row["against"].values()]))
    for row in rows:
        row["against"] = {name: next(corrected) for name in row["against"]}
