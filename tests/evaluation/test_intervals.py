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


def auc(positive, ranking, groups=None):
    """The AUC of one ranking with its limits."""
    return intervals.mean_auc(np.array(positive, bool)[None], np.array(ranking, float)[None], groups)


def test_not_one_error_is_no_certainty():
    lows = []
    for count in (2, 20, 200):
        targets = np.arange(2).repeat(count)
        ranking = targets + np.linspace(0, 0.5, 2 * count)
        logits = np.stack([0.75 - ranking, ranking - 0.75], axis=1)
        scores = metrics.scores_with_intervals(targets, logits, False, np.random.default_rng(0), 200)
        assert scores["auc"] == auc(targets == 1, ranking)
        assert scores["average_precision"] == scores["sensitivity"] == Interval(1.0), "a bootstrap can't tell"
        for name in ("auc", "aca", "accuracy", "macro_f1"):
            assert (scores[name].value, scores[name].high) == (1, 1)
            assert scores[name].low < 1
        lows.append([scores[name].low for name in ("auc", "aca", "accuracy")])
        against = intervals.delong(targets == 1, ranking, -ranking)
        assert against == Comparison(Interval(1.0)), "no error against errors alone: untested"
        of_none = auc(targets == 0, ranking)
        assert (of_none.value, of_none.low) == (0, 0)
        assert of_none.high == pytest.approx(1 - scores["auc"].low)
    assert np.diff(lows, axis=0).min() > 0, "more images say more"


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
    variances = [pairs.mean(1).var(ddof=1) / positive.sum(), pairs.mean(0).var(ddof=1) / (~positive).sum()]
    counts = (positive.sum(), (~positive).sum())
    freedom = sum(variances) ** 2 / sum(one**2 / (count - 1) for one, count in zip(variances, counts, strict=True))
    half = stats.t.ppf(0.975, freedom) * np.sqrt(sum(variances))
    assert compared.high - compared.low == pytest.approx(2 * half)
    assert intervals.delong(positive, first, first) == Comparison(Interval(0, 0, 0), 1)


@pytest.mark.parametrize(("positives", "negatives"), [(3, 100), (8, 40)])
def test_a_class_of_few_images_makes_no_difference_more_than_chance_too_often(positives, negatives):
    rng = np.random.default_rng(0)
    positive = np.repeat([True, False], (positives, negatives))
    found = 0
    for _ in range(300):
        first, second = positive + rng.normal(size=(2, positive.size))
        p = intervals.delong(positive, first, second).p
        found += p is not None and p < 0.05
    assert found <= 21


def test_copies_of_images_make_no_difference_surer():
    rng = np.random.default_rng(0)
    positive = np.repeat([True, False], (20, 60))
    first, second = positive + rng.normal(size=(2, 80))
    alone = intervals.delong(positive, first, second)
    copied = [np.tile(one, 4) for one in (positive, first, second)]
    grouped = intervals.delong(*copied, np.tile(np.arange(80), 4))
    assert grouped.p == pytest.approx(alone.p, abs=0.03)
    assert intervals.delong(*copied).p < 0.5 * grouped.p


def test_limits_of_an_auc_are_those_of_newcombe():
    """The true AUC at either limit is 1.96 of its own standard errors from the estimate (his method 5)."""
    positive = np.repeat([True, False], (12, 30))
    ranking = np.random.default_rng(0).normal(size=42) + positive
    found = auc(positive, ranking)
    assert found.value == pytest.approx(roc_auc_score(positive, ranking))
    for true in (found.low, found.high):
        terms = 1 + 20 * (1 - true) / (2 - true) + 20 * true / (1 + true)
        assert abs(found.value - true) == pytest.approx(1.959964 * np.sqrt(true * (1 - true) * terms / 360), rel=1e-4)


@pytest.mark.parametrize("separation", [1.0, 2.5])
def test_the_interval_of_an_auc_covers_with_five_positives(separation):
    """A percentile bootstrap does in 59 to 86 of 100."""
    truth, rng = stats.norm.cdf(separation / np.sqrt(2)), np.random.default_rng(0)
    positive = np.repeat([True, False], (5, 100))
    found = [auc(positive, positive * separation + rng.normal(size=105)) for _ in range(200)]
    assert sum(one.low <= truth <= one.high for one in found) >= 184
    assert all(one.low <= one.value <= one.high for one in found)


def test_scores_of_odd_shape_vary_more_than_the_formula_has_it():
    """A third of the positives look like nothing at all."""
    rng = np.random.default_rng(0)
    positive = np.repeat([True, False], (100, 600))
    centres = np.where(np.arange(100) < 35, -0.5, 2.5)
    ranking = rng.normal(size=700) + np.concatenate([centres, np.zeros(600)])
    found = auc(positive, ranking)
    pull = intervals._influence(positive, ranking)[1]
    assert found.high - found.low == pytest.approx(2 * 1.959964 * np.sqrt(pull @ pull), rel=0.02)


def test_the_mean_of_two_aucs_is_as_sure_as_they_go_together():
    rng = np.random.default_rng(0)
    positive = np.repeat([True, False], (30, 50))
    first, second = positive + rng.normal(size=(2, 80))
    one = auc(positive, first)
    same = intervals.mean_auc(np.stack([positive, ~positive]), np.stack([first, -first]))
    assert (same.value, same.low, same.high) == pytest.approx((one.value, one.low, one.high))
    both = intervals.mean_auc(np.stack([positive] * 2), np.stack([first, second]))
    assert both.high - both.low == pytest.approx((one.high - one.low) / np.sqrt(2), rel=0.15)


def test_the_design_effect_is_from_one_to_the_images_of_a_group():
    deviations = np.array([1.0, 1, -1, -1])
    assert intervals.design_effect(deviations) == 1
    assert intervals.design_effect(deviations, ["a", "a", "b", "b"]) == 2
    assert intervals.design_effect(deviations, ["a", "b", "a", "b"]) == 1, "against each other: no gain is taken"
    assert intervals.design_effect(np.zeros(4), ["a", "a", "a", "b"]) == 2.5, "nothing tells: all alike"


def test_a_share_has_wilson_s_interval_of_its_groups():
    right = np.repeat([True, False], (15, 5))
    expected = stats.binomtest(15, 20).proportion_ci(method="wilson")
    found = intervals.share(right)
    assert (found.value, found.low, found.high) == pytest.approx((0.75, expected.low, expected.high))
    copied = intervals.share(np.repeat(right, 3), np.repeat(np.arange(20), 3))
    assert (copied.low, copied.high) == pytest.approx((found.low, found.high))
    assert intervals.share(np.zeros(0, bool)).value is None
    nothing = intervals.share(np.zeros(20, bool))
    assert (nothing.value, nothing.low) == (0, 0)
    assert nothing.high == pytest.approx(0.161, abs=1e-3)


def test_a_biased_bootstrap_holds_its_estimate():
    drawn = intervals.bootstrap(lambda weights: {"x": weights.max(1)}, np.zeros(9, int), np.random.default_rng(0), 100)
    assert drawn["x"].low == drawn["x"].value == 1


@pytest.mark.parametrize("positive", [[True, False, False], [True, True, False], [False] * 3, []])
def test_delong_of_too_few_is_undefined_and_no_error(positive):
    ranking = np.arange(len(positive), dtype=float)
    assert intervals.delong(np.array(positive, bool), ranking, ranking) == Comparison(Interval(None))


@pytest.mark.parametrize("positive", [[False] * 3, [True] * 3, []])
def test_the_auc_of_one_class_is_undefined(positive):
    assert auc(positive, np.arange(len(positive))) == Interval(None)


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
    same = intervals.paired(np.array([0.875, 0.75]), np.array([0.75, 0.625]))
    assert (same.difference.low, same.p) == (None, None), "two that differ by as much are no certainty"


def test_scores_over_seeds_have_limits_where_scores_can_be():
    values = [0.97, 0.99, 0.999]
    whole, kept = intervals.over_seeds(values), intervals.score_over_seeds(values)
    assert whole.high > 1 == kept.high
    assert (kept.value, kept.low) == (whole.value, whole.low)
    assert intervals.score_over_seeds([0.9]) == Interval(0.9)


def test_a_detectable_difference_is_found_four_times_in_five():
    rng = np.random.default_rng(0)
    true = intervals.detectable(rng.normal(size=6) * 0 + np.array([-1.0, 1, -1, 1, -1, 1]))
    spread = np.std([-1.0, 1, -1, 1, -1, 1], ddof=1)
    drawn = true + spread * rng.normal(size=(4000, 6))
    found = np.mean([intervals.paired(values, np.zeros(6)).p < 0.05 for values in drawn])
    assert found == pytest.approx(0.8, abs=0.04)
    assert intervals.detectable(np.array([0.1])) is None
    assert intervals.detectable(np.array([0.1, 0.1])) is None


def test_a_difference_of_scores_on_different_images_is_as_wide_as_both_together():
    one, other = Interval(0.8, 0.7, 0.85), Interval(0.5, 0.3, 0.6)
    found = intervals.difference(one, other)
    assert found.value == pytest.approx(0.3)
    assert found.low == pytest.approx(0.3 - np.hypot(0.1, 0.1))
    assert found.high == pytest.approx(0.3 + np.hypot(0.05, 0.2))
    assert intervals.difference(one, Interval(0.5)) == Interval(pytest.approx(0.3))
    assert intervals.difference(one, Interval(None)) == Interval(None)
