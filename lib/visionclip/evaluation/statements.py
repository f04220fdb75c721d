"""Conditions of images as the sentences that state them have it: is each at least at a value?"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import logsumexp

from visionclip.conditions import DISEASES, VECTOR_NAMES, VOCABULARY, Conditions
from visionclip.data.labelled import vector
from visionclip.evaluation.encoding import encode_images, encode_texts
from visionclip.evaluation.zero_shot import all_prompts, class_embeddings, class_logits
from visionclip.models.visionclip import VisionCLIP
from visionclip.text.grammar import PLAIN, Style

# Degenerative and pathologic myopia are drawn alike and count as one, which either of them is.
ALIKE: dict[str, tuple[str, ...]] = {"pm": ("pm", "dm")}
CONDITIONS: tuple[str, ...] = tuple(
    name for name in VECTOR_NAMES if name.split(">=")[0] in (*DISEASES, "eye_side") and name != "dm>=1"
)


def targets(eyes: Sequence[Conditions]) -> np.ndarray:
    """float32 N×J in {0, 1}: which of ``CONDITIONS`` is true of each eye, NaN where it isn't known."""
    rows = [vector(_one_myopia(eye)) for eye in eyes]
    return np.stack(rows)[:, [VECTOR_NAMES.index(name) for name in CONDITIONS]]


def _one_myopia(eye: Conditions) -> Conditions:
    """The eye with ``pm`` for both kinds of myopia: one of them is enough for it, and only both rule it out."""
    kinds = [eye[key] for key in ALIKE["pm"] if key in eye]
    known = {"pm": max(kinds)} if any(kinds) or len(kinds) == len(ALIKE["pm"]) else {}
    return {key: value for key, value in eye.items() if key != "pm"} | known


def thresholds(logits: np.ndarray, eyes: Sequence[Conditions]) -> np.ndarray:
    """float64 J: from logits N×J of ``CONDITIONS``, for each the middle between the mean of the eyes that have it and
    that of those that don't; 0 where there is none of the one or the other."""
    middles = []
    for of_all, truth in zip(logits.T, targets(eyes).T, strict=True):
        sides = of_all[truth == 1], of_all[truth == 0]
        middles.append(float(np.mean([side.mean() for side in sides])) if all(map(len, sides)) else 0.0)
    return np.array(middles)


def predict(
    network: VisionCLIP,
    tokenizer,
    pixels: np.ndarray,
    names: Sequence[str],
    languages: Sequence[str],
    prompt_count: int,
    style: Style = PLAIN,
) -> np.ndarray:
    """Logits float64 N×J of J ``names`` ("dr_grade>=2") for prepared uint8 N×S×S×3.

    Every value of a condition is stated, in up to ``prompt_count`` wordings of each language. As several values are at
    least what is asked, a logit is the difference of two logarithms of sums, as ``supervision.condition_loss`` has it.
    """
    image_embeds, scale = encode_images(network, pixels), network.scale.item()

    def stated(key: str, value: int) -> list[torch.Tensor]:
        worded = (all_prompts({one: value}, languages, prompt_count, style) for one in ALIKE.get(key, (key,)))
        return [encode_texts(network, tokenizer, texts, warned=False) for texts in worded]

    logits = {}
    for key in dict.fromkeys(name.split(">=")[0] for name in names):
        values = class_embeddings([stated(key, value) for value in range(VOCABULARY[key].highest + 1)])
        of_values = class_logits(image_embeds, values, scale)
        for value in range(1, len(values)):
            at_least = logsumexp(of_values[:, value:], axis=1) - logsumexp(of_values[:, :value], axis=1)
            logits[f"{key}>={value}"] = at_least
    return np.stack([logits[name] for name in names], axis=1)
