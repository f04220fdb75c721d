import numpy as np
import pytest

from visionclip.data.labelled import LabelledImages
from visionclip.data.published import PUBLISHED
from visionclip.data.tasks import ClassOf, Dataset, Task
from visionclip.evaluation import metrics, tables
from visionclip.evaluation.evidence import Rule
from visionclip.evaluation.intervals import Interval
from visionclip.evaluation.scoring import PHANTOMS


def result(dataset, auc, **more):
    scores = dict.fromkeys(metrics.SCORES, Interval(0.5, 0.4, 0.6)) | {"auc": auc}
    about = {"dataset": dataset, "task": "gc", "split": "test", "n": 20, "majority_accuracy": 0.6, "chance_aca": 0.5}
    return {**about, **scores, "scaled": {"ece": 0.1, "brier": 0.2}, **more}


def test_scores_stand_with_their_intervals_and_what_trivial_predictions_reach():
    (row,) = tables.score_table([result("clinic", Interval(0.8, 0.7, 0.9), kappa=Interval(None))]).to_dict("records")
    assert list(row) == ["dataset", "task", "n", "AUC", "ACA (chance)", "accuracy (majority)", "macro F1", "QWK"]
    assert (row["dataset"], row["AUC"]) == ("clinic (test)", "0.800 [0.700, 0.900]")
    assert (row["ACA (chance)"], row["accuracy (majority)"]) == (
        "0.500 [0.400, 0.600] (0.500)",
        "0.500 [0.400, 0.600] (0.600)",
    )
    assert row["QWK"] == "–"


def test_results_may_come_from_a_file():
    read = result("clinic", {"value": 0.8, "low": 0.7, "high": 0.9}, kappa=None)
    assert tables.score_table([read])["AUC"].tolist() == ["0.800 [0.700, 0.900]"]
    assert tables.headline([read])[1]["value"] == "0.800 [0.700, 0.900]"
    assert tables.auc_table([read])[["value", "low", "high"]].to_numpy() == pytest.approx(np.array([[0.8, 0.7, 0.9]]))


def test_calibration_stands_before_and_after_the_temperature():
    (row,) = tables.detection_table([result("clinic", Interval(0.8))]).to_dict("records")
    assert (row["ECE"], row["ECE, scaled"], row["Brier, scaled"]) == ("0.500 [0.400, 0.600]", "0.100", "0.200")
    assert row["sensitivity at 90 % specificity"] == "0.500 [0.400, 0.600]"


def located(finding, score, **more):
    names = ("pixel_auc", "average_precision", "pointing", "dice", "lesion_sensitivity")
    scores = dict.fromkeys(names, Interval(score))
    chance = {} if score is None else {"average_precision": 0.01, "dice": 0.02, "lesion_sensitivity": 0.03}
    facts = {"finding": finding, "split": "test", "n": 9, "showing": 4, "lesions": None}
    return {**facts, "chance": chance, **scores, **more}


def test_maps_stand_with_chance_and_those_of_phantoms_name_no_dataset():
    (row,) = tables.localisation_table([located("exudate", 0.7)]).to_dict("records")
    assert list(row.items()) == [
        *(("finding", "exudate"), ("n", "4 of 9"), ("pixel AUC", "0.700")),
        *(("average precision (chance)", "0.700 (0.010)"), ("pointing", "0.700"), ("Dice (chance)", "0.700 (0.020)")),
    ]


def test_what_random_weights_reach_stands_beside_the_maps():
    rows = [located("exudate", 0.7, dataset="clinic"), located("disc", 0.9, dataset="clinic")]
    at_random = [located("exudate", 0.5), located("disc", 0.4)]
    first, second = tables.localisation_table(rows, at_random).to_dict("records")
    assert list(first)[:4] == ["dataset", "finding", "n", "pixel AUC (random weights)"]
    assert first["dataset"] == "clinic (test)"
    assert first["average precision (chance, random weights)"] == "0.700 (0.010, 0.500)"
    assert second["pixel AUC (random weights)"] == "0.900 (0.400)"


def test_where_lesions_were_counted_there_is_the_share_that_is_found():
    counted, anatomy = located("exudate", 0.7, lesions=12), located("disc", 0.9, lesion_sensitivity=Interval(None))
    anatomy["chance"]["lesion_sensitivity"] = None
    first, second = tables.localisation_table([counted, anatomy]).to_dict("records")
    title = "lesions found (chance)"
    assert list(first)[-1] == title
    assert (first[title], second[title]) == ("0.700 (0.030)", "– (–)")


def test_a_finding_that_too_few_photographs_show_is_a_row_of_dashes():
    (row,) = tables.localisation_table([located("exudate", None)]).to_dict("records")
    assert list(row.values()) == ["exudate", "4 of 9", "–", "– (–)", "–", "– (–)"]


def test_maps_of_a_disease_name_it_and_the_method():
    row = {name: value for name, value in located("", 0.7).items() if name != "finding"}
    (shown,) = tables.localisation_table([row | {"disease": "dme", "method": "Grad-CAM"}]).to_dict("records")
    assert list(shown)[:3] == ["disease", "method", "n"]


def test_the_headline_is_a_mean_over_phantoms_and_each_real_task():
    results = [result(PHANTOMS, Interval(value)) for value in (0.6, 0.8, None)]
    lines = tables.headline([*results, result("clinic", Interval(0.8)), result("other", Interval(None))])
    assert lines == [
        {"name": "held-out phantoms, mean AUC", "value": "0.700"},
        {"name": "clinic gc (test), AUC", "value": "0.800"},
        {"name": "other gc (test), AUC", "value": "–"},
    ]
    assert tables.headline([])[0]["value"] == "–"


def test_tables_of_nothing_are_empty():
    for make in (tables.score_table, tables.grade_table, tables.detection_table, tables.auc_table):
        assert len(make([])) == 0
    undefined = tables.auc_table([result("clinic", Interval(None))])
    assert undefined["value"].isna().all()
    assert undefined.dtypes[["value", "low", "high"]].tolist() == [float] * 3


def test_the_published_numbers_stand_with_their_majority():
    table = tables.published_table().set_index("dataset")
    assert set(table["VisionCLIP, accuracy or ACA (unknown)"]) == {"0.431", "0.739", "0.925"}
    assert table.notna().all().all()


def test_every_published_set_is_missing_where_there_is_no_folder(tmp_path):
    table = tables.missing_table(tmp_path / "nothing")
    assert table["folder"].tolist() == [one.folder for one in PUBLISHED]
    assert table.notna().all().all()
    (tmp_path / "empty").mkdir()
    assert len(tables.missing_table(tmp_path / "empty")) == len(PUBLISHED)


def test_rules_are_shown_with_what_they_are_made_of():
    about = (0.0, 1.0)
    rules = {"gc>=1": Rule(about, about, 2.0, 0.5, 0.8, 0.9), "htr>=1": Rule(about, None, 1.0, 0.0, 0.75, 0.5)}
    shown = tables.rule_table(rules)
    assert shown.values.tolist() == [
        ["gc>=1", "sentences and findings", "-0.25", "0.80", "0.90"],
        ["htr>=1", "sentences", "+0.00", "0.75", "0.50"],
    ]


def test_thresholds_of_phantoms_stand_with_what_they_do_on_real_eyes():
    row = {"dataset": "clinic", "split": "test", "task": "gc", "condition": "gc>=1", "threshold": 0.5, "n": 9}
    rates = {"positive": 4, "sensitivity": Interval(0.75, 0.4, 0.9), "specificity": Interval(0.6)}
    (shown,) = tables.threshold_table([row | rates]).to_dict("records")
    assert list(shown.values()) == ["clinic (test)", "gc", "4 of 9", "+0.50", "0.750 [0.400, 0.900]", "0.600"]


def test_evidence_is_shown_beside_the_sentences_alone():
    def rows(*aucs):
        about = {"dataset": "d", "split": "test", "task": "t", "n": 9}
        return [{**about, "auc": Interval(auc), "gain": Interval(auc and auc - 0.5, -0.1, 0.4)} for auc in aucs]

    shown = tables.evidence_table(rows(0.75, None), rows(0.5, None))
    assert shown.columns.tolist() == ["dataset", "task", "n", "sentences", "with findings", "difference"]
    assert shown.values.tolist() == [
        ["d (test)", "t", 9, "0.500", "0.750", "+0.250 [-0.100, +0.400]"],
        ["d (test)", "t", 9, "–", "–", "–"],
    ]


def test_reported_photographs_come_first_and_phantoms_last():
    rows = [result(PHANTOMS, Interval(0.9)), result("a_dev", Interval(0.8), split="development")]
    shown = tables.score_table([*rows, result("clinic", Interval(0.7))])
    assert shown["dataset"].tolist() == ["clinic (test)", "a_dev (development)", f"{PHANTOMS} (test)"]


def test_a_set_is_shown_with_its_patients_its_native_pixels_and_its_classes():
    eyes = LabelledImages(np.zeros((3, 4, 4, 3), np.uint8), [{}] * 3, ["d"] * 3, ["a", "b", "c"], ["p", "p", "q"])
    classes = [ClassOf("no glaucoma", [{"gc": 0}]), ClassOf("glaucoma", [{"gc": 1}])]
    dataset = Dataset("d", "test", eyes, [Task("gc", False, classes, np.array([0, 1, 1]))])
    shown = tables.dataset_table([dataset], {"d": [800, 600, 700]})
    assert shown.values.tolist() == [["d (test)", 3, "2", "600 to 800", "gc", "1 no glaucoma, 2 glaucoma"]]
    assert tables.dataset_table([dataset], {})["pixels"].tolist() == ["drawn"]


def test_what_was_tuned_on_stands_beside_what_is_reported():
    def row(dataset, split, task, auc):
        return {"dataset": dataset, "split": split, "task": task, "n": 9, "auc": Interval(auc)}

    reported = [row("d", "test", "t", 0.75), row("other", "test", "t", 0.6)]
    shown = tables.tuned_table(reported, [row("d", "train", "t", 0.9), row("d", "train", "u", 0.8)])
    assert shown.columns.tolist() == ["dataset", "task", "tuned on", "reported"]
    assert shown.values.tolist() == [["d", "t", "train: 0.900", "test: 0.750"], ["d", "u", "train: 0.800", "–"]]
