from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from visionclip import conditions
from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import ClassOf, Dataset, Task
from visionclip.evaluation import controls, metrics, scoring, tables, zero_shot


@pytest.fixture
def phantoms(held_out):
    return scoring.phantom_tasks(held_out)


def test_colour_statistics_are_those_of_the_field():
    image = np.zeros((1, 120, 120, 3), np.uint8)
    image[0, 10:110, 10:110] = (200, 100, 50)
    mean, spread, skew = controls.colour_statistics(image)[0].reshape(3, 3)
    assert mean == pytest.approx([200, 100, 50], rel=0.1)
    assert (spread < 0.3 * mean).all()
    assert (skew < 0).all()  # the blurred rim of the field is darker


def test_a_probe_on_colour_finds_what_colour_tells(held_out):
    coloured = held_out.take(range(len(held_out)))
    for pixels, eye in zip(coloured.pixels, coloured.conditions, strict=True):
        pixels[..., 0] = 250 if eye["tessellated"] else 60
    dataset = scoring.phantom_tasks(coloured)
    logits = controls.colour_logits(dataset, coloured)
    (task,) = [task for task in dataset.tasks if task.name == "tessellated"]
    assert metrics.scores(task.targets, logits["tessellated"], False)["auc"] > 0.95


def test_a_probe_on_colour_never_predicts_what_it_learnt_from(held_out, monkeypatch):
    monkeypatch.setattr(controls, "regression", lambda: KNeighborsClassifier(1))  # which knows by heart what it learnt
    eyes = [dict(eye) for eye in held_out.conditions]
    for eye in eyes[::9]:
        del eye["gc"]
    noise = np.random.default_rng(0).integers(0, 256, held_out.pixels.shape, np.uint8)
    partly = replace(held_out, pixels=noise, conditions=eyes)
    dataset = scoring.phantom_tasks(partly)
    (task,) = [task for task in dataset.tasks if task.name == "gc"]
    targets, logits = scoring.known(task, controls.colour_logits(dataset, partly)["gc"])
    assert len(targets) < len(held_out)
    assert (logits.argmax(1) == targets).mean() < 0.9


def test_a_class_of_no_facts_is_a_normal_eye(held_out):
    normal = np.array([not any(eye[key] for key in conditions.DISEASES) for eye in held_out.conditions])
    painted = held_out.take(range(len(held_out)))
    painted.pixels[normal, ..., 0] = 250
    classes = [ClassOf("normal", [{}]), ClassOf("retinopathy", [{"dr_grade": grade} for grade in (1, 2, 3, 4)])]
    task = Task("disease", False, classes, np.where(normal, 0, 1))
    logits = controls.colour_logits(Dataset("eyes", "all", painted, [task]), painted)["disease"]
    assert (logits.argmax(1) == 0)[normal].mean() > 0.9


def test_random_weights_are_drawn_from_their_seed_and_leave_the_generator_alone(untrained, phantoms):
    state, (network, tokenizer) = torch.get_rng_state(), untrained
    one, again, other = (
        zero_shot.predict(controls.untrained(network, seed), tokenizer, phantoms, ("en",), 1) for seed in (1, 1, 2)
    )
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(one["dr_grade"], again["dr_grade"])
    assert not np.array_equal(one["dr_grade"], other["dr_grade"])


def test_every_task_has_every_control(untrained, held_out, phantoms):
    logits = zero_shot.predict(*untrained, phantoms, ("zh", "en"), 2)
    rows = controls.compare(*untrained, phantoms, held_out, logits, ("zh", "en"), 10, 0)
    controls.adjust(rows)
    assert [row["task"] for row in rows] == [task.name for task in phantoms.tasks]
    for row in rows:
        assert 0 <= row["single prompts"]["low"] <= row["single prompts"]["mean"] <= row["single prompts"]["high"] <= 1
        for comparison in row["against"].values():
            assert comparison.p <= comparison.adjusted_p <= 1
    table = tables.control_table(rows).set_index("task")
    assert {"random weights", "colour statistics", "single prompts"} <= set(table.columns)
    ranks = {row["task"]: row["rank"] for row in rows}
    assert ranks.pop("dr_grade") is None, "several classes have no one ranking"
    assert all(1 <= rank["rank"] <= rank["of"] == 23 for rank in ranks.values())
    assert table["rank of its sentence"]["dr_grade"] == "–"
    assert table["rank of its sentence"]["gc"] == f"{ranks['gc']['rank']} of 23"


def test_a_set_with_one_positive_has_no_controls_and_no_error(untrained, held_out):
    pixels, count = held_out.pixels[:12], 12
    images = LabelledImages(pixels, [{}] * count, ["photograph"] * count, [str(number) for number in range(count)])
    task = Task("gc", False, [ClassOf("no", [{"gc": 0}]), ClassOf("yes", [{"gc": 1}])], np.array([0] * 11 + [1]))
    dataset = Dataset("clinic", "test", images, [task])
    logits = zero_shot.predict(*untrained, dataset, ("en",), 2)
    assert controls.compare(*untrained, dataset, held_out, logits, ("en",), 10, 0) == []


def test_each_single_prompt_is_one_wording_of_one_language():
    """Of one language after the other; the wording that separates the classes is the last of the first language."""
    towards, away, images = torch.eye(2)[:1], -torch.eye(2)[:1], torch.tensor([[1.0, 0], [-1, 0], [1, 0], [-1, 0]])
    task = Task("gc", False, [ClassOf("no", [{}]), ClassOf("yes", [{}])], np.array([1, 0, 1, 0]))
    first = [[torch.cat([towards, towards, away])], [torch.cat([towards, towards, towards])]]
    second = [[torch.cat([towards] * 3)], [torch.cat([towards] * 3)]]
    assert controls.single_prompts([first, second], images, task, 1.0) == [0.5, 0.5, 1.0, 0.5, 0.5, 0.5]


def test_the_rank_is_that_of_the_task_s_own_sentence(untrained, phantoms, held_out, monkeypatch):
    """Sentences that look along an axis each, of images that one of them ranks as the task has them."""
    (task,) = [task for task in phantoms.tasks if task.name == "gc"]
    images = torch.stack([torch.tensor(2.0 * task.targets - 1), torch.randn(len(held_out))], dim=1)
    axes = {key: (-torch.eye(2)[[place]], torch.eye(2)[[place]]) for place, key in enumerate(("gc", "amd"))}
    monkeypatch.setattr(controls, "encode_images", lambda *_: images.float())
    monkeypatch.setattr(controls.prompt_matrix, "pairs", lambda *_: axes)
    monkeypatch.setattr(controls, "single_prompts", lambda *_: [0.5])
    logits = {one.name: np.zeros((len(held_out), len(one.classes))) for one in phantoms.tasks}
    rows = controls.compare(*untrained, phantoms, held_out, logits, ("en",), 1, 0)
    assert next(row["rank"] for row in rows if row["task"] == "gc") == {"rank": 1, "of": 2}


def test_a_control_that_can_not_be_had_is_a_dash():
    summary = {"mean": 0.5, "low": 0.4, "high": 0.6}
    row = {"dataset": "a", "task": "b", "auc": 0.7, "against": {}, "random weights": 0.5, "colour statistics": None}
    (line,) = tables.control_table([{**row, "rank": None, "single prompts": summary}]).to_dict("records")
    assert (line["AUC"], line["random weights"], line["colour statistics"]) == ("0.700", "0.500", "–")
    assert line["rank of its sentence"] == "–"
