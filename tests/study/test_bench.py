"""The commands that measure: what they count, and that they say why they measure nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from visionclip.study import bench, gpu_check


def test_the_fastest_repetition_counts_and_the_warm_up_does_not(monkeypatch):
    ticks = iter([0.0, 4.0, 10.0, 12.0])
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(ticks))
    calls = []
    assert bench.seconds(lambda: calls.append(1), repetitions=2) == 2
    assert len(calls) == 3


def test_a_tower_is_as_fast_as_its_operations_say():
    """Images a second and GFLOP/s are the same measurement: their ratio is the work of an image."""
    rate, speed = bench.towers(64, 4, (8, 1, 64, 16), "fp32")
    work = speed / rate * 1e9
    assert 3e6 < work < 3e8
    double, faster = bench.towers(128, 4, (8, 1, 64, 16), "fp32")
    assert faster / double * 1e9 == pytest.approx(4 * work, rel=0.1)


def test_an_update_is_timed_from_start_to_start():
    rate, (texts, tokens) = bench.pretraining(32, 4, (8, 1, 64, 16), "fp32", updates=3)
    assert 0.1 < rate < 1e5
    assert 1 <= texts <= 4
    assert 3 < tokens <= 52


def test_an_update_with_a_pyramid_states_conditions_and_names_findings(monkeypatch):
    trained = []
    train = bench.contrastive.train
    monkeypatch.setattr(bench.contrastive, "train", lambda *given: trained.extend(train(*given)))
    rate, (texts, _) = bench.pretraining(32, 8, (8, 1, 64, 16), "fp32", updates=3, pyramid=8)
    assert 0.1 < rate < 1e5
    assert texts > len(bench.FINDINGS) + 8, "beside the captions"
    assert {"conditions", "maps"} < trained[-1].keys()


def test_prediction_takes_longer_of_more_pixels():
    few, many = (bench.prediction(size, 4, (8, 1, 64, 16), "fp32", 8) for size in (32, 192))
    assert 0.1 < many < few


def test_fewer_steps_and_no_guidance_draw_faster():
    slow, fast = (bench.generation(32, (16, 32), steps, guidance, False, 4) for steps, guidance in ((8, 2.0), (1, 1.0)))
    assert 0.1 < slow < fast


def test_the_steps_that_are_not_measured_count_too():
    few, many = (bench.ddpm_pipeline(32, (16, 32), steps, measured=2) for steps in (10, 1000))
    assert 30 < few / many < 300


def test_generators_are_timed_on_one_thread_and_on_all_beside_a_pipeline_on_as_many(monkeypatch):
    threads, noted = torch.get_num_threads(), []
    monkeypatch.setattr(bench.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(bench, "ddpm_pipeline", lambda *_: noted.append(torch.get_num_threads()) or 0.5)
    monkeypatch.setattr(bench, "generation", lambda *_: 2.0 * torch.get_num_threads())
    rows = bench.generators(32, (16, 32))
    assert noted == [1, 2]
    assert [name for name, *_ in rows][7:] == [f"{name}, 2 threads" for name, *_ in rows[:7]]
    assert rows[4][2:] == (2.0, "NFE 4; 4 times DDPMPipeline")
    assert rows[11][2:] == (4.0, "NFE 4; 8 times DDPMPipeline")
    assert rows[6][3] == "NFE 2; 4 times DDPMPipeline"
    assert torch.get_num_threads() == threads, "as it was"


def test_an_environment_without_open_clip_is_one_line(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'No module named open_clip' >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(RuntimeError, match="python: No module named open_clip"):
        bench.open_clip(str(python), 2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device: `make gpu-check` is the test")
def test_the_check_of_a_gpu_says_why_it_is_skipped(capsys):
    gpu_check.main()
    assert capsys.readouterr().out == "skipped: torch finds no CUDA device here\n"


def test_the_check_of_a_gpu_trains_on_captions_conditions_and_maps_and_resumes(tmp_path, monkeypatch, capsys):
    """The same at a size for a CPU, of which CUDA's own counters say nothing."""
    small = {"updates": 14, "batch_size": 4, "checkpoint_every": 7, "precision": "fp32"}
    values = {"UPDATES": 14, "BATCH": 32, "SIZE": 32, "SIZES": (8, 1, 64, 16), "PYRAMID": 8}
    for name, value in {**values, "SETTINGS": replace(gpu_check.SETTINGS, **small)}.items():
        monkeypatch.setattr(gpu_check, name, value)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(gpu_check, "step_flops", lambda *_: 1e9)
    monkeypatch.setattr(gpu_check, "matmul_peak", lambda: 1.0)
    gpu_check.check_pretraining(tmp_path)
    printed = capsys.readouterr().out
    assert "resumed from update 7: losses of captions, conditions, maps differ by at most 0\n" in printed


def test_the_check_of_a_gpu_has_balanced_eyes_to_train_on():
    images = gpu_check.drawn(64, 32)
    assert images.pixels.shape == (64, 32, 32, 3)
    assert images.masks.shape == (64, len(images.mask_names), 8, 8)
    assert np.unique([eye["dr_grade"] for eye in images.conditions]).tolist() == [0, 1, 2, 3, 4]
