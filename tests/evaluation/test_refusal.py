"""Pictures of no retina are refused, with a reason; phantoms are not."""

import numpy as np
import pytest

from visionclip import streams
from visionclip.data import images
from visionclip.evaluation import foreign, refusal
from visionclip.phantom import render


@pytest.fixture(scope="module")
def retinas():
    eyes = [render({}, streams.rng(3, "eyes of a test", place), 128) for place in range(12)]
    return np.stack([images.prepare(eye.image, 128) for eye in eyes])


@pytest.fixture(scope="module")
def pictures(retinas):
    return foreign.draw(retinas, 2, 5)


def test_what_is_no_retina_is_refused_and_phantoms_are_not(retinas, pictures):
    assert refusal.refused(np.concatenate(list(pictures.values()))).mean() >= 0.9
    assert refusal.refused(retinas).mean() <= 0.1


def test_a_reason_is_one_line_of_words(retinas):
    assert refusal.reasons(np.zeros((40, 60, 3), np.uint8)) == ["the picture is black"]
    assert "colours of a retina" in refusal.reasons(255 - retinas[0])[0]
    (line,) = refusal.reasons(np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8))
    assert "\n" not in line


def line() -> np.ndarray:
    """A bright line on black, too thin for a field to have a middle."""
    picture = np.zeros((128, 128, 3), np.uint8)
    picture[10:118, 60:68] = 200
    return picture


@pytest.mark.parametrize("picture", [np.full((9, 9, 3), 255, np.uint8), np.zeros((64, 64, 3), np.uint8), line()])
@pytest.mark.filterwarnings("error")
def test_measures_are_finite_whatever_is_shown(picture):
    measured = refusal.measure(picture)
    assert measured.shape == (len(refusal.MEASURES),)
    assert np.isfinite(measured).all()


def test_every_kind_is_drawn_the_same_each_time(retinas, pictures):
    assert len(pictures) == len(foreign.KINDS) == 25
    for name, again in foreign.draw(retinas, 2, 5).items():
        assert again.dtype == np.uint8
        assert again.shape == (2, *retinas.shape[1:])
        np.testing.assert_array_equal(again, pictures[name])
        assert name == "retina, pieces mixed" or np.isfinite(refusal.measure(again[0])).all()


def test_a_rule_is_fitted_to_refuse_a_share(retinas):
    many = np.concatenate([retinas, *[np.roll(retinas, shift, axis=1) for shift in (1, 2)]])
    fitted = refusal.fit(many, many, 0.25)
    far = fitted.distances(np.stack([refusal.measure(one) for one in many]))
    assert (far > fitted.limit).mean() == pytest.approx(0.25, abs=0.05)
