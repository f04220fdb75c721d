"""What stage 03's parameters stand for."""

import pytest
import torch

import tiny_images
from visionclip.stages import pretrain
from visionclip.training.contrastive import Settings


def test_parameters_are_those_of_the_finished_stage(study):
    parameters = pretrain.parameters_of(study.sources["pretrained"])
    assert parameters["updates"] == 5
    (study.root / "03-pretrain" / "card.json").unlink()
    with pytest.raises(FileNotFoundError, match="03-pretrain"):
        pretrain.parameters_of(study.sources["pretrained"])


def test_settings_take_what_concerns_training_and_what_is_changed(study):
    parameters = pretrain.parameters_of(study.sources["pretrained"])
    settings = pretrain.settings(parameters, updates=7, seed=1)
    assert isinstance(settings, Settings)
    assert (settings.updates, settings.seed, settings.batch_size, settings.text_warmup) == (7, 1, 8, 2)
    assert pretrain.settings(parameters).seed == 3


def test_towers_follow_from_sizes_and_seed_alone(study):
    parameters = pretrain.parameters_of(study.sources["pretrained"])
    first = pretrain.network(parameters, 100, 0)
    torch.rand(1)
    assert tiny_images.same(first, pretrain.network(parameters, 100, 0))
    assert not tiny_images.same(first, pretrain.network(parameters, 100, 1))
    assert first.config.text_config.vocab_size == 100
    assert first.config.projection_size == 16
    assert first.logit_bias is None
    assert pretrain.network({**parameters, "loss": "sigmoid"}, 100, 0).logit_bias is not None


def test_shares_are_of_all_images():
    assert pretrain.shares(["phantom", "ddpm", "phantom", "phantom"]) == {"ddpm": 0.25, "phantom": 0.75}
