"""A classifier learns from few photographs or their embeddings, goes on where it stopped, and weighs classes alike."""

import numpy as np
import pytest
import torch

import tiny_images
from visionclip.models import classifiers, visionclip
from visionclip.models.classifiers import Sentences
from visionclip.training import fine_tuning
from visionclip.training.fine_tuning import Settings

TARGETS = np.array([0, 1] * 8)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    config = visionclip.sized(8, 1, 64, 16, 20, pyramid_size=8)
    config.vision_config.depths = [1, 1, 1, 1]
    return visionclip.VisionCLIP(config).train(False)


@pytest.fixture(scope="module")
def head():
    return Sentences([torch.eye(16)[:1], torch.eye(16)[1:2]], 10.0)


@pytest.fixture(scope="module")
def photographs():
    """Discs on one side and on the other."""
    pixels = tiny_images.discs(16, 32).pixels.copy()
    pixels[TARGETS == 1, 8:24, 8:24] = 230
    return pixels


def settings(**changed) -> Settings:
    return Settings(**{"updates": 6, "learning_rate": 3e-3, "precision": "fp32", "seed": 1, **changed})


def make(method, network, head):
    if method == "adapter":
        return classifiers.adapter(16, head, 0)
    return classifiers.from_scratch(network, 2, 0) if method == "scratch" else classifiers.full(network, head)


def test_a_tower_learns_what_its_labels_say(network, photographs):
    one = make("scratch", network, None)
    log = fine_tuning.train(one, photographs, TARGETS, settings(updates=25, augmentation=0.2), None)
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]
    predicted = fine_tuning.predict(one, photographs)
    assert (predicted.argmax(1) == TARGETS).mean() > 0.9


def test_an_adapter_learns_from_embeddings(head):
    rng = np.random.default_rng(0)
    embeds = rng.normal(size=(16, 16)).astype(np.float32)
    embeds[:, 5] += 3 * (2 * TARGETS - 1)
    embeds /= np.linalg.norm(embeds, axis=1, keepdims=True)
    one = make("adapter", None, head)
    log = fine_tuning.train(one, embeds, TARGETS, settings(updates=60, learning_rate=1e-2), None)
    assert log[-1]["loss"] < 0.7 * log[0]["loss"]
    assert fine_tuning.predict(one, embeds).dtype == np.float64


@pytest.mark.parametrize("method", ["scratch", "full"])
def test_a_stopped_training_ends_as_one_that_was_not(network, head, photographs, tmp_path, monkeypatch, method):
    whole, stopped = make(method, network, head), make(method, network, head)
    fine_tuning.train(whole, photographs, TARGETS, settings(), None)
    with monkeypatch.context() as patch:
        tiny_images.stop_after(3, patch)
        tiny_images.save_every_update(patch)
        with pytest.raises(KeyboardInterrupt):
            fine_tuning.train(stopped, photographs, TARGETS, settings(), tmp_path / "checkpoint.safetensors")
    again = make(method, network, head)
    taken = tiny_images.watch(monkeypatch)
    fine_tuning.train(again, photographs, TARGETS, settings(), tmp_path / "checkpoint.safetensors")
    assert taken[0] > 0
    assert tiny_images.same(whole, again)


CHANGES = {
    "labels": lambda given: {"targets": 1 - given["targets"]},
    "photographs": lambda given: {"inputs": 255 - given["inputs"]},
    "rate": lambda given: {"settings": settings(learning_rate=1e-3)},
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_checkpoint_of_something_else_is_not_read_back(network, head, photographs, tmp_path, monkeypatch, what):
    given = {"inputs": photographs, "targets": TARGETS, "settings": settings(updates=2)}
    fine_tuning.train(make("full", network, head), **given, checkpoint=tmp_path / "one.safetensors")
    taken = tiny_images.watch(monkeypatch)
    fine_tuning.train(make("full", network, head), **given, checkpoint=tmp_path / "one.safetensors")
    assert taken == []
    changed = given | CHANGES[what](given)
    fine_tuning.train(make("full", network, head), **changed, checkpoint=tmp_path / "one.safetensors")
    assert taken


def test_a_rare_class_has_the_weight_of_a_common_one(head):
    """Of embeddings that say nothing, the loss is that of a coin, whatever the mix."""
    embeds = np.zeros((16, 16), np.float32)
    embeds[:, 0] = 1
    targets = np.array([1] + [0] * 15)
    one = make("adapter", None, head)
    (entry,) = fine_tuning.train(one, embeds, targets, settings(updates=1, batch_size=16, learning_rate=1e-6), None)
    logits = torch.tensor([[10.0, 0.0]])
    wanted = -torch.log_softmax(logits, 1).mean()
    assert entry["loss"] == pytest.approx(float(wanted), rel=0.05)


def test_a_batch_is_no_larger_than_the_photographs_are_many():
    assert [settings().of(count).batch_size for count in (2, 20, 200)] == [fine_tuning.LEAST, 20, 32]


def test_a_class_without_a_photograph_is_refused(network, head, photographs):
    with pytest.raises(ValueError, match="no image of class 0; give one of each"):
        fine_tuning.train(make("full", network, head), photographs, np.ones(16, int), settings(), None)
