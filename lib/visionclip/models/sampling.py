"""Drawing images with the generator: DPM-Solver++ (Lu et al. 2022) with classifier-free guidance."""

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler

from visionclip import streams
from visionclip.models.generator import Generator, noise_schedule
from visionclip.progress import progress


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
    bf16: bool = False,
) -> np.ndarray:
    """Draw one image for each condition vector (N×K) and layout (N×L×S×S): uint8 N×S×S×3.

    ``layouts`` is None for a generator conditioned on labels only.
    ``steps`` are DPM-Solver++ steps and ``guidance`` the classifier-free guidance scale (1: none). The noise of
    image i follows from ``seed`` and ``first`` + i alone, so that a set can be drawn in pieces and in any batch size.

    Raises:
        ValueError: layouts are given to a generator trained without them, or none to one trained with them.
    """
    if (layouts is not None) != bool(generator.config.layout_channels):
        raise ValueError("sample: give layouts to a generator trained with layouts, and only to such a one")
    generator.train(False)
    images = []
    for start in progress(range(0, len(vectors), batch), "sampling"):
        rows = slice(start, start + batch)
        noise = initial_noise(generator, range(first + start, first + min(start + batch, len(vectors))), seed)
        labels = torch.from_numpy(vectors[rows]).to(generator.device)
        marks = None if layouts is None else torch.from_numpy(layouts[rows]).to(generator.device)
        with torch.autocast(generator.device.type, torch.bfloat16, enabled=bf16):
            latents = denoise(generator, noise, labels, marks, steps, guidance)
        images.append(generator.decode(latents).cpu().numpy())
    return np.concatenate(images)


def initial_noise(generator: Generator, indices: range, seed: int) -> torch.Tensor:
    """Standard normal latents, one image an index, drawn on the CPU so that every device starts from the same."""
    grid = generator.config.size // generator.config.patch
    shape = (generator.config.components, grid, grid)
    noise = [streams.rng(seed, "initial noise", index).standard_normal(shape, np.float32) for index in indices]
    return torch.from_numpy(np.stack(noise)).to(generator.device)


def denoise(
    generator: Generator,
    latents: torch.Tensor,
    vectors: torch.Tensor,
    layouts: torch.Tensor | None,
    steps: int,
    guidance: float,
) -> torch.Tensor:
    """Follow the guided prediction from noise to clean latents, both N×C×h×w.

    ``vectors`` are N×K, ``layouts`` N×L×S×S or None. The guided and the plain pass share one batch; a ``guidance`` of 1
    needs no plain one.
    """
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
