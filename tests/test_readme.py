"""README quotes the committed runs, and nothing else."""

import re

from visionclip import runs
from visionclip.evaluation import zero_shot

README = (runs.ROOT / "README.md").read_text("utf-8")
NUMBERS, OVERNIGHT = (runs.read_json(runs.ROOT / "reports" / name / "numbers.json") for name in ("cpu", "overnight"))


def rows(first: str) -> dict[str, list[str]]:
    """The cells of the table whose header starts with ``first``, by the text of their first cell."""
    table = re.search(rf"^\| {first} \|.*\n\|[-| ]+\n((?:\|.*\n)+)", README, re.M)[1]
    cells = [[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in table.splitlines()]
    return {re.sub(r"\[(.*?)\]\(.*?\)", r"\1", line[0].strip()): line[1:] for line in cells}


def test_the_minutes_are_those_of_the_run():
    told = {name: cells[1] for name, cells in rows("notebook").items()}
    assert told.keys() == NUMBERS.keys()
    for name, minutes in told.items():
        if name != "05-dataset-size":  # its points run beside 03, its own notebook in a second
            assert float(minutes.split(",")[0]) == round(NUMBERS[name]["seconds"] / 60, 1), name


def test_the_readers_scores_are_those_of_the_runs():
    told = rows("photographs read")
    results, longer = (numbers["07-reader"]["results"] for numbers in (NUMBERS, OVERNIGHT))
    assert len(told) == len(results)
    for one, other in zip(results, longer, strict=True):
        cells = told[f"{one['dataset']} ({one['split']}), {one['task'].replace('_', ' ')}"]
        assert cells == [str(one["n"]), *(zero_shot.cell(auc) for auc in (one["auc"], other["auc"], other["aca"]))]


def test_the_scores_are_those_of_the_run():
    told = rows("real photographs")
    results = [one for one in NUMBERS["04-zero-shot"]["results"] if one["dataset"] != zero_shot.PHANTOMS]
    assert len(told) == len(results)
    for one in results:
        cells = told[f"{one['dataset']} ({one['split']}), {one['task'].replace('_', ' ')}"]
        assert cells == [str(one["n"]), *(zero_shot.cell(one[score]) for score in ("auc", "aca")), *(
            f"{one[control]:.3f}" for control in ("majority_accuracy", "chance_aca")
        )]  # fmt: skip


def test_the_verdicts_are_those_of_the_run():
    verdicts = [*OVERNIGHT["05-dataset-size"]["verdicts"].values(), OVERNIGHT["08-diversity"]["verdict"]]
    assert len(verdicts) == 3
    assert all(verdict in README for verdict in verdicts)
