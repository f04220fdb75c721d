"""Images with their captions: at another size, what is known of both, and what makes a set another one."""

from dataclasses import replace

import numpy as np
import pytest

from visionclip import conditions
from visionclip.data import images, pairs, shards, streaming
from visionclip.data.labelled import LabelledImages
from visionclip.data.pairs import Pairs
from visionclip.text import captions


def made(eyes=None) -> Pairs:
    rng = np.random.default_rng(0)
    eyes = conditions.balanced(12, rng) if eyes is None else eyes
    count = len(eyes)
    pixels, masks = rng.integers(0, 256, (count, 32, 32, 3), np.uint8), rng.integers(0, 256, (count, 1, 8, 8), np.uint8)
    names, marked = list(map(str, range(count))), np.ones(count, bool)
    table, texts_of = captions.table(eyes, ("zh", "en"), 3, rng)
    drawn = LabelledImages(pixels, eyes, ["phantom"] * count, names, [], masks, ("exudate",), marked)
    return Pairs(drawn, table, texts_of)


@pytest.mark.parametrize("size", [16, 32, 48])
def test_at_another_size_only_the_images_are_others(size):
    whole = made()
    other = whole.at(size)
    assert other.images.pixels.shape == (12, size, size, 3)
    assert np.array_equal(other.images.pixels, images.resized(whole.images.pixels, size))
    assert np.array_equal(other.images.masks, whole.images.masks)
    assert (other.captions, other.texts_of, other.images.keys) == (whole.captions, whole.texts_of, whole.images.keys)
    assert whole.images.pixels.shape == (12, 32, 32, 3)


def test_a_set_is_held_at_few_pixels_where_it_fits(monkeypatch):
    whole = made()
    monkeypatch.setattr(pairs, "DECODED", 5)
    for size in (16, 32):
        bytes_taken = 12 * 3 * size**2
        assert np.array_equal(whole.held_at(size, bytes_taken).images.pixels, whole.at(size).images.pixels)
        assert whole.held_at(size, bytes_taken - 1) is whole
    assert whole.held_at(48) is whole


def test_a_streamed_set_is_in_memory_at_another_size(tmp_path):
    whole = made()
    shards.write(tmp_path / "01/synthetic", shards.samples(whole.images, 0))
    captions.write(tmp_path / "02/synthetic", whole.captions, whole.texts_of, whole.images.keys)
    streamed = pairs.load(tmp_path / "01", tmp_path / "02", "synthetic", held=0)
    assert isinstance(streamed.images.pixels, streaming.ShardPixels)
    for size in (16, 32):
        assert np.array_equal(streamed.at(size).images.pixels, whole.at(size).images.pixels)


CHANGES = {
    "pixels": lambda given: replace(given, pixels=255 - given.pixels),
    "masks": lambda given: replace(given, masks=255 - given.masks),
    "marked": lambda given: replace(given, marked=np.arange(12) > 0),
    "no masks": LabelledImages.without_masks,
    "conditions": lambda given: replace(given, conditions=given.conditions[::-1]),
    "a finding": lambda given: replace(given, conditions=[{**eye, "exudate": 1} for eye in given.conditions]),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_is_seen_or_known_is_part_of_the_key(what):
    whole = made()
    assert made().key == whole.key
    assert replace(whole, images=CHANGES[what](whole.images)).key != whole.key


def test_what_is_unknown_is_what_the_captions_state_and_an_eye_leaves_open():
    """Findings that no caption states may be unknown; what follows from others is known."""
    complete = [conditions.complete({"gc": place % 2}) for place in range(6)]
    silent = made(complete)
    rows, texts = np.arange(6), np.arange(len(silent.captions))
    assert silent.unknown(rows, texts) is None
    stating = made([{**eye, "exudate": 0} for eye in complete])
    texts = np.arange(len(stating.captions))
    about = np.array([any(key.startswith("exudate") for key in one.facts) for one in stating.captions])
    assert about.any()
    assert stating.unknown(rows, texts) is None, "where there are none, none are at the macula"
    unknown = replace(stating, images=replace(stating.images, conditions=complete)).unknown(rows, texts)
    assert unknown[:, about].all()
    assert not unknown[:, ~about].any()
