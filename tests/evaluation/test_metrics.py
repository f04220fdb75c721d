import numpy as np
import pytest
from scipy import special
from sklearn import metrics as reference

from visionclip.evaluation import intervals, metrics
from visionclip.evaluation.intervals import Interval


def drawn(counts, skill=1.0, seed=0):
    """Targets with these class counts and logits that favour the right class by ``skill``."""
    rng = np.random.default_rng(seed)
    targets = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    logits = rng.normal(size=(len(targets), len(counts)))
    logits[np.arange(len(targets)), targets] += skill
    return targets, logits


@pytest.mark.parametrize("counts", [(30, 12), (40, 9, 15), (50, 20, 17, 6, 3)])
def test_scores_equal_those_of_scikit_learn(counts):
    targets, logits = drawn(counts)
    predictions, probabilities = logits.argmax(1), special.softmax(logits, axis=1)
    if len(counts) == 2:
        auc = reference.roc_auc_score(targets, logits[:, 1] - logits[:, 0])
    else:
        auc = reference.roc_auc_score(targets, probabilities, multi_class="ovr", average="macro")
    expected = {
        "accuracy": reference.accuracy_score(targets, predictions),
        "aca": reference.balanced_accuracy_score(targets, predictions),
        "macro_f1": reference.f1_score(targets, predictions, average="macro"),
        "auc": auc,
        "kappa": reference.cohen_kappa_score(targets, predictions, weights="quadratic"),
        "average_precision": np.mean(
            [reference.average_precision_score(targets == k, probabilities[:, k]) for k in range(len(counts))]
        ),
        "brier": np.square(probabilities - np.eye(len(counts))[targets]).sum(1).mean(),
        "sensitivity": np.mean([sensitivity_of_curve(targets == k, probabilities[:, k]) for k in range(len(counts))]),
    }
    measured = metrics.scores(targets, logits, ordinal=True)
    assert {name: measured[name] for name in expected} == pytest.approx(expected)


def sensitivity_of_curve(positive, ranking):
    """The highest sensitivity at a specificity of 90 % or more."""
    false, true, _ = reference.roc_curve(positive, ranking, drop_intermediate=False)
    return true[false <= 0.1 + 1e-9].max()


def test_resampled_scores_equal_those_of_scikit_learn_on_the_repeated_images():
    targets, logits = drawn((20, 14, 9))
    logits = logits.round(1)  # ties
    weights = intervals._resampled(targets, 5, np.random.default_rng(3))
    measured = metrics._measure(targets, logits, True, weights)
    for resample, row in enumerate(weights.astype(int)):
        again = np.repeat(np.arange(len(targets)), row)
        one = metrics.scores(targets[again], logits[again], ordinal=True)
        exact = set(metrics.SCORES) - {"ece"}  # its bins may part the copies of one image
        assert {name: measured[name][resample] for name in exact} == pytest.approx({name: one[name] for name in exact})
        assert measured["ece"][resample] == pytest.approx(one["ece"], abs=0.05)
        binary = [reference.roc_auc_score(targets[again] == k, special.softmax(logits, 1)[again, k]) for k in range(3)]
        assert one["auc"] == pytest.approx(np.mean(binary))


def test_tied_logits_give_an_auc_of_a_half():
    assert metrics.scores(np.array([0, 1, 0, 1]), np.zeros((4, 2)), ordinal=False)["auc"] == 0.5


def test_auc_ranks_logits_whose_softmax_is_saturated():
    targets = np.array([0, 0, 1, 1])
    logits = np.array([[0, 100.0], [0, 200], [0, 300], [0, 400]])
    assert metrics.scores(targets, logits, ordinal=False)["auc"] == 1


def test_every_class_weighs_the_same_in_the_average_recall():
    targets = np.array([0] * 99 + [1])
    logits = np.tile([1.0, 0.0], (100, 1))
    scored = metrics.scores(targets, logits, ordinal=False)
    assert (scored["accuracy"], scored["aca"]) == (0.99, 0.5)


def test_a_class_without_images_is_left_out_of_the_averages():
    targets, logits = drawn((30, 20, 0))
    scored = metrics.scores(targets, logits, ordinal=False)
    probabilities = special.softmax(logits, axis=1)
    recalls = reference.recall_score(targets, logits.argmax(1), labels=[0, 1], average="macro")
    f1 = reference.f1_score(targets, logits.argmax(1), labels=[0, 1], average="macro")
    aucs = [reference.roc_auc_score(targets == label, probabilities[:, label]) for label in (0, 1)]
    assert scored["aca"] == pytest.approx(recalls)
    assert scored["macro_f1"] == pytest.approx(f1)
    assert scored["auc"] == pytest.approx(np.mean(aucs))


def test_one_class_alone_leaves_auc_and_kappa_undefined_and_nothing_nan():
    targets, logits = np.zeros(8, int), drawn((4, 4))[1]
    result = metrics.scores_with_intervals(targets, logits, True, np.random.default_rng(0), resamples=20)
    assert result["auc"] == result["kappa"] == Interval(None)
    assert result["aca"].value == result["accuracy"].value == np.mean(logits.argmax(1) == 0)


def test_result_has_the_shape_that_reports_read():
    targets, logits = drawn((30, 12, 8))
    result = metrics.scores_with_intervals(targets, logits, False, np.random.default_rng(0), resamples=50)
    assert set(result) == {"n", "groups", *metrics.SCORES, "majority_accuracy", "chance_aca"}
    assert result["n"] == 50
    assert result["kappa"] == Interval(None)
    assert result["majority_accuracy"] == 0.6
    assert result["chance_aca"] == pytest.approx(1 / 3)
    scored = metrics.scores(targets, logits, ordinal=False)
    for name in ("auc", "aca", "accuracy", "macro_f1"):
        assert result[name].value == scored[name]
        assert 0 <= result[name].low < scored[name] < result[name].high <= 1


def test_intervals_repeat_with_the_seed_and_hardly_change_with_the_blocks(monkeypatch):
    targets, logits = drawn((30, 12))
    first = metrics.scores_with_intervals(targets, logits, True, np.random.default_rng(5), resamples=1)
    assert first == metrics.scores_with_intervals(targets, logits, True, np.random.default_rng(5), resamples=1)
    monkeypatch.setattr(intervals, "BLOCK", 7 * len(targets))
    blocked = metrics.scores_with_intervals(targets, logits, True, np.random.default_rng(5), resamples=400)
    monkeypatch.undo()
    whole = metrics.scores_with_intervals(targets, logits, True, np.random.default_rng(6), resamples=400)
    assert blocked["aca"].low == pytest.approx(whole["aca"].low, abs=0.03)


def test_interval_narrows_with_the_square_root_of_the_images():
    few, many = (
        metrics.scores_with_intervals(*drawn((count, count)), False, np.random.default_rng(0), resamples=400)[
            "accuracy"
        ]
        for count in (50, 800)
    )
    ratio = (few.high - few.low) / (many.high - many.low)
    assert ratio == pytest.approx(4, rel=0.2)


def test_interval_of_accuracy_matches_the_normal_approximation():
    targets, logits = drawn((500, 500))
    accuracy = metrics.scores_with_intervals(targets, logits, False, np.random.default_rng(0), resamples=4000)[
        "accuracy"
    ]
    half = 1.96 * np.sqrt(accuracy.value * (1 - accuracy.value) / 1000)
    assert accuracy.value - accuracy.low == pytest.approx(half, rel=0.08)
    assert accuracy.high - accuracy.value == pytest.approx(half, rel=0.08)


def test_intervals_cover_the_true_auc_about_as_often_as_they_say():
    truth = special.ndtr(2 / 2)  # the log-odds of the classes are normal, of means -1 and 1 and variance 2
    covered = 0
    for seed in range(100):
        targets, logits = drawn((40, 40), seed=seed)
        auc = metrics.scores_with_intervals(targets, logits, False, np.random.default_rng(seed), resamples=200)["auc"]
        covered += auc.low <= truth <= auc.high
    assert 88 <= covered <= 99


@pytest.mark.parametrize(
    ("targets", "logits", "message"),
    [
        ([0, 1], np.zeros((3, 2)), "targets"),
        ([], np.zeros((0, 2)), "targets"),
        ([0, -1], np.zeros((2, 2)), "no class"),
        ([0, 2], np.zeros((2, 2)), "from 0 to 1"),
        ([0.0, 1.0], np.zeros((2, 2)), "integers"),
        ([0, 1], np.array([[0, np.nan], [1, 0]]), "NaN"),
    ],
)
def test_what_can_not_be_scored_is_refused_in_one_line(targets, logits, message):
    with pytest.raises(ValueError, match=message) as refusal:
        metrics.scores(np.array(targets), logits, ordinal=False)
    assert "\n" not in str(refusal.value)


def test_no_resample_is_refused():
    with pytest.raises(ValueError, match="resamples: 0"):
        metrics.scores_with_intervals(*drawn((4, 4)), False, np.random.default_rng(0), resamples=0)


def test_small_integer_targets_do_not_overflow():
    targets, logits = drawn((2,) * 20)
    assert metrics.scores(targets.astype(np.uint8), logits, True) == metrics.scores(targets, logits, True)


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    logits = np.tile([0.0, np.log(3)], (400, 1))  # 75 % sure of class 1
    targets = np.ones(400, int)
    assert metrics.scores(targets, logits, False)["ece"] == pytest.approx(0.25)
    targets[np.arange(400) % 4 == 0] = 0
    assert metrics.scores(targets, logits, False)["ece"] == pytest.approx(0, abs=0.02)


def test_one_temperature_undoes_a_scale():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3))
    targets = np.array([rng.choice(3, p=row) for row in special.softmax(logits, axis=1)])
    assert metrics.temperature(targets, 5 * logits) == pytest.approx(5, rel=0.1)


def test_intervals_of_grouped_images_are_those_of_the_groups():
    targets, logits = drawn((60, 40))
    rng = np.random.default_rng
    alone = metrics.scores_with_intervals(targets, logits, False, rng(0), 400)
    copied = metrics.scores_with_intervals(np.tile(targets, 4), np.tile(logits, (4, 1)), False, rng(0), 400)
    groups = np.tile([f"patient {number}" for number in range(100)], 4)
    grouped = metrics.scores_with_intervals(np.tile(targets, 4), np.tile(logits, (4, 1)), False, rng(0), 400, groups)
    width = {name: one["auc"].high - one["auc"].low for name, one in
             (("alone", alone), ("copied", copied), ("grouped", grouped))}  # fmt: skip
    assert grouped["groups"] == 100
    assert grouped["auc"].value == pytest.approx(alone["auc"].value)
    assert width["copied"] < 0.7 * width["alone"] < width["grouped"] < 1.4 * width["alone"]


def test_a_resample_without_a_class_does_not_count():
    targets, logits = drawn((5, 4))
    groups = ["a"] * 3 + ["b"] * 3 + ["c"] * 3
    result = metrics.scores_with_intervals(targets, logits, False, np.random.default_rng(0), 200, groups)
    assert 0 <= result["auc"].low <= result["auc"].high <= 1


def test_a_class_that_is_always_right_or_never_still_varies():
    """Of 34, 5, 32, 19 and 12 images the classes are all right, all wrong, and half and half."""
    counts, right = (34, 5, 32, 19, 12), (34, 0, 16, 0, 6)
    targets = np.repeat(np.arange(5), counts)
    predictions = np.concatenate(
        [
            np.where(np.arange(n) < k, label, 4 * (label < 4))
            for label, (n, k) in enumerate(zip(counts, right, strict=True))
        ]
    )
    logits = np.eye(5)[predictions]
    found = metrics.scores_with_intervals(targets, logits, True, np.random.default_rng(0), 20)["aca"]
    rng = np.random.default_rng(1)
    drawn = np.mean([rng.beta(k + 0.5, n - k + 0.5, 20_000) for k, n in zip(right, counts, strict=True)], axis=0)
    assert found.value == pytest.approx(0.4)
    assert (found.low, found.high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.006)


def predicted(rng, rows, counts):
    """Targets with these counts and logits of predictions drawn from ``rows``, one distribution a class."""
    targets = np.repeat(np.arange(len(counts)), counts)
    draws = [rng.choice(len(row), count, p=row) for row, count in zip(rows, counts, strict=True)]
    return targets, np.eye(len(rows[0]))[np.concatenate(draws)]


def test_intervals_of_a_confusion_cover_where_classes_are_few_and_nearly_all_right_or_wrong(monkeypatch):
    """A stratified bootstrap covers mean recall in 69 to 76 of 100 (docs/decisions.md)."""
    monkeypatch.setattr(metrics, "DRAWS", 500)
    names, rng = ("aca", "macro_f1", "kappa"), np.random.default_rng(0)
    for rows, counts in ((((0.9, 0.1), (0.2, 0.8)), (100, 5)), (((0.98, 0.02), (0.03, 0.97)), (60, 8))):
        expected = np.array(rows) * np.array(counts)[:, None]
        truth = metrics._of_confusion(expected[None], np.arange(2), True)
        covered = dict.fromkeys(names, 0)
        for _ in range(200):
            targets, logits = predicted(rng, rows, counts)
            found = metrics._confusion_intervals(targets, logits, True, rng, None)
            assert all(found[name].low <= found[name].value <= found[name].high for name in names)
            for name in names:
                covered[name] += found[name].low <= truth[name][0] <= found[name].high
        assert min(covered.values()) >= 180, (counts, covered)


def rated(rng, count, scale):
    """Targets drawn from their own probabilities, and logits of these sharpened by ``scale``."""
    log_odds = rng.normal(0, 1.5, count)
    targets = (rng.random(count) < special.expit(log_odds)).astype(int)
    return targets, scale * np.stack([-log_odds, log_odds], axis=1) / 2


def test_answers_of_one_confidence_count_alike_in_whatever_order_they_lie():
    right = np.arange(300) < 240
    logits = np.tile(np.log([0.8, 0.2]), (300, 1))
    for order in (np.arange(300), np.random.default_rng(0).permutation(300)):
        assert metrics.scores((~right).astype(int)[order], logits, False)["ece"] == pytest.approx(0, abs=1e-9)
        found = metrics._calibration_interval(
            special.softmax(logits, axis=1), (~right).astype(int)[order], np.random.default_rng(1), None
        )
        assert found.value == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("patients", "limits"), [(2, False), (10, True)])
def test_ten_images_of_two_patients_are_two(patients, limits):
    rng = np.random.default_rng(0)
    targets = np.arange(60) < 10
    groups = [f"a{place % patients}" if ill else f"b{place}" for place, ill in enumerate(targets)]
    logits = np.stack([np.zeros(60), targets + rng.normal(0, 1, 60)], axis=1)
    found = metrics.scores_with_intervals(targets.astype(int), logits, False, rng, 50, groups)
    assert (found["sensitivity"].low is not None) == limits


@pytest.mark.parametrize("scale", [1.0, 1.3, 2.0, 4.0])
@pytest.mark.parametrize("count", [100, 400])
def test_the_interval_of_the_calibration_error_covers_and_holds_its_estimate(monkeypatch, scale, count):
    """A percentile bootstrap never covers a calibrated model, and leaves out its estimate in every third case."""
    monkeypatch.setattr(metrics, "DRAWS", 300)
    rng = np.random.default_rng(count)
    log_odds = rng.normal(0, 1.5, 400_000)
    stated, true = special.expit(scale * np.abs(log_odds)), special.expit(np.abs(log_odds))
    truth = float(np.mean(stated - true))  # overconfident in every bin, or in none
    covered, trials = 0, 100
    for _ in range(trials):
        targets, logits = rated(rng, count, scale)
        found = metrics._calibration_interval(special.softmax(logits, axis=1), targets, rng, None)
        assert 0 <= found.low <= found.value <= found.high <= 1
        covered += found.low <= max(truth, 0) + 1e-9 <= found.high + 1e-9
    assert covered >= 0.9 * trials


def test_the_calibration_error_of_few_images_has_an_interval():
    for count in (1, 2, 5):
        found = metrics._calibration_interval(np.tile([0.6, 0.4], (count, 1)), np.zeros(count, int),
                                              np.random.default_rng(0), None)  # fmt: skip
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert found.value == pytest.approx(0.4)


def test_copies_of_images_make_no_score_surer():
    targets, logits = drawn((40, 12))
    once = metrics.scores_with_intervals(targets, logits, True, np.random.default_rng(0), 50)
    copied = (np.tile(targets, 3), np.tile(logits, (3, 1)))
    groups = [str(number) for number in np.tile(np.arange(52), 3)]
    thrice = metrics.scores_with_intervals(*copied, True, np.random.default_rng(0), 50, groups)
    for name in ("auc", "aca", "accuracy", "macro_f1", "kappa"):
        assert thrice[name].value == pytest.approx(once[name].value)
        assert (thrice[name].low, thrice[name].high) == pytest.approx((once[name].low, once[name].high), abs=0.02), name


def test_what_is_resampled_has_no_limits_where_a_class_has_few_images():
    targets, logits = drawn((40, 9))
    found = metrics.scores_with_intervals(targets, logits, False, np.random.default_rng(0), 50)
    assert [found[name].low for name in ("average_precision", "sensitivity")] == [None, None]
    assert None not in [found[name].low for name in ("auc", "aca", "brier", "ece")]
