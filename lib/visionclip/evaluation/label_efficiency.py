"""What labels bring: a pool to learn from and a part that is scored, few-shot prediction by a cache of features, and
the number of labels at which training from scratch reaches what needs none.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from visionclip import streams
from visionclip.data import duplicates
from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import Task
from visionclip.evaluation.intervals import Interval, over_seeds

SHARPNESS = 5.5  # Tip-Adapter's beta, and its alpha of 1, as published; neither is searched here


@dataclass(frozen=True)
class Split:
    """Images of a task's classes by their indices: a ``pool`` to learn from, in the order in which labels are bought,
    and those that are ``scored``."""

    pool: np.ndarray
    scored: np.ndarray


def groups(images: LabelledImages) -> np.ndarray:
    """int N: the patient of each image, as far as it is known; near-duplicates are of one patient, whatever their
    labels say, so that none is learnt from and scored."""
    members = np.unique(images.members, return_inverse=True)[1]
    copies = np.array(duplicates.pairs(images.pixels), int).reshape(-1, 2)
    joined = coo_matrix((np.ones(len(copies)), tuple(members[copies].T)), shape=(members.max() + 1,) * 2)
    return connected_components(joined, directed=False)[1][members]


def split(task: Task, members: np.ndarray, held: float, seed: int) -> Split | None:
    """A task's images in two parts, the share ``held`` (0 to 1 exclusive) of each class being scored.

    Whole ``members`` (int N) are of one part; one with images of several classes counts to the last of them. None where
    a class would be missing in a part.
    """
    known = np.flatnonzero(task.targets >= 0)
    labels = range(len(task.classes))
    highest = np.full(members.max() + 1, -1)
    np.maximum.at(highest, members[known], task.targets[known])
    rng, place = streams.rng(seed, "photographs to learn from and to be scored"), np.full(len(highest), -1)
    scored_members: list[int] = []
    for label in labels:
        own = rng.permutation(np.flatnonzero(highest == label))
        place[own] = np.arange(len(own))
        scored_members += own[: min(max(round(held * len(own)), 1), max(len(own) - 1, 0))].tolist()
    is_scored = np.isin(members[known], scored_members)
    pool, scored = known[~is_scored], known[is_scored]
    if any(label not in task.targets[part] for part in (pool, scored) for label in labels):
        return None
    return Split(pool[np.argsort(place[members[pool]], kind="stable")], scored)


def labelled(task: Task, pool: np.ndarray, share: float) -> np.ndarray:
    """The first ``share`` (0 to 1) of each class of a ``pool`` (indices, in its order), at least one image of each but
    for a share of 0; a larger share has all images of a smaller one."""
    if not share:
        return pool[:0]
    of_classes = [pool[task.targets[pool] == label] for label in range(len(task.classes))]
    return np.concatenate([one[: max(round(share * len(one)), 1)] for one in of_classes])


def tip_adapter(
    embeds: np.ndarray, logits: np.ndarray, keys: np.ndarray, targets: np.ndarray, sharpness: float = SHARPNESS
) -> np.ndarray:
    """Zero-shot ``logits`` N×K of images with unit-length ``embeds`` N×P, and what a cache of M labelled images adds to
    them: of each its ``targets`` (int M, 0 to K - 1) and how near its embedding is (``keys`` M×P), exp(-β(1 - cosine)).

    Tip-Adapter without training (Zhang et al., ECCV 2022) at its published α = 1 and β = ``sharpness``: the authors
    search both on labels, of which there are none to spare here. Each class has the same weight in the cache, whose
    classes are of equal size in theirs.
    """
    affinity = np.exp(-sharpness * (1 - embeds @ keys.T))
    values = np.eye(logits.shape[1])[targets]
    return logits + affinity @ (values * len(targets) / values.shape[1] / np.maximum(values.sum(0), 1))


@dataclass(frozen=True)
class Worth:
    """The number of labels at which a curve first reaches a score: ``labels`` is the mean over seeds on a log scale
    with its t-interval.

    ``reached`` of ``seeds`` get there with the labels ``there`` are. A seed that doesn't counts as if it did with all
    of them, so that the mean is a lower bound without limits; without a value where none does. ``at_most`` where one is
    there with the fewest labels tried, so that it is an upper bound; where both are so, it bounds nothing.
    """

    labels: Interval
    reached: int
    seeds: int
    there: int
    at_most: bool = False

    def __str__(self) -> str:
        if self.labels.value is None:
            return f"more than all {self.there}"
        if self.reached < self.seeds and self.at_most:
            return f"anything up to more than all {self.there}"
        if self.reached < self.seeds:
            return f"at least {self.labels:.0f}"
        return f"{'at most ' * self.at_most}{self.labels:.0f}"


def labels_to_reach(counts: Sequence[int], scores: Sequence[float], target: float) -> float | None:
    """Where a curve of ``scores`` by numbers of labels (``counts``, rising) first reaches ``target``, along a line over
    log labels between two points; the first count where it starts there, None where it never does."""
    for place, (count, score) in enumerate(zip(counts, scores, strict=True)):
        if score >= target:
            if not place:
                return float(count)
            before, lower = counts[place - 1], scores[place - 1]
            return float(before * (count / before) ** ((target - lower) / (score - lower)))
    return None


def worth(counts: Sequence[Sequence[int]], scores: Sequence[Sequence[float]], targets: Sequence[float]) -> Worth:
    """How many labels ``targets`` (one score a seed) are worth on the curves of as many seeds.

    The interval is of other seeds on a log scale, as labels are counted by factors; it needs two seeds, and all
    there with more than the fewest.
    """
    found = [labels_to_reach(*of_seed) for of_seed in zip(counts, scores, targets, strict=True)]
    there, reached = max(own[-1] for own in counts), sum(one is not None for one in found)
    if not reached:
        return Worth(Interval(None), 0, len(found), there)
    ends = [float(own[-1]) if one is None else one for one, own in zip(found, counts, strict=True)]
    at_most = any(one is not None and one <= own[0] for one, own in zip(found, counts, strict=True))
    logs = over_seeds(np.log(ends))
    logs = logs if reached == len(found) and not at_most else Interval(logs.value)
    labels = Interval(*(None if end is None else float(np.exp(end)) for end in (logs.value, logs.low, logs.high)))
    return Worth(labels, reached, len(found), there, at_most)
