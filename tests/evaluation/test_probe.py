import numpy as np
import pytest

from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import ClassOf, Dataset, Task
from visionclip.evaluation import probe


def task(targets, classes=2, ordinal=False):
    return Task("grade", ordinal, [ClassOf(str(label), [{"dr_grade": label}]) for label in range(classes)], targets)


def photographs(count, groups=()):
    keys = [str(number) for number in range(count)]
    return LabelledImages(
        np.zeros((count, 8, 8, 3), np.uint8), [{}] * count, ["photograph"] * count, keys, list(groups)
    )


def test_no_group_is_on_both_sides_of_a_fold():
    rng = np.random.default_rng(0)
    groups = [f"patient {number // 2}" for number in range(80)]
    parted = probe.folds(task(rng.integers(0, 2, 80)), groups, 0)
    assert len(parted) == probe.FOLDS
    for train, test in parted:
        assert not {groups[place] for place in train} & {groups[place] for place in test}
    assert sorted(np.concatenate([test for _, test in parted])) == list(range(80))


def test_twins_do_not_leak():
    """Features that name the patient and nothing else: both eyes of a patient share them, so that folds by image would
    seem to know the label."""
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(0, 2, 60), 2)
    features = np.repeat(rng.normal(size=(60, 200)), 2, axis=0)
    patients = [f"patient {number // 2}" for number in range(120)]
    honest = probe.out_of_fold(features, task(labels), patients, 0)
    leaking = probe.out_of_fold(features, task(labels), [str(number) for number in range(120)], 0)
    accuracy = [(logits.argmax(1) == labels).mean() for logits in (honest, leaking)]
    assert accuracy[0] < 0.65
    assert accuracy[1] > 0.85


def test_labels_of_no_class_take_no_part():
    rng = np.random.default_rng(0)
    labels = np.r_[np.full(10, -1), rng.integers(0, 3, 90)]
    features = np.eye(4)[labels.clip(0)] + rng.normal(0, 0.1, (100, 4))
    logits = probe.out_of_fold(features, task(labels, 3), [str(number) for number in range(100)], 0)
    assert not logits[:10].any()
    assert (logits[10:].argmax(1) == labels[10:]).all()
    assert np.allclose(np.exp(logits[10:]).sum(1), 1)


def test_too_few_groups_of_a_class_are_not_probed():
    labels = np.array([0] * 20 + [1] * 8)
    groups = [str(number) for number in range(20)] + ["one patient"] * 8
    assert probe.folds(task(labels), groups, 0) is None
    results, skipped = probe.evaluate(
        Dataset("clinic", "test", photographs(28, groups), [task(labels)]), np.zeros((28, 3)), 0, 100
    )
    assert results == []
    assert skipped == ["clinic, grade: too few patients or examinations of a class for 5 folds; not probed"]


def test_results_have_the_shape_of_zero_shot_ones():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    dataset = Dataset("clinic", "test", photographs(60), [task(labels, 3, True)])
    (result,), skipped = probe.evaluate(dataset, np.eye(3)[labels], 0, 100)
    assert skipped == []
    assert (result["dataset"], result["task"], result["split"], result["n"]) == ("clinic", "grade", "test", 60)
    assert result["auc"].value == pytest.approx(1)
    assert result["kappa"].value == pytest.approx(1)
