import numpy as np
import pytest

from visionclip.data.folders import ClassOf, Dataset, Task
from visionclip.evaluation import probe


def task(targets, classes=2, ordinal=False):
    return Task("grade", ordinal, [ClassOf(str(label), [{"dr_grade": label}]) for label in range(classes)], targets)


def test_no_group_is_on_both_sides_of_a_fold():
    rng = np.random.default_rng(0)
    groups = [f"patient {number // 2}" for number in range(80)]
    parted = probe.folds(task(rng.integers(0, 2, 80)), groups, 0)
    assert len(parted) == probe.FOLDS
    for taught, asked in parted:
        assert not {groups[place] for place in taught} & {groups[place] for place in asked}
    assert sorted(np.concatenate([asked for _, asked in parted])) == list(range(80))


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
    dataset = Dataset("clinic", "test", np.zeros((28, 8, 8, 3), np.uint8), groups, [task(labels)], groups=groups)
    assert probe.evaluate(dataset, np.zeros((28, 3)), 0, 100) == []


def test_results_have_the_shape_of_zero_shot_ones():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    keys = [str(number) for number in range(60)]
    dataset = Dataset("clinic", "test", np.zeros((60, 8, 8, 3), np.uint8), keys, [task(labels, 3, True)])
    (result,) = probe.evaluate(dataset, np.eye(3)[labels], 0, 100)
    assert (result["dataset"], result["task"], result["split"], result["n"]) == ("clinic", "grade", "test", 60)
    assert result["auc"]["value"] == pytest.approx(1)
    assert result["kappa"]["value"] == pytest.approx(1)
