"""Labels by share and method, trainings that are kept until something changes, and what is read off their curves."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from scipy import stats

from visionclip import phantom
from visionclip.data import folders
from visionclip.data.tasks import Dataset
from visionclip.evaluation import encoding, intervals, label_efficiency, scoring, zero_shot
from visionclip.evaluation.intervals import Comparison, Interval
from visionclip.models import visionclip
from visionclip.stages import fine_tuning
from visionclip.stages.fine_tuning import FULL, LORA, PRETRAINED, RANDOM, SCRATCH, ZERO_SHOT
from visionclip.study import constraints
from visionclip.text.tokenizer import train_tokenizer

PLAN = """\
test: {split: test}
tasks:
  myopia:
    column: pm
    classes:
      - {name: no, values: [0], conditions: [{pm: 0}]}
      - {name: yes, values: [1], conditions: [{pm: 1}]}
  rare:
    column: rare
    classes:
      - {name: no, values: [0], conditions: [{gc: 0}]}
      - {name: yes, values: [1], conditions: [{gc: 1}]}
"""
SHARES, LANGUAGES = [0, 0.2, 1], ["en"]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory) -> list[Dataset]:
    """A development set of two patients' eyes and a train split, of which only the first has a second task to part."""
    root = tmp_path_factory.mktemp("external")
    for name, split in (("clinic_dev", ""), ("other", "train")):
        (root / name).mkdir()
        lines = ["file,split,pm,rare,group"]
        for number in range(12):
            drawn = phantom.render({"pm": number % 2}, np.random.default_rng(number + len(name)), 64).image
            cv2.imwrite(str(root / name / f"{number}.png"), drawn[..., ::-1])
            lines.append(f"{number}.png,{split},{number % 2},{int(number < 2)},{number}")
        (root / name / "labels.csv").write_text("\n".join(lines))
        plan = PLAN if split else PLAN.replace("test: {split: test}\n", "")
        (root / name / "tasks.yaml").write_text(plan)
    return scoring.load_development(root, 32)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A saved model that has learnt nothing, as 03 saves one."""
    folder = tmp_path_factory.mktemp("03")
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["pathologic myopia, glaucoma, no sign of it"], folder / "tokenizer")
    config = visionclip.sized(8, 1, 64, 16, len(tokenizer), pyramid_size=8)
    config.vision_config.depths = [1, 1, 1, 1]
    visionclip.save(visionclip.VisionCLIP(config), tokenizer, 32, folder / "model")
    (loaded,) = fine_tuning.load_starts({PRETRAINED: folder / "model"})
    return loaded


@pytest.fixture(scope="module")
def question(datasets):
    return fine_tuning.questions(datasets, ["clinic_dev myopia"], 32)[0]


@pytest.fixture(scope="module")
def frozen(start, question):
    return fine_tuning.freeze(start, question, LANGUAGES, 2)


@pytest.fixture
def taken(monkeypatch):
    """How many photographs, or embeddings, each training took."""
    counts, train = [], fine_tuning.fine_tuning.train

    def counted(classifier, inputs, *given):
        counts.append(len(inputs))
        return train(classifier, inputs, *given)

    monkeypatch.setattr(fine_tuning.fine_tuning, "train", counted)
    return counts


def evaluate(folder, question, start, frozen, methods=(SCRATCH, ZERO_SHOT), shares=SHARES, updates=1, seed=0):
    return fine_tuning.evaluate(folder, question, [start], {start.name: frozen}, methods, shares, 0.5, updates, seed)


def test_the_tasks_are_those_of_two_classes_or_those_that_are_named(datasets):
    names = [one.name for one in fine_tuning.questions(datasets, ["all"], 32)]
    assert names == ["clinic_dev myopia", "clinic_dev rare", "other myopia", "other rare"]
    assert [one.name for one in fine_tuning.questions(datasets, ["other rare"], 32)] == ["other rare"]
    assert fine_tuning.questions([], ["other rare"], 32) == []


def test_what_is_there_and_what_is_not_is_said(datasets):
    names = ["other rare", "gout"]
    some = fine_tuning.questions(datasets, names, 32)
    here = "clinic_dev myopia, clinic_dev rare, other myopia, other rare"
    assert fine_tuning.described(datasets, names, some) == ["other rare: [10, 2]", f"not here: gout; here: {here}"]
    assert len(fine_tuning.described(datasets, ["all"], fine_tuning.questions(datasets, ["all"], 32))) == 4


def test_where_there_are_no_photographs_drawn_eyes_stand_in_and_are_called_so():
    drawn = fine_tuning.drawn_eyes(32, 0)
    (one,) = fine_tuning.questions([drawn], fine_tuning.DRAWN_TASKS, 32)
    assert one.name == "drawn eyes referable_dr"
    assert len(drawn) == fine_tuning.DRAWN_COUNT
    assert label_efficiency.split(one.task, one.members, 0.5, 0) is not None
    assert np.array_equal(drawn.images.pixels, fine_tuning.drawn_eyes(32, 0).images.pixels)
    assert not np.array_equal(drawn.images.pixels, fine_tuning.drawn_eyes(32, 1).images.pixels)


def test_towers_are_trained_on_fewer_pixels_than_others_read(datasets, start):
    (one,) = fine_tuning.questions(datasets, ["clinic_dev myopia"], 24)
    assert (one.pixels.shape[1], one.dataset.images.pixels.shape[1]) == (24, 32)
    assert replace(start, size=24).size == 24


def test_every_method_has_its_rows(question, start, frozen, tmp_path):
    rows = evaluate(tmp_path, question, start, frozen, fine_tuning.METHODS)
    found = {(row["method"], row["start"], row["labels"]) for row in rows}
    labels = [0, 2, 6]
    assert found == {(ZERO_SHOT, PRETRAINED, 0)} | {
        (method, RANDOM if method == SCRATCH else PRETRAINED, count)
        for method in fine_tuning.METHODS
        for count in labels[1:]
        if method != ZERO_SHOT
    }
    assert all(0 <= row["auc"] <= 1 and row["scored"] == 6 for row in rows)
    assert not list(tmp_path.glob("*.safetensors")), "of a finished training logits are kept, and no weights"


def test_zero_shot_is_that_of_stage_04(question, start, frozen):
    logits = zero_shot.predict(start.network, start.tokenizer, question.dataset, LANGUAGES, 2)
    assert np.allclose(frozen.logits, logits["myopia"], atol=1e-4)


def test_trainings_are_kept_and_take_the_labels_that_were_bought(question, start, frozen, tmp_path, taken):
    one = evaluate(tmp_path, question, start, frozen)
    assert taken == [2, 6]
    assert evaluate(tmp_path, question, start, frozen) == one
    assert taken == [2, 6]
    evaluate(tmp_path, question, start, frozen, seed=1)
    assert taken == [2, 6, 2, 6]


CHANGES = {
    "updates": lambda given: {"updates": 2},
    "photographs": lambda given: {"question": replace(given["question"], pixels=255 - given["question"].pixels)},
    "labels": lambda given: {
        "question": replace(
            given["question"], task=replace(given["question"].task, targets=1 - given["question"].task.targets)
        )
    },
    "pretrained weights": lambda given: {"start": replace(given["start"], network=other(given["start"].network))},
    "code": lambda given: {},
}


def other(network):
    torch.manual_seed(1)
    return visionclip.VisionCLIP(network.config)


@pytest.mark.parametrize("what", CHANGES)
def test_a_training_is_made_anew_when_what_made_it_changes(question, start, frozen, tmp_path, taken, monkeypatch, what):
    given = {"question": question, "start": start, "frozen": frozen, "methods": (FULL,), "shares": [0, 0.2]}
    evaluate(tmp_path, **given)
    if what == "code":
        monkeypatch.setattr(fine_tuning.keys, "code", lambda *_: "other code")
    evaluate(tmp_path, **given | CHANGES[what](given))
    assert taken == [2, 2]


def test_what_cannot_be_parted_has_no_rows(datasets, start, tmp_path):
    (rare,) = fine_tuning.questions(datasets, ["other rare"], 32)
    alone = replace(rare, members=np.zeros(12, int))
    assert evaluate(tmp_path, alone, start, fine_tuning.freeze(start, alone, LANGUAGES, 2)) == []
    assert fine_tuning.save(tmp_path / "model", start, alone, None, 0.5, 1, 0) is None


def test_a_fine_tuned_model_is_saved_and_loaded_as_any_other(question, start, frozen, tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "bf16_is_fast", lambda _: False)  # as fine-tuning reads
    encoding.KEPT.clear()
    logits = fine_tuning.save(tmp_path / "model", start, question, frozen, 0.5, 2, 0)
    network, tokenizer, processor = visionclip.load(tmp_path / "model")
    assert processor.size == 32
    parts = fine_tuning.label_efficiency.split(question.task, question.members, 0.5, 0)
    read = zero_shot.predict(network, tokenizer, question.dataset, LANGUAGES, 2)["myopia"]
    assert np.allclose(read[parts.scored], logits, atol=1e-3)
    assert not np.allclose(logits, frozen.logits[parts.scored], atol=1e-3), "photographs have trained it"
    rows = evaluate(tmp_path, question, start, frozen, (FULL,), [0, 1], updates=2)
    targets = question.task.targets[parts.scored]
    assert rows[0]["auc"] == pytest.approx(fine_tuning.roc_auc_score(targets, logits @ [-1, 1]))


# --- What is read off the rows -------------------------------------------------------------------------------------


def row(method, share, labels, auc, seed=0, begun=PRETRAINED, task="a"):
    return {"task": task, "method": method, "start": RANDOM if method == SCRATCH else begun, "share": share} | {
        "labels": labels,
        "auc": auc,
        "seed": seed,
        "scored": 9,
    }


ROWS = [
    made
    for seed, more in enumerate((0.0, 0.01, 0.02))
    for made in (
        row(ZERO_SHOT, 0, 0, 0.75 + more, seed),
        *(
            row(SCRATCH, share, n, auc + more, seed)
            for share, n, auc in ((0.01, 2, 0.5), (0.2, 20, 0.7), (1, 200, 0.8))
        ),
        *(
            row(FULL, share, n, auc + 3 * more, seed)
            for share, n, auc in ((0.01, 2, 0.7), (0.2, 20, 0.8), (1, 200, 0.7))
        ),
    )
]


def test_a_curve_is_a_mean_over_seeds_with_its_interval():
    points = {(point["method"], point["share"]): point for point in fine_tuning.curves(ROWS)}
    auc = points[SCRATCH, 0.2]["auc"]
    half = stats.t.ppf(0.975, 2) * 0.01 / np.sqrt(3)
    assert (auc.value, auc.low, auc.high) == pytest.approx((0.71, 0.71 - half, 0.71 + half))
    assert points[ZERO_SHOT, 0]["labels"] == 0
    assert fine_tuning.curves([]) == []


def test_the_table_has_a_column_a_share_with_its_labels():
    table = fine_tuning.table(fine_tuning.curves(ROWS), "a")
    assert list(table.columns) == ["0 % (0)", "1 % (2)", "20 % (20)", "100 % (200)"]
    assert list(table.index) == [(ZERO_SHOT, PRETRAINED), (SCRATCH, RANDOM), (FULL, PRETRAINED)]
    assert table.loc[(ZERO_SHOT, PRETRAINED), "1 % (2)"] == ""
    assert table.loc[(SCRATCH, RANDOM), "20 % (20)"].startswith("0.710 [")


def test_what_it_is_worth_is_read_off_the_curve_from_scratch():
    (found,) = fine_tuning.worths(ROWS)
    assert found["worth"].labels.value == pytest.approx(20 * np.sqrt(10))
    assert fine_tuning.headline([found]) == [
        f"a: pretraining on phantoms is worth 63 labels (zero-shot AUC {found['auc']})."
    ]
    high = [one | {"auc": 0.9} if one["method"] == ZERO_SHOT else one for one in ROWS]
    (never,) = fine_tuning.worths(high)
    assert "worth more than all 200 labels (zero-shot" in fine_tuning.headline([never])[0]
    assert fine_tuning.worths([]) == []


def test_two_shares_of_as_many_labels_are_one_point_of_a_curve():
    doubled = [*ROWS, *(one | {"share": 0.001} for one in ROWS if one["share"] == 0.01)]
    assert fine_tuning.worths(doubled) == fine_tuning.worths(ROWS)


LEVEL = {"gain": Comparison(Interval(0.3, -0.1, 0.7), 0.2, 0.2), "labels": 2, "method": FULL, "task": "a"}


def test_the_share_from_which_it_no_longer_helps_is_said():
    compared = fine_tuning.gains(ROWS)
    assert [one["share"] for one in compared] == [0.01, 0.2, 1]
    assert compared[0]["gain"].difference.value == pytest.approx(0.22)
    assert compared[0]["gain"].star == "*"
    assert "ahead of from scratch by more than chance in 1 of 3" in fine_tuning.surely(compared[:1] + 2 * [LEVEL])
    assert "no method that begins with it is ahead" in fine_tuning.surely([LEVEL])
    assert "Nothing was compared" in fine_tuning.surely([])
    (sentence,) = fine_tuning.helps_until(compared)
    assert sentence == (
        "a, phantoms, full fine-tuning: not ahead of from scratch from 100 % (200 labels) on; "
        "ahead by more than chance at 1 %, 20 %"
    )
    ahead = [one for one in compared if one["share"] < 1]
    assert "ahead of from scratch up to all labels" in fine_tuning.helps_until(ahead)[0]
    behind = intervals.Comparison(Interval(-0.08), None)
    between = [compared[0], compared[1] | {"gain": behind}, compared[0] | {"share": 1}]
    assert "ahead of from scratch at 1 %, 100 % alone; ahead by" in fine_tuning.helps_until(between)[0]
    assert fine_tuning.gains([]) == []
    assert fine_tuning.helps_until([]) == []


def test_at_few_labels_intervals_are_apart_or_not():
    rows = [*ROWS, *(one | {"method": fine_tuning.PROBE, "start": PRETRAINED} for one in ROWS if one["share"] == 0.01)]
    points = fine_tuning.curves(rows)
    (said,) = fine_tuning.at_few(points)
    assert said.startswith("a: with 1 % of the labels (2) from scratch reaches 0.")
    assert "; pretrained on phantoms, zero-shot 0." in said
    assert "(above it, intervals apart), linear probe" in said
    assert said.endswith("(intervals not apart)")
    assert fine_tuning.at_few(points, 0.001) == []
    of_one = fine_tuning.curves([one for one in rows if one["seed"] == 0])
    assert "one seed, which has no interval" in fine_tuning.at_few(of_one)[0]


def test_one_seed_has_no_interval_and_no_star():
    of_one = [one for one in ROWS if one["seed"] == 0]
    (found,) = fine_tuning.worths(of_one)
    assert found["worth"].labels == Interval(pytest.approx(20 * np.sqrt(10)))
    assert "nowhere ahead by more than chance" in fine_tuning.helps_until(fine_tuning.gains(of_one))[0]


def test_every_published_figure_has_its_source():
    table = fine_tuning.published_table()
    assert set(table["source"]) == {fine_tuning.FIGURE, fine_tuning.ABSTRACT}
    assert table.notna().all(axis=None)
    assert len(table) == len(table.drop_duplicates(["model", "set", "real labels"]))


def test_the_methods_are_those_that_the_check_of_parameters_knows():
    assert fine_tuning.METHODS == constraints.METHODS
    assert fine_tuning.methods_of(["all"]) == list(fine_tuning.METHODS)
    assert fine_tuning.methods_of([LORA, SCRATCH]) == [SCRATCH, LORA]
    assert folders.DEFAULT_FOLDER == constraints.EXTERNAL
