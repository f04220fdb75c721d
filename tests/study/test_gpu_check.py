"""The check of a GPU: what it gives to the trainings can be used by them, and elsewhere it says why it is skipped."""

import pytest

from visionclip.study import gpu_check
from visionclip.training import denoising


class Reached(Exception):
    pass


def test_its_images_fit_the_diffusion_model(tmp_path, monkeypatch):
    def train(images, settings, folder):
        denoising.check(images, settings)
        raise Reached

    monkeypatch.setattr(gpu_check.denoising, "train", train)
    with pytest.raises(Reached):
        gpu_check.check_diffusion(tmp_path)


def test_without_a_gpu_it_is_skipped(monkeypatch, capsys):
    monkeypatch.setattr(gpu_check.torch.cuda, "is_available", lambda: False)
    gpu_check.main()
    assert "skipped" in capsys.readouterr().out
