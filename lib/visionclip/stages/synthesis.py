"""Stage 01: phantoms, a diffusion model trained on them, and the labelled synthetic set that trains VisionCLIP."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pandas
import torch

from visionclip import conditions, streams
from visionclip.data import images, labelled, phantoms, shards
from visionclip.data.labelled import LabelledImages
from visionclip.evaluation import classification, fidelity
from visionclip.models.classifier import CONDITIONS, Classifier
from visionclip.training.classification import Settings
from visionclip.training.classification import train as train_classifier

GENERATED, PHANTOM = "ddpm", phantoms.PHANTOM
TRAINING, GENERATING, HELD_OUT = "training phantoms", "phantoms to generate from", "held-out phantoms"


def draw(count: int, purpose: str, seed: int, size: int, unreadable: float) -> LabelledImages:
    """``count`` phantoms, balanced over the vocabulary, with their layouts; of another purpose, other eyes."""
    eyes = phantoms.balanced_eyes(count, seed, purpose, unreadable)
    return phantoms.draw(eyes, [(seed, purpose, index) for index in range(count)], size, purpose, masks="layout")


def draw_set(count: int, purpose: str, seed: int, size: int, unreadable: float, twins: float = 0.0) -> LabelledImages:
    """``count`` phantoms prepared as photographs are, with finding maps and what these show; ``twins`` (0 to 1) as many
    of them healthy twins as others (see ``phantoms.with_healthy_twins``). Without, they are those of ``draw``."""
    eyes, streams = phantoms.with_healthy_twins(count, twins, seed, purpose, unreadable)
    return phantoms.draw(eyes, streams, size, f"{purpose}, {size} px", masks="findings")


def limited(images: LabelledImages, originals: LabelledImages) -> LabelledImages:
    """Drawn eyes with no more conditions than originals have: eye i those that original i (by turns) states.

    Of photographs labelled in part, a generator learns nothing of the rest, and a classifier neither.
    """
    stated = [originals.conditions[index % len(originals)] for index in range(len(images))]
    kept = [
        {key: value for key, value in eye.items() if key in known}
        for eye, known in zip(images.conditions, stated, strict=True)
    ]
    return replace(images, conditions=kept)


def split_counts(count: int, generated_share: float, originals: int) -> tuple[int, int]:
    """How many of ``count`` images the generator draws and how many are originals.

    Raises:
        ValueError: there are fewer originals than the set needs.
    """
    generated = round(count * generated_share)
    if count - generated > originals:
        raise ValueError(
            f"images: {count} with generated_share {generated_share} need {count - generated} originals and there are "
            f"{originals}; lower images, raise generated_share, or add originals (or photographs to the seeds)"
        )
    return generated, count - generated


def generated_set(pixels: np.ndarray, eyes: Sequence[dict[str, int]], beside: LabelledImages) -> LabelledImages:
    """Generated images uint8 N×S×S×3 with the conditions they were made from, to be written with those ``beside``:
    where these have masks, the generated have none, as nothing says where their findings are."""
    names = [f"{GENERATED}-{index:07d}" for index in range(len(pixels))]
    images = LabelledImages(pixels, list(eyes), [GENERATED] * len(pixels), names)
    if beside.masks is None:
        return images
    masks = np.zeros((len(pixels), *beside.masks.shape[1:]), np.uint8)
    return replace(images, masks=masks, mask_names=beside.mask_names, marked=np.zeros(len(pixels), bool))


def write_sets(folder: Path, training: Sequence[LabelledImages], held_out: LabelledImages, seed: int) -> dict[str, int]:
    """Write what trains and what is held out as shards below ``folder``; return the count of each training source, as
    read back."""
    shards.write(folder / "synthetic", chain.from_iterable(shards.samples(part, seed) for part in training))
    shards.write(folder / "validation", shards.samples(held_out, seed))
    sources = shards.load(folder / "synthetic").sources
    return {name: sources.count(name) for name in sorted(set(sources))}


def examples(eyes: Sequence[dict[str, int]]) -> dict[str, int]:
    """For each main condition the index of the first eye that shows it, in the vocabulary's order."""
    first: dict[str, int] = {}
    for index, eye in enumerate(eyes):
        first.setdefault(labelled.presentation(eye), index)
    order = [*dict.fromkeys(conditions.presentation(one) for one in conditions.PRESENTATIONS), labelled.NOTHING_FOUND]
    return {name: first[name] for name in order if name in first}


def train_judge(originals: LabelledImages, updates: int, seed: int, folder: Path) -> Classifier:
    """The classifier that judges generated images, trained on the originals alone: a minute on one core.

    Its input is standardised, from which it learns faster than from colours as they are, see docs/decisions.md.
    """
    settings = Settings(
        updates=updates,
        batch_size=32,
        learning_rate=2e-3,
        weight_decay=0.01,
        warmup=0.2,
        schedule="cosine",
        ema=0,
        map_weight=0,
        balanced=True,
        augmentation=0,
        seed=seed,
    )
    checkpoint = folder / "checkpoint.safetensors"
    return train_classifier(originals.without_masks(), settings, checkpoint=checkpoint, label="judge")


def judge(classifier: Classifier, pixels: np.ndarray, eyes: Sequence[dict[str, int]]) -> dict[str, dict]:
    """AUC, recall and specificity (0 to 1) of the conditions that images uint8 N×S×S×3 were made from.

    See ``fidelity.label_fidelity``.
    """
    logits, _ = classification.predict(classifier, pixels)
    return fidelity.label_fidelity(logits, CONDITIONS, eyes)


@torch.inference_mode()
def features(classifier: Classifier, pixels: np.ndarray, batch: int = 64) -> np.ndarray:
    """float32 N×D, the means of the classifier's deepest features for uint8 N×S×S×3."""
    device = next(classifier.parameters()).device
    parts = images.to_tensor(pixels).split(batch)
    deepest = [classifier.levels(images.standardise(part.to(device)))[-1].mean((2, 3)).cpu() for part in parts]
    return torch.cat(deepest).numpy()


def distances(
    classifier: Classifier, originals: np.ndarray, held_out: np.ndarray, generated: np.ndarray, seed: int
) -> dict[str, dict[str, float]]:
    """KID of generated eyes to held-out phantoms, and its floor: originals to held-out phantoms, as many of each.

    All are uint8 N×S×S×3.
    """
    rng = streams.rng(seed, "subsets for KID")
    fair = originals[rng.permutation(len(originals))[: len(generated)]]
    reference, made, drawn = (features(classifier, pixels) for pixels in (held_out, generated, fair))
    return {
        "kid": fidelity.kernel_distance(reference, made, rng),
        "kid_floor": fidelity.kernel_distance(reference, drawn, rng),
    }


def fidelity_table(on_phantoms: dict[str, dict], on_generated: dict[str, dict]) -> pandas.DataFrame:
    """The classifier's AUC on held-out phantoms and on generated eyes, a row a condition; NaN where too few show it."""
    return pandas.DataFrame(
        {
            name: {condition: row["auc"] for condition, row in judged.items()}
            for name, judged in (("phantoms", on_phantoms), ("generated", on_generated))
        },
        dtype=float,
    )
