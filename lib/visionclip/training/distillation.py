"""Distilling a generator into a student of few steps that needs no second pass for guidance.

Progressive distillation (Salimans & Ho 2022) in one stage, of the guided teacher (Meng et al. 2023): from a noisy image
at one of the student's steps the teacher takes several, with guidance, to where the student's next step begins, and the
student learns the clean image by which it gets there in one.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from diffusers import DDIMScheduler, DDPMScheduler
from torch import nn

from visionclip import keys, runs
from visionclip.data.labelled import LabelledImages
from visionclip.models import generator
from visionclip.models.generator import Generator, VisionCLIPDDPMPipeline
from visionclip.training import loop
from visionclip.training.checkpoints import History
from visionclip.training.loop import Update


@dataclass(frozen=True, kw_only=True)
class Settings(loop.Settings):
    """How a student is trained; what is built is the teacher again."""

    steps: int = 4  # of the student
    substeps: int = 4  # of the teacher for each of them
    guidance: float = 1.4  # of the teacher
    drop: float = 0.1  # probability that the layout is hidden
    highest_weight: float = 5.0  # cap of the loss weight, the signal-to-noise ratio + 1
    batch_size: int = 8
    learning_rate: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.99)
    ema: float = 0.999


def train(
    teacher: Generator, images: LabelledImages, settings: Settings, folder: Path
) -> tuple[VisionCLIPDDPMPipeline, History]:
    """Train a student of ``teacher`` (which predicts the clean image) in ``folder``; return its pipeline, and the loss
    of every update. ``images`` are those that the teacher learnt from; a stopped run goes on where it was.

    Raises:
        ValueError: the teacher predicts something else, or its layouts are not those of the images.
    """
    check(teacher, images)
    settings = loop.on_this_machine(settings)
    student = Generator.from_config(teacher.config)
    student.load_state_dict(teacher.state_dict())
    teacher.requires_grad_(False).train(False)
    key = settings.key(images.key, keys.weights(teacher), keys.code(__file__))
    schedule, vectors = generator.noise_schedule(), images.vectors
    guided = loop.InPrecision(teacher, settings.precision == "bf16")

    def step(update: Update) -> dict[str, torch.Tensor]:
        rows = update.rows(len(images))
        own = update.share(np.arange(len(rows)))
        source = update.torch_rng("noise of the distillation")
        latents = teacher.to(update.device).encode(torch.from_numpy(images.pixels[rows]).to(update.device))
        noise = torch.randn(latents.shape, generator=source, device=update.device)
        which = torch.randint(settings.steps, (len(rows),), generator=source, device=update.device)
        hidden = torch.rand(len(rows), generator=source, device=update.device) < settings.drop
        layouts = None if images.masks is None else torch.from_numpy(images.masks[rows[own]]).to(update.device)
        keep = torch.stack([torch.ones_like(hidden), ~hidden], 1).float()[own]
        shown = torch.from_numpy(vectors[rows[own]]).to(update.device), layouts, keep
        times = step_times(settings.steps, settings.substeps).to(update.device)[which[own]]
        noisy = schedule.add_noise(latents[own], noise[own], times[:, 0])
        target = target_of_student(guided, schedule, noisy, times, shown, settings.guidance)
        predicted = update.network(noisy, times[:, 0], *shown)
        snr = (_alpha(schedule, times[:, 0]) / _sigma(schedule, times[:, 0])).square().flatten()
        weight = (snr + 1).clamp_max(settings.highest_weight)
        return {"loss": ((predicted - target).square().mean((1, 2, 3)) * weight).mean()}

    log = loop.train(
        student, step, settings, "distillation", key, folder / "checkpoint.safetensors", channels_last=False
    )
    pipeline = VisionCLIPDDPMPipeline(student, few_steps(), settings.steps, 1.0)
    state = PartialState()
    if state.is_main_process:
        pipeline.save_pretrained(folder)
        runs.share(folder)
    state.wait_for_everyone()
    return pipeline, log


def check(teacher: Generator, images: LabelledImages) -> None:
    """Raise ValueError where ``train`` can't use this teacher with these images."""
    if teacher.config.prediction != "sample":
        raise ValueError(f"distillation: the teacher predicts {teacher.config.prediction!r}; train one with 'sample'")
    if tuple(teacher.config.layout) != tuple(images.mask_names):
        layout = ", ".join(images.mask_names) or "none"
        raise ValueError(
            f"distillation: the layouts are {layout}; the teacher's are {', '.join(teacher.config.layout)}"
        )


def few_steps() -> DDIMScheduler:
    """The student's scheduler: DDIM (Song et al. 2021) from where the schedule ends."""
    return DDIMScheduler.from_config(
        generator.noise_schedule().config, timestep_spacing="trailing", set_alpha_to_one=True
    )


def step_times(steps: int, substeps: int) -> torch.Tensor:
    """int64 steps×(substeps + 1): where each step begins, the teacher's way, and where the next begins; the last ends
    at -1, the clean image."""
    every = steps * substeps
    times = torch.cat([torch.round(torch.arange(1000, 0, -1000 / every)[:every]), torch.zeros(1)]).long() - 1
    return times.unfold(0, substeps + 1, substeps)


def _alpha(schedule: DDPMScheduler, times: torch.Tensor) -> torch.Tensor:
    """The share of the clean image at N times, N×1×1×1; 1 at time -1."""
    products = torch.cat([schedule.alphas_cumprod, schedule.alphas_cumprod.new_ones(1)]).to(times.device)
    return products[times].sqrt()[:, None, None, None]


def _sigma(schedule: DDPMScheduler, times: torch.Tensor) -> torch.Tensor:
    return (1 - _alpha(schedule, times).square()).clamp_min(0).sqrt()


@torch.no_grad()
def target_of_student(
    teacher: nn.Module,
    schedule: DDPMScheduler,
    noisy: torch.Tensor,
    times: torch.Tensor,
    shown: tuple[torch.Tensor, torch.Tensor | None, torch.Tensor],
    guidance: float,
) -> torch.Tensor:
    """The clean latents by which one DDIM step from ``noisy`` (N×C×h×w) at ``times[:, 0]`` ends at ``times[:, -1]``
    where the guided teacher ends that takes them all; ``shown`` are vectors N×K, layouts and keep N×2."""
    vectors, layouts, keep = shown
    twice = None if layouts is None else layouts.repeat(2, 1, 1, 1)
    both = vectors.repeat(2, 1), twice, torch.cat([keep, torch.zeros_like(keep)])
    reached = noisy
    for start, end in zip(times.T[:-1], times.T[1:], strict=True):
        given, plain = teacher(reached.repeat(2, 1, 1, 1), start.repeat(2), *both).chunk(2)
        clean = plain + guidance * (given - plain)
        ratio = _sigma(schedule, end) / _sigma(schedule, start)
        reached = ratio * reached + (_alpha(schedule, end) - ratio * _alpha(schedule, start)) * clean
    ratio = _sigma(schedule, times[:, -1]) / _sigma(schedule, times[:, 0])
    return (reached - ratio * noisy) / (_alpha(schedule, times[:, -1]) - ratio * _alpha(schedule, times[:, 0]))
