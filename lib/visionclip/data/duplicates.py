"""Photographs that occur twice: within a set, or in a set that trains and a set that tests.

Open collections of retina photographs share many images, and a score on a photograph that was trained on means nothing.
Candidates are found by perceptual hash, and by a network's embedding where there is one, and confirmed by correlation.
Two photographs of one eye are not found.
"""

from collections.abc import Callable, Mapping

import cv2
import numpy as np
import pandas

from visionclip.data import images

# Both thresholds were measured on real photographs and copies of them, see docs/decisions.md.
DISTANCE = 10  # bits of 63
CORRELATION = 0.965
SIDE = 32  # pixels at which patterns are compared: coarse enough to forgive a crop that is off by one
NEAREST = 5  # neighbours in the embedding that are candidates
INNER = 0.7  # of the field's radius, as its rim is alike in all


def hashes(pixels: np.ndarray) -> np.ndarray:
    """Perceptual hash, uint64 N, of prepared images uint8 N×S×S×3.

    The signs of the 63 lowest frequencies of a cosine transform about their median, of green at 32×32 pixels (pHash,
    Zauner 2010).
    """
    bits = np.empty((len(pixels), 63), bool)
    for row, image in zip(bits, pixels, strict=True):
        small = cv2.resize(image[..., 1], (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
        low = cv2.dct(small)[:8, :8].ravel()[1:]
        row[:] = low > np.median(low)
    return (bits * (np.uint64(1) << np.arange(63, dtype=np.uint64))).sum(axis=1, dtype=np.uint64)


def patterns(pixels: np.ndarray) -> np.ndarray:
    """float32 N×D, mean 0 and unit length: the local contrast of green of prepared images, without colour and rim."""
    small = np.stack([cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for image in pixels])
    contrast = images.standardise(images.to_tensor(small))[:, 2].numpy()
    axis = np.linspace(-1, 1, SIDE)
    inside = np.hypot(axis, axis[:, None]) < INNER
    flat = np.stack([cv2.GaussianBlur(one, (0, 0), 1)[inside] for one in contrast])
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def neighbours(one: np.ndarray, other: np.ndarray) -> set[tuple[int, int]]:
    """Each row of unit-length N×P with its ``NEAREST`` rows of M×P, by cosine."""
    count = min(NEAREST, len(other))
    nearest = np.argpartition(-(one @ other.T), count - 1, axis=1)[:, :count]
    return {(row, int(column)) for row, columns in enumerate(nearest) for column in columns}


def pairs(
    one: np.ndarray, other: np.ndarray | None = None, embeds: tuple[np.ndarray, np.ndarray] | None = None
) -> list[tuple[int, int]]:
    """Indices of near-duplicates between two sets of prepared images, or within one set (each pair once).

    ``embeds`` are unit-length embeddings N×P and M×P of both sets, whose neighbours are candidates too.
    """
    within = other is None
    other = one if other is None else other
    candidates = neighbours(*embeds) if embeds else set()
    codes = hashes(other)
    for row, code in enumerate(hashes(one)):
        candidates |= {(row, int(column)) for column in np.flatnonzero(np.bitwise_count(code ^ codes) <= DISTANCE)}
    if within:
        candidates = {(min(pair), max(pair)) for pair in candidates if pair[0] != pair[1]}
    if not candidates:
        return []
    ordered = sorted(candidates)
    (left, left_rows), (right, right_rows) = (np.unique(rows, return_inverse=True) for rows in np.transpose(ordered))
    alike = (patterns(one[left])[left_rows] * patterns(other[right])[right_rows]).sum(axis=1) >= CORRELATION
    return [pair for pair, same in zip(ordered, alike, strict=True) if same]


def table(
    training: Mapping[str, np.ndarray],
    tested: Mapping[str, np.ndarray],
    embed: Callable[[np.ndarray], np.ndarray] | None = None,
) -> pandas.DataFrame:
    """Counts of near-duplicates of each tested set: within itself, and with each set that trained the model.

    ``embed`` makes prepared images N×S×S×3 unit-length embeddings N×P, for more candidates than hashes give.
    """
    embedded = {id(pixels): embed(pixels) for pixels in [*training.values(), *tested.values()]} if embed else {}
    rows = []
    for name, pixels in tested.items():
        for other, known in {"itself": pixels, **training}.items():
            embeds = (embedded[id(pixels)], embedded[id(known)]) if embed else None
            count = len(pairs(pixels, None if other == "itself" else known, embeds))
            rows.append({"tested set": name, "compared with": other, "near-duplicate pairs": count})
    return pandas.DataFrame(rows)
