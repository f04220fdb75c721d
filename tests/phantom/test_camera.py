"""What the photograph adds: things that look like disease, in every eye alike, and in no mask."""

import numpy as np
import pytest

from visionclip.phantom import render

LOOK_ALIKES = {"ghosts": 6, "dust": 12, "shadow": 0.6, "glow": 0.7}
ABSENT = dict.fromkeys(LOOK_ALIKES, 0) | {"jpeg_quality": 100, "noise": 0}


def phantom(seed, size=192, **factors):
    return render({}, np.random.default_rng(seed), size, **{**ABSENT, **factors})


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_a_look_alike_changes_the_photograph_and_no_mask(name):
    for seed in range(4):
        plain, changed = phantom(seed), phantom(seed, **{name: LOOK_ALIKES[name]})
        difference = np.abs(changed.image.astype(int) - plain.image).max(axis=2)
        assert difference.max() > 12
        assert not difference[~plain.masks["field"]].any()
        assert all(np.array_equal(plain.masks[mask], changed.masks[mask]) for mask in plain.masks)


def test_ghosts_are_bright_and_keep_to_the_middle_of_the_field():
    away = []
    for seed in range(12):
        change = phantom(seed, ghosts=6).image.astype(int).sum(2) - phantom(seed).image.astype(int).sum(2)
        rows, columns = np.nonzero(change > 20)
        away.extend(np.hypot(rows - 95.5, columns - 95.5) / 96)
        assert change.sum() > 0
    assert np.median(away) < 0.4
    assert np.mean(np.array(away) < 0.7) > 0.9


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_a_look_alike_is_the_same_at_any_size(name):
    """Sums over cells of an eighth of the image hardly depend on how many pixels they have."""
    changes = []
    for size in (96, 384):
        images = [phantom(2, size, **factors).image.astype(float).sum(2) for factors in ({}, {name: LOOK_ALIKES[name]})]
        change = images[1] - images[0]
        changes.append(change.reshape(8, size // 8, 8, size // 8).mean((1, 3)).ravel())
    assert np.corrcoef(*changes)[0, 1] > 0.95
