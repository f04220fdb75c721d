"""The loop itself, with a learner of three weights: resumption, averages, rates, guards."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from visionclip.training import checkpoints, loop
from visionclip.training.loop import Settings

SETTINGS = Settings(updates=9, batch_size=4, learning_rate=0.1, ema=0.9, checkpoint_every=2, seed=3)


class Line(nn.Module):
    """A batch-normalised line: it has weights, buffers and an integer buffer."""

    def __init__(self):
        super().__init__()
        self.norm, self.line = nn.BatchNorm1d(3), nn.Linear(3, 1)

    def forward(self, x):
        return self.line(self.norm(x))


def learner(fail_at=None, poison_at=None):
    torch.manual_seed(0)
    network, seen = Line(), []

    def step(update):
        if update.number == fail_at:
            raise KeyboardInterrupt
        seen.append(update.number)
        x = torch.randn(4, 3, generator=update.torch_rng("x"))
        loss = (update.network(x) - x.sum(1, keepdim=True)).square().mean()
        return {"loss": loss * float("nan") if update.number == poison_at else loss}

    return network, step, seen


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_what_a_killed_run_left_half_written_goes_with_the_next_checkpoint(tmp_path):
    left, other = tmp_path / ".c.safetensors.14881.partial", tmp_path / ".d.safetensors.14881.partial"
    left.touch()
    other.touch()
    network, step, _ = learner()
    loop.train(network, step, SETTINGS, "line", "key", tmp_path / "c.safetensors")
    assert not left.exists()
    assert other.exists(), "of another checkpoint"
    assert (tmp_path / "c.safetensors").is_file()


@pytest.mark.parametrize("stopped_at", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("schedule", loop.SCHEDULES)
def test_a_run_stopped_anywhere_ends_as_one_that_was_not(tmp_path, stopped_at, schedule):
    settings = replace(SETTINGS, schedule=schedule)
    whole, step, _ = learner()
    expected = loop.train(whole, step, settings, "line")
    network, step, _ = learner(fail_at=stopped_at)
    with pytest.raises(KeyboardInterrupt):
        loop.train(network, step, settings, "line", "key", tmp_path / "c")
    network, step, seen = learner()
    assert loop.train(network, step, settings, "line", "key", tmp_path / "c") == expected
    assert seen == list(range(stopped_at // 2 * 2, 9))
    assert same(network, whole)


def test_what_does_not_move_is_averaged_to_itself():
    """To the bit, whole numbers too: of 29, 13/22 and 9/22 are together a little less, which cut off is 28."""
    network, _, _ = learner()
    network.requires_grad_(False).train(False)
    network.norm.num_batches_tracked.fill_(29)
    network.norm.running_mean.fill_(0.1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    free = nn.Parameter(torch.ones(()))

    def step(_):
        network.train(False)
        return {"loss": free.square()}

    loop.train(network, step, replace(SETTINGS, updates=20), "line", groups=[{"params": [free], "lr": 0.1}])
    assert free < 1
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_finished_run_returns_at_once_and_another_key_starts_over(tmp_path):
    first, step, _ = learner()
    log = loop.train(first, step, SETTINGS, "line", "key", tmp_path / "c")
    again, step, seen = learner()
    assert loop.train(again, step, SETTINGS, "line", "key", tmp_path / "c") == log
    assert same(first, again)
    assert not seen
    other, step, seen = learner()
    loop.train(other, step, SETTINGS, "line", "other", tmp_path / "c")
    assert len(seen) == 9


def test_a_run_is_saved_by_the_clock_too(tmp_path):
    network, step, _ = learner(fail_at=5)
    settings = replace(SETTINGS, checkpoint_every=1000, checkpoint_minutes=0)
    with pytest.raises(KeyboardInterrupt):
        loop.train(network, step, settings, "line", "key", tmp_path / "c")
    network, step, seen = learner()
    loop.train(network, step, settings, "line", "key", tmp_path / "c")
    assert seen == [5, 6, 7, 8]


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_last_good_state(tmp_path):
    network, step, _ = learner(poison_at=5)
    with pytest.raises(FloatingPointError, match="line: loss is nan at update 5; lower learning_rate"):
        loop.train(network, step, SETTINGS, "line", "key", tmp_path / "c")
    network, step, seen = learner()
    loop.train(network, step, SETTINGS, "line", "key", tmp_path / "c")
    assert seen[0] == 4
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


def test_a_gradient_that_is_not_finite_is_never_saved(tmp_path):
    network, step, _ = learner()

    def overflow(update):
        values = step(update)
        if update.number == 3:
            network.line.weight.register_hook(lambda gradient: gradient / 0)
        return values

    with pytest.raises(FloatingPointError, match=r"gradient is (nan|inf) at update 3"):
        loop.train(network, overflow, replace(SETTINGS, checkpoint_every=1), "line", "key", tmp_path / "c")
    network, step, seen = learner()
    loop.train(network, step, SETTINGS, "line", "key", tmp_path / "c")
    assert seen[0] == 3


def test_a_damaged_checkpoint_is_one_line_that_names_it(tmp_path):
    network, step, _ = learner()
    loop.train(network, step, SETTINGS, "line", "key", tmp_path / "c")
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"c: damaged .*; delete it, and training starts over"):
        loop.train(network, step, SETTINGS, "line", "key", tmp_path / "c")


def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays(tmp_path, monkeypatch):
    network, step, _ = learner()
    calls = []

    def full(*given):
        calls.append(given)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return save(*given)

    save = checkpoints.save_file
    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(OSError, match="c: the disk is full; free some space and run again, nothing is lost"):
        loop.train(network, step, SETTINGS, "line", "key", tmp_path / "c")
    monkeypatch.undo()
    network, step, seen = learner()
    loop.train(network, step, SETTINGS, "line", "key", tmp_path / "c")
    assert seen[0] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_the_result_is_the_average_of_the_weights_and_of_their_statistics():
    averaged, step, _ = learner()
    loop.train(averaged, step, SETTINGS, "line")
    last, step, _ = learner()
    loop.train(last, step, replace(SETTINGS, ema=0), "line")
    assert not torch.equal(averaged.line.weight, last.line.weight)
    assert not torch.equal(averaged.norm.running_mean, last.norm.running_mean)
    assert not averaged.training


def test_the_fused_optimiser_knows_the_layout_of_convolutions(tmp_path):
    """Channels-last weights, whole and resumed, against AdamW written out weight by weight."""
    settings = Settings(updates=6, batch_size=1, learning_rate=0.01, weight_decay=0.1, checkpoint_every=2, clip=1e9)

    def made(stop=None):
        torch.manual_seed(0)
        network = nn.Conv2d(3, 4, 3)

        def step(update):
            if update.number == stop:
                raise KeyboardInterrupt
            return {"loss": update.network(torch.randn(1, 3, 5, 5, generator=update.torch_rng("x"))).square().mean()}

        return network, step

    network, step = made(3)
    with pytest.raises(KeyboardInterrupt):
        loop.train(network, step, settings, "conv", "key", tmp_path / "c")
    network, step = made()
    loop.train(network, step, settings, "conv", "key", tmp_path / "c")
    plain, step = made()
    optimizer = torch.optim.AdamW(plain.parameters(), 0.01, weight_decay=0.1, foreach=False, fused=False)
    for number in range(6):
        step(loop.Update(number, plain, settings, torch.device("cpu"), 0, 1))["loss"].backward()
        for group in optimizer.param_groups:  # half a cosine over 7 steps after one of warm-up
            group["lr"] = 0.01 * (0.5 * (1 + np.cos(np.pi * number / 6)) if number else 1.0)
        optimizer.step()
        optimizer.zero_grad()
    torch.testing.assert_close(network.weight.contiguous(), plain.weight.contiguous(), atol=1e-6, rtol=1e-5)


def rates(settings):
    """The learning rate of every update, as the size of AdamW's step under a constant gradient without decay."""
    network = nn.Linear(1, 1, bias=False)
    places = []

    def step(update):
        places.append(network.weight.item())
        return {"loss": update.network(torch.ones(1, 1)).sum()}

    loop.train(network, step, settings, "rates", channels_last=False)
    return -np.diff([*places, network.weight.item()])


def test_the_rate_rises_to_its_peak_and_falls_to_zero_or_stays():
    settings = Settings(updates=100, batch_size=1, learning_rate=0.5, warmup=0.1)
    falling, constant = rates(settings), rates(replace(settings, schedule="constant"))
    assert falling.max() == pytest.approx(0.5, rel=1e-3)
    assert [falling[0], constant[0]] == pytest.approx([0.05, 0.05], rel=1e-3)
    assert falling[-1] < 0.001
    assert constant[10:] == pytest.approx(np.full(90, 0.5), rel=1e-3)


def test_every_epoch_shows_every_example_once_in_another_order():
    settings = Settings(updates=5, batch_size=8, learning_rate=1.0, seed=3)
    updates = [loop.Update(number, nn.Identity(), settings, torch.device("cpu"), 0, 2) for number in range(5)]
    seen = np.concatenate([update.rows(20) for update in updates])
    assert sorted(seen[:20]) == sorted(seen[20:]) == list(range(20))
    assert list(seen[:20]) != list(seen[20:])
    other = replace(updates[1], rank=1)
    rows = updates[1].rows(20)
    assert np.array_equal(np.concatenate([updates[1].share(rows), other.share(rows)]), rows)


def test_when_a_run_is_saved_is_no_part_of_its_key_and_all_else_is():
    assert SETTINGS.key("data") == replace(SETTINGS, checkpoint_every=7, checkpoint_minutes=9).key("data")
    others = [
        SETTINGS.key("other"),
        *(replace(SETTINGS, **change).key("data") for change in ({"seed": 4}, {"clip": 2})),
    ]
    assert len({SETTINGS.key("data"), *others}) == 4


def test_an_unknown_schedule_or_precision_is_refused():
    for change in ({"schedule": "linear"}, {"precision": "half"}):
        with pytest.raises(ValueError, match="is not known; choose from"):
            replace(SETTINGS, **change)


def watched(scores, every=2, patience=2):
    """A watch that scores as listed; what it was asked of is kept beside it."""
    seen = []

    def score(network):
        assert not network.training
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        return scores[len(seen) - 1]

    return loop.Watch(score, every, patience), seen


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_watched_run_ends_after_its_patience_with_the_best_weights(ema):
    network, step, taken = learner()
    watch, seen = watched([0.5, 0.7, 0.6, 0.7, 0.9])
    log = loop.train(network, step, replace(SETTINGS, updates=50, ema=ema), "line", watch=watch)
    assert taken == list(range(8)), "the fourth score is no better than the second"
    assert watch.scores(log) == [0.5, 0.7, 0.6, 0.7]
    assert watch.best_update(log) == 4
    assert all(torch.equal(value, seen[1][name]) for name, value in network.state_dict().items())


def test_a_watched_run_that_gets_better_takes_all_its_updates():
    network, step, taken = learner()
    watch, seen = watched([0.1, 0.2, 0.3, 0.4])
    log = loop.train(network, step, SETTINGS, "line", watch=watch)
    assert len(log) == len(taken) == 9
    assert all(torch.equal(value, seen[3][name]) for name, value in network.state_dict().items())
    network, step, _ = learner()
    unwatched, step_alone, _ = learner()
    never, _ = watched([], every=100)
    loop.train(network, step, SETTINGS, "line", watch=never)
    loop.train(unwatched, step_alone, SETTINGS, "line")
    assert same(network, unwatched), "nothing was scored"


@pytest.mark.parametrize("stopped_at", [1, 3, 4, 6, 7])
def test_a_watched_run_stopped_anywhere_ends_as_one_that_was_not(tmp_path, stopped_at):
    def watch():  # a score of the weights alone, which soon falls
        return loop.Watch(lambda network: -abs(float(network.line.weight.sum()) - 0.1), 1, 2)

    whole, step, _ = learner()
    expected = loop.train(whole, step, SETTINGS, "line", watch=watch())
    network, step, _ = learner(fail_at=stopped_at)
    try:
        loop.train(network, step, SETTINGS, "line", "key", tmp_path / "c", watch=watch())
    except KeyboardInterrupt:
        network, step, _ = learner()
        loop.train(network, step, SETTINGS, "line", "key", tmp_path / "c", watch=watch())
    assert same(network, whole)
    finished, step, taken = learner()
    assert loop.train(finished, step, SETTINGS, "line", "key", tmp_path / "c", watch=watch()) == expected
    assert same(finished, whole)
    assert not taken
