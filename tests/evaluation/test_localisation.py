import json
import time

import cv2
import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from visionclip import runs
from visionclip.data.marks import Marks
from visionclip.evaluation import localisation
from visionclip.evaluation.intervals import Interval

SIZE, COUNT = 128, 4
EVERYWHERE = np.ones((COUNT, SIZE, SIZE), bool)


def squares(row=40, column=40, side=16):
    """A square on each of the photographs."""
    masks = np.zeros((COUNT, SIZE, SIZE), bool)
    masks[:, row : row + side, column : column + side] = True
    return masks


def scored(maps, masks, fields=EVERYWHERE, threshold=0.5, lesions=True):
    rng = np.random.default_rng(0)
    return localisation.scores(maps.astype(np.float32), masks, fields, threshold, rng, 200, lesions)


def values(result):
    return {name: result[name].value for name in localisation.SCORES}


def test_a_perfect_map():
    result = scored(squares(), squares())
    assert values(result) == dict.fromkeys(localisation.SCORES, 1.0)
    assert (result["n"], result["showing"], result["lesions"], result["reason"]) == (COUNT, COUNT, COUNT, "")


def test_an_inverted_map():
    prevalence = 16**2 / SIZE**2
    whole = 2 * prevalence / (1 + prevalence)
    assert values(scored(~squares(), squares())) == pytest.approx(
        {
            "pixel_auc": 0,
            "average_precision": prevalence,
            "pointing": (4 * 2 * 16 + 4) / (SIZE**2 - 16**2),  # of all pixels beside it, those up to two pixels off
            "dice": 0,
            "best_dice": whole,
            "lesion_sensitivity": 0,
        }
    )


def test_a_constant_map_gives_what_chance_gives():
    result = scored(np.full((COUNT, SIZE, SIZE), 0.3), squares(), threshold=0.2)
    prevalence = 16**2 / SIZE**2
    # within two pixels of a square: four sides and of each corner the pixels at a distance of up to 2
    near = (16**2 + 4 * 2 * 16 + 4 * 1) / SIZE**2
    assert result["chance"] == pytest.approx(
        {
            "pixel_auc": 0.5,
            "average_precision": prevalence,
            "pointing": near,
            "dice": 2 * prevalence / (1 + prevalence),
            "best_dice": 2 * prevalence / (1 + prevalence),
            "lesion_sensitivity": 1 - np.exp(-(share := (16**2 + 4 * 16) / SIZE**2) / (1 - share)),
        }
    )
    expected = {**result["chance"], "lesion_sensitivity": 0}  # it has no maximum
    assert values(result) == pytest.approx(expected)


def test_a_shifted_map():
    result = scored(squares(column=46), squares())
    hit, prevalence = 10 / 16, 16**2 / SIZE**2
    false = 6 * 16 / (SIZE**2 - 16**2)
    assert result["dice"].value == pytest.approx(hit)
    assert result["best_dice"].value == pytest.approx(hit)
    assert result["pixel_auc"].value == pytest.approx((1 + hit - false) / 2)
    assert result["average_precision"].value == pytest.approx(hit * hit + prevalence * (1 - hit))
    assert result["pointing"].value == pytest.approx(12 / 16), "of its equal maxima those up to two pixels off"
    assert result["lesion_sensitivity"].value == 1, "its centre lies in the square"


def noisy(seed=0, count=COUNT, size=SIZE, spread=1.0):
    """Probabilities, mostly near 0, that rise on some ellipses, and those ellipses."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, size, size), np.uint8)
    for mask in masks:
        for _ in range(rng.integers(2, 6)):
            centre, axes = rng.integers(size // 8, 7 * size // 8, 2), rng.integers(2, size // 12, 2)
            cv2.ellipse(mask, [*map(int, centre)], [*map(int, axes)], 0, 0, 360, 1, -1)
    logits = rng.normal(-7, 1.5, masks.shape) + 3 * spread * masks
    return (1 / (1 + np.exp(-logits))).astype(np.float32), masks.astype(bool)


def test_levels_rank_as_sklearn_ranks_every_pixel():
    maps, masks = noisy(count=6)
    result = scored(maps, masks, np.ones_like(masks), threshold=0.01)
    truth, ranking = masks.ravel(), maps.ravel()
    assert result["pixel_auc"].value == pytest.approx(roc_auc_score(truth, ranking), abs=1e-3)
    assert result["average_precision"].value == pytest.approx(average_precision_score(truth, ranking), abs=1e-3)
    dice = [f1_score(mask.ravel(), own.ravel() >= np.float32(0.01)) for own, mask in zip(maps, masks, strict=True)]
    assert result["dice"].value == pytest.approx(np.mean(dice))
    assert result["best_dice"].value > result["dice"].value


def test_a_resample_is_the_score_of_its_photographs():
    maps, masks = noisy(count=4)
    counts = localisation._count(maps, masks, np.ones_like(masks), 0.01)
    curve = localisation._Pixels(counts, np.ones(4, bool), 0.01)
    drawn = curve.measure(np.array([[2.0, 0, 1, 1], [0, 3, 1, 0]]))
    for place, chosen in enumerate(([0, 0, 2, 3], [1, 1, 1, 2])):
        truth, ranking = masks[chosen].ravel(), maps[chosen].ravel()
        assert drawn["pixel_auc"][place] == pytest.approx(roc_auc_score(truth, ranking), abs=1e-3)
        assert drawn["average_precision"][place] == pytest.approx(average_precision_score(truth, ranking), abs=1e-3)
        dice = [f1_score(masks[one].ravel(), maps[one].ravel() >= np.float32(0.01)) for one in chosen]
        assert drawn["dice"][place] == pytest.approx(np.mean(dice))


def test_intervals_hold_the_value_and_widen_with_fewer_photographs():
    few, many = (scored(*noisy(count=count), np.ones((count, SIZE, SIZE), bool), 0.01) for count in (3, 30))
    for name in localisation.SCORES:
        for result in (few, many):
            assert result[name].low <= result[name].value <= result[name].high
    name = "average_precision"
    assert few[name].high - few[name].low > many[name].high - many[name].low


def test_the_threshold_of_one_set_is_used_on_another():
    maps, masks = noisy(1)
    fixed = localisation.best_threshold(maps, masks)
    tried = [f1_score(masks.ravel(), maps.ravel() >= level) for level in np.quantile(maps, np.linspace(0.9, 1, 100))]
    assert f1_score(masks.ravel(), maps.ravel() >= fixed) >= max(tried) - 1e-3
    other, marked = noisy(2, spread=0.7)
    result = scored(other, marked, threshold=fixed)
    assert result["threshold"] == fixed
    dice = [f1_score(mask.ravel(), own.ravel() >= fixed) for own, mask in zip(other, marked, strict=True)]
    assert result["dice"].value == pytest.approx(np.mean(dice))
    assert result["best_dice"].value > result["dice"].value


def test_the_best_threshold_takes_shares_and_the_field_alone():
    maps = np.full((2, 8, 8), 0.1, np.float32)
    shares = np.zeros((2, 8, 8), np.uint8)
    maps[:, 2:4], shares[:, 2:4] = 0.6, 200
    maps[:, 4], shares[:, 4] = 0.4, 100  # less than half of a cell: not marked
    assert localisation.best_threshold(maps, shares) == np.float32(0.6)
    maps[:, 2], maps[:, 5:] = 0.9, 0.6
    fields = np.ones(maps.shape, bool)
    fields[:, 5:] = False
    assert localisation.best_threshold(maps, shares) == np.float32(0.9)
    assert localisation.best_threshold(maps, shares, fields) == np.float32(0.6)
    with pytest.raises(ValueError, match="no pixel is marked, so that no threshold is best"):
        localisation.best_threshold(maps, np.zeros_like(shares))


def test_only_the_field_of_view_counts():
    maps, masks = noisy(3)
    fields = EVERYWHERE.copy()
    fields[:, :, SIZE // 2 :] = False
    inside = scored(maps[..., : SIZE // 2], masks[..., : SIZE // 2], fields[..., : SIZE // 2], 0.01)
    spoilt, marked = maps.copy(), masks.copy()
    spoilt[:, :, SIZE // 2 :], marked[:, :, SIZE // 2 :] = 1, np.arange(SIZE // 2) % 2
    result = scored(spoilt, marked, fields, 0.01)
    for name in ("pixel_auc", "average_precision", "dice", "best_dice"):
        assert result[name] == inside[name]
    assert result["chance"]["average_precision"] == inside["chance"]["average_precision"]
    assert result["lesions"] == scored(maps, masks & fields, fields, 0.01)["lesions"]
    assert result["pointing"] == scored(maps, masks & fields, fields, 0.01)["pointing"]
    assert result["lesion_sensitivity"] == scored(maps, masks & fields, fields, 0.01)["lesion_sensitivity"]


def test_a_map_that_is_constant_in_the_field_has_no_maximum():
    fields = EVERYWHERE.copy()
    fields[:, :5] = False
    result = scored(np.where(fields, 0.3, 0.1), squares(56, 56), fields)
    assert result["lesion_sensitivity"].value == 0


def test_maps_of_another_resolution_are_resized_bilinearly():
    maps, masks = noisy(4)
    coarse = maps[:, ::4, ::4]
    resized = np.array([cv2.resize(own, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR) for own in coarse])
    assert scored(coarse, masks, threshold=0.01) == scored(resized, masks, threshold=0.01)


def points(*heights_and_places):
    """A map that is low but for single pixels."""
    own = np.full((SIZE, SIZE), 0.01, np.float32)
    for height, row, column in heights_and_places:
        own[row, column] = height
    return own


def test_lesions_found_at_one_false_positive_a_photograph():
    masks = np.zeros((2, SIZE, SIZE), bool)
    masks[:, 10:14, 10:14] = masks[:, 60:64, 60:64] = True
    masks[1, 100, 100] = True  # of one pixel
    maps = np.array(
        [
            points((0.9, 12, 12), (0.8, 30, 90), (0.6, 90, 30), (0.5, 62, 62)),
            points((0.7, 12, 12), (0.65, 62, 62), (0.55, 100, 100), (0.4, 30, 30)),
        ]
    )
    result = scored(maps, masks, np.ones_like(masks))
    # the third false positive, the first too many, is 0.4 high
    assert result["lesions"] == 5
    assert result["lesion_sensitivity"].value == 1
    maps[1, 20, 90] = 0.58
    assert scored(maps, masks, np.ones_like(masks))["lesion_sensitivity"].value == 3 / 5


def test_several_detections_in_a_lesion_count_once_and_pieces_that_touch_at_a_corner_are_one():
    masks = squares(side=30)
    masks[:, 70:80, 70:80] = True
    maps = np.array(
        [points((0.9, 45, 45), (0.8, 60, 60), (0.7, 45, 60), (0.6, 75, 75), (0.85, 10, 10), (0.82, 99, 99))] * COUNT
    )
    result = scored(maps, masks)
    assert result["lesions"] == COUNT
    assert result["lesion_sensitivity"].value == 1


@pytest.mark.parametrize(("away", "sensitivity", "pointing"), [(1, 1, 1), (2, 0, 1), (3, 0, 0)])
def test_how_far_a_maximum_may_lie(away, sensitivity, pointing):
    """One pixel of 128 from a lesion, two for the pointing game."""
    maps = np.array([points((0.9, 45, 55 + away), (0.8, 100, 100))] * COUNT)
    result = scored(maps, squares())
    assert result["lesion_sensitivity"].value == sensitivity
    assert result["pointing"].value == pointing


def test_chance_finds_as_many_lesions_as_random_points_do():
    mask = np.zeros((SIZE, SIZE), bool)
    mask[20:40, 20:40] = mask[70:110, 30:100] = True
    maps = np.tile(points((0.9, 5, 5)), (2, 1, 1))
    expected = scored(maps, np.array([mask, mask]), np.ones((2, SIZE, SIZE), bool))["chance"]["lesion_sensitivity"]
    rng = np.random.default_rng(0)
    reached = cv2.dilate(mask.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
    _, pieces = cv2.connectedComponents(reached)
    found = []
    for _ in range(3000):
        places = rng.integers(SIZE, size=(rng.poisson(1 / (1 - reached.mean())), 2))
        hit = set(pieces[places[:, 0], places[:, 1]]) - {0}
        found.append(len(hit) / 2)
    assert expected == pytest.approx(np.mean(found), abs=0.02)


def test_pointing_has_wilson_s_interval():
    maps = np.array([points((0.9, 45, 45)), points((0.9, 100, 100)), points((0.9, 50, 50)), points((0.9, 45, 50))])
    result = scored(maps, squares())["pointing"]
    expected = stats.binomtest(3, 4).proportion_ci(method="wilson")
    assert (result.value, result.low, result.high) == pytest.approx((0.75, expected.low, expected.high))


def test_photographs_without_the_finding_count_as_negative():
    masks = squares()
    masks[2:] = False
    result = scored(squares(), masks)
    assert (result["n"], result["showing"]) == (COUNT, 2)
    assert result["dice"].value == 1
    assert result["pointing"].value == 1
    assert result["average_precision"].value == 0.5
    assert result["lesion_sensitivity"].value == 1, "one false positive in two photographs"


def test_one_photograph_that_shows_it_says_nothing():
    masks = squares()
    masks[1:] = False
    result = scored(squares(), masks)
    assert values(result) == dict.fromkeys(localisation.SCORES)
    assert result["reason"] == "two photographs that show the finding are needed (1 of 4)"


def test_a_photograph_without_a_field_does_not_disturb():
    fields = EVERYWHERE.copy()
    fields[3] = False
    result = scored(squares(), squares(), fields)
    assert (result["showing"], result["dice"].value) == (3, 1)


def test_scores_without_a_threshold_and_without_lesions():
    result = scored(squares(), squares(), threshold=None, lesions=False)
    assert (result["dice"], result["lesion_sensitivity"], result["lesions"]) == (Interval(None), Interval(None), None)
    assert result["best_dice"].value == 1


@pytest.mark.parametrize(("shape", "value"), [((3, 8, 8), 0.5), ((4, 1, 8, 8), 0.5), ((4, 8, 8), np.nan)])
def test_maps_that_cannot_be_scored_are_refused(shape, value):
    with pytest.raises(ValueError, match=r"localisation: (maps of shape .* for 4 photographs|a map holds NaN)"):
        scored(np.full(shape, value), squares())


@pytest.fixture
def eyes():
    """Eight photographs of which half belongs to the test split, with a square of exudate and an unmarked one."""
    pixels = np.zeros((8, SIZE, SIZE, 3), np.uint8)
    for picture in pixels:
        cv2.circle(picture, (SIZE // 2, SIZE // 2), SIZE // 2 - 2, (90, 60, 30), -1)
    masks = np.concatenate([squares(), squares(row=60)])
    known = np.array([True] * 7 + [False])
    found = {"exudate": masks, "disc": masks.copy(), "drusen": np.zeros_like(masks)}
    splits = ["train"] * 4 + ["test"] * 4
    looked = {"exudate": known, "disc": np.ones(8, bool), "drusen": np.arange(8) < 1}
    return Marks("eyes", pixels, [f"{place}" for place in range(8)], splits, found, looked, [])


def test_every_split_and_finding_has_a_result(eyes):
    maps = {finding: mask.astype(np.float32) for finding, mask in eyes.masks.items()}
    results = localisation.evaluate(eyes, maps, {"exudate": 0.5}, seed=1, resamples=50)
    assert [(one["dataset"], one["finding"], one["split"], one["n"], one["showing"]) for one in results] == [
        ("eyes", "exudate", "test", 3, 3),
        ("eyes", "disc", "test", 4, 4),
        ("eyes", "exudate", "train", 4, 4),
        ("eyes", "disc", "train", 4, 4),
        ("eyes", "drusen", "train", 1, 0),
    ]
    assert results[0]["dice"].value == results[0]["lesion_sensitivity"].value == 1
    assert results[1]["dice"] == results[1]["lesion_sensitivity"] == Interval(None), "no threshold; not a lesion"
    assert results[4]["reason"]


def test_unknown_marks_are_left_out(eyes):
    maps = {"exudate": eyes.masks["exudate"].astype(np.float32)}
    before = localisation.evaluate(eyes, maps, {"exudate": 0.5}, 1, 50)
    maps["exudate"][7] = np.random.default_rng(0).random((SIZE, SIZE))
    assert localisation.evaluate(eyes, maps, {"exudate": 0.5}, 1, 50) == before


def test_what_lies_off_the_retina_does_not_count(eyes):
    maps = {"exudate": eyes.masks["exudate"].astype(np.float32)}
    before = localisation.evaluate(eyes, maps, {"exudate": 0.5}, 1, 50)
    maps["exudate"][:, :8, :8] = 2
    assert localisation.evaluate(eyes, maps, {"exudate": 0.5}, 1, 50) == before


def test_results_are_written_as_json(eyes, tmp_path):
    maps = {finding: mask.astype(np.float32) for finding, mask in eyes.masks.items()}
    results = localisation.evaluate(eyes, maps, {"exudate": 0.5}, seed=1, resamples=50)
    runs.write_json(tmp_path / "numbers.json", {"localisation": results})
    back = json.loads((tmp_path / "numbers.json").read_text())["localisation"]
    assert [Interval.of(one["dice"]) for one in back] == [one["dice"] for one in results]
    assert back[0]["chance"] == results[0]["chance"]


def test_the_finding_of_a_bad_map_is_named(eyes):
    maps = {"exudate": np.full((8, 4, 4), np.inf, np.float32)}
    with pytest.raises(ValueError, match="eyes, exudate: a map holds NaN or is infinite"):
        localisation.evaluate(eyes, maps, {}, 1)


def test_twenty_seven_large_photographs_take_seconds():
    maps, masks = noisy(5, 27, 768)
    begun = time.process_time()
    localisation.scores(maps, masks, np.ones_like(masks), 0.01, np.random.default_rng(0))
    assert time.process_time() - begun < 20, "in truth about 2; a loop over pixels or a sort a resample takes minutes"
