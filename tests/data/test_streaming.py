"""Sets that stay on disk: the same images, the same training, and memory that does not grow with them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from visionclip import conditions
from visionclip.data import pairs, shards, streaming
from visionclip.data.labelled import LabelledImages
from visionclip.text import captions


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A stage 01 and a stage 02 of 50 eyes in shards of 8, of which 40 have masks."""
    root, rng = tmp_path_factory.mktemp("set"), np.random.default_rng(0)
    eyes = conditions.balanced(50, rng)
    pixels, names = rng.integers(0, 256, (50, 32, 32, 3), np.uint8), [f"eye-{i:03d}" for i in range(50)]
    masks, marked = rng.integers(0, 256, (50, 2, 8, 8), np.uint8), rng.permutation(50) < 40
    masks *= marked[:, None, None, None].astype(np.uint8)
    drawn = LabelledImages(pixels, eyes, ["phantom"] * 50, names, [], masks, ("exudate", "disc"), marked)
    shards.write(root / "synthesis/synthetic", shards.samples(drawn, 0), per_shard=8)
    captions.write(root / "captions/synthetic", *captions.table(eyes, ("zh",), 2, rng), drawn.keys)
    return root


def test_a_stream_holds_what_loading_does(folder):
    whole, stream = shards.load(folder / "synthesis/synthetic"), streaming.load(folder / "synthesis/synthetic")
    assert stream.pixels.shape == (50, 32, 32, 3)
    assert (stream.keys, stream.sources) == (whole.keys, whole.sources)
    assert stream.conditions == whole.conditions
    rows = np.random.default_rng(1).permutation(50)
    assert np.array_equal(stream.pixels[rows], whole.pixels[rows])
    few = stream.take(rows[:5])
    assert not isinstance(few.pixels, np.ndarray), "a part is still on disk"
    assert np.array_equal(few.pixels[np.arange(5)], whole.pixels[rows[:5]])
    assert few.conditions == [whole.conditions[row] for row in rows[:5]]


def test_masks_are_streamed_as_images_are(folder):
    whole, stream = shards.load(folder / "synthesis/synthetic"), streaming.load(folder / "synthesis/synthetic")
    assert whole.masks.any()
    assert stream.masks.shape == (50, 2, 8, 8)
    assert (stream.mask_names, stream.marked.tolist()) == (whole.mask_names, whole.marked.tolist())
    assert np.array_equal(stream.marked, whole.masks.any((1, 2, 3)))
    rows = np.random.default_rng(1).permutation(50)
    assert np.array_equal(stream.masks[rows], whole.masks[rows])
    few = stream.take(rows[:5])
    assert not isinstance(few.masks, np.ndarray), "a part is still on disk"
    assert np.array_equal(few.masks[np.arange(5)], whole.masks[rows[:5]])
    assert np.array_equal(few.marked, whole.marked[rows[:5]])


def test_masks_count_among_what_memory_can_hold(folder):
    images, masks = 50 * 32 * 32 * 3, 50 * 2 * 8 * 8
    held, streamed = (streaming.load(folder / "synthesis/synthetic", images + masks - less) for less in (0, 1))
    assert isinstance(held.pixels, np.ndarray)
    assert isinstance(held.masks, np.ndarray)
    assert not isinstance(streamed.pixels, np.ndarray)
    assert not isinstance(streamed.masks, np.ndarray)


def test_pairs_are_the_same_held_or_streamed(folder):
    held, streamed = (pairs.load(folder / "synthesis", folder / "captions", "synthetic", size) for size in (1 << 30, 0))
    assert isinstance(held.images.pixels, np.ndarray)
    assert not isinstance(streamed.images.pixels, np.ndarray)
    one, other = held.subset(20, 3), streamed.subset(20, 3)
    rows = np.array([4, 0, 19])
    assert one.images.keys == other.images.keys
    assert np.array_equal(one.images.pixels[rows], other.images.pixels[rows])
    assert np.array_equal(one.images.masks[rows], other.images.masks[rows])
    texts = np.unique(one.draw(rows, np.random.default_rng(2)))
    assert np.array_equal(one.positives(rows, texts), other.positives(rows, texts))
    assert np.array_equal(one.vectors(rows), other.vectors(rows))


def test_a_set_that_is_written_again_is_read_anew(folder, tmp_path):
    first = shards.load(folder / "synthesis/synthetic")
    for change in (0, 255):
        first.pixels[:] ^= change
        shards.write(tmp_path, shards.samples(first, 0), per_shard=8)
        assert np.array_equal(streaming.load(tmp_path).pixels[np.arange(50)], first.pixels)


def test_another_image_is_another_key(folder, tmp_path):
    before = streaming.load(folder / "synthesis/synthetic")
    changed = shards.load(folder / "synthesis/synthetic")
    changed.pixels[7, 3, 3] ^= 255
    shards.write(tmp_path, shards.samples(changed, 0), per_shard=8)
    assert streaming.load(tmp_path).pixels.key != before.pixels.key
    assert before.take(np.arange(10)).pixels.key != before.pixels.key


def _whole(folder):
    stream = streaming.load(folder)
    return stream.pixels[np.arange(len(stream))]


def test_a_damaged_shard_is_one_line_that_names_it(folder, tmp_path):
    source = sorted((folder / "synthesis/synthetic").glob("*.tar"))[0]
    cut = tmp_path / "00000.tar"
    cut.write_bytes(source.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"00000\.tar: .*; write the set again"):
        _whole(tmp_path)
    broken = bytearray(source.read_bytes())
    place = broken.find(b"IDAT")
    broken[place : place + 400] = bytes(400)
    cut.write_bytes(broken)
    with pytest.raises(ValueError, match=r"00000\.tar: sample eye-000 is a damaged image"):
        streaming.load(tmp_path).pixels[np.arange(3)]


@pytest.mark.parametrize(
    ("found", "put", "words"),
    [(b'"conditions"', b'"considered"', "has no conditions"), (b'"source"', b'"sauces"', "has no source")],
)
def test_a_sample_that_says_too_little_is_one_line_that_names_it(folder, tmp_path, found, put, words):
    source = sorted((folder / "synthesis/synthetic").glob("*.tar"))[0].read_bytes()
    (tmp_path / "00000.tar").write_bytes(source.replace(found, put))
    with pytest.raises(ValueError, match=rf"00000\.tar: sample eye-000 {words}; write the set again"):
        streaming.load(tmp_path)


def test_a_sample_whose_json_is_none_is_one_line_that_names_it(folder, tmp_path):
    source = sorted((folder / "synthesis/synthetic").glob("*.tar"))[0].read_bytes()
    (tmp_path / "00000.tar").write_bytes(source.replace(b'{"conditions"', b'{,conditions"'))
    with pytest.raises(ValueError, match=r"00000\.tar: the JSON of sample eye-000 can't be read; write the set again"):
        streaming.load(tmp_path)


MEMORY = """
import json, re, sys
import numpy as np
from pathlib import Path
from visionclip.data import streaming
stream = streaming.load(Path(sys.argv[1]))
for start in range(0, len(stream), len(stream) // 20):
    stream.pixels[np.random.default_rng(start).permutation(len(stream))[:64]]
peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]  # getrusage has the parent's, too
print(json.dumps([len(stream), int(peak) / 1024]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the system does not tell a process's peak")
def test_memory_is_flat_over_a_hundred_thousand_images(tmp_path):
    """Megabytes at the peak, of 10⁴ and of 10⁵ images: the index grows by less than a kilobyte an image."""
    eye = json.dumps({"conditions": conditions.complete({}), "seed": 0, "source": "phantom"}).encode()
    image = shards.encode(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8))
    peaks = {}
    for count in (10_000, 100_000):
        samples = ({"__key__": f"eye-{i:07d}", "png": image, "json": eye} for i in range(count))
        shards.write(tmp_path / str(count), samples)
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(tmp_path / str(count))], capture_output=True, text=True, check=True
        )
        length, peaks[count] = json.loads(done.stdout)
        assert length == count
    growth = (peaks[100_000] - peaks[10_000]) * 1024 / 90_000
    assert growth < 1, f"{growth:.2f} kB an image, where a decoded one of 224 px has 147 ({peaks})"
