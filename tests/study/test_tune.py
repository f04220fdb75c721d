"""The search goes on where it was, keeps every trial, begins anew when what it depends on changes, and finds a peak."""

from dataclasses import asdict, fields, replace

import numpy as np
import pandas
import pytest

from visionclip import phantom, runs
from visionclip.data import phantoms
from visionclip.data.tasks import ClassOf, Dataset, Task
from visionclip.models import visionclip
from visionclip.stages import pretrain
from visionclip.study import tune
from visionclip.training.contrastive import Settings

BUDGET = tune.Budget(phantoms=24, updates=2, size=32, seeds=(0, 1))


def dataset(name="clinic"):
    eyes = [{"pm": place % 2} for place in range(12)]
    images = phantoms.draw(eyes, [(0, f"photographs of {name}", index) for index in range(12)], 32)
    task = Task("pm", False, [ClassOf("no", [{"pm": 0}]), ClassOf("yes", [{"pm": 1}])], np.arange(12) % 2)
    return Dataset(name, "train", images, [task])


@pytest.fixture(scope="module")
def sets():
    return [dataset("one"), dataset("two")]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model that has learnt next to nothing, saved."""
    folder = tmp_path_factory.mktemp("model")
    eyes, drawn_from = phantoms.with_healthy_twins(16, 0.35, 0, "phantoms of a test")
    images = phantoms.draw(eyes, drawn_from, 32, masks="findings")
    small = {**pretrain.SMALL, "image_width": 8, "text_layers": 1, "text_width": 64, "pyramid_size": 8}
    settings = Settings(updates=1, batch_size=8, text_warmup=0, learning_rate=1e-3, map_weight=1.0)
    network, tokenizer = pretrain.learn(images, small, settings, folder / "training", tune.LANGUAGES, 2)
    visionclip.save(network, tokenizer, 32, folder / "model")
    return folder / "model"


def peak(model, datasets, budget, ranges):
    """A landscape with its top where few eyes are strange; one set is easier than the other."""
    height = 0.9 - (ranges.strange - 0.1) ** 2
    return {one.name: [height + 0.05 * place] * 2 for place, one in enumerate(datasets)}


def test_every_range_is_searched_between_ends_that_hold_the_usual_one():
    assert tune.SPACE.keys() == {one.name for one in fields(phantom.Ranges)}
    for name, value in asdict(phantom.USUAL).items():
        low, high = tune.SPACE[name]
        assert low <= value <= high


def test_a_trial_trains_within_its_ranges_and_scores_every_set_under_every_seed(model, sets, monkeypatch):
    given = []
    draw = phantoms.draw

    def noted(*arguments, ranges, **named):
        given.append(ranges)
        return draw(*arguments, ranges=ranges, **named)

    monkeypatch.setattr(phantoms, "draw", noted)
    ranges = phantom.Ranges(strange=0.7)
    scores = tune.evaluate(model, sets, BUDGET, ranges)
    assert given == [ranges, ranges]
    assert scores.keys() == {"one", "two"}
    assert all(len(own) == 2 and all(0 <= value <= 1 for value in own) for own in scores.values())
    assert scores == tune.evaluate(model, sets, BUDGET, ranges)


def test_the_usual_ranges_come_first_and_a_stopped_search_goes_on(tmp_path, model, sets, monkeypatch):
    monkeypatch.setattr(tune, "evaluate", peak)
    tune.search(tmp_path, model, sets, BUDGET, 2, 1)
    tune.search(tmp_path, model, sets, BUDGET, 5, 1)
    kept = pandas.read_csv(tmp_path / "trials.csv")
    assert sorted(kept["trial"]) == [0, 1, 2, 3, 4]
    assert kept["worst"].is_monotonic_decreasing
    assert set(kept["worst set"]) == {"one"}
    usual = kept[kept["trial"] == 0].iloc[0]
    assert {name: usual[name] for name in tune.SPACE} == pytest.approx(asdict(phantom.USUAL))
    log = runs.read_json(tmp_path / "winner.json")
    assert log["winner"]["worst"] == pytest.approx(kept["worst"].max(), abs=1e-4)
    assert log["usual"]["ranges"] == pytest.approx(asdict(phantom.USUAL))
    monkeypatch.setattr(tune, "evaluate", None)  # nothing is left to do
    assert len(tune.search(tmp_path, model, sets, BUDGET, 5, 1).trials) == 5


def test_another_budget_begins_anew(tmp_path, model, sets, monkeypatch):
    monkeypatch.setattr(tune, "evaluate", peak)
    tune.search(tmp_path, model, sets, BUDGET, 2, 1)
    other = tune.Budget(phantoms=24, updates=3, size=32, seeds=(0, 1))
    assert [one.number for one in tune.search(tmp_path, model, sets, other, 1, 1).trials] == [0]


def test_a_trial_that_was_cut_off_does_not_count(tmp_path, model, sets, monkeypatch):
    def cut_off(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tune, "evaluate", cut_off)
    with pytest.raises(KeyboardInterrupt):
        tune.search(tmp_path, model, sets, BUDGET, 2, 1)
    monkeypatch.setattr(tune, "evaluate", peak)
    study = tune.search(tmp_path, model, sets, BUDGET, 2, 1)
    assert len(tune.table(study)) == 2
    assert runs.read_json(tmp_path / "winner.json")["usual"]["ranges"] == pytest.approx(asdict(phantom.USUAL))


def test_a_trial_without_a_score_fails_and_the_search_goes_on(tmp_path, model, sets, monkeypatch):
    scores = iter([float("nan"), 0.6, 0.7])
    monkeypatch.setattr(tune, "evaluate", lambda *_: {"one": [next(scores)]})
    tune.search(tmp_path, model, sets, BUDGET, 1, 1)
    assert not (tmp_path / "trials.csv").exists()
    study = tune.search(tmp_path, model, sets, BUDGET, 2, 1)
    assert tune.table(study)["worst"].tolist() == [0.7, 0.6]


def test_other_labels_begin_anew(tmp_path, model, sets, monkeypatch):
    monkeypatch.setattr(tune, "evaluate", peak)
    tune.search(tmp_path, model, sets, BUDGET, 2, 1)
    (task,) = sets[0].tasks
    corrected = replace(sets[0], tasks=[replace(task, targets=1 - task.targets)])
    assert len(tune.search(tmp_path, model, [corrected, sets[1]], BUDGET, 1, 1).trials) == 1


def test_the_search_climbs(tmp_path, model, sets, monkeypatch):
    monkeypatch.setattr(tune, "evaluate", peak)
    best = tune.table(tune.search(tmp_path, model, sets, BUDGET, 40, 1)).iloc[0]
    assert abs(best["strange"] - 0.1) < 0.06


def test_a_folder_without_a_model_or_without_sets_is_refused(tmp_path, model, capsys):
    with pytest.raises(SystemExit):
        tune.main(["--model", str(tmp_path)])
    assert "holds no saved model" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        tune.main(["--model", str(model), "--external", str(tmp_path)])
    assert "no set to choose by" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        tune.main(["--model", str(model), "--size", "98"])
    assert "98 is no multiple of 4" in capsys.readouterr().err
