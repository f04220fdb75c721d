"""Graded tasks grade by grade: which are predicted, which differ from none, and what finding them costs the healthy."""

import numpy as np
import pytest

from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import ClassOf, Dataset, Task
from visionclip.evaluation import grades, scoring, tables
from visionclip.evaluation.intervals import Interval, mean_auc

NAMES = ("none", "mild", "moderate", "severe")


def clinic(targets, groups=(), **tasks):
    """Blank photographs, graded 0 to 3; further tasks of two classes by their condition."""
    targets = np.array(targets)
    keys = [str(place) for place in range(len(targets))]
    images = LabelledImages(np.zeros((len(keys), 4, 4, 3), np.uint8), [{}] * len(keys), keys, keys, list(groups))
    graded = Task("grade", True, [ClassOf(name, [{"dr_grade": one}]) for one, name in enumerate(NAMES)], targets)
    others = [
        Task(key, False, [ClassOf("no", [{key: 0}]), ClassOf("yes", [{key: 1}])], np.array(own))
        for key, own in tasks.items()
    ]
    return Dataset("clinic", "test", images, [graded, *others])


def certain(*predicted, classes=4):
    """Logits by which these classes are predicted, by either way."""
    return 9.0 * np.eye(classes)[list(predicted)]


BETWEEN = np.log([[0.4, 0.15, 0.1, 0.35]])  # the likeliest is none, the median mild


def test_both_ways_are_counted_against_the_truth():
    task = clinic([0, 1, 2, 3, -1]).tasks[0]
    logits = np.concatenate([certain(0), BETWEEN, certain(3, 3, 3)])
    ways = grades.confusions(task, logits)
    assert list(ways) == [scoring.LIKELIEST, scoring.BY_THRESHOLDS]
    assert ways[scoring.LIKELIEST].tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]]
    assert ways[scoring.BY_THRESHOLDS].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]]
    plain = Task("gc", False, [ClassOf("no", [{"gc": 0}]), ClassOf("yes", [{"gc": 1}])], np.array([0, 1]))
    assert list(grades.confusions(plain, np.eye(2))) == [scoring.LIKELIEST]


def test_every_grade_has_its_recall_by_both_ways():
    dataset = clinic([0, 0, 1, 1, 3, -1], gc=[0, 0, 0, 1, 1, 1])
    logits = {"grade": np.concatenate([certain(0, 1), BETWEEN, certain(3, 3, 1)]), "gc": np.zeros((6, 2))}
    rows = grades.recalls(dataset, logits)
    assert [(row["grade"], row["n"]) for row in rows] == [("none", 2), ("mild", 2), ("moderate", 0), ("severe", 1)]
    assert [row["recall"].value for row in rows] == [0.5, 0, None, 1]
    assert [row["recall_by_thresholds"].value for row in rows] == [0.5, 0.5, None, 1]
    assert [row["predicted"] for row in rows] == [2, 1, 0, 2], "what is of no class isn't counted"
    assert rows[1]["recall"].low == 0 < rows[1]["recall"].high
    shown = tables.recall_table(rows).to_dict("records")[1]
    assert (shown["dataset"], shown["recall, by thresholds"][:5], shown["predicted"]) == (
        "clinic (test)",
        "0.500",
        "1 and 2",
    )


def test_the_sentence_says_what_is_never_predicted_whatever_it_is():
    def row(grade, predicted, by_thresholds, task="grade"):
        of = {"dataset": "clinic", "split": "test", "task": task, "grade": grade}
        return {**of, "predicted": predicted, "predicted_by_thresholds": by_thresholds}

    rows = [row("none", 3, 2), row("mild", 0, 1), row("severe", 0, 0), row("a", 1, 0, "other"), row("b", 2, 3, "other")]
    assert grades.never_predicted(rows) == [
        "clinic (test), grade: the likeliest grade is never mild or severe; by thresholds it is never severe.",
        "clinic (test), other: the likeliest grade is each of the grades somewhere; by thresholds it is never a.",
    ]
    assert grades.never_predicted([]) == []


def test_retinopathy_is_a_graded_task_from_none_on():
    dataset = clinic([0, 1], gc=[0, 1])
    assert grades.retinopathy(dataset).name == "grade"
    for classes in ([{"dr_grade": 1}], [{"dr_grade": 2}]), ([{}], [{"gc": 1}]), ([{"dr_grade": 0}], [{"dme": 1}]):
        other = Task("t", True, [ClassOf(str(place), facts) for place, facts in enumerate(classes)], np.array([0, 1]))
        assert grades.retinopathy(Dataset("d", "all", dataset.images, [other])) is None
    normal = Task("t", True, [ClassOf("normal", [{}]), ClassOf("mild", [{"dr_grade": 1}])], np.array([0, 1]))
    assert grades.retinopathy(Dataset("d", "all", dataset.images, [normal])) is normal
    without = Dataset("d", "all", dataset.images, dataset.tasks[1:])
    logits = {"gc": np.zeros((2, 2))}
    assert grades.against_none(without, logits) == grades.false_referrals(without, logits, 0, 100) == []


def test_each_grade_is_ranked_against_none():
    targets = np.array([0, 0, 0, 1, 1, 3, 3, -1])
    any_grade = np.array([0.1, 0.3, 0.5, 0.2, 0.4, 0.8, 0.9, 0.95])
    logits = np.log(np.stack([1 - any_grade, *[any_grade / 3] * 3], axis=1))
    mild, severe = grades.against_none(clinic(targets), {"grade": logits})
    assert (mild["grade"], mild["n"], mild["none"], severe["grade"]) == ("mild", 2, 3, "severe")
    assert mild["auc"] == mean_auc(np.array([[False] * 3 + [True] * 2]), any_grade[None, :5])
    assert (mild["auc"].value, severe["auc"].value) == (pytest.approx(0.5), 1)
    assert len(tables.against_none_table([mild, severe])) == 2


def referral(healthy, referable, **more):
    """Healthy and referable eyes by the probability that they are referable."""
    referable_share = np.array([*healthy, *referable])
    logits = np.log(np.stack([1 - referable_share, referable_share], axis=1) / 2)[:, [0, 0, 1, 1]]
    dataset = clinic([0] * len(healthy) + [2, 3] * (len(referable) // 2), **more)
    return dataset, {"grade": logits} | {task.name: np.zeros((len(dataset), 2)) for task in dataset.tasks[1:]}


def test_healthy_eyes_are_counted_where_four_of_five_referable_ones_are_found():
    referable = np.linspace(0.5, 0.95, 20)
    level = np.sort(referable)[4]  # of 20 the 16 highest
    healthy = [0.1] * 14 + [level - 1e-6] * 2 + [level + 1e-6] * 4
    (row,) = grades.false_referrals(*referral(healthy, referable), 0, 200)
    assert (row["healthy"], row["referable"]) == (20, 20)
    assert row["false_referrals"].value == 0.2
    assert row["false_referrals"].low < 0.2 < row["false_referrals"].high
    assert tables.referral_table([row])["healthy, called referable"][0].startswith("0.200 [")


def test_a_resample_without_a_referable_eye_says_nothing():
    ranking, positive = np.array([3.0, 2.0, 1.0, 0.0]), np.array([True, True, False, False])
    weights = np.array([[1.0, 1, 1, 1], [0, 0, 1, 1], [1, 0, 2, 0]])
    with np.errstate(invalid="ignore"):
        found = grades._called(ranking, positive, weights)
    np.testing.assert_array_equal(found, [0, np.nan, 0])


def test_an_eye_with_another_disease_is_not_healthy_and_few_have_no_limits():
    dataset, logits = referral([0.1, 0.1, 0.9, 0.9], [0.5] * 4, gc=[0, 0, 1, 1, 0, 0, 0, 0])
    (row,) = grades.false_referrals(dataset, logits, 0, 100)
    assert (row["healthy"], row["false_referrals"]) == (2, Interval(0.0))
    none_healthy, logits = referral([0.1, 0.1], [0.5] * 4, gc=[1] * 6)
    assert grades.false_referrals(none_healthy, logits, 0, 100) == []
