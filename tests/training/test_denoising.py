"""The generator learns, resumes exactly, and refuses what it can't use."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

import tiny_images
from visionclip.models import generator
from visionclip.models.generator import VisionCLIPDDPMPipeline
from visionclip.training import denoising

SMALL = denoising.Settings(
    patch=2, channels=(16, 32), updates=6, batch_size=4, checkpoint_every=2, learning_rate=2e-3, precision="fp32"
)


@pytest.fixture(scope="module")
def images():
    return tiny_images.discs(24)


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("generator")
    return *denoising.train(images, SMALL, folder), folder


def loss_of(network, latents, highest_weight=float("inf"), prediction="sample", weights=None):
    schedule, source = generator.noise_schedule(prediction), torch.Generator().manual_seed(1)
    noise = torch.randn(latents.shape, generator=source)
    times = torch.randint(len(schedule.betas), (len(latents),), generator=source)
    given = latents, noise, times, None, None, torch.ones(len(latents), 2), weights
    return denoising.denoising_loss(network, schedule, *given, highest_weight)


def test_loss_without_a_cap_is_the_error_of_the_velocity():
    schedule = generator.noise_schedule()
    clean = torch.randn(64, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    velocity_errors = []

    def network(noisy, times, vectors, layouts, keep):
        shape = (-1, 1, 1, 1)
        alpha = schedule.alphas_cumprod[times].sqrt().reshape(shape)
        sigma = (1 - schedule.alphas_cumprod[times]).sqrt().reshape(shape)
        guess = 0.5 * noisy
        noise = (noisy - alpha * clean) / sigma
        error = (alpha * noisy - guess) / sigma - schedule.get_velocity(clean, noise, times)
        velocity_errors.append(error.square().mean().item())
        return guess

    assert loss_of(network, clean).item() == pytest.approx(velocity_errors[0], rel=1e-2)


def test_all_predictions_of_the_same_clean_image_cost_the_same_up_to_the_cap():
    clean = torch.randn(64, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    losses = {}

    for prediction in generator.PREDICTIONS:
        schedule = generator.noise_schedule(prediction)

        def network(noisy, times, *_, schedule=schedule, prediction=prediction):
            alpha, sigma = (share[times].reshape(-1, 1, 1, 1) for share in shares(schedule))
            guess = 0.9 * clean
            noise = (noisy - alpha * guess) / sigma
            return {"sample": guess, "epsilon": noise, "v_prediction": alpha * noise - sigma * guess}[prediction]

        losses[prediction] = loss_of(network, clean, 5.0, prediction).item()
    assert losses["v_prediction"] == pytest.approx(losses["sample"], rel=1e-3)
    assert losses["epsilon"] < losses["sample"], "min(SNR, cap) is less than SNR + 1"


def shares(schedule):
    return schedule.alphas_cumprod.sqrt(), (1 - schedule.alphas_cumprod).sqrt()


def test_cells_of_more_weight_count_more():
    latents = torch.zeros(50, 1, 2, 2)
    error = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    weights = torch.ones(50, 2, 2)
    weights[:, 0, 0] = 3
    assert loss_of(lambda *_: error, latents, 1.0).item() == pytest.approx(1 / 4)
    assert loss_of(lambda *_: error, latents, 1.0, weights=weights).item() == pytest.approx(3 / 6)


def test_cells_with_a_lesion_weigh_more(images):
    settings = replace(SMALL, weighted=("exudate", "drusen"), mask_weight=4.0)
    masks = torch.zeros(2, len(images.mask_names), 16, 16, dtype=torch.uint8)
    masks[1, images.mask_names.index("drusen"), 3, 5] = 1
    masks[1, images.mask_names.index("disc"), 9, 9] = 1
    weights = denoising.cell_weights(masks, images.mask_names, settings)
    assert weights.shape == (2, 8, 8)
    assert weights[1, 1, 2] == 5
    assert weights.sum() == 2 * 64 + 4
    assert denoising.cell_weights(masks, images.mask_names, SMALL) is None
    assert denoising.cell_weights(None, (), settings) is None


def test_the_cap_bounds_the_weight_of_nearly_clean_images():
    latents = torch.zeros(500, 1, 2, 2)

    def ones(noisy, *_):
        return torch.ones_like(noisy)

    assert 1 < loss_of(ones, latents, highest_weight=5.0) < 5
    assert loss_of(ones, latents, highest_weight=1.0) == pytest.approx(1)


def test_conditions_layout_and_both_are_hidden_at_the_stated_rate(images, tmp_path, monkeypatch):
    shown = []

    def noted(network, schedule, latents, noise, times, vectors, layouts, keep, weights, highest_weight):
        shown.extend(map(tuple, keep.tolist()))
        return next(network.parameters()).sum() * 0

    monkeypatch.setattr(denoising, "denoising_loss", noted)
    denoising.train(images, replace(SMALL, updates=20, batch_size=200, drop=0.2), tmp_path)
    for hidden, rate in {(0, 0): 0.2, (0, 1): 0.2, (1, 0): 0.2, (1, 1): 0.4}.items():
        assert shown.count(hidden) / len(shown) == pytest.approx(rate, abs=0.03)


def test_short_training_lowers_a_finite_loss_and_moves_the_average(images, tmp_path):
    settings = replace(SMALL, updates=40, batch_size=8)
    pipeline, log = denoising.train(images, settings, tmp_path)
    network, losses = pipeline.unet, [entry["loss"] for entry in log]
    start = denoising.untrained(images, settings)
    assert np.isfinite(losses).all()
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])
    assert (network.label.weight - start.label.weight).abs().max() > 1e-4
    assert not network.training


@pytest.mark.parametrize("stopped_at", [1, 3, 5])
def test_a_stopped_run_equals_an_uninterrupted_one(trained, images, tmp_path, monkeypatch, stopped_at):
    pipeline, log, _ = trained
    tiny_images.stop_after(stopped_at, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        denoising.train(images, SMALL, tmp_path)
    taken = tiny_images.watch(monkeypatch)
    resumed, resumed_log = denoising.train(images, SMALL, tmp_path)
    assert taken == list(range(stopped_at // 2 * 2, SMALL.updates))
    assert resumed_log == log
    assert tiny_images.same(resumed.unet, pipeline.unet)


def test_a_finished_run_returns_at_once(trained, images, monkeypatch):
    pipeline, log, folder = trained
    taken = tiny_images.watch(monkeypatch)
    again, same_log = denoising.train(images, SMALL, folder)
    assert taken == []
    assert same_log == log
    assert tiny_images.same(again.unet, pipeline.unet)


CHANGES = {
    "seed": lambda images, settings: (images, replace(settings, seed=1)),
    "drop": lambda images, settings: (images, replace(settings, drop=0.2)),
    "pixels": lambda images, settings: (replace(images, pixels=images.pixels[:, ::-1]), settings),
    "conditions": lambda images, settings: (replace(images, conditions=images.conditions[::-1]), settings),
    "layouts": lambda images, settings: (replace(images, masks=images.masks[..., ::-1]), settings),
    "no layouts": lambda images, settings: (images.without_masks(), settings),
    "code": lambda images, settings: (images, settings),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_decides_the_result_starts_over_when_it_changes(trained, images, tmp_path, monkeypatch, what):
    if what == "code":
        monkeypatch.setattr(denoising.keys, "code", lambda *_: "other code")
    (tmp_path / "checkpoint.safetensors").write_bytes((trained[2] / "checkpoint.safetensors").read_bytes())
    taken = tiny_images.watch(monkeypatch)
    denoising.train(*CHANGES[what](images, SMALL), tmp_path)
    assert taken == list(range(SMALL.updates))


def test_how_often_a_run_is_saved_changes_nothing(trained, images, monkeypatch):
    taken = tiny_images.watch(monkeypatch)
    denoising.train(images, replace(SMALL, checkpoint_every=3, checkpoint_minutes=1), trained[2])
    assert taken == []


def test_the_saved_folder_is_the_trained_generator(trained):
    pipeline, _, folder = trained
    assert tiny_images.same(pipeline.unet, VisionCLIPDDPMPipeline.from_pretrained(folder).unet)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors", ".py"}
    mask = os.umask(0)
    os.umask(mask)
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~mask}, "others may read it too"


def test_a_generator_of_labels_alone_takes_no_layout(images, tmp_path):
    pipeline, log = denoising.train(images.without_masks(), replace(SMALL, updates=2), tmp_path)
    assert len(log) == 2
    assert pipeline.unet.config.layout == ()


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noise_and_velocity_can_be_predicted_too(images, tmp_path, prediction):
    pipeline, log = denoising.train(images, replace(SMALL, updates=30, prediction=prediction), tmp_path)
    losses = [entry["loss"] for entry in log]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert pipeline.scheduler.config.prediction_type == prediction
    assert pipeline(images.conditions[:1], output_type="np").images.std() > 1


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({"pixels": np.zeros((24, 16, 16, 3), np.float32)}, {}, "uint8 N x S x S x 3"),
        ({"pixels": np.zeros((24, 16, 8, 3), np.uint8)}, {}, "uint8 N x S x S x 3"),
        ({"masks": np.zeros((24, 2, 8, 8), np.uint8)}, {}, "8, 8"),
        ({}, {"channels": (20, 40)}, "multiple of 8"),
        ({}, {"patch": 3}, "multiple of patch 3"),
    ],
)
def test_unusable_input_is_refused_in_one_line(images, tmp_path, change, settings, message):
    with pytest.raises(ValueError, match=message) as refusal:
        denoising.train(replace(images, **change), replace(SMALL, **settings), tmp_path)
    assert "\n" not in str(refusal.value)
    assert not any(tmp_path.iterdir())
