from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from visionclip import conditions
from visionclip.data.labelled import LabelledImages


def images(**changed):
    pixels = np.arange(3, dtype=np.uint8)[:, None, None, None].repeat(2, 1).repeat(2, 2).repeat(3, 3)
    eyes = [conditions.complete({"dr_grade": grade}) for grade in range(3)]
    return replace(LabelledImages(pixels, eyes, ["phantom"] * 3, ["a", "b", "c"]), **changed)


def test_taking_some_takes_of_every_column():
    masks = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1)
    marked = np.array([True, True, False])
    some = images(groups=["p", "p", "q"], masks=masks, mask_names=("disc",), marked=marked).take(iter([2, 0]))
    assert (some.keys, some.groups, some.sources) == (["c", "a"], ["q", "p"], ["phantom"] * 2)
    assert [eye["dr_grade"] for eye in some.conditions] == [2, 0]
    assert (some.pixels[:, 0, 0, 0].tolist(), some.masks.ravel().tolist(), some.mask_names) == (
        [2, 0],
        [2, 0],
        ("disc",),
    )
    assert some.marked.tolist() == [False, True]
    assert len(some) == 2


def test_without_masks_nothing_is_marked():
    masks = np.zeros((3, 1, 1, 1), np.uint8)
    plain = images(masks=masks, mask_names=("disc",), marked=np.ones(3, bool)).without_masks()
    assert (plain.masks, plain.mask_names, plain.marked) == (None, (), None)
    assert plain.keys == images().keys


def test_a_choice_may_be_true_or_false_of_each_and_may_be_empty():
    assert images().take(np.array([True, False, True])).keys == ["a", "c"]
    assert len(images().take([])) == 0
    assert images().take([0]).masks is None


def test_without_groups_every_image_is_its_own():
    assert images().members == ["a", "b", "c"]
    assert images(groups=["p", "p", "q"]).members == ["p", "p", "q"]


def test_vectors_are_those_of_the_conditions():
    vectors = images().vectors
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors[2], conditions.vector({"dr_grade": 2}))


@pytest.mark.parametrize("column", ["sources", "conditions", "groups", "pixels", "masks", "marked"])
def test_columns_of_another_length_are_refused(column):
    with pytest.raises(ValueError, match="3 keys for columns of"):
        images(**{column: np.zeros((1, 1, 1, 1)) if column in ("pixels", "masks", "marked") else ["x"]})


def test_a_set_is_not_changed_by_accident():
    with pytest.raises(FrozenInstanceError):
        images().keys = []
