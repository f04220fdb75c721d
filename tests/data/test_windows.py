"""Windows of eyes: what they show, that their masks go with them, and whose they are."""

import numpy as np
import pytest

from visionclip.data import windows
from visionclip.data.labelled import LabelledImages

SIDE, CELLS = 128, 32


def eyes(count=1, at=(5, 20), name="exudate"):
    """Black eyes of which one cell is white, where the mask has the finding."""
    pixels, masks = np.zeros((count, SIDE, SIDE, 3), np.uint8), np.zeros((count, 2, CELLS, CELLS), np.uint8)
    top, left = at
    pixels[:, 4 * top : 4 * top + 4, 4 * left : 4 * left + 4] = 255
    masks[:, 0, top, left] = 255
    keys = [str(place) for place in range(count)]
    return LabelledImages(pixels, [{}] * count, ["phantom"] * count, keys, masks=masks, mask_names=(name, "fovea"))


def drawn(images, size=32, times=60):
    return windows.draw(images, np.zeros(times, int), size, np.random.default_rng(0))


@pytest.mark.parametrize("size", [24, 32, 48])
def test_masks_move_with_their_pixels(size):
    pixels, masks = drawn(eyes(), size)
    side = windows.with_margin(size)
    assert pixels.shape[1:] == (side, side, 3)
    assert masks.shape[1:] == (2, side // 4, side // 4)
    shown = masks[:, 0].max((1, 2)) > 150
    assert 10 < shown.sum() < 60
    for window, mask in zip(pixels[shown, :, :, 0], masks[shown, 0], strict=True):
        here = np.argwhere(window > 120).mean(0) / 4 - 0.5
        assert np.abs(here - np.unravel_index(mask.argmax(), mask.shape)).max() < 1
    assert not masks[:, 1].any()


@pytest.mark.parametrize(("name", "aimed"), [("exudate", True), ("disc", True), ("fovea", False)])
def test_most_windows_are_at_a_lesion_or_the_disc(name, aimed):
    shown = (drawn(eyes(at=(3, 16), name=name), 24, 200)[1][:, 0] > 25).any((1, 2)).mean()
    assert (shown > windows.AIMED) == aimed


def test_a_window_of_an_eye_as_small_is_all_of_it():
    pixels, masks = drawn(eyes(), SIDE, 20)
    assert pixels.shape[1] > SIDE
    assert (pixels.max((1, 2, 3)) > 200).all()
    assert (masks[:, 0].max((1, 2)) > 150).all()


def test_zoom_is_what_it_says():
    """The white square of four pixels is wider or narrower by the zoom."""
    pixels, masks = drawn(eyes(), 32, 200)
    shown = masks[:, 0].max((1, 2)) > 25
    widths = np.sqrt((pixels[shown, :, :, 0] > 120).sum((1, 2)))
    low, high = windows.ZOOM
    assert 4 * low - 1.1 < widths.min() < 4
    assert 5 < widths.max() < 4 * high + 1.1


def test_images_without_masks_are_refused():
    with pytest.raises(ValueError, match="no finding maps"):
        windows.draw(eyes().without_masks(), np.array([0]), 32, np.random.default_rng(0))


def test_the_centre_takes_the_margin_off():
    planes = np.arange(144.0).reshape(1, 1, 12, 12)
    assert np.array_equal(windows.centre(planes, 8), planes[..., 2:10, 2:10])
