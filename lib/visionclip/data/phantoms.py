"""Drawn eyes as labelled sets, with the masks that a stage learns from.

``python -m visionclip.data.phantoms --count 100000 --size 256 --out data/phantoms`` streams phantoms to shards, with
all masks and parameters; a run that was stopped goes on where it was.
"""

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from visionclip import conditions, keys, phantom, runs
from visionclip.data import field_of_view, images, shards
from visionclip.data.labelled import LabelledImages
from visionclip.streams import Stream, rng

PHANTOM = "phantom"  # the source of a drawn eye
# What finding maps show, and the masks of the phantoms that count as it.
FINDINGS: dict[str, tuple[str, ...]] = {key: finding.masks for key, finding in conditions.FINDINGS.items()}
# Pieces above which a lesion is called many: microaneurysms, haemorrhages and drusen come by the dozen.
MANY = {"microaneurysms": 10, "haemorrhage": 10, "exudate": 10, "cotton_wool": 3, "drusen": 20}
STRIDE = 4  # of a finding map, in pixels of the image
# fmt: off
COUNTS = {  # the whole numbers among the factors; all others are written as floats, in every eye
    "jpeg_quality", "dust", "ghosts", "lashes", "disc_haemorrhage", "disc_drusen", "hard_drusen", "microaneurysms",
    "haemorrhages", "flames", "exudates", "macular_exudates", "macular_star", "cotton_wool", "irma", "neovessels",
    "preretinal", "fibrosis", "laser", "drusen", "macular_pigment", "scars", "active_lesions", "bone_spicules",
    "patchy_atrophy", "lacquer_cracks",
}
# fmt: on
# Parameters that only some eyes have, as they are written of the others.
ABSENT: dict[str, object] = {"haemorrhages_by_quadrant": [0, 0, 0, 0], "laser_spots": 0, "occluded_branch": "none"}
CHANNELS = {None: (), "layout": phantom.MASKS, "findings": tuple(FINDINGS)}  # by kind of masks


def balanced_eyes(count: int, seed: int, purpose: str, unreadable: float) -> list[dict[str, int]]:
    """Complete conditions balanced over the vocabulary, a share ``unreadable`` of them with a readability fault."""
    return conditions.balanced(count, rng(seed, f"{purpose}: conditions"), unreadable)


def with_healthy_twins(
    count: int, share: float, seed: int, purpose: str, unreadable: float = 0.03
) -> tuple[list[dict[str, int]], list[Stream]]:
    """Conditions and random streams of ``count`` eyes: balanced ones, and ``share`` (0 to 1) as many healthy twins.

    A twin has its original's stream and no disease: the same eye in the same photograph, so that only the disease tells
    the two apart.
    """
    single = count - int(count * share / (1 + share))
    eyes = balanced_eyes(single, seed, purpose, unreadable)
    streams = [(seed, purpose, index) for index in range(single)]
    diseased = [index for index, eye in enumerate(eyes) if not conditions.is_normal(eye)][: count - single]
    twins = [{**eyes[index], **dict.fromkeys(conditions.DISEASES, 0)} for index in diseased]
    return eyes + twins, streams + [streams[index] for index in diseased]


def draw(
    eyes: Sequence[dict[str, int]],
    streams: Sequence[Stream],
    size: int,
    label: str = "phantoms",
    workers: int = 0,
    fixed: Mapping[str, object] | None = None,
    masks: str | None = None,
    ranges: phantom.Ranges = phantom.USUAL,
) -> LabelledImages:
    """One drawn eye of ``size``×``size`` pixels for each of N conditions and random streams.

    ``fixed`` are factors that all eyes share, ``ranges`` say how the others vary; ``workers`` processes draw (0: as
    many as cores). A key is the purpose of the stream and the place in the set. ``masks`` are

    - None: not there;
    - "layout": all of ``phantom.MASKS``, uint8 N×C×S×S in {0, 1};
    - "findings": ``FINDINGS``, uint8 N×C×S/4×S/4, the share of each cell that is covered, of 255; the conditions hold
      what the masks show (``observed``).

    With either, images and masks are prepared as photographs are (``images.prepare``); without, images are as rendered.

    Raises:
        ValueError: the kind of masks isn't known, or its maps don't fit the size.
        RuntimeError: see ``phantom.render_each``.
    """
    if masks not in CHANNELS:
        raise ValueError(f"phantoms: masks {masks!r} are not known; choose layout or findings")
    stride = STRIDE if masks == "findings" else 1
    if size % stride:
        raise ValueError(f"phantoms: size is {size}; finding maps need a multiple of {stride}")
    pixels = np.empty((len(eyes), size, size, 3), np.uint8)
    channels = np.empty((len(eyes), len(CHANNELS[masks]), size // stride, size // stride), np.uint8)
    drawn = phantom.render_each(eyes, streams, size, partial(_finished, masks), label, workers, fixed, ranges)
    known = [*map(conditions.complete, eyes)]
    for place, (image, own, facts) in enumerate(drawn):
        pixels[place], channels[place] = image, own
        known[place] |= facts
    names = [_key(purpose, place) for place, (_, purpose, _) in enumerate(streams)]
    drawn_eyes = LabelledImages(pixels, known, [PHANTOM] * len(eyes), names)
    return replace(drawn_eyes, masks=channels, mask_names=CHANNELS[masks]) if masks else drawn_eyes


def _key(purpose: str, place: int) -> str:
    """The key of an eye, without a point, at which WebDataset ends it."""
    slug = re.sub(r"\W+", "-", purpose)
    return f"{slug}-{place:07d}"


def _finished(masks: str | None, drawn: phantom.Phantom) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """The image, its masks C×h×w, none where ``masks`` is None, and facts about its findings."""
    size = len(drawn.image)
    if masks is None:
        return drawn.image, np.empty((0, size, size), np.uint8), {}
    field, image = field_of_view.find(drawn.image), images.prepare(drawn.image, size)
    if masks == "layout":
        cut = [field_of_view.cut(drawn.masks[name].astype(np.uint8), field) for name in phantom.MASKS]
        return image, np.stack([cv2.resize(one, (size, size), interpolation=cv2.INTER_NEAREST) for one in cut]), {}
    shown = [_shown(drawn.masks, names).astype(np.uint8) * 255 for names in FINDINGS.values()]
    maps = [_cells(field_of_view.cut(mask, field), size // STRIDE) for mask in shown]
    return image, np.stack(maps), observed(drawn.masks)


def finding_maps(layouts: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Of layouts N×L×S×S in {0, 1}, whose masks ``names`` tell, the maps of ``FINDINGS``: uint8 N×C×S/4×S/4, the share
    of each cell that is covered, of 255."""
    places = [[names.index(mask) for mask in masks] for masks in FINDINGS.values()]
    cells = layouts.shape[-1] // STRIDE
    return np.array([[_cells(255 * layout[own].max(0), cells) for own in places] for layout in layouts])


def _cells(mask: np.ndarray, count: int) -> np.ndarray:
    """A mask uint8 H×W in as many cells on a side, the mean of each."""
    return cv2.resize(mask, (count, count), interpolation=cv2.INTER_AREA)


def _shown(masks: Mapping[str, np.ndarray], names: Sequence[str]) -> np.ndarray:
    return np.any([masks[name] for name in names], axis=0)


def observed(masks: Mapping[str, np.ndarray]) -> dict[str, int]:
    """What a phantom's masks (S×S by name) show of each lesion: whether it is there; of those that are counted, how
    many and where.

    "Many" are more pieces than ``MANY``. The macula is within one and a half disc diameters of the fovea (as ETDRS
    report 10 measures); quadrants are about the middle between disc and fovea. Where these aren't seen, places are
    unknown.
    """
    disc, fovea = (np.argwhere(masks[name]) for name in ("disc", "fovea"))
    facts: dict[str, int] = {}
    for key, finding in conditions.FINDINGS.items():
        if not finding.lesion:
            continue
        mask = _shown(masks, finding.masks)
        facts[key] = int(mask.any())
        if not finding.counted:
            continue
        pieces = cv2.connectedComponents(mask.astype(np.uint8))[0] - 1
        facts[f"{key}_amount"] = int(pieces > 0) + int(pieces > MANY[key])
        if len(disc) and len(fovea):
            where, diameter = np.argwhere(mask), np.ptp(disc[:, 0]) + 1
            near = np.hypot(*(where - fovea.mean(0)).T) < 1.5 * diameter
            sides = where > (disc.mean(0) + fovea.mean(0)) / 2
            facts[f"{key}_macula"] = int(near.any())
            facts[f"{key}_quadrants"] = len(np.unique(sides, axis=0))
    return facts


def stream(
    folder: Path,
    count: int,
    size: int,
    seed: int,
    purpose: str,
    unreadable: float = 0.1,
    per_shard: int = 1000,
    workers: int = 0,
) -> None:
    """Draw ``count`` balanced phantoms into shards below ``folder``; shards that are there already are kept.

    A sample is ``key.png``, ``key.masks.png`` (grey, the masks one above the other in the order of ``MASKS``) and
    ``key.json`` with conditions, seed, source and the parameters drawn, the same names and types for every eye.
    ``phantoms.json`` says what the folder holds.

    Raises:
        ValueError: the folder holds phantoms of other settings, or drawn by other code.
    """
    settings = {"count": count, "size": size, "seed": seed, "purpose": purpose, "unreadable": unreadable}
    settings |= {"per_shard": per_shard, "code": keys.code(phantom)}
    card = folder / "phantoms.json"
    if card.is_file() and runs.read_json(card) != settings:
        raise ValueError(f"{runs.relative(card)}: phantoms of other settings; give another folder or delete this one")
    runs.write_json(card, settings)
    eyes = balanced_eyes(count, seed, purpose, unreadable)
    pending = {folder / f"{start // per_shard:05d}.tar": start for start in range(0, count, per_shard)}
    members = {path: range(start, count)[:per_shard] for path, start in pending.items() if not path.is_file()}
    indices = [index for own in members.values() for index in own]
    streams = [(seed, purpose, index) for index in indices]
    drawn = phantom.render_each([eyes[index] for index in indices], streams, size, _encoded, "phantoms", workers)
    for path, own in members.items():
        samples: list[shards.Sample] = []
        for index in own:
            image, masks, parameters = next(drawn)
            record = {"conditions": eyes[index], "seed": seed, "source": PHANTOM, "parameters": parameters}
            encoded = {"png": image, "masks.png": masks, "json": json.dumps(record).encode()}
            samples.append({"__key__": _key(purpose, index), **encoded})
        shards.write_one(path, samples)


def _encoded(drawn: phantom.Phantom) -> tuple[bytes, bytes, dict[str, object]]:
    """A phantom's image, its masks one above the other in the order of ``MASKS``, its parameters."""
    masks = np.concatenate(list(drawn.masks.values())).astype(np.uint8) * 255
    return shards.encode(drawn.image), shards.encode(masks), _typed(drawn.parameters)


def _typed(parameters: Mapping[str, Any]) -> dict[str, object]:
    """The parameters with the same names and types for every eye."""
    fractional = {name for name, factor in phantom.FACTORS.items() if not factor.choices} - COUNTS
    return ABSENT | {name: float(value) if name in fractional else value for name, value in parameters.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw balanced phantoms into shards; shards that are there already are kept."""
    parser = argparse.ArgumentParser(prog="python -m visionclip.data.phantoms", description=main.__doc__)
    parser.add_argument("--count", type=int, required=True, help="phantoms")
    parser.add_argument("--size", type=int, default=256, help="pixels, side of every image")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--purpose", default="training phantoms", help="name of the random stream: another, other eyes")
    parser.add_argument("--unreadable", type=float, default=0.1, help="share of eyes with a readability fault")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw; 0: as many as cores")
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    given = vars(parser.parse_args(arguments))
    if given["count"] < 1 or given["size"] < 32 or not 0 <= given["unreadable"] <= 1:
        parser.error("count must be at least 1, size at least 32, unreadable from 0 to 1")
    out = given.pop("out").absolute()
    try:
        with runs.lock(out.with_name(f".{out.name}.lock")):
            stream(out, **given)
    except (ValueError, OSError, RuntimeError) as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
