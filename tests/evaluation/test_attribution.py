"""Grad-CAM of the answer as a whole, and the eyes on which it is held against marks of what defines a disease."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from visionclip.conditions import DEFINING, DISEASES, FINDINGS
from visionclip.data import images
from visionclip.data.labelled import LabelledImages
from visionclip.data.marks import Marks
from visionclip.evaluation import attribution
from visionclip.models import visionclip


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = visionclip.VisionCLIP(visionclip.sized(8, 1, 64, 16, 100, pyramid_size=8))
    for module in network.vision.modules():  # which start as identity
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    return network.train(False)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3), np.uint8)


@pytest.fixture(scope="module")
def direction():
    return torch.randn(16, generator=torch.Generator().manual_seed(0))


def by_hand(network, pixels, direction):
    """Selvaraju et al.: channels weighted by their mean gradient, summed, and cut at 0."""
    kept = []
    handle = network.vision.encoder.stages[-1].register_forward_hook(lambda *given: kept.append(given[-1]))
    similarity = network.get_image_features(images.standardise(images.to_tensor(pixels))) @ direction
    handle.remove()
    (gradient,) = torch.autograd.grad(similarity.sum(), kept[0])
    return (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1).clamp_min(0).detach().numpy()


def test_gradcam_is_that_of_the_paper_on_the_deepest_features(network, pixels, direction):
    maps = attribution.gradcam(network, pixels, direction, batch_size=2)
    assert maps.shape == (3, 3, 3)
    assert maps.dtype == np.float32
    assert maps.max() > 0
    assert maps == pytest.approx(by_hand(network, pixels, direction), abs=1e-6)


def test_what_speaks_against_an_answer_is_not_what_speaks_for_it(network, pixels, direction):
    towards, away = (attribution.gradcam(network, pixels, sign * direction) for sign in (1, -1))
    assert away.max() > 0
    assert np.minimum(towards, away).max() == 0


def test_a_tower_that_learns_nothing_is_explained_as_any_other(network, pixels, direction):
    before = attribution.gradcam(network, pixels, direction)
    network.requires_grad_(False)
    locked = attribution.gradcam(network, pixels, direction)
    network.requires_grad_(True)
    assert np.array_equal(before, locked)


def test_a_direction_leads_from_the_absent_to_the_present(untrained):
    directions = attribution.directions(*untrained, ["dr_grade", "gc"], ("en",))
    assert list(directions) == ["dr_grade", "gc"]
    assert all(one.shape == (16,) for one in directions.values())


def test_what_defines_a_disease_are_findings_that_can_be_outlined():
    assert DEFINING.keys() <= set(DISEASES)
    assert all(findings and set(findings) <= set(FINDINGS) for findings in DEFINING.values())


# --- Cases --------------------------------------------------------------------------------------------------------


def eyes(count=4):
    """Grey eyes, on each of which exudates and scars lie in a row of their own."""
    masks = np.zeros((count, 2, 8, 8), np.uint8)
    masks[:, 0, 2], masks[:, 1, 5] = 255, 255
    pixels = np.full((count, 32, 32, 3), 120, np.uint8)
    return LabelledImages(
        pixels, [{}] * count, ["phantom"] * count, [*map(str, range(count))], [], masks, ("exudate", "scar")
    )


def test_phantoms_are_explained_that_have_the_disease_and_show_it():
    states = [{"dme": 1}, {"dr_grade": 2, "dme": 1}, {"dr_grade": 0, "dme": 0, "crp": 1}, {"dme": 1}]
    drawn = replace(eyes(), conditions=states)
    drawn.masks[3, 0] = 0
    (case,) = attribution.in_phantoms(drawn, "phantoms")
    assert (case.dataset, case.disease, case.findings) == ("phantoms", "dme", ("exudate",))
    assert case.places.tolist() == [0, 1]
    assert case.masks[:, 2].all()
    assert not case.masks[:, 5].any(), "scars define another disease"


def marked():
    pixels = np.full((5, 16, 16, 3), 120, np.uint8)
    masks = {name: np.zeros((5, 16, 16), bool) for name in ("exudate", "haemorrhage", "disc")}
    masks["exudate"][[0, 1], 3], masks["haemorrhage"][[1, 2, 3], 9], masks["disc"][:, 12] = True, True, True
    known = {name: np.ones(5, bool) for name in masks}
    return Marks("clinic", pixels, [*"abcde"], ["test", "test", "test", "train", "test"], masks, known, [])


def test_photographs_are_explained_that_show_a_mark_of_the_disease():
    retinopathy, edema = attribution.in_marks(marked())
    assert retinopathy.about == {"dataset": "clinic", "disease": "dr_grade", "split": "test"}
    assert retinopathy.findings == ("haemorrhage", "exudate")
    assert retinopathy.places.tolist() == [0, 1, 2]
    assert retinopathy.masks.sum((1, 2)).tolist() == [16, 32, 16]
    assert (edema.disease, edema.places.tolist()) == ("dme", [0, 1])


def test_a_photograph_on_which_nobody_looked_for_all_is_left_out():
    partly = marked()
    partly.known["exudate"][2] = False
    retinopathy, edema = attribution.in_marks(partly)
    assert retinopathy.places.tolist() == [0, 1]
    assert edema.places.tolist() == [0, 1]


def test_a_map_that_is_its_marks_scores_as_one():
    case, _ = attribution.in_marks(marked())
    perfect = case.masks.astype(np.float32)
    threshold = attribution.threshold(case, perfect)
    row = attribution.evaluate(case, perfect, threshold, 0, 20)
    assert (row["dataset"], row["disease"], row["n"]) == ("clinic", "dr_grade", 3)
    assert [row[score].value for score in ("pixel_auc", "average_precision", "pointing", "dice")] == [1] * 4
    assert attribution.evaluate(case, 1 - perfect, None, 0, 20)["pixel_auc"].value == 0
    assert row["lesion_sensitivity"].value is None


def test_any_of_several_findings_is_likelier_than_each():
    maps = np.array([0.5, 0.5, 0.0])[None, :, None, None]
    assert attribution.any_of(maps) == pytest.approx(0.75)


def test_an_overlay_glows_where_the_map_is_highest_and_nowhere_off_the_eye():
    pixels = np.zeros((1, 64, 64, 3), np.uint8)
    pixels[0, 8:56, 8:56] = 120
    maps = np.zeros((1, 4, 4), np.float32)
    maps[0, 1, 1] = maps[0, 0, 0] = 0.2
    (picture,) = attribution.overlay(pixels, maps)
    red, green, blue = picture[24, 24].astype(int)
    assert red > 150 > green > blue
    assert np.ptp(picture[45, 45].astype(int)) == 0
    assert picture[2, 2].max() == 0
    assert np.ptp(attribution.overlay(pixels, np.zeros((1, 4, 4)))[0][24, 24].astype(int)) == 0
