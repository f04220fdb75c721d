"""Drawn images follow from their seed and place alone, and from what they are conditioned on."""

import numpy as np
import pytest
import torch

import tiny_images
from visionclip.models import generator, sampling
from visionclip.models.generator import VisionCLIPDDPMPipeline

DRAW = {"steps": 3, "seed": 7}


@pytest.fixture(scope="module")
def images():
    return tiny_images.discs(5)


@pytest.fixture(scope="module")
def pipeline(images):
    return tiny_images.pipeline(images)


@pytest.fixture(scope="module")
def drawn(pipeline, images):
    return sampling.sample(pipeline, images.vectors, images.masks, batch=5, **DRAW)


def test_the_same_seed_draws_the_same_and_another_does_not(pipeline, images, drawn):
    assert drawn.shape == (5, 16, 16, 3)
    assert drawn.dtype == np.uint8
    assert np.array_equal(drawn, sampling.sample(pipeline, images.vectors, images.masks, batch=5, **DRAW))
    other = sampling.sample(pipeline, images.vectors, images.masks, **{**DRAW, "seed": 8}).astype(int)
    assert np.abs(other - drawn).max() > 5


def test_a_set_may_be_drawn_in_pieces_and_in_any_batch(pipeline, images, drawn):
    pieces = sampling.sample(pipeline, images.vectors, images.masks, batch=2, **DRAW).astype(int)
    assert np.abs(pieces - drawn).max() <= 1
    tail = sampling.sample(pipeline, images.vectors[3:], images.masks[3:], places=[3, 4], **DRAW).astype(int)
    assert np.abs(tail - drawn[3:]).max() <= 1
    again = sampling.sample(pipeline, images.vectors[3:], images.masks[3:], places=[3, 4], attempt=1, **DRAW)
    assert np.abs(again.astype(int) - tail).max() > 5


def test_what_the_pipeline_is_set_to_is_the_default(pipeline, images):
    own = VisionCLIPDDPMPipeline(pipeline.unet, generator.solver(), steps=2, guidance=3.0)
    asked = sampling.sample(pipeline, images.vectors, images.masks, 2, 3.0)
    assert np.array_equal(sampling.sample(own, images.vectors, images.masks), asked)


def test_a_generator_that_draws_otherwise_is_another_one():
    def drawn_with(steps: int, guidance: float, solver: str = "sample") -> str:
        torch.manual_seed(0)
        unet = generator.Generator(16, 4, 4, ("gc>=1",), channels=(8, 16))
        return sampling.key(VisionCLIPDDPMPipeline(unet, generator.solver(solver), steps, guidance))

    assert drawn_with(4, 1.4) == drawn_with(4, 1.4)
    keys = [drawn_with(4, 1.4), drawn_with(5, 1.4), drawn_with(4, 2.0), drawn_with(4, 1.4, "epsilon")]
    assert len({*keys, sampling.key(None)}) == 5
