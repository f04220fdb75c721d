"""Maps of findings against the masks of phantoms: which cells show a finding, and what is left out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from visionclip.data import images
from visionclip.data.labelled import LabelledImages
from visionclip.evaluation import encoding, pointing
from visionclip.evaluation.encoding import encode_texts
from visionclip.models import supervision, visionclip


def phantoms(covered, count=4):
    """Grey eyes of 32 pixels, in each but the last a cell of which microaneurysms cover the share ``covered``."""
    masks = np.zeros((count, 1, 8, 8), np.uint8)
    masks[np.arange(count - 1), 0, 3, 2 + np.arange(count - 1)] = round(255 * covered)
    pixels = np.full((count, 32, 32, 3), 120, np.uint8)
    names = [str(place) for place in range(count)]
    return LabelledImages(pixels, [{}] * count, ["phantom"] * count, names, [], masks, ("microaneurysms",))


@pytest.mark.parametrize(("covered", "shown"), [(0.02, False), (0.05, True), (0.2, True)])
def test_a_cell_shows_a_finding_where_it_does_in_training(covered, shown):
    drawn = phantoms(covered)
    maps = np.where(drawn.masks > 0, 0.9, 0.1).astype(np.float32)
    rows = pointing.on_phantoms(drawn, maps, 0, 20)
    assert bool(rows) == shown == (covered > supervision.SHOWN)
    if shown:
        (row,) = rows
        assert row["finding"] == "microaneurysms"
        assert row["dice"].value == 1
        assert 0.1 < row["threshold"] <= 0.9


def test_a_finding_that_only_one_phantom_shows_is_left_out():
    assert pointing.on_phantoms(phantoms(0.5, 2), np.zeros((2, 1, 8, 8), np.float32), 0, 20) == []


def test_the_richest_have_most_lesions_that_show():
    drawn = phantoms(0.05, 3)
    masks = np.concatenate([drawn.masks, np.zeros((3, 1, 8, 8), np.uint8)], axis=1)
    masks[1, 1, 0, 0] = 255
    eyes = [{"dr_grade": 2}, {"dr_grade": 3}, {"dr_grade": 0}]
    two = replace(drawn, masks=masks, mask_names=("microaneurysms", "exudate"), conditions=eyes)
    assert pointing.richest(two, 2) == [1, 0]
    with pytest.raises(ValueError, match="no finding maps"):
        pointing.richest(drawn.without_masks(), 1)


def test_maps_are_those_that_the_model_itself_points_with(untrained, held_out, monkeypatch):
    """Of a single sentence, at the size that the processor has; in fp32, as the model itself is."""
    monkeypatch.setattr(encoding, "bf16_is_fast", lambda _: False)
    words, texts = untrained[1], ["可见硬性渗出。", "Hard exudates are seen."]
    torch.manual_seed(0)
    network = visionclip.VisionCLIP(visionclip.sized(8, 1, 64, 16, len(words), pyramid_size=8)).train(False)
    processor = visionclip.VisionCLIPProcessor(visionclip.VisionCLIPImageProcessor(32), words)
    prepared = np.stack([images.prepare(picture, 32) for picture in held_out.pixels[:3]])
    maps = pointing.finding_maps(network, prepared, encode_texts(network, words, texts))
    assert np.allclose(maps, network.point(list(held_out.pixels[:3]), texts, processor), atol=1e-5)
