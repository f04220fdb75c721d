"""Labelled images on disk: WebDataset tar shards that `datasets` and open_clip read as they are.

A sample is ``key.png`` (or ``key.jpg``) and ``key.json`` with its conditions, seed and source; ``key.txt`` with a
caption where it has one. Shards are byte-identical for the same samples.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from visionclip import conditions, runs
from visionclip.data.labelled import LabelledImages

Sample = Mapping[str, str | bytes]  # {"__key__": key, extension: encoded file}


def samples(images: LabelledImages, seed: int, captions: Sequence[str] | None = None) -> Iterator[Sample]:
    """The encoded samples of a set, each with its caption where ``captions`` are given."""
    for place, (key, pixels) in enumerate(zip(images.keys, images.pixels, strict=True)):
        record = {"conditions": images.conditions[place], "seed": seed, "source": images.sources[place]}
        text = {"txt": captions[place].encode()} if captions else {}
        yield {"__key__": key, "png": encode(pixels), "json": json.dumps(record).encode(), **text}


def encode(image: np.ndarray) -> bytes:
    """PNG of uint8 S×S×3 RGB or S×S grey."""
    return cv2.imencode(".png", image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def write(folder: Path, encoded: Iterable[Sample], per_shard: int = 1000) -> None:
    """Write samples as ``folder/00000.tar`` ..., ``per_shard`` in each.

    The shards of an earlier run are replaced only when all are written.
    """
    from webdataset import ShardWriter  # imports torch, which processes that draw phantoms need not wait for

    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(".shard-*.partial"):
        stale.unlink()
    with ShardWriter(str(folder / ".shard-%05d.partial"), maxcount=per_shard, verbose=0, mtime=0.0) as sink:
        for sample in encoded:
            sink.write(sample)
    for old in folder.glob("*.tar"):
        old.unlink()
    for number, shard in enumerate(sorted(folder.glob(".shard-*.partial"))):
        shard.replace(folder / f"{number:05d}.tar")


def write_one(path: Path, encoded: Iterable[Sample]) -> None:
    """Write samples as one shard, which is there as a whole or not at all."""
    from webdataset import TarWriter

    with runs.atomic(path) as temporary, TarWriter(str(temporary), mtime=0.0) as sink:
        for sample in encoded:
            sink.write(sample)


def load(folder: Path) -> LabelledImages:
    """Decode every sample of the folder's shards once; conditions are completed where any are known.

    Raises:
        FileNotFoundError: there is no shard in the folder.
        ValueError: a sample has no image, no conditions or another size than the first; the message names it.
    """
    from webdataset import WebDataset

    shards = sorted(folder.glob("*.tar"))
    if not shards:
        raise FileNotFoundError(f"{runs.relative(folder)}: no *.tar shard there; run the stage that writes it first")
    pixels: list[np.ndarray] = []
    eyes, sources, keys = [], [], []
    for sample in WebDataset([str(shard) for shard in shards], shardshuffle=False):
        where = f"{runs.relative(Path(sample['__url__']))}: sample {sample['__key__']}"
        encoded = sample.get("png", sample.get("jpg"))
        if encoded is None or "json" not in sample:
            raise ValueError(f"{where} needs an image (png or jpg) and a json file")
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
        if image is None or (pixels and image.shape != pixels[0].shape):
            raise ValueError(f"{where} is unreadable or of another size than those before it; write the set again")
        record = json.loads(sample["json"])
        known = conditions.check(record["conditions"], where)
        pixels.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        eyes.append(conditions.complete(known) if known else {})
        sources.append(record["source"])
        keys.append(sample["__key__"])
    return LabelledImages(np.stack(pixels), eyes, sources, keys)
