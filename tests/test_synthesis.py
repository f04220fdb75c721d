import json

import cv2
import numpy as np
import pytest
import webdataset

from visionclip import conditions, phantom
from visionclip.data import shards
from visionclip.stages import synthesis


def test_an_eye_follows_from_its_seed_however_many_processes_draw():
    eyes = synthesis.balanced_eyes(6, "train", 0, 0.1)
    alone = synthesis.render(eyes, "train", 0, 32, workers=1)
    together = synthesis.render(eyes[:3], "train", 0, 32, workers=2)
    assert np.array_equal(alone.pixels[:3], together.pixels)
    assert np.array_equal(alone.layouts[:3], together.layouts)
    assert alone.vectors.shape == (6, len(conditions.VECTOR_NAMES))


def test_streams_share_no_eye():
    eyes = [conditions.complete({})] * 3
    drawn = [synthesis.render(eyes, stream, 0, 32, workers=1).pixels for stream in synthesis.STREAMS]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not any(np.array_equal(a, b) for a in drawn[one] for b in drawn[other])


def test_the_set_needs_enough_originals():
    assert synthesis.split_counts(100, 0.25, 75) == (25, 75)
    with pytest.raises(ValueError, match="raise originals"):
        synthesis.split_counts(100, 0.25, 74)


def test_both_sets_are_written_with_their_sources(tmp_path):
    eyes = synthesis.balanced_eyes(4, "train", 0, 0)
    pixels = np.zeros((4, 8, 8, 3), np.uint8)
    made = synthesis.records(pixels[:1], eyes[:1], "ddpm", "train", 0)
    kept = synthesis.records(pixels[1:], eyes[1:], "seed folder", "train", 0)
    synthesis.write_sets(tmp_path, [*made, *kept], synthesis.records(pixels, eyes, "phantom", "validation", 0))
    assert synthesis.read_sources(tmp_path / "synthetic") == ["ddpm", *["seed folder"] * 3]
    assert shards.read(tmp_path / "validation").conditions == eyes


def test_examples_are_one_of_each_main_condition_in_the_vocabulary_s_order():
    found = synthesis.examples(synthesis.balanced_eyes(400, "train", 0, 0))
    assert next(iter(found)) == "normal"
    assert len(found) == len({conditions.presentation(one) for one in conditions.PRESENTATIONS})


def test_streamed_phantoms_are_those_of_the_study_and_go_on_where_they_stopped(tmp_path):
    settings = {"count": 5, "size": 32, "seed": 3, "per_shard": 2, "workers": 1}
    synthesis.stream(tmp_path, **settings)
    first, *_, last = sorted(tmp_path.glob("*.tar"))
    read = shards.read(tmp_path)
    eyes = synthesis.balanced_eyes(5, "train", 3, 0.1)
    assert np.array_equal(read.pixels, synthesis.render(eyes, "train", 3, 32, workers=1).pixels)
    assert read.conditions == eyes

    kept, written = first.stat().st_mtime_ns, last.read_bytes()
    last.unlink()
    synthesis.stream(tmp_path, **settings)
    assert first.stat().st_mtime_ns == kept
    assert last.read_bytes() == written
    with pytest.raises(ValueError, match="phantoms of other settings"):
        synthesis.stream(tmp_path, **{**settings, "size": 64})


def test_a_streamed_sample_carries_every_mask_and_the_parameters(tmp_path):
    synthesis.main(["--count", "1", "--size", "48", "--workers", "1", "--out", str(tmp_path)])
    (sample,) = webdataset.WebDataset(str(tmp_path / "00000.tar"), shardshuffle=False)
    eye = synthesis.balanced_eyes(1, "train", 0, 0.1)[0]
    drawn = phantom.render(eye, np.random.default_rng([0, synthesis.STREAMS["train"], 0]), 48)
    stacked = cv2.imdecode(np.frombuffer(sample["masks.png"], np.uint8), cv2.IMREAD_GRAYSCALE)
    masks = dict(zip((*phantom.ANATOMY, *phantom.LESIONS), stacked.reshape(-1, 48, 48) > 0, strict=True))
    assert all(np.array_equal(masks[name], drawn.masks[name]) for name in masks)
    assert json.loads(sample["json"])["parameters"] == json.loads(json.dumps(drawn.parameters))
