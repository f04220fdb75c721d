import numpy as np
import torch

from visionclip.training import checkpoints


def trained(steps):
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters(), 0.1)
    step(network, optimizer, steps)
    return network, optimizer


def step(network, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        network(torch.ones(4, 3)).square().sum().backward()
        optimizer.step()


def test_a_restored_run_goes_on_exactly_where_it_stopped(tmp_path):
    network, optimizer = trained(5)
    checkpoints.save(tmp_path / "c.safetensors", {"model": network}, optimizer, "same", [1.0] * 5)
    other, other_optimizer = trained(0)
    history = checkpoints.restore(tmp_path / "c.safetensors", {"model": other}, other_optimizer, "same")
    assert history == [1.0] * 5
    step(network, optimizer, 3)
    step(other, other_optimizer, 3)
    assert torch.equal(network.weight, other.weight)


def test_a_checkpoint_of_other_settings_is_left_alone(tmp_path):
    network, optimizer = trained(5)
    checkpoints.save(tmp_path / "c.safetensors", {"model": network}, optimizer, "old", [1.0])
    other, other_optimizer = trained(0)
    before = other.weight.clone()
    assert checkpoints.restore(tmp_path / "c.safetensors", {"model": other}, other_optimizer, "new") == []
    assert torch.equal(other.weight, before)


def test_every_epoch_shows_every_image_once_in_another_order():
    seen = np.concatenate([checkpoints.batch_indices(20, 8, 3, step) for step in range(5)])
    assert sorted(seen[:20]) == sorted(seen[20:]) == list(range(20))
    assert list(seen[:20]) != list(seen[20:])
