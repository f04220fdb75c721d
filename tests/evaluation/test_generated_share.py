"""What generated eyes cost is told set by set, against what is allowed."""

import numpy as np

from visionclip.evaluation import generated_share

SCORES = {
    "everything": {"a": np.array([0.80, 0.82, 0.81]), "b": np.array([0.70, 0.71, 0.72])},
    "half": {"a": np.array([0.81, 0.83, 0.82]), "b": np.array([0.69, 0.70, 0.71])},
    "alone": {"a": np.array([0.80, 0.82, 0.81]), "b": np.array([0.64, 0.65, 0.66])},
    "better": {"a": np.array([0.90, 0.92, 0.91]), "b": np.array([0.80, 0.82, 0.82])},
}


def costs(**shares: float) -> list[dict]:
    return generated_share.costs(SCORES, "everything", shares)


def test_an_arm_is_held_against_the_reference_on_every_set_and_in_the_mean():
    rows = costs(half=0.5, alone=1.0)
    assert [row["dataset"] for row in rows] == [generated_share.MEAN, "a", "b"] * 2
    assert np.allclose([row["difference"].value for row in rows], [0, 0.01, -0.01, -0.03, 0, -0.06])
    assert [row["within"] for row in rows] == [True, True, True, True, True, False]
    assert {row["arm"]: row["allowed"] for row in rows} == {"half": 0.02, "alone": 0.05}


def test_the_table_marks_what_loses_too_much():
    table = generated_share.table(costs(half=0.5, alone=1.0))
    assert list(table.columns) == [generated_share.MEAN, "a", "b"]
    assert table.loc["alone", "b"] == "-0.060 †"
    assert table.loc["half", "b"] == "-0.010"


def test_the_largest_share_loses_little_on_every_set():
    assert generated_share.largest(costs(half=0.5, alone=1.0)) == 0.5
    assert generated_share.largest(costs(alone=1.0)) == 0.0


def test_the_verdict_names_the_worst_set_and_says_whether_anything_is_added():
    said = generated_share.verdict(costs(half=0.5, alone=1.0))
    assert "alone -0.030 (worst set b, -0.060)" in said
    assert "none is better than the renderer alone" in said
    assert said.endswith("AUC on every set, in the mean over seeds, is 50%.")
    said = generated_share.verdict(costs(alone=1.0, better=0.5))
    assert "better is better than the renderer alone, its interval above 0" in said
    assert "every share loses more than 0.02 AUC on some set" in generated_share.verdict(costs(alone=1.0))
    whole = generated_share.verdict(costs(better=0.25, alone=1.0))
    assert "alone -0.030" in whole
    assert "better +" not in whole, "in the table"
    both = generated_share.verdict(costs(alone=1.0, better=1.0))
    assert "alone -0.030" in both
    assert "better +" not in both, "the first arm of each share"
    assert "better is better than the renderer alone" in both, "of all that were tried"
    assert "was not tried" in generated_share.verdict([])


def test_steps_are_followed_to_the_end_of_the_chain():
    measured = {"teacher, 4": {"NFE": 8, "KID": 0.5}, "student, 1": {"NFE": 1, "KID": 0.9}, "student, 4": {"NFE": 4}}
    found = generated_share.by_steps(SCORES, {"better": 4, "half": 1, "alone": 2}, measured)
    assert list(found.index) == ["student, 1", "student, 4"], "what 01 didn't measure is left out"
    assert found["NFE"].tolist() == [1, 4]
    assert np.allclose(found[generated_share.DOWNSTREAM], [0.76, (0.9 + 0.92 + 0.91 + 0.8 + 0.82 + 0.82) / 6])
    assert (found[f"{generated_share.DOWNSTREAM} low"] < found[generated_share.DOWNSTREAM]).all()
    limits = {"KID": 0.41, "KID low": 0.3, "KID high": 0.52, "mean AUC": 0.8, "mean Dice": 0.4, "images/s": 30.0}
    whole = generated_share.by_steps(SCORES, {"half": 1}, {"student, 1": {"NFE": 1, **limits}})
    table = generated_share.steps_table(whole)
    assert list(table.columns) == ["NFE", "mean AUC", "mean Dice", "KID", generated_share.DOWNSTREAM]
    assert table.loc["student, 1", "KID"] == "0.410 [0.300, 0.520]"
    assert generated_share.by_steps(SCORES, {"half": 1}, {}).empty
    one = {arm: {name: values[:1] for name, values in sets.items()} for arm, sets in SCORES.items()}
    assert generated_share.by_steps(one, {"half": 1}, measured)[f"{generated_share.DOWNSTREAM} low"].isna().all()
