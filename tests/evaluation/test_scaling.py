"""The law of the error: found where it was drawn from, its intervals hold, and nothing leaves 0 to 1."""

import numpy as np
import pytest

from visionclip.evaluation import scaling
from visionclip.evaluation.scaling import Law

SIZES = (25, 100, 400, 1600, 6400)
LAW = Law(0.1, 1.5, 0.5)


def drawn(law, seeds, noise, rng):
    """AUCs of seeds for each size, with noise on log-odds."""
    means = scaling.logit(law.auc(np.array(SIZES)))
    values = 1 / (1 + np.exp(-(means[:, None] + noise * rng.normal(size=(len(SIZES), seeds)))))
    return {size: own.tolist() for size, own in zip(SIZES, values, strict=True)}


def test_the_law_is_the_one_that_the_points_follow():
    fitted = scaling.fit(drawn(LAW, 2, 0.0, np.random.default_rng(0)))
    assert fitted.floor == pytest.approx(0.1, abs=0.005)
    assert fitted.exponent == pytest.approx(0.5, abs=0.03)
    assert fitted.doubling(100) == pytest.approx(LAW.doubling(100), abs=1e-3)


def test_a_flat_curve_has_a_law_without_gain():
    fitted = scaling.fit({size: [0.7, 0.7] for size in SIZES})
    assert fitted.doubling(6400) == pytest.approx(0, abs=1e-3)
    assert fitted.auc(400) == pytest.approx(0.7, abs=1e-3)


def test_the_bootstrap_s_intervals_hold_the_gain_of_a_doubling():
    rng, held = np.random.default_rng(1), 0
    for _ in range(20):
        aucs = drawn(LAW, 3, 0.1, rng)
        gains = [law.doubling(3200) for law in scaling.resampled(aucs, rng, 60)]
        low, high = np.percentile(gains, [2.5, 97.5])
        held += low <= LAW.doubling(3200) <= high
    assert held >= 15


def test_intervals_stay_between_0_and_1_and_pool_the_seeds():
    intervals = scaling.over_sizes({100: [0.6, 0.9], 400: [0.8, 0.82], 1600: [0.97, 0.99]})
    assert all(0 < one.low < one.value < one.high < 1 for one in intervals.values())
    width = [scaling.logit([one.low, one.high]) @ [-1, 1] for one in intervals.values()]
    assert width == pytest.approx([width[0]] * 3)
    single = scaling.over_sizes({100: [0.7]})[100]
    assert (single.value, single.low) == (pytest.approx(0.7), None)


def test_few_sizes_or_seeds_have_no_law_or_no_bootstrap():
    few = {100: [0.6, 0.7], 200: [0.7, 0.7], 400: [0.8, 0.8]}
    assert scaling.fit(few) is None
    assert scaling.resampled(few, np.random.default_rng(0), 3) == []
    assert scaling.resampled({size: [0.7] for size in SIZES}, np.random.default_rng(0), 3) == []
