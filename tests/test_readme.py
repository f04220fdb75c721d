"""README quotes the committed runs, and nothing else."""

import re

from bs4 import BeautifulSoup

import committed
from visionclip import runs, study
from visionclip.data.folders import DEVELOPMENT
from visionclip.evaluation import generated_share
from visionclip.evaluation.intervals import Interval
from visionclip.evaluation.scoring import PHANTOMS
from visionclip.report.html import in_words
from visionclip.stages import transfer

README = (runs.ROOT / "README.md").read_text("utf-8")


def rows(first: str) -> dict[str, list[str]]:
    """The cells of the table whose header starts with ``first``, by the text of their first cell."""
    table = re.search(rf"^\| {first} \|.*\n\|[-| ]+\n((?:\|.*\n)+)", README, re.M)[1]
    cells = [[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in table.splitlines()]
    return {re.sub(r"\[(.*?)\]\(.*?\)", r"\1", line[0].strip()): line[1:] for line in cells}


def task(result: dict) -> str:
    return in_words(f"{result['dataset']} ({result['split']}), {result['task']}")


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
    repeated = [row for row in committed.seeds(committed.CPU) if row["measure"] == "AUC"]
    assert {row["seeds"] for row in repeated} == {3}, "as README says"
    means = {row["of"]: row["mean"] for row in repeated}
    for one in results:
        aca = f"{Interval.of(one['aca'])} ({one['chance_aca']:.3f})"
        accuracy = f"{one['accuracy']['value']:.3f} ({one['majority_accuracy']:.3f})"
        asked = at_thresholds.get((one["dataset"], one["split"], one["task"]), {})
        rates = [str(Interval.of(asked.get(rate))) for rate in ("sensitivity", "specificity")]
        over_seeds = means[f"{one['dataset']} {one['task']} ({one['split']})"]
        auc = [str(Interval.of(mean)) for mean in (one["auc"], over_seeds)]
        assert quoted[task(one)] == [str(one["n"]), *auc, aca, accuracy, *rates]


def test_what_prose_says_of_scores_is_of_the_runs():
    of_04 = {(one["dataset"], one["task"]): one for one in committed.numbers("04-zero-shot")["at_thresholds"]}
    edema = of_04["idrid", "macular_edema"]
    assert f"({edema['positive']} of {edema['n']})" in README
    missed = {name: 1 - of_04[name, "referable_dr"]["sensitivity"]["value"] for name in ("idrid", "odir_dev")}
    assert [round(3 * share) for share in missed.values()] == [1, 2]
    assert "a third of IDRiD's referable eyes are missed, and two thirds of ODIR-5K's" in README
    first = sum(committed.numbers(name)["seconds"] for name in study.notebook_names()[:3]) / 60
    assert f"of which the first three take {first:.0f} on both cores" in README
    shares = committed.numbers("06-transfer")["generated"]
    alone, half = (
        {row["dataset"]: row["difference"]["value"] for row in shares if row["arm"] == arm}
        for arm in ("generated alone", "half generated")
    )
    assert f"by the mean over seeds at most {-min(alone.values()):.2f} on any set" in README
    assert f"half of them at most {-min(half.values()):.3f} (" in README
    by_task = {
        row["task"]: Interval.of(row["against"]["difference"])
        for row in committed.numbers("06-transfer")["arms"]
        if row["arm"] == "generated alone"
    }
    over_sets = next(row for row in shares if (row["arm"], row["dataset"]) == ("generated alone", generated_share.MEAN))
    mean = Interval.of(over_sets["difference"])
    assert (
        f"the mean over three sets changes by {mean:+.3f}, over their tasks by {by_task[transfer.ALL]:+.3f}" in README
    )
    lost = [-(by_task[f"odir_dev {name}"].value or 0.0) for name in ("cataract", "epiretinal_membrane")]
    assert all((by_task[f"odir_dev {name}"].high or 0.0) < 0 for name in ("cataract", "epiretinal_membrane"))
    assert "gain {:.2f} AUC on IDRiD, lose {:.2f} on cataract and {:.2f} on".format(alone["idrid"], *lost) in README
    pairs = {
        row["tested set"]: row
        for row in committed.numbers("04-zero-shot")["duplicates"]
        if row["compared with"] == "itself"
    }
    assert pairs["palm"]["near-duplicate pairs"] == 7, "seven pairs of PALM's 400 are near-duplicates"
    (published,) = (
        row["against"]["difference"]["value"]
        for row in committed.numbers("06-transfer")["arms"]
        if (row["arm"], row["task"]) == ("as published", transfer.ALL)
    )
    assert f"recipe whole loses {-published:.2f}, before Holm's correction alone" in README
    sure = {row["dataset"]: Interval.of(row["difference"]) for row in shares if row["arm"] == "generated alone"}
    assert f"far larger or none ({sure['palm']:+.3f}), that on ODIR-dev is sure ({sure['odir_dev']:+.3f})" in README


def test_the_generator_s_card_quotes_the_committed_run():
    card = " ".join((runs.ROOT / "weights/generator/README.md").read_text("utf-8").split())
    found = committed.numbers("01-synthesis")["fidelity"]
    both = [name for name, row in found["generated"].items() if row["auc"] and not name.startswith("eye_side")]
    mean, limit = (sum(found[kind][name]["auc"] for name in both) / len(both) for kind in ("generated", "phantoms"))
    assert f"mean AUC over {len(both)} conditions {mean:.3f} ({limit:.3f})" in card
    lowest = sorted(found["generated"][name]["auc"] for name in both)[:3]
    assert "hypertensive retinopathy {:.2f}, optic nerve anomaly {:.2f} and glaucoma {:.2f};".format(*lowest) in card
    spared, seen = (
        [found[kind]["dr_grade>=1"][rate] for kind in ("generated", "phantoms")] for rate in ("specificity", "recall")
    )
    assert "eyes without retinopathy {:.0%} ({:.0%})".format(*spared).replace("%", " %") in card
    assert "{:.0%} ({:.0%}) of those with it".format(*seen).replace("%", " %") in card
    for finding, name in (("disc", "disc"), ("haemorrhage", "haemorrhages"), ("exudate", "exudates")):
        dice = [found["layouts"][kind][finding] for kind in ("generated", "phantoms")]
        assert f"{name} {dice[0]:.2f} ({dice[1]:.2f})" in card
    floor = found["kid_floor"]["value"]
    assert f"features {format(Interval.of(found['kid']), '.2f')} (floor {floor:.2f})" in card


def test_its_picture_is_there_and_is_described():
    pictures = re.findall(r"!\[([^\]]*)\]\((\S+)\)", README)
    assert pictures
    for said, place in pictures:
        assert len(said) > 30
        assert (runs.ROOT / place).stat().st_size < 2**19


def test_the_index_quotes_other_folders_as_they_are():
    page = BeautifulSoup((runs.ROOT / f"reports/{committed.CPU}/index.html").read_text("utf-8"), "html.parser")
    quoted = " ".join(page.text.split())
    for name, folder in committed.FOLDERS.items():
        if folder == committed.OVERNIGHT:
            assert committed.numbers(name)["answer"] in quoted, name
