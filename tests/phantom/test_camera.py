"""What the photograph adds: things that look like disease, in every eye alike, and in no mask."""

import cv2
import numpy as np
import pytest

from visionclip.phantom import LESIONS, render

LOOK_ALIKES = {"ghosts": 6, "dust": 12, "shadow": 0.6, "glow": 0.7}
ABSENT = dict.fromkeys(LOOK_ALIKES, 0) | {"jpeg_quality": 100, "noise": 0, "local_contrast": 0, "sharpening": 0}


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


@pytest.mark.parametrize("seed", range(4))
def test_saturation_goes_from_grey_to_neon(seed):
    plain, grey, neon = (phantom(seed, saturation=value).image.astype(int) for value in (1, 0, 1.8))
    spread = [np.ptp(image, axis=2).mean() for image in (grey, plain, neon)]
    assert spread[0] < 1
    assert spread[1] < 0.9 * spread[2]


@pytest.mark.parametrize(
    ("enhanced", "width"), [({"sharpening": 1.5, "sharpening_radius": 0.08}, 3), ({"local_contrast": 0.8}, 8)]
)
def test_enhancement_keeps_the_mean_and_lifts_what_differs_from_its_surroundings(enhanced, width):
    for seed in range(4):
        drawn = [phantom(seed, exposure=0.7, **factors) for factors in ({}, enhanced)]
        inside = cv2.erode(drawn[0].masks["field"].astype(np.uint8), np.ones((49, 49))) > 0
        plain, changed = (one.image[..., 1].astype(np.float32) for one in drawn)
        assert changed[inside].mean() == pytest.approx(plain[inside].mean(), rel=0.04)
        contrast = [(green - cv2.GaussianBlur(green, (0, 0), width))[inside].std() for green in (plain, changed)]
        assert contrast[1] > 1.2 * contrast[0]
        assert all(np.array_equal(drawn[0].masks[mask], drawn[1].masks[mask]) for mask in drawn[0].masks)


def test_strangeness_alters_colours_and_no_mask_and_twins_share_it():
    ill = {"dr_grade": 3}
    plain, strange, sick = (
        render(conditions, np.random.default_rng(5), 128, **ABSENT, strangeness=value)
        for conditions, value in (({}, 0), ({}, 1), (ill, 1))
    )
    inside = plain.masks["field"]
    hues = [drawn.image[inside].astype(float).mean(0) for drawn in (plain, strange)]
    assert np.abs(hues[0] / hues[0].sum() - hues[1] / hues[1].sum()).max() > 0.03
    assert all(np.array_equal(plain.masks[mask], strange.masks[mask]) for mask in plain.masks)
    touched = np.any([sick.masks[mask] for mask in LESIONS], axis=0)
    untouched = inside & (cv2.dilate(touched.astype(np.uint8), np.ones((15, 15))) == 0)
    assert np.median(np.abs(sick.image.astype(int) - strange.image)[untouched]) < 3


def test_the_field_fades_at_its_edge_and_a_tab_stands_out_of_it():
    for seed in range(4):
        drawn = {shape: phantom(seed, field_shape=shape, exposure=1.5) for shape in ("circle", "notched")}
        extra = drawn["notched"].masks["field"] & ~drawn["circle"].masks["field"]
        assert 0 < extra.sum() < 0.01 * extra.size
        assert not (drawn["circle"].masks["field"] & ~drawn["notched"].masks["field"]).any()
        field = drawn["circle"].masks["field"]
        inner = cv2.erode(field.astype(np.uint8), np.ones((9, 9))) > 0
        rim = field & ~(cv2.erode(field.astype(np.uint8), np.ones((3, 3))) > 0)
        beside = inner & ~(cv2.erode(field.astype(np.uint8), np.ones((13, 13))) > 0)
        assert drawn["circle"].image[rim].mean() < 0.9 * drawn["circle"].image[beside].mean()
