"""Many phantoms at once, drawn side by side."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TypeVar

import cv2
import numpy as np

from visionclip.phantom.layout import layout
from visionclip.phantom.render import Phantom, render
from visionclip.progress import progress

T = TypeVar("T")


def _draw(finish: Callable[[Phantom], T], size: int, fixed: dict[str, object], eye: dict[str, int], seed: list) -> T:
    return finish(render(eye, np.random.default_rng(seed), size, **fixed))


def _picture(drawn: Phantom) -> tuple[np.ndarray, np.ndarray]:
    return drawn.image, layout(drawn.masks)


def _one_thread() -> None:
    cv2.setNumThreads(1)


def render_each(
    eyes: Sequence[dict[str, int]],
    seeds: Sequence[list[int]],
    size: int,
    finish: Callable[[Phantom], T],
    label: str,
    workers: int = 0,
    fixed: Mapping[str, object] | None = None,
) -> Iterator[T]:
    """Yield ``finish(phantom)`` for each of N conditions and seeds, in order.

    ``workers`` processes draw and finish (0: as many as cores); an eye follows from its seed alone. ``finish`` is a
    function of a module, which workers import to find it; ``fixed`` are factors that all eyes share.
    """
    workers = workers or len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _one_thread) as pool:
        drawn = pool.map(partial(_draw, finish, size, dict(fixed or {})), eyes, seeds, chunksize=16)
        yield from progress(drawn, label, len(eyes))


def render_set(
    eyes: Sequence[dict[str, int]], seeds: Sequence[list[int]], size: int, label: str, workers: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 N×S×S×3 and layouts uint8 N×C×S×S in {0, 1}, one for each of N conditions and seeds.

    As ``render_each``. Workers import this module and its like only, so that they start in a fraction of a second.
    """
    drawn = list(render_each(eyes, seeds, size, _picture, label, workers))
    pixels, layouts = (np.stack(column) for column in zip(*drawn, strict=True))
    return pixels, layouts
