"""A pool to learn from, its labels by shares, a cache of features, and how many labels a score is worth."""

import itertools

import numpy as np
import pytest
from scipy import special, stats

from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import ClassOf, Task
from visionclip.evaluation import label_efficiency

CLASSES = [ClassOf("no", [{"pm": 0}]), ClassOf("yes", [{"pm": 1}])]


def task(targets) -> Task:
    return Task("myopia", False, CLASSES, np.array(targets))


@pytest.fixture
def many():
    """A task of 90 images, ten of no class, and their patients, most with two."""
    rng = np.random.default_rng(0)
    return task(np.repeat([0, 1, -1], [60, 20, 10])[rng.permutation(90)]), np.arange(90) // 2


def test_no_patient_is_learnt_from_and_scored_and_all_of_a_class_are_somewhere(many):
    asked, members = many
    parts = label_efficiency.split(asked, members, 0.4, 3)
    assert not set(members[parts.pool]) & set(members[parts.scored])
    assert sorted([*parts.pool, *parts.scored]) == np.flatnonzero(asked.targets >= 0).tolist()


def test_both_parts_have_the_mix_of_classes_that_was_asked_for():
    asked = task([0] * 60 + [1] * 20)
    parts = label_efficiency.split(asked, np.arange(80), 0.4, 0)
    assert np.bincount(asked.targets[parts.scored]).tolist() == [24, 8]
    assert np.bincount(asked.targets[parts.pool]).tolist() == [36, 12]


def test_a_seed_parts_alike_and_another_differently(many):
    one, again, other = (label_efficiency.split(*many, 0.5, seed) for seed in (0, 0, 1))
    assert one.pool.tolist() == again.pool.tolist()
    assert set(one.scored) != set(other.scored)


def test_what_cannot_be_parted_is_left_out():
    assert label_efficiency.split(task([0, 0, 0, 1]), np.arange(4), 0.5, 0) is None
    assert label_efficiency.split(task([0, 1, 0, 1]), np.array([0, 0, 1, 1]), 0.5, 0) is not None
    assert label_efficiency.split(task([0, 1, 0, 1]), np.zeros(4, int), 0.5, 0) is None


def test_labels_are_bought_in_one_order_and_of_every_class(many):
    asked, members = many
    pool = label_efficiency.split(asked, members, 0.5, 0).pool
    bought = [set(label_efficiency.labelled(asked, pool, share)) for share in (0, 0.01, 0.1, 0.5, 1)]
    assert bought[0] == set()
    assert all(one <= other for one, other in itertools.pairwise(bought))
    assert sorted(asked.targets[list(bought[1])]) == [0, 1], "one of each at least"
    assert bought[-1] == set(pool)
    counts, half = (np.bincount(asked.targets[list(one)]) for one in (bought[-1], bought[-2]))
    assert np.abs(half - counts / 2).max() <= 0.5


def test_copies_of_a_photograph_are_of_one_patient():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    pixels[3] = pixels[0]
    images = LabelledImages(pixels, [{}] * 4, ["clinic"] * 4, list("abcd"), ["p", "p", "q", "r"])
    first, second, third, fourth = label_efficiency.groups(images)
    assert first == second == fourth != third


def test_the_cache_is_the_published_formula_where_classes_are_of_equal_size():
    rng = np.random.default_rng(0)
    embeds, keys = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (rng.normal(size=(5, 8)),) * 2)
    logits, targets = rng.normal(size=(5, 2)), np.array([0, 1, 0, 1])
    found = label_efficiency.tip_adapter(embeds, logits, keys[:4], targets, 2.0)
    wanted = logits[0].copy()
    for key, target in zip(keys[:4], targets, strict=True):
        wanted[target] += np.exp(-2.0 * (1 - embeds[0] @ key))
    assert found[0] == pytest.approx(wanted)


def test_a_class_with_few_photographs_has_the_weight_of_one_with_many():
    keys = np.eye(3)[[0, 0, 0, 1]]
    found = label_efficiency.tip_adapter(np.eye(3), np.zeros((3, 2)), keys, np.array([0, 0, 0, 1]))
    assert found[0, 0] == pytest.approx(found[1, 1])
    assert found[2, 0] == pytest.approx(found[2, 1])
    assert special.softmax(found, 1)[0, 0] > 0.8


@pytest.mark.parametrize(
    ("scores", "target", "labels"),
    [
        ([0.5, 0.7, 0.9], 0.8, 10 * np.sqrt(10)),
        ([0.5, 0.7, 0.9], 0.9, 100),
        ([0.5, 0.7, 0.9], 0.4, 1),
        ([0.5, 0.9, 0.7], 0.8, 10 ** (3 / 4)),
        ([0.5, 0.7, 0.9], 0.91, None),
    ],
)
def test_a_curve_reaches_a_score_between_points_on_a_log_scale(scores, target, labels):
    found = label_efficiency.labels_to_reach([1, 10, 100], scores, target)
    assert found == (labels if labels is None else pytest.approx(labels))


def test_worth_is_a_mean_over_seeds_of_logarithms_with_its_t_interval():
    scores = [[0.5, 0.7, 0.9], [0.5, 0.8, 0.9], [0.5, 0.6, 0.8]]
    found = label_efficiency.worth([[1, 10, 100]] * 3, scores, [0.8] * 3)
    logs = np.log([10 * np.sqrt(10), 10, 100])
    half = stats.t.ppf(0.975, 2) * logs.std(ddof=1) / np.sqrt(3)
    assert found.labels.value == pytest.approx(np.exp(logs.mean()))
    limits = np.exp([logs.mean() - half, logs.mean() + half])
    assert (found.labels.low, found.labels.high) == pytest.approx(tuple(limits))
    assert (found.reached, found.seeds, found.there, found.at_most) == (3, 3, 100, False)
    assert str(found) == f"32 [{found.labels.low:.0f}, {found.labels.high:.0f}]"


def test_what_is_never_reached_is_a_bound_and_no_number():
    counts, scores = [[1, 10, 100]] * 2, [[0.5, 0.7, 0.9]] * 2
    assert str(label_efficiency.worth(counts, scores, [0.95, 0.95])) == "more than all 100"
    mixed = label_efficiency.worth(counts, scores, [0.95, 0.8])
    assert str(mixed) == "at least 56", "the mean of 10 * sqrt(10) and 100 on a log scale"
    assert (mixed.reached, mixed.labels.low) == (1, None)
    soon = label_efficiency.worth(counts, scores, [0.4, 0.5])
    assert str(soon) == "at most 1"
    wide = label_efficiency.worth(counts, scores, [0.5, 0.8])
    assert (wide.at_most, wide.labels.low) == (True, None), "the first may be worth less than the fewest"
    assert str(label_efficiency.worth(counts, scores, [0.5, 0.95])) == "anything up to more than all 100"
