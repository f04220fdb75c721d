"""Scores of the same training from several seeds: their mean and its interval."""

import pytest

from visionclip import runs
from visionclip.report import over_seeds


def finish(folder, auc, precision=0.5, tasks=("referable_dr",), seed=0, code="same", rate=0.1):
    """What the three stages of one seed wrote, as far as it is looked at."""
    retrieval = {"image to text": {"R@1": {"value": auc / 2}}}
    runs.write_json(folder / "03-pretrain/numbers.json", {"retrieval": retrieval, "loss_above_floor": 1 - auc})
    results = [
        {"dataset": "clinic", "task": task, "split": "test", "auc": {"value": auc}, "aca": {"value": None}}
        for task in tasks
    ]
    runs.write_json(folder / "04-zero-shot/numbers.json", {"results": results})
    marks = [{"dataset": "marks", "finding": "disc", "split": "test", "average_precision": {"value": precision}}]
    runs.write_json(folder / "07-explanation/numbers.json", {"localisation": marks})
    for stage in over_seeds.STAGES:
        parameters = {"seed": seed, "out": f"{folder}/{stage}", "rate": rate}
        runs.write_json(folder / stage / "card.json", {"code": code, "parameters": parameters})


def test_a_score_is_the_mean_of_all_seeds_with_the_t_interval_of_that_mean(tmp_path):
    for name, auc in (("", 0.8), ("seeds/2", 0.9), ("seeds/10", 0.85)):
        finish(tmp_path / name, auc)
    rows = {(row["of"], row["measure"]): row for row in over_seeds.rows(tmp_path)}
    row = rows["clinic referable_dr (test)", "AUC"]
    assert row["values"] == [0.8, 0.9, 0.85], "in the order of the seeds' numbers"
    assert row["mean"].value == pytest.approx(0.85)
    assert row["mean"].high - row["mean"].value == pytest.approx(4.303 * 0.05 / 3**0.5, rel=1e-3)
    assert rows["held-out phantoms, image to text", "R@1"]["mean"].value == pytest.approx(0.425)
    assert rows["marks disc (test)", "average precision"]["seeds"] == 3
    assert not any(measure == "ACA" for _, measure in rows), "what has no value is left out"


def test_only_what_all_seeds_have_is_shown(tmp_path):
    finish(tmp_path, 0.8, tasks=("referable_dr", "glaucoma"))
    finish(tmp_path / "seeds/1", 0.7)
    assert not any("glaucoma" in row["of"] for row in over_seeds.rows(tmp_path))


def test_one_seed_or_an_unfinished_one_says_nothing(tmp_path):
    finish(tmp_path, 0.8)
    assert over_seeds.rows(tmp_path) == []
    finish(tmp_path / "seeds/1", 0.7)
    (tmp_path / "seeds/1/07-explanation/card.json").unlink()
    assert over_seeds.rows(tmp_path) == []


@pytest.mark.parametrize("other", [{"code": "another"}, {"rate": 0.2}])
def test_a_seed_of_other_code_or_parameters_is_another_method(tmp_path, other):
    finish(tmp_path, 0.8)
    finish(tmp_path / "seeds/1", 0.7, seed=1)
    finish(tmp_path / "seeds/2", 0.1, seed=2, **other)
    assert {row["seeds"] for row in over_seeds.rows(tmp_path)} == {2}
    finish(tmp_path / "seeds/1", 0.7, seed=1, **other)
    assert over_seeds.rows(tmp_path) == []
