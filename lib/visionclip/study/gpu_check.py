"""Does the study run on this machine's GPU, and how fast: ``make gpu-check``.

One command trains 50 updates of ResNet-50 with its pyramid and RoBERTa-base in bf16, by captions, conditions and maps
as the `gpu` preset does, stops half-way and resumes, trains and samples a diffusion model, and prints images a second,
the share of the GPU's matmul peak and the memory taken. Elsewhere it says why it is skipped, and ends well.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from visionclip import conditions, streams
from visionclip.data.labelled import LabelledImages
from visionclip.data.pairs import Pairs
from visionclip.data.phantoms import STRIDE
from visionclip.models import sampling
from visionclip.models.visionclip import VisionCLIP, sized
from visionclip.text import captions
from visionclip.text.tokenizer import train_tokenizer
from visionclip.training import contrastive, denoising, loop

UPDATES, BATCH, SIZE = 50, 128, 224
SIZES = (64, 12, 768, 1024)  # of the towers and the space they share, as at the `gpu` preset
PYRAMID = 256
SETTINGS = contrastive.Settings(
    updates=UPDATES,
    batch_size=BATCH,
    learning_rate=1e-4,
    condition_weight=3.0,
    map_weight=1.0,
    precision="bf16",
    checkpoint_every=UPDATES // 2,
)
PEAK_SIDE = 8192


def matmul_peak() -> float:
    """TFLOP/s of a bf16 matrix product."""
    one = torch.randn(PEAK_SIDE, PEAK_SIDE, device="cuda", dtype=torch.bfloat16)
    taken = []
    for _ in range(10):
        torch.cuda.synchronize()
        started = time.perf_counter()
        one @ one
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return 2 * PEAK_SIDE**3 / min(taken) / 1e12


def drawn(count: int, size: int) -> LabelledImages:
    """Random pixels and finding maps with balanced conditions: speed does not depend on what they show."""
    eyes = conditions.balanced(count, streams.rng(0, "conditions of the check"))
    pixels = streams.rng(0, "pixels of the check").integers(0, 256, (count, size, size, 3), np.uint8)
    findings = tuple(conditions.FINDINGS)
    cells = (count, len(findings), size // STRIDE, size // STRIDE)
    masks = streams.rng(0, "maps of the check").integers(0, 256, cells, np.uint8)
    names = [f"{place:06d}" for place in range(count)]
    return LabelledImages(pixels, eyes, ["noise"] * count, names, masks=masks, mask_names=findings)


def step_flops(pairs: Pairs, network: VisionCLIP, tokenizer) -> float:
    """FLOP of the towers in one update: forward and backward of a batch and of as many captions as it has."""
    texts = [caption.text for caption in pairs.captions[:BATCH]]
    tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to("cuda")
    pixels = torch.randn(BATCH, 3, SIZE, SIZE, device="cuda")
    with FlopCounterMode(display=False) as counted:
        network(pixels, **tokens).logits_per_image.sum().backward()
    network.zero_grad()
    return float(counted.get_total_flops())


def check_pretraining(folder: Path) -> None:
    """Train, stop at the checkpoint, resume, and compare with the run that was not stopped."""
    images = drawn(4 * BATCH, SIZE)
    table, texts_of = captions.table(images.conditions, ("zh", "en"), 2, streams.rng(0, "captions of the check"))
    pairs, tokenizer = Pairs(images, table, texts_of), train_tokenizer([one.text for one in table], folder / "words")

    def fresh() -> VisionCLIP:
        torch.manual_seed(0)
        return VisionCLIP(sized(*SIZES, len(tokenizer), pyramid_size=PYRAMID))

    network, clock = fresh(), []
    network.vision.register_forward_pre_hook(lambda *_: clock.append(time.perf_counter()))
    torch.cuda.reset_peak_memory_stats()
    whole = contrastive.train(network, tokenizer, pairs, SETTINGS, folder / "whole")
    rate = BATCH / float(np.median(np.diff(clock[10:])))
    memory = torch.cuda.max_memory_allocated() / 2**30
    share = rate / BATCH * step_flops(pairs, network, tokenizer) / 1e12 / matmul_peak()
    print(f"pretraining: {rate:.0f} images/s, {share:.0%} of the matmul peak, {memory:.1f} GiB")

    original = loop.progress

    def stopped(items, label, total=None):
        for done, item in enumerate(original(items, label, total)):
            if label == "pretrain" and done == UPDATES // 2 + 3:
                raise KeyboardInterrupt
            yield item

    loop.progress = stopped
    try:
        contrastive.train(fresh(), tokenizer, pairs, SETTINGS, folder / "stopped")
    except KeyboardInterrupt:
        pass
    finally:
        loop.progress = original
    resumed = contrastive.train(fresh(), tokenizer, pairs, SETTINGS, folder / "stopped")
    gap = max(abs(one["loss"] - other["loss"]) for one, other in zip(whole, resumed, strict=True))
    parts = ", ".join(name for name in ("captions", "conditions", "maps") if name in whole[-1])
    print(f"resumed from update {UPDATES // 2}: losses of {parts} differ by at most {gap:.2g}")
    if gap > 0.05:
        raise RuntimeError("the resumed run is another one")


def check_diffusion(folder: Path) -> None:
    """Train a diffusion model for a few updates and draw from it."""
    images = drawn(256, 128).without_masks()
    settings = denoising.Settings(updates=UPDATES, batch_size=32, channels=(64, 128, 256), precision="bf16")
    pipeline, log = denoising.train(images, replace(settings, checkpoint_every=UPDATES), folder / "ddpm")
    started = time.perf_counter()
    made = sampling.sample(pipeline, images.vectors[:64], steps=10, batch=64, bf16=True)
    print(
        f"sampling: {len(made) / (time.perf_counter() - started):.0f} images/s at 10 steps; loss {log[-1]['loss']:.3f}"
    )


def main() -> None:
    """Run the check, or say why not."""
    if not torch.cuda.is_available():
        print("skipped: torch finds no CUDA device here")
        return
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        check_pretraining(Path(folder))
        check_diffusion(Path(folder))
    print("the check passed")


if __name__ == "__main__":
    main()
