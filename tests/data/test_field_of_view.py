import cv2
import numpy as np
import pytest

from visionclip import phantom, streams
from visionclip.data import field_of_view, images

SIZE = 320


@pytest.fixture(scope="module")
def eyes():
    """Phantoms with round, cut, cropped and notched fields on black, one of them mostly dark."""
    drawn = [phantom.render({"dr_grade": 3}, streams.rng(0, "fields of view", index), SIZE).image for index in range(8)]
    shading = np.linspace(0.15, 1, SIZE)[None, :, None]
    return [*drawn, (drawn[0] * shading).astype(np.uint8)]


def field(image):
    """The field of a drawn eye: all within the convex hull of what isn't black."""
    return field_of_view._filled(image.shape, cv2.convexHull(np.argwhere(image.max(2) > 0)[:, ::-1])) > 0


def painted(image, kind):
    rng, surround = np.random.default_rng(1), ~field(image)
    rows, columns = np.indices(surround.shape)
    picture = image.copy()
    if kind == "text":
        written = cv2.putText(picture.copy(), "OD 2021", (4, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 0), 2)
        picture[surround] = written[surround]
    elif kind == "white corners":
        picture[surround & (np.abs(rows - SIZE / 2) + np.abs(columns - SIZE / 2) > 0.9 * SIZE)] = 255
    elif kind == "labels in the corners":
        near = (np.minimum(place, SIZE - 1 - place) < 20 for place in (rows, columns))
        picture[surround & np.all([*near], axis=0)] = 255
    elif kind == "page":
        picture = cv2.copyMakeBorder(picture, 40, 30, 60, 20, cv2.BORDER_CONSTANT, value=(250, 250, 250))
    elif kind == "shaded paper":
        picture[surround] = (180 + columns // 8)[surround][:, None]
    elif kind == "frame":
        picture = cv2.copyMakeBorder(picture, 8, 8, 8, 8, cv2.BORDER_CONSTANT, value=(235, 235, 225))
    elif kind == "noise":
        picture[surround] = rng.integers(0, 29, (surround.sum(), 3))
    else:
        picture[surround] = {"white": 255, "grey": 20, "blue": (30, 60, 160)}[kind]
    return picture


KINDS = {
    "white": "coloured",
    "grey": "coloured",
    "blue": "coloured",
    "noise": "coloured",
    "shaded paper": "coloured",
    "white corners": "coloured",
    "page": "coloured",
    "frame": "coloured",
    "text": "marked",
    "labels in the corners": "marked",
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_surround_changes_nothing_that_the_model_sees(eyes, kind):
    for eye in eyes:
        picture = painted(eye, kind)
        prepared, surround = images.prepare_counted(picture, 128)
        assert surround == KINDS[kind]
        expected = images.prepare(eye, 128).astype(int)
        strayed = np.abs(prepared - expected).max(2) > 40
        assert strayed.mean() < 0.07, "a rim of three pixels at most"


def test_black_is_no_surround_worth_a_word(eyes):
    for eye in eyes:
        found = field_of_view.find(eye)
        assert found.surround == "black"
        assert not field_of_view.cut(eye, found)[0, 0].any()
        inside = eye[field(eye)].astype(int).sum()
        assert field_of_view.cut(eye, found).astype(int).sum() > 0.998 * inside, "nothing of the retina is lost"


def test_retina_that_fills_the_picture_is_left_alone(eyes):
    for eye in eyes:
        middle = eye[90:230, 90:230]
        found = field_of_view.find(middle)
        assert np.array_equal(field_of_view.cut(middle, found), middle)
        assert found.surround == "none"


def test_a_tab_at_the_rim_is_cut_off_and_noted():
    picture = np.zeros((300, 400, 3), np.uint8)
    cv2.circle(picture, (200, 150), 130, (120, 70, 30), -1)
    plain = images.prepare(picture, 100)
    cv2.circle(picture, (200 + 96, 150 - 96), 7, (120, 70, 30), -1)
    tabbed, surround = images.prepare_counted(picture, 100)
    assert surround == "marked"
    assert np.abs(tabbed.astype(int) - plain).max(2).mean() < 1


@pytest.mark.parametrize("colour", [255, 128, (30, 60, 160)])
def test_a_bay_of_the_surround_in_the_retina_is_painted_too(eyes, colour):
    """As where somebody took the dark part of a retina for its surround."""
    picture = eyes[0].copy()
    picture[~field(picture)] = colour
    cv2.circle(picture, (SIZE - 10, SIZE // 2), 40, colour if isinstance(colour, tuple) else (colour,) * 3, -1)
    cut = field_of_view.cut(picture, field_of_view.find(picture)).astype(int)
    left = (np.abs(cut - np.array(colour)).max(2) < 6).mean()
    assert left < 0.002, "nothing of its colour is left"


def test_masks_are_cut_as_their_image(eyes):
    picture = painted(eyes[0], "page")
    found = field_of_view.find(picture)
    green = field_of_view.cut(picture, found)[..., 1].astype(int)
    alone = field_of_view.cut(np.ascontiguousarray(picture[..., 1]), found)
    assert green.shape == alone.shape
    assert (np.abs(green - alone) > 0).mean() < 0.05, (
        "the edge, which the page is mixed into, is mended in images alone"
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 2), (5, 7), (40, 900)])
@pytest.mark.parametrize("kind", ["black", "white", "noise", "half"])
def test_no_picture_is_too_odd(shape, kind):
    picture = np.full((*shape, 3), {"black": 0, "half": 0}.get(kind, 255), np.uint8)
    if kind == "noise":
        picture = np.random.default_rng(0).integers(0, 256, picture.shape).astype(np.uint8)
    elif kind == "half":
        picture[:, shape[1] // 2 :] = (130, 80, 40)
    prepared = images.prepare(picture, 32)
    assert prepared.shape == (32, 32, 3)
