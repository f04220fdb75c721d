"""The generator: a class-conditional denoising diffusion model of the retina, small enough to learn in minutes.

Three ideas make it cheap. The image is cut into patches of ``patch`` x ``patch`` pixels that become channels, so that
the UNet works on a small grid. Each patch is expressed in its strongest principal components, scaled so that neither
coarse colour nor fine detail drowns the other: a fixed linear latent space, inverted up to the components left out.
And the network predicts the clean latents, weighted as the velocity would be (Salimans & Ho 2022; Li & He 2025): a
narrow network can draw a clean image, but it can't pass on every detail of the noise.

The conditions of ``visionclip.conditions`` enter through the time embedding; a *layout*, the phantom's masks in a
few channels, is laid beside the noisy image and says where things are. Both are hidden from some images in training,
for classifier-free guidance (Ho & Salimans 2022); sampling is DPM-Solver++ (Lu et al. 2022).
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import ConfigMixin, DDPMScheduler, DPMSolverMultistepScheduler, ModelMixin, UNet2DModel
from diffusers.configuration_utils import register_to_config
from diffusers.training_utils import EMAModel, compute_snr
from torch import nn
from torch.nn import functional

from visionclip import runs
from visionclip.conditions import VECTOR_NAMES
from visionclip.progress import progress
from visionclip.training import checkpoints

NORM_GROUPS = 8
FINGERPRINTED = 4096  # images hashed to recognise a data set, evenly spaced: a million need not all be read


@dataclass(frozen=True)
class Settings:
    """How a generator is built and trained; every field is part of the checkpoint's fingerprint."""

    patch: int = 4  # pixels along the side of a patch; the UNet's grid is size / patch
    channels: tuple[int, ...] = (32, 64, 128)  # UNet width per resolution, multiples of 8
    layers: int = 1  # residual blocks per resolution
    variance: float = 0.995  # share of the patch variance that the principal components keep, 0..1
    updates: int = 2000
    batch: int = 8  # over all processes
    learning_rate: float = 1e-3  # peak; 100 updates of warm-up, then half a cosine
    drop: float = 0.1  # chance that an image's label and layout are hidden, for classifier-free guidance
    ema: float = 0.999  # highest decay of the weights' moving average
    highest_weight: float = 5.0  # cap of the loss weight, the signal-to-noise ratio + 1
    precision: str = "fp32"  # of the convolutions: "fp32" or "bf16"
    checkpoint_every: int = 500  # updates
    seed: int = 0


class Generator(ModelMixin, ConfigMixin):
    """UNet, label embedding and patch basis; ``save_pretrained`` and ``from_pretrained`` as any diffusers model.

    ``size`` is the image side in pixels, ``components`` the number of principal components a patch keeps, ``labels``
    the length of the condition vector and ``layout_channels`` the channels of a layout (0: labels only).
    """

    @register_to_config
    def __init__(
        self,
        size: int,
        patch: int,
        components: int,
        channels: tuple[int, ...] = (32, 64, 128),
        layers: int = 1,
        labels: int = len(VECTOR_NAMES),
        layout_channels: int = 0,
    ):
        super().__init__()
        if size % (patch * 2 ** (len(channels) - 1)) or any(width % NORM_GROUPS for width in channels):
            raise ValueError(
                f"generator: size {size} must be a multiple of patch {patch} x 2^{len(channels) - 1} and every one of "
                f"channels {tuple(channels)} a multiple of {NORM_GROUPS}"
            )
        depth = len(channels)
        self.unet = UNet2DModel(
            sample_size=size // patch,
            in_channels=components + layout_channels * patch**2,
            out_channels=components,
            layers_per_block=layers,
            block_out_channels=tuple(channels),
            down_block_types=("DownBlock2D",) * (depth - 1) + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (depth - 1),
            attention_head_dim=min(64, channels[-1]),  # the default of 8 makes the bf16 backward pass 5 times slower
            norm_num_groups=NORM_GROUPS,
            resnet_time_scale_shift="scale_shift",
            class_embed_type="identity",
        )
        self.label = nn.Linear(labels, 4 * channels[0])
        # A narrow UNet can't carry every detail of image and layout from end to end: two linear paths lead around it.
        self.sketch = nn.Conv2d(layout_channels * patch**2, components, 1) if layout_channels else None
        self.gains = nn.Linear(4 * channels[0], 2 * components)
        for layer in (self.unet.conv_out, self.gains):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        pixels = 3 * patch**2
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("basis", torch.eye(components, pixels))
        self.register_buffer("scale", torch.ones(components))

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 NxSxSx3 to latents NxCxhxw of zero mean and unit variance over all components."""
        patches = functional.pixel_unshuffle(images.permute(0, 3, 1, 2).float() / 127.5 - 1, self.config.patch)
        centred = patches - self.mean[:, None, None]
        return torch.einsum("cp,nphw->nchw", self.basis, centred) / self.scale[:, None, None]

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents NxCxhxw to uint8 NxSxSx3."""
        patches = torch.einsum("cp,nchw->nphw", self.basis, latents.float() * self.scale[:, None, None])
        pixels = functional.pixel_shuffle(patches + self.mean[:, None, None], self.config.patch)
        return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)

    def forward(
        self,
        noisy: torch.Tensor,
        times: torch.Tensor,
        vectors: torch.Tensor,
        layouts: torch.Tensor | None,
        keep: torch.Tensor,
    ) -> torch.Tensor:
        """The predicted clean latents, NxCxhxw, float32.

        ``noisy`` are latents, ``times`` N integers, ``vectors`` NxK in {0, 1}, ``layouts`` NxLxSxS in {0, 1} or None,
        ``keep`` N in {0, 1}: where 0 the image is denoised without its label and layout.
        """
        time = self.unet.time_embedding(self.unet.time_proj(times))
        gain, sketched = self.gains(functional.silu(time))[:, :, None, None].float().chunk(2, 1)
        around = gain * noisy
        if self.config.layout_channels:
            grid = functional.pixel_unshuffle(layouts.float(), self.config.patch) * keep[:, None, None, None]
            around = around + sketched * self.sketch(grid)
            noisy = torch.cat([noisy, grid], 1)
        labels = self.label(vectors) * keep[:, None]
        return around + self.unet(noisy, times, class_labels=labels).sample.float()


def principal_components(images: np.ndarray, patch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean (P), components (PxP, one a row, strongest first) and their deviations (P) of the patches of ``images``."""
    chosen = torch.from_numpy(images[np.linspace(0, len(images) - 1, min(len(images), 256)).astype(int)])
    patches = functional.pixel_unshuffle(chosen.permute(0, 3, 1, 2).double() / 127.5 - 1, patch)
    patches = patches.permute(0, 2, 3, 1).flatten(0, 2)
    mean = patches.mean(0)
    variance, components = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    deviation = variance.flip(0).clamp_min(1e-6).sqrt()
    return mean.float(), components.T.flip(0).contiguous().float(), deviation.float()


def noise_schedule() -> DDPMScheduler:
    """1000 steps of the cosine schedule (Nichol & Dhariwal 2021), which ends at an SNR of practically zero."""
    return DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2", prediction_type="sample", clip_sample=False)


def denoising_loss(
    generator: nn.Module,
    schedule: DDPMScheduler,
    latents: torch.Tensor,
    vectors: torch.Tensor,
    layouts: torch.Tensor | None,
    settings: Settings,
    source: torch.Generator,
) -> torch.Tensor:
    """Mean squared error of the clean latents weighted with SNR + 1 up to ``highest_weight``, a scalar.

    SNR + 1 makes it the error of the velocity (Salimans & Ho 2022); the cap keeps nearly noiseless images from
    dominating (Hang et al. 2023). ``source`` draws the noise, the times and the images whose conditions are hidden.
    """
    device, count = latents.device, len(latents)
    noise = torch.randn(latents.shape, generator=source, device=device)
    times = torch.randint(len(schedule.betas), (count,), generator=source, device=device)
    keep = (torch.rand(count, generator=source, device=device) >= settings.drop).float()
    predicted = generator(schedule.add_noise(latents, noise, times), times, vectors, layouts, keep)
    error = (predicted - latents).square().mean((1, 2, 3))
    return (error * (compute_snr(schedule, times) + 1).clamp_max(settings.highest_weight)).mean()


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which convolutions run in ``precision``, "fp32" or "bf16"; which is faster depends on the machine.

    Raises:
        ValueError: any other precision.
    """
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"diffusion: precision is {precision!r}; allowed are fp32 and bf16")
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def learning_rate(step: int, settings: Settings) -> float:
    """Linear warm-up over 100 updates (or a tenth of a short run), then half a cosine to zero."""
    warmup = min(100, settings.updates // 10 + 1)
    fall = max(step - warmup, 0) / max(settings.updates - warmup, 1)
    return settings.learning_rate * min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * fall)))


def fingerprint(settings: Settings, *arrays: np.ndarray | None) -> str:
    """What a checkpoint belongs to: the settings, the arrays' shapes and up to 4096 of their rows."""
    content = hashlib.sha256(json.dumps(asdict(settings), sort_keys=True).encode())
    for array in arrays:
        content.update(str(None if array is None else array.shape).encode())
        if array is not None:
            rows = np.linspace(0, len(array) - 1, min(len(array), FINGERPRINTED)).astype(int)
            for row in rows:
                content.update(np.ascontiguousarray(array[row]))
    return content.hexdigest()[:12]


def train(
    images: np.ndarray, vectors: np.ndarray, layouts: np.ndarray | None, settings: Settings, folder: Path
) -> tuple[Generator, list[float]]:
    """Train a generator in ``folder`` and return it with the loss of every update.

    ``images`` are uint8 NxSxSx3, ``vectors`` float32 NxK (``conditions.vector``), ``layouts`` uint8 NxLxSxS or None for
    a generator conditioned on labels only. Batches and noise follow from the seed and the update's number, so a
    killed run resumes from its checkpoint and ends as if it had not been killed; changed data or settings start
    over, and a finished equal run returns at once. Runs on one CPU, one GPU or several (``accelerate launch``).

    Raises:
        ValueError: the arrays disagree in number or size, or a setting can't be used with them.
    """
    check_arrays(images, vectors, layouts, settings)
    identity = fingerprint(settings, images, vectors, layouts)
    record = folder / "training.json"
    if record.is_file() and (past := runs.read_json(record))["fingerprint"] == identity:
        return Generator.from_pretrained(folder).train(False), past["losses"]
    accelerator = Accelerator()
    if settings.batch % accelerator.num_processes:
        raise ValueError(f"diffusion: batch {settings.batch} can't be shared by {accelerator.num_processes} processes")
    torch.manual_seed(settings.seed)
    generator = build(images, vectors, layouts, settings).to(accelerator.device)
    weights = list(generator.parameters())
    optimiser = torch.optim.AdamW(weights, settings.learning_rate, (0.9, 0.99), weight_decay=0.0, fused=True)
    ema = EMAModel(weights, decay=settings.ema, foreach=True)
    checkpoint = folder / "checkpoint.safetensors"
    modules = {"generator": generator, "average": nn.ParameterList(ema.shadow_params)}
    losses = checkpoints.restore(checkpoint, modules, optimiser, identity)
    ema.optimization_step = len(losses)
    model, optimiser = accelerator.prepare(generator, optimiser)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        record.unlink(missing_ok=True)  # or a kill between the two writes below would leave it beside other weights
    schedule, source = noise_schedule(), torch.Generator(accelerator.device)
    share = settings.batch // accelerator.num_processes
    mine = slice(accelerator.process_index * share, (accelerator.process_index + 1) * share)
    for step in progress(range(len(losses), settings.updates), "diffusion model"):
        rows = np.random.default_rng([settings.seed, step]).integers(len(images), size=settings.batch)[mine]
        source.manual_seed(int(np.random.SeedSequence([settings.seed, step, mine.start]).generate_state(1)[0]))
        pixels, labels, marks = (
            None if array is None else torch.from_numpy(array[rows]).to(accelerator.device)
            for array in (images, vectors, layouts)
        )
        latents = generator.encode(pixels)
        with autocast(accelerator.device, settings.precision):
            loss = denoising_loss(model, schedule, latents, labels, marks, settings, source)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(weights, 1.0)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, settings)
        optimiser.step()
        optimiser.zero_grad()
        ema.step(weights)
        losses.append(accelerator.reduce(loss.detach(), "mean").item())
        if len(losses) % settings.checkpoint_every == 0 and accelerator.is_main_process:
            checkpoints.save(checkpoint, modules, optimiser, identity, losses)
    ema.copy_to(weights)
    if accelerator.is_main_process:
        generator.save_pretrained(folder)
        runs.write_json(record, {"fingerprint": identity, "settings": asdict(settings), "losses": losses})
        checkpoint.unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    return generator.train(False), losses


def check_arrays(images: np.ndarray, vectors: np.ndarray, layouts: np.ndarray | None, settings: Settings) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3:
        raise ValueError(f"diffusion: images are {images.dtype} {images.shape}; give uint8 N x S x S x 3")
    if len(vectors) != len(images) or (layouts is not None and len(layouts) != len(images)):
        raise ValueError(
            f"diffusion: {len(images)} images, {len(vectors)} vectors; give one vector and layout an image"
        )
    if layouts is not None and layouts.shape[2:] != images.shape[1:3]:
        raise ValueError(f"diffusion: layouts of {layouts.shape[2:]} pixels for images of {images.shape[1:3]}")
    autocast(torch.device("cpu"), settings.precision)


def build(images: np.ndarray, vectors: np.ndarray, layouts: np.ndarray | None, settings: Settings) -> Generator:
    """An untrained generator whose patch basis fits ``images``."""
    mean, basis, deviation = principal_components(images, settings.patch)
    kept = (deviation.square().cumsum(0) / deviation.square().sum()).double()
    components = min(int((kept < settings.variance).sum()) + 1, len(deviation))
    generator = Generator(
        images.shape[1],
        settings.patch,
        components,
        settings.channels,
        settings.layers,
        vectors.shape[1],
        0 if layouts is None else layouts.shape[1],
    )
    generator.mean.copy_(mean)
    generator.basis.copy_(basis[:components])
    # Half-way between none and full whitening: noise of one size in the latents then costs the image least.
    spread = deviation[:components].sqrt()
    generator.scale.copy_(spread * spread.square().mean().sqrt())
    return generator


@torch.inference_mode()
def sample(
    generator: Generator,
    vectors: np.ndarray,
    layouts: np.ndarray | None,
    steps: int = 10,
    guidance: float = 1.4,
    seed: int = 0,
    batch: int = 16,
    first: int = 0,
    precision: str = "fp32",
) -> np.ndarray:
    """Draw one image for each condition vector (NxK) and layout (NxLxSxS): uint8 NxSxSx3.

    ``layouts`` is None for a generator conditioned on labels only.
    ``steps`` are DPM-Solver++ steps and ``guidance`` the classifier-free guidance scale (1: none). The noise of
    image i follows from ``seed`` and ``first`` + i alone, so that a set can be drawn in pieces and in any batch size.
    """
    if (layouts is not None) != bool(generator.config.layout_channels):
        raise ValueError("diffusion: give layouts to a generator trained with layouts, and only to such a one")
    generator.train(False)
    images = []
    for start in progress(range(0, len(vectors), batch), "sampling"):
        rows = slice(start, start + batch)
        noise = initial_noise(generator, range(first + start, first + min(start + batch, len(vectors))), seed)
        labels = torch.from_numpy(vectors[rows]).to(generator.device)
        marks = None if layouts is None else torch.from_numpy(layouts[rows]).to(generator.device)
        with autocast(generator.device, precision):
            latents = denoise(generator, noise, labels, marks, steps, guidance)
        images.append(generator.decode(latents).cpu().numpy())
    return np.concatenate(images)


def initial_noise(generator: Generator, indices: range, seed: int) -> torch.Tensor:
    """Standard normal latents, one image an index, drawn on the CPU so that every device starts from the same."""
    grid = generator.config.size // generator.config.patch
    shape = (generator.config.components, grid, grid)
    noise = [np.random.default_rng([seed, index]).standard_normal(shape, np.float32) for index in indices]
    return torch.from_numpy(np.stack(noise)).to(generator.device)


def denoise(
    generator: Generator,
    latents: torch.Tensor,
    vectors: torch.Tensor,
    layouts: torch.Tensor | None,
    steps: int,
    guidance: float,
) -> torch.Tensor:
    """Follow the guided prediction from noise to clean latents; the guided and the plain pass share one batch."""
    solver = DPMSolverMultistepScheduler.from_config(
        noise_schedule().config, algorithm_type="dpmsolver++", timestep_spacing="trailing", lambda_min_clipped=-5.1
    )
    solver.set_timesteps(steps, device=latents.device)
    passes = 1 if guidance == 1 else 2
    keep = torch.ones(passes, len(latents), device=latents.device)
    keep[1:] = 0
    vectors = vectors.repeat(passes, 1)
    layouts = None if layouts is None else layouts.repeat(passes, 1, 1, 1)
    for time in solver.timesteps:
        times = time.expand(passes * len(latents))
        clean = generator(latents.repeat(passes, 1, 1, 1), times, vectors, layouts, keep.flatten())
        guided = clean[: len(latents)]
        if passes == 2:
            plain = clean[len(latents) :]
            guided = plain + guidance * (guided - plain)
        latents = solver.step(guided, time, latents).prev_sample
    return latents
