"""Sets too large for memory: images decoded from their shards when they are asked for, in any order.

A shard is an uncompressed tar file, so that a sample is read from its offset: every image is a seek away, the order of
training is that of a set in memory, and so are its results. What is held is an index, a few bytes an image.
"""

import json
import tarfile
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from visionclip import conditions, keys, runs
from visionclip.conditions import VOCABULARY
from visionclip.data.labelled import LabelledImages
from visionclip.progress import progress

OPEN = 64  # shards that are held open


class ShardPixels:
    """The images of shards, as an array uint8 N×S×S×3 that is decoded where it is indexed with an array of places.

    ``places`` int64 N×3 are shard, offset and length of each encoded image.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, shards: Sequence[Path], places: np.ndarray):
        self.shards, self.places = list(shards), places

    def __len__(self) -> int:
        return len(self.places)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """N×S×S×3, as the first image has it."""
        return len(self), *self._decoded(*self.places[0]).shape

    def __getitem__(self, chosen: np.ndarray) -> np.ndarray:
        places = self.places[chosen]
        pixels = np.empty((len(places), *self.shape[1:]), np.uint8)
        for row in np.lexsort((places[:, 1], places[:, 0])):  # along the disk
            image = self._decoded(*places[row])
            if image.shape != self.shape[1:]:
                raise ValueError(f"{self._name(places[row][0])}: images of several sizes; write the set again")
            pixels[row] = image
        return pixels

    def take(self, chosen: np.ndarray, axis: int = 0) -> "ShardPixels":
        """These images, still on disk; ``axis`` is there for NumPy's way of saying it."""
        return ShardPixels(self.shards, self.places[np.asarray(chosen)])

    @cached_property
    def key(self) -> str:
        """Of the shards' content and of which images are taken from them."""
        return keys.digest([[keys.file(shard) for shard in self.shards], keys.arrays(self.places)])

    def _name(self, shard: int) -> str:
        return runs.relative(self.shards[shard])

    def _decoded(self, shard: int, offset: int, length: int) -> np.ndarray:
        file = _opened(self.shards[shard])
        file.seek(int(offset))
        encoded = file.read(int(length))
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR) if encoded else None
        if image is None:
            raise ValueError(f"{self._name(shard)}: an image in it is damaged; write the set again")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


class ConditionTable(Sequence):
    """Complete conditions of N eyes as a table int8 N×K, a mapping for whichever is looked at."""

    def __init__(self, table: np.ndarray):
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, place):
        return dict(zip(VOCABULARY, self.table[place].tolist(), strict=True))

    def take(self, chosen: np.ndarray) -> "ConditionTable":
        """The conditions of these eyes."""
        return ConditionTable(self.table[chosen])


def load(folder: Path) -> LabelledImages:
    """The set in a folder's shards, its images left on disk.

    Raises:
        FileNotFoundError: there is no shard in the folder.
        ValueError: a shard is damaged, or a sample has no image or no conditions; the message names it.
    """
    shards = sorted(folder.glob("*.tar"))
    if not shards:
        raise FileNotFoundError(f"{runs.relative(folder)}: no *.tar shard there; run the stage that writes it first")
    places, eyes, sources, names = [], [], [], []
    for number, shard in enumerate(progress(shards, "index of the shards")):
        for name, place, record in _samples(shard):
            places.append((number, *place))
            eye = conditions.complete(conditions.check(record["conditions"], f"{runs.relative(shard)}: sample {name}"))
            eyes.append(np.fromiter(eye.values(), np.int8, len(VOCABULARY)))
            sources.append(record["source"])
            names.append(name)
    known = {source: source for source in sources}  # one text, however many images have it
    pixels = ShardPixels(shards, np.array(places, np.int64))
    table = ConditionTable(np.stack(eyes))  # both are used as what is held in memory would be
    return LabelledImages(pixels, table, [known[source] for source in sources], names)  # type: ignore[arg-type]


def _samples(shard: Path) -> Iterator[tuple[str, tuple[int, int], dict]]:
    """The key of each sample, offset and length of its encoded image, and its record."""
    parts: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                name, _, kind = member.name.partition(".")
                parts.setdefault(name, {})[kind] = member.offset_data, member.size
    except tarfile.TarError as error:
        raise ValueError(f"{runs.relative(shard)}: a damaged shard ({error}); write the set again") from None
    with shard.open("rb") as file:
        for name, kinds in parts.items():
            image = kinds.get("png", kinds.get("jpg"))
            if image is None or "json" not in kinds:
                raise ValueError(f"{runs.relative(shard)}: sample {name} needs an image (png or jpg) and a json file")
            file.seek(kinds["json"][0])
            yield name, image, json.loads(file.read(kinds["json"][1]))


@lru_cache(maxsize=OPEN)
def _opened(shard: Path) -> BinaryIO:
    return shard.open("rb")
