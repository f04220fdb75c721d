"""Stage 01: phantoms, a diffusion model trained on them, and the labelled synthetic set that trains VisionCLIP."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

from visionclip import conditions
from visionclip.data import labelled, phantoms, shards, streaming
from visionclip.data.labelled import LabelledImages

GENERATED, PHANTOM = "ddpm", phantoms.PHANTOM
TRAINING, GENERATING, HELD_OUT = "training phantoms", "phantoms to generate from", "held-out phantoms"
# Lesions of a few pixels, which the diffusion model would leave out for a small loss.
SMALL_LESIONS = ("microaneurysms", "haemorrhage", "exudate", "cotton_wool", "drusen", "neovessel")


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

    Of photographs labelled in part, a generator learns nothing of the rest, and a referee neither.
    """
    stated = [originals.conditions[index % len(originals)] for index in range(len(images))]
    kept = [
        {key: value for key, value in eye.items() if key in known}
        for eye, known in zip(images.conditions, stated, strict=True)
    ]
    return replace(images, conditions=kept)


def split_counts(count: int, generated_share: float, originals: int) -> tuple[int, int]:
    """How many of ``count`` images the generator draws and how many are originals; phantoms are drawn as needed.

    Raises:
        ValueError: there are fewer originals, which then are photographs, than the set needs.
    """
    generated = round(count * generated_share)
    if count - generated > originals:
        raise ValueError(
            f"images: {count} with generated_share {generated_share} need {count - generated} photographs and there "
            f"are {originals}; lower images, raise generated_share, or add photographs to the seeds"
        )
    return generated, count - generated


def generated_set(pixels: np.ndarray, plan: LabelledImages, beside: LabelledImages) -> LabelledImages:
    """Generated images uint8 N×S×S×3 of the eyes of ``plan``, to be written with those ``beside``.

    Where these have finding maps, so do the generated, of the layouts that they were made from, with what these show;
    without layouts nothing says where their findings are.
    """
    names = [f"{GENERATED}-{index:07d}" for index in range(len(pixels))]
    made = LabelledImages(pixels, list(plan.conditions), [GENERATED] * len(pixels), names)
    if beside.masks is None:
        return made
    masks, marked = np.zeros((len(pixels), *beside.masks.shape[1:]), np.uint8), plan.masks is not None
    if plan.masks is not None:
        masks[:] = _enlarged(phantoms.finding_maps(plan.masks, plan.mask_names), masks.shape[-1])
        made = replace(
            made, conditions=[_stated(*pair, plan) for pair in zip(plan.conditions, plan.masks, strict=True)]
        )
    return replace(made, masks=masks, mask_names=beside.mask_names, marked=np.full(len(pixels), marked))


def _enlarged(maps: np.ndarray, side: int) -> np.ndarray:
    """Maps uint8 N×C×s×s at another side."""
    cells = (side, side)
    return np.array([[cv2.resize(one, cells, interpolation=cv2.INTER_LINEAR) for one in own] for own in maps])


def _stated(eye: dict[str, int], layout: np.ndarray, plan: LabelledImages) -> dict[str, int]:
    """What is known of an eye, and what its layout shows."""
    return eye | phantoms.observed(dict(zip(plan.mask_names, layout.astype(bool), strict=True)))


def write_sets(folder: Path, training: Sequence[LabelledImages], held_out: LabelledImages, seed: int) -> dict[str, int]:
    """Write what trains and what is held out as shards below ``folder``; return the count of each training source, as
    read back."""
    shards.write(folder / "synthetic", chain.from_iterable(shards.samples(part, seed) for part in training))
    shards.write(folder / "validation", shards.samples(held_out, seed))
    sources = streaming.load(folder / "synthetic").sources
    return {name: sources.count(name) for name in sorted(set(sources))}


def examples(eyes: Sequence[dict[str, int]]) -> dict[str, int]:
    """For each main condition the index of the first eye that shows it, in the vocabulary's order."""
    first: dict[str, int] = {}
    for index, eye in enumerate(eyes):
        first.setdefault(labelled.presentation(eye), index)
    order = [*dict.fromkeys(conditions.presentation(one) for one in conditions.PRESENTATIONS), labelled.NOTHING_FOUND]
    return {name: first[name] for name in order if name in first}
