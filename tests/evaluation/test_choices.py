"""An arm is chosen by its worst set and by more than noise, and what choosing is worth is seen on the set left out."""

import numpy as np
import pytest

from visionclip.evaluation import choices

SEEDS = np.array([-0.01, 0.0, 0.01])


def arms(spread=SEEDS, **means):
    """Scores of each arm on the sets a, b and c: means over seeds, which are hard for all arms alike."""
    return {arm: dict(zip("abc", np.add.outer(own, spread), strict=True)) for arm, own in means.items()}


def noisy(gains, reference=0.7):
    """A reference, and an arm that gains so much on its worst set under each seed."""
    base = np.full(len(gains), reference)
    return {"reference": {"a": base, "b": base + 0.1}, "arm": {"a": base + gains, "b": base + 0.2}}


def test_an_arm_that_is_best_on_one_set_only_is_not_chosen():
    """Not even where its mean is the highest of all."""
    given = arms(reference=(0.8, 0.8, 0.7), specialist=(1.0, 1.0, 0.65), even=(0.75, 0.75, 0.75))
    assert choices.choose(given, "reference") == "even"
    del given["even"]
    assert choices.choose(given, "reference") == "reference"


@pytest.mark.parametrize(
    ("gains", "chosen"),
    [
        ((0.05, 0.06, 0.055), "arm"),
        ((0.01, 0.012, 0.011), "arm"),  # little, but the same under every seed
        ((0.2, -0.1, 0.08), "reference"),  # the mean gain is 0.06, its interval holds 0
        ((0.05,), "arm"),
        ((0.03,), "reference"),  # within the margin of one training
        ((-0.05, -0.06, -0.055), "reference"),
    ],
)
def test_the_reference_stays_unless_it_is_beaten_by_more_than_noise(gains, chosen):
    given = noisy(np.array(gains))
    assert choices.choose(given, "reference") == chosen
    row = choices.compare(given, "reference")[1]
    assert row["gain"].value == pytest.approx(np.mean(gains))
    assert row["chosen"] == (chosen == "arm")


def test_an_unsure_arm_does_not_hide_a_sure_one():
    given = arms(reference=(0.7, 0.8, 0.8), sure=(0.75, 0.8, 0.8), lucky=(0.8, 0.9, 0.9))
    given["lucky"]["a"] = np.array([0.69, 0.75, 0.99])
    given["sure"]["a"] = np.array([0.741, 0.75, 0.758])
    assert choices.choose(given, "reference") == "sure"


def test_of_equals_on_the_worst_set_the_better_mean_is_chosen():
    given = arms(SEEDS[:1], reference=(0.7, 0.7, 0.7), one=(0.8, 0.8, 0.8), other=(0.8, 0.9, 0.8))
    assert choices.choose(given, "reference") == "other"


def test_a_row_has_mean_and_worst_over_seeds():
    rows = choices.compare(arms(reference=(0.7, 0.8, 0.9), arm=(0.85, 0.8, 0.9)), "reference")
    first, second = rows
    assert (first["mean"].value, first["worst"].value) == pytest.approx((0.8, 0.7))
    assert (second["mean"].value, second["worst"].value) == pytest.approx((0.85, 0.8))
    assert (first["worst set"], second["worst set"]) == ("a", "b")
    assert first["gain"].value is None
    assert second["worst"].low < 0.8 < second["worst"].high
    table = choices.choice_table(rows)
    assert table["chosen"].tolist() == ["", "yes"]
    assert table["gain"].tolist()[0] == "–"
    assert table["gain"].tolist()[1].startswith("+0.100")


def test_the_loss_on_the_set_left_out_is_that_of_a_choice_without_it():
    """By hand: with all sets ``even`` is chosen (0.75 at worst); without c ``specialist`` is, and has 0.5 there."""
    given = arms(reference=(0.7, 0.7, 0.7), specialist=(0.9, 0.9, 0.5), even=(0.8, 0.78, 0.75))
    rows = {row["left out"]: row for row in choices.leave_one_out(given, "reference")}
    assert {row["chosen"] for row in rows.values()} == {"even"}
    assert {name: row["chosen without"] for name, row in rows.items()} == {"a": "even", "b": "even", "c": "specialist"}
    assert rows["c"]["loss"].value == pytest.approx(0.75 - 0.5)
    assert (rows["c"]["score"].value, rows["c"]["score without"].value) == pytest.approx((0.75, 0.5))
    assert (rows["a"]["loss"].value, rows["b"]["loss"].value) == (0, 0)
    table = choices.left_out_table([*rows.values()])
    assert table["loss"].tolist()[:2] == ["+0.000", "+0.000"]
    assert table["loss"].tolist()[2].startswith("+0.250")


def test_a_choice_without_a_set_may_do_better_on_it():
    given = arms(SEEDS[:1], reference=(0.6, 0.6, 0.9), fair=(0.7, 0.7, 0.7), other=(0.65, 0.8, 0.95))
    rows = {row["left out"]: row for row in choices.leave_one_out(given, "reference")}
    assert (rows["a"]["chosen"], rows["a"]["chosen without"]) == ("fair", "other")
    assert rows["a"]["loss"].value == pytest.approx(0.05)


def test_arms_are_compared_on_the_same_sets_and_seeds():
    given = arms(reference=(0.7, 0.8, 0.9), arm=(0.7, 0.8, 0.9))
    with pytest.raises(ValueError, match="no arm 'everything'; there are reference, arm"):
        choices.choose(given, "everything")
    alone = {arm: {"a": own["a"]} for arm, own in given.items()}
    with pytest.raises(ValueError, match="one set alone"):
        choices.leave_one_out(alone, "reference")
    with pytest.raises(ValueError, match="a score of arm is undefined"):
        choices.choose(given | {"arm": given["arm"] | {"c": np.full(3, np.nan)}}, "reference")
    with pytest.raises(ValueError, match="arm lacks a set or a seed"):
        choices.compare(given | {"arm": given["arm"] | {"c": np.zeros(2)}}, "reference")
    del given["arm"]["b"]
    with pytest.raises(ValueError, match="arm lacks a set or a seed"):
        choices.choose(given, "reference")
