"""Many phantoms at once, drawn side by side."""

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import cv2
import numpy as np

from visionclip.phantom.layout import layout
from visionclip.phantom.render import render
from visionclip.progress import progress


def _draw(task: tuple[dict[str, int], list[int], int]) -> tuple[np.ndarray, np.ndarray]:
    eye, seed, size = task
    drawn = render(eye, np.random.default_rng(seed), size)
    return drawn.image, layout(drawn.masks)


def _one_thread() -> None:
    cv2.setNumThreads(1)


def render_set(
    eyes: Sequence[dict[str, int]], seeds: Sequence[list[int]], size: int, label: str, workers: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 N×S×S×3 and layouts uint8 N×C×S×S in {0, 1}, one for each of N conditions and seeds.

    ``workers`` processes draw (0: as many as cores); an eye follows from its seed alone. Workers import this module and
    its like only, so that they start in a fraction of a second.
    """
    tasks = [(eye, seed, size) for eye, seed in zip(eyes, seeds, strict=True)]
    workers = workers or len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _one_thread) as pool:
        drawn = list(progress(pool.map(_draw, tasks, chunksize=16), label, len(tasks)))
    pixels, layouts = (np.stack(column) for column in zip(*drawn, strict=True))
    return pixels, layouts
