"""Photographs on which people marked where a finding is, to score where a model points. Nothing is trained on them.

A set is a folder with ``images/STEM.jpg`` (or another type of picture) and ``masks/FINDING/STEM.png``, 0 or 255 and of
the size of its image. An empty mask says that the finding was looked for and isn't there; no file, that nobody marked
it. Findings are named as the phantoms' maps (``phantoms.FINDINGS``).
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from visionclip import runs
from visionclip.data import field_of_view, folders, images, listing
from visionclip.data.phantoms import FINDINGS
from visionclip.progress import progress

DEFAULT_FOLDER = "data/marks"
IMAGES, MASKS = "images", "masks"
SPLITS = ("train", "test")  # what a name may begin with, before an underscore
TUNED = ("heimed", "drive")  # sets whose marks, all of them, this study's drawing and settings were chosen by
SLACK = 16  # of 255: how far a mask's values may lie from 0 and 255


@dataclass(frozen=True, eq=False)
class Marks:
    """N prepared photographs and what is marked on each.

    ``pixels`` are uint8 N×S×S×3 RGB as ``images.prepare`` makes them; ``keys`` the names of the files without
    extension; ``splits`` "train" or "test" where a name begins with it, else "all", and "development" of sets that are
    there to choose by (``TUNED``, ``folders.is_development``). For each finding that the set marks, ``masks`` are bool
    N×S×S and ``known`` bool N: whether anybody looked. A mask that isn't known is empty. ``remarks`` are lines for the
    report.
    """

    name: str
    pixels: np.ndarray
    keys: list[str]
    splits: list[str]
    masks: dict[str, np.ndarray]
    known: dict[str, np.ndarray]
    remarks: list[str]

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, indices: Iterable[int]) -> "Marks":
        """The photographs at these places, in this order, with their masks."""
        places = np.arange(len(self))[list(indices)]
        return replace(
            self,
            pixels=self.pixels[places],
            keys=[self.keys[place] for place in places],
            splits=[self.splits[place] for place in places],
            masks={finding: mask[places] for finding, mask in self.masks.items()},
            known={finding: known[places] for finding, known in self.known.items()},
        )


def marks_folder(parameter: str) -> Path:
    """Where the sets are: the parameter, or ``VISIONCLIP_MARKS`` where the parameter is at its default."""
    named = os.environ.get("VISIONCLIP_MARKS", "")
    return runs.resolve(named if named and parameter == DEFAULT_FOLDER else parameter)


def find(folder: str | Path) -> list[Path]:
    """The sets directly below ``folder``, by name: folders with ``images`` and ``masks``.

    A folder that isn't there holds none.

    Raises:
        ValueError: ``folder`` is itself a set.
    """
    folder = runs.resolve(folder)
    if _is_set(folder):
        raise ValueError(f"{runs.relative(folder)}: is itself a set of marks; give the folder that holds it")
    return [child for child in sorted(folder.iterdir()) if _is_set(child)] if folder.is_dir() else []


def load(folder: str | Path, size: int) -> Marks:
    """Read a set; its photographs are prepared to ``size`` pixels as all are, and its masks cut and resized with them.

    A pixel is marked where at least half of it is; a lesion smaller than that keeps the pixel that it covers most, as
    small lesions count. Masks whose folder is named as no finding are left out with a remark: sets hold others, such as
    that of the field of view.

    Raises:
        FileNotFoundError: the set isn't there.
        ValueError: it has no image or no mask; two files have one name; a mask has no image (all noticed before
            decoding); a file is unreadable; a mask isn't of the size of its image, or has values further than ``SLACK``
            from 0 and 255.
    """
    folder = runs.resolve(folder)
    where = runs.relative(folder)
    if not _is_set(folder):
        raise FileNotFoundError(f"{where}: no set of marks; put photographs in {IMAGES}, marks in {MASKS}/FINDING")
    photographs = _pictures(folder / IMAGES)
    if not photographs:
        raise ValueError(f"{where}/{IMAGES}: no image; put the photographs there")
    files, remarks = _masks(folder, photographs)
    names = list(photographs)
    pixels = np.empty((len(names), size, size, 3), np.uint8)
    masks = {finding: np.zeros((len(names), size, size), bool) for finding in files}

    def decode(place: int) -> str:
        path = photographs[names[place]]
        image = _read(path)
        field = field_of_view.find(image)
        pixels[place] = images.prepare(image, size)
        for finding, own in files.items():
            if names[place] in own:
                mask = _read_mask(own[names[place]], path, image.shape[:2])
                masks[finding][place] = _resized(field_of_view.cut(mask, field), size)
        return field.surround

    surrounds: Counter[str] = Counter()
    with ThreadPoolExecutor(runs.cores()) as pool:  # OpenCV decodes and resizes without Python's lock
        try:
            surrounds.update(progress(pool.map(decode, range(len(names))), f"read {folder.name}", len(names)))
        except ValueError:
            pool.shutdown(cancel_futures=True)
            raise
    remarks += [
        f"{surrounds[kind]} images with {what}" for kind, what in field_of_view.SURROUNDS.items() if surrounds[kind]
    ]
    keys = [path.stem for path in photographs.values()]
    known = {finding: np.array([name in own for name in names]) for finding, own in files.items()}
    chosen_by = folder.name.lower() in TUNED or folders.is_development(folder)
    splits = [_split(name, folders.DEVELOPMENT if chosen_by else "all") for name in names]
    return Marks(folder.name, pixels, keys, splits, masks, known, remarks)


def _is_set(folder: Path) -> bool:
    return (folder / IMAGES).is_dir() and (folder / MASKS).is_dir()


def _split(name: str, otherwise: str) -> str:
    return next((split for split in SPLITS if name.startswith(f"{split}_")), otherwise)


def _pictures(folder: Path) -> dict[str, Path]:
    """The pictures directly in a folder, sorted, by name without extension in one spelling.

    Raises:
        ValueError: two have one name.
    """
    found: dict[str, Path] = {}
    for path in listing.files(folder, links=True):
        if len(path.parts) == 1 and path.suffix.casefold() in folders.PICTURES:
            other = found.setdefault(unicodedata.normalize("NFC", path.stem).casefold(), folder / path)
            if other != folder / path:
                raise ValueError(f"{runs.relative(folder / path)}: the same name as {other.name}; keep one of the two")
    return found


def _masks(folder: Path, photographs: Mapping[str, Path]) -> tuple[dict[str, dict[str, Path]], list[str]]:
    """The files of the masks by finding, in the order of ``FINDINGS``, and name; remarks on what is left out."""
    there = sorted(path.name for path in (folder / MASKS).iterdir() if path.is_dir() and not path.name.startswith("."))
    files = {finding: _pictures(folder / MASKS / finding) for finding in FINDINGS if finding in there}
    files = {finding: own for finding, own in files.items() if own}
    strange = [name for name in there if name not in FINDINGS]
    if not files:
        held = f" (there are {', '.join(strange[:8])})" if strange else ""
        where = runs.relative(folder / MASKS)
        raise ValueError(f"{where}: no mask of a finding; put them in folders named {', '.join(FINDINGS)}{held}")
    for own in files.values():
        for name, path in own.items():
            if name not in photographs:
                where = runs.relative(path)
                raise ValueError(f"{where}: no image {path.stem} in {IMAGES}; name the mask as its image or delete it")
    return files, [f"{MASKS}/{name} left out: no finding has that name" for name in strange]


def _read(path: Path) -> np.ndarray:
    """``images.read``, whose remedy is for sets with labels."""
    try:
        return images.read(path)
    except ValueError as error:
        raise ValueError(f"{str(error).rpartition(';')[0]}; replace the file, or delete it with its masks") from None


def _read_mask(path: Path, photograph: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The mask of a photograph of this shape, uint8 H×W in {0, 255}."""
    mask = np.maximum.reduce(cv2.split(_read(path)))  # several times as fast as over the last axis
    if mask.shape != shape:
        height, width = mask.shape
        raise ValueError(
            f"{runs.relative(path)}: {width}×{height} pixels where {photograph.name} has {shape[1]}×{shape[0]}; "
            "give both one size"
        )
    # values of 0 and 1 would pass for an empty mask
    between = mask[(mask > SLACK) & (mask < 255 - SLACK)] if mask.max() > SLACK else mask[mask > 0]
    if between.size:
        raise ValueError(f"{runs.relative(path)}: holds {between[0]}; write 0 where nothing is, 255 where it is marked")
    return (mask > SLACK) * np.uint8(255)


def _resized(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask uint8 H×H in {0, 255} as bool size×size, see ``load``."""
    method = cv2.INTER_AREA if len(mask) > size else cv2.INTER_LINEAR
    share = cv2.resize(mask, (size, size), interpolation=method)
    marked = share > 127
    _, pieces = cv2.connectedComponents((share > 0).astype(np.uint8))
    lost = np.flatnonzero((share > 0) & ~np.isin(pieces, pieces[marked]))
    lost = lost[np.argsort(-share.flat[lost].astype(int), kind="stable")]
    _, first = np.unique(pieces.flat[lost], return_index=True)
    marked.flat[lost[first]] = True
    return marked
