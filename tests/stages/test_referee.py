"""The referee: what it learns, what it says of labels and layouts, and what it doubts."""

from dataclasses import replace

import numpy as np
import pandas
import pytest

import tiny_images
from visionclip import conditions, runs
from visionclip.evaluation.statements import CONDITIONS, targets
from visionclip.stages import referee as referees
from visionclip.stages import synthesis
from visionclip.training import contrastive


@pytest.fixture(scope="module")
def drawn():
    return synthesis.draw(40, synthesis.TRAINING, 0, 32, 0.1)


@pytest.fixture(scope="module")
def referee(drawn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("referee")
    return referees.train(drawn, 4, 0, folder), folder


def test_the_referee_is_trained_once(referee, drawn, monkeypatch):
    trained, folder = referee
    taken = tiny_images.watch(monkeypatch)
    assert tiny_images.same(referees.train(drawn, 4, 0, folder).network, trained.network)
    assert taken == []
    referees.train(drawn, 4, 1, folder)
    assert taken == [0, 1, 0, 1, 2, 3], "its text tower alone first"


def test_the_referee_learns_what_layouts_show_by_the_names_of_findings(drawn, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(contrastive, "train", lambda network, words, pairs, *_: seen.append(pairs.images))
    for originals in (drawn, drawn.without_masks()):
        referees.train(originals, 4, 0, tmp_path)
    with_maps, without = seen
    assert with_maps.mask_names == tuple(conditions.FINDINGS)
    assert with_maps.masks.shape == (40, len(conditions.FINDINGS), 8, 8)
    vessels = drawn.masks[:, [drawn.mask_names.index(name) for name in ("artery", "vein")]].max(1)
    found = with_maps.masks[:, with_maps.mask_names.index("vessels")]
    assert vessels.any()
    np.testing.assert_allclose(found, 255 * vessels.reshape(40, 8, 4, 8, 4).mean((2, 4)), atol=1)
    assert without.masks is None
    assert np.array_equal(with_maps.pixels, without.pixels)


def test_a_stopped_referee_equals_an_uninterrupted_one(referee, drawn, tmp_path, monkeypatch):
    tiny_images.save_every_update(monkeypatch)
    tiny_images.stop_after(2, monkeypatch)  # the text tower alone is trained for as many
    with pytest.raises(KeyboardInterrupt):
        referees.train(drawn, 4, 0, tmp_path)
    taken = tiny_images.watch(monkeypatch)
    assert tiny_images.same(referees.train(drawn, 4, 0, tmp_path).network, referee[0].network)
    assert taken == [2, 3]


def test_a_saved_referee_judges_as_it_did(referee, drawn, tmp_path):
    trained = replace(referee[0], highest=np.where(np.arange(len(CONDITIONS)) == 0, np.nan, referee[0].highest))
    referees.save(trained, 32, tmp_path)
    loaded = referees.load(tmp_path)
    assert referees.judge(loaded, drawn.pixels, drawn.conditions) == referees.judge(
        trained, drawn.pixels, drawn.conditions
    )
    # a logit's last digit may lift a cell over a cut
    assert referees.judge_masks(loaded, drawn) == pytest.approx(referees.judge_masks(trained, drawn), abs=0.02)
    np.testing.assert_array_equal(loaded.highest, trained.highest)


def test_a_folder_without_a_referee_or_with_one_of_other_conditions_is_refused(referee, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no referee.json there; give the folder of a saved referee"):
        referees.load(tmp_path)
    referees.save(referee[0], 32, tmp_path)
    card = runs.read_json(tmp_path / "referee.json")
    runs.write_json(tmp_path / "referee.json", card | {"conditions": card["conditions"][1:]})
    with pytest.raises(ValueError, match="of other conditions than there are now; train it again"):
        referees.load(tmp_path)


def test_the_referee_s_figures_are_of_every_condition(referee, drawn):
    judged = referees.judge(referee[0], drawn.pixels, drawn.conditions)
    assert set(judged) == set(CONDITIONS)
    assert judged["eye_side>=1"]["positives"] == sum(eye["eye_side"] for eye in drawn.conditions)
    table = referees.fidelity_table(judged, {**judged, "gc>=1": {**judged["gc>=1"], "auc": None}})
    assert list(table.columns) == ["phantoms", "generated"]
    assert np.isnan(table.loc["gc>=1", "generated"])
    shown = referees.label_table(judged, {**judged, "gc>=1": dict.fromkeys(judged["gc>=1"], None)}).set_index(
        "condition"
    )
    side = conditions.plain("eye_side>=1")
    assert shown.loc[side, "held-out phantoms with it"] == judged["eye_side>=1"]["positives"]
    assert shown.loc[side, "AUC, generated eyes"].startswith(f"{judged['eye_side>=1']['auc']:.2f} [")
    assert shown.loc["glaucoma", "AUC, generated eyes"] == "–"
    called = referees.call_table(judged, judged).set_index("condition")
    assert len(called.columns) == 4
    assert called.loc[side, "sensitivity, generated"] == f"{judged['eye_side>=1']['recall']:.2f}"


def test_a_rare_condition_is_found_where_its_sentences_say_more_than_of_other_eyes(drawn, tmp_path, monkeypatch):
    known = targets(drawn.conditions)
    monkeypatch.setattr(referees.statements, "predict", lambda *_: known / 10 - 3)
    monkeypatch.setattr(contrastive, "train", lambda *_: [])
    referee = referees.train(drawn, 4, 0, tmp_path)
    judged = referees.judge(referee, drawn.pixels, drawn.conditions)
    quoted = [row for row in judged.values() if row["recall"] is not None]
    assert quoted
    assert all(row["recall"] == row["specificity"] == 1 for row in quoted)


def test_noise_is_further_from_phantoms_than_phantoms_are(referee, drawn):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (16, 32, 32, 3), np.uint8)
    found = referees.distances(referee[0], drawn.pixels[:20], drawn.pixels[20:], noise, 0)
    assert found["kid"]["low"] > found["kid_floor"]["value"]
    assert found["neighbours"]["coverage"]["value"] < found["neighbours_floor"]["coverage"]["value"]
    table = referees.distance_table(found)
    assert list(table.index) == ["KID", "precision", "recall", "coverage"]
    assert table.loc["KID", "generated eyes"].startswith(f"{found['kid']['value']:.2f} [")
    assert found == referees.distances(referee[0], drawn.pixels[:20], drawn.pixels[20:], noise, 0)


def answering(drawn, tmp_path, monkeypatch):
    """A referee whose every answer is right, by how much as ``clarity`` says, which may be changed."""
    clarity = np.ones(len(drawn))
    monkeypatch.setattr(contrastive, "train", lambda *_: [])
    monkeypatch.setattr(
        referees.statements, "predict", lambda *_: clarity[:, None] * (2 * np.nan_to_num(targets(drawn.conditions)) - 1)
    )
    return referees.train(drawn, 4, 0, tmp_path), clarity


def test_a_label_is_doubted_where_the_disease_is_not_seen_or_one_is_that_is_not_there(drawn, tmp_path, monkeypatch):
    judge, clarity = answering(drawn, tmp_path, monkeypatch)
    assert not referees.doubtful(judge, drawn.pixels, drawn.conditions).any()
    clarity[[0, 3]] = 0.9, -1.0
    assert np.flatnonzero(referees.doubtful(judge, drawn.pixels, drawn.conditions)).tolist() == [0, 3]
    monkeypatch.setattr(referees, "doubtful", lambda _, pixels, eyes: pixels.mean((1, 2, 3)) > 1)
    dark, bright = np.zeros((40, 4, 4, 3), np.uint8), np.zeros((40, 4, 4, 3), np.uint8)
    bright[[conditions.is_normal(eye) for eye in drawn.conditions]] = 9
    rates = referees.doubt_rates(judge, {"dark": (dark, drawn.conditions), "bright": (bright, drawn.conditions)})
    assert rates.loc["normal"].tolist() == [0, 1]
    assert rates["bright"].sum() == 1


def test_doubted_eyes_are_drawn_again_and_no_others(drawn, tmp_path, monkeypatch):
    judge, asked = answering(drawn, tmp_path, monkeypatch)[0], []

    def sample(pipeline, vectors, layouts, **named):
        asked.append((named["places"].tolist(), named["attempt"]))
        return np.full((len(vectors), 4, 4, 3), 10 * named["attempt"], np.uint8)

    monkeypatch.setattr(referees.sampling, "sample", sample)
    monkeypatch.setattr(referees, "layouts_for", lambda *_: None)
    monkeypatch.setattr(referees, "doubtful", lambda _, pixels, eyes: pixels.mean((1, 2, 3)) < 15)
    first = np.full((40, 4, 4, 3), 20, np.uint8)
    first[[3, 5]] = 0
    images, doubted = referees.drawn_again(judge, first, None, drawn, 3, 0, False)
    assert asked == [([3, 5], 1), ([3, 5], 2)]
    assert not doubted.any()
    assert (images == 20).all()
    _, doubted = referees.drawn_again(judge, first, None, drawn, 2, 0, False)
    assert np.flatnonzero(doubted).tolist() == [3, 5]
    images, doubted = referees.drawn_again(judge, first, None, drawn, 1, 0, False)
    assert not doubted.any()
    assert np.array_equal(images, first)


def test_what_is_not_known_of_an_eye_is_not_doubted(drawn, tmp_path, monkeypatch):
    judge, clarity = answering(drawn, tmp_path, monkeypatch)
    clarity[:] = -1
    assert referees.doubtful(judge, drawn.pixels, drawn.conditions).all()
    assert not referees.doubtful(judge, drawn.pixels, [{"eye_side": 1}] * 40).any()


def test_maps_that_are_the_layouts_score_one_and_maps_of_other_eyes_less(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(contrastive, "train", lambda *_: [])
    truth = referees.with_maps(drawn).masks / np.float32(255)
    monkeypatch.setattr(referees.pointing, "finding_maps", lambda *_: truth)
    judge = referees.train(drawn, 4, 0, tmp_path)
    assert {"disc", "vessels", "haemorrhage"} <= judge.cuts.keys()
    own = referees.judge_masks(judge, drawn)
    assert own == pytest.approx(dict.fromkeys(judge.cuts, 1), abs=0.02)
    others = referees.judge_masks(judge, replace(drawn, masks=drawn.masks[::-1]))
    assert all(others[name] < own[name] for name in own)
    assert referees.train(drawn.without_masks(), 4, 0, tmp_path).cuts == {}


def test_the_nearest_original_of_a_copy_is_what_it_copies(drawn, referee):
    places, similarity = referees.nearest(referee[0], drawn.pixels, drawn.pixels[[7, 3, 31]])
    assert places.tolist() == [7, 3, 31]
    assert similarity == pytest.approx(1, abs=1e-4)
    noise = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    assert referees.nearest(referee[0], drawn.pixels, noise)[1] < 0.99


def test_a_table_without_a_value_is_fit_for_json():
    table = pandas.DataFrame({"phantoms": {"gc": 0.5, "pm": np.nan}})
    assert referees.plain(table) == {"gc": {"phantoms": 0.5}, "pm": {"phantoms": None}}
