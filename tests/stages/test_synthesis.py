"""Sets of phantoms and of generated eyes, and how they are written."""

import shutil
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

import tiny_images
from visionclip import conditions, runs
from visionclip.data import phantoms, shards
from visionclip.stages import synthesis


@pytest.fixture(scope="module")
def drawn():
    return synthesis.draw(40, synthesis.TRAINING, 0, 32, 0.1)


def test_purposes_draw_other_eyes(drawn):
    held_out = synthesis.draw(40, synthesis.HELD_OUT, 0, 32, 0.1)
    assert not any(np.array_equal(one, other) for one in drawn.pixels for other in held_out.pixels)
    assert drawn.masks.shape[:2] == (40, len(drawn.mask_names))
    assert drawn.conditions == phantoms.balanced_eyes(40, 0, synthesis.TRAINING, 0.1)


def test_the_set_needs_enough_originals():
    assert synthesis.split_counts(100, 0.25, 75) == (25, 75)
    remedy = "lower images, raise generated_share, or add photographs to the seeds$"
    with pytest.raises(ValueError, match=f"need 75 photographs and there are 74; {remedy}"):
        synthesis.split_counts(100, 0.25, 74)


@pytest.fixture(scope="module")
def of_set():
    """Phantoms as the set has them: twelve, four of them healthy twins."""
    return synthesis.draw_set(12, synthesis.TRAINING, 0, 64, 0.0, twins=0.5)


def test_phantoms_of_the_set_have_maps_what_these_show_and_healthy_twins(of_set, drawn):
    assert of_set.pixels.shape == (12, 64, 64, 3)
    assert of_set.masks.shape == (12, len(phantoms.FINDINGS), 16, 16)
    assert of_set.mask_names == tuple(phantoms.FINDINGS)
    assert len(set(of_set.keys)) == 12
    assert all(conditions.is_normal(eye) for eye in of_set.conditions[8:])
    lesions = [place for place, name in enumerate(phantoms.FINDINGS) if conditions.FINDINGS[name].lesion]
    assert not of_set.masks[8:, lesions].any()
    assert of_set.masks[:8, lesions].any()
    for eye in of_set.conditions:
        assert conditions.VOCABULARY.keys() < eye.keys() <= conditions.FACTS.keys()
        assert conditions.check(eye, "an eye") == eye


def test_without_twins_the_set_s_eyes_are_those_that_the_generator_learns(drawn):
    alone = synthesis.draw_set(5, synthesis.TRAINING, 0, 32, 0.1)
    first = synthesis.draw(5, synthesis.TRAINING, 0, 32, 0.1)
    for eye, original in zip(alone.conditions, first.conditions, strict=True):
        assert original.items() <= eye.items()
    assert alone.keys == first.keys
    assert np.array_equal(alone.pixels, first.pixels)


def test_without_layouts_generated_eyes_have_no_maps_where_those_beside_them_have(of_set):
    pixels = np.arange(3 * 64 * 64 * 3, dtype=np.uint8).reshape(3, 64, 64, 3)
    plan = of_set.take(range(3)).without_masks()
    made = synthesis.generated_set(pixels, plan, of_set)
    assert made.conditions == plan.conditions
    assert made.masks.shape == (3, *of_set.masks.shape[1:])
    assert not made.masks.any()
    assert made.mask_names == of_set.mask_names
    assert made.marked.tolist() == [False] * 3
    assert made.sources == ["ddpm"] * 3
    beside_photographs = synthesis.generated_set(pixels, plan, of_set.without_masks())
    assert beside_photographs.masks is None
    assert beside_photographs.marked is None
    assert np.array_equal(beside_photographs.pixels, pixels)


def test_generated_eyes_have_the_maps_of_their_layouts_and_what_these_show(drawn, of_set):
    pixels = np.zeros((40, 64, 64, 3), np.uint8)
    made = synthesis.generated_set(pixels, drawn, of_set)
    assert made.masks.shape == (40, *of_set.masks.shape[1:])
    assert made.marked.all()
    disc = drawn.masks[:, drawn.mask_names.index("disc")].mean((1, 2))
    shares = made.masks[:, made.mask_names.index("disc")].mean((1, 2)) / 255
    np.testing.assert_allclose(shares, disc, atol=0.01)
    for eye, given, maps in zip(made.conditions, drawn.conditions, drawn.masks, strict=True):
        assert given.items() <= eye.items()
        assert conditions.check(eye, "a generated eye") == eye
        assert eye["haemorrhage"] == maps[drawn.mask_names.index("haemorrhage")].any()


def test_both_sets_are_written_with_their_sources(tmp_path, of_set):
    made = synthesis.generated_set(255 - of_set.pixels[:2], of_set.take(range(2)).without_masks(), of_set)
    counts = synthesis.write_sets(tmp_path, [made, of_set], of_set.take([3, 4]), 5)
    assert counts == {"ddpm": 2, "phantom": 12}
    training = shards.load(tmp_path / "synthetic")
    assert training.sources == ["ddpm"] * 2 + ["phantom"] * 12
    assert training.conditions == [*made.conditions, *of_set.conditions]
    assert np.array_equal(training.pixels, np.concatenate([made.pixels, of_set.pixels]))
    assert np.array_equal(training.masks[2:], of_set.masks)
    assert training.marked.tolist() == [False] * 2 + [True] * 12
    assert len(set(training.keys)) == 14
    assert shards.load(tmp_path / "validation").keys == of_set.keys[3:5]


def test_examples_are_one_of_each_main_condition_in_the_vocabulary_s_order():
    found = synthesis.examples(phantoms.balanced_eyes(400, 0, "test", 0))
    assert next(iter(found)) == "normal"
    assert len(found) == len({conditions.presentation(one) for one in conditions.PRESENTATIONS})


def test_one_eye_is_shown_with_each_disease_alone():
    shown = synthesis.one_by_one(64, 3)
    assert next(iter(shown)) == "normal"
    assert len(shown) == len({conditions.presentation(one) for one in conditions.PRESENTATIONS})
    changed = {name: (picture != shown["normal"]).any(2).mean() for name, picture in shown.items()}
    assert changed.pop("normal") == 0
    assert min(changed.values()) > 0
    assert changed["dr_grade 1"] < 0.2  # a few microaneurysms, and nothing else


def test_drawn_eyes_say_no_more_than_the_originals_did(drawn):
    assert synthesis.limited(drawn, drawn).conditions == drawn.conditions
    photographs = replace(drawn, conditions=[{"dr_grade": 0}, {"gc": 1, "amd": 0}] * 20)
    limited = synthesis.limited(drawn.take(range(3)), photographs)
    assert [set(eye) for eye in limited.conditions] == [{"dr_grade"}, {"gc", "amd"}, {"dr_grade"}]
    assert all(eye.items() <= whole.items() for eye, whole in zip(limited.conditions, drawn.conditions, strict=False))


def test_an_eye_with_unknown_diseases_is_not_called_normal():
    assert synthesis.examples([{"dr_grade": 0}, conditions.complete({}), {"dr_grade": 2}]) == {
        "normal": 1,
        "dr_grade 2": 2,
        "no finding stated": 0,
    }


@pytest.fixture(scope="module")
def saved(drawn, tmp_path_factory):
    """The folder of a pipeline that has learnt nothing, but draws."""
    folder = tmp_path_factory.mktemp("generator")
    tiny_images.pipeline(drawn, steps=2).save_pretrained(folder)
    return folder


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_any_number_of_processes_draws_the_same_set_and_a_stopped_one_goes_on(saved, tmp_path, monkeypatch):
    synthesis.stream(tmp_path / "one", saved, 7, per_shard=3)
    alone = shards.load(tmp_path / "one")
    assert len(set(alone.keys)) == 7
    assert alone.masks.shape == (7, len(phantoms.FINDINGS), 8, 8)
    assert alone.masks.any()
    assert alone.conditions[4]["dr_grade"] == phantoms.balanced_eyes(7, 0, synthesis.GENERATING, 0.1)[4]["dr_grade"]
    for rank in (1, 0):
        synthesis.stream(tmp_path / "two", saved, 7, per_shard=3, rank=rank, world=2)
    assert content(tmp_path / "two") == content(tmp_path / "one")
    (tmp_path / "two/00001.tar").unlink()
    drawn = []
    monkeypatch.setattr(synthesis, "progress", lambda items, label: drawn.extend(items) or items)
    synthesis.stream(tmp_path / "two", saved, 7, per_shard=3)
    assert drawn == [1]
    assert content(tmp_path / "two") == content(tmp_path / "one")


def test_other_settings_and_missing_generators_are_refused_before_work(saved, tmp_path, capsys):
    synthesis.stream(tmp_path, saved, 2, per_shard=2)
    with pytest.raises(ValueError, match=r"set.json: eyes of other settings; give another folder or delete"):
        synthesis.stream(tmp_path, saved, 3, per_shard=2)
    with pytest.raises(SystemExit) as stopped:
        synthesis.main(["--generator", str(tmp_path), "--count", "2", "--out", str(tmp_path / "new")])
    assert stopped.value.code == 2
    assert "no model_index.json; give the folder of a saved pipeline" in capsys.readouterr().err


def test_streamed_originals_are_those_that_are_drawn(drawn, tmp_path):
    synthesis.stream_originals(tmp_path, 40, 32, 0, per_shard=30)
    streamed = shards.load(tmp_path)
    assert np.array_equal(streamed.pixels, drawn.pixels)
    assert np.array_equal(streamed.masks, drawn.masks)
    assert streamed.conditions == drawn.conditions
    assert streamed.mask_names == drawn.mask_names


@pytest.mark.slow
def test_two_processes_under_accelerate_write_the_identical_set(saved, tmp_path):
    synthesis.stream(tmp_path / "one", saved, 4, per_shard=2)
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no", "-m", "visionclip.stages.synthesis"]
    command += ["--generator", str(saved), "--count", "4", "--per-shard", "2", "--out", str(tmp_path / "two")]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    assert content(tmp_path / "two") == content(tmp_path / "one")


@pytest.mark.slow
def test_a_killed_process_leaves_whole_shards_and_none_is_lost_or_doubled(saved, tmp_path):
    synthesis.stream(tmp_path / "one", saved, 40, per_shard=2)
    command = [sys.executable, "-m", "visionclip.stages.synthesis", "--generator", str(saved), "--count", "40"]
    command += ["--per-shard", "2", "--out", str(tmp_path / "two")]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / "two/00000.tar").is_file():
        assert child.poll() is None, "it ended before it drew"
        time.sleep(0.01)
    child.kill()
    child.wait()
    assert not (tmp_path / "two/00019.tar").is_file(), "it was done before it was killed"
    synthesis.stream(tmp_path / "two", saved, 40, per_shard=2)
    finished = {name: data for name, data in content(tmp_path / "two").items() if not name.startswith(".")}
    assert finished == content(tmp_path / "one")


def test_the_generator_of_a_set_is_found_where_there_is_one(saved, tmp_path):
    for name, parameters in {"given": {"generator": str(saved)}, "loaded": {"images": 5}, "own": {}}.items():
        runs.Stage("01-synthesis", tmp_path / name, parameters).finish({})
    shutil.copytree(saved, tmp_path / "own" / "ddpm")
    assert synthesis.trained(tmp_path / "given").config.steps == synthesis.trained(tmp_path / "own").config.steps == 2
    assert synthesis.trained(tmp_path / "loaded") is None
