"""The generator: a conditional denoising diffusion model of the retina as a diffusers pipeline, small enough to be
trained on a processor.

Three ideas make it cheap. The image is cut into patches of ``patch`` x ``patch`` pixels that become channels, so that
the UNet works on a small grid. Each patch is expressed in its strongest principal components, scaled so that neither
coarse colour nor fine detail drowns the other: a fixed linear latent space, inverted up to the components left out.
And the network predicts the clean latents, weighted as the velocity would be (Salimans & Ho 2022; Li & He 2025): a
narrow network can draw a clean image, but it can't pass on every detail of the noise.

The conditions enter through the time embedding; a *layout*, masks at the resolution of the image, is laid beside the
noisy image and says where things are. Each is hidden from some images in training, so that the pipeline can draw with
layouts or without, and guide away from what it would draw of no eye in particular (Ho & Salimans 2022).

Nothing of this project is imported: the file is saved beside the weights, so that diffusers can load them elsewhere.
"""

import inspect
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    ConfigMixin,
    DDPMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    ImagePipelineOutput,
    ModelMixin,
    SchedulerMixin,
    UNet2DModel,
)
from diffusers.configuration_utils import register_to_config
from diffusers.utils.torch_utils import randn_tensor
from torch import nn
from torch.nn import functional

NORM_GROUPS = 8
UNKNOWN = 0.5  # half-way between absent and present: it moves the image towards neither
PREDICTIONS = ("sample", "epsilon", "v_prediction")


def check_size(size: int, patch: int, channels: Sequence[int]) -> None:
    """Raise ValueError unless a generator of this patch and these widths can draw images of ``size`` pixels."""
    if size % (patch * 2 ** (len(channels) - 1)) or any(width % NORM_GROUPS for width in channels):
        raise ValueError(
            f"generator: size {size} must be a multiple of patch {patch} x 2^{len(channels) - 1} and every one of "
            f"channels {tuple(channels)} a multiple of {NORM_GROUPS}"
        )


class Generator(ModelMixin, ConfigMixin):
    """UNet, label embedding and patch basis; ``save_pretrained`` and ``from_pretrained`` as any diffusers model.

    ``size`` is the image side in pixels, ``components`` the number of principal components a patch keeps,
    ``conditions`` name the entries of the condition vector as "key>=value", ``layout`` the masks of a layout (none:
    conditions only), and ``prediction`` is what the network's answer means, in diffusers' words (``PREDICTIONS``).
    """

    @register_to_config
    def __init__(
        self,
        size: int,
        patch: int,
        components: int,
        conditions: tuple[str, ...],
        layout: tuple[str, ...] = (),
        channels: tuple[int, ...] = (32, 64, 128),
        layers: int = 1,
        prediction: str = "sample",
    ):
        super().__init__()
        check_size(size, patch, channels)
        depth, masks = len(channels), len(layout) * patch**2
        self.unet = UNet2DModel(
            sample_size=size // patch,
            in_channels=components + masks,
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
        self.label = nn.Linear(len(conditions), 4 * channels[0])
        # A narrow UNet can't carry every detail of image and layout from end to end: two linear paths lead around it.
        self.sketch = nn.Conv2d(masks, components, 1) if layout else None
        self.gains = nn.Linear(4 * channels[0], 2 * components)
        for layer in (self.unet.conv_out, self.gains):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        pixels = 3 * patch**2
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("basis", torch.eye(components, pixels))
        self.register_buffer("scale", torch.ones(components))

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 N×S×S×3 to latents N×C×h×w of zero mean and unit variance over all components."""
        patches = functional.pixel_unshuffle(images.permute(0, 3, 1, 2).float() / 127.5 - 1, self.config.patch)
        centred = patches - self.mean[:, None, None]
        return torch.einsum("cp,nphw->nchw", self.basis, centred) / self.scale[:, None, None]

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents N×C×h×w to uint8 N×S×S×3."""
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
        """What ``prediction`` says, N×C×h×w, float32.

        ``noisy`` are latents, ``times`` N, ``vectors`` N×K in {0, 1} with NaN where unknown, ``layouts`` N×L×S×S in
        {0, 1} or None, ``keep`` N×2 in {0, 1}: where 0 the image is denoised without its conditions, or its layout.
        """
        time = self.unet.time_embedding(self.unet.time_proj(times).to(self.gains.weight.dtype))
        gain, sketched = self.gains(functional.silu(time))[:, :, None, None].float().chunk(2, 1)
        around = gain * noisy
        if self.sketch is not None:
            if layouts is None:
                layouts = noisy.new_zeros(len(noisy), len(self.config.layout), *(self.config.size,) * 2)
            grid = functional.pixel_unshuffle(layouts.float(), self.config.patch) * keep[:, 1, None, None, None]
            around = around + sketched * self.sketch(grid)
            noisy = torch.cat([noisy, grid], 1)
        labels = self.label(vectors.nan_to_num(UNKNOWN)) * keep[:, :1]
        return around + self.unet(noisy, times, class_labels=labels).sample.float()


class VisionCLIPDDPMPipeline(DiffusionPipeline):
    """Draws retinas from their conditions, and from layouts where there are some, as any pipeline of diffusers does.

    ``scheduler`` may be any of diffusers' that knows the model's kind of prediction. ``steps`` and ``guidance`` are
    what the model is best drawn with. A saved folder holds this file too: ``DiffusionPipeline.from_pretrained(folder,
    custom_pipeline="generator", trust_remote_code=True)`` needs nothing but diffusers.
    """

    model_cpu_offload_seq = "unet"

    def __init__(self, unet: ModelMixin, scheduler: SchedulerMixin, steps: int = 10, guidance: float = 1.4):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.register_to_config(steps=steps, guidance=guidance)

    @classmethod
    def load_config(cls, *given, **named):
        """As in diffusers, but with the class of this module, so that the code in the folder needs no trust."""
        config = super().load_config(*given, **named)
        return {**config, "unet": [Generator.__module__, Generator.__name__]} if isinstance(config, dict) else config

    def save_pretrained(self, folder: str | Path, **named: object) -> None:
        """As in diffusers, with the code that loads it elsewhere."""
        super().save_pretrained(folder, **named)
        index = Path(folder) / "model_index.json"
        described = {**json.loads(index.read_text("utf-8")), "unet": ["generator", Generator.__name__]}
        index.write_text(json.dumps(described, indent=2) + "\n", "utf-8")
        for place in (index.parent, index.parent / "unet"):
            shutil.copyfile(__file__, place / "generator.py")

    @torch.inference_mode()
    def __call__(
        self,
        conditions: Sequence[Mapping[str, int]] | np.ndarray,
        layouts: np.ndarray | torch.Tensor | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple:
        """Draw one image for each of N ``conditions``: mappings, of which what isn't named is unknown, or their vectors
        N×K with NaN for it.

        ``layouts`` are N×L×S×S in {0, 1} in the order of the model's ``layout``. ``guidance_scale`` 1 needs one pass a
        step, any other two. ``generator``, one or one an image, draws the noise, or ``latents`` N×C×h×w are it. Images
        are "pil" or "np": uint8 N×S×S×3.

        Raises:
            ValueError: an unknown condition or kind of output, or layouts of another number or shape.
        """
        steps = self.config.steps if num_inference_steps is None else num_inference_steps
        guidance = self.config.guidance if guidance_scale is None else guidance_scale
        if output_type not in ("pil", "np"):
            raise ValueError(f"output_type: {output_type!r} is not known; choose pil or np")
        vectors, marks = self._given(conditions, layouts)
        self.scheduler.set_timesteps(steps, device=vectors.device)
        latents = self._noise(len(vectors), generator, latents)
        for time in self.progress_bar(self.scheduler.timesteps):
            scaled = self.scheduler.scale_model_input(latents, time)
            predicted = self._predicted(scaled, time, vectors, marks, guidance)
            latents = self.scheduler.step(predicted, time, latents, **self._randomness(generator)).prev_sample
        images = self.unet.decode(latents).cpu().numpy()
        shown = self.numpy_to_pil(images / 255) if output_type == "pil" else images
        return ImagePipelineOutput(images=shown) if return_dict else (shown,)

    def _given(
        self, conditions: Sequence[Mapping[str, int]] | np.ndarray, layouts: np.ndarray | torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        device, config = self._execution_device, self.unet.config
        if not isinstance(conditions, np.ndarray):
            conditions = encode_conditions(conditions, config.conditions)
        if conditions.ndim != 2 or conditions.shape[1] != len(config.conditions):
            raise ValueError(f"conditions: {conditions.shape}; give N x {len(config.conditions)}, or mappings")
        given = torch.from_numpy(conditions.astype(np.float32)).to(device)
        if layouts is None:
            return given, None
        wanted = (len(given), len(config.layout), config.size, config.size)
        if not config.layout or tuple(layouts.shape) != wanted:
            raise ValueError(
                f"layouts: {tuple(layouts.shape)}; this generator takes {wanted if config.layout else 'none'}"
            )
        return given, torch.as_tensor(layouts).to(device)

    def _noise(
        self, count: int, generator: torch.Generator | list[torch.Generator] | None, latents: torch.Tensor | None
    ) -> torch.Tensor:
        grid = self.unet.config.size // self.unet.config.patch
        shape = (count, self.unet.config.components, grid, grid)
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=self._execution_device)
        return latents.to(self._execution_device) * self.scheduler.init_noise_sigma

    def _predicted(
        self,
        latents: torch.Tensor,
        time: torch.Tensor,
        vectors: torch.Tensor,
        layouts: torch.Tensor | None,
        guidance: float,
    ) -> torch.Tensor:
        """The guided prediction; it and the plain one share a batch."""
        passes = 1 if guidance == 1 else 2
        keep = torch.ones(passes, len(latents), 2, device=latents.device)
        keep[1:] = 0
        repeated = None if layouts is None else layouts.repeat(passes, 1, 1, 1)
        times = time.expand(passes * len(latents))
        given = latents.repeat(passes, 1, 1, 1), times, vectors.repeat(passes, 1), repeated, keep.flatten(0, 1)
        predicted = self.unet(*given)
        if passes == 1:
            return predicted
        guided, plain = predicted.chunk(2)
        return plain + guidance * (guided - plain)

    def _randomness(self, generator: torch.Generator | list[torch.Generator] | None) -> dict[str, object]:
        """What the scheduler's step takes of it: some add noise at every step, others none."""
        return {"generator": generator} if "generator" in inspect.signature(self.scheduler.step).parameters else {}


def encode_conditions(conditions: Sequence[Mapping[str, int]], names: Sequence[str]) -> np.ndarray:
    """float32 N×K in {0, 1} of N mappings, NaN for what they don't state; the K ``names`` are "key>=value".

    Raises:
        ValueError: a key that no name has.
    """
    entries = [(key, int(value)) for key, _, value in (name.partition(">=") for name in names)]
    known = dict(entries)
    for index, eye in enumerate(conditions):
        if unknown := sorted(set(eye) - set(known)):
            raise ValueError(f"conditions of image {index}: {unknown[0]!r} is unknown; allowed: {', '.join(known)}")
    rows = [[eye[key] >= value if key in eye else np.nan for key, value in entries] for eye in conditions]
    return np.array(rows, np.float32).reshape(len(conditions), len(names))


def principal_components(
    images: np.ndarray, patch: int, weights: np.ndarray | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean (P), components (PxP, one a row, strongest first) and their deviations (P) of the patches of ``images``,
    uint8 N×S×S×3, each of a weight of ``weights`` (N×h×w, by default all of one)."""
    patches = functional.pixel_unshuffle(torch.from_numpy(images).permute(0, 3, 1, 2).double() / 127.5 - 1, patch)
    patches = patches.permute(0, 2, 3, 1).flatten(0, 2)
    share = torch.ones(len(patches), 1) if weights is None else torch.from_numpy(weights).reshape(-1, 1)
    share = share.double() / share.double().sum()
    mean = (share * patches).sum(0)
    variance, components = torch.linalg.eigh((patches - mean).T @ (share * (patches - mean)))
    deviation = variance.flip(0).clamp_min(1e-6).sqrt()
    return mean.float(), components.T.flip(0).contiguous().float(), deviation.float()


def noise_schedule(prediction: str = "sample") -> DDPMScheduler:
    """1000 steps of the cosine schedule (Nichol & Dhariwal 2021). It ends at an SNR of 2e-9, so that there is nothing
    left to rescale to zero (Lin et al. 2024) but a division by it."""
    return DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2", prediction_type=prediction, clip_sample=False)


def solver(prediction: str = "sample") -> DPMSolverMultistepScheduler:
    """DPM-Solver++ (Lu et al. 2022) over that schedule, starting where it ends."""
    return DPMSolverMultistepScheduler.from_config(
        noise_schedule(prediction).config,
        algorithm_type="dpmsolver++",
        timestep_spacing="trailing",
        lambda_min_clipped=-5.1,
    )


def fitted(
    images: np.ndarray,
    patch: int,
    conditions: Sequence[str],
    layout: Sequence[str] = (),
    channels: Sequence[int] = (32, 64, 128),
    layers: int = 1,
    prediction: str = "sample",
    variance: float = 0.995,
    weights: np.ndarray | None = None,
) -> Generator:
    """An untrained generator whose patch basis fits ``images``, uint8 N×S×S×3.

    ``variance`` is the share of the patches' variance (0 to 1) that its principal components keep, where ``weights``
    N×h×w say what a patch counts; the rest as in ``Generator``.
    """
    mean, basis, deviation = principal_components(images, patch, weights)
    kept = (deviation.square().cumsum(0) / deviation.square().sum()).double()
    components = min(int((kept < variance).sum()) + 1, len(deviation))
    generator = Generator(  # by name, as diffusers takes what is given by place for a default
        size=images.shape[1],
        patch=patch,
        components=components,
        conditions=tuple(conditions),
        layout=tuple(layout),
        channels=tuple(channels),
        layers=layers,
        prediction=prediction,
    )
    generator.mean.copy_(mean)
    generator.basis.copy_(basis[:components])
    # Half-way between none and full whitening: noise of one size in the latents then costs the image least.
    spread = deviation[:components].sqrt()
    generator.scale.copy_(spread * spread.square().mean().sqrt())
    return generator
