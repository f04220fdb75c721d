import base64
import hashlib
import io
import json

import numpy as np
import pytest
import webdataset
from PIL import Image

from visionclip import conditions, streams
from visionclip.data import exports, shards
from visionclip.data.labelled import LabelledImages
from visionclip.text import captions

SETS = {"synthetic": 13, "validation": 4}


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """Folders of stages 01 and 02 with a training and a validation set; the sets themselves by name."""
    folder = tmp_path_factory.mktemp("stages")
    known = {}
    for name, count in SETS.items():
        rng = streams.rng(0, name)
        eyes = [conditions.complete({"dr": index % 5}) for index in range(count)]
        keys = [f"{name}-{index:03d}" for index in range(count)]
        pixels = rng.integers(0, 256, (count, 16, 16, 3), np.uint8)
        images = LabelledImages(pixels, eyes, ["phantom"] * count, keys)
        table, texts_of = captions.table(eyes, ["zh", "en"], 3, rng)
        shards.write(folder / "01" / name, shards.samples(images, 0), per_shard=5)
        captions.write(folder / "02" / name, table, texts_of, keys)
        known[name] = images, table, texts_of
    return folder, known


def export(stages, out, kind, *more):
    folder, known = stages
    arguments = ["--synthesis", folder / "01", "--captions", folder / "02", "--format", kind, "--out", out]
    exports.main([*map(str, arguments), *more])
    return known


def valid_for_open_clip(sample):
    """open_clip's own rule of what it trains on (``FilterValidSample`` with its default keys)."""
    return "txt" in sample and any(kind in sample for kind in ("jpg", "png", "jpeg", "webp"))


def samples(folder):
    paths = sorted(map(str, folder.glob("*.tar")))
    found = list(webdataset.WebDataset(paths, shardshuffle=False))
    assert all(valid_for_open_clip(sample) for sample in found)
    return found


@pytest.mark.parametrize(("name", "split"), exports.SPLITS.items())
def test_open_clip_reads_each_image_with_one_of_its_captions(stages, tmp_path, name, split):
    images, table, texts_of = export(stages, tmp_path, "open_clip", "--per-shard", "5")[name]
    found = samples(tmp_path / split)
    assert [sample["__key__"] for sample in found] == images.keys
    for place, sample in enumerate(found):
        assert sample["txt"].decode() in {table[text].text for text in texts_of[place]}
        assert np.array_equal(Image.open(io.BytesIO(sample["png"])), images.pixels[place])
        assert json.loads(sample["json"])["conditions"] == images.conditions[place]


def test_open_clip_is_told_how_many_samples_each_shard_has(stages, tmp_path):
    export(stages, tmp_path, "open_clip", "--per-shard", "5")
    sizes = json.loads((tmp_path / "train" / "sizes.json").read_text())
    assert sizes == {"00000.tar": 5, "00001.tar": 5, "00002.tar": 3}
    counted = {
        path.name: len(list(webdataset.WebDataset(str(path), shardshuffle=False)))
        for path in sorted((tmp_path / "train").glob("*.tar"))
    }
    assert counted == sizes


def test_every_caption_makes_a_sample_where_that_is_asked_for(stages, tmp_path):
    images, table, texts_of = export(stages, tmp_path, "open_clip", "--every-caption")["synthetic"]
    found = [(sample["__key__"], sample["txt"].decode()) for sample in samples(tmp_path / "train")]
    assert found == [
        (f"{key}-{number}", table[text].text)
        for key, own in zip(images.keys, texts_of, strict=True)
        for number, text in enumerate(own)
    ]
    assert sum(json.loads((tmp_path / "train" / "sizes.json").read_text()).values()) == len(found)


def test_a_seed_draws_the_same_captions_and_another_one_others(stages, tmp_path):
    drawn = {}
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        export(stages, tmp_path / name, "open_clip", "--seed", seed)
        drawn[name] = hashlib.sha256((tmp_path / name / "train" / "00000.tar").read_bytes()).hexdigest()
    assert drawn["a"] == drawn["b"] != drawn["c"]


@pytest.mark.parametrize(("name", "split"), exports.SPLITS.items())
def test_chinese_clip_reads_every_image_and_every_pair(stages, tmp_path, name, split):
    """As its ``build_lmdb_dataset.py`` and its data sets parse the two files."""
    images, table, texts_of = export(stages, tmp_path, "chinese_clip")[name]
    rows = [line.strip().split("\t") for line in (tmp_path / f"{split}_imgs.tsv").open(encoding="utf-8")]
    encoded = {int(image_id): base64.urlsafe_b64decode(image) for image_id, image in rows}
    pairs = set()
    for line in (tmp_path / f"{split}_texts.jsonl").open(encoding="utf-8"):
        text = json.loads(line.strip())
        assert text.keys() == {"text_id", "text", "image_ids"}
        assert text["text"] == table[text["text_id"]].text
        pairs |= {(image_id, text["text_id"]) for image_id in text["image_ids"]}
    assert pairs == {(place, text) for place, own in enumerate(texts_of) for text in own}
    assert list(encoded) == list(range(len(images)))
    for place, image in encoded.items():
        assert np.array_equal(Image.open(io.BytesIO(image)), images.pixels[place])


@pytest.mark.parametrize("keys", [["a"], ["a", "c"], ["a", "b", "c"]])
def test_captions_of_other_images_are_refused_and_nothing_is_left(tmp_path, keys):
    eyes = [conditions.complete({})] * 3
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    shards.write(tmp_path / "images", shards.samples(LabelledImages(pixels, eyes[:2], ["phantom"] * 2, ["a", "b"]), 0))
    table, texts_of = captions.table(eyes[: len(keys)], ["en"], 1, streams.rng(0, "captions"))
    captions.write(tmp_path / "texts", table, texts_of, keys)
    for export_to in (exports.open_clip, exports.chinese_clip):
        with pytest.raises(ValueError, match="02-captions"):
            export_to(tmp_path / "images", tmp_path / "texts", tmp_path / "out", "train")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".tar", ".tsv", ".jsonl")]


def test_a_stage_that_is_missing_is_named_in_one_line(stages, tmp_path, capsys):
    folder, _ = stages
    for first, second, named in ((tmp_path, folder / "02", "01-synthesis"), (folder / "01", tmp_path, "02-captions")):
        arguments = ["--synthesis", first, "--captions", second, "--format", "open_clip", "--out", tmp_path / "out"]
        with pytest.raises(SystemExit):
            exports.main([*map(str, arguments)])
        error = capsys.readouterr().err
        assert named in error
        assert error.count("\n") == 1
