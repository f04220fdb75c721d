"""README quotes the committed runs, and nothing else."""

import re

import committed
from visionclip import runs, study
from visionclip.data.folders import DEVELOPMENT
from visionclip.evaluation.intervals import Interval
from visionclip.evaluation.scoring import PHANTOMS

README = (runs.ROOT / "README.md").read_text("utf-8")


def rows(first: str) -> dict[str, list[str]]:
    """The cells of the table whose header starts with ``first``, by the text of their first cell."""
    table = re.search(rf"^\| {first} \|.*\n\|[-| ]+\n((?:\|.*\n)+)", README, re.M)[1]
    cells = [[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in table.splitlines()]
    return {re.sub(r"\[(.*?)\]\(.*?\)", r"\1", line[0].strip()): line[1:] for line in cells}


def task(result: dict) -> str:
    return f"{result['dataset']} ({result['split']}), {result['task'].replace('_', ' ')}"


def test_the_minutes_are_those_of_the_run():
    quoted = {name: cells[-1] for name, cells in rows("notebook").items()}
    assert list(quoted) == study.notebook_names()
    for name, minutes in quoted.items():
        # the points of 05 are jobs of their own, its notebook takes a second
        assert float(minutes.split(",")[0]) == round(committed.numbers(name)["seconds"] / 60, 1), name


def test_every_row_has_its_notebook_its_answer_and_where_the_figures_are():
    for name, (_, answer, preset, _) in rows("notebook").items():
        assert preset == committed.PRESETS[committed.FOLDERS[name]]
        assert f"| [{name}](notebooks/{name}.ipynb) |" in README
        figures = f"[Figures](reports/{committed.FOLDERS[name]}/{name}.html)"
        assert answer == f"{committed.numbers(name)['answer']} {figures}"


def test_the_scores_are_those_of_the_run():
    quoted = rows("real photographs")
    of_04 = committed.numbers("04-zero-shot")
    at_thresholds = {(one["dataset"], one["split"], one["task"]): one for one in of_04["at_thresholds"]}
    results = [one for one in of_04["results"] if one["dataset"] != PHANTOMS and one["split"] != DEVELOPMENT]
    assert len(quoted) == len(results)
    for one in results:
        aca = f"{Interval.of(one['aca'])} ({one['chance_aca']:.3f})"
        accuracy = f"{one['accuracy']['value']:.3f} ({one['majority_accuracy']:.3f})"
        asked = at_thresholds.get((one["dataset"], one["split"], one["task"]), {})
        rates = [str(Interval.of(asked.get(rate))) for rate in ("sensitivity", "specificity")]
        assert quoted[task(one)] == [str(one["n"]), str(Interval.of(one["auc"])), aca, accuracy, *rates]


def test_its_picture_is_there_and_is_described():
    pictures = re.findall(r"!\[([^\]]*)\]\((\S+)\)", README)
    assert pictures
    for said, place in pictures:
        assert len(said) > 30
        assert (runs.ROOT / place).stat().st_size < 2**19
