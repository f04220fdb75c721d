"""The generator as a pipeline of diffusers: any scheduler, saved and loaded, here and where this package isn't."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from PIL import Image

import tiny_images
from visionclip.conditions import VECTOR_NAMES
from visionclip.models import generator
from visionclip.models.generator import VisionCLIPDDPMPipeline

COUNT = 4


@pytest.fixture(scope="module")
def images():
    return tiny_images.discs(COUNT)


@pytest.fixture
def pipeline(images):
    made = tiny_images.pipeline(images, steps=3)
    made.set_progress_bar_config(disable=True)
    return made


def knows(network, clean):
    """Let the network answer with the clean latents whatever it is shown; return what it will have been shown."""
    seen = []

    def forward(noisy, times, vectors, layouts, keep):
        seen.append(keep.tolist())
        return clean.repeat(len(noisy) // len(clean), 1, 1, 1)

    network.forward = forward
    return seen


def seeded(count=COUNT, first=0):
    return [torch.Generator().manual_seed(first + index) for index in range(count)]


@pytest.mark.parametrize(
    "scheduler",
    [DDPMScheduler, DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler, EulerDiscreteScheduler],
)
def test_any_scheduler_arrives_where_the_network_says(pipeline, images, scheduler):
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
    clean = pipeline.unet.encode(torch.from_numpy(images.pixels))
    seen = knows(pipeline.unet, clean)
    drawn = pipeline(images.conditions, num_inference_steps=20, generator=seeded(), output_type="np").images
    wanted = pipeline.unet.decode(clean).numpy()
    assert np.abs(drawn.astype(int) - wanted).mean() < 6
    assert len(seen) >= 20


def test_conditions_are_named_and_what_is_not_named_is_unknown(pipeline):
    eyes = [{"dr_grade": 2, "gc": 0}, {}]
    known = generator.encode_conditions(eyes, VECTOR_NAMES)
    stated = {name: known[0, place] for place, name in enumerate(VECTOR_NAMES) if not np.isnan(known[0, place])}
    assert stated == {"dr_grade>=1": 1, "dr_grade>=2": 1, "dr_grade>=3": 0, "dr_grade>=4": 0, "gc>=1": 0}
    assert np.isnan(known[1]).all()
    by_name, by_vector = (pipeline(one, generator=seeded(2), output_type="np").images for one in (eyes, known))
    assert np.array_equal(by_name, by_vector)
    with pytest.raises(ValueError, match=r"conditions of image 1: 'glaucoma' is unknown; allowed: dr_grade, amd"):
        pipeline([{}, {"glaucoma": 1}])


def test_drawn_eyes_are_those_of_labelled_images(images):
    np.testing.assert_array_equal(generator.encode_conditions(images.conditions, VECTOR_NAMES), images.vectors)


def test_pictures_come_as_pil_or_numpy(pipeline, images):
    drawn = pipeline(images.conditions[:1], generator=seeded(1))
    assert isinstance(drawn.images[0], Image.Image)
    (pixels,) = pipeline(images.conditions[:1], generator=seeded(1), output_type="np", return_dict=False)
    assert np.array_equal(np.array(drawn.images[0]), pixels[0])
    with pytest.raises(ValueError, match="output_type: 'pt' is not known; choose pil or np"):
        pipeline(images.conditions[:1], output_type="pt")


def test_noise_is_of_its_generator_alone(pipeline, images):
    whole = pipeline(images.conditions, generator=seeded(), output_type="np").images.astype(int)
    tail = pipeline(images.conditions[2:], generator=seeded(2, first=2), output_type="np").images
    assert np.abs(whole[2:] - tail).max() <= 1
    latents = torch.zeros(COUNT, pipeline.unet.config.components, 8, 8)
    given = [pipeline(images.conditions, latents=latents, output_type="np").images for _ in range(2)]
    assert np.array_equal(*given)


def test_without_guidance_there_is_one_pass_a_step_and_with_it_both_share_a_batch(pipeline, images):
    seen = knows(pipeline.unet, pipeline.unet.encode(torch.from_numpy(images.pixels[:2])))
    for guidance in (1, 2):
        pipeline(images.conditions[:2], images.masks[:2], 3, guidance, output_type="np")
    assert seen == [[[1, 1]] * 2] * 3 + [[[1, 1]] * 2 + [[0, 0]] * 2] * 3


def test_guidance_leads_away_from_the_plain_prediction(pipeline, images):
    plain, guided = (
        pipeline(images.conditions, images.masks, 3, guidance, seeded(), output_type="np").images for guidance in (1, 4)
    )
    assert not np.array_equal(plain, guided)


def test_layouts_say_where_and_may_be_left_out(pipeline, images):
    shown, hidden = (
        pipeline(images.conditions, layouts, generator=seeded(), output_type="np").images
        for layouts in (images.masks, None)
    )
    assert not np.array_equal(shown, hidden)
    for layouts in (images.masks[:2], images.masks[:, :3]):
        with pytest.raises(ValueError, match=r"layouts: .*; this generator takes \(4, 18, 16, 16\)"):
            pipeline(images.conditions, layouts)
    with pytest.raises(ValueError, match=r"conditions: \(4, 3\); give N x"):
        pipeline(np.zeros((4, 3)))


def test_a_generator_without_layouts_takes_none(images):
    network = generator.fitted(images.pixels, 2, VECTOR_NAMES, (), (16, 32))
    labels_only = VisionCLIPDDPMPipeline(network, generator.solver(), steps=2)
    assert labels_only(images.conditions[:2], output_type="np").images.shape == (2, 16, 16, 3)
    with pytest.raises(ValueError, match="this generator takes none"):
        labels_only(images.conditions, images.masks)


def test_a_saved_pipeline_draws_the_same(pipeline, images, tmp_path):
    pipeline.save_pretrained(tmp_path)
    loaded = VisionCLIPDDPMPipeline.from_pretrained(tmp_path)
    assert (loaded.config.steps, loaded.config.guidance) == (3, 1.4)
    assert loaded.scheduler.config.prediction_type == "sample"
    one, other = (
        made(images.conditions, images.masks, generator=seeded(), output_type="np").images.astype(int)
        for made in (pipeline, loaded)
    )
    assert np.abs(one - other).max() <= 1


ELSEWHERE = """
import sys

sys.modules["visionclip"] = None  # not there
import torch
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained(sys.argv[1], custom_pipeline="generator", trust_remote_code=True)
eyes = [{"gc": 1}, {"dr_grade": 4}]
noise = [torch.Generator().manual_seed(index) for index in range(2)]
print(pipeline(eyes, generator=noise, output_type="np").images.astype(int).sum())
"""


@pytest.mark.slow
def test_a_saved_pipeline_needs_nothing_of_this_project(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "saved")
    drawn = pipeline([{"gc": 1}, {"dr_grade": 4}], generator=seeded(2), output_type="np").images
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path / "saved")]
    result = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    )
    assert int(result.stdout.split()[-1]) == pytest.approx(drawn.astype(int).sum(), abs=drawn.size // 100)
