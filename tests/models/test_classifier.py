"""The classifier's targets and shapes, and that it is what it was once saved."""

import numpy as np
import pytest
import torch

import tiny_images
from visionclip import conditions
from visionclip.data.phantoms import FINDINGS, STRIDE
from visionclip.models import classifier
from visionclip.models.classifier import CONDITIONS, DEFINING, Classifier

EYES = [conditions.complete(eye) for eye in ({}, {"dr_grade": 3, "dme": 1}, {"pm": 1, "eye_side": 1}, {"dm": 1})]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Classifier(8).train(False)


def test_both_kinds_of_myopia_count_as_one():
    wanted = classifier.targets(EYES)
    assert wanted.dtype == np.float32
    assert "dm>=1" not in CONDITIONS
    assert wanted[:, CONDITIONS.index("pm>=1")].tolist() == [0, 0, 1, 1]
    assert wanted[:, CONDITIONS.index("eye_side>=1")].tolist() == [0, 0, 1, 0]
    assert [wanted[1, CONDITIONS.index(f"dr_grade>={grade}")] for grade in (1, 2, 3, 4)] == [1, 1, 1, 0]


def test_what_defines_a_condition_is_mapped():
    assert set(DEFINING) <= set(CONDITIONS)
    assert {finding for findings in DEFINING.values() for finding in findings} <= set(FINDINGS)


@torch.no_grad()
@pytest.mark.parametrize("size", [16, 48, 100])  # in no need of a multiple of the deepest stride
def test_conditions_and_maps_have_their_shapes(network, size):
    logits, maps = network(torch.randn(2, 3, size, size))
    assert logits.shape == (2, len(CONDITIONS))
    assert maps.shape == (2, len(FINDINGS), size // STRIDE, size // STRIDE)
    assert maps.dtype == logits.dtype == torch.float32
    levels = network.levels(torch.randn(2, 3, size, size))
    assert [level.shape[1] for level in levels] == [8, 16, 32, 64]


@torch.no_grad()
def test_a_cell_of_a_map_lies_where_the_picture_changed(network):
    pixels = torch.zeros(1, 3, 96, 96)
    changed = pixels.clone()
    changed[..., 8:16, 80:88] = 3
    difference = (network.levels(changed)[1] - network.levels(pixels)[1]).abs().sum(1)[0]
    rows, columns = np.unravel_index(difference.argmax().item(), difference.shape)
    stride = 96 // len(difference)
    assert 4 <= rows * stride <= 20
    assert 76 <= columns * stride <= 92


def test_a_saved_classifier_is_the_same_and_knows_its_sizes(network, tmp_path):
    classifier.save(network, 48, tmp_path)
    loaded, size = classifier.load(tmp_path)
    assert size == 48
    assert loaded.width == 8
    assert not loaded.training
    assert tiny_images.same(network, loaded)
    assert [path.name for path in tmp_path.iterdir()] == ["classifier.safetensors"]


def test_a_missing_classifier_names_the_notebook(tmp_path):
    with pytest.raises(FileNotFoundError, match="07-baseline"):
        classifier.load(tmp_path)


def test_what_is_unknown_is_no_target():
    wanted = classifier.targets([{"dr_grade": 2}, {"pm": 0}, {"dm": 1}, {"pm": 0, "dm": 0}])
    grades = [CONDITIONS.index(f"dr_grade>={grade}") for grade in (1, 2, 3, 4)]
    assert wanted[0, grades].tolist() == [1, 1, 0, 0]
    assert np.isnan(np.delete(wanted[0], grades)).all()
    of_myopia = wanted[:, CONDITIONS.index("pm>=1")]
    assert np.isnan(of_myopia[:2]).all()  # the other kind may be there
    assert of_myopia[2:].tolist() == [1, 0]
