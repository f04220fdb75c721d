"""The optic disc: as bright, as soft and as varied as photographed ones; its rim alone tells glaucoma."""

import cv2
import numpy as np
import pytest

from visionclip.phantom import render

# A right eye seen from above its disc, without optics in the way.
VIEW = {"gaze": 1, "field_radius": 2, "rotation": 0, "disc_tilt": 0, "blur": 0, "haze": 0, "lens_opacity": 0}
STILL = {"noise": 0, "jpeg_quality": 100, "vignette": 0, "unevenness": 0, "sheen": 0, "tessellation": 0, "glow": 0}


def drawn(seed, size=192, conditions=None, **factors):
    return render({"eye_side": 0} | (conditions or {}), np.random.default_rng(seed), size, **VIEW | STILL | factors)


def rims(eye):
    """Width of the rim below, above, on the nasal and on the temporal side, as shares of the height of the disc."""
    sides = []
    for axis in (1, 0):
        disc, cup = (np.nonzero(eye.masks[name].any(axis=axis))[0] for name in ("disc", "cup"))
        sides.append((disc[-1] - cup[-1], cup[0] - disc[0]))
    height = np.ptp(np.nonzero(eye.masks["disc"].any(axis=1))[0]) + 1
    (below, above), right_and_left = sides
    temporal_is_right = eye.parameters["fovea_centre"][0] > eye.parameters["disc_centre"][0]
    temporal, nasal = right_and_left if temporal_is_right else right_and_left[::-1]
    return np.array((below, above, nasal, temporal)) / height


def around(eye):
    """Of each pixel: distance from the disc's centre in DD, and x towards the fovea."""
    rows, columns = np.indices(eye.masks["disc"].shape) + 0.5
    x, y = eye.parameters["disc_centre"]
    scale, side = eye.parameters["disc_diameter_pixels"], np.sign(eye.parameters["fovea_centre"][0] - x)
    return np.hypot(columns - x, rows - y) / scale, side * (columns - x) / scale


def contrast(eye):
    """Green light of the disc (its median) against that of the ground around it."""
    distance, _ = around(eye)
    green, ring = eye.image[..., 1], (distance > 0.7) & (distance < 0.95) & eye.masks["field"]
    return np.median(green[eye.masks["disc"]]) / max(np.median(green[ring]), 1.0)


def steepness(eye, temporal):
    """The largest step of green light in 0.05 DD across the edge, as a share of the whole step from in to out."""
    distance, across = around(eye)
    sector = (across if temporal else -across) > 0.85 * distance
    levels = [
        np.percentile(eye.image[..., 1][sector & (np.abs(distance - middle) < 0.025)], 60)
        for middle in np.arange(0.2, 0.85, 0.05)
    ]
    return -np.diff(levels).min() / max(np.ptp(levels), 1)


def test_the_edge_of_the_disc_is_soft_and_softer_on_the_nasal_side():
    plain = {"cup_to_disc": 0.1, "cup_depth": 0, "disc_glare": 0, "crescent": 0}
    eyes = [drawn(seed, **plain) for seed in range(24)]
    temporal, nasal = (np.array([steepness(eye, side) for eye in eyes]) for side in (True, False))
    assert np.median(nasal) < np.median(temporal) - 0.03
    assert np.median(temporal) < 0.6


def test_discs_are_as_bright_against_their_ground_as_photographed_ones():
    """Of 54 discs of IDRiD train, marked by experts: 5th, 50th and 95th percentile 1.22, 1.43 and 2.03."""
    low, middle, high = np.percentile(
        [contrast(render({}, np.random.default_rng(seed), 128, gaze=0.8)) for seed in range(80)], (5, 50, 95)
    )
    assert 1.02 < low < 1.3
    assert 1.33 < middle < 1.6
    assert 1.8 < high < 2.7


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("ill", [{}, {"rim_loss": 0.9, "rim_notch": 0.8}])
def test_the_height_of_the_cup_is_the_ratio_whatever_its_shape(ratio, ill):
    for seed in range(6):
        eye = drawn(seed, 256, cup_to_disc=ratio, **ill)
        disc, cup = (np.ptp(np.nonzero(eye.masks[name].any(axis=1))[0]) + 1 for name in ("disc", "cup"))
        assert disc / eye.parameters["disc_diameter_pixels"] == pytest.approx(1, abs=0.04)
        assert cup / disc == pytest.approx(ratio, abs=0.04)


def test_a_large_healthy_cup_keeps_an_even_rim_and_a_glaucomatous_one_of_the_same_height_does_not():
    healthy, ill = (
        np.array([rims(drawn(seed, conditions=eye, cup_to_disc=0.65)) for seed in range(24)]) for eye in ({}, {"gc": 1})
    )
    thinner = [both[:, :2].min(axis=1) / both[:, :2].sum(axis=1) for both in (healthy, ill)]  # of below and above
    assert (thinner[0] > 0.35).all()
    assert (thinner[1] < 0.35).mean() > 0.7
    assert np.median(healthy[:, :2].min(axis=1) - healthy[:, 3]) > 0  # the temporal rim is the thinnest (ISNT)
    assert (ill[:, 0] < ill[:, 1]).mean() > 0.55  # below first


def test_healthy_eyes_have_large_cups_and_overexposed_discs():
    eyes = [render({}, np.random.default_rng(seed), 32).parameters for seed in range(300)]
    large = np.mean([eye["cup_to_disc"] >= 0.5 for eye in eyes])
    assert 0.08 < large < 0.19
    assert 0.15 < np.mean([eye["disc_glare"] > 0.5 for eye in eyes]) < 0.4


def test_glare_hides_the_edge_of_the_cup():
    def edge(seed, glare):
        eye = drawn(seed, cup_to_disc=0.5, cup_depth=0.9, disc_glare=glare, crescent=0, exposure=0.6)
        cup = eye.masks["cup"].astype(np.uint8)
        within, beyond = (change(cup, np.ones((9, 9), np.uint8)) > 0 for change in (cv2.erode, cv2.dilate))
        green = eye.image[..., 1]
        return np.median(green[eye.masks["cup"] & ~within]) - np.median(green[beyond & ~eye.masks["cup"]])

    clear, hidden = (np.mean([edge(seed, glare) for seed in range(8)]) for glare in (0.0, 1.0))
    assert clear > 5
    assert hidden < 0.5 * clear


def test_vessels_bend_at_the_edge_of_a_deep_cup():
    """The flat cup has vessels where the tree puts them; in the deep one they lie farther to the nasal side."""
    places = []
    for depth in (0.0, 1.0):
        eye = drawn(5, 256, cup_to_disc=0.85, cup_depth=depth, disc_glare=0)
        vessels = (eye.masks["artery"] | eye.masks["vein"]) & eye.masks["cup"]
        places.append(around(eye)[1][vessels].mean())
    assert places[1] < places[0] - 0.02


def test_the_disc_is_the_same_at_any_size():
    small, large = (drawn(4, size, crescent=0.2) for size in (128, 512))
    for name in ("disc", "cup"):
        reduced = cv2.resize(large.masks[name].astype(np.float32), (128, 128), interpolation=cv2.INTER_AREA) > 0.5
        assert (reduced ^ small.masks[name]).sum() < 0.02 * small.masks["disc"].sum()


def test_a_disc_out_of_the_field_leaves_its_masks_empty():
    eye = render({"disc_readable": 0}, np.random.default_rng(0), 128, disc_fault="cut")
    assert not eye.masks["disc"].any()
    assert not eye.masks["cup"].any()
