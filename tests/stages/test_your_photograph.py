"""Photographs that nobody has labelled: which are taken, which are refused, what is said of the others."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from visionclip import conditions, runs
from visionclip.evaluation import reference
from visionclip.evaluation.evidence import Rule
from visionclip.evaluation.intervals import Interval
from visionclip.evaluation.reference import Reference, Worth
from visionclip.models import visionclip
from visionclip.stages import your_photograph
from visionclip.stages.your_photograph import Examined, Predicted

GOOD, POOR = Interval(0.9, 0.85, 0.95), Interval(0.55, 0.5, 0.6)


def worth(auc, cut):
    return Worth(auc, 400, 40, cut, 0.5, 1.0, -2.0)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Drawn eyes that stand in, a black picture, and no picture at all."""
    folder = tmp_path_factory.mktemp("given")
    paths = your_photograph.stand_ins(folder, 96, 0)
    cv2.imwrite(str(folder / "x black.png"), np.zeros((96, 96, 3), np.uint8))
    (folder / "y broken.jpg").write_bytes(b"not a picture")
    return [*paths, folder / "x black.png", folder / "y broken.jpg"]


@pytest.fixture(scope="module")
def model():
    return visionclip.load(runs.ROOT / "weights/visionclip")


@pytest.fixture(scope="module")
def beside():
    """Rules that see retinopathy in every picture and would see glaucoma, of which the model knows nothing."""
    rule = Rule((0.0, 1.0), None, 0.001, 5.0, 0.9, 0.9)
    rules = {"dr_grade>=1": rule, "dr_grade>=2": rule, "gc>=1": rule, "em>=1": rule, "eye_side>=1": rule}
    known = {"dr_grade>=1": worth(GOOD, 1.0), "dr_grade>=2": worth(GOOD, 1.0), "gc>=1": worth(POOR, 1.0)}
    embeds = np.eye(4, 128, dtype=np.float32)
    eyes = [conditions.complete({"gc": 1}), *[conditions.complete({}) for _ in range(3)]]
    drawn = embeds, eyes, np.zeros((4, 72, 72, 3), np.uint8)
    return Reference("weights", ["en"], 1, rules, known, ["clinic"], *drawn, {"haemorrhage": 0.0})


@pytest.fixture(scope="module")
def examined(model, beside, given):
    network, tokenizer, processor = model
    return your_photograph.examine(network, tokenizer, processor.size, beside, given)


def test_what_is_no_retina_is_refused_with_the_reason(examined):
    *eyes, black, broken = examined
    assert not any(eye.refused for eye in eyes)
    assert black.refused == ["the picture is black"]
    assert "y broken.jpg" in broken.refused[0]
    assert broken.sentence.startswith("not read: ")
    assert not black.predicted


def test_what_is_seen_is_said_in_both_languages_with_its_worth(examined):
    eye = examined[0]
    assert [one.condition for one in eye.seen] == ["dr_grade>=2"], "of grades the highest, never by chance"
    assert "中度及以上糖尿病视网膜病变" in eye.sentence
    assert "diabetic retinopathy, moderate or worse" in eye.sentence
    by_name = {one.condition: one for one in eye.predicted}
    assert "eye_side>=1" not in by_name
    assert by_name["dr_grade>=1"].probability == pytest.approx(1 / (1 + np.exp(2 - by_name["dr_grade>=1"].logit)))
    assert by_name["dr_grade>=1"].believed == (
        "AUC 0.90 [0.85, 0.95] on 400 photographs, 40 with it; finds 50% of these and "
        "flags 10% of the others, so that 36% of flags are right"
    )
    several = {"idrid": GOOD, "odir_dev": POOR}
    apart = replace(by_name["dr_grade>=1"], worth=replace(worth(GOOD, 1.0), by_set=several))
    assert f"40 with it, on odir_dev alone {POOR:.2f}; finds" in apart.believed
    assert by_name["gc>=1"].believed.startswith("too weak to be stated (lower limit of AUC not above 0.6)")
    assert not by_name["gc>=1"].seen
    assert by_name["em>=1"].probability is None
    assert not by_name["em>=1"].seen
    assert by_name["em>=1"].believed == "not measured on photographs"


@pytest.mark.parametrize(
    ("probabilities", "stated"),
    [((0.9, 0.6, 0.3), "dr_grade>=2"), ((0.9, 0.6, 0.5), "dr_grade>=3"), ((0.4, 0.3, 0.2), "dr_grade>=1")],
)
def test_of_grades_the_highest_that_is_likelier_than_not_is_stated(probabilities, stated):
    grades = [Predicted(f"dr_grade>={place + 1}", 1.0, one, None, True) for place, one in enumerate(probabilities)]
    other = Predicted("gc>=1", 1.0, 0.2, None, True)
    eye = Examined("a", [], predicted=[*grades, other, Predicted("dr_grade>=4", 1.0, 0.9, None, False)])
    assert [one.condition for one in eye.seen] == [stated, "gc>=1"]


def test_the_summary_has_all_that_is_seen_and_then_the_likeliest():
    seen = [Predicted(f"{key}>=1", 1.0, 0.1, None, True) for key in ("gc", "em", "pm", "amd", "dme", "rvo")]
    rest = [Predicted("htr>=1", 1.0, 0.9, None, False), Predicted("aon>=1", 1.0, None, None, False)]
    few = [Predicted("gc>=1", 1.0, None, None, False), Predicted("em>=1", 1.0, 0.7, None, False)]
    eyes = [Examined("a", [], predicted=rest + seen), Examined("b", ["black"]), Examined("c", [], predicted=few)]
    summary = your_photograph.summary(your_photograph.table(eyes))
    assert list(summary["photograph"]) == ["a"] * 6 + ["b"] + ["c"] * 2
    assert list(summary["seen"]) == ["yes"] * 6 + ["–"] * 3
    assert list(summary["condition"][6:]) == ["black", "epiretinal membrane", "glaucoma"]
    assert list(summary["probability"][6:]) == ["–", "0.70", "–"]


def test_maps_are_of_the_findings_and_paint_the_picture(examined):
    eye = examined[0]
    assert eye.maps.shape == (len(conditions.FINDINGS), 96, 96)
    assert eye.overlay.shape == eye.picture.shape
    assert eye.findings, "severe retinopathy shows some"
    assert all(len(pair) == 2 for pair in eye.findings)
    assert len(eye.nearest) == your_photograph.NEAREST
    assert {words for _, words, _ in eye.nearest} <= {"glaucoma", "healthy"}


def test_a_lesion_is_found_where_healthy_photographs_seldom_show_as_much(model, beside, given):
    network, tokenizer, processor = model
    cuts = dict.fromkeys(your_photograph.LESIONS, 1e9) | {"drusen": -1e9}
    eyes = your_photograph.examine(network, tokenizer, processor.size, replace(beside, findings=cuts), given[:2])
    assert [eye.found for eye in eyes] == [["drusen"]] * 2
    assert eyes[0].findings == [("玻璃膜疣", "drusen")]
    (eye,) = your_photograph.examine(network, tokenizer, processor.size, replace(beside, findings={}), given[:1])
    assert not eye.found, "what nobody measured is not named"


def test_without_a_reference_nothing_is_predicted_and_maps_are_shown(model, given):
    network, tokenizer, processor = model
    (eye,) = your_photograph.examine(network, tokenizer, processor.size, None, given[:1])
    assert (eye.predicted, eye.nearest) == ([], [])
    assert eye.sentence.startswith("nothing is said: "), "which is not that nothing is seen"
    assert eye.maps.any()
    assert your_photograph.conclusion([eye], True).endswith("none was refused; of the rest nothing is said.")


def test_the_table_has_a_row_for_each_photograph_and_condition(examined):
    table = your_photograph.table(examined)
    assert len(table) == 4 * len(your_photograph.STANDING_IN) + 2
    assert table["refused"].ne("").sum() == 2
    rows = your_photograph.records(table)
    assert rows[-1]["condition"] is None
    assert all(row["probability"] is None or 0 <= row["probability"] <= 1 for row in rows)
    said = your_photograph.conclusion(examined, True)
    assert said.startswith("Of 5 drawn eyes that stand in for photographs 2 were refused; seen in the rest: diabetic")


def test_photographs_are_files_or_those_of_a_folder(given, tmp_path):
    folder = given[0].parent
    assert your_photograph.find(folder) == sorted(given)
    assert your_photograph.find([given[1], given[0]]) == [given[1], given[0]]
    with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder; give photographs"):
        your_photograph.find("nowhere")
    with pytest.raises(FileNotFoundError, match="no picture there"):
        your_photograph.find(tmp_path)


def test_an_upload_stays_in_its_folder(tmp_path):
    uploaded = [{"name": name, "content": memoryview(name.encode())} for name in ("../../a.png", "a.png", "..")]
    paths = your_photograph.keep_uploads(uploaded, tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == ["1/a.png", "2/a.png", "3/upload"]
    assert [path.read_bytes() for path in paths] == [b"../../a.png", b"a.png", b".."]


def test_a_dark_or_soft_picture_is_remarked():
    eye = np.zeros((96, 96, 3), np.uint8)
    cv2.circle(eye, (48, 48), 45, (90, 50, 20), -1)
    soft = "the picture is soft: small lesions can't be seen in it"
    assert your_photograph.remarks(eye) == [soft]
    assert your_photograph.remarks(eye // 3) == ["the picture is dark", soft]
    sharp = eye + np.where(eye > 0, np.random.default_rng(0).integers(0, 20, eye.shape), 0).astype(np.uint8)
    assert your_photograph.remarks(sharp) == []
    assert your_photograph.remarks(0 * eye) == ["no field of view is found"]


def test_every_condition_has_words_in_both_languages():
    assert your_photograph.named("gc>=1") == ("青光眼", "glaucoma")
    assert your_photograph.named("dr_grade>=4") == ("增殖期糖尿病视网膜病变", "diabetic retinopathy, proliferative")
    assert your_photograph.drawn_with({"dr_grade": 3, "dme": 1, "gc": 0}) == (
        "severe diabetic retinopathy, diabetic macular edema"
    )
    assert reference.SPECIFICITY == 0.9, "the page says nine of ten"
