"""The published generator: trained in parts that go on where they were, saved in half precision with its digests."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

import tiny_images
from visionclip.models.generator import VisionCLIPDDPMPipeline
from visionclip.study import weights

TEACHER = replace(weights.TEACHER, patch=2, channels=(16, 32), updates=2, batch_size=4, precision="fp32")
STUDENT = replace(weights.STUDENT, updates=2, batch_size=4, precision="fp32")
FACTS = {"size": 32, "originals": 8, "updates": 2, "batch": 4, "steps": 4, "student": 2}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    student = weights.train(folder / "made", TEACHER, STUDENT, 8, 32)
    weights.publish(student, folder / "published", FACTS)
    return folder


def test_what_is_done_is_not_done_again(published, monkeypatch):
    taken = tiny_images.watch(monkeypatch)
    assert weights.train(published / "made", TEACHER, STUDENT, 8, 32) == published / "made/student"
    assert taken == []


def test_the_published_student_draws_as_it_did(published):
    trained, shown = (
        VisionCLIPDDPMPipeline.from_pretrained(published / name) for name in ("made/student", "published")
    )
    assert (shown.config.steps, shown.config.guidance) == (4, 1.0)
    assert shown.unet.dtype == torch.float32, "loaded in full precision, whatever lies on disk"
    size = [
        sum(path.stat().st_size for path in (published / name / "unet").iterdir())
        for name in ("made/student", "published")
    ]
    assert size[1] < 0.6 * size[0]
    noise = [[torch.Generator().manual_seed(index) for index in range(2)] for _ in range(2)]
    one, other = (
        pipeline([{"gc": 1}, {}], generator=own, output_type="np").images.astype(int)
        for pipeline, own in zip((trained, shown), noise, strict=True)
    )
    assert np.abs(one - other).max() <= 3


def test_every_file_has_its_digest_and_the_card_says_how_it_was_made(published):
    folder = published / "published"
    lines = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"SHA256SUMS"}
    assert set(lines) == files
    assert all(hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest for name, digest in lines.items())
    card = (folder / "README.md").read_text()
    assert "2 updates of 4 images, then 2 of the student" in card
    assert "license: mit" in card
