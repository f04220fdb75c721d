"""The distance of drawn eyes to photographs: half where both are drawn from one distribution, one where it shows."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import Dataset
from visionclip.evaluation import distance
from visionclip.evaluation.intervals import Interval

SIDE = 64


def eyes(count, seed, noise=12.0, tint=(150, 90, 50), radius=28, groups=()):
    """Discs of one colour with noise, in a black surround."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    field = (rows**2 + columns**2 < radius**2)[..., None]
    colours = np.array(tint) + rng.normal(0, 8, (count, 1, 1, 3))
    pixels = (colours + rng.normal(0, noise, (count, SIDE, SIDE, 3))).clip(0, 255) * field
    names = [str(number) for number in range(count)]
    return LabelledImages(pixels.astype(np.uint8), [{}] * count, ["eye"] * count, names, list(groups))


def photographs(images):
    return Dataset("clinic", "train", images, [])


def of(images, name):
    return distance.statistics(images.pixels)[name].mean()


def test_there_are_21_named_statistics():
    found = distance.statistics(eyes(3, 0).pixels)
    assert found.shape == (3, 21)
    assert len(set(found.columns)) == 21
    assert np.isfinite(found.to_numpy()).all()
    assert np.isfinite(distance.statistics(np.zeros((1, SIDE, SIDE, 3), np.uint8)).to_numpy()).all()


def test_statistics_are_what_they_are_called():
    plain = eyes(6, 0, noise=0, tint=(200, 100, 50))
    assert of(plain, "red mean") == pytest.approx(200, rel=0.15)  # with the rim, which is darker
    assert of(plain, "saturation") == pytest.approx(0.75, abs=0.08)
    assert of(plain, "red bright end") == pytest.approx(200, abs=12)
    assert of(plain, "field share") == pytest.approx(np.pi * 28**2 / SIDE**2, rel=0.12)
    noise, blurred = eyes(6, 0, noise=20), eyes(6, 0, noise=20)
    blurred = replace(blurred, pixels=np.array([cv2.GaussianBlur(one, (0, 0), 2) for one in blurred.pixels]))
    assert of(plain, "gradient") < 1 < of(blurred, "gradient") < of(noise, "gradient") / 2
    assert of(noise, "green dark end") < of(noise, "green mean") - 20 < of(noise, "green bright end") - 40
    assert of(noise, "middle contrast") > 2 * of(blurred, "middle contrast")
    assert of(eyes(6, 0, radius=20), "field share") < of(plain, "field share")


def test_a_broad_structure_shows_in_the_coarse_contrast_and_not_in_the_fine_one():
    waves = eyes(2, 0, noise=0)
    broad = 20 * np.sin(2 * np.pi * np.arange(SIDE) / 16)[None, :, None]
    lit = replace(waves, pixels=np.where(waves.pixels > 0, waves.pixels + broad, 0).clip(0, 255).astype(np.uint8))
    gained = {scale: of(lit, f"{scale} contrast") - of(waves, f"{scale} contrast") for scale in distance.SCALES}
    assert gained["coarse"] > 3 * gained["middle"]
    assert gained["coarse"] > 8
    assert gained["fine"] < 1


def test_what_is_drawn_from_one_distribution_cannot_be_separated():
    """Of intervals that are a little narrow, as of one fit, most hold 0.5."""
    aucs, numbers = [], [str(number) for number in range(120)]
    for seed in range(12):
        drawn, real = np.random.default_rng(seed).normal(size=(2, 60, 21))
        aucs.append(distance.separability(drawn, real, numbers, 0, 100))
    assert np.mean([one.value for one in aucs]) == pytest.approx(0.5, abs=0.05)
    assert sum(one.low < 0.5 < one.high for one in aucs) >= 8


@pytest.mark.parametrize("change", [{"noise": 20}, {"tint": (150, 130, 50)}, {"radius": 24}])
def test_what_looks_otherwise_can_be(change):
    rows = distance.evaluate(eyes(60, 0), [photographs(eyes(40, 1, **change)), photographs(eyes(40, 1))], 0, 200)
    assert rows[0]["auc"].value > 0.95
    assert rows[1]["auc"].value < 0.75
    assert [(row["n"], row["photographs"], row["features"]) for row in rows] == [(60, 40, "image statistics")] * 2


def test_a_shift_of_one_spread_has_the_auc_of_two_normal_distributions():
    """The ideal observer's is 0.76 at d' = 1 (Green & Swets 1966)."""
    rng = np.random.default_rng(0)
    drawn, real = rng.normal(0, 1, (400, 3)), rng.normal((1, 0, 0), 1, (400, 3))
    auc = distance.separability(drawn, real, [str(number) for number in range(800)], 0, 200)
    assert (auc.value, auc.high - auc.low) == pytest.approx((0.76, 0.066), abs=0.03)


def test_a_patient_who_is_recognised_separates_nothing():
    """Features that name the patient and nothing else, two photographs of each: they help within a patient alone."""
    rng = np.random.default_rng(0)
    drawn, real = (np.repeat(rng.normal(size=(60, 200)), 2, axis=0) for _ in range(2))
    patients = [f"{number // 2}" for number in range(240)]
    assert distance.separability(drawn, real, patients, 0, 100).value < 0.65
    assert distance.separability(drawn, real, [str(number) for number in range(240)], 0, 100).value > 0.85


def test_the_model_s_features_are_a_row_of_their_own(untrained):
    network, _ = untrained
    drawn, real = eyes(30, 0), eyes(30, 1, radius=18)
    rows = distance.evaluate(drawn, [photographs(real)], 0, 100, network)
    assert [row["features"] for row in rows] == ["image statistics", "features of the model"]
    assert all(row["auc"].value > 0.9 for row in rows)
    table = distance.table(rows)
    assert table.columns.tolist() == ["one", "other", "features", "AUC"]
    assert table["AUC"].tolist() == [str(row["auc"]) for row in rows]


def test_embeddings_are_shown_of_as_many_images_of_each_set_in_one_plane(untrained):
    sets = {"phantoms": eyes(30, 0).pixels, "clinic": eyes(9, 1, radius=18).pixels}
    points = distance.projected(sets, untrained[0], 0, most=20)
    assert points["set"].value_counts().to_dict() == {"phantoms": 20, "clinic": 9}
    assert points[["first", "second"]].mean().abs().max() < 1e-6  # about the middle of all
    assert points["first"].std() >= points["second"].std()
    assert distance.projected(sets, untrained[0], 0, most=20).equals(points)


def test_too_few_patients_have_no_distance_and_sizes_must_agree():
    one_patient = eyes(12, 1, groups=["same"] * 12)
    (row,) = distance.evaluate(eyes(12, 0), [photographs(one_patient)], 0, 100)
    assert row["auc"] == Interval(None)
    small = replace(one_patient, pixels=one_patient.pixels[:, ::2, ::2])
    with pytest.raises(ValueError, match="clinic: phantoms of 64 px, photographs of 32"):
        distance.evaluate(eyes(12, 0), [photographs(small)], 0, 100)


def test_photographs_are_compared_by_halves_and_phantoms_with_what_is_held_out():
    learnt, held_out = eyes(21, 0), eyes(9, 1)
    assert distance.two_of_a_kind(learnt, held_out, photographs=False, seed=0) == (learnt, held_out)
    one, other = distance.two_of_a_kind(learnt, held_out, photographs=True, seed=0)
    assert {len(one), len(other)} == {10, 11}
    assert sorted(one.keys + other.keys) == sorted(learnt.keys)


def test_no_patient_and_no_near_duplicate_is_in_both_halves():
    learnt = eyes(12, 0, groups=[f"patient {place // 2}" for place in range(12)])
    pixels = learnt.pixels.copy()
    pixels[5] = pixels[0]  # patients 2 and 0 share a photograph
    for seed in range(8):
        halves = distance.two_of_a_kind(replace(learnt, pixels=pixels), learnt, photographs=True, seed=seed)
        one, other = ({*half.members} for half in halves)
        assert not one & other
        assert len({"patient 0", "patient 2"} & one) in (0, 2)
        assert min(map(len, halves)) >= 4
