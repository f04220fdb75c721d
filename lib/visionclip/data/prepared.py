"""Photographs of a set as ``images.prepare`` makes them, kept on disk, as one notebook after another asks for them."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from visionclip import keys, runs
from visionclip.data import images
from visionclip.progress import progress

KEPT = "runs/photographs"  # to be deleted at will: what isn't there is decoded again
FEW = 50  # so many photographs are worth keeping
BYTES = 2 << 30  # of all that is kept; what was not asked for the longest goes first


def load(folder: Path, files: Sequence[str], size: int) -> tuple[np.ndarray, list[str]]:
    """Prepared images uint8 N×size×size×3 of the files below a folder, and what surrounds the field of view of each.

    They are read back from ``KEPT`` where the same code prepared files of these paths, sizes and times of change.

    Raises:
        ValueError: a file is no image; the message names it.
    """
    if len(files) < FEW:
        return _decode(folder, files, size)
    states = [(folder / file).stat() for file in files]
    made_of = [[file, state.st_size, state.st_mtime_ns] for file, state in zip(files, states, strict=True)]
    key = keys.digest([str(folder), made_of, size, keys.code(images, __file__)])
    path = runs.resolve(KEPT) / f"{folder.name}-{size}-{key}.npz"
    with suppress(FileNotFoundError), path.open("rb") as file:
        os.utime(path)
        kept = np.load(file)  # never a pickle
        return kept["pixels"], kept["surrounds"].tolist()
    pixels, surrounds = _decode(folder, files, size)
    if pixels.nbytes <= BYTES // 4:
        _keep(path, pixels, surrounds)
    return pixels, surrounds


def _decode(folder: Path, files: Sequence[str], size: int) -> tuple[np.ndarray, list[str]]:
    """What ``load`` gives, of the files themselves."""
    pixels = np.empty((len(files), size, size, 3), np.uint8)

    def decode(place: int) -> str:
        pixels[place], surround = images.prepare_counted(images.read(folder / files[place]), size)
        return surround

    with ThreadPoolExecutor(runs.cores()) as pool:  # OpenCV decodes and resizes without Python's lock
        try:
            surrounds = progress(pool.map(decode, range(len(files))), f"read {folder.name}", len(files))
            return pixels, list(surrounds)
        except ValueError:
            pool.shutdown(cancel_futures=True)
            raise


def _keep(path: Path, pixels: np.ndarray, surrounds: Sequence[str]) -> None:
    """Write what was prepared, and delete the longest unused of what is too much; not while another does."""
    with suppress(ValueError), runs.lock(path.parent / ".lock"):
        with runs.atomic(path) as temporary, temporary.open("wb") as file:
            np.savez(file, pixels=pixels, surrounds=np.array(surrounds))
        left = BYTES
        for kept in sorted(path.parent.glob("*.npz"), key=lambda one: one.stat().st_mtime, reverse=True):
            left -= kept.stat().st_size
            if left < 0:
                kept.unlink()
