import cv2
import numpy as np
import pandas
import pytest

from visionclip import conditions, phantom, runs
from visionclip.data import folders
from visionclip.evaluation import metrics
from visionclip.stages import transfer

PLAN = """\
test: {split: test}
tasks:
  myopia:
    column: pm
    classes:
      - {name: no, values: [0], conditions: [{pm: 0}]}
      - {name: yes, values: [1], conditions: [{pm: 1}]}
  referable:
    column: grade
    classes:
      - {name: no, values: [0, 1], conditions: [{dr_grade: 0}, {dr_grade: 1}]}
      - {name: yes, values: [2, 3, 4], conditions: [{dr_grade: 2}, {dr_grade: 3}, {dr_grade: 4}]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A dataset with a train split, and one without."""
    root = tmp_path_factory.mktemp("external")
    clinic = root / "clinic"
    clinic.mkdir()
    lines = ["file,split,pm,grade"]
    for number in range(12):
        eye = {"pm": number % 2, "dr_grade": 3 * (number % 3 == 0)}
        drawn = phantom.render(eye, np.random.default_rng(number), 64).image
        cv2.imwrite(str(clinic / f"{number}.png"), drawn[..., ::-1])
        lines.append(f"{number}.png,{'test' if number < 2 else 'train'},{eye['pm']},{eye['dr_grade']}")
    (clinic / "labels.csv").write_text("\n".join(lines))
    (clinic / "tasks.yaml").write_text(PLAN)
    other = root / "other"
    other.mkdir()
    cv2.imwrite(str(other / "a.png"), drawn)
    (other / "labels.csv").write_text("file,pm,grade\na.png,0,0\n")
    (other / "tasks.yaml").write_text(PLAN.replace("test: {split: test}\n", ""))
    return root


def test_only_train_splits_are_taken(folder, tmp_path):
    (found,) = transfer.teachable(folder, 32)
    assert (found.name, found.split, len(found)) == ("clinic", "train", 10)
    assert transfer.teachable(tmp_path / "nothing", 32) == []


def test_a_broken_dataset_is_not_passed_over(folder, tmp_path):
    (tmp_path / "split").mkdir()
    (tmp_path / "split" / "labels.csv").write_text("nothing,here\n1,2\n")
    with pytest.raises(ValueError, match="no column `file`"):
        transfer.teachable(tmp_path, 32)


@pytest.mark.parametrize("arm", transfer.ARMS.values(), ids=transfer.ARMS)
def test_an_arm_fixes_factors_that_exist_and_keeps_the_scored_lesions(arm):
    drawn = phantom.render({"dr_grade": 3, "dme": 1, "pm": 1}, np.random.default_rng(0), 64, **arm.fixed)
    assert {name: drawn.parameters[name] for name in arm.fixed} == arm.fixed
    assert drawn.parameters["haemorrhages"]
    assert drawn.parameters["macular_exudates"]
    assert drawn.parameters["crescent"]


def test_a_strip_changes_more_the_further_its_factor_goes():
    for name, strip in transfer.strips(96, 0).items():
        near, far = (np.abs(strip[place].astype(int) - strip[0]).mean() for place in (1, -1))
        assert 0 < near < far, name


def test_appearance_says_what_is_in_the_picture():
    grey = np.full((1, 96, 96, 3), 120, np.uint8)
    lines = grey.copy()
    lines[:, :, ::12] = 60
    spots = grey.copy()
    for row in range(8, 96, 16):
        spots[0, row : row + 7, ::1][:, 8:15] = 220
    plain, dark, bright = (transfer.appearance(pixels).iloc[0] for pixels in (grey, lines, spots))
    assert plain["green"] == pytest.approx(120)
    assert dark["contrast"] > plain["contrast"] + 5
    assert dark["sharpness"] > plain["sharpness"]
    assert bright["bright width"] == pytest.approx(100 * 3.5 / 96, abs=0.5)  # spots of 7 pixels
    assert plain["bright width"] == plain["dark width"] == 0


def test_equal_sets_cannot_be_told_apart_and_different_ones_can():
    rng = np.random.default_rng(0)
    one, same, darker = (
        pandas.DataFrame(rng.normal(mean, 1, (300, len(transfer.SHOWN))), columns=transfer.SHOWN) for mean in (5, 5, 1)
    )
    told = transfer.distance_table(one, {"same": same, "darker": darker}).set_index("dataset")["told apart"]
    assert told["same"].max() < 0.6
    assert told["darker"].min() > 0.95


def test_answers_are_kept_and_asked_of_the_right_condition(folder, tmp_path):
    real = transfer.teachable(folder, 32)
    first = transfer.answers(tmp_path, transfer.WHOLE, real, 32, 2, 32, 0)
    (kept,) = tmp_path.glob("*.json")
    stamp = kept.stat().st_mtime_ns
    again = transfer.answers(tmp_path, transfer.WHOLE, real, 32, 2, 32, 0)
    assert kept.stat().st_mtime_ns == stamp
    assert set(first) == {"clinic myopia", "clinic referable"}
    assert all(np.array_equal(first[name][1], again[name][1]) for name in first)
    transfer.answers(tmp_path, transfer.WHOLE, real, 32, 3, 32, 0)
    assert "updates=3" in runs.read_json(kept)["told"]["settings"]


def test_arms_are_compared_with_everything():
    targets = np.array([0, 1] * 40)
    task = folders.Task("myopia", False, [folders.ClassOf("no", [{}]), folders.ClassOf("yes", [{"pm": 1}])], targets)
    rng = np.random.default_rng(0)
    good, bad = targets * 3 + rng.normal(size=80), rng.normal(size=80)
    rows = transfer.compare(
        {transfer.WHOLE: {"clinic myopia": (task, good)}, "no camera": {"clinic myopia": (task, bad)}}
    )
    whole, without = rows
    assert whole["auc"] == pytest.approx(metrics.scores(targets, np.stack([-good, good], 1), False)["auc"])
    assert whole["low"] < whole["auc"] < whole["high"]
    assert without["against"]["difference"] < -0.2
    assert without["against"]["adjusted_p"] < 0.05
    cells = transfer.table(rows)["clinic myopia"]
    assert cells["no camera"].endswith("*)")


def test_a_twin_is_the_same_eye_without_its_disease():
    eyes, seeds = transfer.eyes_of(60, 0.35, 0)
    assert len(eyes) == len(seeds) == 60
    twins = [place for place, seed in enumerate(seeds) if seed in seeds[:place]]
    assert len(twins) == 15
    for place in twins:
        sick = eyes[seeds.index(seeds[place])]
        assert conditions.is_normal(eyes[place])
        assert not conditions.is_normal(sick)
        assert all(eyes[place][key] == sick[key] for key in conditions.VOCABULARY if key not in conditions.DISEASES)
    alone, _ = transfer.eyes_of(60, 0.0, 0)
    assert len(alone) == 60


def test_arms_differ_in_what_they_say(folder, tmp_path):
    real = transfer.teachable(folder, 32)
    answers = [
        transfer.answers(tmp_path, name, real, 32, 2, 32, 0)["clinic myopia"][1]
        for name in (transfer.WHOLE, "no lesion maps", "no healthy twins", "no standardisation")
    ]
    assert not any(np.array_equal(answers[0], other) for other in answers[1:])
