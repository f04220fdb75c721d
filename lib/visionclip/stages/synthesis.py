"""Stage 01: phantoms, a diffusion model trained on them, and the labelled synthetic set that trains VisionCLIP.

``python -m visionclip.stages.synthesis --count 100000 --size 256 --out data/phantoms`` streams phantoms alone to shards, with
their masks and parameters; a run that was stopped goes on where it was.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas

from visionclip import conditions, phantom, runs
from visionclip.data import shards
from visionclip.evaluation import fidelity

PHANTOM, GENERATED, SEED_FOLDER = "phantom", "ddpm", "seed folder"
STREAMS = {"train": 0, "generate": 1, "validation": 2}  # no eye of one is an eye of another


@dataclass(frozen=True)
class Phantoms:
    """Rendered eyes: pixels uint8 N×S×S×3, layouts uint8 N×C×S×S in {0, 1} and complete conditions."""

    pixels: np.ndarray
    layouts: np.ndarray
    conditions: list[dict[str, int]]

    @property
    def vectors(self) -> np.ndarray:
        """float32 N×K, what the generator is told of each eye."""
        return np.stack([conditions.vector(eye) for eye in self.conditions])


def render(eyes: Sequence[dict[str, int]], stream: str, seed: int, size: int, workers: int = 0) -> Phantoms:
    """Draw a phantom for each of the complete conditions, on ``workers`` processes (0: as many as cores).

    Eye i of a stream follows from the seed, the stream and i alone, however many processes draw.
    """
    seeds = [[seed, STREAMS[stream], index] for index in range(len(eyes))]
    pixels, layouts = phantom.render_set(eyes, seeds, size, f"phantoms ({stream})", workers)
    return Phantoms(pixels, layouts, list(eyes))


def balanced_eyes(count: int, stream: str, seed: int, unreadable: float) -> list[dict[str, int]]:
    """The conditions of a stream's eyes, balanced over the vocabulary."""
    return conditions.balanced(count, np.random.default_rng([seed, STREAMS[stream], 1]), unreadable)


def records(pixels: np.ndarray, eyes: Sequence[dict[str, int]], source: str, stream: str, seed: int) -> Iterator[dict]:
    """What ``shards.write`` takes; keys name stream, source and number."""
    for index, (image, eye) in enumerate(zip(pixels, eyes, strict=True)):
        key = f"{stream}-{source.replace(' ', '-')}-{index:07d}"
        yield {"key": key, "image": image, "conditions": eye, "seed": seed, "source": source}


def split_counts(count: int, generated_share: float, originals: int) -> tuple[int, int]:
    """How many of ``count`` images the generator draws and how many are originals.

    Raises:
        ValueError: there are fewer originals than the set needs.
    """
    generated = round(count * generated_share)
    if count - generated > originals:
        raise ValueError(
            f"images: {count} with generated_share {generated_share} need {count - generated} originals and there are "
            f"{originals}; raise originals or generated_share"
        )
    return generated, count - generated


def write_sets(folder: Path, synthetic: Iterable[dict], validation: Iterable[dict]) -> None:
    """Write the set that trains and the set that is held out as shards below ``folder``."""
    shards.write(folder / "synthetic", synthetic)
    shards.write(folder / "validation", validation)


def read_sources(folder: Path) -> list[str]:
    """The source of every image of a written set, read back from its shards."""
    return shards.read(folder).sources


def _encoded(drawn: phantom.Phantom) -> tuple[bytes, bytes, dict]:
    """A phantom's image, its masks one above the other in the order of ``ANATOMY`` and ``LESIONS``, its parameters."""
    masks = np.concatenate(list(drawn.masks.values())).astype(np.uint8) * 255
    return shards.encode(drawn.image), shards.encode(masks), drawn.parameters


def stream(
    folder: Path, count: int, size: int, seed: int, unreadable: float = 0.1, per_shard: int = 1000, workers: int = 0
) -> None:
    """Draw ``count`` balanced phantoms into shards below ``folder``; shards that are there already are kept.

    A sample is ``key.png``, ``key.masks.png`` (grey, the masks one above the other in the order of ``ANATOMY`` and
    ``LESIONS``) and ``key.json`` with conditions, seed, source and the parameters drawn. ``phantoms.json`` says what
    the folder holds.

    Raises:
        ValueError: the folder holds phantoms of other settings.
    """
    told = {"count": count, "size": size, "seed": seed, "unreadable": unreadable, "per_shard": per_shard}
    card = folder / "phantoms.json"
    if card.is_file() and runs.read_json(card) != told:
        raise ValueError(f"{runs.relative(card)}: phantoms of other settings; give another folder or delete this one")
    runs.write_json(card, told)
    eyes = balanced_eyes(count, "train", seed, unreadable)
    pending = {
        path: range(start, min(start + per_shard, count))
        for number, start in enumerate(range(0, count, per_shard))
        if not (path := folder / f"{number:05d}.tar").is_file()
    }
    indices = [index for members in pending.values() for index in members]
    seeds = [[seed, STREAMS["train"], index] for index in indices]
    drawn = phantom.render_each([eyes[index] for index in indices], seeds, size, _encoded, "phantoms", workers)
    for path, members in pending.items():
        shards.write_one(
            path,
            (
                {
                    "__key__": f"train-{PHANTOM}-{index:07d}",
                    "png": image,
                    "masks.png": masks,
                    "json": json.dumps(
                        {"conditions": eyes[index], "seed": seed, "source": PHANTOM, "parameters": parameters}
                    ).encode(),
                }
                for index, (image, masks, parameters) in zip(
                    members, itertools.islice(drawn, len(members)), strict=True
                )
            ),
        )


def examples(eyes: Sequence[dict[str, int]]) -> dict[str, int]:
    """For each main condition the index of the first eye that shows it, in the vocabulary's order."""
    found: dict[str, int] = {}
    for index, eye in enumerate(eyes):
        found.setdefault(conditions.presentation(eye), index)
    order = dict.fromkeys(conditions.presentation(one) for one in conditions.PRESENTATIONS)
    return {name: found[name] for name in order if name in found}


def fidelity_table(on_phantoms: dict[str, dict], on_generated: dict[str, dict]) -> pandas.DataFrame:
    """The referee's AUC on held-out phantoms and on generated eyes, a row a condition; NaN where too few show it."""
    return pandas.DataFrame(
        {
            name: {condition: row["auc"] for condition, row in judged.items()}
            for name, judged in (("phantoms", on_phantoms), ("generated", on_generated))
        },
        dtype=float,
    )


def distances(
    referee: fidelity.Referee, originals: np.ndarray, held_out: np.ndarray, generated: np.ndarray, seed: int
) -> dict[str, dict[str, float]]:
    """KID of generated eyes to held-out phantoms, and its floor: originals to held-out phantoms, as many of each."""
    rng = np.random.default_rng(seed)
    fair = originals[rng.permutation(len(originals))[: len(generated)]]
    reference, made, drawn = (referee.judge(pixels)[0] for pixels in (held_out, generated, fair))
    return {
        "kid": fidelity.kernel_distance(reference, made, rng),
        "kid_floor": fidelity.kernel_distance(reference, drawn, rng),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m visionclip.stages.synthesis", description=stream.__doc__.splitlines()[0]
    )
    parser.add_argument("--count", type=int, required=True, help="phantoms")
    parser.add_argument("--size", type=int, default=256, help="pixels, side of every image")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--unreadable", type=float, default=0.1, help="share of eyes with a readability fault")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw; 0: as many as cores")
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    given = parser.parse_args(arguments)
    if given.count < 1 or given.size < 32 or not 0 <= given.unreadable <= 1:
        parser.error("count must be at least 1, size at least 32, unreadable from 0 to 1")
    try:
        stream(given.out.absolute(), given.count, given.size, given.seed, given.unreadable, workers=given.workers)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
