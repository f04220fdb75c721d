"""Training the generator to denoise: images, their conditions, and where there is one their layout."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch import nn
from torch.nn import functional

from visionclip import keys, runs, streams
from visionclip.conditions import VECTOR_NAMES
from visionclip.data.labelled import LabelledImages
from visionclip.models import generator
from visionclip.models.generator import VisionCLIPDDPMPipeline
from visionclip.training import loop
from visionclip.training.checkpoints import History
from visionclip.training.loop import Update

BASIS_IMAGES = 256  # from which the basis of the patches is taken


@dataclass(frozen=True, kw_only=True)
class Settings(loop.Settings):
    """How a generator is built and trained."""

    patch: int = 4  # pixels along the side of a patch; the UNet's grid is size / patch
    channels: tuple[int, ...] = (32, 64, 128)  # UNet width at each resolution, multiples of 8
    layers: int = 1  # residual blocks at each resolution
    prediction: str = "sample"  # what the network predicts, in diffusers' words
    variance: float = 0.995  # share of the patches' variance that the latents keep
    drop: float = 0.1  # probability that the conditions are hidden, that the layout is, and that both are
    highest_weight: float = 5.0  # cap of the loss weight, the signal-to-noise ratio + 1
    weighted: tuple[str, ...] = ()  # masks of the layout where the loss and the basis weigh more
    mask_weight: float = 4.0  # by how much
    batch_size: int = 8
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    ema: float = 0.999

    def __post_init__(self):
        super().__post_init__()
        if self.prediction not in generator.PREDICTIONS:
            known = ", ".join(generator.PREDICTIONS)
            raise ValueError(f"prediction: {self.prediction!r} is not known; choose from {known}")


def train(
    images: LabelledImages, settings: Settings, folder: Path, steps: int = 10, guidance: float = 1.4
) -> tuple[VisionCLIPDDPMPipeline, History]:
    """Train a generator in ``folder`` and return its pipeline, set to ``steps`` and ``guidance``, with the loss of
    every update.

    The ``masks`` of ``images``, uint8 N×L×S×S in {0, 1}, are their layouts; without any the generator is conditioned on
    labels alone. A stopped run goes on where it was.

    Raises:
        ValueError: the images aren't uint8 N×S×S×3, the layouts of another size, or a setting can't be used with them.
    """
    check(images, settings)
    settings = loop.on_this_machine(settings)
    network = untrained(images, settings)
    key = settings.key(images.key, keys.code(__file__))
    schedule, vectors = generator.noise_schedule(settings.prediction), images.vectors

    def step(update: Update) -> dict[str, torch.Tensor]:
        rows = update.rows(len(images))
        pixels, labels = (torch.from_numpy(array[rows]).to(update.device) for array in (images.pixels, vectors))
        layouts = None if images.masks is None else torch.from_numpy(images.masks[rows]).to(update.device)
        latents, source = network.encode(pixels), update.torch_rng("noise")
        noise = torch.randn(latents.shape, generator=source, device=update.device)
        times = torch.randint(len(schedule.betas), (len(rows),), generator=source, device=update.device)
        keep = kept(torch.rand(len(rows), generator=source, device=update.device), settings.drop)
        own = update.share(np.arange(len(rows)))
        layouts = None if layouts is None else layouts[own]
        weights = cell_weights(layouts, images.mask_names, settings)
        batch = latents[own], noise[own], times[own], labels[own], layouts, keep[own], weights
        return {"loss": denoising_loss(update.network, schedule, *batch, settings.highest_weight)}

    log = loop.train(
        network, step, settings, "diffusion model", key, folder / "checkpoint.safetensors", channels_last=False
    )
    pipeline = VisionCLIPDDPMPipeline(network, generator.solver(settings.prediction), steps, guidance)
    state = PartialState()
    if state.is_main_process:
        pipeline.save_pretrained(folder)
        runs.share(folder)
    state.wait_for_everyone()
    return pipeline, log


def untrained(images: LabelledImages, settings: Settings) -> generator.Generator:
    """The generator that ``train`` begins with, whose basis is that of some of the images."""
    torch.manual_seed(streams.integer(settings.seed, "initial weights of the generator"))
    few = np.linspace(0, len(images) - 1, min(len(images), BASIS_IMAGES)).astype(int)
    masks = None if images.masks is None else torch.from_numpy(images.masks[few])
    weights = cell_weights(masks, images.mask_names, settings)
    return generator.fitted(
        images.pixels[few],
        settings.patch,
        VECTOR_NAMES,
        images.mask_names,
        settings.channels,
        settings.layers,
        settings.prediction,
        settings.variance,
        None if weights is None else weights.numpy(),
    )


def kept(chance: torch.Tensor, drop: float) -> torch.Tensor:
    """float32 N×2 in {0, 1}, whether conditions and layout are shown, from N numbers in [0, 1): each alone is hidden
    with probability ``drop``, and so are both."""
    conditions, layout = chance >= 2 * drop, (chance < drop) | (chance >= 3 * drop)
    return torch.stack([conditions, layout], 1).float()


def cell_weights(layouts: torch.Tensor | None, names: tuple[str, ...], settings: Settings) -> torch.Tensor | None:
    """float32 N×h×w: what each cell counts in the loss, more where a ``weighted`` mask of the layouts N×L×S×S is; None
    where all count alike."""
    places = [place for place, name in enumerate(names) if name in settings.weighted]
    if layouts is None or not places:
        return None
    shown = functional.max_pool2d(layouts[:, places].amax(1, keepdim=True).float(), settings.patch)
    return 1 + settings.mask_weight * shown[:, 0]


def denoising_loss(
    network: nn.Module,
    schedule: DDPMScheduler,
    latents: torch.Tensor,
    noise: torch.Tensor,
    times: torch.Tensor,
    vectors: torch.Tensor,
    layouts: torch.Tensor | None,
    keep: torch.Tensor,
    weights: torch.Tensor | None,
    highest_weight: float,
) -> torch.Tensor:
    """Mean squared error of what the network predicts, weighted by the signal-to-noise ratio and by cell; a scalar.

    Of clean latents the weight is SNR + 1, which makes it the error of the velocity (Salimans & Ho 2022), of the
    velocity 1, both capped at ``highest_weight`` for the clean latents, so that nearly noiseless images don't dominate;
    of the noise it is min(SNR, cap) / SNR (Hang et al. 2023). Images with ``keep`` 0 are denoised without conditions,
    or without layout; ``weights`` N×h×w are of the cells.
    """
    predicted = network(schedule.add_noise(latents, noise, times), times, vectors, layouts, keep)
    snr, kind = compute_snr(schedule, times), schedule.config.prediction_type
    if kind == "sample":
        target, weight = latents, (snr + 1).clamp_max(highest_weight)
    elif kind == "v_prediction":
        target, weight = schedule.get_velocity(latents, noise, times), (highest_weight / (snr + 1)).clamp_max(1)
    else:
        target, weight = noise, (highest_weight / snr).clamp_max(1)
    error = (predicted - target).square().mean(1)
    error = error.mean((1, 2)) if weights is None else (error * weights).sum((1, 2)) / weights.sum((1, 2))
    return (error * weight).mean()


def check(images: LabelledImages, settings: Settings) -> None:
    """Raise ValueError where ``train`` can't use these images with these settings."""
    pixels, layouts = images.pixels, images.masks
    if pixels.dtype != np.uint8 or len(pixels.shape) != 4 or pixels.shape[1] != pixels.shape[2] or pixels.shape[3] != 3:
        raise ValueError(f"diffusion: images are {pixels.dtype} {pixels.shape}; give uint8 N x S x S x 3")
    if layouts is not None and (len(layouts) != len(images) or layouts.shape[2:] != pixels.shape[1:3]):
        raise ValueError(f"diffusion: layouts {layouts.shape} for images {pixels.shape}; give one of the size of each")
    generator.check_size(pixels.shape[1], settings.patch, settings.channels)
