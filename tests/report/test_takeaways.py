"""The sentence of each figure: what it says, what it doesn't where intervals hold chance, and nothing of too little."""

import subprocess
import sys

import numpy as np
import pandas
import pytest

from visionclip.evaluation import generated_share
from visionclip.evaluation.intervals import Comparison, Interval
from visionclip.report import figures, takeaways

CHANCE, ABOVE, BELOW = Interval(0.55, 0.4, 0.7), Interval(0.9, 0.8, 0.95), Interval(0.3, 0.2, 0.4)
UNDEFINED = Interval(None)
LONGEST = 190  # characters


def test_every_sentence_is_of_a_figure():
    own = {
        name
        for name, value in vars(takeaways).items()
        if getattr(value, "__module__", "") == takeaways.__name__ and not name.startswith("_")
    }
    assert own
    assert all(callable(getattr(figures, name)) for name in own)


def test_importing_them_does_not_import_torch():
    source = "import sys, visionclip.report.takeaways; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_loss_falls_or_does_not_to_so_far_above_its_floor():
    falling = [4.0] * 20 + [3.0] * 5 + [1.5] * 20
    assert takeaways.loss_curve(falling) == "The loss falls from 4 to 1.5 (means of the first and last 20 updates)."
    assert "falls from 4 to 1.5, 0.50 above its floor" in takeaways.loss_curve(falling, [1.0] * 45)
    assert "falls from 4 to 1.5, 0.50 above" in takeaways.loss_curve(pandas.Series(falling), pandas.Series([1.0] * 45))
    assert "does not fall, it goes from 1 to 2 (" in takeaways.loss_curve([1.0, 2.0])
    assert takeaways.loss_curve([1.0]) == takeaways.loss_curve([]) == ""


def judged(**aucs: Interval) -> dict[str, dict]:
    return {name: {"auc": auc.value, "low": auc.low, "high": auc.high} for name, auc in aucs.items()}


def test_generated_eyes_show_so_many_conditions_and_one_least():
    generated = judged(gc=CHANCE, amd=ABOVE, dme=UNDEFINED, eye_side=BELOW)
    assert takeaways.fidelity_bars(judged(gc=ABOVE), generated) == (
        "Generated eyes show 1 of 2 conditions above chance by their 95 % intervals; the weakest is glaucoma, AUC "
        "0.550 [0.400, 0.700] (phantoms 0.900)."
    )
    assert takeaways.fidelity_bars({}, judged(gc=CHANCE)).endswith("AUC 0.550 [0.400, 0.700].")
    assert takeaways.fidelity_bars({}, judged(gc=UNDEFINED, eye_side=ABOVE)) == ""


def steps(*scores: Interval, score: str = "KID", names: tuple[str, ...] = ("student, 1", "student, 4")):
    values = [dict(zip((score, f"{score} low", f"{score} high"), vars(one).values(), strict=True)) for one in scores]
    table = pandas.DataFrame([{"NFE": 4**place, **one} for place, one in enumerate(values)], names)
    return table.astype({name: float for name in table if name != "NFE"})


def test_more_evaluations_improve_what_intervals_part():
    far, near, wide = Interval(2.5, 2.2, 2.8), Interval(1.5, 1.2, 1.8), Interval(2.0, 1.0, 3.0)
    assert takeaways.step_curves(steps(far, near)) == (
        "More evaluations improve KID beyond the intervals: 2.5 [2.2, 2.8] in 1, 1.5 [1.2, 1.8] in 4."
    )
    not_apart = "More evaluations do not improve KID beyond the intervals: 2.5 [2.2, 2.8] in 1"
    assert takeaways.step_curves(steps(far, wide)) == f"{not_apart}, at best 2 [1, 3] in 4."
    assert takeaways.step_curves(steps(near, far)).endswith("intervals: 1.5 [1.2, 1.8] in 1.")
    assert takeaways.step_curves(steps(near, near)).endswith("intervals: 1.5 [1.2, 1.8] in 1.")
    several = takeaways.step_curves(steps(far, near, names=("student, 1", "teacher, 4")))
    assert several.endswith("2.5 [2.2, 2.8] in 1 (student), 1.5 [1.2, 1.8] in 4 (teacher).")
    assert takeaways.step_curves(steps(far, UNDEFINED)) == ""


def test_steps_are_judged_downstream_where_seeds_give_limits():
    assert takeaways.DOWNSTREAM == generated_share.DOWNSTREAM
    kid = steps(Interval(2.5, 2.2, 2.8), Interval(1.5, 1.2, 1.8))
    both = kid.join(
        steps(Interval(0.6, 0.55, 0.65), Interval(0.8, 0.7, 0.9), score="AUC downstream").drop(columns="NFE")
    )
    assert takeaways.step_curves(both).startswith("More evaluations improve AUC downstream beyond the intervals: 0.6 [")
    one_seed = kid.join(steps(Interval(0.6), Interval(0.8), score="AUC downstream").drop(columns="NFE"))
    assert takeaways.step_curves(one_seed) == takeaways.step_curves(kid)


def recall(*values: float | None, n: int = 100) -> dict:
    return {"image to text": {f"R@{k}": {"value": one, "chance": 0.1, "n": n} for k, one in enumerate(values)}}


def test_recalls_are_above_chance_or_not():
    assert takeaways.recall_bars(recall(0.1, 0.5, 0.6)) == (
        "2 of 3 recalls are above chance by their 95 % intervals, most image to text, R@2: 0.600 [0.502, 0.691] "
        "against 0.100."
    )
    none = takeaways.recall_bars(recall(0.1, 0.12))
    assert none.startswith(
        "No recall is above chance by its 95 % interval; the nearest to it is image to text, R@1: 0.12"
    )
    assert takeaways.recall_bars(recall(None, n=0)) == ""


def results(**aucs: Interval) -> list[dict]:
    return [{"dataset": "clinic", "split": "test", "task": task, "auc": auc} for task, auc in aucs.items()]


def test_tasks_are_counted_above_and_below_chance_and_sets_to_choose_by_left_out():
    drawn = [{**row, "dataset": "held-out phantoms", "split": "held out"} for row in results(gc=ABOVE)]
    chosen_by = [{**row, "split": "development"} for row in results(amd=ABOVE)]
    assert takeaways.forest([*drawn, *results(gc=CHANCE, amd=ABOVE, dme=BELOW, aon=UNDEFINED), *chosen_by]) == (
        "AUC is above chance by its 95 % interval in 1 of 3 tasks on photographs (1 below it) and 1 of 1 task on drawn "
        "eyes."
    )
    assert takeaways.forest(drawn) == "AUC is above chance by its 95 % interval in 1 of 1 task on drawn eyes."
    assert takeaways.forest(results(gc=CHANCE)).endswith("in 0 of 1 task on photographs.")
    assert takeaways.forest(results(gc=UNDEFINED)) == takeaways.forest([]) == ""


def bins(*rows: tuple[float, Interval]) -> list[dict]:
    return [{"predicted": predicted, "observed": observed} for predicted, observed in rows]


def test_bins_miss_the_diagonal_above_or_below_it():
    ways = {"as it is": bins((0.9, CHANCE), (0.1, CHANCE), (0.6, CHANCE)), "scaled": bins((0.9, CHANCE))}
    assert takeaways.reliability({"clinic: glaucoma": ways}) == (
        "Of 3 bins 2 miss the diagonal as it is (1 of them predicted too high), 1 scaled; of calibrated ones about 1 "
        "in 20 would."
    )
    assert takeaways.reliability({}) == takeaways.reliability({"clinic: glaucoma": {"as it is": []}}) == ""


def test_the_surest_error_is_one_beyond_guessing():
    classes = ["no", "yes"]
    few = np.array([[0, 4], [0, 0]])
    errors = {"sure": (np.array([[20, 0], [36, 4]]), classes), "few": (few, classes)}
    assert takeaways.confusions(errors) == (
        "The surest error is “yes” taken for “no”: 0.900 [0.769, 0.960] of 40 eyes (sure)."
    )
    guessed = {"grade": (np.array([[10, 10], [10, 10]]), classes)}
    assert takeaways.confusions(guessed) == "No class is taken for another more often than by guessing."
    assert takeaways.confusions({"few": (few, classes)}) == takeaways.confusions({}) == ""


def test_the_highest_and_lowest_task_of_a_set_and_whether_it_is_apart_from_chance():
    scored = [*results(gc=ABOVE, amd=CHANCE, dme=BELOW, aon=UNDEFINED)]
    assert takeaways.roc(scored, "clinic", ["gc", "amd", "aon"]) == (
        "Highest is glaucoma, AUC 0.900 [0.800, 0.950]; lowest age-related macular degeneration, AUC 0.550 [0.400, "
        "0.700] (not above chance)."
    )
    assert takeaways.roc(scored, "clinic", ["dme"]) == (
        "The one task is diabetic macular edema, AUC 0.300 [0.200, 0.400] (below chance)."
    )
    assert takeaways.roc(scored, "clinic", ["aon"]) == takeaways.roc(scored, "other", ["gc"]) == ""


def doubling(gain: Interval) -> dict:
    return {"last": vars(gain), "largest": 128}


def test_the_last_doubling_adds_the_least_and_the_most_by_a_law_that_never_falls():
    more, less = doubling(Interval(0.05, 0.01, 0.1)), doubling(Interval(0.02, 0.0, 0.03))
    rises = "By the law, which never falls, AUC rises with the last doubling, to 128 images, by"
    assert takeaways.size_curve({"clinic": less}) == f"{rises} +0.020 [+0.000, +0.030] on clinic."
    assert takeaways.size_curve({"clinic": more, "few": None, "other": less, "again": less}) == (
        f"{rises} +0.020 [+0.000, +0.030] on other to +0.050 [+0.010, +0.100] on clinic."
    )
    assert takeaways.size_curve({"one seed": doubling(Interval(0.02))}) == f"{rises} +0.020 on one seed."
    assert takeaways.size_curve({"few": None}) == takeaways.size_curve({}) == ""


def test_phantoms_and_photographs_are_furthest_apart_in_one_quantity_whichever_is_larger():
    drawn = pandas.DataFrame({"red": np.arange(40.0), "blue": np.arange(40.0)})
    clinic = pandas.DataFrame({"red": np.arange(40.0) - 100, "blue": np.arange(40.0)})
    found = takeaways.distributions({"phantoms": drawn, "clinic": clinic})
    assert found.startswith("Phantoms and photographs are furthest apart in red (clinic), AUC 1.000 [")
    assert ", and nearest in blue (clinic), 0.500 [" in found
    assert takeaways.distributions({"phantoms": drawn}) == ""


def test_features_part_phantoms_from_photographs_beside_photographs_from_each_other():
    rows = [
        {"first": first, "dataset": dataset, "features": features, "auc": auc}
        for first, dataset, features, auc in (
            ("phantoms", "a", "model", ABOVE),
            ("phantoms", "b", "model", CHANCE),
            ("phantoms", "a", "other", BELOW),
            ("a", "b", "model", ABOVE),
        )
    ]
    assert takeaways.scatter(rows, "model") == (
        "The model's features tell phantoms from photographs with AUC 0.550 [0.400, 0.700] (b) to 0.900 [0.800, 0.950] "
        "(a); two sets of photographs with 0.90 to 0.90."
    )
    assert takeaways.scatter(rows[:1], "model").endswith("with AUC 0.900 [0.800, 0.950] (a).")
    assert takeaways.scatter(rows[3:], "model") == takeaways.scatter([], "model") == ""


def test_right_sentences_are_counted_beside_guessing():
    matrix = [
        {"rank": 1, "of": 2, "right": ("gc",), "auc": {"gc": 0.9, "amd": 0.6}},
        {"rank": 2, "of": 2, "right": ("amd",), "auc": {"gc": 0.7, "amd": 0.6}},
        {"rank": None, "of": 2, "right": (), "auc": {"gc": 0.4, "amd": 0.5}},
    ]
    assert takeaways.prompt_matrix(matrix) == (
        "A right sentence is the best of its row in 1 of 2 tasks (1.0 by guessing); most often, in 2 rows, the best is "
        "glaucoma."
    )
    assert takeaways.prompt_matrix(matrix[2:]) == takeaways.prompt_matrix([]) == ""


SURE, UNSURE = (
    Comparison(Interval(-0.05, -0.07, -0.03), 0.001, 0.002),
    Comparison(Interval(0.06, -0.1, 0.22), 0.4, 0.4),
)


def test_arms_differ_after_correction_or_none_does():
    rows = [{"arm": "everything", "dataset": "clinic", "against": None}]
    rows += [{"arm": arm, "dataset": "clinic", "against": one} for arm, one in (("no x", SURE), ("no y", UNSURE))]
    assert takeaways.differences(rows) == (
        "Different from everything by more than chance (Holm): 1 of 2; the widest is no x, clinic, -0.050 [-0.070, "
        "-0.030]."
    )
    assert takeaways.differences([rows[0], rows[2]]) == (
        "Different from everything by more than chance (Holm): none of 1; the widest is no y, clinic, +0.060 [-0.100, "
        "+0.220]."
    )
    assert takeaways.differences([{**rows[1], "against": Comparison(Interval(0.3))}]) == ""
    assert takeaways.differences(rows[:1]) == takeaways.differences([]) == ""


def test_pretraining_is_ahead_only_where_it_gains():
    gains = [
        {"task": "palm gc", "method": "linear probe", "labels": labels, "gain": one}
        for labels, one in ((4, SURE), (40, Comparison(Interval(0.2, 0.1, 0.3), 0.001, 0.002)))
    ]
    assert takeaways.learning_curves(gains) == (
        "Ahead of from scratch by more than chance (Holm): 1 of 2; the widest is linear probe with 40 labels (palm "
        "gc), +0.200 [+0.100, +0.300]."
    )
    assert ": none of 1; the widest is linear probe with 4 labels" in takeaways.learning_curves(gains[:1])
    assert takeaways.learning_curves([{**gains[0], "gain": Comparison(Interval(0.3))}]) == ""
    assert takeaways.learning_curves([]) == ""


def changes(*intervals: Interval) -> list[dict]:
    return [{"corruption": "blur", "strength": place, "change": one} for place, one in enumerate(intervals)]


def test_the_costliest_corruption_is_one_whose_loss_is_sure():
    sure, unsure = Interval(-0.1, -0.2, -0.05), Interval(-0.3, -0.7, 0.1)
    assert takeaways.change_grids({"clinic": changes(sure, unsure)}) == (
        "1 of 2 changes are losses beyond their intervals (1 in 40 would be by chance); blur of strength 0 on clinic "
        "costs most, -0.100 [-0.200, -0.050]."
    )
    assert takeaways.change_grids({"clinic": changes(unsure, Interval(0.1, 0.05, 0.2))}) == (
        "No corruption lowers AUC beyond its interval; the most is blur of strength 0 on clinic, -0.300 "
        "[-0.700, +0.100]."
    )
    assert takeaways.change_grids({"clinic": changes(UNDEFINED)}) == takeaways.change_grids({}) == ""


def test_an_attack_is_above_chance_or_none_is():
    found = Interval(0.1, 0.05, 0.2)
    attacks = {name: {"auc": auc, "tpr": found} for name, auc in (("model", CHANCE), ("of a few", ABOVE))}
    assert takeaways.attack_roc(attacks) == (
        "1 of 2 attacks have an AUC above chance, most “of a few”: AUC 0.900 [0.800, 0.950], 0.100 [0.050, 0.200] of "
        "members at 1 % false alarms."
    )
    none = takeaways.attack_roc({"model": attacks["model"], "other": {"auc": Interval(0.8), "tpr": found}})
    assert none.startswith(
        "No attack has an AUC above chance by its interval; the highest is “other”: AUC 0.800, 0.100"
    )
    assert takeaways.attack_roc({"model": {"auc": UNDEFINED, "tpr": found}}) == takeaways.attack_roc({}) == ""


@pytest.mark.parametrize(
    "sentence",
    [
        takeaways.fidelity_bars(judged(htr=ABOVE), judged(htr=CHANCE)),
        takeaways.forest(results(gc=CHANCE)),
        takeaways.size_curve({"clinic": doubling(ABOVE)}),
        takeaways.change_grids({"held-out phantoms": changes(BELOW, Interval(-0.1, -0.2, -0.05))}),
    ],
)
def test_a_sentence_is_short_and_one(sentence):
    assert 0 < len(sentence) <= LONGEST
    assert sentence.endswith(".")
