"""Drawn images follow from their seed and place alone, and from what they are conditioned on."""

import numpy as np
import pytest
import torch

import tiny_images
from visionclip.models import generator, sampling
from visionclip.phantom import LAYOUT_CHANNELS

DRAW = {"steps": 3, "seed": 7}


@pytest.fixture(scope="module")
def images():
    return tiny_images.discs(5)


def denoiser(images, layout_channels):
    torch.manual_seed(0)
    network = generator.fitted(images.pixels, 2, (16, 32), 1, layout_channels)
    for layer in (network.unet.conv_out, network.gains):
        torch.nn.init.normal_(layer.weight, std=0.1)
    return network


@pytest.fixture(scope="module")
def network(images):
    return denoiser(images, len(LAYOUT_CHANNELS))


@pytest.fixture(scope="module")
def drawn(network, images):
    return sampling.sample(network, images.vectors, images.masks, batch=5, **DRAW)


def test_the_same_seed_draws_the_same_and_another_does_not(network, images, drawn):
    assert drawn.shape == (5, 16, 16, 3)
    assert drawn.dtype == np.uint8
    assert np.array_equal(drawn, sampling.sample(network, images.vectors, images.masks, batch=5, **DRAW))
    other = sampling.sample(network, images.vectors, images.masks, **{**DRAW, "seed": 8}).astype(int)
    assert np.abs(other - drawn).max() > 5


def test_a_set_may_be_drawn_in_pieces_and_in_any_batch(network, images, drawn):
    pieces = sampling.sample(network, images.vectors, images.masks, batch=2, **DRAW).astype(int)
    assert np.abs(pieces - drawn).max() <= 1
    tail = sampling.sample(network, images.vectors[3:], images.masks[3:], first=3, **DRAW).astype(int)
    assert np.abs(tail - drawn[3:]).max() <= 1


def test_noise_is_of_its_index_alone(network):
    noise = sampling.initial_noise(network, range(2, 5), 0)
    assert torch.equal(noise[1:], sampling.initial_noise(network, range(3, 5), 0))
    assert not torch.equal(noise, sampling.initial_noise(network, range(2, 5), 1))
    assert noise.std().item() == pytest.approx(1, abs=0.15)


def test_without_guidance_there_is_one_pass_a_step_and_with_it_both_share_a_batch(network, images):
    seen = []
    hook = network.register_forward_pre_hook(lambda module, given: seen.append((len(given[0]), given[4].tolist())))
    for guidance in (1, 2):
        sampling.sample(network, images.vectors[:2], images.masks[:2], guidance=guidance, **DRAW)
    hook.remove()
    assert seen == [(2, [1, 1])] * 3 + [(4, [1, 1, 0, 0])] * 3


def test_guidance_leads_away_from_the_plain_prediction(network, images):
    plain, guided = (
        sampling.sample(network, images.vectors, images.masks, guidance=guidance, **DRAW) for guidance in (1, 4)
    )
    assert not np.array_equal(plain, guided)


def test_layouts_are_for_a_generator_that_knows_them_and_for_no_other(network, images):
    labels_only = denoiser(images, 0)
    assert sampling.sample(labels_only, images.vectors[:2], None, steps=2).shape == (2, 16, 16, 3)
    with pytest.raises(ValueError, match="layouts"):
        sampling.sample(labels_only, images.vectors[:2], images.masks[:2])
    with pytest.raises(ValueError, match="layouts"):
        sampling.sample(network, images.vectors[:2], None)
