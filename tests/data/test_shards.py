import hashlib
import json
from dataclasses import replace

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
