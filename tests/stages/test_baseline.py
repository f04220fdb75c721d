"""Classifiers trained coarse to fine, what they predict of photographs, and the tables over seeds."""

import numpy as np
import pytest
import torch

import tiny_images
from visionclip import conditions
from visionclip.data import phantoms
from visionclip.data.labelled import LabelledImages
from visionclip.data.phantoms import FINDINGS
from visionclip.data.tasks import ClassOf, Dataset, Task
from visionclip.evaluation import classification, fidelity, pointing
from visionclip.models.classifier import CONDITIONS, targets
from visionclip.stages import baseline, synthesis, transfer

GRADES = np.repeat(np.arange(5), 6)


@pytest.fixture(scope="module")
def photographs():
    rng = np.random.default_rng(0)
    grade = Task("dr_grade", True, [ClassOf(f"grade {g}", [{"dr_grade": g}]) for g in range(5)], GRADES)
    clear = Task(
        "clear", False, [ClassOf("no", [{"macula_readable": 0}]), ClassOf("yes", [{"macula_readable": 1}])], GRADES > 2
    )
    keys = [str(number) for number in range(30)]
    images = LabelledImages(rng.integers(0, 256, (30, 32, 32, 3), np.uint8), [{}] * 30, ["photograph"] * 30, keys)
    return Dataset("clinic", "test", images, [grade, clear])


@pytest.fixture(scope="module")
def logits():
    """Of a classifier that knows grades 2 to 4 and never sees grade 1."""
    found = np.full((30, len(CONDITIONS)), -5.0)
    for threshold in range(1, 5):
        known = np.where(GRADES == 1, 0, GRADES)
        found[:, CONDITIONS.index(f"dr_grade>={threshold}")] = np.where(known >= threshold, 3.0, -3.0)
    return found


@pytest.fixture(scope="module")
def held_out():
    return baseline.draw(60, baseline.HELD_OUT, 0, 32, workers=1)


def test_only_what_can_be_predicted_is_scored(photographs, logits):
    (result,) = baseline.evaluate_all([photographs], {"clinic": logits}, 100)
    assert result["task"] == "dr_grade"
    assert result["accuracy"].value == pytest.approx(0.8)
    assert result["by_thresholds"]["kappa"].value > 0.9


def test_both_kinds_of_logits_come_by_dataset(photographs):
    untrained = baseline.untrained(8)
    alone, combined = baseline.predict_all(untrained, [photographs])
    assert alone.keys() == combined.keys() == {photographs.name}
    direct = classification.predict(untrained, photographs.images.pixels)
    assert np.array_equal(alone[photographs.name], direct[0])
    assert np.array_equal(combined[photographs.name], direct[1])
    rows = baseline.evaluate_all([photographs] * 2, alone, 100)
    assert rows == classification.evaluate(photographs, direct[0], 0, 100) * 2
    assert baseline.predict_all(untrained, []) == ({}, {})


def test_the_control_is_the_same_every_time():
    first = baseline.untrained(8)
    torch.rand(1)
    assert tiny_images.same(first, baseline.untrained(8))
    assert not first.training


def test_grades_that_are_not_found_show(photographs, logits):
    found = baseline.by_grade(photographs, logits)
    rows = {row["against none"]: row["auc"].value for row in found}
    assert rows.pop("any of them") == pytest.approx((0.5 + 3) / 4)
    assert rows == {"grade 1": 0.5, "grade 2": 1.0, "grade 3": 1.0, "grade 4": 1.0}
    table = baseline.grade_table(found)
    assert list(table.columns)[-1] == "AUC"
    assert table["AUC"].iloc[2].startswith("1.000")


def test_seeds_are_put_side_by_side(photographs, logits):
    rng = np.random.default_rng(0)
    results = [
        baseline.evaluate_all([photographs], {"clinic": logits + rng.normal(0, 2, logits.shape)}, 100) for _ in range(3)
    ]
    (row,) = baseline.by_seed(results)
    assert len(row["seeds"]) == 3
    assert row["auc"].value == pytest.approx(np.mean(row["seeds"]))
    assert row["auc"].low < row["auc"].value < row["auc"].high
    (shown,) = baseline.seed_table([row], baseline.by_seed(results[:1]), results[1]).to_dict("records")
    assert shown["dataset"] == "clinic (test)"
    assert shown["mean"] == str(row["auc"])
    assert shown["AUC of each seed"].count(", ") == 2
    assert shown["without maps"] == f"{results[0][0]['auc'].value:.3f}"
    assert shown["random weights"] == f"{results[1][0]['auc'].value:.3f}"


def test_held_out_phantoms_are_others_than_those_that_train(held_out):
    purposes = (
        baseline.TRAINING,
        transfer.TRAINING,
        synthesis.TRAINING,
        synthesis.GENERATING,
        synthesis.HELD_OUT,
        baseline.HELD_OUT,
    )
    assert len(set(purposes)) == len(purposes)
    training = baseline.draw(60, baseline.TRAINING, 0, 32, workers=1)
    assert not any(np.array_equal(one, other) for one in held_out.pixels for other in training.pixels)
    assert not set(held_out.keys) & set(training.keys)


def test_a_phantom_s_maps_and_twins_are_there(held_out):
    assert held_out.masks.shape == (60, len(FINDINGS), 8, 8)
    eyes, drawn_from = phantoms.with_healthy_twins(60, baseline.TWINS, 0, baseline.HELD_OUT)
    stated = [{key: eye[key] for key in conditions.VOCABULARY} for eye in held_out.conditions]
    assert stated == eyes
    assert all(eye.keys() <= conditions.FACTS.keys() for eye in held_out.conditions), "and what the maps show"
    assert any(eye["haemorrhage"] for eye in held_out.conditions)
    assert len(set(drawn_from)) == 45
    alone = baseline.draw(6, baseline.HELD_OUT, 0, 32, twins=0.0, workers=1, fixed={"exposure": 0.3})
    assert alone.pixels.mean() < held_out.pixels.mean()


def test_conditions_are_scored_on_held_out_phantoms(held_out):
    known = targets(held_out.conditions)
    rows = baseline.by_condition(held_out, [known] * 2, [-known] * 2)
    found = [row["auc"].value for row in rows if row["auc"].value is not None]
    assert found
    assert all(value == 1 for value in found)
    table = baseline.condition_table(rows).set_index("condition")
    assert table.loc["dr_grade>=1", "AUC"].startswith("1.000")
    assert table.loc["dr_grade>=1", "with finding maps"].startswith("0.000")
    assert table.loc["gc>=1", "with finding maps"] == "", "no finding defines it"
    assert all(row["auc"].value is None for row in rows if row["positives"] < fidelity.FEWEST)
    assert [row["positives"] for row in rows] == known.sum(0).tolist()


def test_an_overlay_paints_blood_red_and_leaves_the_rest_grey():
    pixels = np.full((1, 64, 64, 3), 120, np.uint8)
    maps = np.zeros((1, len(FINDINGS), 16, 16), np.float32)
    maps[0, list(FINDINGS).index("haemorrhage"), 4:8, 4:8] = 1
    (picture,) = pointing.overlay(pixels, maps, list(FINDINGS))
    assert picture[24, 24, 0] > 200 > 100 > picture[24, 24, 2]
    assert np.ptp(picture[50, 50]) == 0


def test_shown_eyes_are_of_different_kinds(held_out):
    places = pointing.richest(held_out, 5)
    assert len(places) == len(set(places)) == 5
    kinds = {conditions.presentation(held_out.conditions[place]) for place in places}
    assert len(kinds) == 5


@pytest.fixture(scope="module")
def coarse(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coarse")
    return baseline.coarse_to_fine(folder, 32, [32, 48], [2, 1], 0, 8), folder


def test_a_finer_step_goes_on_from_the_coarser(coarse, monkeypatch):
    network, folder = coarse
    assert sorted(path.name for path in folder.iterdir()) == ["32px.safetensors", "48px.safetensors"]
    starts, train = [], baseline.train

    def noted(images, *given, start, **named):
        starts.append((images.pixels.shape[1], len(images), start))
        return train(images, *given, start=start, **named)

    monkeypatch.setattr(baseline, "train", noted)
    taken = tiny_images.watch(monkeypatch)
    assert tiny_images.same(baseline.coarse_to_fine(folder, 32, [32, 48], [2, 1], 0, 8), network)
    assert taken == [], "what was trained is read back"
    (side, count, nothing), (finer, fewer, start) = starts
    assert (side, count, nothing, finer, fewer) == (32, 32, None, 48, 24)
    near = [(network.state_dict()[name] - value).abs().max() for name, value in start.named_parameters()]
    assert 0 < max(near) < 0.01


def test_a_stopped_size_goes_on_and_the_one_before_it_is_read_back(tmp_path, monkeypatch):
    settings = 32, [32, 48], [2, 3], 0, 8
    whole = baseline.coarse_to_fine(tmp_path / "whole", *settings)
    tiny_images.save_every_update(monkeypatch)
    tiny_images.stop_after(2, monkeypatch)  # the first size ends by itself
    with pytest.raises(KeyboardInterrupt):
        baseline.coarse_to_fine(tmp_path / "stopped", *settings)
    taken = tiny_images.watch(monkeypatch)
    assert tiny_images.same(baseline.coarse_to_fine(tmp_path / "stopped", *settings), whole)
    assert taken == [2]


def test_a_changed_coarse_step_changes_the_finer_one_too(coarse, monkeypatch):
    network, folder = coarse
    taken = tiny_images.watch(monkeypatch)
    other = baseline.coarse_to_fine(folder, 32, [32, 48], [3, 1], 0, 8)
    assert taken == [0, 1, 2, 0]
    assert not tiny_images.same(network, other)


def test_seeds_train_other_classifiers_on_other_phantoms(tmp_path):
    one, other = (baseline.coarse_to_fine(tmp_path / str(seed), 24, [32], [1], seed, 8) for seed in (0, 1))
    assert not tiny_images.same(one, other)


@pytest.mark.parametrize(("sizes", "updates"), [([32], [1, 2]), ([], []), ([32, 50], [1, 1])])
def test_steps_that_do_not_fit_are_refused(sizes, updates):
    with pytest.raises(ValueError, match="sizes"):
        baseline.check_sizes(sizes, updates)
