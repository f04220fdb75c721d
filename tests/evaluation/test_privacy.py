"""What attacks find of a model that remembers, and of one that does not; copies, marks, and rates by hand."""

import numpy as np
import pytest

from visionclip.evaluation import privacy

MEMBER = np.arange(400) < 200


def eyes(count: int, size: int = 32, seed: int = 0) -> np.ndarray:
    """Smooth pictures that differ, uint8 N×S×S×3."""
    coarse = np.random.default_rng(seed).integers(40, 200, (count, 4, 4, 3), np.uint8)
    return coarse.repeat(size // 4, 1).repeat(size // 4, 2)


def features(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 8))


def test_what_is_above_the_controls_is_above_all_but_one_in_a_hundred_of_them():
    of_controls = np.arange(200.0)
    scores = np.array([196, 197, 197.5, 199, 300])
    assert privacy.above(scores, of_controls).tolist() == [False, False, True, True, True]
    assert privacy.above(of_controls, of_controls).sum() == 2
    few = np.arange(50.0)
    assert privacy.above(np.array([48.5, 49, 49.5]), few).tolist() == [False, False, True], "above all, not a half"
    assert not privacy.above(np.ones(5), np.ones(200)).any(), "ties accuse nobody"


def test_a_memory_is_found_and_chance_is_not():
    rng = np.random.default_rng(0)
    remembered = privacy.membership(MEMBER, MEMBER + rng.normal(0, 0.05, 400))
    assert remembered["auc"].value > 0.99
    assert remembered["tpr"].low > 0.9
    nothing = privacy.membership(MEMBER, rng.normal(size=400))
    assert nothing["auc"].low < 0.5 < nothing["auc"].high
    assert nothing["tpr"].low < 0.01 < nothing["tpr"].high
    assert (nothing["members"], nothing["controls"]) == (200, 200)


def test_the_rate_at_one_in_a_hundred_by_hand():
    """Of 200 controls two may be accused: the threshold is the third highest."""
    scores = np.concatenate([np.linspace(0, 1, 200), np.linspace(0, 0.5, 200)])
    limit = np.linspace(0, 0.5, 200)[-3]
    by_hand = (np.linspace(0, 1, 200) > limit).mean()
    found = privacy.membership(MEMBER, scores)["tpr"]
    assert found.value == by_hand
    assert found.low < by_hand < found.high


def test_luck_finds_as_many_as_it_does_in_a_hundred_draws():
    rng = np.random.default_rng(0)
    drawn = [privacy.above(rng.normal(size=60), rng.normal(size=200)).sum() for _ in range(3000)]
    for found in (1, 2, 4):
        assert privacy.by_luck(found, 60, 200) == pytest.approx(np.mean(np.array(drawn) >= found), abs=0.03)
    assert privacy.by_luck(0, 60, 200) == 1


def test_patients_and_not_images_make_an_interval_narrow():
    scores = np.random.default_rng(1).normal(size=100).repeat(4)
    scores += MEMBER
    groups = [str(place // 4) for place in range(400)]
    one, other = privacy.membership(MEMBER, scores), privacy.membership(MEMBER, scores, groups)
    for name in ("auc", "tpr"):
        assert other[name].value == one[name].value
        assert other[name].high - other[name].low > one[name].high - one[name].low


def test_a_curve_goes_from_corner_to_corner():
    false, true = privacy.curve(np.array([True, False, True, False]), np.array([4.0, 3, 2, 1]))
    assert false.tolist() == [0, 0, 0.5, 0.5, 1]
    assert true.tolist() == [0, 0.5, 0.5, 1, 1]


def test_copies_are_near_to_members_and_fresh_images_to_nobody():
    members, controls = features(60, 0), features(60, 1)
    copied = privacy.neighbours(members[:30] + 1e-3, members, controls, np.random.default_rng(0), 200)
    assert copied.ratio.high < 0.1
    assert copied.nearer == 1
    assert copied.p == pytest.approx(1 / 201)
    fresh = privacy.neighbours(features(200, 2), members, controls, np.random.default_rng(0), 200)
    assert fresh.chance.low < fresh.ratio.value < fresh.chance.high
    assert 0.3 < fresh.nearer < 0.7
    assert fresh.p > 0.05
    with pytest.raises(ValueError, match="60 members and 59 controls; give as many"):
        privacy.neighbours(members, members, controls[:59], np.random.default_rng(0), 2)


def test_a_ratio_by_hand():
    to_members, to_controls = np.array([[0.0, 3], [2, 4], [1, 1]]), np.array([[2.0, 5], [4, 8], [0, 3]])
    assert privacy.ratios(to_members, to_controls).tolist() == [0, 0.5, 1]
    assert privacy.distances(np.array([[0.0, 0]]), np.array([[3.0, 4], [0, 0]])).tolist() == [[5, 0]]


def test_members_are_drawn_by_lot_with_their_patients():
    units = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    for seed in range(20):
        own = privacy._by_lot(units, 4, np.random.default_rng(seed))
        assert own.sum() == 4
        assert (own[::2] == own[1::2]).all()


def test_near_copies_are_counted_by_a_limit_that_controls_keep_to():
    members, controls = features(40, 0), features(120, 1)
    made = np.concatenate([members[:5] * 1.001, features(100, 2)])
    found = privacy.copies(made, members, controls)
    assert found[:5].all()
    assert found[5:].mean() <= 0.05
    with pytest.raises(ValueError, match="39 controls for 40 members"):
        privacy.copies(made, members, controls[:39])


def test_an_unsharp_image_is_no_copy():
    """It is nearer to every member than they are to each other, and as near to controls."""
    members, controls = features(50, 0), features(50, 1)
    assert not privacy.copies(np.zeros((5, 8)), members, controls).any()


def test_thumbnails_are_means():
    pixels = np.zeros((1, 32, 32, 3), np.uint8)
    pixels[0, :2, :2] = 255, 0, 51
    np.testing.assert_allclose(privacy.thumbnails(pixels)[0, :6], [1, 0, 0.2, 0, 0, 0])


def test_the_logit_of_a_loss():
    shares = np.array([0.1, 0.5, 0.9])
    np.testing.assert_allclose(privacy.logits(-np.log(shares)), np.log(shares / (1 - shares)))
    assert np.isfinite(privacy.logits(np.array([0.0, 800.0]))).all()


def test_shadows_tell_hard_members_from_easy_strangers():
    """An image's own difficulty hides its membership from one loss, and not from what other trainings made of it."""
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0, 5, 400)
    inside = np.stack([rng.permutation(400) < 200 for _ in range(4)])
    inside = np.concatenate([inside, ~inside])
    target = difficulty + MEMBER + rng.normal(0, 0.2, 400)
    shadows = difficulty + inside + rng.normal(0, 0.2, (8, 400))
    alone = privacy.membership(MEMBER, target)["auc"].value
    together = privacy.membership(MEMBER, privacy.likelihood_ratio(target, shadows, inside))["auc"].value
    assert alone < 0.7
    assert together > 0.99
    two = privacy.likelihood_ratio(target, shadows[[0, 4]], inside[[0, 4]])
    assert privacy.membership(MEMBER, two)["auc"].value > 0.99
    with pytest.raises(ValueError, match="each image must be in some shadow"):
        privacy.likelihood_ratio(target, shadows[:1], inside[:1])


def test_a_likelihood_ratio_by_hand():
    """Two shadows with the image, at 1 and 3, two without, at -1 and 1: deviations of the square root of 2."""
    shadows = np.array([[1.0], [3], [-1], [1]])
    found = privacy.likelihood_ratio(np.array([1.5]), shadows, np.array([[True], [True], [False], [False]]))
    assert found[0] == pytest.approx((-(0.5**2) + 1.5**2) / (2 * 2))


@pytest.mark.parametrize("size", [32, 64, 128])
def test_a_mark_is_found_where_it_is_and_nowhere_else(size):
    plain = np.concatenate([eyes(100, size), np.zeros((1, size, size, 3), np.uint8)])
    limit, burnt = privacy.mark_scores(plain), privacy.marked(plain)
    assert (burnt != plain).any((1, 2, 3)).all()
    assert (burnt[:, : size // 2] == plain[:, : size // 2]).all()
    assert limit[-1] == 0, "black ground correlates with nothing"
    assert privacy.above(privacy.mark_scores(burnt), limit).all()
    half = np.concatenate([burnt[:10], eyes(10, size, seed=1)])
    found = privacy.above(privacy.mark_scores(half), limit)
    assert found[:10].all()
    assert found[10:].sum() <= 1


def test_a_mark_a_little_off_is_found_and_other_text_is_not():
    burnt = privacy.marked(np.full((1, 64, 64, 3), 90, np.uint8))
    moved = np.roll(burnt, (1, 2), (1, 2))
    assert privacy.mark_scores(moved)[0] > 0.95
    assert privacy.mark_scores(burnt[:, :, ::-1])[0] < 0.6
