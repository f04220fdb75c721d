"""The generator: a class-conditional denoising diffusion model of the retina, small enough to learn in minutes.

Three ideas make it cheap. The image is cut into patches of ``patch`` x ``patch`` pixels that become channels, so that
the UNet works on a small grid. Each patch is expressed in its strongest principal components, scaled so that neither
coarse colour nor fine detail drowns the other: a fixed linear latent space, inverted up to the components left out.
And the network predicts the clean latents, weighted as the velocity would be (Salimans & Ho 2022; Li & He 2025): a
narrow network can draw a clean image, but it can't pass on every detail of the noise.

The conditions of ``visionclip.conditions`` enter through the time embedding; a *layout*, the phantom's masks in a
few channels, is laid beside the noisy image and says where things are. Both are hidden from some images in training,
for classifier-free guidance (Ho & Salimans 2022).
"""

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import ConfigMixin, DDPMScheduler, ModelMixin, UNet2DModel
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional

from visionclip.conditions import VECTOR_NAMES

NORM_GROUPS = 8


def check_size(size: int, patch: int, channels: Sequence[int]) -> None:
    """Raise ValueError unless a generator of this patch and these widths can draw images of ``size`` pixels."""
    if size % (patch * 2 ** (len(channels) - 1)) or any(width % NORM_GROUPS for width in channels):
        raise ValueError(
            f"generator: size {size} must be a multiple of patch {patch} x 2^{len(channels) - 1} and every one of "
            f"channels {tuple(channels)} a multiple of {NORM_GROUPS}"
        )


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
        check_size(size, patch, channels)
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
        """The predicted clean latents, N×C×h×w, float32.

        ``noisy`` are latents, ``times`` N integers, ``vectors`` N×K in {0, 1} with NaN where unknown, ``layouts``
        N×L×S×S in {0, 1} or None, ``keep`` N in {0, 1}: where 0 the image is denoised without its label and layout.
        """
        time = self.unet.time_embedding(self.unet.time_proj(times))
        gain, sketched = self.gains(functional.silu(time))[:, :, None, None].float().chunk(2, 1)
        around = gain * noisy
        if layouts is not None and self.sketch is not None:
            grid = functional.pixel_unshuffle(layouts.float(), self.config.patch) * keep[:, None, None, None]
            around = around + sketched * self.sketch(grid)
            noisy = torch.cat([noisy, grid], 1)
        # Unknown lies half-way between absent and present: it moves the image towards neither.
        labels = self.label(vectors.nan_to_num(0.5)) * keep[:, None]
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


def fitted(
    images: np.ndarray,
    patch: int,
    channels: tuple[int, ...],
    layers: int,
    layout_channels: int,
    variance: float = 0.995,
    labels: int = len(VECTOR_NAMES),
) -> Generator:
    """An untrained generator whose patch basis fits ``images``, uint8 N×S×S×3.

    ``variance`` is the share of the patches' variance (0 to 1) that its principal components keep; the rest as
    ``Generator``.
    """
    mean, basis, deviation = principal_components(images, patch)
    kept = (deviation.square().cumsum(0) / deviation.square().sum()).double()
    components = min(int((kept < variance).sum()) + 1, len(deviation))
    generator = Generator(images.shape[1], patch, components, channels, layers, labels, layout_channels)
    generator.mean.copy_(mean)
    generator.basis.copy_(basis[:components])
    # Half-way between none and full whitening: noise of one size in the latents then costs the image least.
    spread = deviation[:components].sqrt()
    generator.scale.copy_(spread * spread.square().mean().sqrt())
    return generator
