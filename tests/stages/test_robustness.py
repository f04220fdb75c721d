"""Where the model fails: bins of factors, pairs, corruption and the answer, with an untrained model."""

from dataclasses import replace

import numpy as np
import pandas
import pytest
import torch

from visionclip.evaluation import corruptions
from visionclip.evaluation.intervals import Interval, mean_difference
from visionclip.models import visionclip
from visionclip.stages import robustness
from visionclip.text import captions
from visionclip.text.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def drawn():
    return robustness.alone(5, 32, 0)


@pytest.fixture(scope="module")
def model(drawn, tmp_path_factory):
    texts = captions.table(drawn.eyes.conditions, ("en",), 2, np.random.default_rng(0))[0]
    words = train_tokenizer([one.text for one in texts], tmp_path_factory.mktemp("words"))
    torch.manual_seed(0)
    return visionclip.VisionCLIP(visionclip.sized(8, 1, 64, 16, len(words))).train(False), words


@pytest.fixture(scope="module")
def queries(drawn, model):
    return robustness.questions(*model, robustness.of_phantoms(drawn.eyes), ["en"], 2)


def test_eyes_have_one_disease_or_none_and_the_factors_are_known(drawn, queries):
    assert len(drawn.eyes) == len(drawn.factors) == 5 * len(robustness.OWN) + 10
    assert [one.positive.sum() for one in queries] == [5] * len(robustness.OWN)
    cups = drawn.factors["cup_to_disc"]
    glaucoma = [eye["gc"] == 1 for eye in drawn.eyes.conditions]
    assert cups[glaucoma].min() >= 0.6


def test_bins_part_the_eyes_that_are_used():
    used = np.arange(10) > 0
    parts = robustness._bins(pandas.Series(np.arange(10.0)), used, 3)
    assert [name for name, _ in parts] == ["1 to 3", "4 to 6", "7 to 9"]
    np.testing.assert_array_equal(np.sum([inside for _, inside in parts], axis=0), used)
    few = robustness._bins(pandas.Series([0, 1, 1] * 4), np.ones(12, bool), 3)
    assert [(name, inside.sum()) for name, inside in few] == [("0", 4), ("1", 8)]
    choices = robustness._bins(pandas.Series(["a", "b"] * 4 + ["c", "a"]), used, 3)
    assert [name for name, _ in choices] == ["a", "b"]


def test_a_model_that_sees_everything_has_no_worse_bin(drawn, queries):
    ranked = np.stack([one.positive for one in queries]).astype(float)
    rows = robustness.by_factor(drawn, queries, ranked, 2)
    assert {row["factor"] for row in rows} >= {"cup_to_disc", "camera", robustness.READABLE}
    assert all(row["auc"].value == 1 for row in rows)


def test_corruption_is_measured_against_the_same_images(drawn, model):
    few = robustness.sample(robustness.of_phantoms(drawn.eyes), 20, 0)
    own = robustness.questions(*model, few, ["en"], 2)
    found = robustness.corrupt(model[0], own, few, [1, 5], 0)
    assert found.grid.shape == (len(corruptions.CORRUPTIONS), 2)
    for row in found.rows:
        assert row["change"].value == pytest.approx(row["auc"].value - found.clean.value)
    assert found.mean.low <= found.mean.value <= found.mean.high


def test_a_gap_is_between_the_first_and_the_last_third():
    def third(dataset, value):
        return {"dataset": dataset, "quality": "brightness", "auc": Interval(value, value - 0.1, value + 0.1)}

    (row,) = robustness.gaps([third("a", 0.8), third("a", 0.5), third("a", 0.6), third("b", 0.9), third("b", 0.8)])
    assert (row["first"].value, row["last"].value) == (0.8, 0.6)
    assert row["gap"].value == pytest.approx(-0.2)
    assert row["gap"].high - row["gap"].low == pytest.approx(0.2 * 2**0.5)


def test_the_worst_eyes_have_the_condition_and_are_ranked_lowest(drawn, queries):
    ranked = np.stack([np.arange(len(drawn.eyes), dtype=float)] * len(queries))
    worst = robustness.worst_eyes(drawn.eyes.pixels, queries, ranked)
    assert set(worst) == {one.task.name for one in queries}
    first = np.flatnonzero(queries[0].positive)
    np.testing.assert_array_equal(worst[queries[0].task.name], drawn.eyes.pixels[first[: robustness.WORST]])


def test_what_is_not_changed_costs_nothing(queries):
    positives = np.stack([one.positive for one in queries])
    ranked = np.random.default_rng(0).normal(size=positives.shape)
    assert mean_difference(positives, ranked, ranked).value == 0
    worse = mean_difference(positives, -positives.astype(float), positives.astype(float))
    assert worse.value == -1
    assert mean_difference(positives[:, :1], ranked[:, :1], ranked[:, :1]) == Interval(None)


def test_a_pair_says_whether_any_eye_of_a_training_set_has_both(model):
    rows = robustness.pairs(*model, 2, 32, ["en"], 2, 0)
    assert len(rows) == 2 * len(robustness.PAIRS)
    assert [row["trained"] for row in rows] == ["yes"] * 12 + ["no"] * 6
    assert all(0 <= row["auc"].value <= 1 for row in rows)
    assert frozenset(("pm", "rvo")) not in robustness.trained_together(1)


def test_unusual_eyes_are_those_of_before(drawn, model, queries):
    ranked = robustness.rankings(model[0], drawn.eyes.pixels, queries)
    rows = robustness.beyond(model[0], queries, drawn, ranked, 2, 32, 0)
    assert [row["presentation"] for row in rows] == ["as usual", *robustness.UNUSUAL]
    places = robustness.first(drawn.eyes, 2)
    again = robustness.draw(
        [drawn.eyes.conditions[place] for place in places], [(0, robustness.ALONE, int(place)) for place in places], 32
    )
    np.testing.assert_array_equal(again.eyes.pixels, drawn.eyes.pixels[places])


def test_the_answer_names_what_is_surely_worst():
    row = {"condition": "glaucoma", "factor": "cup_to_disc", "bin": "0.6 to 0.7", "images": 5}
    rows = [
        {**row, "auc": Interval(0.6, 0.4, 0.8)},
        {**row, "bin": "0.5 to 0.6", "images": 2, "auc": Interval(0.5, 0.0, 1.0)},
        {**row, "bin": "0.7 to 0.8", "auc": Interval(0.9)},
    ]
    spoilt = [
        robustness.Corrupted("eyes", 9, [], Interval(0.9), Interval(-0.1, -0.2, 0.0)),
        robustness.Corrupted("others", 7, [], Interval(0.9), Interval(0.0, -0.1, 0.1)),
    ]
    refused = [
        {"pictures": "no retina, all kinds", "retina": False, "images": 50, "refused": Interval(0.98)},
        {"pictures": "phantoms", "retina": True, "images": 10, "refused": Interval(0.02)},
        {"pictures": "clinic (train)", "retina": True, "images": 10, "refused": Interval(0.03)},
    ]
    said = robustness.verdict(rows, spoilt, refused, 64)
    assert said.startswith("Of drawn eyes of 64 pixels it reads worst glaucoma")
    assert "glaucoma with cup to disc 0.6 to 0.7 (AUC 0.600 [0.400, 0.800], 5 eyes)" in said
    assert "AUC by -0.100 [-0.200, +0.000] on eyes, which loses most (9 images)" in said
    better = [robustness.Corrupted("eyes", 9, [], Interval(0.9), Interval(0.02)), spoilt[0]]
    better[1] = robustness.Corrupted("others", 7, [], Interval(None), Interval(None))
    assert "changes AUC by +0.020 on eyes (9 images)" in robustness.verdict(rows, better, refused, 64)
    assert "too few images were corrupted to score any" in robustness.verdict(rows, [], refused, 64)
    assert (
        "0.980 of 50 drawn pictures of no retina, of kinds by which the rule was chosen, are refused, and at most 0.030"
        in said
    )
    assert "at most 0.030 of a set of eyes (clinic (train))" in said


def test_an_image_of_unknown_label_is_neither_with_nor_without(drawn, model):
    dataset = robustness.of_phantoms(drawn.eyes)
    first = dataset.tasks[0]
    unknown = np.flatnonzero(first.targets == 0)[:7]
    targets = first.targets.copy()
    targets[unknown] = -1
    partly = replace(dataset, tasks=[replace(first, targets=targets), *dataset.tasks[1:]])
    left = np.setdiff1d(np.arange(len(dataset)), unknown).tolist()
    assert robustness.fully_labelled(partly).images.keys == dataset.images.take(left).keys
    kept = [replace(task, targets=task.targets[left]) for task in dataset.tasks]
    without = replace(dataset, images=dataset.images.take(left), tasks=kept)
    assert robustness.by_quality(*model, partly, ["en"], 2) == robustness.by_quality(*model, without, ["en"], 2)
