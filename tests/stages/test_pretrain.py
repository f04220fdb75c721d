"""What stage 03's parameters stand for, and training from few pixels to many."""

import numpy as np
import pytest
import torch

import tiny_images
from visionclip.data import pairs
from visionclip.stages import pretrain
from visionclip.text.tokenizer import load_tokenizer
from visionclip.training import contrastive
from visionclip.training.contrastive import Settings


def test_parameters_are_those_of_the_finished_stage(study):
    parameters = pretrain.parameters_of(study.sources["pretrained"])
    assert parameters["updates"] == [5, 3]
    (study.root / "03-pretrain" / "card.json").unlink()
    with pytest.raises(FileNotFoundError, match="03-pretrain"):
        pretrain.parameters_of(study.sources["pretrained"])


def test_settings_take_what_concerns_training_and_what_is_changed(study):
    parameters = pretrain.parameters_of(study.sources["pretrained"])
    settings = pretrain.settings(parameters, updates=7, seed=1)
    assert isinstance(settings, Settings)
    assert (settings.updates, settings.seed, settings.batch_size, settings.text_warmup) == (7, 1, 8, 2)
    assert settings.size == 24
    assert (pretrain.settings(parameters).seed, pretrain.settings(parameters).updates) == (3, 5)
    finest = pretrain.settings(parameters, size=32, updates=3)
    assert (finest.size, finest.updates, finest.condition_weight, finest.map_weight) == (32, 3, 1.0, 1.0)


def test_towers_follow_from_sizes_and_seed_alone(study):
    parameters = pretrain.parameters_of(study.sources["pretrained"])
    first = pretrain.network(parameters, 100, 0)
    torch.rand(1)
    assert tiny_images.same(first, pretrain.network(parameters, 100, 0))
    assert not tiny_images.same(first, pretrain.network(parameters, 100, 1))
    assert first.config.text_config.vocab_size == 100
    assert first.config.projection_size == 16
    assert first.config.pyramid_size == 8
    assert pretrain.network({**parameters, "pyramid_size": 0}, 100, 0).pyramid is None
    assert first.logit_bias is None
    assert pretrain.network({**parameters, "loss": "sigmoid"}, 100, 0).logit_bias is not None


@pytest.fixture
def given(study):
    """What stage 03 trains on: parameters, tokenizer and pairs."""
    folders = study.sources["synthesis"], study.sources["captions_folder"]
    parameters = pretrain.parameters_of(study.sources["pretrained"])
    return parameters, load_tokenizer(study.root / "02-captions" / "tokenizer"), pairs.load(*folders, "synthetic")


def trained(given, folder, **changed):
    parameters, words, training = given
    parameters = {**parameters, **changed}
    network = pretrain.network(parameters, len(words), 0)
    return network, pretrain.train(network, words, training, parameters, folder)


def test_training_goes_from_few_pixels_to_many_and_warms_the_text_up_once(given, tmp_path, monkeypatch):
    seen, warmed, warm_up = [], [], contrastive.warm_up_text
    vision = pretrain.visionclip.ResNetModel.forward

    def noted(self, pixels, *rest, **named):
        seen.append(pixels.shape[-1])
        return vision(self, pixels, *rest, **named)

    monkeypatch.setattr(pretrain.visionclip.ResNetModel, "forward", noted)
    monkeypatch.setattr(contrastive, "warm_up_text", lambda *one: warmed.append(1) or warm_up(*one))
    _, log = trained(given, tmp_path)
    assert seen == [24] * 5 + [32] * 3
    assert warmed == [1]
    assert len(log) == 8
    assert {"captions", "conditions", "maps", "floor", "temperature"} < log[-1].keys()
    assert all(np.isfinite(entry["loss"]) for entry in log)


@pytest.mark.parametrize("stopped_at", [2, 6])
def test_a_run_stopped_at_either_size_ends_as_one_that_was_not(given, tmp_path, monkeypatch, stopped_at):
    whole, expected = trained(given, tmp_path / "whole")
    taken = []

    def interrupted(items, label, total=None):
        for item in items:
            if label == "pretrain" and len(taken) == stopped_at:
                raise KeyboardInterrupt
            taken.append(item) if label == "pretrain" else None
            yield item

    tiny_images.save_every_update(monkeypatch)
    monkeypatch.setattr(contrastive.loop, "progress", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trained(given, tmp_path / "stopped")
    numbers = tiny_images.watch(monkeypatch)
    network, log = trained(given, tmp_path / "stopped")
    assert log == expected
    assert tiny_images.same(network, whole)
    assert numbers == {2: [2, 3, 4, 0, 1, 2], 6: [1, 2]}[stopped_at]


def test_the_bias_of_the_sigmoid_goes_on_where_the_coarser_size_left_it(given, tmp_path, monkeypatch):
    biases, train = [], contrastive.loop.train

    def noted(network, *rest, **named):
        start = getattr(network, "logit_bias", None)
        start = None if start is None else start.item()
        log = train(network, *rest, **named)
        biases.append((start, network.logit_bias.item())) if start is not None else None
        return log

    monkeypatch.setattr(contrastive.loop, "train", noted)
    trained(given, tmp_path, loss="sigmoid")
    (first, reached), (start, _) = biases
    assert first != reached
    assert start == reached


def test_shares_are_of_all_images():
    assert pretrain.shares(["phantom", "ddpm", "phantom", "phantom"]) == {"ddpm": 0.25, "phantom": 0.75}
