"""What generated eyes cost in place of drawn ones, set by set, and the largest share of them that costs little enough.

The paper's training set is generated whole and is compared with nothing. Here the same eyes are drawn by the renderer,
in part or not at all, so that an arm differs in who drew its eyes and in nothing else.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas

from visionclip.evaluation.intervals import Interval, over_seeds, score_over_seeds

if TYPE_CHECKING:  # it imports torch, which reports do without
    from visionclip.evaluation.choices import Scores

BESIDE, ALONE = 0.02, 0.05  # AUC that a share beside drawn eyes may lose on any set, and that generated eyes alone may
MAIN = (0.5, 1.0)  # shares that the verdict names
MEAN, DOWNSTREAM = "mean of the sets", "AUC downstream"


def costs(scores: "Scores", reference: str, shares: Mapping[str, float]) -> list[dict]:
    """One row an arm of ``shares`` (its share of generated eyes, 0 to 1) and set, and one of the mean of the sets.

    ``scores`` are of each arm on each set, float R: one a seed, as ``choices`` has them. Of each row the ``auc`` (0 to
    1) and its ``difference`` to the arm ``reference``, seed by seed, with t-intervals; the loss that is ``allowed``,
    and whether the difference is ``within`` it.
    """
    rows = []
    for arm, share in shares.items():
        allowed = ALONE if share == 1 else BESIDE
        for name in (MEAN, *scores[reference]):
            own, base = _of(scores[arm], name), _of(scores[reference], name)
            difference = over_seeds(own - base)
            row = {"arm": arm, "share": share, "dataset": name, "auc": score_over_seeds(own), "difference": difference}
            rows.append({**row, "allowed": allowed, "within": bool((own - base).mean() >= -allowed)})
    return rows


def table(rows: Sequence[Mapping]) -> pandas.DataFrame:
    """A row an arm, a column a set: the difference, and † where the mean over seeds is beyond what may be lost."""
    cells = [
        {
            "arm": row["arm"],
            "dataset": row["dataset"],
            "cell": f"{row['difference']:+.3f}{'' if row['within'] else ' †'}",
        }
        for row in rows
    ]
    arms, sets = (dict.fromkeys(cell[key] for cell in cells) for key in ("arm", "dataset"))
    whole = pandas.DataFrame(cells, columns=["arm", "dataset", "cell"])
    return whole.pivot(index="arm", columns="dataset", values="cell").reindex(index=[*arms], columns=[*sets])


def largest(rows: Sequence[Mapping]) -> float:
    """The largest share (0 to 1) of which an arm loses at most ``BESIDE`` on every set in the mean over seeds, which a
    few seeds don't make sure; 0 where none does."""
    kept = {
        row["arm"]: row["share"]
        for row in rows
        if all(other["difference"].value >= -BESIDE for other in rows if other["arm"] == row["arm"])
    }
    return max(kept.values(), default=0.0)


def by_steps(scores: "Scores", steps: Mapping[str, int], measured: Mapping[str, Mapping]) -> pandas.DataFrame:
    """What fewer steps cost to the end of the chain: a row for each arm of ``steps`` (the steps in which its eyes were
    generated) of which stage 01 measured a generator at as many steps (``referee.by_steps``, by "generator, steps").

    The columns of 01 and ``DOWNSTREAM`` with its t-interval over seeds: the mean AUC over the sets of ``scores``.
    """
    generator = str([*measured][-1]).rpartition(", ")[0] if measured else ""  # a student stands after its teacher
    rows = {}
    for arm, count in sorted(steps.items(), key=lambda one: one[1]):
        name = f"{generator}, {count}"
        if name in measured:
            auc = score_over_seeds(_of(scores[arm], MEAN))
            limits = {f"{DOWNSTREAM} low": auc.low, f"{DOWNSTREAM} high": auc.high}
            rows[name] = {**measured[name], DOWNSTREAM: auc.value, **limits}
    return pandas.DataFrame(rows).T.astype(float).astype({"NFE": int} if rows else {})


def steps_table(steps: pandas.DataFrame) -> pandas.DataFrame:
    """The rows of ``by_steps`` to read: with limits as text beside their values, and without the speed."""
    shown = steps[["NFE", "mean AUC", "mean Dice"]].round(3).astype({"NFE": int})
    for score in ("KID", DOWNSTREAM):
        limits = steps[[score, f"{score} low", f"{score} high"]].astype(object).where(steps.notna(), None)
        shown[score] = [str(Interval(*row)) for row in limits.to_numpy()]
    return shown


def verdict(rows: Sequence[Mapping]) -> str:
    """Whether generated eyes can take the place of drawn ones, and whether they add anything, in a sentence or two.

    To *add* is to be better than drawn eyes alone on the mean of the sets, its interval over seeds above 0, which is
    not corrected for how many arms were tried. Of many arms the first that generates half of the eyes, and the first
    that generates all, are named.
    """
    if not rows:
        return "What generated eyes are worth in place of drawn ones was not tried."
    clauses = []
    first: dict[float, str] = {}
    for row in rows:
        first.setdefault(row["share"], row["arm"])
    for arm in [first[share] for share in MAIN if share in first] or first.values():
        own = {row["dataset"]: row["difference"] for row in rows if row["arm"] == arm}
        mean = own.pop(MEAN)
        worst = min(own, key=lambda name: own[name].value)
        clauses.append(f"{arm} {mean:+.3f} (worst set {worst}, {own[worst]:+.3f})")
    better = [row["arm"] for row in rows if row["dataset"] == MEAN and _surely_above(row["difference"])]
    adds = f"{', '.join(better) or 'none'} is better than the renderer alone, its interval above 0"
    share = largest(rows)
    most = f"the largest share that loses at most {BESIDE} AUC on every set, in the mean over seeds, is {share:.0%}"
    none = f"every share loses more than {BESIDE} AUC on some set in the mean over seeds, which few make sure"
    return (
        f"In place of drawn eyes, mean AUC over the sets changes by: {'; '.join(clauses)}. Of all shares tried {adds}; "
        f"{most if share else none}."
    )


def _of(sets: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    return np.mean([*sets.values()], axis=0) if name == MEAN else sets[name]


def _surely_above(difference: Interval) -> bool:
    return difference.low is not None and difference.low > 0
