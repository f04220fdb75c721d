"""Fidelity quotes what a referee sees, and no rate without cases."""

import numpy as np
import pytest

from visionclip import conditions
from visionclip.evaluation import fidelity
from visionclip.evaluation.statements import CONDITIONS, targets

UNDEFINED = {**dict.fromkeys(("auc", "low", "high", "recall", "specificity")), "positives": 0}


def test_label_fidelity_scores_what_was_wanted():
    eyes = conditions.balanced(120, np.random.default_rng(0))
    perfect = fidelity.label_fidelity(2 * targets(eyes) - 1, CONDITIONS, eyes)
    assert set(perfect) == set(CONDITIONS)
    of_side = perfect["eye_side>=1"]
    assert of_side["positives"] == sum(eye["eye_side"] for eye in eyes)
    assert [of_side[name] for name in ("auc", "recall", "specificity", "high")] == [1] * 4
    assert 0.9 < of_side["low"] < 1
    names = ("gc>=1", "eye_side>=1")
    chance = fidelity.label_fidelity(np.random.default_rng(1).normal(size=(120, 2)), names, eyes)
    assert list(chance) == list(names)
    assert chance["eye_side>=1"]["auc"] == pytest.approx(0.5, abs=0.15)
    assert chance["eye_side>=1"]["low"] < 0.5 < chance["eye_side>=1"]["high"]


def test_both_kinds_of_myopia_count():
    eyes = [{"dm": 1}] * 5 + [{"pm": 1}] * 5 + [{"pm": 0, "dm": 0}] * 5
    logits = np.array([[1.0]] * 10 + [[-1.0]] * 5)
    assert fidelity.label_fidelity(logits, ("pm>=1",), eyes)["pm>=1"]["recall"] == 1


def test_no_rate_is_quoted_without_cases():
    none = fidelity.label_fidelity(np.zeros((6, len(CONDITIONS))), CONDITIONS, [{}] * 6)
    assert none["gc>=1"] == UNDEFINED


def test_kernel_distance_is_near_zero_for_one_distribution_and_grows_with_a_shift():
    rng = np.random.default_rng(0)
    one, same, other = rng.standard_normal((3, 300, 8)) + np.array([0, 0, 1])[:, None, None]
    floor = fidelity.kernel_distance(one, same, rng)
    assert floor.low < 0 < floor.high
    far = fidelity.kernel_distance(one, other, rng)
    assert far.low > 10 * abs(floor.value)
    with pytest.raises(ValueError, match="at least two"):
        fidelity.kernel_distance(one[:1], other, rng)
    assert fidelity.kernel_distance(one[:3], other, rng).low is None


def test_the_interval_of_a_distance_is_as_wide_as_other_images_change_it():
    rng = np.random.default_rng(0)
    shift = np.array([0, 0.5])[:, None, None]
    drawn = [fidelity.kernel_distance(*(rng.standard_normal((2, 100, 4)) + shift), rng, 50) for _ in range(60)]
    spread = np.std([one.value for one in drawn])
    half = np.mean([(one.high - one.low) / 2 for one in drawn])
    assert half / (1.96 * spread) == pytest.approx(1, abs=0.35)


def test_neighbourhoods_part_what_is_wrong_from_what_is_missing():
    rng = np.random.default_rng(0)
    real = np.concatenate([rng.standard_normal((100, 2)), rng.standard_normal((100, 2)) + 20])
    same = np.concatenate([rng.standard_normal((100, 2)), rng.standard_normal((100, 2)) + 20])
    alike = fidelity.neighbourhoods(real, same)
    assert min(alike[name].value for name in ("precision", "recall", "coverage")) > 0.9
    missing = fidelity.neighbourhoods(real, same[:100])
    assert missing["precision"].value > 0.9
    assert 0.4 < missing["recall"].value <= 0.5
    assert 0.4 < missing["coverage"].value <= 0.5
    wrong = fidelity.neighbourhoods(real, np.concatenate([same, rng.standard_normal((200, 2)) - 50]))
    assert wrong["precision"].value < 0.5 < wrong["coverage"].value
    with pytest.raises(ValueError, match="more than 5"):
        fidelity.neighbourhoods(real[:5], same)


def test_an_image_of_which_it_is_not_known_is_not_scored():
    eyes = [{"gc": 1}] * 6 + [{"gc": 0}] * 6
    logits = np.where(np.arange(12) < 6, 1.0, -1.0)[:, None]
    known = fidelity.label_fidelity(logits, ["gc>=1"], eyes)
    assert known["gc>=1"]["auc"] == 1
    with_others = np.concatenate([logits, np.full((9, 1), 5.0)])
    assert fidelity.label_fidelity(with_others, ["gc>=1"], [*eyes, *[{"amd": 0}] * 9]) == known
    assert fidelity.label_fidelity(logits, ["amd>=1"], eyes)["amd>=1"] == UNDEFINED
