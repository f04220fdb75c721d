"""Stage 04's controls: what each score is worth beside answers that need no training on retinas.

- *random weights*: the same two towers as they are initialised;
- *colour statistics*: a logistic regression on the mean, spread and skew of the channels, taught on held-out phantoms;
- *shuffled prompts*: prompts of other findings in the classes' place; their mean must fall to chance;
- *single prompts*: each wording alone in place of the ensemble; mean and range, never the best.
"""

from collections.abc import Sequence

import numpy as np
import pandas
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from visionclip import conditions
from visionclip.data import images
from visionclip.data.folders import Dataset, Task
from visionclip.data.shards import Images
from visionclip.evaluation import metrics, zero_shot
from visionclip.models import visionclip
from visionclip.text.captions import prompts
from visionclip.training.contrastive import encode_images, encode_texts

SHUFFLES = 30
FOLDS = 5


def random_logits(network, tokenizer, dataset: Dataset, languages: Sequence[str], count: int, seed: int) -> dict:
    """Logits N×K of every task from towers of the same shape with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        untrained = visionclip.VisionCLIP(network.config)
    return zero_shot.predict(untrained, tokenizer, dataset, languages, count)


def colour_statistics(pixels: np.ndarray) -> np.ndarray:
    """float64 N×9 of uint8 N×S×S×3: mean, standard deviation and skew of red, green and blue inside the field."""
    rows = []
    for image in pixels:
        inside = image[images.field_of_view(image)].astype(float)
        inside = inside if len(inside) else image.reshape(-1, 3).astype(float)
        mean, spread = inside.mean(0), inside.std(0)
        skew = ((inside - mean) ** 3).mean(0) / np.maximum(spread, 1) ** 3
        rows.append(np.concatenate([mean, spread, skew]))
    return np.array(rows)


def colour_logits(dataset: Dataset, held_out: Images) -> dict[str, np.ndarray]:
    """Logits N×K of every task from colour statistics alone, taught on the held-out phantoms.

    The phantoms themselves are scored by cross-validation. A task is left out where a class has too few phantoms.
    """
    known = colour_statistics(held_out.pixels)
    asked = known if dataset.name == zero_shot.PHANTOMS else colour_statistics(dataset.pixels)
    found = {}
    for task in dataset.tasks:
        member = np.array(
            [[any(conditions.holds(f, eye) for f in one.facts) for one in task.classes] for eye in held_out.conditions]
        )
        rows = np.flatnonzero(member.sum(1) == 1)
        labels = member[rows].argmax(1)
        if np.bincount(labels, minlength=len(task.classes)).min() < FOLDS:
            continue
        probe = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000))
        if asked is known and len(rows) == len(known):
            chances = cross_val_predict(probe, known, labels, cv=FOLDS, method="predict_proba")
        else:
            chances = probe.fit(known[rows], labels).predict_proba(asked)
        found[task.name] = np.log(chances.clip(1e-12))
    return found


def shuffled(network, tokenizer, image_embeds: torch.Tensor, task: Task, languages: Sequence[str], seed: int) -> list:
    """AUC (0 to 1) with prompts of randomly drawn findings in place of each class, ``SHUFFLES`` times."""
    rng = np.random.default_rng(seed)
    facts = [
        {key: value}
        for key in conditions.DISEASES
        for value in range(conditions.VOCABULARY[key].highest + 1)
    ]  # fmt: skip
    texts = [prompts(one, language, 1)[0] for one in facts for language in languages]
    embeds = encode_texts(network, tokenizer, texts).reshape(len(facts), len(languages), -1).mean(1)
    embeds = torch.nn.functional.normalize(embeds, dim=1)
    found = []
    for _ in range(SHUFFLES):
        drawn = embeds[rng.choice(len(facts), len(task.classes), replace=False)]
        found.append(_auc(task, zero_shot.class_logits(image_embeds, [row[None] for row in drawn], 1.0)))
    return found


def single_prompts(
    network, tokenizer, image_embeds: torch.Tensor, task: Task, languages: Sequence[str], count: int
) -> list[float]:
    """AUC (0 to 1) of each of ``count`` prompt sets: in set i every class has its i-th wording of one language."""
    found = []
    for number in range(count):
        language = languages[number % len(languages)]
        classes = []
        for one in task.classes:
            wordings = [prompts(facts, language, count) for facts in one.facts]
            classes.append(encode_texts(network, tokenizer, [texts[number % len(texts)] for texts in wordings]))
        found.append(_auc(task, zero_shot.class_logits(image_embeds, classes, network.scale.item())))
    return found


def _auc(task: Task, logits: np.ndarray) -> float | None:
    known = task.targets >= 0
    return metrics.scores(task.targets[known], logits[known], task.ordinal)["auc"]


def _summary(values: Sequence[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "low": float(min(values)), "high": float(max(values))}


def compare(
    network,
    tokenizer,
    dataset: Dataset,
    held_out: Images,
    logits: dict,
    languages: Sequence[str],
    count: int,
    seed: int,
) -> list[dict]:
    """For each task of the dataset the AUC (0 to 1) of every control, and how the model differs from two of them.

    ``count`` wordings (10 or more) are tried alone. ``against`` holds, for two-class tasks, DeLong's comparison with
    random weights and with colour statistics; ``adjust`` corrects their p-values.
    """
    image_embeds = encode_images(network, dataset.pixels)
    rivals = {
        "random weights": random_logits(network, tokenizer, dataset, languages, 1, seed),
        "colour statistics": colour_logits(dataset, held_out),
    }
    rows = []
    for task in dataset.tasks:
        known = task.targets >= 0
        row = {"dataset": dataset.name, "task": task.name, "auc": _auc(task, logits[task.name]), "against": {}}
        for name, of_task in rivals.items():
            other = of_task.get(task.name)
            row[name] = None if other is None else _auc(task, other)
            if other is not None and len(task.classes) == 2 and np.bincount(task.targets[known]).min() >= 2:
                rankings = (one[known] @ [-1.0, 1.0] for one in (logits[task.name], other))
                row["against"][name] = metrics.delong(task.targets[known] == 1, *rankings)
        row["shuffled prompts"] = _summary(shuffled(network, tokenizer, image_embeds, task, languages, seed))
        row["single prompts"] = _summary(single_prompts(network, tokenizer, image_embeds, task, languages, count))
        rows.append(row)
    return rows


def adjust(rows: Sequence[dict]) -> None:
    """Add ``adjusted_p`` to every comparison, in place: Holm's correction over all of them."""
    told = [comparison for row in rows for comparison in row["against"].values()]
    for comparison, adjusted in zip(told, metrics.holm([one["p"] for one in told]), strict=True):
        comparison["adjusted_p"] = adjusted


def table(rows: Sequence[dict]) -> pandas.DataFrame:
    """One row a task: the model's AUC, then each control's; * where it differs from the model at an adjusted 5 %."""

    def rival(row: dict, name: str) -> str:
        if row[name] is None:
            return "–"
        return f"{row[name]:.3f}{'*' if row['against'].get(name, {}).get('adjusted_p', 1) < 0.05 else ''}"

    return pandas.DataFrame(
        {
            "dataset": row["dataset"],
            "task": row["task"],
            "AUC": f"{row['auc']:.3f}",
            **{name: rival(row, name) for name in ("random weights", "colour statistics")},
            **{
                name: f"{row[name]['mean']:.3f} ({row[name]['low']:.3f} to {row[name]['high']:.3f})"
                for name in ("shuffled prompts", "single prompts")
            },
        }
        for row in rows
    )
