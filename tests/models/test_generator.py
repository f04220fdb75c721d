"""The generator's latent space, its conditioning, and that it is what it was once saved."""

import numpy as np
import pytest
import torch

import tiny_images
from visionclip.conditions import VECTOR_NAMES
from visionclip.models import generator
from visionclip.models.generator import Generator
from visionclip.phantom import MASKS

PATCH, CHANNELS, LAYERS = 2, (16, 32), 1


@pytest.fixture(scope="module")
def pixels():
    return tiny_images.discs(16).pixels


@pytest.fixture(scope="module")
def network(pixels):
    """One that denoises: the layers that begin at zero have random weights."""
    torch.manual_seed(0)
    network = generator.fitted(pixels, PATCH, VECTOR_NAMES, MASKS, CHANNELS, LAYERS)
    for layer in (network.unet.conv_out, network.gains):
        torch.nn.init.normal_(layer.weight, std=0.1)
    return network.train(False)


def test_the_basis_keeps_the_stated_variance_and_with_all_components_nothing_is_lost(pixels):
    given = torch.from_numpy(pixels)
    whole = generator.fitted(pixels, PATCH, VECTOR_NAMES, variance=1.0)
    assert (whole.decode(whole.encode(given)).int() - given.int()).abs().max() <= 1
    assert whole.encode(given).square().mean().item() == pytest.approx(1, abs=0.01)
    assert whole.encode(given).mean().abs().item() < 0.01
    part = generator.fitted(pixels, PATCH, VECTOR_NAMES, variance=0.95)
    patches = torch.nn.functional.pixel_unshuffle(given.permute(0, 3, 1, 2).float(), PATCH)
    lost = (part.decode(part.encode(given)).float() - given).square().mean()
    assert part.config.components < 3 * PATCH**2
    assert lost < 0.05 * patches.var((0, 2, 3)).mean() + 1


def test_patches_of_more_weight_decide_the_basis(pixels):
    spots = np.zeros((len(pixels), 8, 8), np.float32)
    spots[:, 0, 0] = 1
    noisy = np.random.default_rng(0).integers(0, 256, pixels.shape).astype(np.uint8)
    noisy[:, :2, :2] = pixels[:, :2, :2] // 4 + np.arange(len(pixels), dtype=np.uint8)[:, None, None, None] * 10
    deviation = generator.principal_components(noisy, PATCH, spots)[2]
    assert deviation[0] > 20 * deviation[1], "these patches differ in brightness alone"
    assert generator.principal_components(noisy, PATCH)[2][0] < 2 * generator.principal_components(noisy, PATCH)[2][1]


def test_components_are_orthonormal_and_the_strongest_come_first(pixels):
    mean, basis, deviation = generator.principal_components(pixels, PATCH)
    assert mean.shape == deviation.shape == (3 * PATCH**2,)
    assert torch.allclose(basis @ basis.T, torch.eye(3 * PATCH**2), atol=1e-5)
    assert (deviation.diff() <= 0).all()


def test_an_untrained_generator_predicts_nothing(pixels):
    untrained = generator.fitted(pixels, PATCH, VECTOR_NAMES, (), CHANNELS)
    noisy = torch.randn(2, untrained.config.components, 8, 8)
    predicted = untrained(noisy, torch.tensor([1, 900]), torch.ones(2, len(VECTOR_NAMES)), None, torch.ones(2, 2))
    assert predicted.shape == noisy.shape
    assert not predicted.any()


@torch.no_grad()
def test_hidden_conditions_do_not_reach_the_prediction(network):
    noisy = torch.randn(2, network.config.components, 8, 8, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([300, 300])
    nothing, layouts = torch.zeros(2, len(VECTOR_NAMES)), torch.zeros(2, len(MASKS), 16, 16, dtype=torch.uint8)

    def change(vectors, grids, keep):
        shown, plain = (
            network(noisy, times, *given, torch.tensor([keep, keep]))
            for given in ((nothing + vectors, layouts + grids), (nothing, layouts))
        )
        return (shown - plain).abs().max()

    for keep in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)):
        assert (change(1, 0, keep) > 1e-3) == bool(keep[0])
        assert (change(0, 1, keep) > 1e-3) == bool(keep[1])
    without = network(noisy, times, nothing, None, torch.ones(2, 2))
    torch.testing.assert_close(without, network(noisy, times, nothing, layouts, torch.tensor([[1.0, 0.0]] * 2)))


@torch.no_grad()
def test_a_saved_generator_predicts_the_same_and_holds_no_pickle(network, tmp_path):
    network.save_pretrained(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    loaded = Generator.from_pretrained(tmp_path).train(False)
    assert tiny_images.same(network, loaded)
    given = (
        torch.randn(2, network.config.components, 8, 8),
        torch.tensor([5, 700]),
        torch.ones(2, len(VECTOR_NAMES)),
        torch.ones(2, len(MASKS), 16, 16),
        torch.ones(2, 2),
    )
    # not to the bit: weights mapped from a file may lie otherwise in memory, and kernels differ by alignment
    torch.testing.assert_close(loaded(*given), network(*given), atol=1e-5, rtol=1e-5)


def test_the_schedule_ends_in_noise_alone():
    products = generator.noise_schedule().alphas_cumprod
    assert len(products) == 1000
    assert products[-1] < 1e-6
    assert (np.diff(products) < 0).all()


@pytest.mark.parametrize(("size", "channels"), [(18, CHANNELS), (16, (20, 40)), (15, CHANNELS)])
def test_sizes_that_do_not_fit_are_refused(size, channels):
    with pytest.raises(ValueError, match=rf"size {size} must be a multiple of .* a multiple of 8"):
        generator.check_size(size, PATCH, channels)


@torch.no_grad()
def test_an_unknown_condition_is_neither_present_nor_absent(network):
    noisy, times = torch.randn(1, network.config.components, 8, 8), torch.tensor([500])
    layouts = torch.zeros(1, len(MASKS), 16, 16)

    def predicted(value):
        vectors = torch.zeros(1, len(VECTOR_NAMES))
        vectors[0, 3] = value
        return network(noisy, times, vectors, layouts, torch.ones(1, 2))

    assert torch.equal(predicted(torch.nan), predicted(0.5))
    assert not torch.equal(predicted(torch.nan), predicted(0))
    assert not torch.equal(predicted(torch.nan), predicted(1))
