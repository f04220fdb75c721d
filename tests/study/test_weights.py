"""The published generator: trained in parts that go on where they were, saved in half precision with its digests."""

import hashlib
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

import tiny_images
from visionclip import phantom, runs, streams
from visionclip.data import field_of_view
from visionclip.models.generator import VisionCLIPDDPMPipeline
from visionclip.models.visionclip import VisionCLIP
from visionclip.stages import referee
from visionclip.study import weights

TEACHER = replace(weights.TEACHER, patch=2, channels=(16, 32), updates=2, batch_size=4, precision="fp32")
STUDENT = replace(weights.STUDENT, updates=2, batch_size=4, precision="fp32")
FACTS = {"size": 32, "seed": 1, "commit": "c0ffee1", "originals": 8, "updates": 2, "batch": 4, "steps": 4, "student": 2}


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
    assert "at commit c0ffee1, seed 1: 2 updates of 4 images, then 2\n  of the student" in card
    assert "license: cc-by-4.0" in card


def test_nothing_published_says_where_it_was_trained(published):
    configs = [*(published / "published").rglob("*.json"), *(runs.ROOT / weights.PUBLISHED).rglob("*.json")]
    assert configs
    for config in configs:
        assert not re.search(r'"_name_or_path": "[^"]', config.read_text()), config


def test_the_published_referee_judges_with_its_thresholds(tmp_path, monkeypatch):
    trained = weights.train_referee(tmp_path / "made", 40, 2, 32, 0)
    taken = tiny_images.watch(monkeypatch)
    weights.train_referee(tmp_path / "made", 40, 2, 32, 0)
    assert taken == []
    weights.publish_referee(trained, tmp_path / "published", {**FACTS, "originals": 40})
    loaded = referee.load(tmp_path / "published")
    assert tiny_images.same(loaded.network, trained.network)
    np.testing.assert_array_equal(loaded.thresholds, trained.thresholds)
    assert "learnt from 40\nphantoms" in (tmp_path / "published/README.md").read_text()


WEIGHTS = runs.ROOT / "weights"


@pytest.mark.parametrize("name", sorted(path.name for path in WEIGHTS.iterdir() if path.is_dir()))
def test_what_is_published_is_whole(name):
    lines = dict(reversed(line.split("  ")) for line in (WEIGHTS / name / "SHA256SUMS").read_text().splitlines())
    files = {path.relative_to(WEIGHTS / name).as_posix() for path in (WEIGHTS / name).rglob("*") if path.is_file()}
    assert set(lines) == files - {"SHA256SUMS"}
    for file, digest in lines.items():
        assert hashlib.sha256((WEIGHTS / name / file).read_bytes()).hexdigest() == digest
    assert {path.suffix for path in (WEIGHTS / name).iterdir()} <= {"", ".md", ".json", ".py", ".safetensors"}
    assert sum(path.stat().st_size for path in (WEIGHTS / name).rglob("*") if path.is_file()) < 20e6


def test_the_published_model_shows_where_drawn_lesions_are():
    eye = phantom.render({"dr_grade": 3, "dme": 1}, streams.rng(0, "eye for the published model"), 384)
    model = VisionCLIP.from_pretrained(WEIGHTS / "visionclip")
    shown = model.point([eye.image], ["硬性渗出", "optic disc"])[0]
    field = field_of_view.find(eye.image)
    for of_sentence, mask in zip(shown, (eye.masks["exudate"], eye.masks["disc"]), strict=True):
        cells = cv2.resize(field_of_view.cut(mask.astype(np.uint8) * 255, field), of_sentence.shape) > 64
        assert cells.any()
        assert roc_auc_score(cells.ravel(), of_sentence.ravel()) > 0.9
