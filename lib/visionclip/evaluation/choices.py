"""Which of several arms is likeliest to hold on photographs that nobody has seen, and how much to trust that choice.

An arm is any candidate: a way to draw, to train or to read. It is scored on every development set under every seed, in
the same order of seeds for all arms.

1. The score of a set is the mean over its tasks. An arm is worth what it reaches on its *worst* set, in the mean over
   seeds, as a new camera may be like any of them (the worst group of Sagawa et al., ICLR 2020).
2. The reference stays unless an arm beats it by more than noise: the paired t-interval over seeds of the difference of
   their worst sets lies above 0; where there is none, as of one seed, the difference is above ``MARGIN``. Of several
   such arms the best is chosen. These intervals are not corrected for how many arms were tried, and so:
3. *Leave one set out* (Gulrajani & Lopez-Paz, ICLR 2021): for each set the choice is made without it, and scored on it.
   What that loses against the choice by all sets says what choosing is worth on a set that took no part.

The worst of several sets has a meaning where their scores are of one measure: choose by the areas under the curve of
labelled sets in one call, and by the average precision of marked ones, which is far lower everywhere, in another.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas

from visionclip.evaluation import tables
from visionclip.evaluation.intervals import Interval, over_seeds, score_over_seeds

MARGIN = 0.04  # AUC by which trainings of one arm differ that differ in their seed alone
Scores = Mapping[str, Mapping[str, np.ndarray]]  # of each arm on each set, float R: one a seed


def choose(scores: Scores, reference: str) -> str:
    """The arm with the highest score on its worst set, if it beats the reference's by more than noise, else the
    reference; of equals the one with the higher mean over sets.

    Raises:
        ValueError: the reference is no arm, an arm lacks a set or a seed that it has, or a score isn't finite.
    """
    _refuse(scores, reference)
    _, base = _worst(scores[reference])
    better = [arm for arm, own in scores.items() if _beats(over_seeds(_worst(own)[1] - base))]
    return max(better, key=lambda arm: (_worst(scores[arm])[1].mean(), _mean(scores[arm]).mean()), default=reference)


def compare(scores: Scores, reference: str) -> list[dict]:
    """One row an arm: the ``mean`` over sets and the score on the ``worst set``, with t-intervals over seeds; its
    ``gain``, the difference of its worst set to the reference's worst; and whether it is ``chosen``.

    Raises as ``choose``.
    """
    chosen = choose(scores, reference)
    _, base = _worst(scores[reference])
    rows = []
    for arm, own in scores.items():
        name, worst = _worst(own)
        row = {"arm": arm, "mean": score_over_seeds(_mean(own)), "worst": score_over_seeds(worst), "worst set": name}
        gain = Interval(None) if arm == reference else over_seeds(worst - base)
        rows.append({**row, "gain": gain, "chosen": arm == chosen})
    return rows


def leave_one_out(scores: Scores, reference: str) -> list[dict]:
    """One row a set: the arm ``chosen`` by all sets and by all but this one (``chosen without``), what each scores on
    it, and the ``loss``, the first minus the second, with t-intervals over seeds.

    Raises:
        ValueError: there are fewer than two sets; and as ``choose``.
    """
    chosen = choose(scores, reference)
    if len(scores[reference]) < 2:
        raise ValueError("leave one out: one set alone; give at least two, so that one is left to choose by")
    rows = []
    for name in scores[reference]:
        others = {arm: {one: own[one] for one in own if one != name} for arm, own in scores.items()}
        without = choose(others, reference)
        first, second = scores[chosen][name], scores[without][name]
        row = {"left out": name, "chosen": chosen, "score": score_over_seeds(first)}
        row |= {"chosen without": without, "score without": score_over_seeds(second)}
        rows.append({**row, "loss": over_seeds(first - second)})
    return rows


def choice_table(rows: Sequence[Mapping]) -> pandas.DataFrame:
    """``compare``'s rows as text."""
    marked = [{**row, "chosen": "yes" if row["chosen"] else ""} for row in rows]
    texts = {"mean": "{mean}", "worst": "{worst}", "gain": "{gain:+.3f}"}
    return tables.table(marked, ("arm", "mean", "worst", "worst set", "gain", "chosen"), **texts)


def left_out_table(rows: Sequence[Mapping]) -> pandas.DataFrame:
    """``leave_one_out``'s rows as text."""
    texts = {"score": "{score}", "score without": "{score without}", "loss": "{loss:+.3f}"}
    return tables.table(rows, ("left out", "chosen", "score", "chosen without", "score without", "loss"), **texts)


def _beats(gain: Interval) -> bool:
    return (gain.low > 0) if gain.low is not None else gain.value is not None and gain.value > MARGIN


def _worst(sets: Mapping[str, np.ndarray]) -> tuple[str, np.ndarray]:
    """Name and scores R of the set whose mean over seeds is the lowest."""
    return min(sets.items(), key=lambda one: one[1].mean())


def _mean(sets: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.mean([*sets.values()], axis=0)


def _refuse(scores: Scores, reference: str) -> None:
    if reference not in scores:
        raise ValueError(f"choices: no arm {reference!r}; there are {', '.join(scores)}")
    wanted = {name: np.shape(own) for name, own in scores[reference].items()}
    for arm, sets in scores.items():
        if not wanted or {name: np.shape(own) for name, own in sets.items()} != wanted:
            raise ValueError(f"choices: {arm} lacks a set or a seed; score every arm on the same, at least one")
        if not all(np.isfinite(own).all() for own in sets.values()):
            raise ValueError(f"choices: a score of {arm} is undefined; leave that task out for all arms")
