import numpy as np
import pytest
import torch

from visionclip.data.images import standardise
from visionclip.data.labelled import LabelledImages
from visionclip.data.phantoms import FINDINGS, STRIDE
from visionclip.data.tasks import ClassOf, Dataset, Task
from visionclip.evaluation import classification
from visionclip.models.classifier import CONDITIONS, DEFINING, Classifier


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    return Classifier(8).train(False)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (6, 48, 48, 3), np.uint8)


def task(*classes):
    return Task("task", False, [ClassOf(name, facts) for name, facts in classes], np.zeros(3, int))


def logits_of(**values):
    """Logits of three eyes, -6 where nothing is given."""
    logits = np.full((3, len(CONDITIONS)), -6.0)
    for name, value in values.items():
        logits[:, CONDITIONS.index(name.replace("_at_least_", ">="))] = value
    return logits


def test_predictions_are_those_of_the_network_alone_and_with_its_maps(classifier, pixels):
    alone, combined = classification.predict(classifier.train(), pixels, batch_size=4)
    assert not classifier.training
    assert alone.shape == combined.shape == (6, len(CONDITIONS))
    assert alone.dtype == combined.dtype == np.float32
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected, maps = classifier(standardise(torch.from_numpy(pixels).permute(0, 3, 1, 2)))
    assert np.allclose(alone, expected.float(), atol=0.05)
    with_maps = [name in DEFINING for name in CONDITIONS]
    assert np.array_equal(alone[:, ~np.array(with_maps)], combined[:, ~np.array(with_maps)])
    assert not np.isclose(alone[:, with_maps], combined[:, with_maps]).any()
    found = classification.finding_maps(classifier, pixels)
    assert found.shape == (6, len(FINDINGS), 48 // STRIDE, 48 // STRIDE)
    assert np.allclose(found, torch.sigmoid(maps.float()), atol=0.05)


def test_pixels_are_standardised_as_in_training(classifier, pixels):
    alone, _ = classification.predict(classifier, pixels)
    other, _ = classification.predict(classifier, pixels, lambda batch: batch.float() / 127.5 - 1)
    assert not np.allclose(alone, other)


def test_a_class_is_derived_from_thresholds():
    logits = logits_of(dr_grade_at_least_1=[-3, 3, 3], dr_grade_at_least_2=[-4, -3, 3])
    referable = task(
        ("no", [{"dr_grade": 0}, {"dr_grade": 1}]), ("yes", [{"dr_grade": 2}, {"dr_grade": 3}, {"dr_grade": 4}])
    )
    of_task = classification.task_logits(referable, logits)
    assert of_task.argmax(1).tolist() == [0, 0, 1]
    assert np.allclose(of_task @ [-1, 1], [-4, -3, 3], atol=1e-3)  # the logits of grade 2 or more themselves
    grades = task(*((str(grade), [{"dr_grade": grade}]) for grade in range(5)))
    of_task = classification.task_logits(grades, logits)
    assert of_task.argmax(1).tolist() == [0, 1, 2]
    assert np.allclose(np.exp(of_task).sum(1), 1)


def test_thresholds_that_contradict_each_other_give_no_negative_probability():
    grades = task(*((str(grade), [{"dr_grade": grade}]) for grade in range(5)))
    of_task = classification.task_logits(grades, logits_of(dr_grade_at_least_1=0, dr_grade_at_least_3=4))
    assert np.isfinite(of_task).all()
    assert np.exp(of_task).sum(1) == pytest.approx(1, abs=1e-6)


def test_normal_is_the_absence_of_everything():
    kinds = task(("normal", [{}]), ("amd", [{"amd": 1}]), ("myopia", [{"dm": 1}]))
    of_task = classification.task_logits(kinds, logits_of(amd_at_least_1=[-6, 4, -6], pm_at_least_1=[-6, -6, 4]))
    assert of_task.argmax(1).tolist() == [0, 1, 2]


def test_only_tasks_of_its_conditions_are_predicted():
    glaucoma = task(("no", [{"gc": 0}]), ("yes", [{"gc": 1}]))
    unreadable = task(("no", [{"fundus_readable": 0}]), ("yes", [{"fundus_readable": 1}]))
    assert classification.can_predict(glaucoma)
    assert not classification.can_predict(unreadable)
    count, targets = 40, np.array([0, 1] * 20)
    keys = [str(number) for number in range(count)]
    images = LabelledImages(np.zeros((count, 8, 8, 3), np.uint8), [{}] * count, ["photograph"] * count, keys)
    tasks = [Task(name, False, one.classes, targets) for name, one in (("gc", glaucoma), ("other", unreadable))]
    logits = np.zeros((count, len(CONDITIONS)))
    logits[:, CONDITIONS.index("gc>=1")] = targets
    (result,) = classification.evaluate(Dataset("clinic", "test", images, tasks), logits, 0, 100)
    assert (result["task"], result["auc"].value) == ("gc", 1)


@pytest.mark.parametrize("side", [12, 2])  # a map of few cells too
def test_findings_raise_what_they_define_and_nothing_else(side):
    logits, maps = torch.zeros(3, len(CONDITIONS)), torch.full((3, len(FINDINGS), side, side), 0.01)
    maps[1, list(FINDINGS).index("exudate"), 3 * (side > 3) :, 3 * (side > 3) :] = 0.99
    maps[2, list(FINDINGS).index("drusen")] = 0.99
    combined = dict(zip(CONDITIONS, classification.combine_with_maps(logits, maps).T.tolist(), strict=True))
    for condition in ("dr_grade>=1", "dr_grade>=4", "dme>=1"):
        none, leaking, drusen = combined[condition]
        assert leaking == pytest.approx(np.log(99) / 2, abs=0.03)
        assert none == drusen < -1
    assert all(combined[name] == [0, 0, 0] for name in CONDITIONS if name not in DEFINING)
