"""Whose eyes pretrain: each kind once a seed, no photograph of the scored set among those of the others."""

from dataclasses import replace

import numpy as np
import pytest

import tiny_images
from visionclip import keys
from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import ClassOf, Dataset, Task
from visionclip.stages import fine_tuning, pretrain, small_towers, synthesis, transfer
from visionclip.stages.small_towers import DRAWN, GENERATED, REAL, UNMAPPED

COUNT, SIZE = 16, 32
LABELLED = {0.01: 0.6, 0.05: 0.7, 0.2: 0.8, 1: 0.9}  # AUC by share of the labels


def photographed(name: str, seed: int) -> Dataset:
    """A set of eyes, a third of which no class lists."""
    eyes = transfer.draw(transfer.ARMS[transfer.REFERENCE], COUNT, SIZE, seed, workers=1)
    targets = np.arange(COUNT) % 3 - 1
    task = Task("myopia", False, [ClassOf("no", [{"pm": 0}]), ClassOf("yes", [{"pm": 1}])], targets)
    names = [f"{place}.png" for place in range(COUNT)]
    images = LabelledImages(eyes.pixels, [{} for _ in names], [name] * COUNT, names)
    return Dataset(name, "train", images, [task])


@pytest.fixture(scope="module")
def datasets():
    return [photographed("clinic", 1), photographed("other", 2)]


@pytest.fixture(scope="module")
def pipeline():
    return tiny_images.pipeline(synthesis.draw(8, synthesis.TRAINING, 0, SIZE, 0.1), steps=1)


def towers(folder, datasets, pipeline, kinds=(DRAWN, GENERATED, REAL), **changed):
    return small_towers.Towers(folder, kinds, datasets, COUNT, 1, SIZE, pipeline, **changed)


@pytest.fixture
def learnt(monkeypatch):
    """What each pretraining learnt from."""
    found, learn = [], pretrain.learn

    def noted(images, *given):
        found.append(images)
        return learn(images, *given)

    monkeypatch.setattr(pretrain, "learn", noted)
    return found


def test_photographs_are_those_of_which_something_is_stated(datasets):
    both = small_towers.photographs(datasets, 16)
    assert both.pixels.shape == (len(both), 16, 16, 3)
    assert len(both) == 2 * sum(target >= 0 for target in datasets[0].tasks[0].targets)
    assert {tuple(eye.items()) for eye in both.conditions} == {(("pm", 0),), (("pm", 1),)}
    assert both.keys[0] == "clinic/1.png"
    assert len(set(both.keys)) == len(both), "names of two sets may be the same"
    unknown = replace(datasets[0], tasks=[])
    with pytest.raises(ValueError, match="photographs of another set are needed; leave photographs out, or add a set"):
        small_towers.photographs([unknown], 16)


def test_each_kind_learns_once_a_seed_and_photographs_are_of_other_sets(datasets, pipeline, tmp_path, learnt):
    small = towers(tmp_path, datasets, pipeline)
    first, again, other = small.of("clinic", 0), small.of("clinic", 0), small.of("other", 0)
    assert [one.name for one in first] == [DRAWN, GENERATED, REAL]
    assert first == again
    assert first[:2] == other[:2], "of no set"
    assert len(learnt) == 4
    drawn, generated, of_other, of_clinic = learnt
    assert drawn.conditions == generated.conditions
    assert set(generated.sources) == {synthesis.GENERATED}
    assert set(of_other.sources) == {"other"}
    assert set(of_clinic.sources) == {"clinic"}
    assert keys.weights(small.of("clinic", 1)[0].network) != keys.weights(first[0].network)


def test_one_set_alone_has_no_photographs_of_others(datasets, pipeline, tmp_path):
    small = towers(tmp_path, datasets[:1], pipeline, kinds=(REAL,))
    assert small.of("clinic", 0) == []
    questions = fine_tuning.questions(datasets[:1], ["all"], SIZE)
    assert small_towers.evaluate(tmp_path, questions, small, 2, [0, 1], 0.5, 1, [0]) == []


def test_rows_are_those_of_each_kind_method_and_seed(datasets, pipeline, tmp_path):
    questions = fine_tuning.questions(datasets, ["clinic myopia"], SIZE)
    small = towers(tmp_path / "towers", datasets, pipeline, kinds=(DRAWN, REAL))
    rows = small_towers.evaluate(tmp_path, questions, small, 2, [0, 1], 0.5, 1, [0, 1])
    ran = [(row["seed"], row["method"], row["start"], row["share"]) for row in rows]
    one = [
        (method, kind, float(method != fine_tuning.ZERO_SHOT))
        for method in small_towers.METHODS
        for kind in small.kinds
    ]
    assert ran == [(seed, *of_one) for seed in (0, 1) for of_one in one]
    points = fine_tuning.curves(rows)
    table = small_towers.table(points)
    assert list(table.columns) == [DRAWN, REAL]
    assert len(table) == 3


def row(kind, auc, seed, method=fine_tuning.ZERO_SHOT, share=0.0, task="a"):
    values = (task, method, kind, share, round(100 * share), 10, auc, seed)
    return dict(zip(fine_tuning.ROW, values, strict=True))


def test_what_other_eyes_change_is_of_the_mean_over_tasks_seed_by_seed():
    rows = [row(DRAWN, 0.6 + seed / 100, seed, task=task) for seed in range(3) for task in "ab"]
    rows += [row(REAL, 0.7 + seed / 50, seed, task="a") for seed in range(3)]
    rows += [row(REAL, 0.8 + seed / 100, seed, task="b") for seed in range(3)]
    rows += [row(GENERATED, 0.6 + (seed == 0) / 10, seed, task=task) for seed in range(3) for task in "ab"]
    generated, real = small_towers.differences(rows)
    assert real["difference"].value == pytest.approx(0.155)
    assert real["difference"].low > 0.14
    assert generated["score"].value == pytest.approx(0.61)
    of_generated, of_real = small_towers.verdict([generated, real])
    assert "zero-shot: with drawn eyes the mean AUC over 2 tasks is 0.610" in of_real
    assert "photographs in their place change it by +0.155 [" in of_real
    assert "chance" not in of_real
    assert of_generated.endswith("not by more than chance.")
    some = [one for one in rows if one["start"] != REAL or one["task"] == "a"]
    assert small_towers.differences(some)[1]["difference"].value == pytest.approx(0.11), "of the tasks that both have"
    (alone,) = small_towers.verdict(small_towers.differences([one for one in rows if one["seed"] == 0])[1:])
    assert alone.endswith("one seed, which has no interval.")
    assert small_towers.differences([one for one in rows if one["start"] == REAL]) == []
    assert small_towers.verdict([]) == []


def test_photographs_replace_drawn_eyes_without_maps_too():
    rows = [row(kind, auc, 0) for kind, auc in ((DRAWN, 0.8), (UNMAPPED, 0.6), (REAL, 0.7))]
    found = {(one["eyes"], one["in place of"]): one["difference"].value for one in small_towers.differences(rows)}
    assert found == pytest.approx({(UNMAPPED, DRAWN): -0.2, (REAL, DRAWN): -0.1, (REAL, UNMAPPED): 0.1})


def test_the_sentence_and_the_table_speak_of_the_same_few_labels():
    rows = [row(kind, auc, 0, fine_tuning.PROBE, share) for kind in (DRAWN, REAL) for share, auc in LABELLED.items()]
    (sentence,) = small_towers.verdict(small_towers.differences(rows))
    assert "with 5 % of the labels" in sentence
    assert small_towers.table(fine_tuning.curves(rows))[DRAWN].tolist() == ["0.700", "0.900"]


def test_the_table_has_none_few_and_all_labels():
    rows = [row(DRAWN, 0.6, 0)] + [row(DRAWN, auc, 0, fine_tuning.PROBE, share) for share, auc in LABELLED.items()]
    assert small_towers.table(fine_tuning.curves(rows))[DRAWN].tolist() == ["0.600", "0.700", "0.900"]


def test_near_duplicates_of_the_scored_set_do_not_pretrain(datasets, pipeline, tmp_path):
    clinic, other = datasets
    pixels = other.images.pixels.copy()
    pixels[1] = clinic.images.pixels[4]
    copied = replace(other, images=replace(other.images, pixels=pixels))
    small = towers(tmp_path, [clinic, copied], pipeline)
    asked = small.photographs_for("clinic")
    assert "other/1.png" not in asked.keys
    assert "other/4.png" in asked.keys
    (line,) = small_towers.described(small, fine_tuning.questions([clinic, copied], ["clinic myopia"], SIZE))
    assert line == f"clinic is asked after 16 drawn, 16 generated, {len(asked)} photographs"


def test_what_no_label_of_the_others_names_is_not_asked_of_photographs(datasets, pipeline, tmp_path):
    glaucoma = [ClassOf("no", [{"gc": 0}]), ClassOf("yes", [{"gc": 1}])]
    asked = replace(datasets[0], tasks=[replace(datasets[0].tasks[0], name="glaucoma", classes=glaucoma)])
    questions = fine_tuning.questions([asked], ["all"], SIZE)
    small = towers(tmp_path / "towers", [asked, datasets[1]], pipeline, kinds=(DRAWN, REAL))
    rows = small_towers.evaluate(tmp_path, questions, small, 2, [0, 1], 0.5, 1, [0])
    assert [one["start"] for one in rows if one["method"] == fine_tuning.ZERO_SHOT] == [DRAWN]
    assert [one["start"] for one in rows if one["method"] == fine_tuning.PROBE] == [DRAWN, REAL]
