"""Pairs hide which side is drawn, hold phantoms of the photographs' labels, and a coin is right in half of them."""

import numpy as np
import pytest

from visionclip.data import phantoms
from visionclip.data.tasks import ClassOf, Dataset, Task, stated
from visionclip.evaluation import blind

GRADES = [ClassOf("none", [{"dr_grade": 0}]), ClassOf("mild", [{"dr_grade": 1}]), ClassOf("more", [{"dr_grade": 3}])]
REFERABLE = [ClassOf("no", [{"dr_grade": 0}, {"dr_grade": 1}]), ClassOf("yes", [{"dr_grade": 3}])]


def dataset(count, size=64):
    """White photographs of all grades in turn; every third without a known edema."""
    eyes = [{}] * count
    images = phantoms.draw(eyes, [(0, "photographs of a test", index) for index in range(count)], size)
    images.pixels[:] = 255
    targets = np.arange(count) % 3
    edema = Task("edema", False, [ClassOf("no", [{"dme": 0}]), ClassOf("yes", [{"dme": 1}])], targets - 1)
    tasks = [Task("grade", True, GRADES, targets), Task("referable", False, REFERABLE, targets // 2), edema]
    return Dataset("clinic", "train", images, tasks)


def test_the_photograph_is_on_either_side_and_the_other_is_drawn():
    shown = blind.pairs(dataset(24), 20, 1)
    assert shown.pictures.shape == (20, 2, 64, 64, 3)
    assert set(shown.drawn) == set(blind.SIDES)
    for pair, side in zip(shown.pictures, shown.drawn, strict=True):
        drawn = blind.SIDES.index(side)
        assert (pair[1 - drawn] == 255).all()
        assert pair[drawn].std() > 5
    assert blind.pairs(dataset(24), 20, 2).drawn != shown.drawn


def test_a_phantom_has_the_labels_of_its_photograph(monkeypatch):
    """Of a class that means several things nothing follows, nor of a label that isn't known."""
    given = dataset(6)
    assert stated(given)[:3] == [
        {"dr_grade": 0},
        {"dr_grade": 1, "dme": 0},
        {"dr_grade": 3, "dme": 1},
    ]
    drawn, images = [], dataset(20).images

    def note(eyes, *_, **__):
        drawn.extend(eyes)
        return images.take(range(len(eyes)))

    given20 = dataset(20)
    monkeypatch.setattr(phantoms, "draw", note)
    blind.pairs(given, 4, 0)
    assert len(drawn) == 4
    known = [{key: value for key, value in eye.items() if key != "eye_side"} for eye in drawn]
    assert all(eye in stated(given) for eye in known)
    drawn.clear()
    blind.pairs(given20, 20, 0)
    assert {eye["eye_side"] for eye in drawn} == {0, 1}


def test_rows_hold_two_pairs_each_and_an_odd_one_is_filled_up():
    shown = blind.pairs(dataset(3), 20, 0)
    rows = blind.rows(shown)
    assert list(rows) == ["1 | 2", "3 | "]
    assert all(len(pictures) == 4 for pictures in rows.values())
    assert np.array_equal(rows["1 | 2"][2], shown.pictures[1, 0])
    assert (rows["3 | "][2] == 255).all()


def test_a_judgement_is_scored_against_chance():
    shown = blind.Pairs(np.zeros((20, 2, 4, 4, 3), np.uint8), "LR" * 10)
    half = blind.score(shown, "LL" * 10)
    assert half["right"] == 10
    assert half["p"] > 0.5
    assert half["share"].low < 0.5 < half["share"].high
    fifteen = blind.score(shown, "LR" * 7 + "LL" + "RL" * 2)
    assert fifteen["right"] == 15
    assert fifteen["p"] == pytest.approx(0.0207, abs=1e-4)  # 21700 of 2^20 tosses
    assert fifteen["share"].low == pytest.approx(0.531, abs=1e-3)  # Wilson


@pytest.mark.parametrize("judgement", ["LR", "LRX" + "L" * 17, "lr" * 10])
def test_a_judgement_that_does_not_fit_is_refused(judgement):
    shown = blind.Pairs(np.zeros((20, 2, 4, 4, 3), np.uint8), "LR" * 10)
    with pytest.raises(ValueError, match="is not 20 letters L or R"):
        blind.score(shown, judgement)
