"""Sets too large for memory: images decoded from their shards when they are asked for, in any order.

A shard is an uncompressed tar file, so that a sample is read from its offset: every image is a seek away, the order of
training is that of a set in memory, and so are its results. What is held is an index, a few bytes an image.
"""

import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from visionclip import conditions, keys, runs
from visionclip.data.labelled import LabelledImages
from visionclip.progress import progress

OPEN = 64  # shards that are held open


class ShardPixels:
    """The images of shards, as an array uint8 N×S×S×3 that is decoded where it is indexed with an array of places.

    ``places`` int64 N×3 are shard, offset and length of each encoded image; ``names`` N are for messages. With
    ``channels`` the images are masks one above the other, uint8 N×C×h×w.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, shards: Sequence[Path], places: np.ndarray, names: np.ndarray, channels: int = 0):
        self.shards, self.places, self.names, self.channels = shards, places, names, channels

    def __len__(self) -> int:
        return len(self.places)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """N×S×S×3 or N×C×h×w, as the first image has it."""
        return len(self), *self._decoded(0).shape

    def __getitem__(self, chosen: np.ndarray) -> np.ndarray:
        rows = np.arange(len(self))[chosen]
        pixels = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for place in np.lexsort((self.places[rows, 1], self.places[rows, 0])):  # along the disk
            image = self._decoded(rows[place])
            if image.shape != self.shape[1:]:
                raise ValueError(f"{self._where(rows[place])} is of another size than the first; write the set again")
            pixels[place] = image
        return pixels

    def take(self, chosen: np.ndarray, axis: int = 0) -> "ShardPixels":
        """These images, still on disk; ``axis`` is there for NumPy's way of saying it."""
        return ShardPixels(self.shards, self.places[chosen], self.names[chosen], self.channels)

    @cached_property
    def key(self) -> str:
        """Of the shards' content and of which images are taken from them."""
        return keys.digest([[keys.file(shard) for shard in self.shards], keys.arrays(self.places)])

    def _where(self, row: int) -> str:
        return f"{runs.relative(self.shards[self.places[row, 0]])}: sample {self.names[row]}"

    def _decoded(self, row: int) -> np.ndarray:
        shard, offset, length = map(int, self.places[row])
        file = _opened(self.shards[shard], self.shards[shard].stat().st_ino)
        file.seek(offset)
        encoded = file.read(length)
        kind = cv2.IMREAD_GRAYSCALE if self.channels else cv2.IMREAD_COLOR
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), kind) if encoded else None
        if image is None or (self.channels and len(image) % self.channels):
            raise ValueError(f"{self._where(row)} is a damaged image; write the set again")
        if self.channels:
            return image.reshape(self.channels, -1, image.shape[1])
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def load(folder: Path, held: int = 0) -> LabelledImages:
    """The set in a folder's shards, left on disk where decoded its images and masks take more than ``held`` bytes.

    Conditions are as they were written, what they don't name unknown; eyes that show the same share one mapping.

    Raises:
        FileNotFoundError: there is no shard in the folder.
        ValueError: a shard is damaged, or a sample has no image or no conditions, or another size than the first; the
            message names it.
    """
    shards = paths(folder)
    places, mask_places, marked, eyes, sources, names, sentences = [], [], [], [], [], [], []
    mask_names: list[str] | None = None
    same: dict = {}  # one mapping and one text, however many images have it
    for number, shard in enumerate(progress(shards, "index of the shards")):
        for name, place, mask_place, record in _samples(shard):
            if missing := {"conditions", "source"} - record.keys():
                raise ValueError(f"{runs.relative(shard)}: sample {name} has no {min(missing)}; write the set again")
            mask_names = record.get("masks", []) if mask_names is None else mask_names
            if record.get("masks", []) != mask_names:
                raise ValueError(
                    f"{runs.relative(shard)}: sample {name} has other masks than the first; write the set again"
                )
            mask_places.append((number, *mask_place))
            marked.append(record.get("marked", False))
            known = conditions.check(record["conditions"], f"{runs.relative(shard)}: sample {name}")
            places.append((number, *place))
            eyes.append(same.setdefault(tuple(known.items()), known))
            sources.append(same.setdefault(record["source"], record["source"]))
            sentence = _sentence(record.get("caption"), f"{runs.relative(shard)}: sample {name}")
            sentences.append(same.setdefault((sentence[0], tuple(sentence[1].items())), sentence))
            names.append(name)
    pixels = ShardPixels(shards, np.array(places, np.int64), np.array(names))
    images = LabelledImages(pixels, eyes, sources, names)  # type: ignore[arg-type]  # used as an array would be
    if any(facts for _, facts in sentences):
        images = replace(images, sentences=sentences)
    if mask_names:
        masks = ShardPixels(shards, np.array(mask_places, np.int64), pixels.names, len(mask_names))
        images = replace(images, mask_names=tuple(mask_names), marked=np.array(marked), masks=masks)  # type: ignore[arg-type]
    decoded = [one.shape for one in (pixels, images.masks) if one is not None]
    if sum(np.prod(shape, dtype=np.int64) for shape in decoded) > held:
        return images
    whole = np.arange(len(images))
    return replace(images, pixels=pixels[whole], masks=None if images.masks is None else images.masks[whole])


def paths(folder: Path) -> list[Path]:
    """The shards of a folder in their order.

    Raises:
        FileNotFoundError: there is none.
    """
    found = sorted(folder.glob("*.tar"))
    if not found:
        raise FileNotFoundError(f"{runs.relative(folder)}: no *.tar shard; run notebooks/01-synthesis.ipynb first")
    return found


def _samples(shard: Path) -> Iterator[tuple[str, tuple[int, int], tuple[int, int], dict]]:
    """The key of each sample, offset and length of its encoded image and of its masks (0, 0 without), its record."""
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
            yield name, image, kinds.get("masks.png", (0, 0)), _record(shard, name, file.read(kinds["json"][1]))


def _record(shard: Path, name: str, text: bytes) -> dict:
    """What a sample's JSON says of it."""
    with suppress(ValueError):
        if isinstance(record := json.loads(text), dict):
            return record
    raise ValueError(f"{runs.relative(shard)}: the JSON of sample {name} can't be read; write the set again")


def _sentence(caption: Mapping | None, where: str) -> tuple[str, dict[str, int]]:
    """A record's sentence and its facts; ("", {}) where there is none, or none that a caption is taken from."""
    if not caption or not caption["facts"]:
        return "", {}
    return caption["text"], conditions.check(caption["facts"], f"{where}: caption")


@lru_cache(maxsize=OPEN)
def _opened(shard: Path, number: int) -> BinaryIO:
    """The open file; one that was written again has another inode ``number``, and is opened again."""
    return shard.open("rb")
