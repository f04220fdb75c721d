import numpy as np
import pytest

from visionclip.data.folders import ClassOf, Dataset, Task
from visionclip.models import classifier
from visionclip.stages import baseline

GRADES = np.repeat(np.arange(5), 6)


@pytest.fixture(scope="module")
def photographs():
    rng = np.random.default_rng(0)
    grade = Task("dr_grade", True, [ClassOf(f"grade {g}", [{"dr_grade": g}]) for g in range(5)], GRADES)
    clear = Task(
        "clear", False, [ClassOf("no", [{"macula_readable": 0}]), ClassOf("yes", [{"macula_readable": 1}])], GRADES > 2
    )
    keys = [str(number) for number in range(30)]
    return Dataset("clinic", "test", rng.integers(0, 256, (30, 32, 32, 3), np.uint8), keys, [grade, clear])


@pytest.fixture(scope="module")
def odds():
    """Of a reader that knows grades 2 to 4 and never sees grade 1."""
    found = np.full((30, len(classifier.NAMED)), -5.0)
    for threshold in range(1, 5):
        known = np.where(GRADES == 1, 0, GRADES)
        found[:, classifier.NAMED.index(f"dr_grade>={threshold}")] = np.where(known >= threshold, 3.0, -3.0)
    return found


def test_only_what_can_be_answered_is_scored(photographs, odds):
    (result,) = baseline.evaluate(photographs, odds, 0, 100)
    assert result["task"] == "dr_grade"
    assert result["accuracy"]["value"] == pytest.approx(0.8)
    assert result["by_thresholds"]["kappa"]["value"] > 0.9


def test_both_kinds_of_answer_come_by_dataset(photographs):
    untaught = classifier.Reader(8).train(False)
    named, borne_out = baseline.ask(untaught, [photographs])
    assert named.keys() == borne_out.keys() == {photographs.name}
    direct = classifier.read(untaught, photographs.pixels)
    assert np.array_equal(named[photographs.name], direct[0])
    assert np.array_equal(borne_out[photographs.name], direct[1])
    rows = baseline.evaluate_all([photographs] * 2, named, 100)
    assert rows == baseline.evaluate(photographs, direct[0], 0, 100) * 2


def test_grades_that_are_not_found_show(photographs, odds):
    rows = {row["against none"]: row["auc"]["value"] for row in baseline.by_grade(photographs, odds)}
    assert rows.pop("any of them") == pytest.approx((0.5 + 3) / 4)
    assert rows == {"grade 1": 0.5, "grade 2": 1.0, "grade 3": 1.0, "grade 4": 1.0}
    assert list(baseline.grade_table(baseline.by_grade(photographs, odds)).columns)[-1] == "AUC"


def test_seeds_are_put_side_by_side(photographs, odds):
    rng = np.random.default_rng(0)
    results = [baseline.evaluate(photographs, odds + rng.normal(0, 2, odds.shape), 0, 100) for _ in range(3)]
    (row,) = baseline.by_seed(results)
    assert len(row["seeds"]) == 3
    assert row["auc"]["value"] == pytest.approx(np.mean(row["seeds"]))
    assert row["auc"]["low"] < row["auc"]["value"] < row["auc"]["high"]
    table = baseline.seed_table([row], baseline.by_seed(results[:1]), results[1])
    assert table["as named"].iloc[0].startswith(f"{results[0][0]['auc']['value']:.3f}")
    assert table["untaught"].iloc[0] == f"{results[1][0]['auc']['value']:.3f}"


def test_held_out_phantoms_are_others_than_those_that_teach():
    held = baseline.held_out(40, 0, 32)
    taught = baseline.transfer.lessons(baseline.transfer.ARMS[baseline.transfer.WHOLE], 40, 0, 32, "phantoms", 1)
    assert not any(np.array_equal(one, other) for one in held.pixels for other in taught.pixels)
    known = classifier.targets(held.eyes)
    rows = baseline.by_condition(held, [known] * 2, [-known] * 2)
    told = [row["auc"]["value"] for row in rows if row["auc"]["value"] is not None]
    assert told
    assert all(value == 1 for value in told)
    shown = baseline.condition_table(rows).set_index("condition")["borne out"]
    assert shown["dr_grade>=1"].startswith("0.000")
    assert shown["gc>=1"] == ""
    assert all(row["auc"]["value"] is None for row in rows if row["positives"] < baseline.FEWEST)


def test_an_overlay_paints_blood_red_and_leaves_the_rest_grey():
    pixels = np.full((1, 64, 64, 3), 120, np.uint8)
    maps = np.zeros((1, len(classifier.MAPPED), 16, 16), np.float32)
    maps[0, list(classifier.MAPPED).index("haemorrhage"), 4:8, 4:8] = 1
    (picture,) = baseline.overlay(pixels, maps)
    assert picture[24, 24, 0] > 200 > 100 > picture[24, 24, 2]
    assert np.ptp(picture[50, 50]) == 0


def test_shown_eyes_are_of_different_kinds():
    held = baseline.held_out(60, 0, 32)
    places = baseline.shown(held, 5)
    assert len(places) == len(set(places)) == 5
    kinds = {baseline.conditions.presentation(held.eyes[place]) for place in places}
    assert len(kinds) == 5


def test_a_reader_is_taught_once_and_again_when_something_changes(tmp_path):
    settings = classifier.Settings(2, width=8, batch_size=8)
    first = baseline.teach(tmp_path, 32, 32, settings)
    assert not (tmp_path / "checkpoint.safetensors").exists()
    stamp = (tmp_path / "reader.safetensors").stat().st_mtime_ns
    again = baseline.teach(tmp_path, 32, 32, settings)
    assert (tmp_path / "reader.safetensors").stat().st_mtime_ns == stamp
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    assert np.array_equal(classifier.read(first, pixels)[0], classifier.read(again, pixels)[0])
    baseline.teach(tmp_path, 15, 32, settings)
    assert (tmp_path / "reader.safetensors").stat().st_mtime_ns > stamp


def test_a_finer_step_goes_on_from_the_coarser(tmp_path):
    steps = tmp_path, 32, [32, 48], [2, 1], 0, 8
    taught = baseline.coarse_to_fine(*steps)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["32px", "48px"]
    coarse, _ = classifier.load(tmp_path / "32px")
    near = [(taught.state_dict()[name] - value).abs().max() for name, value in coarse.named_parameters()]
    assert 0 < max(near) < 0.01
    stamps = [path.stat().st_mtime_ns for path in tmp_path.rglob("taught.json")]
    baseline.coarse_to_fine(*steps)
    assert [path.stat().st_mtime_ns for path in tmp_path.rglob("taught.json")] == stamps
    baseline.coarse_to_fine(tmp_path, 32, [32, 48], [3, 1], 0, 8)
    assert all(
        path.stat().st_mtime_ns > stamp for path, stamp in zip(tmp_path.rglob("taught.json"), stamps, strict=True)
    )


@pytest.mark.parametrize(("sizes", "updates"), [([32], [1, 2]), ([], []), ([32, 50], [1, 1])])
def test_steps_that_do_not_fit_are_refused(sizes, updates):
    with pytest.raises(ValueError, match="sizes"):
        baseline.check_sizes(sizes, updates)
