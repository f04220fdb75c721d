"""The generator learns, resumes, draws and reloads exactly."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from visionclip import phantom
from visionclip.conditions import VECTOR_NAMES, balanced, vector
from visionclip.models import generator
from visionclip.phantom import ANATOMY, LESIONS

SMALL = generator.Settings(
    patch=2, channels=(16, 32), updates=6, batch=4, precision="fp32", checkpoint_every=2, learning_rate=2e-3
)


def discs(count: int, size: int = 16) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, int]]]:
    """Grey squares with a bright spot on the side of the disc: images, vectors, layouts and conditions."""
    rng = np.random.default_rng(0)
    eyes = balanced(count, rng)
    images = rng.integers(60, 90, (count, size, size, 3), dtype=np.uint8)
    masks = {"field": np.ones((size, size), bool), "disc": np.zeros((size, size), bool)}
    layouts = np.stack([phantom.layout(masks)] * count)
    disc = list(phantom.LAYOUT_CHANNELS).index("disc")
    for image, grid, eye in zip(images, layouts, eyes, strict=True):
        place = np.s_[6:10, 11:15] if eye["eye_side"] else np.s_[6:10, 1:5]
        image[place], grid[disc][place] = 240, 1
    return images, np.stack([vector(eye) for eye in eyes]), layouts, eyes


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    images, vectors, layouts, _ = discs(24)
    folder = tmp_path_factory.mktemp("generator")
    return generator.train(images, vectors, layouts, SMALL, folder)[0], folder


def test_every_mask_of_the_phantom_has_exactly_one_layout_channel():
    names = [name for group in phantom.LAYOUT_CHANNELS.values() for name in group]
    assert sorted(names) == sorted({*ANATOMY, *LESIONS})


def test_layout_unites_masks_of_one_channel_and_refuses_unknown_ones():
    masks = {name: np.zeros((4, 4), bool) for name in (*ANATOMY, *LESIONS)}
    masks["field"][:] = True
    masks[LESIONS[0]][1, 2] = True
    grouped = phantom.layout(masks)
    assert grouped.dtype == np.uint8
    assert grouped.sum() == 16 + 1
    with pytest.raises(ValueError, match=r"'drawing'.*no channel"):
        phantom.layout({"field": masks["field"], "drawing": masks["field"]})


def test_loss_without_a_cap_is_the_error_of_the_velocity():
    schedule = generator.noise_schedule()
    clean = torch.randn(64, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    velocity_errors = []

    def model(noisy, times, vectors, layouts, keep):
        shape = (-1, 1, 1, 1)
        alpha = schedule.alphas_cumprod[times].sqrt().reshape(shape)
        sigma = (1 - schedule.alphas_cumprod[times]).sqrt().reshape(shape)
        guess = 0.5 * noisy
        noise = (noisy - alpha * clean) / sigma
        error = (alpha * noisy - guess) / sigma - schedule.get_velocity(clean, noise, times)
        velocity_errors.append(error.square().mean().item())
        return guess

    settings = replace(SMALL, highest_weight=float("inf"))
    source = torch.Generator().manual_seed(1)
    loss = generator.denoising_loss(model, schedule, clean, clean, None, settings, source)
    assert loss.item() == pytest.approx(velocity_errors[0], rel=1e-2)
    assert schedule.alphas_cumprod[-1] < 1e-6


def test_all_components_encode_without_loss_and_fewer_keep_the_stated_variance():
    images = discs(16)[0]
    vectors = np.zeros((16, 3), np.float32)
    pixels = torch.from_numpy(images)
    whole = generator.build(images, vectors, None, replace(SMALL, variance=1.0))
    assert (whole.decode(whole.encode(pixels)).int() - pixels.int()).abs().max() <= 1
    assert whole.encode(pixels).square().mean().item() == pytest.approx(1, abs=0.01)
    assert whole.encode(pixels).mean().abs().item() < 0.01
    part = generator.build(images, vectors, None, replace(SMALL, variance=0.95))
    patches = torch.nn.functional.pixel_unshuffle(pixels.permute(0, 3, 1, 2).float(), 2)
    lost = (part.decode(part.encode(pixels)).float() - pixels).square().mean()
    assert part.config.components < 12
    assert lost < 0.05 * patches.var((0, 2, 3)).mean() + 1


def test_hidden_conditions_do_not_reach_the_prediction(trained):
    generator, _ = trained
    noisy = torch.randn(2, generator.config.components, 8, 8, generator=torch.Generator().manual_seed(0))
    times, hidden = torch.tensor([300, 300]), torch.zeros(2)
    layouts = torch.zeros(2, len(phantom.LAYOUT_CHANNELS), 16, 16, dtype=torch.uint8)
    blank = generator(noisy, times, torch.zeros(2, len(VECTOR_NAMES)), layouts, hidden)
    full = generator(noisy, times, torch.ones(2, len(VECTOR_NAMES)), layouts + 1, hidden)
    shown = generator(noisy, times, torch.ones(2, len(VECTOR_NAMES)), layouts + 1, hidden + 1)
    torch.testing.assert_close(blank, full, atol=0, rtol=0)
    assert (shown - full).abs().max() > 1e-3


def test_conditions_are_dropped_at_the_stated_rate():
    seen = []

    def model(noisy, times, vectors, layouts, keep):
        seen.append(keep)
        return torch.zeros_like(noisy)

    latents = torch.zeros(4000, 1, 1, 1)
    source = torch.Generator().manual_seed(0)
    generator.denoising_loss(model, generator.noise_schedule(), latents, latents, None, SMALL, source)
    assert set(seen[0].tolist()) == {0.0, 1.0}
    assert 1 - seen[0].mean().item() == pytest.approx(SMALL.drop, abs=0.02)


def test_short_training_lowers_a_finite_loss_and_moves_the_average(tmp_path):
    images, vectors, layouts, _ = discs(24)
    settings = replace(SMALL, updates=40, batch=8)
    generator, losses = generator.train(images, vectors, layouts, settings, tmp_path)
    torch.manual_seed(settings.seed)
    start = generator.build(images, vectors, layouts, settings)
    assert np.isfinite(losses).all()
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])
    assert (generator.label.weight - start.label.weight).abs().max() > 1e-4


def test_interrupted_training_ends_as_uninterrupted_training(trained, tmp_path, monkeypatch):
    images, vectors, layouts, _ = discs(24)

    def killed(items, label):
        for count, item in enumerate(items):
            if count == 5:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr(generator, "progress", killed)
    with pytest.raises(KeyboardInterrupt):
        generator.train(images, vectors, layouts, SMALL, tmp_path)
    assert (tmp_path / "checkpoint.safetensors").is_file()
    steps = []
    monkeypatch.setattr(generator, "progress", lambda items, label: (steps.append(i) or i for i in items))
    resumed, losses = generator.train(images, vectors, layouts, SMALL, tmp_path)
    assert steps == [4, 5]
    assert len(losses) == SMALL.updates
    for name, weights in trained[0].state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], weights, atol=0, rtol=0)


def test_finished_run_returns_at_once_and_changed_settings_start_over(trained, monkeypatch):
    images, vectors, layouts, _ = discs(24)
    steps = []
    monkeypatch.setattr(generator, "progress", lambda items, label: (steps.append(i) or i for i in items))
    generator.train(images, vectors, layouts, SMALL, trained[1])
    assert steps == []
    identity = generator.fingerprint(SMALL, images, vectors, layouts)
    assert generator.fingerprint(replace(SMALL, seed=1), images, vectors, layouts) != identity
    assert generator.fingerprint(SMALL, images[:, ::-1], vectors, layouts) != identity
    assert generator.fingerprint(SMALL, images, vectors, None) != identity


def test_samples_follow_from_the_seed_whatever_the_batch(trained):
    generator, _ = trained
    _, vectors, layouts, _ = discs(5)
    draw = {"steps": 3, "seed": 7, "precision": "fp32"}
    images = generator.sample(generator, vectors, layouts, batch=5, **draw)
    assert images.shape == (5, 16, 16, 3)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, generator.sample(generator, vectors, layouts, batch=5, **draw))
    pieces = generator.sample(generator, vectors, layouts, batch=2, **draw).astype(int)
    assert np.abs(pieces - images).max() <= 1
    tail = generator.sample(generator, vectors[3:], layouts[3:], first=3, **draw).astype(int)
    assert np.abs(tail - images[3:]).max() <= 1
    assert np.abs(generator.sample(generator, vectors, layouts, **{**draw, "seed": 8}).astype(int) - images).max() > 5


def test_saved_generator_draws_the_same_images(trained, tmp_path):
    generator, folder = trained
    _, vectors, layouts, _ = discs(3)
    loaded = generator.Generator.from_pretrained(folder)
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
    expected = generator.sample(generator, vectors, layouts, steps=2, precision="fp32")
    np.testing.assert_array_equal(generator.sample(loaded, vectors, layouts, steps=2, precision="fp32"), expected)


def test_label_only_generator_needs_no_layout_and_refuses_one(tmp_path):
    images, vectors, layouts, _ = discs(8)
    generator, losses = generator.train(images, vectors, None, replace(SMALL, updates=2), tmp_path)
    assert len(losses) == 2
    assert generator.sample(generator, vectors[:2], None, steps=2, precision="fp32").shape == (2, 16, 16, 3)
    with pytest.raises(ValueError, match="layouts"):
        generator.sample(generator, vectors[:2], layouts[:2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((4, 16, 16, 3), np.float32)}, "uint8"),
        ({"vectors": np.zeros((3, 5), np.float32)}, "one vector"),
        ({"layouts": np.zeros((4, 2, 8, 8), np.uint8)}, "8, 8"),
        ({"settings": replace(SMALL, precision="half")}, "precision"),
        ({"settings": replace(SMALL, channels=(20, 40))}, "multiple of 8"),
    ],
)
def test_unusable_input_is_refused_in_one_line(tmp_path, change, message):
    given = {
        "images": np.zeros((4, 16, 16, 3), np.uint8),
        "vectors": np.zeros((4, 5), np.float32),
        "layouts": np.zeros((4, 2, 16, 16), np.uint8),
        "settings": SMALL,
    }
    with pytest.raises(ValueError, match=message):
        generator.train(*{**given, **change}.values(), tmp_path)
