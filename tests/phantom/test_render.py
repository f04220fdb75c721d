"""Phantoms: what was asked for is what is drawn, and the masks say exactly where."""

import json

import cv2
import numpy as np
import pytest

from still import CLEAR
from visionclip.conditions import DISEASES, VOCABULARY
from visionclip.phantom import ANATOMY, FACTORS, LESIONS, render
from visionclip.phantom.factors import FORMS

LESION_FACTORS = {
    "microaneurysms": (20, "microaneurysms"),
    "haemorrhages": (12, "haemorrhage"),
    "flames": (8, "haemorrhage"),
    "exudates": (3, "exudate"),
    "macular_exudates": (3, "exudate"),
    "macular_star": (1, "exudate"),
    "cotton_wool": (4, "cotton_wool"),
    "neovessels": (2, "neovessel"),
    "irma": (3, "neovessel"),
    "preretinal": (1, "haemorrhage"),
    "fibrosis": (2, "fibrosis"),
    "laser": (60, "scar"),
    "drusen": (60, "drusen"),
    "macular_pigment": (8, "pigment"),
    "geographic_atrophy": (0.7, "atrophy"),
    "subretinal_blood": (0.8, "haemorrhage"),
    "active_lesions": (3, "scar"),
    "patchy_atrophy": (3, "atrophy"),
    "lacquer_cracks": (3, "atrophy"),
    "membrane": (0.9, "membrane"),
}


def phantom(conditions, seed=0, size=128, **factors):
    return render(conditions, np.random.default_rng(seed), size, **factors)


def diameters_from_fovea(drawn, mask):
    """Distance in disc diameters of every pixel of ``mask`` from the fovea."""
    rows, columns = np.nonzero(mask)
    x, y = drawn.parameters["fovea_centre"]
    return np.hypot(columns + 0.5 - x, rows + 0.5 - y) / drawn.parameters["disc_diameter_pixels"]


@pytest.mark.parametrize("size", [64, 100, 128, 256])
def test_a_phantom_has_the_promised_shapes_types_and_masks(size):
    drawn = phantom({"dr_grade": 4, "dme": 1}, size=size)
    assert drawn.image.shape == (size, size, 3)
    assert drawn.image.dtype == np.uint8
    assert set(drawn.masks) == {*ANATOMY, *LESIONS}
    assert all(mask.shape == (size, size) and mask.dtype == bool for mask in drawn.masks.values())
    assert not drawn.image[~drawn.masks["field"]].any()
    json.dumps(drawn.parameters, allow_nan=False)


def test_the_same_generator_state_gives_the_same_phantom_and_another_does_not():
    first, again, other = (phantom({"rvo": 1}, seed) for seed in (5, 5, 6))
    assert np.array_equal(first.image, again.image)
    assert first.parameters == again.parameters
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize(
    "condition", [*DISEASES, "fundus_readable", "macula_readable", "disc_readable", "retina_readable"]
)
def test_every_condition_changes_the_photograph(condition):
    value = VOCABULARY[condition].highest if condition in DISEASES else 0
    usual = {"exposure": 1, "strangeness": 0, "blur": 0}  # a thin membrane may be lost in a dim or blurred photograph
    changed = [
        np.abs(phantom({condition: value}, seed, 96, **usual).image.astype(int) - phantom({}, seed, 96, **usual).image)
        for seed in range(5)
    ]
    assert sum(difference.max() > 15 for difference in changed) >= 4


@pytest.mark.parametrize(("factor", "amount_and_mask"), LESION_FACTORS.items())
def test_a_mask_covers_what_its_lesion_changed(factor, amount_and_mask):
    amount, mask = amount_and_mask
    healthy = phantom({}, 0, 256, **CLEAR)
    ill = phantom({}, 0, 256, **CLEAR, **{factor: amount})
    changed = np.abs(ill.image.astype(int) - healthy.image).max(axis=2) > 14
    marked = ill.masks[mask] | ill.masks["pigment"]
    around = cv2.dilate(marked.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert ill.masks[mask].sum() > 8
    assert changed.any()
    assert not (changed & ~around).any()


def test_healthy_eyes_have_look_alikes_but_no_lesion_masks():
    eyes = [phantom({}, seed, 96) for seed in range(30)]
    assert not any(eye.masks[name].any() for eye in eyes for name in LESIONS)
    assert any(eye.parameters["hard_drusen"] for eye in eyes)
    assert any(eye.parameters["foveal_reflex"] for eye in eyes)
    assert any(eye.parameters["crescent"] for eye in eyes)


@pytest.mark.parametrize("seed", range(6))
def test_the_grade_of_retinopathy_has_its_defining_lesions(seed):
    grades = [phantom({"dr_grade": grade}, seed, 256) for grade in range(5)]  # microaneurysms are lost at half that
    none, mild, moderate, severe, proliferative = (eye.masks for eye in grades)
    assert not any(none[name].any() for name in LESIONS)
    assert mild["microaneurysms"].any()
    assert not any(mild[name].any() for name in LESIONS if name != "microaneurysms")
    assert moderate["haemorrhage"].any()
    assert not moderate["neovessel"].any()
    assert max(grades[2].parameters["haemorrhages_by_quadrant"]) <= 20
    factors = grades[3].parameters
    assert min(factors["haemorrhages_by_quadrant"]) > 20 or factors["beading"] or severe["neovessel"].any()
    assert proliferative["neovessel"].any() or grades[4].parameters["preretinal"]


@pytest.mark.parametrize("seed", range(6))
def test_macular_edema_means_exudates_within_one_disc_diameter_of_the_fovea(seed):
    with_edema = phantom({"dr_grade": 2, "dme": 1}, seed, gaze=0.2)
    without = phantom({"dr_grade": 3, "dme": 0}, seed, gaze=0.2, exudates=5)
    assert (diameters_from_fovea(with_edema, with_edema.masks["exudate"]) < 1).any()
    assert not (diameters_from_fovea(without, without.masks["exudate"]) < 1).any()


@pytest.mark.parametrize("seed", range(5))
def test_the_disc_lies_on_the_side_of_the_eye(seed):
    for side in (0, 1):
        drawn = phantom({"eye_side": side}, seed)
        assert (drawn.parameters["disc_centre"][0] > drawn.parameters["fovea_centre"][0]) == bool(side)
        columns = np.nonzero(drawn.masks["disc"])[1]
        assert abs(columns.mean() - drawn.parameters["disc_centre"][0]) < 8


def test_the_cup_follows_the_ratio_and_glaucoma_exceeds_normal():
    for ratio in (0.3, 0.5, 0.8):
        drawn = phantom({}, 1, 256, cup_to_disc=ratio, field_radius=2.5, disc_tilt=0, gaze=1)
        cup, disc = (np.nonzero(drawn.masks[name].any(axis=1))[0] for name in ("cup", "disc"))
        assert np.ptp(cup) / np.ptp(disc) == pytest.approx(ratio, abs=0.08)
    assert all(phantom({"gc": 1}, seed, 64).parameters["cup_to_disc"] >= 0.6 for seed in range(8))
    assert all(phantom({}, seed, 64).parameters["cup_to_disc"] <= 0.7 for seed in range(8))


def test_a_branch_vein_occlusion_bleeds_on_one_side_of_the_raphe():
    drawn = phantom({"rvo": 1}, 2, 128, vein_occlusion="branch", flames=40, rotation=0)
    rows = np.nonzero(drawn.masks["haemorrhage"])[0] - drawn.parameters["disc_centre"][1]
    above = (rows < 0).mean()
    assert above > 0.75 if drawn.parameters["occluded_branch"] == "superior" else above < 0.25


def test_cataract_takes_contrast_away():
    still = {"noise": 0, "flare": 0, "glow": 0, "vignette": 0, "unevenness": 0, "local_contrast": 0, "exposure": 1}
    shares = []
    for seed in range(6):
        clear, cloudy = (phantom({}, seed, 128, **still, lens_opacity=opacity) for opacity in (0, 0.9))
        inside = cv2.erode(clear.masks["field"].astype(np.uint8), np.ones((9, 9))) > 0
        shares.append(cloudy.image[inside, 1].std() / clear.image[inside, 1].std())
    assert np.median(shares) < 0.6
    assert max(shares) < 0.85


@pytest.mark.parametrize(("flag", "region"), [("macula", "fovea"), ("disc", "disc")])
def test_a_region_that_cannot_be_read_is_cut_off_or_covered(flag, region):
    for seed in range(6):
        drawn = phantom({f"{flag}_readable": 0}, seed)
        fault = drawn.parameters[f"{flag}_fault"]
        if fault == "cut":
            assert not drawn.masks[region].any()
        else:
            level = drawn.image[drawn.masks[region]].mean()
            assert level < 45 if fault == "dark" else level > 130


def test_every_factor_can_be_fixed_and_is_reported():
    for name, factor in FACTORS.items():
        value = factor.choices[-1] if factor.choices else (factor.low + factor.high) / 2
        if isinstance(value, float) and factor.high > 2.5:
            value = int(value)
        conditions = {FORMS[name][0]: 1} if name in FORMS else {}
        assert phantom(conditions, 0, 64, **{name: value}).parameters[name] == value


def test_wrong_factors_conditions_and_sizes_are_refused_by_name():
    with pytest.raises(ValueError, match=r"unknown factor 'cup'.*cup_to_disc"):
        phantom({}, cup=0.7)
    with pytest.raises(ValueError, match=r"cup_to_disc is 3; allowed are numbers from 0.05 to 0.98"):
        phantom({}, cup_to_disc=3)
    with pytest.raises(ValueError, match=r"camera is 'box'; allowed are topcon"):
        phantom({}, camera="box")
    with pytest.raises(ValueError, match="unknown condition 'glaucoma'"):
        phantom({"glaucoma": 1})
    with pytest.raises(ValueError, match=r"amd_stage is 'early' in an eye without it; add amd: 1"):
        phantom({}, amd_stage="early")
    with pytest.raises(ValueError, match="size is 8"):
        phantom({}, size=8)


@pytest.mark.parametrize("seed", range(4))
def test_stages_have_their_defining_lesions(seed):
    early, intermediate, dry, wet = (
        phantom({"amd": 1}, seed, 256, amd_stage=stage) for stage in FACTORS["amd_stage"].choices[1:]
    )
    assert [name for name in LESIONS if early.masks[name].any()] == ["drusen"]
    assert early.parameters["drusen_size"] <= 125 < intermediate.parameters["drusen_size"]
    assert dry.masks["atrophy"].any()
    assert not intermediate.masks["atrophy"].any()
    assert any(wet.masks[name].any() for name in ("haemorrhage", "swelling", "fibrosis"))
    mild, malignant = (phantom({"htr": 1}, seed, hypertension=grade) for grade in ("1", "4"))
    assert not any(mild.masks[name].any() for name in LESIONS)
    assert malignant.masks["haemorrhage"].any()
    assert malignant.masks["swelling"].any()


def test_a_fixed_camera_and_age_lead_what_follows_from_them():
    kowa = [phantom({}, seed, 64, camera="kowa").parameters for seed in range(40)]
    assert {one["field_shape"] for one in kowa} == {"cut", "circle"}
    assert sum(one["colour"] == "orange" for one in kowa) > 15
    young, old = ([phantom({}, seed, 32, age=age).parameters["sheen"] > 0.5 for seed in range(40)] for age in (20, 85))
    assert sum(young) > 2 * sum(old)
