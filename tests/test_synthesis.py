import numpy as np
import pytest

from visionclip import conditions, shards, synthesis


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
