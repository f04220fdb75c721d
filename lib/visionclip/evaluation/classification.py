"""Predictions of the supervised baseline: conditions, maps of findings, and the classes of any task.

A condition defined by findings can be read off the maps as well; combined with them, its logit holds better on real
eyes (see docs/decisions.md).
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from scipy import special

from visionclip.conditions import DISEASES, VOCABULARY
from visionclip.data import images
from visionclip.data.phantoms import FINDINGS
from visionclip.data.tasks import Dataset, Task
from visionclip.evaluation import scoring
from visionclip.models.classifier import CONDITIONS, DEFINING, PEAK_CELLS, Classifier
from visionclip.progress import progress

Standardise = Callable[[torch.Tensor], torch.Tensor]


def _batches(
    classifier: Classifier, pixels: np.ndarray, standardise: Standardise, batch_size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Logits of ``CONDITIONS`` and probabilities of ``FINDINGS``, batch by batch."""
    classifier.train(False)
    device = next(classifier.parameters()).device
    for part in progress(images.to_tensor(pixels).split(batch_size), "classify"):
        prepared = standardise(part.to(device)).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
            logits, map_logits = classifier(prepared)
        yield logits.float().cpu(), torch.sigmoid(map_logits.float()).cpu()


def predict(
    classifier: Classifier, pixels: np.ndarray, standardise: Standardise = images.standardise, batch_size: int = 64
) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 N×J of ``CONDITIONS`` for prepared uint8 N×S×S×3: alone, and as ``combine_with_maps`` has them.

    ``standardise`` makes pixels the classifier's input, as in training.
    """
    alone, combined = [], []
    for logits, maps in _batches(classifier, pixels, standardise, batch_size):
        alone.append(logits)
        combined.append(combine_with_maps(logits, maps))
    return torch.cat(alone).numpy(), torch.cat(combined).numpy()


def finding_maps(
    classifier: Classifier, pixels: np.ndarray, standardise: Standardise = images.standardise
) -> np.ndarray:
    """Probabilities float32 N×C×s×s of ``FINDINGS``, 0 to 1, for a few prepared uint8 N×S×S×3."""
    return torch.cat([maps for _, maps in _batches(classifier, pixels, standardise, 64)]).numpy()


def combine_with_maps(logits: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """The mean of the logits N×J of a condition and those of its findings, from probabilities N×C×s×s of ``FINDINGS``.

    A cell holds a finding if it holds any of those ``DEFINING`` the condition; its logit is of the mean over the
    ``PEAK_CELLS`` likeliest cells. What else bleeds or leaks raises it too. Other conditions keep their logits.
    """
    combined = logits.clone()
    for place, name in enumerate(CONDITIONS):
        if name in DEFINING:
            channels = [list(FINDINGS).index(finding) for finding in DEFINING[name]]
            cells = 1 - (1 - maps[:, channels]).prod(1).flatten(1)
            peak = cells.topk(min(PEAK_CELLS, cells.shape[1]), dim=1).values.mean(1)
            combined[:, place] = (logits[:, place] + torch.logit(peak, 1e-4)) / 2
    return combined


def can_predict(task: Task) -> bool:
    """True where all the conditions of a task are among ``CONDITIONS``."""
    keys = {name.split(">=")[0] for name in CONDITIONS} | {"dm"}
    return all(key in keys for one in task.classes for facts in one.facts for key in facts)


def task_logits(task: Task, logits: np.ndarray) -> np.ndarray:
    """Logits (log-probabilities) float64 N×K of a task's classes from logits N×J of ``CONDITIONS``.

    A class is the union of its alternatives, an alternative the product of its conditions, and a grade the difference
    of two neighbouring thresholds; ``{}`` is the eye without any disease.
    """
    at_least = special.expit(logits.astype(float))
    columns = {name: at_least[:, place] for place, name in enumerate(CONDITIONS)}
    for grade in range(2, VOCABULARY["dr_grade"].highest + 1):
        name, easier = f"dr_grade>={grade}", f"dr_grade>={grade - 1}"
        columns[name] = np.minimum(columns[name], columns[easier])

    def probability(key: str, value: int) -> np.ndarray:
        key = "pm" if key == "dm" else key  # drawn alike, they count as one
        lower = columns[f"{key}>={value}"] if value else np.ones(len(logits))
        return lower - columns.get(f"{key}>={value + 1}", 0)

    def alternative(facts: Mapping[str, int]) -> np.ndarray:
        facts = facts or {key: 0 for key in DISEASES if key != "dm"}
        return np.prod([probability(key, value) for key, value in facts.items()], axis=0)

    classes = [np.sum([alternative(facts) for facts in one.facts], axis=0) for one in task.classes]
    return np.log(np.stack(classes, axis=1).clip(1e-12))


def evaluate(dataset: Dataset, logits: np.ndarray, seed: int, resamples: int) -> list[dict]:
    """A result for each task that ``CONDITIONS`` can predict, in the shape of ``scoring.evaluate``'s."""
    of_tasks = {task.name: task_logits(task, logits) for task in dataset.tasks if can_predict(task)}
    return scoring.evaluate(dataset, of_tasks, seed, resamples)
