import numpy as np
import pytest

from visionclip.data import shards


def records(count, size=16):
    rng = np.random.default_rng(0)
    for index in range(count):
        image = rng.integers(0, 256, (size, size, 3), np.uint8)
        yield {"key": f"eye-{index:03d}", "image": image, "conditions": {"gc": 1}, "seed": index, "source": "phantom"}


def test_what_is_written_is_read_back_exactly(tmp_path):
    shards.write(tmp_path, records(25), per_shard=10)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["00000.tar", "00001.tar", "00002.tar"]
    read = shards.read(tmp_path)
    written = list(records(25))
    assert read.keys == [record["key"] for record in written]
    assert np.array_equal(read.pixels, np.stack([record["image"] for record in written]))
    assert all(eye["gc"] == 1 and eye["dr_grade"] == 0 for eye in read.conditions)


def test_the_same_records_make_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        shards.write(tmp_path / name, records(5))
    assert (tmp_path / "a" / "00000.tar").read_bytes() == (tmp_path / "b" / "00000.tar").read_bytes()


def test_a_failed_write_keeps_the_set_that_was_there(tmp_path):
    shards.write(tmp_path, records(5))

    def broken():
        yield from records(3)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        shards.write(tmp_path, broken())
    assert len(shards.read(tmp_path)) == 5


def test_a_smaller_set_leaves_no_shard_of_a_larger_one(tmp_path):
    shards.write(tmp_path, records(25), per_shard=10)
    shards.write(tmp_path, records(5), per_shard=10)
    assert len(shards.read(tmp_path)) == 5


def test_a_missing_set_and_a_set_of_two_sizes_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no \*\.tar shard"):
        shards.read(tmp_path)
    shards.write(tmp_path, [*records(1, 16), *({**record, "key": "other"} for record in records(1, 8))])
    with pytest.raises(ValueError, match="sample other"):
        shards.read(tmp_path)
