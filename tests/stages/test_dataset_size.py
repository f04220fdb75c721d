"""Points are made once, and the curve and the verdict follow from them."""

from pathlib import Path

import pandas
import pytest

import tiny_images
from visionclip import runs
from visionclip.evaluation.scoring import PHANTOMS
from visionclip.models import visionclip
from visionclip.stages import dataset_size
from visionclip.stages.sweep import Sweep
from visionclip.text.tokenizer import train_tokenizer
from visionclip.training import loop

SMALL = Sweep([8, 16], [0], ["updates", "epochs"], 2)


@pytest.fixture
def trained(monkeypatch):
    """How many images each training took that was not read back."""
    sizes, train = [], dataset_size.contrastive.train

    def counted(network, tokenizer, pairs, *given):
        sizes.append(len(pairs))
        return train(network, tokenizer, pairs, *given)

    monkeypatch.setattr(dataset_size.contrastive, "train", counted)
    return sizes


def test_each_point_is_trained_once_and_gathered_under_its_schedules(study, trained):
    table = dataset_size.points(SMALL, study.root / "05", 1, study.sources)
    assert trained == [8, 16, 8]
    assert {name: set(table[name]) for name in ("schedule", "images", "seed")} == {
        "schedule": {"updates", "epochs"},
        "images": {8, 16},
        "seed": {0},
    }
    assert set(table["dataset"]) == {PHANTOMS, "clinic"}
    assert set(table[table["schedule"] == "epochs"]["updates"]) == {1, 2}
    assert table["auc"].between(0, 1).all()
    largest = table[table["images"] == 16].drop(columns="schedule")
    assert largest.duplicated(keep=False).all(), "the largest point is of both schedules"
    again = dataset_size.points(SMALL, study.root / "05", 1, study.sources)
    assert len(trained) == 3
    pandas.testing.assert_frame_equal(table, again)


def change_card(study):
    (study.root / "01-synthesis" / "note.txt").write_text("another set")
    study.finish("01-synthesis", {})


def change_photographs(study):
    labels = study.root / "eyes" / "clinic" / "labels.csv"
    labels.write_text(labels.read_text().replace("7.png,test,1", "7.png,test,0"))
    (study.root / "eyes" / "clinic" / "more.png").write_bytes((study.root / "eyes" / "clinic" / "0.png").read_bytes())


def change_pretrained(study):
    parameters = dataset_size.pretrain.parameters_of(study.sources["pretrained"])
    study.finish("03-pretrain", {**parameters, "projection_size": 8})


CHANGES = {"a set": change_card, "photographs": change_photographs, "stage 03": change_pretrained}


@pytest.mark.parametrize("what", [*CHANGES, "warm-up", "code"])
def test_a_point_is_made_anew_when_what_it_was_made_of_changes(study, trained, monkeypatch, what):
    one = Sweep([8], [0], ["updates"], 1)
    dataset_size.points(one, study.root / "05", 1, study.sources)
    if what in CHANGES:
        CHANGES[what](study)
    elif what == "code":
        monkeypatch.setattr(dataset_size.keys, "code", lambda *_: "other code")
    dataset_size.points(one, study.root / "05", 2 if what == "warm-up" else 1, study.sources)
    assert trained == [8, 8]


def test_points_take_the_tower_of_stage_03_and_are_made_anew_when_its_folder_holds_another(study, monkeypatch):
    networks, train, place = [], dataset_size.contrastive.train, str(study.root / "own")
    words = train_tokenizer(["signs of glaucoma", "疑似青光眼"], study.root / "words")
    models = [visionclip.VisionCLIP(visionclip.sized(8, 1, 128, 8, len(words))) for _ in range(2)]

    def noted(network, *given):
        networks.append(network)
        return train(network, *given)

    monkeypatch.setattr(dataset_size.contrastive, "train", noted)
    parameters = dataset_size.pretrain.parameters_of(study.sources["pretrained"])
    study.finish("03-pretrain", {**parameters, "tower": place, "lock": "text"})
    for model in models:
        visionclip.save(model, words, 32, Path(place))
        for _ in range(2):
            dataset_size.points(Sweep([8], [0], ["updates"], 1), study.root / "05", 1, study.sources)
    assert len(networks) == 2
    for network, model in zip(networks, models, strict=True):
        assert tiny_images.same(network.text, model.text)


def test_a_point_that_was_stopped_goes_on(study, monkeypatch):
    one = Sweep([8], [0], ["updates"], 4)
    expected = dataset_size.points(one, study.root / "whole", 1, study.sources)

    def interrupted(items, label, total=None):
        for done, item in enumerate(items):
            if label == "pretrain" and done == 2:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr(loop, "progress", interrupted)
    with pytest.raises(KeyboardInterrupt):
        dataset_size.points(one, study.root / "05", 1, study.sources)
    assert not list((study.root / "05").rglob("*.json"))
    monkeypatch.undo()
    pandas.testing.assert_frame_equal(dataset_size.points(one, study.root / "05", 1, study.sources), expected)


def test_an_unfinished_stage_is_named(study):
    (study.root / "02-captions" / "card.json").unlink()
    with pytest.raises(FileNotFoundError, match="02-captions"):
        dataset_size.points(SMALL, study.root / "05", 1, study.sources)


def test_a_point_s_file_holds_its_rows(study):
    one = Sweep([8], [0], ["updates"], 1)
    table = dataset_size.points(one, study.root / "05", 1, study.sources)
    kept = runs.read_json(study.root / "05" / dataset_size.POINTS / "n8-s0.json")["value"]
    assert [row["auc"] for row in kept] == table["auc"].tolist()


def law() -> pandas.DataFrame:
    """Points on the exact law 1 - AUC = 4 n^-0.5, with a little noise by seed, and a steeper one at equal epochs."""
    rows = []
    for size in (100, 400, 1600):
        for seed, noise in ((0, 0.001), (1, -0.001)):
            aucs = {"updates": 1 - 4 * size**-0.5 + noise, "epochs": 1 - 16 * size**-0.7 + noise}
            aucs["epochs"] = aucs["updates"] if size == 1600 else aucs["epochs"]
            for schedule, auc in aucs.items():
                for task, shift in (("gc", 0.01), ("amd", -0.01)):
                    row = {"schedule": schedule, "images": size, "seed": seed, "dataset": PHANTOMS, "task": task}
                    rows.append({**row, "auc": auc + shift, "aca": 0.5})
    return pandas.DataFrame(rows)


def test_the_curve_is_the_mean_over_tasks_and_seeds():
    curve = dataset_size.curve(law())
    row = curve[(curve["schedule"] == "updates") & (curve["images"] == 400)].iloc[0]
    assert row["value"] == pytest.approx(0.8)
    assert row["low"] < 0.8 < row["high"]
    assert set(dataset_size.curve(law(), "aca")["value"]) == {0.5}


def test_the_fitted_law_is_the_one_the_points_follow():
    fit = dataset_size.fits(law(), "updates")[PHANTOMS]
    assert fit["points"] == 6
    assert fit["exponent"] == pytest.approx(0.5, abs=0.01)
    assert fit["low"] <= fit["exponent"] <= fit["high"]


def test_schedules_are_fitted_apart():
    exponents = {name: dataset_size.fits(law(), name)[PHANTOMS]["exponent"] for name in ("updates", "epochs")}
    assert exponents["updates"] == pytest.approx(0.5, abs=0.01)
    assert exponents["epochs"] > 0.55


def test_the_verdict_follows_the_fit():
    curves = dataset_size.curve(law()[lambda rows: rows["schedule"] == "updates"])
    steep = {"exponent": 0.5, "low": 0.4, "high": 0.6, "coefficient": 4.0}
    flat = {"exponent": 0.02, "low": 0.01, "high": 0.03, "coefficient": 0.3}
    none = {"exponent": 0.02, "low": -0.1, "high": 0.1, "coefficient": 0.3}
    assert "do not diminish yet" in dataset_size.verdict(curves, steep)
    assert "returns diminish" in dataset_size.verdict(curves, flat)
    assert "do not show that more images help" in dataset_size.verdict(curves, none)
    assert "no law is fitted" in dataset_size.verdict(curves, None)


def test_returns_diminish_where_the_law_says():
    fit = {"exponent": 0.5, "low": 0.4, "high": 0.6, "coefficient": 4.0}
    point = dataset_size.diminishing(fit)
    error = [4.0 * size**-0.5 for size in (point, 2 * point)]
    assert error[0] - error[1] == pytest.approx(dataset_size.WORTH)
    assert dataset_size.diminishing({**fit, "low": -0.1}) is None
    assert dataset_size.diminishing(None) is None


def test_a_curve_levels_off_where_no_later_doubling_is_worth_it():
    rows = pandas.DataFrame({"images": [100, 200, 800, 3200], "value": [0.6, 0.7, 0.71, 0.70]})
    assert dataset_size.levelled(rows.sample(frac=1, random_state=0)) == 200
    assert dataset_size.levelled(rows.assign(value=[0.6, 0.7, 0.71, 0.80])) is None
    assert dataset_size.levelled(rows.assign(value=0.5)) == 100


def test_the_verdict_and_the_point_of_diminishing_returns_agree():
    """A curve that has levelled off below its law: both are stated, and the law is quoted with itself."""
    sizes = [200, 930, 4300, 20000]
    curves = pandas.DataFrame({"dataset": PHANTOMS, "images": sizes, "value": [0.69, 0.772, 0.787, 0.78]})
    fit = {"exponent": 0.0717, "low": 0.03, "high": 0.11, "coefficient": 0.4128}
    verdict = dataset_size.verdict(curves, fit)
    assert "returns diminish, and a doubling adds less than 0.01 from about 1.6e+04 images." in verdict
    assert verdict.endswith("As measured, from 930 images on no doubling adds 0.01.")
    rising = dataset_size.verdict(curves.assign(value=[0.5, 0.6, 0.7, 0.8]), {**fit, "coefficient": 1.0})
    assert "do not diminish yet" in rising
    assert rising.endswith("no size run is so large that a doubling adds less than 0.01.")


def test_the_headline_quotes_both_ends_and_the_exponent():
    table = law()
    curves, fits = dataset_size.curve(table[table["schedule"] == "updates"]), dataset_size.fits(table, "updates")
    ends, exponent = dataset_size.headline(curves, fits)
    assert ends == {"name": "mean AUC, 100 to 1600 images", "value": "0.600 to 0.900"}
    assert exponent["value"].startswith("0.50 [")
    assert len(dataset_size.headline(curves, {PHANTOMS: None})) == 1
