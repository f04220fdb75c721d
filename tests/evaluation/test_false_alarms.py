"""What healthy eyes are taken for: who is healthy, what exceeds a limit of phantoms, and which eyes to look at."""

import numpy as np
import pandas
import pytest
import torch

from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import ClassOf, Dataset, Task
from visionclip.evaluation import evidence, false_alarms
from visionclip.evaluation.false_alarms import Limit
from visionclip.models import visionclip


def drawn(eyes):
    count = len(eyes)
    names = [str(number) for number in range(count)]
    return LabelledImages(np.zeros((count, 8, 8, 3), np.uint8), eyes, ["phantom"] * count, names)


def photographs(**tasks):
    """Four eyes: of each task the facts of its classes, and which class each eye is of."""
    made = [
        Task(name, False, [ClassOf(str(place), facts) for place, facts in enumerate(classes)], np.array(targets))
        for name, (classes, targets) in tasks.items()
    ]
    return Dataset("clinic", "train", drawn([{}] * 4), made)


def table(**columns):
    return pandas.DataFrame({name: np.array(own, float) for name, own in columns.items()})


GRADES = [[{"dr_grade": 0}], [{"dr_grade": 1}], [{"dr_grade": 2}]]
REFERABLE = [[{"dr_grade": 0}, {"dr_grade": 1}], [{"dr_grade": 2}]]


def test_healthy_is_what_every_task_lets_be_healthy():
    """Not referable is not yet healthy, where the grade is known; an eye without a class may have anything."""
    assert false_alarms.healthy(photographs(referable=(REFERABLE, [0, 0, 1, 0]))) == [0, 1, 3]
    both = photographs(referable=(REFERABLE, [0, 0, 1, 0]), grade=(GRADES, [0, 1, 2, 0]))
    assert false_alarms.healthy(both) == [0, 3]
    named = photographs(
        normal=([[{"gc": 1}, {"amd": 1}], [{}]], [0, 1, -1, 1]), gc=([[{"gc": 0}], [{"gc": 1}]], [0] * 4)
    )
    assert false_alarms.healthy(named) == [1, 3]
    assert false_alarms.healthy(photographs()) == []


def test_the_limit_is_that_of_healthy_phantoms():
    values = np.r_[np.arange(21.0), 100.0, 200.0]
    eyes = drawn([{"eye_side": 1}] * 21 + [{"dr_grade": 2}, {"gc": 1}])
    limit = false_alarms.limits(table(exudate=values), eyes, 0.9)["exudate"]
    assert (values[:21] > limit.value).sum() == 2  # of 21, the tenth that may exceed it
    assert limit.spread == pytest.approx(values[:21].std(ddof=1))
    with pytest.raises(ValueError, match="9 healthy phantoms; give at least 10"):
        false_alarms.limits(table(exudate=values[12:]), eyes.take(range(12, 23)))


def test_fresh_healthy_phantoms_exceed_it_as_often_as_the_specificity_leaves():
    rng = np.random.default_rng(0)
    of = false_alarms.limits(table(drusen=rng.normal(3, 2, 4000)), drawn([{}] * 4000), 0.9)
    same, shifted = (
        false_alarms.rates(
            "clinic",
            false_alarms.excess(table(drusen=rng.normal(mean, 2, 400)), of),
            [str(number) for number in range(400)],
        )[0]["exceed"]
        for mean in (3, 5)
    )
    assert same.low < 0.1 < same.high
    assert shifted.low < 0.389 < shifted.high  # P(z > 1.2816 - 1)
    assert shifted.low > same.high


def test_a_finding_is_the_surest_by_spreads_and_only_above_its_limit():
    """Ratios and logits have other units: what counts is by how many spreads each exceeds its own limit."""
    found = table(haemorrhage=[5, 9, 0, 0], ratio=[0.4, 0.9, 0.8, 0.3])
    above = false_alarms.excess(found, {"haemorrhage": Limit(4, 2), "ratio": Limit(0.5, 0.1)})
    assert above["haemorrhage"].tolist() == [0.5, 2.5, -2, -2]
    assert above["ratio"].tolist() == pytest.approx([-1, 4, 3, -2])
    rows = {row["finding"]: row for row in false_alarms.rates("clinic", above, ["a", "b", "c", "d"])}
    assert {name: row["exceed"].value for name, row in rows.items()} == {
        "haemorrhage": 0.5,
        "ratio": 0.5,
        false_alarms.ANY: 0.75,
    }
    assert [row["surest"] for row in rows.values()] == [0.25, 0.5, 0.75]
    assert false_alarms.surest(above, 3) == [
        {"place": 1, "finding": "ratio", "excess": pytest.approx(4)},
        {"place": 2, "finding": "ratio", "excess": pytest.approx(3)},
        {"place": 0, "finding": "haemorrhage", "excess": pytest.approx(0.5)},
    ]


def test_both_eyes_of_a_patient_count_as_one_where_they_agree():
    above = table(scar=np.repeat(np.random.default_rng(0).normal(0, 1, 100), 2))
    alone, paired = (
        false_alarms.rates("clinic", above, [str(number // of) for number in range(200)])[0]["exceed"] for of in (1, 2)
    )
    assert paired.high - paired.low == pytest.approx(np.sqrt(2) * (alone.high - alone.low), rel=0.15)


def test_the_table_has_findings_by_sets_in_their_order():
    above = table(scar=[1, -1], exudate=[-1, -1])
    rows = false_alarms.rates("ODIR", above, ["a", "b"])
    rows += false_alarms.rates("PALM", above, ["a", "b"])
    shown = false_alarms.table(rows)
    assert shown.index.tolist() == ["scar", "exudate", false_alarms.ANY]
    assert shown.columns.tolist() == ["ODIR (n = 2)", "PALM (n = 2)"]
    assert shown.loc["exudate", "PALM (n = 2)"] == "0.00 [0.00, 0.66] (0.00)"
    assert shown.loc["scar", "ODIR (n = 2)"].startswith("0.50 [0.09, 0.91] (0.50)")
    assert false_alarms.rates("none", above.iloc[:0], []) == []
    assert false_alarms.table([]).empty


def test_signs_are_seen_by_the_model(untrained, held_out):
    network, words = untrained
    with pytest.raises(ValueError, match="pyramid"):
        false_alarms.signs(network, words, held_out.pixels[:2], ["en"])
    torch.manual_seed(0)
    finding = visionclip.VisionCLIP(visionclip.sized(8, 1, 64, 16, len(words), pyramid_size=8))
    found = false_alarms.signs(finding, words, held_out.pixels[:20], ["en"])
    assert found.columns.tolist() == list(false_alarms.SIGNS)
    assert len(found) == 20
    assert found[evidence.CUP_TO_DISC].between(0, 1).all()
    assert "vein" not in found
    alone = false_alarms.signs(finding, words, held_out.pixels[17:19], ["en"])
    np.testing.assert_allclose(found.iloc[17:19], alone, rtol=1e-4)


def test_a_picture_shows_the_finding_of_its_own_eye(untrained, held_out, monkeypatch):
    """Of two eyes the first's scar and the second's cup: each map is bright in a corner that is its finding's."""
    lit = {"scar": (slice(8), slice(8)), "cup": (slice(24, 32), slice(24, 32))}
    monkeypatch.setattr(false_alarms.pointing, "name_embeddings", lambda network, tokenizer, names, languages: names)

    def maps(network, pixels, names):
        found = np.zeros((len(pixels), len(names), 32, 32), np.float32)
        for place, name in enumerate(names):
            found[:, place, *lit[name]] = 1
        return found

    monkeypatch.setattr(false_alarms.pointing, "finding_maps", maps)
    pixels = np.full((2, 32, 32, 3), 120, np.uint8)
    shown = false_alarms.pictures(*untrained, pixels, ["scar", evidence.CUP_TO_DISC], ["en"])
    assert all((image == 120).all() for image in shown["image"])
    for picture, name, other in zip(shown["maps"], ("scar", "cup"), ("cup", "scar"), strict=True):
        assert picture.shape == (32, 32, 3)
        red = picture[..., 0].astype(int) - picture[..., 2]
        assert red[lit[name]].mean() > red[lit[other]].mean() + 50
