import numpy as np
import pytest

from visionclip import conditions
from visionclip.data import phantoms, shards
from visionclip.stages import synthesis


def test_the_set_needs_enough_originals():
    assert synthesis.split_counts(100, 0.25, 75) == (25, 75)
    with pytest.raises(ValueError, match="raise originals"):
        synthesis.split_counts(100, 0.25, 74)


def test_both_sets_are_written_with_their_sources(tmp_path):
    eyes = phantoms.balanced_eyes(4, 0, "training", 0)
    pixels = np.zeros((4, 8, 8, 3), np.uint8)
    made = synthesis.records(pixels[:1], eyes[:1], "ddpm", "train", 0)
    kept = synthesis.records(pixels[1:], eyes[1:], "seed folder", "train", 0)
    synthesis.write_sets(tmp_path, [*made, *kept], synthesis.records(pixels, eyes, "phantom", "validation", 0))
    assert synthesis.read_sources(tmp_path / "synthetic") == ["ddpm", *["seed folder"] * 3]
    assert shards.load(tmp_path / "validation").conditions == eyes


def test_examples_are_one_of_each_main_condition_in_the_vocabulary_s_order():
    found = synthesis.examples(phantoms.balanced_eyes(400, 0, "training", 0))
    assert next(iter(found)) == "normal"
    assert len(found) == len({conditions.presentation(one) for one in conditions.PRESENTATIONS})
