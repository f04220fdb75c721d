import hashlib
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import webdataset

from visionclip.data import shards
from visionclip.data.labelled import LabelledImages


def images(count, size=16):
    rng = np.random.default_rng(0)
    pixels = np.stack([rng.integers(0, 256, (size, size, 3), np.uint8) for _ in range(count)])
    names = [f"eye-{index:03d}" for index in range(count)]
    return LabelledImages(pixels, [{"gc": 1} for _ in names], ["phantom"] * count, names)


def with_masks(count, names=("exudate", "disc")):
    """Of which every third is not marked."""
    marked = np.arange(count) % 3 > 0
    masks = np.random.default_rng(1).integers(0, 256, (count, len(names), 4, 4), np.uint8)
    masks *= marked[:, None, None, None].astype(np.uint8)
    return replace(images(count), masks=masks, mask_names=names, marked=marked)


def test_what_is_written_is_loaded_exactly(tmp_path):
    written = images(25)
    shards.write(tmp_path, shards.samples(written, 3), per_shard=10)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["00000.tar", "00001.tar", "00002.tar"]
    loaded = shards.load(tmp_path)
    assert (loaded.keys, loaded.sources) == (written.keys, written.sources)
    assert np.array_equal(loaded.pixels, written.pixels)
    assert loaded.conditions == [{"gc": 1}] * 25


def test_the_same_samples_make_the_same_bytes_as_ever(tmp_path):
    for name in ("a", "b"):
        shards.write(tmp_path / name, ({**sample, "txt": b"a"} for sample in shards.samples(images(5), 0)))
    made = (tmp_path / "a" / "00000.tar").read_bytes()
    assert made == (tmp_path / "b" / "00000.tar").read_bytes()
    assert hashlib.sha256(made).hexdigest()[:16] == "9b8a475ed20c2698"  # of commit 0497621


def test_a_sample_is_image_and_record(tmp_path):
    shards.write(tmp_path, shards.samples(images(2), 7))
    first, _ = webdataset.WebDataset(str(tmp_path / "00000.tar"), shardshuffle=False)
    assert json.loads(first["json"]) == {"conditions": {"gc": 1}, "seed": 7, "source": "phantom"}
    assert {"png", "json"} == {name for name in first if not name.startswith("_")}


def test_masks_and_which_images_have_them_are_loaded_exactly(tmp_path):
    written = with_masks(25)
    shards.write(tmp_path, shards.samples(written, 3), per_shard=10)
    loaded = shards.load(tmp_path)
    assert np.array_equal(loaded.masks, written.masks)
    assert loaded.mask_names == written.mask_names
    assert np.array_equal(loaded.marked, written.marked)
    assert np.array_equal(loaded.pixels, written.pixels)


def test_where_nothing_says_otherwise_images_with_masks_are_marked(tmp_path):
    shards.write(tmp_path, shards.samples(replace(with_masks(5), marked=None), 0))
    assert shards.load(tmp_path).marked.all()


def test_a_set_without_masks_has_none(tmp_path):
    shards.write(tmp_path, shards.samples(images(3), 0))
    loaded = shards.load(tmp_path)
    assert (loaded.masks, loaded.mask_names, loaded.marked) == (None, (), None)


def test_masks_are_a_file_of_their_own_and_all_records_have_the_same_fields(tmp_path):
    """So that WebDataset and `datasets` read a set in which not all images are marked."""
    written = with_masks(4)
    shards.write(tmp_path, shards.samples(written, 7))
    samples = list(webdataset.WebDataset(str(tmp_path / "00000.tar"), shardshuffle=False))
    for place, sample in enumerate(samples):
        assert {"png", "masks.png", "json"} == {name for name in sample if not name.startswith("_")}
        stacked = cv2.imdecode(np.frombuffer(sample["masks.png"], np.uint8), cv2.IMREAD_UNCHANGED)
        assert stacked.shape == (8, 4), "grey, one above the other"
        assert np.array_equal(stacked.reshape(2, 4, 4), written.masks[place])
        record = json.loads(sample["json"])
        assert record["masks"] == ["exudate", "disc"]
        assert record["marked"] is bool(place % 3)
        assert record.keys() == {"conditions", "seed", "source", "masks", "marked"}


@pytest.mark.parametrize("other", [images(1), with_masks(1, ("disc", "exudate")), with_masks(1, ("disc",))])
def test_a_sample_with_other_masks_than_the_first_is_named_in_one_line(tmp_path, other):
    other = replace(other, keys=["other"])
    shards.write(tmp_path, [*shards.samples(with_masks(2), 0), *shards.samples(other, 0)])
    with pytest.raises(ValueError, match=r"00000\.tar: sample other has other masks than the first; ") as refusal:
        shards.load(tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("damage", [b"", b"no image"])
def test_masks_that_are_damaged_or_not_there_are_named(tmp_path, damage):
    first, second = shards.samples(with_masks(2), 0)
    changed = {**second, "masks.png": damage} if damage else {key: second[key] for key in second if key != "masks.png"}
    shards.write(tmp_path, [first, changed])
    with pytest.raises(ValueError, match=r"00000\.tar: sample eye-001 is a damaged image; write the set again"):
        shards.load(tmp_path)


def test_sentences_and_their_facts_are_loaded_exactly(tmp_path):
    sentences = [("疑似青光眼。", {"gc": 1}), ("", {}), ("疑似青光眼。", {"gc": 1})]
    shards.write(tmp_path, shards.samples(replace(images(3), sentences=sentences), 0))
    loaded = shards.load(tmp_path)
    assert loaded.sentences == sentences
    assert loaded.take([1, 2]).sentences == sentences[1:]
    assert loaded.key == images(3).key, "they say nothing of images and conditions"
    sentences = [("疑似青光眼。", {"gc": 2})] * 3
    shards.write(tmp_path, shards.samples(replace(images(3), sentences=sentences), 0))
    with pytest.raises(ValueError, match=r"00000\.tar: sample eye-000: caption: gc is 2; allowed are"):
        shards.load(tmp_path)
    with pytest.raises(ValueError, match="3 keys for columns of"):
        replace(images(3), sentences=sentences[1:])


def test_of_what_nothing_is_known_nothing_is_made_up(tmp_path):
    shards.write(tmp_path, shards.samples(replace(images(2), conditions=[{}, {"gc": 0}]), 0))
    assert shards.load(tmp_path).conditions == [{}, {"gc": 0}]


def test_a_failed_write_keeps_the_set_that_was_there(tmp_path):
    shards.write(tmp_path, shards.samples(images(5), 0))

    def broken():
        yield from shards.samples(images(3), 0)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        shards.write(tmp_path, broken())
    assert len(shards.load(tmp_path)) == 5


def test_a_smaller_set_leaves_no_shard_of_a_larger_one(tmp_path):
    shards.write(tmp_path, shards.samples(images(25), 0), per_shard=10)
    shards.write(tmp_path, shards.samples(images(5), 0), per_shard=10)
    assert len(shards.load(tmp_path)) == 5


def test_a_missing_set_and_a_set_of_two_sizes_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no \*\.tar shard"):
        shards.load(tmp_path)
    other = replace(images(1, 8), keys=["other"])
    shards.write(tmp_path, [*shards.samples(images(1), 0), *shards.samples(other, 0)])
    with pytest.raises(ValueError, match="sample other"):
        shards.load(tmp_path)
