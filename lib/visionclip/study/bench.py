"""How fast the parts of the study are on this machine: ``make bench``. Compare rates of one run, not of two.

Each row is the best of three repetitions after a warm-up, on one thread unless it says otherwise. ``make bench
PEERS=/path/to/python`` also measures open_clip's RN50 with the Python of an environment that has it, in the same run.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from visionclip import conditions, phantom, streams
from visionclip.conditions import VECTOR_NAMES
from visionclip.data import images, phantoms
from visionclip.data.augment import augment
from visionclip.data.labelled import LabelledImages
from visionclip.data.pairs import Pairs
from visionclip.data.phantoms import FINDINGS, STRIDE
from visionclip.evaluation import metrics
from visionclip.models import generator, sampling
from visionclip.models.generator import VisionCLIPDDPMPipeline
from visionclip.models.visionclip import VisionCLIP, sized
from visionclip.study import weights
from visionclip.text import captions
from visionclip.text.tokenizer import train_tokenizer
from visionclip.training import contrastive, loop

EYES = conditions.balanced(64, streams.rng(0, "eyes of the benchmark"))
PRECISIONS = ("fp32", "bf16")
Widths = tuple[int, int, int, int]  # what ``sized`` takes before the vocabulary
SIZES: dict[str, tuple[int, int, Widths]] = {  # of 03-pretrain: pixels, batch, widths
    "cpu's towers": (96, 64, (16, 2, 128, 128)),
    "RN50 + RoBERTa-base": (224, 8, (64, 12, 768, 1024)),
}
PYRAMID, COARSE_TO_FINE = 48, (128, 192, 384)  # of cpu's model: channels, and pixels that it is trained at


def seconds(work: Callable[[], object], repetitions: int = 3) -> float:
    """Of the fastest repetition."""
    work()
    taken = []
    for _ in range(repetitions):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


def matmul_peak(precision: str, side: int = 2048) -> float:
    """GFLOP/s of a square matrix product: what nothing on this machine can pass."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    one, other = torch.randn(side, side).to(kind), torch.randn(side, side).to(kind)
    return 2 * side**3 / seconds(lambda: one @ other) / 1e9


def drawing(size: int, workers: int) -> float:
    """Phantoms a second, all conditions in turn; of several processes their start is included."""
    if workers == 1:
        return 16 / seconds(lambda: [phantom.render(eye, streams.rng(0, "eye"), size) for eye in EYES[:16]])
    eyes = EYES * 8
    drawn_from = [(0, "eyes of the benchmark", index) for index in range(len(eyes))]
    started = time.perf_counter()
    phantoms.draw(eyes, drawn_from, size, workers=workers, masks="findings")
    return len(eyes) / (time.perf_counter() - started)


def preparation(size: int) -> dict[str, float]:
    """Images a second of the steps between a photograph and the tower."""
    photographs = [phantom.render(eye, streams.rng(0, "eye"), 512).image for eye in EYES[:8]]
    batch = images.to_tensor(np.stack([images.prepare(image, size) for image in photographs])).repeat(8, 1, 1, 1)
    source = torch.Generator().manual_seed(0)
    return {
        "crop, pad, resize from 512 px": 8 / seconds(lambda: [images.prepare(image, size) for image in photographs]),
        "augment": len(batch) / seconds(lambda: augment(batch, 1.0, source)),
        "standardise": len(batch) / seconds(lambda: images.standardise(batch)),
    }


def towers(
    size: int, batch: int, widths: tuple[int, int, int, int], precision: str, texts: Sequence[int] = ()
) -> tuple[float, float]:
    """Images a second of forward and backward passes of the image tower, and its GFLOP/s; with ``texts`` (captions and
    their tokens) the text tower's passes are part of it."""
    network = VisionCLIP(sized(*widths, 1000)).to(memory_format=torch.channels_last).train()
    called = loop.InPrecision(network, precision == "bf16")
    pixels = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    tokens = torch.randint(5, 1000, tuple(texts)) if texts else None

    def work() -> None:
        network.zero_grad()
        called(pixel_values=pixels).image_embeds.square().sum().backward()
        if tokens is not None:
            called(input_ids=tokens).text_embeds.square().sum().backward()

    with FlopCounterMode(display=False) as counted:
        work()
    taken = seconds(work)
    return batch / taken, counted.get_total_flops() / taken / 1e9


def pretraining(
    size: int, batch: int, widths: tuple[int, int, int, int], precision: str, updates: int = 4, pyramid: int = 0
) -> tuple[float, list[int]]:
    """Images a second of whole updates of stage 03 (captions, augmentation, both towers, loss, optimiser), and how many
    texts of how many tokens the text tower encoded in the last.

    Captions are as stage 02 draws them, six an image; those that a batch shares are encoded once. With a ``pyramid``
    (its channels) every condition is stated and every finding named to the cells, beside the captions.
    """
    eyes = (EYES * -(-4 * batch // len(EYES)))[: 4 * batch]
    pixels = streams.rng(0, "pixels of the benchmark").integers(0, 256, (len(eyes), size, size, 3), np.uint8)
    table, texts_of = captions.table(eyes, ("zh",), 6, streams.rng(0, "captions of the benchmark"))
    drawn = LabelledImages(pixels, eyes, ["phantom"] * len(eyes), [*map(str, range(len(eyes)))])
    if pyramid:
        cells = (len(eyes), len(FINDINGS), size // STRIDE, size // STRIDE)
        masks = streams.rng(0, "masks of the benchmark").integers(0, 256, cells, np.uint8)
        drawn = replace(drawn, masks=masks, mask_names=tuple(FINDINGS))
    pairs = Pairs(drawn, table, texts_of)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = train_tokenizer([caption.text for caption in table], folder)
    network = VisionCLIP(sized(*widths, len(tokenizer), pyramid_size=pyramid))
    settings = contrastive.Settings(
        updates=updates,
        batch_size=batch,
        learning_rate=1e-4,
        condition_weight=3.0 if pyramid else 0.0,
        map_weight=1.0 if pyramid else 0.0,
        precision=precision,
    )
    clock: list[float] = []
    shapes: list[torch.Size] = []
    network.vision.register_forward_pre_hook(lambda *_: clock.append(time.perf_counter()))
    network.text.register_forward_pre_hook(
        lambda module, given, named: shapes.append(named["input_ids"].shape), with_kwargs=True
    )
    contrastive.train(network, tokenizer, pairs, settings, None)
    return batch / min(np.diff(clock)), list(shapes[-1])


def prediction(size: int, batch: int, widths: Widths, precision: str, pyramid: int) -> float:
    """Images a second that a trained model embeds, with the maps of every finding."""
    network = VisionCLIP(sized(*widths, 1000, pyramid_size=pyramid)).to(memory_format=torch.channels_last).train(False)
    called = loop.InPrecision(network, precision == "bf16")
    pixels = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    names = functional.normalize(torch.randn(len(FINDINGS), network.config.projection_size), dim=1)

    @torch.inference_mode()
    def work() -> None:
        network.maps(called(pixel_values=pixels).cells, names)

    return batch / seconds(work)


def generation(size: int, channels: tuple[int, ...], steps: int, guidance: float, bf16: bool, count: int = 16) -> float:
    """Images a second that a pipeline of the published kind draws from conditions and layouts."""
    pixels = streams.rng(0, "pixels of the benchmark").integers(0, 256, (2, size, size, 3), np.uint8)
    network = generator.fitted(pixels, 4, VECTOR_NAMES, phantom.MASKS, channels, variance=0.6)
    pipeline = VisionCLIPDDPMPipeline(network, generator.solver(), steps, guidance)
    vectors, layouts = (
        np.zeros((count, len(VECTOR_NAMES)), np.float32),
        np.zeros((count, len(phantom.MASKS), size, size)),
    )
    return count / seconds(
        lambda: sampling.sample(pipeline, vectors, layouts.astype(np.uint8), batch=count, bf16=bf16), 2
    )


def ddpm_pipeline(size: int, channels: tuple[int, ...], steps: int = 1000, measured: int = 2, count: int = 4) -> float:
    """Images a second of diffusers' own DDPMPipeline with a UNet of the same widths on pixels, as it comes: at so many
    ``steps``, of which few are ``measured``, as each takes as long."""
    depth = len(channels)
    unet = UNet2DModel(
        sample_size=size,
        layers_per_block=1,
        block_out_channels=channels,
        down_block_types=("DownBlock2D",) * (depth - 1) + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (depth - 1),
        norm_num_groups=generator.NORM_GROUPS,
    )
    pipeline = DDPMPipeline(unet, DDPMScheduler(1000))
    pipeline.set_progress_bar_config(disable=True)
    return (
        count / seconds(lambda: pipeline(count, num_inference_steps=measured, output_type="np"), 1) * measured / steps
    )


def intervals(count: int) -> float:
    """Images a second of all scores with 1000 bootstrap resamples, five classes."""
    rng = streams.rng(0, "scores of the benchmark")
    targets, logits = rng.integers(5, size=count), rng.normal(size=(count, 5))
    return count / seconds(lambda: metrics.scores_with_intervals(targets, logits, True, rng), 1)


def open_clip(python: str, batch: int) -> dict[str, float]:
    """Images a second of open_clip's RN50 by precision, in the environment of this Python.

    Raises:
        RuntimeError: it failed there; the message is its last line.
    """
    command = [python, str(Path(__file__).with_name("peer_step.py")), str(batch), "3"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    if done.returncode:
        raise RuntimeError(f"{python}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def table(peers: str = "") -> pandas.DataFrame:
    """Every rate: work, pixels, items a second, and what it is to be held against."""
    peak = {precision: matmul_peak(precision) for precision in PRECISIONS}
    rows = [(f"matmul {precision}, GFLOP/s", 0, value, "") for precision, value in peak.items()]
    rows += [("phantom, one process", size, drawing(size, 1), "") for size in (96, 256)]
    rows += [("phantom with finding maps, all cores", size, drawing(size, 0), "") for size in (256, 512)]
    rows += [(name, 96, value, "") for name, value in preparation(96).items()]
    whole: dict[str, float] = {}
    for name, (size, batch, widths) in SIZES.items():
        for precision in PRECISIONS:
            image, speed = towers(size, batch, widths, precision)
            whole[precision], texts = pretraining(size, batch, widths, precision)
            both, _ = towers(size, batch, widths, precision, texts)
            share = f"{speed / peak[precision]:.0%} of the matmul peak"
            rows.append((f"{name}: image tower, {precision}", size, image, share))
            rows.append((f"{name}: both towers, {precision}", size, both, f"{texts[0]} captions of {texts[1]} tokens"))
            share = f"{whole[precision] / both:.0%} of both towers"
            rows.append((f"{name}: whole update, {precision}", size, whole[precision], share))
    if peers:
        for precision, rate in open_clip(peers, SIZES["RN50 + RoBERTa-base"][1]).items():
            ratio = f"ours in bf16 is {whole['bf16'] / rate:.1f} times as fast"
            rows.append((f"open_clip RN50: whole update, {precision}", 224, rate, ratio))
    _, _, widths = SIZES["cpu's towers"]
    for size in COARSE_TO_FINE:
        for precision in PRECISIONS:
            updates, texts = pretraining(size, 32, widths, precision, pyramid=PYRAMID)
            shown = f"{texts[0]} texts of {texts[1]} tokens"
            rows.append((f"cpu's model, pyramid and maps: whole update, {precision}", size, updates, shown))
            read = prediction(size, 32, widths, precision, PYRAMID)
            rows.append((f"cpu's model, pyramid and maps: prediction, {precision}", size, read, ""))
    rows += generators(weights.SIZE, weights.TEACHER.channels)
    rows += [("scores with intervals", 0, intervals(1744), "")]
    rows += [("peak memory of all this, GB", 0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "")]
    return pandas.DataFrame(rows, columns=["work", "pixels", "items a second", "beside"])


def generators(size: int, channels: tuple[int, ...]) -> list[tuple[str, int, float, str]]:
    """Rows of the diffusion model and its student, beside diffusers' own pipeline: on one thread, and on as many as
    there are cores."""
    rows: list[tuple[str, int, float, str]] = []
    before, student = torch.get_num_threads(), weights.STUDENT
    for threads in dict.fromkeys((1, os.cpu_count() or 1)):
        torch.set_num_threads(threads)
        on = "" if threads == 1 else f", {threads} threads"
        reference = ddpm_pipeline(size, channels)
        rows.append((f"diffusers' DDPMPipeline, 1000 steps{on}", size, reference, ""))
        for name, steps, guidance in (
            ("generator, 10 guided steps", 10, student.guidance),
            ("its student", student.steps, 1),
            (
                "its student, half the steps",
                student.steps // 2,
                1,
            ),
        ):
            for precision in PRECISIONS:
                rate = generation(size, channels, steps, guidance, precision == "bf16")
                evaluations = steps * (1 if guidance == 1 else 2)
                beside = f"NFE {evaluations}; {rate / reference:.0f} times DDPMPipeline"
                rows.append((f"{name}, {precision}{on}", size, rate, beside))
    torch.set_num_threads(before)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m visionclip.study.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default="", help="Python of an environment that has open_clip")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        print(table(options.peers).to_string(index=False, float_format="{:.3g}".format))
    except RuntimeError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
