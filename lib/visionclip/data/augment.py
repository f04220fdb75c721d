"""The randomised part of preparing images, for training: as if another camera had taken them.

A module of its own, because a network's results hang on it only while it is trained.
"""

import torch
from torch.nn import functional

BLACK = 12  # of 255, as in ``field_of_view``: what cameras leave around the field of view


def augment(
    batch: torch.Tensor, strength: float, generator: torch.Generator, masks: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """uint8 N×3×S×S → float [0, 255] of the same shape, each image changed as another camera might have.

    Rotation, scale and shift, gamma by channel, blur and noise, all scaled by ``strength`` (0 none, 1 as tuned; what
    else was tried is in docs/decisions.md). No mirroring: it would swap left and right eyes, which the captions name.
    ``masks`` (N×C×s×s, of any resolution) are moved with their images and returned after them as floats.
    """
    if not strength:
        return batch.float(), None if masks is None else masks.float()
    count, device = len(batch), batch.device

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.rand(count, *shape, generator=generator, device=device) * (high - low) + low

    angle, scale = uniform(-0.35, 0.35) * strength, 1 + uniform(-0.15, 0.15) * strength
    shift = uniform(-0.05, 0.05, 2) * strength
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    affine = torch.stack(
        (torch.stack((cosine, -sine, shift[:, 0]), 1), torch.stack((sine, cosine, shift[:, 1]), 1)), dim=1
    )

    def moved(planes: torch.Tensor) -> torch.Tensor:
        grid = functional.affine_grid(affine, list(planes.shape), align_corners=False)
        return functional.grid_sample(planes.float(), grid, align_corners=False)

    images = moved(batch) / 255

    gamma = torch.exp(uniform(-0.35, 0.35, 1, 1, 1) * strength + uniform(-0.15, 0.15, 3, 1, 1) * strength)
    field = images.amax(dim=1, keepdim=True) > BLACK / 255
    images = images.clamp(1e-4, 1) ** gamma
    blurred = functional.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    images = torch.lerp(images, blurred, uniform(-0.5, 1, 1, 1, 1) * strength)
    noise = torch.randn(images.shape, generator=generator, device=device)
    images = images + noise * uniform(0, 0.03, 1, 1, 1) * strength
    images = images.clamp(0, 1) * 255 * field
    return images, None if masks is None else moved(masks)
