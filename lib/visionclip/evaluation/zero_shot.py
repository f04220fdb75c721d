"""Zero-shot prediction: the classes of a task as sentences, without training on any of its images."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional

from visionclip.conditions import Conditions
from visionclip.data.tasks import Dataset, Task
from visionclip.evaluation.encoding import encode_images, encode_texts
from visionclip.models.visionclip import VisionCLIP
from visionclip.text.familiarity import warn
from visionclip.text.grammar import PLAIN, Style, prompts


def check_languages(languages: Sequence[str], trained: Sequence[str]) -> None:
    """Raise ValueError unless the captions that ``trained`` the model are in all ``languages`` of the prompts."""
    lacking = [one for one in languages if one not in trained]
    if lacking:
        raise ValueError(
            f"languages: {', '.join(lacking)} is in no caption that trained this model (there: "
            f"{', '.join(trained) or 'none is noted'}); prompt in those, or run 02-captions with languages "
            f"{list(languages)} and 03-pretrain after it"
        )


def all_prompts(facts: Conditions, languages: Sequence[str], count: int, style: Style = PLAIN) -> list[str]:
    """The prompts of ``facts`` in all languages, up to ``count`` in each."""
    return [text for one in languages for text in _prompts(tuple(facts.items()), one, count, style)]


@lru_cache(maxsize=4096)  # always the same ones, and each takes hundreds of drafts
def _prompts(facts: tuple[tuple[str, int], ...], language: str, count: int, style: Style) -> tuple[str, ...]:
    return tuple(prompts(dict(facts), language, count, style))


def prompt_embeddings(
    network: VisionCLIP, tokenizer, task: Task, languages: Sequence[str], prompt_count: int, style: Style = PLAIN
) -> list[list[torch.Tensor]]:
    """For each class and each of its alternatives the unit-length embeddings W×P of its prompts in all languages."""
    return [
        [encode_texts(network, tokenizer, all_prompts(facts, languages, prompt_count, style)) for facts in one.facts]
        for one in task.classes
    ]


def class_embeddings(alternatives: Sequence[Sequence[torch.Tensor]]) -> list[torch.Tensor]:
    """For each class a tensor A×P, of each alternative the mean of its prompts at unit length (CLIP's ensemble)."""
    return [functional.normalize(torch.stack([rows.mean(0) for rows in one]), dim=1) for one in alternatives]


def class_logits(image_embeds: torch.Tensor, classes: Sequence[torch.Tensor], scale: float) -> np.ndarray:
    """Logits float64 N×K from image embeddings N×P and the alternatives of each class.

    A class is the union of its alternatives ("referable" is grade 2, 3 or 4), so its probability is their sum.
    """
    logits = [torch.logsumexp(scale * image_embeds @ embeds.T, dim=1) for embeds in classes]
    return torch.stack(logits, dim=1).double().numpy()


def predict(
    network: VisionCLIP, tokenizer, dataset: Dataset, languages: Sequence[str], prompt_count: int, style: Style = PLAIN
) -> dict[str, np.ndarray]:
    """Logits float64 N×K of every task of the dataset, each image encoded once.

    Words of its prompts that no training caption has are warned of, in one line.
    """
    if not dataset.tasks:
        return {}
    described = [facts for task in dataset.tasks for one in task.classes for facts in one.facts]
    warn(tokenizer, [text for facts in described for text in all_prompts(facts, languages, prompt_count, style)])
    image_embeds, scale = encode_images(network, dataset.images.pixels), network.scale.item()
    logits = {}
    for task in dataset.tasks:
        alternatives = prompt_embeddings(network, tokenizer, task, languages, prompt_count, style)
        logits[task.name] = class_logits(image_embeds, class_embeddings(alternatives), scale)
    return logits
