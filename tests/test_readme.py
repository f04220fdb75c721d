"""README quotes the committed runs, and nothing else."""

import re

from visionclip import runs
from visionclip.evaluation.intervals import Interval
from visionclip.evaluation.scoring import PHANTOMS

README = (runs.ROOT / "README.md").read_text("utf-8")
NUMBERS, OVERNIGHT = (runs.read_json(runs.ROOT / "reports" / name / "numbers.json") for name in ("cpu", "overnight"))
RENAMED = {"07-reader": "07-baseline"}  # stages that the committed reports know by an earlier name


def rows(first: str) -> dict[str, list[str]]:
    """The cells of the table whose header starts with ``first``, by the text of their first cell."""
    table = re.search(rf"^\| {first} \|.*\n\|[-| ]+\n((?:\|.*\n)+)", README, re.M)[1]
    cells = [[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in table.splitlines()]
    return {re.sub(r"\[(.*?)\]\(.*?\)", r"\1", line[0].strip()): line[1:] for line in cells}


def stage(numbers: dict, name: str) -> dict:
    """The numbers of a stage by its name of today."""
    return next(of_stage for key, of_stage in numbers.items() if RENAMED.get(key, key) == name)


def task(result: dict) -> str:
    return f"{result['dataset']} ({result['split']}), {result['task'].replace('_', ' ')}"


def test_the_minutes_are_those_of_the_run():
    quoted = {name: cells[1] for name, cells in rows("notebook").items()}
    assert list(quoted) == [RENAMED.get(name, name) for name in NUMBERS]
    for name, minutes in quoted.items():
        if name != "05-dataset-size":  # its points run beside 03, its own notebook in a second
            assert float(minutes.split(",")[0]) == round(stage(NUMBERS, name)["seconds"] / 60, 1), name


def test_every_row_links_the_notebook_of_today_and_the_report_that_there_is():
    table = re.search(r"^\| notebook \|.*\n\|[-| ]+\n((?:\|.*\n)+)", README, re.M)[1]
    for line, name in zip(table.splitlines(), NUMBERS, strict=True):
        assert f"(notebooks/{RENAMED.get(name, name)}.ipynb)" in line
        assert f"(reports/cpu/{name}.html)" in line


def test_the_classifiers_scores_are_those_of_the_runs():
    quoted = rows("photographs read")
    results, longer = (stage(numbers, "07-baseline")["results"] for numbers in (NUMBERS, OVERNIGHT))
    assert len(quoted) == len(results)
    for one, other in zip(results, longer, strict=True):
        scores = [str(Interval.of(score)) for score in (one["auc"], other["auc"], other["aca"])]
        assert quoted[task(one)] == [str(one["n"]), *scores]


def test_the_scores_are_those_of_the_run():
    quoted = rows("real photographs")
    results = [one for one in stage(NUMBERS, "04-zero-shot")["results"] if one["dataset"] != PHANTOMS]
    assert len(quoted) == len(results)
    for one in results:
        scores = [str(Interval.of(one[score])) for score in ("auc", "aca")]
        trivial = [f"{one[control]:.3f}" for control in ("majority_accuracy", "chance_aca")]
        assert quoted[task(one)] == [str(one["n"]), *scores, *trivial]


def test_the_verdicts_are_those_of_the_run():
    sizes, diversity = (stage(OVERNIGHT, name) for name in ("05-dataset-size", "08-diversity"))
    verdicts = [*sizes["verdicts"].values(), diversity["verdict"]]
    assert len(verdicts) == 3
    assert all(verdict in README for verdict in verdicts)
