"""Where the model looks: which sets and eyes it is held against, what is kept, and which eyes may be shown."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from visionclip import conditions, runs
from visionclip.data import shards
from visionclip.data.labelled import LabelledImages
from visionclip.data.marks import Marks
from visionclip.evaluation import false_alarms, prompt_matrix, scoring, sentences
from visionclip.evaluation.intervals import Interval
from visionclip.models import visionclip
from visionclip.report import figures
from visionclip.stages import explanation
from visionclip.study.notebooks import execute
from visionclip.text.tokenizer import load_tokenizer

LANGUAGES = ("zh", "en")


@pytest.fixture(scope="module")
def tokenizer(finished):
    return load_tokenizer(finished / "02-captions/tokenizer")


@pytest.fixture(scope="module")
def network(tokenizer):
    torch.manual_seed(0)
    return visionclip.VisionCLIP(visionclip.sized(8, 1, 64, 16, len(tokenizer), pyramid_size=8)).train(False)


@pytest.fixture(scope="module")
def held_out(finished):
    return explanation.with_maps(shards.load(finished / "01-synthesis/validation"))


def draw_set(folder, name, *stems):
    """A set of grey eyes on each of which a spot is an exudate; the last has a mask without any."""
    for place, stem in enumerate(stems):
        picture, mask = np.zeros((2, 80, 80), np.uint8)
        cv2.circle(picture, (40, 40), 36, 120, -1)
        if stem != stems[-1]:
            cv2.circle(mask, (30 + 4 * place, 40), 6, 255, -1)
        for path, drawn in ((f"images/{stem}.png", picture + mask // 3), (f"masks/exudate/{stem}.png", mask)):
            (folder / name / path).parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(folder / name / path), drawn)


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("marks")
    draw_set(folder, "clinic", "test_1", "test_2", "test_3", "train_1", "train_2")
    return explanation.sets(str(folder), 32)


@pytest.fixture(scope="module")
def maps(network, tokenizer, held_out, marked):
    return explanation.find(network, tokenizer, held_out, marked, LANGUAGES, [32, 48], [64])


# --- The model ----------------------------------------------------------------------------------------------------


def test_a_model_without_maps_is_refused_in_one_line(tokenizer, tmp_path):
    visionclip.save(visionclip.VisionCLIP(visionclip.sized(8, 1, 64, 16, len(tokenizer))), tokenizer, 32, tmp_path)
    with pytest.raises(ValueError, match=r"no maps; train 03 with pyramid_size above 0$"):
        explanation.load(tmp_path)


# --- What it is held against --------------------------------------------------------------------------------------


def test_phantoms_without_maps_take_no_part(finished, held_out):
    drawn = shards.load(finished / "01-synthesis/validation")
    assert len(held_out) == drawn.marked.sum() < len(drawn)
    for without in (drawn.without_masks(), drawn.take(np.flatnonzero(~drawn.marked))):
        with pytest.raises(ValueError, match=r"^synthesis: [^\n]* run notebooks/01-synthesis.ipynb anew$"):
            explanation.with_maps(without)


def test_a_set_of_marks_may_not_be_called_as_the_phantoms_are(tmp_path):
    draw_set(tmp_path, explanation.PHANTOMS, "1", "2")
    with pytest.raises(ValueError, match=r"phantoms: results call [^\n]*; rename this set of marks$"):
        explanation.sets(str(tmp_path), 32)


def test_a_variable_names_the_folder_where_the_parameter_is_at_its_default(tmp_path, monkeypatch):
    draw_set(tmp_path, "clinic", "1", "2")
    monkeypatch.setenv("VISIONCLIP_MARKS", str(tmp_path))
    assert [one.name for one in explanation.sets("data/marks", 32)] == ["clinic"]


def test_maps_are_read_at_the_finest_of_the_sizes(maps, held_out, marked):
    assert maps.keys() == {explanation.PHANTOMS, "clinic"}
    assert maps[explanation.PHANTOMS]["exudate"].shape == (len(held_out), 12, 12)
    assert maps["clinic"].keys() == {"exudate"}
    assert maps["clinic"]["exudate"].shape == (5, 16, 16), "fine findings are read at their own sizes in photographs"


def test_results_have_the_shape_that_others_rely_on(maps, held_out, marked):
    rows = explanation.localise(held_out, marked, maps, 0, 20)
    assert [(row["dataset"], row["finding"], row["split"], row["n"]) for row in rows] == [
        ("phantoms", "exudate", "held out", len(held_out)),
        ("clinic", "exudate", "test", 3),
        ("clinic", "exudate", "train", 2),
    ]
    for row in rows[:2]:
        for score in ("pixel_auc", "average_precision", "pointing", "dice"):
            assert 0 <= row[score].low <= row[score].value <= row[score].high <= 1, score
    assert rows[2]["reason"], "one photograph alone shows it"
    assert len({row["threshold"] for row in rows}) == 1, "that of the phantoms"


def test_every_method_is_held_against_the_same_eyes(network, tokenizer, maps, held_out, marked):
    cases = explanation.cases(held_out, marked)
    assert [(case.dataset, case.split, case.disease) for case in cases] == [
        *(("phantoms", "held out", disease) for disease in ("dr_grade", "dme")),
        *(("clinic", "test", disease) for disease in ("dr_grade", "dme")),
    ]
    pixels = {explanation.PHANTOMS: held_out.pixels, "clinic": marked[0].pixels}
    heat = explanation.gradcams(network, tokenizer, cases, pixels, LANGUAGES, 64)
    assert [one.shape for one in heat] == [(len(case.places), 2, 2) for case in cases]
    methods = {"maps": explanation.dense(cases, maps), "Grad-CAM": heat}
    rows = explanation.compare(cases, methods, 0, 20)
    assert [(row["disease"], row["method"]) for row in rows[:2]] == [("dr_grade", "maps"), ("dr_grade", "Grad-CAM")]
    assert [row["n"] for row in rows] == [len(case.places) for case in cases for _ in methods]
    for row, of_phantoms in zip(rows[4:], rows[:4], strict=True):
        assert row["threshold"] == of_phantoms["threshold"]


def test_what_photographs_reach_does_not_choose_their_threshold(marked):
    cases = explanation.cases(clear(), marked)
    assert {case.dataset for case in cases} == {"clinic"}
    rows = explanation.compare(cases, {"maps": [case.masks.astype(np.float32) for case in cases]}, 0, 20)
    assert {row["dice"].value for row in rows} == {None}
    assert {row["best_dice"].value for row in rows} == {1}


def clear():
    """Phantoms on which nothing shows."""
    pixels, masks = np.full((2, 32, 32, 3), 120, np.uint8), np.zeros((2, 1, 8, 8), np.uint8)
    return LabelledImages(pixels, [{"dme": 1}] * 2, ["phantom"] * 2, ["1", "2"], [], masks, ("exudate",))


# --- Pictures -----------------------------------------------------------------------------------------------------


def test_only_sets_whose_owner_lets_them_are_shown_and_with_credit(held_out, marked):
    phantoms = explanation.shown(held_out, marked, 3)
    assert (phantoms.dataset, phantoms.credit, len(phantoms.places)) == (explanation.PHANTOMS, "", 3)
    photographs = explanation.shown(held_out, [*marked, replace(marked[0], name="idrid")], 2)
    assert (photographs.dataset, photographs.credit) == ("idrid", "IDRiD, Porwal et al., CC BY 4.0")


def test_shown_photographs_are_the_richest_of_those_that_chose_nothing():
    masks = {name: np.zeros((4, 16, 16), bool) for name in ("exudate", "haemorrhage", "disc")}
    masks["exudate"][:, 2], masks["haemorrhage"][[0, 2, 3], 4], masks["exudate"][3, 3] = True, True, True
    known = {name: np.ones(4, bool) for name in masks}
    splits = ["train", "test", "test", "test"]
    own = Marks("idrid", np.full((4, 16, 16, 3), 120, np.uint8), [*"abcd"], splits, masks, known, [])
    photographs = explanation.shown(clear(), [own], 3)
    assert photographs.places == [3, 1, 2], "one with blood and exudates, one with exudates alone, then the second"
    assert photographs.masks.shape == (3, 3, 16, 16)


def test_pictures_are_rows_of_a_gallery(network, tokenizer, maps, held_out, marked):
    shown = explanation.shown(held_out, marked, 3)
    rows = explanation.pictures(network, tokenizer, shown, maps[shown.dataset], LANGUAGES, 64)
    assert list(rows) == ["image", "marks", "maps", "Grad-CAM"]
    assert {picture.shape for row in rows.values() for picture in row} == {(32, 32, 3)}
    assert figures.gallery(rows, shown.diseases, credit="by somebody").get_supxlabel() == "by somebody"


def test_an_eye_is_explained_for_a_disease_that_it_has():
    assert explanation._defined({"gc": 1, "amd": 1}) == "amd"
    assert explanation._defined({"htr": 1}) == "dr_grade"


# --- Sentences ----------------------------------------------------------------------------------------------------


def test_eyes_that_are_shown_are_written_in_both_languages(maps, held_out, marked):
    idrid = replace(marked[0], name="idrid")
    shown = explanation.shown(held_out, [idrid], 5)
    peaks = sentences.peaks(maps["clinic"]["exudate"])[shown.places]
    table = explanation.written(shown, maps["clinic"], {"exudate": float(peaks.max()), "scar": 0.5})
    assert table["eye"].tolist() == [1, 2, 3, 4, 5]
    assert table["marked"].tolist() == ["Hard exudates are seen."] * 4 + ["–"]
    surest = int(peaks.argmax())
    assert table["maps"][surest] == "Hard exudates are seen."
    assert table["maps, in Chinese"][surest] == "可见硬性渗出。"
    assert table["maps, in Chinese"][int(peaks.argmin())] == "未见硬性渗出。"
    assert set(explanation.written(shown, maps["clinic"], {})["maps"]) == {"–"}


def test_sentences_are_held_against_masks_and_marks(maps, held_out, marked):
    rows = explanation.sentence_rates(held_out, marked, maps, {"exudate": 0.0})
    assert [(row["dataset"], row["split"], row["n"]) for row in rows] == [
        ("phantoms", "held out", len(held_out)),
        ("clinic", "test", 3),
        ("clinic", "train", 2),
    ]
    assert [row["showing"] for row in rows[1:]] == [3, 1]
    assert all(row["sensitivity"].value == 1 for row in rows), "from 0 on every eye shows it"
    drawn = replace(
        held_out, masks=held_out.masks * (np.arange(len(held_out)) % 2)[:, None, None, None].astype(np.uint8)
    )
    assert explanation.sentence_thresholds(drawn, maps).keys() == {"exudate"}
    assert explanation.sentence_thresholds(held_out, maps) == {}, "every phantom shows it"


# --- The index page -----------------------------------------------------------------------------------------------


def test_the_headline_is_of_photographs_that_chose_nothing():
    score = {"pixel_auc": Interval(0.8), "average_precision": Interval(0.3, 0.2, 0.4), "finding": "exudate"}
    rows = [
        {"dataset": name, "split": split, **score}
        for name, split in (("phantoms", "held out"), ("idrid", "train"), ("idrid", "test"))
    ]
    ranked = [{"rank": 1}, {"rank": 4}, {"rank": None}]
    first, second = explanation.headline(rows, ranked)
    assert first == {"name": "idrid exudate (test), average precision", "value": "0.300 [0.200, 0.400]"}
    assert second["value"] == "1 of 2"
    assert explanation.headline(rows[:1], [])[0] == {"name": "phantoms, mean pixel AUC", "value": "0.800"}


def test_the_matrix_of_phantoms_has_every_task_of_two_classes(network, tokenizer, held_out):
    dataset = scoring.phantom_tasks(held_out)
    pairs = prompt_matrix.pairs(network, tokenizer, LANGUAGES)
    embeds = torch.nn.functional.normalize(torch.randn(len(held_out), 16), dim=1)
    rows = prompt_matrix.evaluate(dataset, embeds, pairs, 10.0)
    assert [row["task"] for row in rows] == [task.name for task in scoring.two_class_tasks(dataset)]
    assert prompt_matrix.grid(rows).shape == (len(rows), len(pairs))
    assert all(row["rank"] is not None for row in rows)


# --- The notebooks on folders of one's own ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["04-zero-shot", "07-explanation"])
def test_a_notebook_takes_a_model_that_was_saved_anywhere(name, network, tokenizer, finished, tmp_path):
    visionclip.save(network, tokenizer, 32, tmp_path / "published")
    for dataset in ("clinic", "idrid"):
        draw_set(tmp_path / "marks", dataset, "test_1", "test_2", "test_3")
    given = {"checkpoint": str(tmp_path / "published"), "synthesis": str(finished / "01-synthesis")}
    given |= {"external": str(finished / "eyes"), "out": str(tmp_path / "out"), "resamples": 100}
    own = {"04-zero-shot": {"controls": False}, "07-explanation": {"marks": str(tmp_path / "marks"), "sizes": [0, 64]}}
    execute(runs.ROOT / "notebooks" / f"{name}.ipynb", tmp_path / "executed.ipynb", {**given, **own[name]})
    assert list(runs.read_json(tmp_path / "out/card.json")["inputs"]) == [str(finished / "01-synthesis")]
    numbers = runs.read_json(tmp_path / "out/numbers.json")
    if name == "04-zero-shot":
        assert {row["dataset"] for row in numbers["results"]} == {scoring.PHANTOMS, "clinic"}
    else:
        assert [row["dataset"] for row in numbers["localisation"]] == ["phantoms", "clinic", "idrid"]
        assert numbers["localisation"][2]["dice"].keys() == {"value", "low", "high"}
        assert {row["dataset"] for row in numbers["prompt_matrix"]} == {scoring.PHANTOMS, "clinic"}


# --- Healthy eyes -------------------------------------------------------------------------------------------------


@pytest.fixture
def half_healthy(held_out):
    """The phantoms as if every second one were healthy, and the same eyes as a labelled set that may be shown."""
    eyes = [conditions.complete({"dr_grade": 3 * (place % 2)}) for place in range(len(held_out))]
    drawn = replace(held_out, conditions=eyes)
    return drawn, replace(scoring.phantom_tasks(drawn), name="idrid", split="test")


def test_healthy_photographs_are_held_against_healthy_phantoms(network, tokenizer, half_healthy, monkeypatch):
    drawn, photographs = half_healthy
    monkeypatch.setattr(false_alarms, "FEWEST", 2)
    found = explanation.alarms(network, tokenizer, drawn, [photographs], LANGUAGES)
    assert {row["dataset"] for row in found.rows} == {"idrid (test)"}
    assert {row["n"] for row in found.rows} == {(len(drawn) + 1) // 2}
    assert all(row["exceed"].value <= 0.5 for row in found.rows[:-1]), "these are the eyes that the limits are of"
    assert all(eye["place"] % 2 == 0 for eye in found.surest["idrid"])
    rows, findings, credit = explanation.alarm_pictures(network, tokenizer, [photographs], found, LANGUAGES)
    assert [len(row) for row in rows.values()] == [len(findings)] * 2
    assert "IDRiD" in credit


def test_without_healthy_eyes_or_phantoms_there_are_no_alarms(network, tokenizer, half_healthy, monkeypatch):
    drawn, photographs = half_healthy
    monkeypatch.setattr(false_alarms, "FEWEST", len(drawn))
    for datasets in ([], [photographs]):
        found = explanation.alarms(network, tokenizer, drawn, datasets, LANGUAGES)
        assert (found.rows, found.surest) == ([], {})
    assert explanation.alarm_pictures(network, tokenizer, [photographs], found, LANGUAGES) == ({}, [], "")
