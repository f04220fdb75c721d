"""Stage 01: phantoms, a diffusion model trained on them, and the labelled synthetic set that trains VisionCLIP."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import pandas
from transformers import PreTrainedTokenizerBase

from visionclip import conditions, streams
from visionclip.data import labelled, phantoms, shards, streaming
from visionclip.data.labelled import LabelledImages
from visionclip.data.phantoms import STRIDE
from visionclip.evaluation import fidelity, statements
from visionclip.evaluation.encoding import encode_images
from visionclip.evaluation.statements import CONDITIONS
from visionclip.models.visionclip import VisionCLIP
from visionclip.stages import pretrain
from visionclip.training.contrastive import Settings

GENERATED, PHANTOM = "ddpm", phantoms.PHANTOM
TRAINING, GENERATING, HELD_OUT = "training phantoms", "phantoms to generate from", "held-out phantoms"
# By the name of which finding the referee learns a channel of the layouts: what most of it shows.
NAMED = {
    "disc": "disc",
    "cup": "cup",
    "dark": "haemorrhage",
    "bright": "exudate",
    "pale": "atrophy",
    "veil": "membrane",
}
LANGUAGES, CAPTIONS, PROMPTS = ("en",), 4, 6  # of the referee: its words, captions an image, prompts of a condition
THRESHOLD_EYES = 1000  # originals on which its thresholds are fixed


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
    sources = streaming.load(folder / "synthetic").sources
    return {name: sources.count(name) for name in sorted(set(sources))}


def examples(eyes: Sequence[dict[str, int]]) -> dict[str, int]:
    """For each main condition the index of the first eye that shows it, in the vocabulary's order."""
    first: dict[str, int] = {}
    for index, eye in enumerate(eyes):
        first.setdefault(labelled.presentation(eye), index)
    order = [*dict.fromkeys(conditions.presentation(one) for one in conditions.PRESENTATIONS), labelled.NOTHING_FOUND]
    return {name: first[name] for name in order if name in first}


@dataclass(frozen=True)
class Referee:
    """The model that judges generated images, its tokenizer, and for each of ``CONDITIONS`` (float64 J) the logit above
    which it is called present: rare ones seldom get above 0."""

    network: VisionCLIP
    tokenizer: PreTrainedTokenizerBase
    thresholds: np.ndarray


def train_referee(originals: LabelledImages, updates: int, seed: int, folder: Path) -> Referee:
    """The referee, trained on the originals alone: their conditions, and where there are layouts, what these show. A
    minute and a half on one core; a stopped run goes on from ``folder``."""
    settings = Settings(
        updates=updates,
        batch_size=32,
        learning_rate=3e-3,
        text_warmup=updates // 2,
        condition_weight=3.0,
        map_weight=1.0,
        ema=0.99,
        augmentation=0.0,
        precision="auto",
        seed=seed,
    )
    network, tokenizer = pretrain.learn(
        _with_maps(originals), pretrain.SMALL, settings, folder, LANGUAGES, CAPTIONS, sides=True
    )
    few = originals.take(range(len(originals))[:THRESHOLD_EYES])
    logits = statements.predict(network, tokenizer, few.pixels, CONDITIONS, LANGUAGES, PROMPTS)
    return Referee(network, tokenizer, statements.thresholds(logits, few.conditions))


def _with_maps(originals: LabelledImages) -> LabelledImages:
    """Originals with layouts as images with finding maps: of the channels ``NAMED`` the share of each cell, of 255."""
    if originals.masks is None:
        return originals
    places, cells = [originals.mask_names.index(name) for name in NAMED], (originals.masks.shape[-1] // STRIDE,) * 2
    maps = [
        [cv2.resize(255 * layout[place], cells, interpolation=cv2.INTER_AREA) for place in places]
        for layout in originals.masks
    ]
    return replace(originals, masks=np.array(maps), mask_names=tuple(NAMED.values()))


def judge(referee: Referee, pixels: np.ndarray, eyes: Sequence[dict[str, int]]) -> dict[str, dict]:
    """AUC, recall and specificity (0 to 1) of the conditions that images uint8 N×S×S×3 were made from.

    See ``fidelity.label_fidelity``; the referee's thresholds are its own, fixed on the originals.
    """
    logits = statements.predict(referee.network, referee.tokenizer, pixels, CONDITIONS, LANGUAGES, PROMPTS)
    return fidelity.label_fidelity(logits - referee.thresholds, CONDITIONS, eyes)


def distances(
    referee: Referee, originals: np.ndarray, held_out: np.ndarray, generated: np.ndarray, seed: int
) -> dict[str, dict[str, float]]:
    """KID of generated eyes to held-out phantoms, and its floor: originals to held-out phantoms, as many of each.

    All are uint8 N×S×S×3, compared by the referee's features before their projection.
    """
    rng = streams.rng(seed, "subsets for KID")
    fair = originals[rng.permutation(len(originals))[: len(generated)]]
    reference, made, drawn = (
        encode_images(referee.network, pixels, projected=False).numpy() for pixels in (held_out, generated, fair)
    )
    return {
        "kid": fidelity.kernel_distance(reference, made, rng),
        "kid_floor": fidelity.kernel_distance(reference, drawn, rng),
    }


def fidelity_table(on_phantoms: dict[str, dict], on_generated: dict[str, dict]) -> pandas.DataFrame:
    """The referee's AUC on held-out phantoms and on generated eyes, a row a condition; NaN where too few show it."""
    return pandas.DataFrame(
        {
            name: {condition: row["auc"] for condition, row in judged.items()}
            for name, judged in (("phantoms", on_phantoms), ("generated", on_generated))
        },
        dtype=float,
    )
