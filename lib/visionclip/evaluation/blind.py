"""Which of the two is drawn? Photographs beside phantoms of the same labels, for a person who does not know.

A person who is right no more often than a coin finds nothing in the drawing that gives it away, which neither shows
that a model finds nothing (see ``distance``) nor that the lesions are where and as they should be.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from visionclip import streams
from visionclip.data import images, phantoms
from visionclip.data.tasks import Dataset, stated
from visionclip.evaluation.intervals import share

SIDES = "LR"  # of a pair, as a person names them


@dataclass(frozen=True)
class Pairs:
    """``pictures`` uint8 N×2×S×S×3, left and right, and ``drawn``: for each pair the side of ``SIDES`` that is no
    photograph."""

    pictures: np.ndarray
    drawn: str


def pairs(dataset: Dataset, count: int, seed: int) -> Pairs:
    """``count`` photographs (all, where there are fewer) in random order, each beside a phantom that has its labels,
    prepared as it was; which eye it is nobody says, so that it is a left or a right one by chance."""
    rng = streams.rng(seed, "pairs of a photograph and a phantom")
    places = rng.permutation(len(dataset))[:count]
    known = stated(dataset)
    eyes = [{"eye_side": int(rng.integers(2))} | known[place] for place in places]
    drawn_from = [(seed, "phantoms beside photographs", index) for index in range(len(eyes))]
    photographs = dataset.images.pixels[places]
    size = photographs.shape[1]
    rendered = phantoms.draw(eyes, drawn_from, size, "pairs").pixels
    drawn = np.stack([images.prepare(image, size) for image in rendered])
    right = rng.integers(0, 2, len(places))
    both = np.stack((drawn, photographs), axis=1)
    pictures = np.where(right[:, None, None, None, None] == 1, both[:, ::-1], both)
    return Pairs(pictures, "".join(SIDES[side] for side in right))


def rows(shown: Pairs) -> dict[str, Sequence[np.ndarray]]:
    """The pairs by number, two in a row of four pictures, for ``figures.gallery``."""
    numbered = [(str(place + 1), *pair) for place, pair in enumerate(shown.pictures)]
    if len(numbered) % 2:
        numbered.append(("", *np.full_like(shown.pictures[0], 255)))
    return {
        f"{one} | {two}": [*first, *second]
        for (one, *first), (two, *second) in zip(numbered[::2], numbered[1::2], strict=True)
    }


def score(shown: Pairs, judgement: str) -> dict:
    """How often a person is ``right``: ``judgement`` names, pair by pair, the side of ``SIDES`` that looks drawn.

    The interval is Wilson's; ``p`` is the binomial probability of as many or more by chance.

    Raises:
        ValueError: the judgement has another length than there are pairs, or another letter than those of ``SIDES``.
    """
    if len(judgement) != len(shown.drawn) or set(judgement) - set(SIDES):
        raise ValueError(f"judgement: {judgement!r} is not {len(shown.drawn)} letters {' or '.join(SIDES)}, one a pair")
    right = np.array([one == other for one, other in zip(judgement, shown.drawn, strict=True)])
    count = int(right.sum())
    test = stats.binomtest(count, len(judgement), 0.5, alternative="greater")
    return {"n": len(judgement), "right": count, "share": share(right), "p": float(test.pvalue)}
