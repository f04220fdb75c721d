import json

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from visionclip import runs
from visionclip.evaluation import intervals, metrics
from visionclip.evaluation.intervals import Comparison, Interval


def test_an_interval_is_printed_with_what_it_has():
    assert str(Interval(0.81234, 0.7, 0.9)) == "0.812 [0.700, 0.900]"
    assert str(Interval(0.81234)) == "0.812"
    assert str(Interval(None)) == "–"
    assert f"{Interval(0.012, -0.5, 0.5):+.2f}" == "+0.01 [-0.50, +0.50]"
    assert str(Interval(0.0, 0.0, 0.1)) == "0.000 [0.000, 0.100]"


def test_an_interval_comes_back_from_json(tmp_path):
    content = {
        "auc": Interval(0.8, 0.7, 0.9),
        "kappa": Interval(None),
        "against": Comparison(Interval(0.1), 0.04, 0.08),
    }
    runs.write_json(tmp_path / "numbers.json", content)
    read = json.loads((tmp_path / "numbers.json").read_text())
    assert read["auc"] == {"value": 0.8, "low": 0.7, "high": 0.9}
    assert read["against"] == {"difference": {"value": 0.1, "low": None, "high": None}, "p": 0.04, "adjusted_p": 0.08}
    assert Interval.of(read["auc"]) == content["auc"] == Interval.of(content["auc"])
    assert Interval.of(read["kappa"]) == Interval.of(None) == Interval(None)


def mean(values):
    return lambda weights: {"mean": weights @ values / weights.sum(axis=1)}


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    values = np.random.default_rng(0).normal(3, 2, 400)
    drawn = intervals.bootstrap(mean(values), np.zeros(400, int), np.random.default_rng(1), 4000)["mean"]
    half = 1.96 * values.std(ddof=1) / 20
    assert drawn.value == pytest.approx(values.mean())
    assert (drawn.value - drawn.low, drawn.high - drawn.value) == pytest.approx((half, half), rel=0.1)


def test_resamples_keep_the_count_of_every_class():
    targets = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], (40, 7, 1)))
    weights = intervals._resampled(targets, 100, np.random.default_rng(0))
    for label, count in enumerate((40, 7, 1)):
        assert (weights[:, targets == label].sum(axis=1) == count).all()
    assert (weights[:, targets == 0] > 1).any()


@pytest.mark.parametrize(
    ("strata", "groups"),
    [
        ([0] * 6, ["one patient"] * 6),  # the only resample is the set itself
        ([0, 1], None),
        ([0, 0, 0, 1, 1, 1], ["sick"] * 3 + ["well"] * 3),  # those that differ lack a class
    ],
)
def test_what_can_not_be_resampled_has_no_limits(strata, groups):
    strata = np.array(strata)

    def measure(weights):
        of_class = [weights[:, strata == label].sum(axis=1) for label in set(strata)]
        share = weights @ np.linspace(0, 1, len(strata)) / weights.sum(axis=1)
        return {"share": np.where(np.min(of_class, axis=0) > 0, share, np.nan)}

    drawn = intervals.bootstrap(measure, strata, np.random.default_rng(0), 200, groups)["share"]
    assert drawn == Interval(0.5)


def test_scores_that_no_resample_changes_have_no_limits():
    """Not one error in two images a class, or in twenty, is no certainty."""
    for count in (2, 20):
        targets = np.arange(2).repeat(count)
        ranking = targets + np.linspace(0, 0.5, 2 * count)
        logits = np.stack([-ranking, ranking], axis=1)
        scores = metrics.scores_with_intervals(targets, logits, False, np.random.default_rng(0), 200)
        assert scores["auc"] == intervals.auc_interval(targets == 1, ranking) == Interval(1.0)
        assert scores["brier"].low < scores["brier"].value < scores["brier"].high
        against = intervals.delong(targets == 1, ranking, -ranking)
        assert against == Comparison(Interval(1.0)), "no error against errors alone: untested"
        assert intervals.auc_interval(targets == 1, np.zeros(2 * count)) == Interval(0.5)


def test_an_undefined_score_has_neither_value_nor_limits():
    rng = np.random.default_rng(0)
    drawn = intervals.bootstrap(lambda weights: {"x": weights[:, 0] * np.nan}, np.zeros(9, int), rng, 10)
    assert drawn == {"x": Interval(None)}


def test_no_resample_is_refused():
    with pytest.raises(ValueError, match="resamples: 0"):
        intervals.bootstrap(mean(np.arange(4)), np.zeros(4, int), np.random.default_rng(0), resamples=0)


def test_the_interval_over_seeds_is_the_t_interval_of_the_mean():
    summary = intervals.over_seeds([0.7, 0.8, 0.75])
    assert summary.value == pytest.approx(0.75)
    assert summary.high - 0.75 == pytest.approx(4.3027 * 0.05 / np.sqrt(3), rel=1e-4)
    assert summary.low == pytest.approx(1.5 - summary.high)


def test_one_seed_or_an_undefined_one_has_no_limits():
    assert intervals.over_seeds([0.7]) == Interval(0.7)
    assert intervals.over_seeds([0.7, 0.7]) == Interval(0.7), "and two that agree"
    for values in ([], [0.7, None], [np.nan]):
        assert intervals.over_seeds(values) == Interval(None)


def test_delong_agrees_with_the_variance_of_its_definition_and_with_itself():
    rng = np.random.default_rng(1)
    positive = rng.random(80) < 0.4
    first, second = (positive * skill + rng.normal(size=80) for skill in (1.5, 0.5))
    compared = intervals.delong(positive, first, second).difference
    aucs = [roc_auc_score(positive, ranking) for ranking in (first, second)]
    assert compared.value == pytest.approx(aucs[0] - aucs[1])

    def kernel(ranking):
        above, below = ranking[positive][:, None], ranking[~positive][None]
        return (above > below) + 0.5 * (above == below)

    pairs = kernel(first) - kernel(second)
    variance = pairs.mean(1).var(ddof=1) / positive.sum() + pairs.mean(0).var(ddof=1) / (~positive).sum()
    assert compared.high - compared.low == pytest.approx(2 * 1.959964 * np.sqrt(variance))
    assert intervals.delong(positive, first, first) == Comparison(Interval(0, 0, 0), 1)
    alone = intervals.auc_interval(positive, first)
    assert alone.value == pytest.approx(aucs[0])
    assert 0 <= alone.low < alone.value < alone.high <= 1


@pytest.mark.parametrize("positive", [[True, False, False], [True, True, False], [False] * 3, []])
def test_delong_of_too_few_is_undefined_and_no_error(positive):
    ranking = np.arange(len(positive), dtype=float)
    assert intervals.delong(np.array(positive, bool), ranking, ranking) == Comparison(Interval(None))
    assert intervals.auc_interval(np.array(positive, bool), ranking) == Interval(None)


@pytest.mark.parametrize("second", [np.arange(3.0), np.array([0, 1, 2, np.nan])])
def test_rankings_that_are_none_are_refused_in_one_line(second):
    with pytest.raises(ValueError, match="one finite score in each ranking for each of the 4 images") as refusal:
        intervals.delong(np.array([True, True, False, False]), np.arange(4.0), second)
    assert "\n" not in str(refusal.value)


def test_holm_multiplies_the_smallest_most_and_keeps_the_order():
    assert intervals.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert intervals.holm([0.9, 0.8]) == [1, 1]
    assert intervals.holm([]) == []


def test_what_was_not_tested_does_not_count_in_the_correction():
    tested = [Comparison(Interval(0.1), p) for p in (0.04, None, 0.01, 0.03)]
    corrected = intervals.adjusted(tested)
    assert [one.adjusted_p for one in corrected] == [
        pytest.approx(0.06),
        None,
        pytest.approx(0.03),
        pytest.approx(0.06),
    ]
    assert [one.star for one in corrected] == ["", "", "*", ""]
    assert [one.star for one in tested] == [""] * 4


def test_runs_are_compared_pair_by_pair():
    """Seeds that are hard for both don't count: the difference is the same in each."""
    reference = np.array([0.9, 0.6, 0.75])
    worse = intervals.paired(reference - [0.1, 0.11, 0.09], reference)
    assert worse.difference.value == pytest.approx(-0.1)
    assert worse.difference.low < -0.1 < worse.difference.high < 0
    assert worse.p == pytest.approx(stats.ttest_1samp([0.1, 0.11, 0.09], 0).pvalue)
    assert intervals.paired(reference, reference).p == 1
    single = intervals.paired(reference[:1] - 0.1, reference[:1])
    assert (single.difference.low, single.p) == (None, None)
