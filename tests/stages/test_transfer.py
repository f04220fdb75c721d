"""Which parts are left out, what eyes look like, and predictions that are kept until something changes."""

import cv2
import numpy as np
import pandas
import pytest

from visionclip import conditions, phantom
from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import ClassOf, Dataset, Task
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


@pytest.fixture(scope="module")
def real(folder):
    return transfer.load_train_splits(folder, 32)


@pytest.fixture
def trained(monkeypatch):
    """How many phantoms each training took that was not read back."""
    counts, train = [], transfer.train

    def counted(images, *given, **named):
        counts.append(len(images))
        return train(images, *given, **named)

    monkeypatch.setattr(transfer, "train", counted)
    return counts


def test_only_train_splits_are_taken(real, tmp_path):
    (found,) = real
    assert (found.name, found.split, len(found)) == ("clinic", "train", 10)
    assert transfer.load_train_splits(tmp_path / "nothing", 32) == []


def test_a_broken_dataset_is_not_passed_over(tmp_path):
    (tmp_path / "split").mkdir()
    (tmp_path / "split" / "labels.csv").write_text("nothing,here\n1,2\n")
    with pytest.raises(ValueError, match="no column `file`"):
        transfer.load_train_splits(tmp_path, 32)


@pytest.mark.parametrize("arm", transfer.ARMS.values(), ids=transfer.ARMS)
def test_an_arm_fixes_factors_that_exist_and_keeps_the_scored_lesions(arm):
    drawn = phantom.render({"dr_grade": 3, "dme": 1, "pm": 1}, np.random.default_rng(0), 64, **arm.fixed)
    assert {name: drawn.parameters[name] for name in arm.fixed} == arm.fixed
    assert drawn.parameters["haemorrhages"]
    assert drawn.parameters["macular_exudates"]
    assert drawn.parameters["crescent"]


def test_every_arm_leaves_something_else_out():
    arms = list(transfer.ARMS.values())
    assert arms[0] == transfer.ARMS[transfer.REFERENCE]
    assert all(one != other for place, one in enumerate(arms) for other in arms[:place])


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
    table = transfer.distance_table(one, {"same": same, "darker": darker}).set_index("dataset")
    assert table.loc["same", "separability"].max() < 0.6
    assert table.loc["darker", "separability"].min() > 0.95
    assert (table.loc["darker", "phantoms"] > table.loc["darker", "photographs"]).all()


def test_predictions_are_kept_and_of_the_right_tasks(real, tmp_path, trained):
    given = tmp_path, transfer.REFERENCE, real, 32, 2, 32, 0
    first = transfer.predictions(*given)
    again = transfer.predictions(*given)
    assert trained == [32]
    assert set(first) == {"clinic myopia", "clinic referable"}
    assert all(first[name].shape == (10,) and np.array_equal(first[name], again[name]) for name in first)
    assert len(list(tmp_path.glob("*.json"))) == 1


def replaced(datasets, images=None, facts=None):
    """The one dataset with other pixels, or with other conditions of the classes of its first task."""
    (one,) = datasets
    pixels = one.images.pixels if images is None else images
    first, *rest = one.tasks
    classes = first.classes if facts is None else [ClassOf("no", [{"amd": 0}]), ClassOf("yes", facts)]
    known = LabelledImages(pixels, one.images.conditions, one.images.sources, one.images.keys, one.images.groups)
    tasks = [Task(first.name, first.ordinal, classes, first.targets), *rest]
    return [Dataset(one.name, one.split, known, tasks)]


CHANGES = {
    "updates": lambda real: {"updates": 3},
    "phantoms": lambda real: {"count": 40},
    "photographs": lambda real: {"datasets": replaced(real, images=255 - real[0].images.pixels)},
    "what a class means": lambda real: {"datasets": replaced(real, facts=[{"amd": 1}])},
    "code": lambda real: {},
}


@pytest.mark.parametrize("what", CHANGES)
def test_predictions_are_made_anew_when_what_made_them_changes(real, tmp_path, trained, monkeypatch, what):
    given = {"folder": tmp_path, "name": transfer.REFERENCE, "datasets": real, "count": 32, "updates": 2}
    given |= {"size": 32, "seed": 0}
    before = transfer.predictions(**given)
    if what == "code":
        monkeypatch.setattr(transfer.keys, "code", lambda *_: "other code")
    after = transfer.predictions(**{**given, **CHANGES[what](real)})
    assert len(trained) == 2
    assert np.array_equal(before["clinic myopia"], after["clinic myopia"]) == (what == "code")


def test_a_changed_arm_is_trained_anew(real, tmp_path, trained, monkeypatch):
    given = tmp_path, "one anatomy", real, 32, 2, 32, 0
    transfer.predictions(*given)
    monkeypatch.setitem(transfer.ARMS, "one anatomy", transfer.Arm({"pigment": 0.6}))
    transfer.predictions(*given)
    assert len(trained) == 2


def test_arms_predict_otherwise(real, tmp_path):
    names = (transfer.REFERENCE, "no lesion maps", "no healthy twins", "no augmentation", "no standardisation")
    logits = [transfer.predictions(tmp_path, name, real, 32, 2, 32, 0)["clinic myopia"] for name in names]
    assert not any(np.array_equal(logits[0], other) for other in logits[1:])


def test_an_arm_s_phantoms_are_as_it_says(real, tmp_path, monkeypatch):
    taken = {}

    def noted(images, settings, prepare, label):
        taken[label.removeprefix("classifier: ")] = images, settings, prepare
        raise KeyboardInterrupt

    monkeypatch.setattr(transfer, "train", noted)
    for name in (transfer.REFERENCE, "no healthy twins", "no lesion maps", "no standardisation"):
        with pytest.raises(KeyboardInterrupt):
            transfer.predictions(tmp_path, name, real, 40, 2, 32, 0)
    reference, settings, prepare = taken[transfer.REFERENCE]
    healthy = {name: sum(map(conditions.is_normal, images.conditions)) for name, (images, *_) in taken.items()}
    assert healthy["no healthy twins"] < healthy[transfer.REFERENCE]
    assert taken["no lesion maps"][1].map_weight == 0 < settings.map_weight
    assert taken["no standardisation"][2] is transfer.images.scaled is not prepare
    assert np.array_equal(reference.pixels, taken["no lesion maps"][0].pixels)


def test_arms_are_compared_with_everything():
    targets = np.array([0, 1] * 40)
    task = Task("myopia", False, [ClassOf("no", [{"pm": 0}]), ClassOf("yes", [{"pm": 1}])], np.append(targets, -1))
    keys = [str(number) for number in range(81)]
    images = LabelledImages(np.zeros((81, 8, 8, 3), np.uint8), [{}] * 81, ["photograph"] * 81, keys)
    rng = np.random.default_rng(0)
    good, bad = np.append(targets * 3 + rng.normal(size=80), 0), np.append(rng.normal(size=80), 0)
    rows = transfer.compare(
        {transfer.REFERENCE: {"clinic myopia": good}, "no camera": {"clinic myopia": bad}},
        [Dataset("clinic", "train", images, [task])],
    )
    whole, without = rows
    both = np.stack([-good, good], 1)[:80]
    assert whole["auc"].value == pytest.approx(metrics.scores(targets, both, False)["auc"])
    assert whole["auc"].low < whole["auc"].value < whole["auc"].high
    assert whole["against"].adjusted_p is None
    assert without["against"].difference.value < -0.2
    assert without["against"].adjusted_p < 0.05
    cells = transfer.table(rows)["clinic myopia"]
    assert list(cells.index) == [transfer.REFERENCE, "no camera"]
    assert cells[transfer.REFERENCE] == str(whole["auc"])
    assert cells["no camera"].endswith("*)")
