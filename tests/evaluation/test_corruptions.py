"""Corruptions change the retina and nothing around it, the more the stronger, and the same way each time."""

import numpy as np
import pytest

import tiny_images
from visionclip.evaluation import corruptions


@pytest.fixture(scope="module")
def pixels():
    return tiny_images.discs(2, 48).pixels


def changed(pixels, name, strength):
    return np.abs(corruptions.corrupt(pixels, name, strength, 0).astype(int) - pixels).mean()


@pytest.mark.parametrize("name", corruptions.CORRUPTIONS)
def test_each_changes_the_picture_and_leaves_the_surround_black(pixels, name):
    spoilt = corruptions.corrupt(pixels, name, 5, 0)
    assert spoilt.dtype == np.uint8
    assert spoilt.shape == pixels.shape
    assert not spoilt[pixels.max(3) <= 12].any()
    assert changed(pixels, name, 5) > 0
    np.testing.assert_array_equal(spoilt, corruptions.corrupt(pixels, name, 5, 0))


@pytest.mark.parametrize(
    "name", ["noise", "shot noise", "impulse noise", "speckle noise", "darker", "haze", "contrast"]
)
def test_stronger_is_further_from_the_picture(pixels, name):
    by_strength = [changed(pixels, name, strength) for strength in corruptions.STRENGTHS]
    assert by_strength == sorted(by_strength)


def test_there_are_sixteen_of_five_strengths():
    assert [len(levels) for _, levels in corruptions.CORRUPTIONS.values()] == [5] * 16


@pytest.mark.parametrize(("name", "strength"), [("rain", 1), ("noise", 0), ("noise", 6)])
def test_an_unknown_one_is_refused(pixels, name, strength):
    with pytest.raises(ValueError, match=r"^corrupt: .*; choose from noise, "):
        corruptions.corrupt(pixels, name, strength, 0)
