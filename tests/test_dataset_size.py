import pandas
import pytest

from visionclip import runs
from visionclip.evaluation.zero_shot import PHANTOMS
from visionclip.stages import dataset_size
from visionclip.stages.sweep import Sweep

SWEEP = Sweep([100, 400, 1600], [0, 1], ["updates"], 50)
BOTH = Sweep([100, 400, 1600], [0, 1], ["updates", "epochs"], 50)


def write_point(folder, size, seed, auc, schedule="updates"):
    point = folder / BOTH.names(schedule)[size, seed]
    settings = {"images": size, "seed": seed, "updates": BOTH.steps(size, schedule)}
    training = runs.Stage("03-pretrain", point / "03-pretrain", settings)
    training.finish({"headline": [], "shares": {"phantom": 1.0}})
    scored = runs.Stage("04-zero-shot", point / "04-zero-shot", {})
    results = [
        {"dataset": PHANTOMS, "task": task, "auc": {"value": auc + shift}, "aca": {"value": 0.5}}
        for task, shift in (("gc", 0.01), ("amd", -0.01))
    ]
    scored.finish({"headline": [], "results": results})


@pytest.fixture
def law(tmp_path):
    """Points on the exact law 1 - AUC = 4 n^-0.5, with a little noise by seed."""
    for size in (100, 400, 1600):
        for seed, noise in ((0, 0.001), (1, -0.001)):
            write_point(tmp_path, size, seed, 1 - 4 * size**-0.5 + noise)
            if size < 1600:
                write_point(tmp_path, size, seed, 1 - 16 * size**-0.7 + noise, "epochs")
    return tmp_path


def test_points_are_gathered_from_their_own_cards(law):
    table = dataset_size.points(law, SWEEP)
    assert len(table) == 12
    assert set(table["images"]) == {100, 400, 1600}


def test_the_fitted_law_is_the_one_the_points_follow(law):
    table = dataset_size.points(law, SWEEP)
    fit = dataset_size.fits(table, "updates")[PHANTOMS]
    assert fit["points"] == 6
    assert fit["exponent"] == pytest.approx(0.5, abs=0.01)
    assert fit["low"] <= fit["exponent"] <= fit["high"]


def test_the_verdict_follows_the_fit(law):
    curves = dataset_size.curve(dataset_size.points(law, SWEEP))
    steep = {"exponent": 0.5, "low": 0.4, "high": 0.6, "coefficient": 4.0}
    flat = {"exponent": 0.02, "low": 0.01, "high": 0.03, "coefficient": 0.3}
    none = {"exponent": 0.02, "low": -0.1, "high": 0.1, "coefficient": 0.3}
    assert "do not diminish yet" in dataset_size.verdict(curves, steep)
    assert "returns diminish" in dataset_size.verdict(curves, flat)
    assert "do not show that more images help" in dataset_size.verdict(curves, none)
    assert "no law is fitted" in dataset_size.verdict(curves, None)


def test_a_missing_point_is_named(law):
    with pytest.raises(FileNotFoundError, match="n800-s0"):
        dataset_size.points(law, Sweep([800], [0], ["updates"], 50))


def test_points_outside_the_preset_are_refused_in_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"not a point of params/smoke/05-dataset-size\.yaml") as refusal:
        dataset_size.run_missing(tmp_path, Sweep([123], [9], ["updates"], 50), "smoke")
    assert "\n" not in str(refusal.value)


def test_at_the_same_epochs_small_sets_take_fewer_steps_and_the_largest_is_run_once():
    assert [BOTH.steps(size, "updates") for size in BOTH.sizes] == [50, 50, 50]
    assert [BOTH.steps(size, "epochs") for size in BOTH.sizes] == [3, 12, 50]
    assert Sweep([1, 1000], [0], ["epochs"], 5).steps(1, "epochs") == 1
    assert BOTH.names("epochs")[1600, 0] == BOTH.names("updates")[1600, 0] == "n1600-s0"
    assert len(BOTH.folders) == len(set(BOTH.folders)) == 10
    assert SWEEP.folders == [f"n{size}-s{seed}" for size in SWEEP.sizes for seed in SWEEP.seeds]


def test_schedules_are_gathered_and_fitted_apart(law):
    table = dataset_size.points(law, BOTH)
    assert table.groupby("schedule").size().to_dict() == {"epochs": 12, "updates": 12}
    assert set(table[table["schedule"] == "epochs"]["updates"]) == {3, 12, 50}
    exponents = {schedule: dataset_size.fits(table, schedule)[PHANTOMS]["exponent"] for schedule in BOTH.schedules}
    assert exponents["updates"] == pytest.approx(0.5, abs=0.01)
    assert exponents["epochs"] > 0.55


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
    """A curve that has levelled off below its law: both are told, and the law is quoted with itself."""
    sizes = [200, 930, 4300, 20000]
    curves = pandas.DataFrame({"dataset": PHANTOMS, "images": sizes, "value": [0.69, 0.772, 0.787, 0.78]})
    fit = {"exponent": 0.0717, "low": 0.03, "high": 0.11, "coefficient": 0.4128}
    told = dataset_size.verdict(curves, fit)
    assert "returns diminish, and a doubling adds less than 0.01 from about 1.6e+04 images." in told
    assert told.endswith("As measured, from 930 images on no doubling adds 0.01.")
    rising = dataset_size.verdict(curves.assign(value=[0.5, 0.6, 0.7, 0.8]), {**fit, "coefficient": 1.0})
    assert "do not diminish yet" in rising
    assert rising.endswith("no size run is so large that a doubling adds less than 0.01.")
