"""Random streams by purpose: who draws what is named, so that no two purposes can ever share their numbers.

A stream follows from a seed, the purpose in words and any number of indices, hashed together: ``(1, "x")`` and
``(1, "x", 0)`` are different streams, as are the same numbers for another purpose, whatever the seeds.
"""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

Stream = tuple[int, str, int]  # what is handed to worker processes: seed, purpose, index


def _entropy(seed: int, purpose: str, index: tuple[int, ...]) -> int:
    content = repr((int(seed), purpose, tuple(map(int, index))))
    return int.from_bytes(hashlib.sha256(content.encode()).digest(), "big")


def rng(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """NumPy's generator for one purpose."""
    return np.random.default_rng(_entropy(seed, purpose, index))


def integer(seed: int, purpose: str, *index: int) -> int:
    """63 random bits, for libraries that take a seed of their own."""
    return _entropy(seed, purpose, index) >> 193


def torch_rng(seed: int, purpose: str, *index: int, device: "torch.device | str" = "cpu") -> "torch.Generator":
    """torch's generator for one purpose, on a device."""
    import torch

    return torch.Generator(device).manual_seed(integer(seed, purpose, *index))
