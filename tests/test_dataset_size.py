import pytest

from visionclip import dataset_size, runs
from visionclip.zeroshot import PHANTOMS


def write_point(folder, size, seed, auc):
    point = folder / f"n{size}-s{seed}"
    training = runs.Stage("03-pretrain", point / "03-pretrain", {"images": size, "seed": seed})
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
    return tmp_path


def test_points_are_gathered_from_their_own_cards(law):
    table = dataset_size.points(law, [100, 400, 1600], [0, 1])
    assert len(table) == 12
    assert set(table["images"]) == {100, 400, 1600}


def test_the_fitted_law_is_the_one_the_points_follow(law):
    curves = dataset_size.curve(dataset_size.points(law, [100, 400, 1600], [0, 1]))
    fit = dataset_size.fits(curves)[PHANTOMS]
    assert fit["exponent"] == pytest.approx(0.5, abs=0.01)
    assert fit["low"] <= fit["exponent"] <= fit["high"]


def test_the_verdict_follows_the_fit(law):
    curves = dataset_size.curve(dataset_size.points(law, [100, 400, 1600], [0, 1]))
    steep = {"exponent": 0.5, "low": 0.4, "high": 0.6, "coefficient": 4.0}
    flat = {"exponent": 0.02, "low": 0.01, "high": 0.03, "coefficient": 4.0}
    none = {"exponent": 0.02, "low": -0.1, "high": 0.1, "coefficient": 4.0}
    assert "do not diminish yet" in dataset_size.verdict(curves, steep)
    assert "returns diminish" in dataset_size.verdict(curves, flat)
    assert "do not show that more images help" in dataset_size.verdict(curves, none)
    assert "no law is fitted" in dataset_size.verdict(curves, None)


def test_a_missing_point_is_named(law):
    with pytest.raises(FileNotFoundError, match="n800-s0"):
        dataset_size.points(law, [800], [0])


def test_points_outside_the_preset_are_refused_in_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"not a point of params/smoke/05-dataset-size\.yaml") as refusal:
        dataset_size.run_missing(tmp_path, [123], [9], "smoke")
    assert "\n" not in str(refusal.value)
