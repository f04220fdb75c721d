"""Sets of phantoms and of generated eyes, how they are written, and the referee that judges them."""

from dataclasses import replace

import numpy as np
import pytest

import tiny_images
from visionclip import conditions
from visionclip.data import images, phantoms, shards
from visionclip.evaluation.statements import CONDITIONS, targets
from visionclip.stages import synthesis
from visionclip.training import contrastive


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
    assert np.array_equal(alone.pixels, np.stack([images.prepare(picture, 32) for picture in first.pixels]))


def test_generated_eyes_have_no_maps_where_those_beside_them_have(of_set):
    pixels = np.arange(3 * 64 * 64 * 3, dtype=np.uint8).reshape(3, 64, 64, 3)
    made = synthesis.generated_set(pixels, of_set.conditions[:3], of_set)
    assert made.masks.shape == (3, *of_set.masks.shape[1:])
    assert not made.masks.any()
    assert made.mask_names == of_set.mask_names
    assert made.marked.tolist() == [False] * 3
    assert made.sources == ["ddpm"] * 3
    beside_photographs = synthesis.generated_set(pixels, of_set.conditions[:3], of_set.without_masks())
    assert beside_photographs.masks is None
    assert beside_photographs.marked is None
    assert np.array_equal(beside_photographs.pixels, pixels)


def test_both_sets_are_written_with_their_sources(tmp_path, of_set):
    made = synthesis.generated_set(255 - of_set.pixels[:2], of_set.conditions[:2], of_set)
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


@pytest.fixture(scope="module")
def referee(drawn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("referee")
    return synthesis.train_referee(drawn, 4, 0, folder), folder


def test_the_referee_is_trained_once(referee, drawn, monkeypatch):
    trained, folder = referee
    taken = tiny_images.watch(monkeypatch)
    assert tiny_images.same(synthesis.train_referee(drawn, 4, 0, folder).network, trained.network)
    assert taken == []
    synthesis.train_referee(drawn, 4, 1, folder)
    assert taken == [0, 1, 0, 1, 2, 3], "its text tower alone first"


def test_the_referee_learns_what_layouts_show_by_the_names_of_findings(drawn, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(contrastive, "train", lambda network, words, pairs, *_: seen.append(pairs.images))
    for originals in (drawn, drawn.without_masks()):
        synthesis.train_referee(originals, 4, 0, tmp_path)
    with_maps, without = seen
    assert set(with_maps.mask_names) <= set(conditions.FINDINGS)
    assert with_maps.masks.shape == (40, len(with_maps.mask_names), 8, 8)
    dark = drawn.masks[:, drawn.mask_names.index("dark")].reshape(40, 8, 4, 8, 4).mean((2, 4))
    found = with_maps.masks[:, with_maps.mask_names.index("haemorrhage")]
    assert dark.any()
    np.testing.assert_allclose(found, 255 * dark, atol=1)
    assert without.masks is None
    assert np.array_equal(with_maps.pixels, without.pixels)


def test_a_stopped_referee_equals_an_uninterrupted_one(referee, drawn, tmp_path, monkeypatch):
    tiny_images.save_every_update(monkeypatch)
    tiny_images.stop_after(2, monkeypatch)  # the text tower alone is trained for as many
    with pytest.raises(KeyboardInterrupt):
        synthesis.train_referee(drawn, 4, 0, tmp_path)
    taken = tiny_images.watch(monkeypatch)
    assert tiny_images.same(synthesis.train_referee(drawn, 4, 0, tmp_path).network, referee[0].network)
    assert taken == [2, 3]


def test_the_referee_s_figures_are_of_every_condition(referee, drawn):
    judged = synthesis.judge(referee[0], drawn.pixels, drawn.conditions)
    assert set(judged) == set(CONDITIONS)
    assert judged["eye_side>=1"]["positives"] == sum(eye["eye_side"] for eye in drawn.conditions)
    table = synthesis.fidelity_table(judged, {**judged, "gc>=1": {**judged["gc>=1"], "auc": None}})
    assert list(table.columns) == ["phantoms", "generated"]
    assert np.isnan(table.loc["gc>=1", "generated"])


def test_a_rare_condition_is_found_where_its_sentences_say_more_than_of_other_eyes(drawn, tmp_path, monkeypatch):
    known = targets(drawn.conditions)
    monkeypatch.setattr(synthesis.statements, "predict", lambda *_: known / 10 - 3)
    monkeypatch.setattr(contrastive, "train", lambda *_: [])
    referee = synthesis.train_referee(drawn, 4, 0, tmp_path)
    judged = synthesis.judge(referee, drawn.pixels, drawn.conditions)
    quoted = [row for row in judged.values() if row["recall"] is not None]
    assert quoted
    assert all(row["recall"] == row["specificity"] == 1 for row in quoted)


def test_noise_is_further_from_phantoms_than_phantoms_are(referee, drawn):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (16, 32, 32, 3), np.uint8)
    found = synthesis.distances(referee[0], drawn.pixels[:20], drawn.pixels[20:], noise, 0)
    assert found["kid"]["mean"] > found["kid_floor"]["mean"]
    assert found == synthesis.distances(referee[0], drawn.pixels[:20], drawn.pixels[20:], noise, 0)


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
