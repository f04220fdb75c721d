"""Many phantoms at once, drawn by several processes."""

import multiprocessing
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import TypeVar

import cv2

from visionclip import runs
from visionclip.phantom.factors import USUAL, Ranges
from visionclip.phantom.render import Phantom, render
from visionclip.progress import progress
from visionclip.streams import Stream, rng

T = TypeVar("T")
AT_ONCE = 16  # eyes that a process is handed; as few are drawn sooner than one has started


def render_each(
    eyes: Sequence[dict[str, int]],
    streams: Sequence[Stream],
    size: int,
    finish: Callable[[Phantom], T],
    label: str,
    workers: int = 0,
    fixed: Mapping[str, object] | None = None,
    ranges: Ranges = USUAL,
) -> Iterator[T]:
    """Yield ``finish(phantom)`` for each of N conditions and random streams (seed, purpose, index), in order.

    ``workers`` processes draw and finish (0: as many as cores, none for a few eyes, which this one draws before they
    would have started); an eye follows from its conditions and stream alone.
    ``finish`` is a function of a module, which workers import to find it; ``fixed`` are factors that all eyes share,
    ``ranges`` say how the others vary.

    Raises:
        ValueError: workers can't be given ``finish`` or ``fixed``.
        RuntimeError: a process ended before its time, as all do that a script starts outside its ``__main__`` guard.
    """
    try:
        pickle.dumps((finish, fixed))
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        raise ValueError(f"{label}: {error}; workers take functions of a module and plain values") from None
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(1)  # a worker that runs its caller's script: it ends, and the caller raises what follows
    draw = partial(_draw, finish, size, ranges, dict(fixed or {}))
    if not workers and len(eyes) <= AT_ONCE:
        yield from progress(map(draw, eyes, streams), label, len(eyes))
        return
    try:
        with ProcessPoolExecutor(
            workers or runs.cores(), multiprocessing.get_context("spawn"), cv2.setNumThreads, (1,)
        ) as pool:
            yield from progress(pool.map(draw, eyes, streams, chunksize=AT_ONCE), label, len(eyes))
    except BrokenProcessPool:
        raise RuntimeError(
            f"{label}: a process that draws ended before its time; in a script (a file, as each reads it), put the "
            'call under if __name__ == "__main__":, else there may be too little memory for so many workers'
        ) from None


def _draw(
    finish: Callable[[Phantom], T],
    size: int,
    ranges: Ranges,
    fixed: dict[str, object],
    eye: dict[str, int],
    stream: Stream,
) -> T:
    return finish(render(eye, rng(*stream), size, ranges, **fixed))
