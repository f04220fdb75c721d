"""What a figure shows, in one sentence made of its numbers, which its caption begins with: one function a figure, named
as that of ``figures`` is.

A sentence says no more than intervals do: what holds chance, or 0, is not apart from it. It is empty where there is too
little to say anything.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas

from visionclip.conditions import plain
from visionclip.evaluation.conclusions import DEVELOPMENT, DRAWN, SIDE, SIMPLY_PHANTOMS
from visionclip.evaluation.intervals import Comparison, Interval, difference, mean_auc, share

CHANCE = 0.5  # AUC
# As ``generated_share`` has it: to import that would make what any notebook keeps depend on who draws eyes.
DOWNSTREAM = "AUC downstream"
UPDATES = 20  # at each end of a training over which its loss is averaged, as the answer of 03 has it
FEWEST = 5  # eyes of a class of which errors are quoted
RATE = "1 % false alarms"  # at which attacks are compared (privacy.RATE)


def loss_curve(losses: Sequence[float], floors: Sequence[float] | None = None) -> str:
    """From where to where a loss falls over N updates, and how far it ends above its floor."""
    few = min(UPDATES, len(losses) // 2)
    if not few:
        return ""
    first, last = float(np.mean(losses[:few])), float(np.mean(losses[-few:]))
    falls = "falls" if last < first else "does not fall, it goes"
    above = "" if floors is None else f", {last - float(np.mean(floors[-few:])):.2f} above its floor"
    return f"The loss {falls} from {first:.3g} to {last:.3g}{above} (means of the first and last {few} updates)."


def fidelity_bars(on_phantoms: Mapping[str, Mapping], on_generated: Mapping[str, Mapping]) -> str:
    """How many conditions generated eyes show above chance and the weakest, from ``referee.judge``'s rows; which eye it
    is, is none."""
    scored = {
        name: Interval(row["auc"], row["low"], row["high"])
        for name, row in on_generated.items()
        if row["auc"] is not None and not name.startswith(SIDE)
    }
    if not scored:
        return ""
    above = sum(_above(auc, CHANCE) for auc in scored.values())
    name = min(scored, key=lambda one: _value(scored[one]))
    ceiling = on_phantoms.get(name, {}).get("auc")
    beside = "" if ceiling is None else f" (phantoms {ceiling:.3f})"
    return (
        f"Generated eyes show {above} of {len(scored)} conditions above chance by their 95 % intervals; the weakest is "
        f"{plain(name)}, AUC {scored[name]}{beside}."
    )


def step_curves(table: pandas.DataFrame) -> str:
    """Whether more evaluations than the fewest improve what a generator draws, from the table of
    ``figures.step_curves``: by the AUC downstream where seeds give it limits, else by the kernel distance."""
    by_auc = DOWNSTREAM in table and bool(table[f"{DOWNSTREAM} low"].notna().all())
    score, sign = (DOWNSTREAM, 1) if by_auc else ("KID", -1)
    generators = [str(name).rpartition(", ")[0] for name in table.index]
    of = [f" ({name})" if len(set(generators)) > 1 else "" for name in generators]
    scored = [Interval(*_numbers(row, score)) for _, row in table.iterrows()]
    rows = [row for row in zip(table["NFE"], scored, of, strict=True) if row[1].value is not None]
    if len(rows) < 2:
        return ""
    best = max(rows, key=lambda row: sign * _value(row[1]))
    fewest = min(rows, key=lambda row: (row[0], -sign * _value(row[1])))
    start, end = (f"{value:.3g} in {count:.0f}{name}" for count, value, name in (fewest, best))
    if fewest is not best and _apart(difference(best[1], fewest[1])):
        return f"More evaluations improve {score} beyond the intervals: {start}, {end}."
    reached = "" if fewest is best else f", at best {end}"
    return f"More evaluations do not improve {score} beyond the intervals: {start}{reached}."


def _numbers(row: pandas.Series, score: str) -> list[float | None]:
    named = (row.get(name) for name in (score, f"{score} low", f"{score} high"))
    return [None if one is None or np.isnan(one) else float(one) for one in named]


def recall_bars(recall: Mapping[str, Mapping[str, Mapping]]) -> str:
    """How many recalls of ``retrieval.retrieval`` are above chance by Wilson's interval of a share, and which most."""
    rows = [
        (f"{direction}, {rank}", share(np.arange(one["n"]) < round(one["value"] * one["n"])), one["chance"])
        for direction, ranks in recall.items()
        for rank, one in ranks.items()
        if one["value"] is not None
    ]
    if not rows:
        return ""
    above = [row for row in rows if _above(row[1], row[2])]
    name, value, chance = max(above or rows, key=lambda row: _value(row[1]) - row[2])
    most = f"{name}: {value} against {chance:.3f}"
    if not above:
        return f"No recall is above chance by its 95 % interval; the nearest to it is {most}."
    return f"{len(above)} of {len(rows)} recalls are above chance by their 95 % intervals, most {most}."


def forest(results: Sequence[Mapping]) -> str:
    """How many tasks of reported photographs and of phantoms are above chance, and how many below it, from the results
    of ``scoring``."""
    clauses = []
    for where, drawn in (("photographs", False), ("drawn eyes", True)):
        own = [
            Interval.of(row["auc"])
            for row in results
            if (row["dataset"] in DRAWN) == drawn and row["split"] != DEVELOPMENT
        ]
        own = [auc for auc in own if auc.value is not None]
        above, below = sum(_above(auc, CHANCE) for auc in own), sum(_below(auc, CHANCE) for auc in own)
        under = f" ({below} below it)" if below else ""
        clauses += [f"{above} of {_counted(len(own), 'task')} on {where}{under}"] if own else []
    return f"AUC is above chance by its 95 % interval in {' and '.join(clauses)}." if clauses else ""


def reliability(diagrams: Mapping[str, Mapping[str, Sequence[Mapping]]]) -> str:
    """How many bins miss the diagonal with their interval, each way to read probabilities, from ``scoring.reliability``
    as ``figures.reliability`` draws it; and in how many of the first way the probability is too high."""
    bins: dict[str, list[Mapping]] = {}
    for ways in diagrams.values():
        for way, rows in ways.items():
            bins.setdefault(way, []).extend(rows)
    if not any(bins.values()):
        return ""
    missed = {way: [row for row in rows if _misses(row)] for way, rows in bins.items()}
    first, *others = missed
    high = sum(row["predicted"] > row["observed"].value for row in missed[first])
    counts = "".join(f", {len(missed[way])} {way}" for way in others)
    return (
        f"Of {_counted(len(bins[first]), 'bin')} {len(missed[first])} miss the diagonal {first} ({high} of them "
        f"predicted too high){counts}; of calibrated ones about 1 in 20 would."
    )


def _misses(row: Mapping) -> bool:
    return _above(row["observed"], row["predicted"]) or _below(row["observed"], row["predicted"])


def confusions(matrices: Mapping[str, tuple[np.ndarray, Sequence[str]]]) -> str:
    """The error that is surest to be commoner than by guessing, from the counts that ``figures.confusions`` draws; of
    classes with ``FEWEST`` eyes or more."""
    errors, judged = [], False
    for panel, (counts, classes) in matrices.items():
        for place, row in enumerate(np.asarray(counts)):
            judged = judged or row.sum() >= FEWEST
            wrong = max((column for column in range(len(row)) if column != place), key=row.__getitem__)
            rate = share(np.arange(row.sum()) < row[wrong])
            if row.sum() >= FEWEST and _above(rate, 1 / len(row)):
                errors.append((rate, f"“{classes[place]}” taken for “{classes[wrong]}”", row.sum(), panel))
    if not errors:
        return "No class is taken for another more often than by guessing." if judged else ""
    rate, what, count, panel = max(errors, key=lambda one: one[0].low or 0.0)
    return f"The surest error is {what}: {rate} of {count} eyes ({panel})."


def roc(results: Sequence[Mapping], dataset: str, tasks: Sequence[str]) -> str:
    """The highest and the lowest AUC of a set's ``tasks``, from the results of ``scoring``, and which of both are not
    apart from chance."""
    own = {row["task"]: Interval.of(row["auc"]) for row in results if row["dataset"] == dataset}
    own = {name: auc for name, auc in own.items() if name in tasks and auc.value is not None}
    if not own:
        return ""
    ends = dict.fromkeys(choose(own, key=lambda name: _value(own[name])) for choose in (max, min))
    words = [f"{plain(name)}, AUC {own[name]}{_at_chance(own[name])}" for name in ends]
    return f"{'Highest' if len(words) > 1 else 'The one task'} is {'; lowest '.join(words)}."


def _at_chance(auc: Interval) -> str:
    if _above(auc, CHANCE):
        return ""
    return " (below chance)" if _below(auc, CHANCE) else " (not above chance)"


def size_curve(returns: Mapping[str, Mapping | None]) -> str:
    """What the last doubling of the training set added to AUC, from ``dataset_size.returns``: the least and the most
    over the sets. The fitted law never falls, so that an interval above 0 proves no gain, and none is claimed."""
    known = {name: one for name, one in returns.items() if one}
    if not known:
        return ""
    gains = {name: Interval.of(one["last"]) for name, one in known.items()}
    ends = dict.fromkeys(choose(gains, key=lambda name: _value(gains[name])) for choose in (min, max))
    added = " to ".join(f"{gains[name]:+.3f} on {name}" for name in ends)
    images = max(one["largest"] for one in known.values())
    return f"By the law, which never falls, AUC rises with the last doubling, to {images} images, by {added}."


def distributions(looks: Mapping[str, pandas.DataFrame]) -> str:
    """The quantity that tells phantoms from a set of photographs best, and the one that does so least: AUC of that
    number alone, with its interval over images, from the tables that ``figures.distributions`` draws."""
    drawn = looks[SIMPLY_PHANTOMS]
    apart = [
        (_separability(drawn[quantity], table[quantity]), f"{quantity} ({name})")
        for name, table in looks.items()
        if name != SIMPLY_PHANTOMS
        for quantity in drawn
    ]
    if not apart:
        return ""
    (most, widest), (least, nearest) = (choose(apart, key=lambda one: _value(one[0])) for choose in (max, min))
    return f"Phantoms and photographs are furthest apart in {widest}, AUC {most}, and nearest in {nearest}, {least}."


def _separability(one: pandas.Series, other: pandas.Series) -> Interval:
    """AUC of a number between two sets, 0.5 to 1, whichever has the larger ones; its interval may reach below."""
    values, second = np.concatenate([one, other]), np.arange(len(one) + len(other)) >= len(one)
    auc = mean_auc(second[None], values[None])
    return auc if _value(auc) >= CHANCE else mean_auc(second[None], -values[None])


def scatter(separable: Sequence[Mapping], features: str) -> str:
    """How well these ``features`` tell phantoms from photographs, beside sets of photographs from each other, from the
    rows of ``distance.evaluate``: the lowest and highest AUC of both."""
    own = [row for row in separable if row["features"] == features]
    own = [row for row in own if Interval.of(row["auc"]).value is not None]
    drawn = [row for row in own if row["first"] == SIMPLY_PHANTOMS]
    others = [row for row in own if row["first"] != SIMPLY_PHANTOMS]
    if not drawn:
        return ""
    ordered = sorted(drawn, key=lambda row: _value(Interval.of(row["auc"])))
    ends = dict.fromkeys(f"{Interval.of(row['auc'])} ({row['dataset']})" for row in (ordered[0], ordered[-1]))
    values = [_value(Interval.of(row["auc"])) for row in others]
    beside = f"; two sets of photographs with {min(values):.2f} to {max(values):.2f}" if values else ""
    return f"The model's features tell phantoms from photographs with AUC {' to '.join(ends)}{beside}."


def prompt_matrix(matrix: Sequence[Mapping]) -> str:
    """In how many tasks a right sentence is the best of all, beside guessing, and which sentence is most often the
    best, from the rows of ``prompt_matrix.evaluate``."""
    ranked = [row for row in matrix if row["rank"] is not None]
    if not ranked:
        return ""
    hits = sum(row["rank"] == 1 for row in ranked)
    guessed = sum(len(row["right"]) / row["of"] for row in ranked)
    best = [max(row["auc"], key=row["auc"].__getitem__) for row in matrix]
    commonest = max(dict.fromkeys(best), key=best.count)
    return (
        f"A right sentence is the best of its row in {hits} of {_counted(len(ranked), 'task')} ({guessed:.1f} by "
        f"guessing); most often, in {best.count(commonest)} rows, the best is {plain(commonest)}."
    )


def differences(rows: Sequence[Mapping]) -> str:
    """How many arms differ from everything after Holm's correction, and which most, from the rows of
    ``diversity.compare``; of one seed, which tests nothing, there is nothing to say."""
    against = {f"{row['arm']}, {row['dataset']}": row["against"] for row in rows if row["against"]}
    return _tested("Different from everything", against, {name: abs(_gain(one)) for name, one in against.items()})


def learning_curves(gains: Sequence[Mapping]) -> str:
    """How often pretraining is ahead of training from scratch with the same labels, after Holm's correction, and where
    most, from the rows of ``fine_tuning.gains``; of one seed, which tests nothing, there is nothing to say."""
    against = {f"{one['method']} with {one['labels']} labels ({plain(one['task'])})": one["gain"] for one in gains}
    return _tested("Ahead of from scratch", against, {name: _gain(one) for name, one in against.items()})


def _gain(one: Comparison) -> float:
    return _value(one.difference)


def _tested(what: str, against: Mapping[str, Comparison], size: Mapping[str, float]) -> str:
    """How many of the comparisons that were tested are more than chance and of positive ``size``, and the widest."""
    tested = [name for name, one in against.items() if one.adjusted_p is not None]
    if not tested:
        return ""
    sure = [name for name in tested if against[name].star and size[name] > 0]
    widest = max(sure or tested, key=size.__getitem__)
    return (
        f"{what} by more than chance (Holm): {len(sure) or 'none'} of {len(tested)}; the widest is {widest}, "
        f"{against[widest].difference:+.3f}."
    )


def change_grids(spoilt: Mapping[str, Sequence[Mapping]]) -> str:
    """The corruption that costs most AUC, and how many cost any by the interval of their paired change, from the rows
    of ``robustness.corrupt`` by set."""
    rows = [
        (row["change"], f"{row['corruption']} of strength {row['strength']} on {name}")
        for name, own in spoilt.items()
        for row in own
        if row["change"].value is not None
    ]
    if not rows:
        return ""
    costly = [row for row in rows if _below(row[0], 0)]
    change, what = min(costly or rows, key=lambda row: _value(row[0]))
    if not costly:
        return f"No corruption lowers AUC beyond its interval; the most is {what}, {change:+.3f}."
    return (
        f"{len(costly)} of {len(rows)} changes are losses beyond their intervals (1 in 40 would be by chance); {what} "
        f"costs most, {change:+.3f}."
    )


def attack_roc(attacks: Mapping[str, Mapping]) -> str:
    """Which attack tells members from controls best, and how many members it finds, from the rows of
    ``privacy.membership`` by the attack's name."""
    aucs = {name: row["auc"] for name, row in attacks.items() if row["auc"].value is not None}
    if not aucs:
        return ""
    sure = [name for name in aucs if _above(aucs[name], CHANCE)]
    name = max(sure or aucs, key=lambda one: _value(aucs[one]))
    found = f"“{name}”: AUC {aucs[name]}, {attacks[name]['tpr']} of members at {RATE}"
    if not sure:
        return f"No attack has an AUC above chance by its interval; the highest is {found}."
    return f"{len(sure)} of {_counted(len(aucs), 'attack')} have an AUC above chance, most {found}."


def _value(score: Interval) -> float:
    return np.nan if score.value is None else score.value


def _above(score: Interval, limit: float) -> bool:
    """Whether a score is above a limit with its whole interval; without one nothing is sure."""
    return score.low is not None and score.low > limit


def _below(score: Interval, limit: float) -> bool:
    return score.high is not None and score.high < limit


def _apart(change: Interval) -> bool:
    return _above(change, 0) or _below(change, 0)


def _counted(number: int, one: str) -> str:
    return f"{number} {one}{'' if number == 1 else 's'}"
