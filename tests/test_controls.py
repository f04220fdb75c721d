import numpy as np
import pytest
import torch

from test_zeroshot import held_out, trained  # noqa: F401
from visionclip.evaluation import controls, metrics, zero_shot


@pytest.fixture
def phantoms(held_out):  # noqa: F811
    return zero_shot.phantom_tasks(held_out)


def test_colour_statistics_are_those_of_the_field():
    image = np.zeros((1, 120, 120, 3), np.uint8)
    image[0, 10:110, 10:110] = (200, 100, 50)
    mean, spread, skew = controls.colour_statistics(image)[0].reshape(3, 3)
    assert mean == pytest.approx([200, 100, 50], rel=0.1)
    assert (spread < 0.3 * mean).all()
    assert (skew < 0).all()  # the blurred rim of the field is darker


def test_a_probe_on_colour_finds_what_colour_tells(held_out):  # noqa: F811
    for pixels, eye in zip(held_out.pixels, held_out.conditions, strict=True):
        pixels[..., 0] = 250 if eye["tessellated"] else 60
    dataset = zero_shot.phantom_tasks(held_out)
    found = controls.colour_logits(dataset, held_out)
    (task,) = [task for task in dataset.tasks if task.name == "tessellated"]
    assert metrics.scores(task.targets, found["tessellated"], False)["auc"] > 0.95


def test_random_weights_are_drawn_from_their_seed_and_leave_the_generator_alone(trained, phantoms):  # noqa: F811
    state = torch.get_rng_state()
    one, again, other = (controls.random_logits(*trained, phantoms, ("en",), 1, seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(one["dr_grade"], again["dr_grade"])
    assert not np.array_equal(one["dr_grade"], other["dr_grade"])


def test_every_task_has_every_control(trained, held_out, phantoms):  # noqa: F811
    logits = zero_shot.predict(*trained, phantoms, ("zh", "en"), 2)
    rows = controls.compare(*trained, phantoms, held_out, logits, ("zh", "en"), 10, 0)
    controls.adjust(rows)
    assert [row["task"] for row in rows] == [task.name for task in phantoms.tasks]
    for row in rows:
        for name in ("shuffled prompts", "single prompts"):
            assert 0 <= row[name]["low"] <= row[name]["mean"] <= row[name]["high"] <= 1
        for told in row["against"].values():
            assert told["p"] <= told["adjusted_p"] <= 1
    assert np.mean([row["shuffled prompts"]["mean"] for row in rows]) == pytest.approx(0.5, abs=0.1)
    assert {"random weights", "colour statistics", "single prompts"} <= set(controls.table(rows).columns)
