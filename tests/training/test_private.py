"""Differential privacy by opacus: noise by the guarantee, a basis of public images, gradients cut, and resumption."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import tiny_images
from visionclip.training import private

pytest.importorskip("opacus")
SETTINGS = private.Settings(patch=4, channels=(8, 16), updates=4, batch_size=24, learning_rate=2e-3)


def of(seed: int):
    """Images as random as their seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 16, 16, 3), np.uint8)
    return replace(tiny_images.discs(48).without_masks(), pixels=pixels)


def test_a_stronger_guarantee_takes_more_noise():
    few, many = (private.noise_multiplier(1000, replace(SETTINGS, epsilon=epsilon)) for epsilon in (1.0, 8.0))
    assert few > 2 * many > 0
    assert private.noise_multiplier(1000, replace(SETTINGS, updates=400)) > many
    assert private.delta(1000) == pytest.approx(1e-4)


def test_what_can_give_no_guarantee_is_refused():
    with pytest.raises(ValueError, match=r"epsilon: 0\.0 given"):
        replace(SETTINGS, epsilon=0.0)
    with pytest.raises(ValueError, match="batch_size: 8 given; private training needs 24"):
        replace(SETTINGS, batch_size=8)


def test_the_basis_is_of_public_images_and_a_finished_run_is_taken_up(tmp_path, monkeypatch):
    images, public = of(0), of(1)
    pipeline, log = private.train(images, public, SETTINGS, tmp_path)
    basis = private.denoising.untrained(public, SETTINGS).basis
    assert torch.equal(pipeline.unet.basis, basis)
    assert len(log) == 4
    taken = tiny_images.watch(monkeypatch)
    assert tiny_images.same(private.train(images, public, SETTINGS, tmp_path)[0].unet, pipeline.unet)
    assert taken == []
    private.train(images, public, replace(SETTINGS, epsilon=4.0, updates=1), tmp_path)
    assert taken == [0]


def test_no_image_pulls_further_than_the_clip(tmp_path, monkeypatch):
    """Without noise the summed gradient of an update is no longer than as many images as took part allow."""
    monkeypatch.setattr(private, "noise_multiplier", lambda *_: 0.0)
    lengths, clip = [], private.loop.nn.utils.clip_grad_norm_
    monkeypatch.setattr(
        private.loop.nn.utils,
        "clip_grad_norm_",
        lambda weights, most: lengths.append(clip(weights, most)) or lengths[-1],
    )
    settings = replace(SETTINGS, clip=1e-3, batch_size=48, updates=2)
    private.train(of(0), of(1), settings, tmp_path)
    assert all(0 < float(length) <= 1e-3 * 1.0001 for length in lengths)
    settings = replace(settings, clip=1e9)
    private.train(of(0), of(1), settings, tmp_path)
    assert all(float(length) > 1e-3 for length in lengths[2:])
