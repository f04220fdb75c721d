"""Points are made once, each to its plateau, and the curve and the verdict follow from them."""

from pathlib import Path

import numpy as np
import pandas
import pytest

import tiny_images
from visionclip import runs
from visionclip.evaluation.scaling import Law
from visionclip.evaluation.scoring import PHANTOMS
from visionclip.models import visionclip
from visionclip.stages import dataset_size
from visionclip.stages.sweep import Plan, Sweep
from visionclip.text.tokenizer import train_tokenizer
from visionclip.training import loop

PLAN = Plan(2, 1, 2, 1, 24)
SMALL = Sweep([4, 16], [0], PLAN)
ONE = Sweep([8], [0], PLAN)
SIZES = (25, 100, 400, 1600)


@pytest.fixture
def trained(monkeypatch):
    """How many images each training took that was not read back, and in what batches."""
    sizes, train = [], dataset_size.contrastive.train

    def counted(network, tokenizer, pairs, settings, *given):
        sizes.append((len(pairs), settings.batch_size, settings.size))
        return train(network, tokenizer, pairs, settings, *given)

    monkeypatch.setattr(dataset_size.contrastive, "train", counted)
    return sizes


@pytest.fixture
def development(study):
    """The photographs of the study, as a set to choose by."""
    return (study.root / "eyes" / "clinic").rename(study.root / "eyes" / "clinic_dev")


@pytest.mark.usefixtures("development")
def test_each_point_is_trained_once_and_scored_on_phantoms_and_photographs_for_development(study, trained):
    table = dataset_size.points(SMALL, study.root / "05", study.sources, study.pretrained)
    assert trained == [(4, 4, 24), (16, 8, 24)], "no batch holds an image twice"
    assert {name: set(table[name]) for name in ("images", "seed")} == {"images": {4, 16}, "seed": {0}}
    assert set(table["dataset"]) == {PHANTOMS, "clinic_dev (development)"}
    assert set(table["stopped"]) == {2}
    assert table["updates"].isin([1, 2]).all()
    assert table["auc"].between(0, 1).all()
    again = dataset_size.points(SMALL, study.root / "05", study.sources, study.pretrained)
    assert len(trained) == 2
    pandas.testing.assert_frame_equal(table, again)


def test_what_is_reported_elsewhere_is_not_scored(study):
    table = dataset_size.points(ONE, study.root / "05", study.sources, study.pretrained)
    assert set(table["dataset"]) == {PHANTOMS}


def test_the_phantoms_that_stop_a_training_are_not_those_that_score_it(study, monkeypatch):
    seen, predict = [], dataset_size.zero_shot.predict

    def noted(network, tokenizer, dataset, *given):
        seen.append(dataset.images.keys)
        return predict(network, tokenizer, dataset, *given)

    monkeypatch.setattr(dataset_size.zero_shot, "predict", noted)
    dataset_size.points(ONE, study.root / "05", study.sources, study.pretrained)
    watched, again, scored = seen
    assert watched == again
    assert not set(watched) & set(scored)
    assert len(watched) == len(scored) == 20


def test_a_training_that_gets_no_better_stops(study, monkeypatch):
    monkeypatch.setattr(dataset_size.metrics, "scores", lambda *_: {"auc": 0.5})
    table = dataset_size.points(
        Sweep([8], [0, 1], Plan(9, 1, 2, 1, 24)), study.root / "05", study.sources, study.pretrained
    )
    (row,) = dataset_size.taken(table).to_dict("records")
    assert row == {"images": 8, "updates": 1.0, "stopped": 3.0, "plateau": 1.0}


def change_card(study):
    (study.root / "01-synthesis" / "note.txt").write_text("another set")
    study.finish("01-synthesis", {})


def change_photographs(study):
    labels = study.root / "eyes" / "clinic" / "labels.csv"
    labels.write_text(labels.read_text().replace("7.png,test,1", "7.png,test,0"))
    (study.root / "eyes" / "clinic" / "more.png").write_bytes((study.root / "eyes" / "clinic" / "0.png").read_bytes())


def change_pretrained(study):
    study.pretrained["projection_size"] = 8


CHANGES = {"a set": change_card, "photographs": change_photographs, "stage 03": change_pretrained}
PLANS = {"warm-up": Plan(2, 1, 2, 2, 24), "patience": Plan(2, 1, 1, 1, 24), "pixels": Plan(2, 1, 2, 1, 32)}


@pytest.mark.parametrize("what", [*CHANGES, *PLANS, "code"])
def test_a_point_is_made_anew_when_what_it_was_made_of_changes(study, trained, monkeypatch, what):
    dataset_size.points(ONE, study.root / "05", study.sources, study.pretrained)
    if what in CHANGES:
        CHANGES[what](study)
    elif what == "code":
        monkeypatch.setattr(dataset_size.keys, "code", lambda *_: "other code")
    dataset_size.points(Sweep([8], [0], PLANS.get(what, PLAN)), study.root / "05", study.sources, study.pretrained)
    assert len(trained) == 2


def test_points_take_the_tower_of_stage_03_and_are_made_anew_when_its_folder_holds_another(study, monkeypatch):
    networks, train, place = [], dataset_size.contrastive.train, str(study.root / "own")
    words = train_tokenizer(["signs of glaucoma", "疑似青光眼"], study.root / "words")
    models = [visionclip.VisionCLIP(visionclip.sized(8, 1, 128, 8, len(words))) for _ in range(2)]

    def noted(network, *given):
        networks.append(network)
        return train(network, *given)

    monkeypatch.setattr(dataset_size.contrastive, "train", noted)
    study.pretrained.update(tower=place, lock="text")
    for model in models:
        visionclip.save(model, words, 32, Path(place))
        for _ in range(2):
            dataset_size.points(ONE, study.root / "05", study.sources, study.pretrained)
    assert len(networks) == 2
    for network, model in zip(networks, models, strict=True):
        assert tiny_images.same(network.text, model.text)


def test_a_point_that_was_stopped_goes_on(study, monkeypatch):
    one = Sweep([8], [0], Plan(4, 1, 4, 1, 24))
    expected = dataset_size.points(one, study.root / "whole", study.sources, study.pretrained)

    def interrupted(items, label, total=None):
        for done, item in enumerate(items):
            if label == "pretrain" and done == 2:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr(loop, "progress", interrupted)
    with pytest.raises(KeyboardInterrupt):
        dataset_size.points(one, study.root / "05", study.sources, study.pretrained)
    assert not list((study.root / "05").rglob("*.json"))
    monkeypatch.undo()
    pandas.testing.assert_frame_equal(
        dataset_size.points(one, study.root / "05", study.sources, study.pretrained), expected
    )


def test_an_unfinished_stage_is_named(study):
    (study.root / "02-captions" / "card.json").unlink()
    with pytest.raises(FileNotFoundError, match="02-captions"):
        dataset_size.points(SMALL, study.root / "05", study.sources, study.pretrained)


def test_a_point_s_file_holds_its_rows(study):
    table = dataset_size.points(ONE, study.root / "05", study.sources, study.pretrained)
    kept = runs.read_json(study.root / "05" / dataset_size.POINTS / "n8-s0.json")["value"]
    assert [row["auc"] for row in kept] == table["auc"].tolist()


def law(floor=0.1, coefficient=1.5, exponent=0.5, noise=0.002, seeds=(0, 1, 2)) -> pandas.DataFrame:
    """Points on a law, two tasks each, with some noise by seed."""
    rng, rows = np.random.default_rng(0), []
    for size in SIZES:
        for seed in seeds:
            auc = Law(floor, coefficient, exponent).auc(size) + noise * rng.normal()
            for task, shift in (("gc", 0.01), ("amd", -0.01)):
                row = {"images": size, "seed": seed, "dataset": PHANTOMS, "task": task, "auc": auc + shift}
                rows.append({**row, "updates": 5, "stopped": 9, "plateau": True})
    return pandas.DataFrame(rows)


def test_the_curve_is_the_mean_over_tasks_and_seeds():
    curve = dataset_size.curve(law())
    row = curve[curve["images"] == 400].iloc[0]
    assert row["value"] == pytest.approx(0.825, abs=0.003)
    assert row["low"] < 0.825 < row["high"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"noise": 0.001}, "have not diminished yet"),
        ({"coefficient": 3.0, "exponent": 1.0, "noise": 0.001}, "returns have diminished"),
        ({"noise": 0.03}, "these seeds can't tell"),
        ({"seeds": (0,)}, "nothing is said of chance"),
    ],
)
def test_the_verdict_follows_the_interval_of_the_last_doubling(given, words):
    found = dataset_size.returns(law(**given), 0)[PHANTOMS]
    verdict = dataset_size.verdict(found)
    assert words in verdict
    assert "the last doubling, to 1600 images, adds +0.0" in verdict
    assert "short of their plateau" not in verdict
    assert "most trainings short of their plateau)" in dataset_size.verdict(found, plateau=0.3)


def test_a_curve_that_falls_is_of_several_seeds_whatever_its_law():
    table = law(noise=0.001).assign(auc=lambda rows: 0.93 - 0.03 * np.log10(rows["images"] / 20))
    said = dataset_size.verdict(dataset_size.returns(table, 0)[PHANTOMS])
    assert "adds +0.000 AUC by the law, which can't fall (measured from 400 images: -0.018" in said
    assert said.endswith("); every resample of the seeds says the same.")


def test_of_models_that_learnt_nothing_nothing_is_said():
    noise = np.random.default_rng(0)
    table = law().assign(auc=lambda rows: 0.5 + noise.normal(0, 0.01, len(rows)))
    said = dataset_size.verdict(dataset_size.returns(table, 0)[PHANTOMS])
    assert said.startswith("On held-out phantoms no size learns enough in these trainings")
    assert "diminish" not in said


def test_the_law_is_quoted_up_to_one_doubling_beyond_the_sizes():
    found = dataset_size.returns(law(noise=0.0005), 0)[PHANTOMS]
    truth = Law(0.1, 1.5, 0.5)
    for name, start in (("last", 800), ("next", 1600)):
        assert found[name]["low"] <= found[name]["value"] <= found[name]["high"]
        assert found[name]["value"] == pytest.approx(truth.doubling(start), abs=0.003)
    assert found["from"] is None or 25 <= found["from"] <= 1600
    assert dataset_size.worth(found).startswith("AUC by doubling to 1600 images +0.01")
    assert dataset_size.returns(law(noise=0.0005), 0)[PHANTOMS] == found


def test_few_sizes_have_no_law():
    table = law()
    found = dataset_size.returns(table[table["images"] < 1000], 0)
    assert found == {PHANTOMS: None}
    assert "no law is fitted" in dataset_size.verdict(None)
    assert dataset_size.worth(None) == "no law"


def test_the_headline_quotes_both_ends_and_the_last_doubling():
    table = law()
    curves = dataset_size.curve(table)
    ends, last = dataset_size.headline(curves, dataset_size.returns(table, 0))
    assert ends["name"] == "mean AUC, 25 to 1600 images"
    assert last["value"].startswith("+0.0")
    assert len(dataset_size.headline(curves, {PHANTOMS: None})) == 1
