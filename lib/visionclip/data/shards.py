"""Labelled images on disk: WebDataset tar shards that `datasets` and open_clip read as they are.

A sample is ``key.png`` (or ``key.jpg``) and ``key.json`` with its conditions, seed and source; ``key.txt`` with a
caption where one is exported. Shards are byte-identical for the same records.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import webdataset

from visionclip import conditions, runs


@dataclass(frozen=True)
class Images:
    """A set held in memory: pixels uint8 N×S×S×3 and, in the same order, complete conditions, sources and keys."""

    pixels: np.ndarray
    conditions: list[dict[str, int]]
    sources: list[str]
    keys: list[str]

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, indices: Iterable[int]) -> "Images":
        indices = list(indices)
        return Images(
            self.pixels[indices],
            *([column[index] for index in indices] for column in (self.conditions, self.sources, self.keys)),
        )


def write(folder: Path, records: Iterable[Mapping], per_shard: int = 1000) -> None:
    """Write records {key, image uint8 S×S×3, conditions, seed, source, caption?} as ``folder/00000.tar`` ....

    The shards of an earlier run are replaced only when all are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(".shard-*.partial"):
        stale.unlink()
    with webdataset.ShardWriter(str(folder / ".shard-%05d.partial"), maxcount=per_shard, verbose=0, mtime=0.0) as sink:
        for record in records:
            told = {name: record[name] for name in ("conditions", "seed", "source")}
            sample = {"__key__": record["key"], "png": encode(record["image"]), "json": json.dumps(told).encode()}
            if "caption" in record:
                sample["txt"] = record["caption"].encode()
            sink.write(sample)
    for old in folder.glob("*.tar"):
        old.unlink()
    for number, shard in enumerate(sorted(folder.glob(".shard-*.partial"))):
        shard.replace(folder / f"{number:05d}.tar")


def encode(image: np.ndarray) -> bytes:
    """PNG of uint8 S×S×3 RGB or S×S grey."""
    return cv2.imencode(".png", image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def write_one(path: Path, samples: Iterable[Mapping]) -> None:
    """Write encoded samples {__key__, extension: bytes} as one shard, which is there as a whole or not at all."""
    with runs.atomic(path) as temporary, webdataset.TarWriter(str(temporary), mtime=0.0) as sink:
        for sample in samples:
            sink.write(sample)


def read(folder: Path) -> Images:
    """Decode every sample of the folder's shards once.

    Raises:
        FileNotFoundError: no shard is there.
        ValueError: a sample has no image, no conditions or another size than the first; the message names it.
    """
    shards = sorted(folder.glob("*.tar"))
    if not shards:
        raise FileNotFoundError(f"{runs.relative(folder)}: no *.tar shard there; run the stage that writes it first")
    pixels, eyes, sources, keys = [], [], [], []
    for sample in webdataset.WebDataset([str(shard) for shard in shards], shardshuffle=False):
        where = f"{runs.relative(Path(sample['__url__']))}: sample {sample['__key__']}"
        encoded = sample.get("png", sample.get("jpg"))
        if encoded is None or "json" not in sample:
            raise ValueError(f"{where} needs an image (png or jpg) and a json file")
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
        if image is None or (pixels and image.shape != pixels[0].shape):
            raise ValueError(f"{where} is unreadable or of another size than those before it; write the set again")
        told = json.loads(sample["json"])
        pixels.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        eyes.append(conditions.complete(conditions.check(told["conditions"], where)))
        sources.append(told["source"])
        keys.append(sample["__key__"])
    return Images(np.stack(pixels), eyes, sources, keys)
