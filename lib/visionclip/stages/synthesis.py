"""Stage 01: phantoms, a diffusion model trained on them, and the labelled synthetic set that trains VisionCLIP.

``accelerate launch -m visionclip.stages.synthesis --generator runs/cpu/01-synthesis/student --count 1000000 --out
data/generated`` draws a set of any size with a trained generator, every process its own shards; one that was stopped
goes on where it was.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from accelerate import PartialState

from visionclip import conditions, keys, phantom, runs, streams
from visionclip.data import labelled, phantoms, shards, streaming
from visionclip.data.labelled import LabelledImages
from visionclip.models import sampling
from visionclip.models.generator import VisionCLIPDDPMPipeline
from visionclip.progress import progress

GENERATED, PHANTOM = "ddpm", phantoms.PHANTOM
TRAINING, GENERATING, HELD_OUT = "training phantoms", "phantoms to generate from", "held-out phantoms"
UNREADABLE = 0.1  # share of eyes with a readability fault
# Lesions of a few pixels, which the diffusion model would leave out for a small loss.
SMALL_LESIONS = ("microaneurysms", "haemorrhage", "exudate", "cotton_wool", "drusen", "neovessel")
CLEAR: dict[str, Any] = {
    "gaze": 0.3,
    "field_shape": "circle",
    "strangeness": 0,
    "blur": 0,
    "dust": 0,
    "ghosts": 0,
    "shadow": 0,
    "glow": 0,
}


def draw(count: int, purpose: str, seed: int, size: int, unreadable: float = UNREADABLE) -> LabelledImages:
    """``count`` phantoms, balanced over the vocabulary, with their layouts; of another purpose, other eyes."""
    eyes = phantoms.balanced_eyes(count, seed, purpose, unreadable)
    return phantoms.draw(eyes, [(seed, purpose, index) for index in range(count)], size, purpose, masks="layout")


def draw_set(
    count: int, purpose: str, seed: int, size: int, unreadable: float = UNREADABLE, twins: float = 0.0
) -> LabelledImages:
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
    made = LabelledImages(pixels, list(plan.conditions), [GENERATED] * len(pixels), _names(range(len(pixels))))
    if beside.masks is None:
        return made
    masks, marked = np.zeros((len(pixels), *beside.masks.shape[1:]), np.uint8), plan.masks is not None
    if plan.masks is not None:
        masks[:] = _enlarged(phantoms.finding_maps(plan.masks, plan.mask_names), masks.shape[-1])
        made = replace(
            made, conditions=[_stated(*pair, plan) for pair in zip(plan.conditions, plan.masks, strict=True)]
        )
    return replace(made, masks=masks, mask_names=beside.mask_names, marked=np.full(len(pixels), marked))


def _names(places: Sequence[int]) -> list[str]:
    return [f"{GENERATED}-{place:07d}" for place in places]


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


def one_by_one(size: int, seed: int) -> dict[str, np.ndarray]:
    """One eye, uint8 S×S×3, healthy and with each main condition alone, by its name; nothing else of it changes, and
    the photograph shows macula and disc clearly."""
    purpose = "one eye, one disease after the other"
    eyes = {conditions.presentation(one): one for one in conditions.PRESENTATIONS}
    return {name: phantom.render(one, streams.rng(seed, purpose), size, **CLEAR).image for name, one in eyes.items()}


def trained(folder: str | Path) -> VisionCLIPDDPMPipeline | None:
    """The pipeline that drew the set of a finished stage: the one given to it, its student, or the model it trained;
    None of a set that came from elsewhere, as SynFundus-1M does."""
    made = runs.require(folder, "01-synthesis")["parameters"]
    own = runs.resolve(folder) / ("student" if made.get("student_updates") else "ddpm")
    place = runs.resolve(made["generator"]) if made.get("generator") else own
    return VisionCLIPDDPMPipeline.from_pretrained(place) if (place / "model_index.json").is_file() else None


def stream(
    folder: Path,
    generator: Path,
    count: int,
    seed: int = 0,
    unreadable: float = UNREADABLE,
    per_shard: int = 1000,
    rank: int = 0,
    world: int = 1,
) -> None:
    """Draw ``count`` eyes, balanced over the vocabulary, with the pipeline saved in ``generator``, into shards below
    ``folder``; of ``world`` processes the one of this ``rank`` draws every so many-th shard that isn't there yet.

    What is at a place follows from the seed and that place alone, however many processes draw. Samples have finding
    maps where the generator was given layouts.

    Raises:
        FileNotFoundError: there is no saved pipeline.
        ValueError: the folder holds eyes of other settings, of another generator or made by other code.
    """
    if not (generator / "model_index.json").is_file():
        raise FileNotFoundError(f"{runs.relative(generator)}: no model_index.json; give the folder of a saved pipeline")
    pipeline = VisionCLIPDDPMPipeline.from_pretrained(generator)
    made_by = {"generator": sampling.key(pipeline), "seed": seed, "unreadable": unreadable}
    eyes = phantoms.balanced_eyes(count, seed, GENERATING, unreadable)

    def make(places: range) -> LabelledImages:
        return _generated(pipeline, [eyes[place] for place in places], places, seed)

    _write_missing(folder, made_by, count, per_shard, make, rank, world)


def stream_originals(
    folder: Path, count: int, size: int, seed: int, unreadable: float = UNREADABLE, per_shard: int = 1000
) -> None:
    """Draw the phantoms of ``draw`` for training into shards below ``folder``, those that aren't there yet.

    Raises:
        ValueError: the folder holds eyes of other settings, or made by other code.
    """
    eyes = phantoms.balanced_eyes(count, seed, TRAINING, unreadable)

    def make(places: range) -> LabelledImages:
        drawn_from = [(seed, TRAINING, place) for place in places]
        drawn = phantoms.draw([eyes[place] for place in places], drawn_from, size, TRAINING, masks="layout")
        return replace(drawn, keys=[f"{PHANTOM}-{place:07d}" for place in places])

    _write_missing(folder, {"size": size, "seed": seed, "unreadable": unreadable}, count, per_shard, make)


def _write_missing(
    folder: Path,
    made_by: dict[str, object],
    count: int,
    per_shard: int,
    make: Callable[[range], LabelledImages],
    rank: int = 0,
    world: int = 1,
) -> None:
    """The shards of a set that aren't there yet, of ``world`` processes the part of this ``rank``; ``make`` gives the
    images at places. ``set.json`` says what made them."""
    settings = {**made_by, "count": count, "per_shard": per_shard, "code": keys.code(__file__)}
    card = folder / "set.json"
    if card.is_file() and runs.read_json(card) != settings:
        raise ValueError(f"{runs.relative(card)}: eyes of other settings; give another folder or delete this one")
    runs.write_json(card, settings)
    own = [number for number in range(rank, -(-count // per_shard), world) if not _shard(folder, number).is_file()]
    for number in progress(own, "shards"):
        places = range(count)[number * per_shard : (number + 1) * per_shard]
        shards.write_one(_shard(folder, number), shards.samples(make(places), 0))


def _shard(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.tar"


def _generated(
    pipeline: VisionCLIPDDPMPipeline, eyes: Sequence[dict[str, int]], places: range, seed: int
) -> LabelledImages:
    """The eyes at these places of a set, on one core."""
    size, layout = pipeline.unet.config.size, bool(pipeline.unet.config.layout)
    drawn_from = [(seed, GENERATING, place) for place in places]
    plan = phantoms.draw(eyes, drawn_from, size, GENERATING, workers=1, masks="layout" if layout else None)
    pixels = sampling.sample(pipeline, plan.vectors, plan.masks, seed=seed, places=places)
    cells = (len(plan), len(phantoms.FINDINGS), *(size // phantoms.STRIDE,) * 2)
    beside = replace(plan, masks=np.zeros(cells, np.uint8), mask_names=tuple(phantoms.FINDINGS)) if layout else plan
    return replace(generated_set(pixels, plan, beside), keys=_names(places))


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw a set with a trained generator; shards that are there already are kept."""
    parser = argparse.ArgumentParser(prog="python -m visionclip.stages.synthesis", description=main.__doc__)
    parser.add_argument("--generator", type=runs.resolve, required=True, help="folder of a saved pipeline")
    parser.add_argument("--count", type=int, required=True, help="eyes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--unreadable", type=float, default=UNREADABLE, help="share of eyes with a readability fault")
    parser.add_argument("--per-shard", type=int, default=1000, help="eyes in each shard")
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    given = vars(parser.parse_args(arguments))
    if given["count"] < 1 or given["per_shard"] < 1 or not 0 <= given["unreadable"] <= 1:
        parser.error("count and per-shard must be at least 1, unreadable from 0 to 1")
    state = PartialState()
    try:
        stream(given.pop("out").absolute(), **given, rank=state.process_index, world=state.num_processes)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
