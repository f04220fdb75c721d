"""How fast the parts of the study are on this machine: ``make bench``. Compare rates of one run, not of two.

Each row is the best of three repetitions after a warm-up; ``of fp32`` is the rate over the fp32 rate of the same work.
"""

import time
from collections.abc import Callable

import numpy as np
import pandas
import torch

from visionclip import conditions, phantom
from visionclip.data import images
from visionclip.evaluation import metrics
from visionclip.models import classifier, visionclip
from visionclip.stages import synthesis

EYES = conditions.balanced(64, np.random.default_rng(0))


def rate(work: Callable[[], object], items: int, repetitions: int = 3) -> float:
    """Items a second of the fastest repetition."""
    work()
    seconds = []
    for _ in range(repetitions):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return items / min(seconds)


def rendering(size: int) -> float:
    """Phantoms a second in this process, all conditions in turn."""

    def work() -> None:
        for index, eye in enumerate(EYES[:16]):
            phantom.render(eye, np.random.default_rng(index), size)

    return rate(work, 16)


def rendering_together(size: int) -> float:
    """Phantoms a second on all cores, the start of the processes included."""
    eyes = EYES * 8
    return rate(lambda: synthesis.render(eyes, "train", 0, size), len(eyes), repetitions=1)


def preparation(size: int) -> dict[str, float]:
    """Images a second of the steps between a photograph and the tower."""
    photograph = np.stack([phantom.render(eye, np.random.default_rng(0), 512).image for eye in EYES[:8]])
    batch = images.to_tensor(np.stack([images.prepare(image, size) for image in photograph])).repeat(8, 1, 1, 1)
    generator = torch.Generator().manual_seed(0)
    return {
        "crop, pad, resize from 512 px": rate(lambda: [images.prepare(image, size) for image in photograph], 8),
        "augment": rate(lambda: images.augment(batch, 1.0, generator), len(batch)),
        "standardise": rate(lambda: images.standardise(batch), len(batch)),
    }


def tower_training(size: int, width: int, bf16: bool) -> float:
    """Images a second of forward and backward passes of a ResNet-50 of this width."""
    network = (
        visionclip.VisionCLIP(visionclip.sized(width, 1, 64, 64, 1000)).to(memory_format=torch.channels_last).train()
    )
    batch = torch.randn(32, 3, size, size).contiguous(memory_format=torch.channels_last)

    def work() -> None:
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            embeds = network.get_image_features(batch)
        embeds.float().square().sum().backward()

    return rate(work, len(batch))


def reader_teaching(size: int, width: int) -> float:
    """Images a second of whole updates of a reader: augmentation, standardisation, both passes, averaging."""
    rng = np.random.default_rng(0)
    cells = size // classifier.STRIDE
    maps = rng.integers(0, 256, (48, len(classifier.MAPPED), cells, cells), np.uint8)
    lessons = classifier.Lessons(rng.integers(0, 256, (48, size, size, 3), np.uint8), maps, EYES[:48])
    settings = classifier.Settings(updates=4, width=width)
    return rate(lambda: classifier.teach(lessons, settings), settings.updates * settings.batch_size)


def intervals(count: int) -> float:
    """Images a second of all scores with 1000 bootstrap resamples, five classes."""
    rng = np.random.default_rng(0)
    targets, logits = rng.integers(5, size=count), rng.normal(size=(count, 5))
    return rate(lambda: metrics.with_intervals(targets, logits, True, rng), count, repetitions=1)


def table() -> pandas.DataFrame:
    """Every rate: work, pixels, items a second and, where there are two precisions, the ratio to fp32."""
    rows = [("phantom, one process", size, rendering(size), None) for size in (64, 96, 128, 256)]
    rows += [("phantom, all cores", 256, rendering_together(256), None)]
    rows += [(name, 96, value, None) for name, value in preparation(96).items()]
    for size, width in ((96, 16), (128, 16), (224, 64)):
        full, half = (tower_training(size, width, bf16) for bf16 in (False, True))
        rows += [(f"ResNet-50 width {width}, fp32", size, full, 1.0)]
        rows += [(f"ResNet-50 width {width}, bf16", size, half, half / full)]
    rows += [("reader of width 32, whole updates", size, reader_teaching(size, 32), None) for size in (192, 256)]
    rows += [("scores with intervals", 0, intervals(1744), None)]
    return pandas.DataFrame(rows, columns=["work", "pixels", "items a second", "of fp32"])


if __name__ == "__main__":
    print(f"{torch.get_num_threads()} threads")
    print(table().to_string(index=False, na_rep="", float_format="{:.3g}".format))
