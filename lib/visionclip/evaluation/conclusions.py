"""What a notebook found, in one sentence made of its numbers: one function a notebook that has no other."""

from collections.abc import Mapping, Sequence

import numpy as np

from visionclip.conditions import plain
from visionclip.evaluation.intervals import Interval, score_over_seeds, share

# As ``scoring``, ``distance`` and ``folders`` have them: to import these would make what 02 keeps depend on them all.
PHANTOMS, SIMPLY_PHANTOMS, DEVELOPMENT = "held-out phantoms", "phantoms", "development"
SIDE = "eye_side"  # the key of which eye it is
NAMED = 4  # conditions at most in a sentence
FAITHFUL, ANY_RETINOPATHY = 0.75, "dr_grade>=1"  # AUC that each condition of generated eyes is to reach
DRAWN = (PHANTOMS, SIMPLY_PHANTOMS)  # the dataset of rows that are of no photographs


def synthesis(on_phantoms: Mapping[str, Mapping], on_generated: Mapping[str, Mapping]) -> str:
    """How trustworthy the labels of generated eyes are beside those of phantoms, from ``referee.judge``'s rows: mean
    AUC (0 to 1) over the conditions that both have (which eye it is, is none), with its t-interval over conditions;
    which of them are below ``FAITHFUL``, and how many eyes without retinopathy are called so."""
    both = [
        name
        for name, own in on_generated.items()
        if own["auc"] is not None and on_phantoms.get(name, {}).get("auc") is not None and not name.startswith(SIDE)
    ]
    if not both:
        return "No condition is shown by enough eyes to say whether generated eyes show what their labels say."
    generated, phantoms = (
        score_over_seeds([rows[name]["auc"] for name in both]) for rows in (on_generated, on_phantoms)
    )
    weak = sorted((on_generated[name]["auc"], name) for name in both if on_generated[name]["auc"] < FAITHFUL)
    least = ", ".join(f"{plain(name)} {auc:.2f}" for auc, name in weak[:NAMED])
    least += f" and {len(weak) - NAMED} more" if len(weak) > NAMED else ""
    return (
        f"By a referee's judgement generated eyes show what their labels say with mean AUC {generated}, held-out "
        f"phantoms with {phantoms} (over {len(both)} conditions, chance 0.5)"
        f"{f'; generated eyes stay below {FAITHFUL} in {least}' if weak else ''}{_spared(on_phantoms, on_generated)}."
    )


def _spared(*judged: Mapping[str, Mapping]) -> str:
    """A clause on the share of eyes without retinopathy in which the referee sees none, of phantoms and generated."""
    shares = [one.get(ANY_RETINOPATHY, {}).get("specificity") for one in judged]
    if None in shares:
        return ""
    return f"; {shares[1]:.0%} of generated eyes without retinopathy are seen as such, {shares[0]:.0%} of such phantoms"


def captions(summary: Mapping[str, float], meanings: int, unknown: int) -> str:
    """How many captions, of how many meanings, ``captions.summary`` counted."""
    return (
        f"A small grammar turns the labels of {summary['images']} images into {summary['texts']} distinct captions of "
        f"{meanings} meanings, with {unknown} unknown tokens; {summary['duplicate_share']:.0%} of all captions drawn "
        "are repeats."
    )


def pretraining(recall: Mapping[str, Mapping[str, Mapping[str, float]]], gap: float) -> str:
    """What ``retrieval.retrieval`` found on held-out phantoms, and by how much the loss is above its floor.

    The interval of recall is Wilson's, of a share of the images of which some description is true.
    """
    at_5, ends = recall["image to text"]["R@5"], f"the loss ends {gap:.2f} above its floor."
    if not at_5["n"]:
        return f"No description is true of a held-out phantom; {ends}"
    found = _share(at_5["value"], int(at_5["n"]))
    return (
        f"Of {at_5['n']} held-out phantoms {found} have a true description among the 5 nearest (chance "
        f"{at_5['chance']:.3f}); {ends}"
    )


def zero_shot(results: Sequence[Mapping]) -> str:
    """The lowest and the highest AUC of reported photographs, or without any the phantoms' mean over their tasks."""
    drawn = [
        auc.value
        for row in results
        if row["dataset"] == PHANTOMS and (auc := Interval.of(row["auc"])).value is not None
    ]
    spread = f" ({min(drawn):.3f} to {max(drawn):.3f})" if drawn else ""
    mean = Interval(float(np.mean(drawn)) if drawn else None)
    phantoms = f"on held-out phantoms the mean AUC is {mean} over {_counted(len(drawn), 'task')}{spread} (chance 0.5)"
    real = [
        (auc, row)
        for row in results
        if row["dataset"] != PHANTOMS and row["split"] != DEVELOPMENT
        if (auc := Interval.of(row["auc"])).value is not None
    ]
    if not real:
        return f"Without photographs nothing is said of real eyes; {phantoms}."
    ordered = sorted(real, key=lambda one: one[0].value or 0)
    ends = ordered if len(ordered) < 2 else (ordered[0], ordered[-1])
    extremes = " to ".join(f"{auc} ({row['dataset']}, {plain(row['task'])}, n {row['n']})" for auc, row in ends)
    tasks = _counted(len(real), "task")
    return f"On real photographs, which trained nothing, AUC is {extremes}, over {tasks}; {phantoms}."


def failures(at_thresholds: Sequence[Mapping], grades: Sequence[Mapping]) -> str:
    """What goes wrong on reported photographs, from rows of ``evidence.at_thresholds`` and ``grades.recalls``: the
    condition that is missed most at the phantoms' threshold, and the grades that are never named; empty without any."""

    def reported(rows: Sequence[Mapping]) -> list[Mapping]:
        return [row for row in rows if row["dataset"] not in DRAWN and row["split"] != DEVELOPMENT]

    clauses = []
    found = [row for row in reported(at_thresholds) if Interval.of(row["sensitivity"]).value is not None]
    if found:
        least = min(found, key=lambda row: Interval.of(row["sensitivity"]).value or 0.0)
        clauses.append(
            f"at the threshold that phantoms fixed it finds {Interval.of(least['sensitivity'])} of {least['positive']} "
            f"eyes with {plain(least['condition'])} ({least['dataset']})"
        )
    for (dataset, task), own in _grouped(reported(grades), "dataset", "task").items():
        never = [str(row["grade"]) for row in own if not row["predicted"]]
        if never:
            several = _counted(len(own), "class", "classes")
            clauses.append(f"of the {several} of {plain(task)} ({dataset}) the likeliest is never {' or '.join(never)}")
    return f"But {'; '.join(clauses)}." if clauses else ""


def _grouped(rows: Sequence[Mapping], *keys: str) -> dict[tuple, list[Mapping]]:
    groups: dict[tuple, list[Mapping]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def transfer(rows: Sequence[Mapping], separable: Sequence[Mapping], reference: str) -> str:
    """Which part of the phantoms costs most on photographs when it is left out, from ``transfer.compare``'s rows, and
    how well phantoms are told from photographs, from ``distance.evaluate``'s."""
    compared = [row for row in rows if row["against"] and row["task"] == rows[0]["task"]]
    if not compared or rows[0]["task"] in DRAWN:
        return "Without photographs nothing is said of what holds on real eyes."
    sure = [row for row in compared if row["against"].star]
    tested = [row for row in compared if row["against"].p is not None]
    chosen = min(sure or compared, key=lambda row: row["against"].difference.value)
    difference, whole = chosen["against"].difference, Interval.of(rows[0]["auc"])
    several = _counted(len(compared), "part or choice", "parts or choices")
    found = f"{len(sure)} matter by more than chance, after Holm's correction" if tested else "none was tested"
    when = " before correction" if tested else ""
    parts = [
        f"Of {several} {found}: with {reference} the mean AUC on photographs is {whole}, with {chosen['arm']} it "
        f"changes by {difference:+.3f}{when}"
    ]
    apart = [Interval.of(row["auc"]).value for row in separable if row["first"] == SIMPLY_PHANTOMS]
    defined = [value for value in apart if value is not None]
    parts += (
        [f"phantoms are told from photographs with AUC {min(defined):.2f} to {max(defined):.2f}"] if defined else []
    )
    return "; ".join(parts) + "."


def localisation(localised: Sequence[Mapping], matrix: Sequence[Mapping], reported: Sequence[str]) -> str:
    """How well the maps of findings agree with experts' marks on ``reported`` splits, or without any with phantoms'
    masks, and of how many tasks the right sentence is the best."""
    scored = [(score, row) for row in localised if (score := Interval.of(row["average_precision"])).value is not None]
    marked = [one for one in scored if one[1]["dataset"] not in DRAWN and one[1]["split"] in reported]
    shown = marked or [one for one in scored if one[1]["dataset"] in DRAWN]
    tasks = {"photographs": [row for row in matrix if row["dataset"] not in DRAWN]}
    tasks["drawn eyes"] = [row for row in matrix if row["dataset"] in DRAWN]
    best = [
        f"{[row['rank'] for row in ranked].count(1)} of {_counted(len(ranked), 'task')} on {where}"
        for where, own in tasks.items()
        if (ranked := [row for row in own if row["rank"] is not None])
    ]
    word = f"the right sentence is the best of all in {' and '.join(best)}."
    word = word if best else "no task could rank its sentences."
    if not shown:
        return f"No map could be scored; {word}"
    ordered = sorted(shown, key=lambda one: one[0].value or 0)
    both = ordered if len(ordered) < 2 else (ordered[0], ordered[-1])
    ends = " to ".join(f"{score} ({plain(row['finding'])})" for score, row in both)
    where = "experts' marks on photographs" if marked else "the masks of held-out phantoms"
    return f"Against {where} the maps have average precision {ends}; {word}"


def _counted(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"


def _share(found: float, count: int) -> Interval:
    """A share (0 to 1) of ``count`` with Wilson's interval of 95 %."""
    return share(np.arange(count) < round(found * count))
