"""The sentence of a notebook says its numbers, with intervals, and what can't be said."""

from visionclip.data import folders
from visionclip.evaluation import conclusions, distance, scoring
from visionclip.evaluation.intervals import Comparison, Interval


def judged(**aucs):
    return {name: {"auc": auc} for name, auc in aucs.items()}


def test_labels_are_as_trustworthy_as_over_the_conditions_that_both_have():
    said = conclusions.synthesis(
        judged(**{"eye_side>=1": 1.0}, gc=0.9, pm=0.7, amd=0.1),
        judged(**{"eye_side>=1": 1.0}, gc=0.6, pm=0.8, amd=None),
    )
    assert "mean AUC 0.700 [" in said
    assert "phantoms with 0.800 [" in said
    assert "over 2 conditions, chance 0.5" in said
    assert "; generated eyes stay below 0.75 in glaucoma 0.60." in said
    many = judged(gc=0.6, pm=0.5, amd=0.7, em=0.4, htr=0.3)
    assert "0.30, epiretinal membrane 0.40, pathologic myopia 0.50, glaucoma 0.60 and 1 more." in conclusions.synthesis(
        many, many
    )
    called = {"dr_grade>=1": {"auc": 0.8, "specificity": 0.4}}
    whole = conclusions.synthesis({"dr_grade>=1": {"auc": 0.9, "specificity": 0.85}}, called)
    assert whole.endswith(
        "chance 0.5); 40% of generated eyes without retinopathy are seen as such, 85% of such phantoms."
    )
    assert "No condition" in conclusions.synthesis(judged(gc=0.9), judged(gc=None))


def test_captions_are_counted():
    summary = {"images": 128, "texts": 917, "duplicate_share": 0.104}
    assert "128 images into 917 distinct captions of 337 meanings, with 0 unknown" in conclusions.captions(
        summary, 337, 0
    )


def test_retrieval_has_wilsons_interval():
    said = conclusions.pretraining({"image to text": {"R@5": {"value": 0.5, "chance": 0.141, "n": 100}}}, 1.1)
    assert "Of 100 held-out phantoms 0.500 [0.404, 0.596] have" in said
    assert "chance 0.141" in said
    nothing = {"image to text": {"R@5": {"value": None, "chance": None, "n": 0}}}
    assert conclusions.pretraining(nothing, 1.1).startswith("No description is true")


def scored(dataset, task, auc, split="test"):
    return {"dataset": dataset, "task": task, "split": split, "n": 20, "auc": auc}


def test_zero_shot_names_the_lowest_and_the_highest_and_no_set_to_choose_by():
    rows = [scored("held-out phantoms", "gc", Interval(0.8)), scored("held-out phantoms", "pm", Interval(0.9))]
    assert conclusions.zero_shot(rows).startswith("Without photographs nothing is said of real eyes")
    rows += [scored("a", "gc", Interval(0.6, 0.5, 0.7)), scored("b", "referable_dr", {"value": 0.7})]
    rows += [scored("c_dev", "gc", Interval(0.99), "development"), scored("a", "amd", Interval(None))]
    said = conclusions.zero_shot(rows)
    assert "AUC is 0.600 [0.500, 0.700] (a, glaucoma, n 20) to 0.700 (b, referable retinopathy, n 20), over 2" in said
    assert "mean AUC is 0.850 over 2 tasks (0.800 to 0.900)" in said


def test_failures_are_of_reported_photographs():
    row = {"dataset": "clinic", "split": "test", "task": "referable_dr", "condition": "dr_grade>=2", "positive": 63}
    rows = [row | {"sensitivity": Interval(0.65, 0.5, 0.8)}, row | {"sensitivity": Interval(0.9)}]
    rows += [row | {"split": "development", "sensitivity": Interval(0.1)}]
    grade = {"dataset": "clinic", "split": "test", "task": "dr_grade"}
    grades = [{**grade, "grade": name, "predicted": count} for name, count in (("none", 9), ("mild", 0), ("severe", 0))]
    said = conclusions.failures(rows, grades)
    assert "finds 0.650 [0.500, 0.800] of 63 eyes with moderate retinopathy or worse (clinic)" in said
    assert said.endswith("of the 3 classes of retinopathy grade (clinic) the likeliest is never mild or severe.")
    assert conclusions.failures(rows[2:], []) == ""


def arm(name, value, p=None, difference=None):
    against = (
        None if difference is None else Comparison(Interval(difference, difference - 0.01, difference + 0.01), p, p)
    )
    return {"arm": name, "task": "mean", "auc": Interval(value, value - 0.1, value + 0.1), "against": against}


def test_transfer_names_the_part_that_costs_most_and_how_far_phantoms_are_from_photographs():
    assert conclusions.transfer([], [], "everything").startswith("Without photographs")
    drawn = [{**one, "task": "held-out phantoms"} for one in (arm("everything", 0.7), arm("other", 0.5, 0.5, -0.2))]
    assert conclusions.transfer(drawn, [], "everything").startswith("Without photographs")
    rows = [arm("everything", 0.7), arm("no maps", 0.6, 0.01, -0.1), arm("other", 0.5, 0.5, -0.2)]
    far = [{"first": "phantoms", "auc": Interval(0.95)}, {"first": "a", "auc": Interval(0.6)}]
    said = conclusions.transfer(rows, far, "everything")
    assert "Of 2 parts or choices 1 matter by more than chance, after Holm's correction: with" in said
    assert "0.700 [0.600, 0.800], with no maps it changes by -0.100 [-0.110, -0.090]" in said
    assert "phantoms are told from photographs with AUC 0.95 to 0.95" in said
    alone = conclusions.transfer([arm("everything", 0.7), arm("no maps", 0.5, None, -0.2)], [], "everything")
    assert alone.startswith("Of 1 part or choice none was tested: with everything")


def test_maps_are_held_against_marks_and_without_any_against_masks():
    def row(dataset, finding, value):
        return {"dataset": dataset, "finding": finding, "split": "test", "average_precision": Interval(value)}

    rows, matrix = [row("phantoms", "disc", 0.9)], [{"dataset": "clinic", "rank": rank} for rank in (1, 3, None)]
    said = conclusions.localisation(rows, matrix, ["test"])
    assert "masks of held-out phantoms" in said
    assert "best of all in 1 of 2 tasks on photographs." in said
    drawn = [*matrix, {"dataset": "held-out phantoms", "rank": 1}]
    both = conclusions.localisation(rows, drawn, ["test"])
    assert both.endswith("1 of 2 tasks on photographs and 1 of 1 task on drawn eyes.")
    chosen = {**row("clinic", "exudate", 0.1), "split": "train"}
    assert "average precision 0.900 (optic disc);" in conclusions.localisation([*rows, chosen], matrix, ["test"])
    unscored = [*rows, row("clinic", "exudate", None)]
    assert "masks of held-out phantoms" in conclusions.localisation(unscored, [], ["test"])
    assert conclusions.localisation(unscored, [], ["test"]).endswith("no task could rank its sentences.")
    rows += [row("clinic", "cotton_wool", 0.2), row("clinic", "exudate", 0.4), row("clinic", "scar", None)]
    said = conclusions.localisation(rows, matrix, ["test"])
    assert "experts' marks on photographs" in said
    assert "0.200 (cotton wool spots) to 0.400 (hard exudates)" in said


def test_names_are_those_of_the_modules_that_give_them():
    assert conclusions.DRAWN == (scoring.PHANTOMS, distance.PHANTOMS)
    assert conclusions.DEVELOPMENT == folders.DEVELOPMENT
