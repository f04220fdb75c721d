"""Training the generator to denoise: images, their conditions, and where there is one their layout."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch import nn

from visionclip import keys, runs, streams
from visionclip.data.labelled import LabelledImages
from visionclip.models import generator
from visionclip.models.generator import Generator
from visionclip.training import loop
from visionclip.training.checkpoints import History
from visionclip.training.loop import Update


@dataclass(frozen=True, kw_only=True)
class Settings(loop.Settings):
    """How a generator is built and trained."""

    patch: int = 4  # pixels along the side of a patch; the UNet's grid is size / patch
    channels: tuple[int, ...] = (32, 64, 128)  # UNet width at each resolution, multiples of 8
    layers: int = 1  # residual blocks at each resolution
    drop: float = 0.1  # probability that an image's label and layout are hidden, for classifier-free guidance
    highest_weight: float = 5.0  # cap of the loss weight, the signal-to-noise ratio + 1
    batch_size: int = 8
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    ema: float = 0.999


def train(images: LabelledImages, settings: Settings, folder: Path) -> tuple[Generator, History]:
    """Train a generator in ``folder`` and return it, in inference mode, with the loss of every update.

    The ``masks`` of ``images``, uint8 N×L×S×S in {0, 1}, are their layouts; without any the generator is conditioned on
    labels alone. A stopped run goes on where it was.

    Raises:
        ValueError: the images aren't uint8 N×S×S×3, the layouts of another size, or a setting can't be used with them.
    """
    check(images, settings)
    settings = loop.on_this_machine(settings)
    torch.manual_seed(streams.integer(settings.seed, "initial weights of the generator"))
    channels = 0 if images.masks is None else images.masks.shape[1]
    network = generator.fitted(images.pixels, settings.patch, settings.channels, settings.layers, channels)
    key = settings.key(keys.arrays(images.pixels, images.vectors, images.masks), keys.code(__file__))
    schedule, vectors = generator.noise_schedule(), images.vectors

    def step(update: Update) -> dict[str, torch.Tensor]:
        rows = update.rows(len(images))
        pixels, labels = (torch.from_numpy(array[rows]).to(update.device) for array in (images.pixels, vectors))
        layouts = None if images.masks is None else torch.from_numpy(images.masks[rows]).to(update.device)
        latents, source = network.encode(pixels), update.torch_rng("noise")
        noise = torch.randn(latents.shape, generator=source, device=update.device)
        times = torch.randint(len(schedule.betas), (len(rows),), generator=source, device=update.device)
        keep = (torch.rand(len(rows), generator=source, device=update.device) >= settings.drop).float()
        own = update.share(np.arange(len(rows)))
        layouts = None if layouts is None else layouts[own]
        batch = latents[own], noise[own], times[own], labels[own], layouts, keep[own]
        return {"loss": denoising_loss(update.network, schedule, *batch, settings.highest_weight)}

    log = loop.train(
        network, step, settings, "diffusion model", key, folder / "checkpoint.safetensors", channels_last=False
    )
    network.save_pretrained(folder)
    runs.share(folder)
    return network, log


def denoising_loss(
    network: nn.Module,
    schedule: DDPMScheduler,
    latents: torch.Tensor,
    noise: torch.Tensor,
    times: torch.Tensor,
    vectors: torch.Tensor,
    layouts: torch.Tensor | None,
    keep: torch.Tensor,
    highest_weight: float,
) -> torch.Tensor:
    """Mean squared error of the clean latents weighted with SNR + 1 up to ``highest_weight``, a scalar.

    SNR + 1 makes it the error of the velocity (Salimans & Ho 2022); the cap keeps nearly noiseless images from
    dominating (Hang et al. 2023). Images with ``keep`` 0 are denoised without label and layout.
    """
    predicted = network(schedule.add_noise(latents, noise, times), times, vectors, layouts, keep)
    error = (predicted - latents).square().mean((1, 2, 3))
    return (error * (compute_snr(schedule, times) + 1).clamp_max(highest_weight)).mean()


def check(images: LabelledImages, settings: Settings) -> None:
    """Raise ValueError where ``train`` can't use these images with these settings."""
    pixels, layouts = images.pixels, images.masks
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1] != pixels.shape[2] or pixels.shape[3] != 3:
        raise ValueError(f"diffusion: images are {pixels.dtype} {pixels.shape}; give uint8 N x S x S x 3")
    if layouts is not None and (len(layouts) != len(images) or layouts.shape[2:] != pixels.shape[1:3]):
        raise ValueError(f"diffusion: layouts {layouts.shape} for images {pixels.shape}; give one of the size of each")
    generator.check_size(pixels.shape[1], settings.patch, settings.channels)
