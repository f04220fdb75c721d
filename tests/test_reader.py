import numpy as np
import pytest
import torch

from visionclip import conditions
from visionclip.data import images
from visionclip.evaluation import metrics
from visionclip.models import classifier
from visionclip.stages import transfer

EYES = [conditions.complete(eye) for eye in ({}, {"dr_grade": 3, "dme": 1}, {"pm": 1, "eye_side": 1}, {"dm": 1})]
SEEDS = [[7, number] for number in range(4)]


@pytest.fixture(scope="module")
def lessons():
    return transfer.lessons(transfer.ARMS[transfer.WHOLE], 160, 0, 48, "phantoms", workers=1)


def test_maps_lie_where_the_picture_changed():
    drawn = classifier.draw(EYES, SEEDS, 96, "phantoms", workers=1)
    healthy = classifier.draw(
        [{**eye, **dict.fromkeys(conditions.DISEASES, 0)} for eye in EYES], SEEDS, 96, "phantoms", 1
    )
    assert drawn.pixels.shape == (4, 96, 96, 3)
    assert drawn.maps.shape == (4, len(classifier.MAPPED), 24, 24)
    names = list(classifier.MAPPED)
    blood = drawn.maps[1, names.index("haemorrhage")]
    changed = np.abs(drawn.pixels[1].astype(int) - healthy.pixels[1]).sum(2).reshape(24, 4, 24, 4).mean((1, 3))
    assert changed[blood > 80].mean() > 2 * changed[blood == 0].mean()
    assert not healthy.maps[1, : names.index("disc")].any()
    assert np.array_equal(drawn.maps[1, names.index("disc")], healthy.maps[1, names.index("disc")])


def test_maps_follow_the_crop_of_their_picture():
    """A field that leaves a margin is cropped, and the map of the disc with it: the disc is the brightest part."""
    (eye,) = [conditions.complete({})]
    drawn = classifier.draw([eye], [[3]], 192, "phantoms", 1, {"field_radius": 3.2, "gaze": 1.0, "flare": 0})
    disc = drawn.maps[0, list(classifier.MAPPED).index("disc")] > 200
    red_green = drawn.pixels[0, ..., 1].reshape(48, 4, 48, 4).mean((1, 3))
    inside = red_green > 20
    assert red_green[disc].mean() > 1.2 * red_green[inside & ~disc].mean()
    beyond = np.roll(disc, disc.sum(0).max(), axis=0) & ~disc
    assert red_green[disc].mean() > 1.2 * red_green[beyond].mean()


def test_both_kinds_of_myopia_count_as_one():
    named = classifier.targets(EYES)
    myopia, side = classifier.NAMED.index("pm>=1"), classifier.NAMED.index("eye_side>=1")
    assert "dm>=1" not in classifier.NAMED
    assert named[:, myopia].tolist() == [0, 0, 1, 1]
    assert named[:, side].tolist() == [0, 0, 1, 0]
    assert [named[1, classifier.NAMED.index(f"dr_grade>={grade}")] for grade in (1, 2, 3, 4)] == [1, 1, 1, 0]


@pytest.mark.parametrize("size", [16, 40, 100])
def test_a_size_that_does_not_fit_is_refused_before_anything_is_drawn(size):
    with pytest.raises(ValueError, match="multiples of 16"):
        classifier.draw(EYES, SEEDS, size, "phantoms", 1)


def test_it_learns_sides_and_maps_and_comes_back_from_its_file(lessons, tmp_path):
    settings = classifier.Settings(60, width=8, augmentation=0.0, seed=1)
    taught = classifier.teach(lessons, settings)
    odds, _ = classifier.read(taught, lessons.pixels)
    side = np.array([eye["eye_side"] for eye in lessons.eyes])
    found = odds[:, classifier.NAMED.index("eye_side>=1")]
    assert metrics.scores(side, np.stack([-found, found], 1), False)["auc"] > 0.8
    disc = list(classifier.MAPPED).index("disc")
    maps, truth = classifier.maps_of(taught, lessons.pixels[:20])[:, disc], lessons.maps[:20, disc] > 128
    assert maps[truth].mean() > 2 * maps[~truth].mean()
    classifier.save(taught, 48, tmp_path)
    again, size = classifier.load(tmp_path)
    assert size == 48
    for one, other in zip(
        classifier.read(again, lessons.pixels[:8]), classifier.read(taught, lessons.pixels[:8]), strict=True
    ):
        assert np.array_equal(one, other)


def test_a_stopped_run_goes_on_where_it_was(lessons, tmp_path):
    settings = classifier.Settings(6, width=8, batch_size=8, checkpoint_every=3)
    whole = classifier.teach(lessons, settings)
    path = tmp_path / "checkpoint.safetensors"

    def stop(pixels):
        stop.left -= 1
        if stop.left < 0:
            raise KeyboardInterrupt
        return images.standardise(pixels)

    stop.left, stop.__name__ = 4, images.standardise.__name__
    with pytest.raises(KeyboardInterrupt):
        classifier.teach(lessons, settings, stop, checkpoint=path)
    resumed = classifier.teach(lessons, settings, checkpoint=path)
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.allclose(one.float(), other.float(), atol=1e-5)
    stamp = path.stat().st_mtime_ns
    classifier.teach(lessons, settings, checkpoint=path)
    assert path.stat().st_mtime_ns == stamp  # finished: returned at once


def test_a_missing_reader_names_the_notebook(tmp_path):
    with pytest.raises(FileNotFoundError, match="07-reader"):
        classifier.load(tmp_path)
