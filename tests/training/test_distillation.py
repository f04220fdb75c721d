"""The student learns to get there in fewer steps, without a second pass for guidance."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import tiny_images
from visionclip.models import generator
from visionclip.models.generator import VisionCLIPDDPMPipeline
from visionclip.training import denoising, distillation

TEACHER = denoising.Settings(patch=2, channels=(16, 32), updates=40, batch_size=8, learning_rate=3e-3)
SMALL = distillation.Settings(steps=2, substeps=3, updates=4, batch_size=4, checkpoint_every=2, learning_rate=1e-3)


@pytest.fixture(scope="module")
def images():
    return tiny_images.discs(24)


@pytest.fixture(scope="module")
def teacher(images, tmp_path_factory):
    return denoising.train(images, TEACHER, tmp_path_factory.mktemp("teacher"))[0].unet


@pytest.fixture(scope="module")
def student(teacher, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("student")
    return *distillation.train(teacher, images, SMALL, folder), folder


def test_steps_start_where_those_of_the_scheduler_do_and_meet():
    times = distillation.step_times(4, 3)
    scheduler = distillation.few_steps()
    scheduler.set_timesteps(4)
    assert times[:, 0].tolist() == scheduler.timesteps.tolist() == [999, 749, 499, 249]
    assert times[1:, 0].tolist() == times[:-1, -1].tolist()
    assert times[-1, -1] == -1
    assert (times.diff(dim=1) < 0).all()


def test_a_student_that_meets_its_target_ends_where_the_guided_teacher_does(teacher, images):
    """The target, stepped by diffusers' DDIM, against the teacher's own steps by diffusers' DDIM."""
    steps, substeps, guidance = 2, 4, 2.0  # of which diffusers makes equal ones
    schedule, latents = generator.noise_schedule(), teacher.encode(torch.from_numpy(images.pixels[:4]))
    shown = torch.from_numpy(images.vectors[:4]), torch.from_numpy(images.masks[:4]), torch.ones(4, 2)
    times = distillation.step_times(steps, substeps)[:1].repeat(4, 1)
    noisy = schedule.add_noise(
        latents, torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)), times[:, 0]
    )
    target = distillation.target_of_student(teacher, schedule, noisy, times, shown, guidance)
    student = distillation.few_steps()
    student.set_timesteps(steps)
    reached = student.step(target, student.timesteps[0], noisy).prev_sample
    scheduler = distillation.few_steps()
    scheduler.set_timesteps(steps * substeps)
    pipeline, expected = VisionCLIPDDPMPipeline(teacher, scheduler), noisy
    with torch.no_grad():
        for time in scheduler.timesteps[:substeps]:
            predicted = pipeline._predicted(expected, time, *shown[:2], guidance)
            expected = scheduler.step(predicted, time, expected).prev_sample
    torch.testing.assert_close(reached, expected, atol=2e-3, rtol=2e-3)


def test_the_last_target_is_the_clean_image_that_the_teacher_arrives_at(teacher, images):
    schedule, latents = generator.noise_schedule(), teacher.encode(torch.from_numpy(images.pixels[:2]))
    shown = torch.from_numpy(images.vectors[:2]), torch.from_numpy(images.masks[:2]), torch.ones(2, 2)
    times = torch.tensor([[20, -1]] * 2)
    noisy = schedule.add_noise(latents, torch.zeros_like(latents), times[:, 0])
    with torch.no_grad():
        clean = teacher(noisy, times[:, 0], *shown)
    target = distillation.target_of_student(teacher, schedule, noisy, times, shown, 1.0)
    torch.testing.assert_close(target, clean, atol=1e-5, rtol=1e-5)


def test_the_student_begins_as_its_teacher_and_gets_nearer_to_its_target(teacher, images, tmp_path):
    settings = replace(SMALL, updates=60, batch_size=8, ema=0.9)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    pipeline, log = distillation.train(teacher, images, settings, tmp_path)
    losses = [entry["loss"] for entry in log]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert (pipeline.config.steps, pipeline.config.guidance) == (2, 1.0)


def test_a_stopped_run_equals_an_uninterrupted_one(teacher, student, images, tmp_path, monkeypatch):
    pipeline, log, _ = student
    tiny_images.stop_after(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        distillation.train(teacher, images, SMALL, tmp_path)
    taken = tiny_images.watch(monkeypatch)
    resumed, resumed_log = distillation.train(teacher, images, SMALL, tmp_path)
    assert taken == [2, 3]
    assert resumed_log == log
    assert tiny_images.same(resumed.unet, pipeline.unet)


def test_another_teacher_starts_over(teacher, student, images, monkeypatch):
    other = generator.Generator.from_config(teacher.config)
    taken = tiny_images.watch(monkeypatch)
    distillation.train(other, images, SMALL, student[2])
    assert taken == list(range(SMALL.updates))


def test_a_teacher_of_something_else_is_refused(teacher, images, tmp_path):
    with pytest.raises(ValueError, match="the layouts are none; the teacher's are field, disc"):
        distillation.train(teacher, images.without_masks(), SMALL, tmp_path)
    noise = denoising.untrained(images, replace(TEACHER, prediction="epsilon"))
    with pytest.raises(ValueError, match="the teacher predicts 'epsilon'; train one with 'sample'"):
        distillation.train(noise, images, SMALL, tmp_path)
