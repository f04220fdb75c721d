"""Findings of maps as sentences: from which peak on they are stated, in which words, and how often they are right."""

import re

import numpy as np
import pytest

from visionclip.evaluation import sentences
from visionclip.evaluation.intervals import Interval


def spots(heights):
    """Maps of 48 cells a side, 0.1 but for a spot of this height."""
    maps = np.full((len(heights), 48, 48), 0.1, np.float32)
    maps[:, 10:13, 20:23] = np.array(heights)[:, None, None]
    return maps


def test_a_peak_is_of_the_cells_that_show_it_most():
    assert sentences.peaks(spots([0.3, 0.9])) == pytest.approx([0.3, 0.9])
    assert sentences.peaks(np.full((1, 4, 4), 0.2)) == pytest.approx([0.2]), "of few cells one"


def test_a_threshold_parts_phantoms_that_show_a_lesion_from_those_that_do_not():
    maps = {name: spots([0.2] * 6 + [0.7] * 6) for name in ("exudate", "disc", "drusen")}
    shown = np.repeat([False, True], 6)
    thresholds = sentences.fit(maps, {"exudate": shown, "disc": shown, "drusen": np.arange(12) < 2})
    assert thresholds == {"exudate": pytest.approx(0.7)}, "anatomy is in every eye, and drusen in too few"
    assert sentences.found({"exudate": spots([0.6, 0.7, 0.8])}, thresholds)["exudate"].tolist() == [False, True, True]
    assert sentences.found({"vessels": spots([0.9])}, thresholds) == {}


def test_maps_that_say_nothing_still_have_a_finite_threshold():
    wrong = {"exudate": spots([0.7] * 6 + [0.2] * 6)}
    assert np.isfinite(sentences.fit(wrong, {"exudate": np.repeat([False, True], 6)})["exudate"])


def test_what_is_there_is_stated_and_what_is_not_denied_in_both_languages():
    facts = {"drusen": 0, "exudate": 1}
    assert sentences.write(facts, "zh") == "可见硬性渗出。未见玻璃膜疣。"
    assert sentences.write(facts, "en") == "Hard exudates are seen. No drusen."
    assert sentences.write({"exudate": 0}, "zh") == "未见硬性渗出。"


def test_several_findings_are_one_list():
    written = sentences.write({"exudate": 1, "haemorrhage": 1, "scar": 1, "drusen": 0, "membrane": 0}, "en")
    seen, unseen = written.lower().rstrip(".").split(". ")
    assert set(re.split(", | and ", seen.removesuffix(" are seen"))) == {"hard exudates", "haemorrhages", "scars"}
    assert set(unseen.removeprefix("no ").split(" or ")) == {"drusen", "preretinal membranes"}
    again = {"membrane": 0, "scar": 1, "drusen": 0, "haemorrhage": 1, "exudate": 1}
    assert sentences.write(again, "en") == written


def test_an_eye_of_which_nothing_is_known_is_not_called_normal():
    assert sentences.write({}, "en") == sentences.write({}, "zh") == "–"
    with pytest.raises(ValueError, match="language"):
        sentences.write({"exudate": 1}, "fr")


def test_sentences_are_held_against_what_is_shown():
    stated = {"exudate": np.array([True, True, False, False]), "drusen": np.ones(4, bool), "scar": np.ones(4, bool)}
    shown = {"exudate": np.array([True, True, True, False]), "drusen": np.ones(4, bool)}
    exudate, drusen = sentences.agreement("clinic", "test", stated, shown)
    assert (exudate["n"], exudate["showing"]) == (4, 3)
    assert (exudate["sensitivity"].value, exudate["specificity"].value) == (pytest.approx(2 / 3), 1)
    assert (drusen["sensitivity"].value, drusen["specificity"]) == (1, Interval(None))
    row, _ = sentences.agreement_table([exudate, drusen]).to_dict("records")
    assert (row["dataset"], row["n"], row["sensitivity"][:5]) == ("clinic (test)", "3 of 4", "0.667")
    assert sentences.agreement("clinic", "all", {"exudate": np.zeros(0, bool)}, shown) == []
