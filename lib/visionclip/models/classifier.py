"""The supervised baseline: a slim network without words that maps findings and classifies conditions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import safe_open, save_file
from torch import nn
from torch.nn import functional

from visionclip import runs
from visionclip.conditions import DISEASES, VECTOR_NAMES, Conditions
from visionclip.data.labelled import vector
from visionclip.data.phantoms import FINDINGS

# What is classified. Degenerative and pathologic myopia are drawn alike and count as one.
CONDITIONS: tuple[str, ...] = tuple(
    name for name in VECTOR_NAMES if name.split(">=")[0] in (*DISEASES, "eye_side") and name != "dm>=1"
)
# The findings by which a condition is defined (ICDR, Wilkinson 2003; ETDRS report 1).
DEFINING: dict[str, tuple[str, ...]] = {
    **{f"dr_grade>={grade}": ("microaneurysms", "haemorrhage", "exudate", "cotton_wool") for grade in (1, 2, 3, 4)},
    "dme>=1": ("exudate",),
}
WEIGHTS = "classifier.safetensors"
PEAK_CELLS = 9  # cells of a map whose mean is its peak


def targets(eyes: Sequence[Conditions]) -> np.ndarray:
    """float32 N×J in {0, 1}: which of ``CONDITIONS`` is true of each eye, NaN where it isn't known."""
    rows = [vector(_one_myopia(eye)) for eye in eyes]
    return np.stack(rows)[:, [VECTOR_NAMES.index(name) for name in CONDITIONS]]


def _one_myopia(eye: Conditions) -> Conditions:
    """The eye with ``pm`` for both kinds of myopia: one of them is enough for it, and only both rule it out."""
    kinds = [eye[key] for key in ("pm", "dm") if key in eye]
    known = {"pm": max(kinds)} if any(kinds) or len(kinds) == 2 else {}
    return {key: value for key, value in eye.items() if key != "pm"} | known


class _Block(nn.Module):
    """Two 3×3 convolutions and a shortcut (He et al. 2016), averaging where it halves the resolution."""

    def __init__(self, inner: int, outer: int, stride: int):
        super().__init__()
        self.first = _convolution(inner, outer, 3, stride)
        self.second = _convolution(outer, outer, 3, 1)
        shortcut: list[nn.Module] = [nn.AvgPool2d(stride, ceil_mode=True)] if stride > 1 else []
        shortcut += [_convolution(inner, outer, 1, 1)] if inner != outer else []
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.second(functional.relu(self.first(x))) + self.shortcut(x))


def _convolution(inner: int, outer: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inner, outer, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outer))


class Classifier(nn.Module):
    """A slim residual network with a feature pyramid (Lin et al. 2017) down to a quarter of the resolution.

    Maps are taken from the pyramid; conditions from the features' means and peaks and the maps' extent and peaks, so
    that one small lesion is not averaged away.
    """

    def __init__(self, width: int = 32):
        super().__init__()
        self.width = width
        widths = [width * factor for factor in (1, 2, 4, 8)]
        self.stem = nn.Sequential(_convolution(3, width, 5, 2), nn.ReLU())
        self.stages = nn.ModuleList()
        for inner, outer, stride, blocks in zip([width, *widths[:-1]], widths, (1, 2, 2, 2), (1, 2, 2, 2), strict=True):
            rest = [_Block(outer, outer, 1) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(_Block(inner, outer, stride), *rest))
        depth = 2 * width
        self.lateral = nn.ModuleList(nn.Conv2d(outer, depth, 1) for outer in widths[1:])
        self.smooth = nn.ModuleList(nn.Sequential(_convolution(depth, depth, 3, 1), nn.ReLU()) for _ in widths[2:])
        self.map = nn.Conv2d(depth, len(FINDINGS), 1)
        nn.init.constant_(self.map.get_parameter("bias"), -3.0)  # most cells are empty
        self.head = nn.Linear(2 * widths[-1] + depth + 2 * len(FINDINGS), len(CONDITIONS))

    def levels(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """Prepared float N×3×S×S → the features of each stage, the deepest last."""
        x, levels = self.stem(pixels), []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Prepared float N×3×S×S → logits of ``CONDITIONS`` N×J and of ``FINDINGS`` N×C×S/4×S/4."""
        levels = self.levels(pixels)
        deepest, pyramid = levels[-1], self.lateral[-1](levels[-1])
        finer = zip(levels[-2:0:-1], list(self.lateral)[-2::-1], self.smooth, strict=True)
        for level, lateral, smooth in finer:
            pyramid = smooth(functional.interpolate(pyramid, size=level.shape[-2:]) + lateral(level))
        maps = self.map(pyramid).float()
        share = torch.sigmoid(maps).flatten(2)
        extent = share.mean(2).clamp_min(1e-5).log() / 3
        peak = torch.logit(share.topk(min(PEAK_CELLS, share.shape[2]), dim=2).values.mean(2), 1e-4) / 3
        features = [deepest.mean((2, 3)), deepest.amax((2, 3)), pyramid.mean((2, 3)), extent, peak]
        return self.head(torch.cat([feature.float() for feature in features], dim=1)), maps


def save(classifier: Classifier, size: int, folder: Path) -> None:
    """Write ``classifier.safetensors``, which knows its width and the ``size`` of the images it was trained on."""
    about = {"width": str(classifier.width), "size": str(size)}
    with runs.atomic(folder / WEIGHTS) as temporary:
        save_file({name: value.contiguous() for name, value in classifier.state_dict().items()}, temporary, about)


def load(folder: Path) -> tuple[Classifier, int]:
    """The classifier that ``save`` wrote, in inference mode, and the size of the images it takes.

    Raises:
        FileNotFoundError: there is none.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"{runs.relative(path)}: no such file; run notebooks/07-baseline.ipynb first")
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    classifier = Classifier(int(about["width"]))
    classifier.load_state_dict(weights)
    return classifier.train(False), int(about["size"])
