"""Labelled images on disk: WebDataset tar shards.

A sample is ``key.png`` (or ``key.jpg``) and ``key.json`` with its conditions, seed and source; in sets that came with
sentences also a ``caption``, its ``text`` and the ``facts`` that it states ({}: it is not used). Where there are masks,
``key.masks.png`` has them one above the other, in grey, in the order of the record's ``masks``, all 0 where the image
is not ``marked``. Shards of the same samples are byte-identical. `datasets` reads them as they are where every eye
states the same conditions; open_clip wants captions too, which ``exports`` writes.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np

from visionclip import runs
from visionclip.data import streaming
from visionclip.data.labelled import LabelledImages

Sample = Mapping[str, str | bytes]  # {"__key__": key, extension: encoded file}


def samples(images: LabelledImages, seed: int) -> Iterator[Sample]:
    """The encoded samples of a set."""
    columns = zip(images.keys, images.pixels, images.conditions, images.sources, strict=True)
    for place, (key, pixels, eye, source) in enumerate(columns):
        record: dict[str, object] = {"conditions": eye, "seed": seed, "source": source}
        if images.sentences:
            record["caption"] = dict(zip(("text", "facts"), images.sentences[place], strict=True))
        sample: dict[str, str | bytes] = {"__key__": key, "png": encode(pixels)}
        if images.masks is not None:
            record["masks"] = list(images.mask_names)
            record["marked"] = images.marked is None or bool(images.marked[place])
            sample["masks.png"] = encode(np.concatenate(list(images.masks[place])))
        yield {**sample, "json": json.dumps(record).encode()}


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
    """Write samples as one shard, atomically."""
    from webdataset import TarWriter  # as above

    with runs.atomic(path) as temporary, TarWriter(str(temporary), mtime=0.0) as sink:
        for sample in encoded:
            sink.write(sample)


def load(folder: Path) -> LabelledImages:
    """Decode every sample of the folder's shards once; raises as ``streaming.load`` does."""
    return streaming.load(folder, held=sys.maxsize)
