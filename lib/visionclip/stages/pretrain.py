"""Stage 03: what its parameters stand for, which stages 05 and 08 take from its card."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import torch

from visionclip import runs, streams
from visionclip.models import visionclip
from visionclip.models.visionclip import VisionCLIP
from visionclip.training.contrastive import Settings

STAGE = "03-pretrain"


def settings(parameters: Mapping[str, object], **changed: object) -> Settings:
    """How these parameters of the stage train, but for those ``changed``."""
    names = {one.name for one in fields(Settings)} & parameters.keys()
    return Settings(**{name: parameters[name] for name in names} | changed)  # type: ignore[arg-type]


def network(parameters: Mapping, vocabulary_size: int, seed: int) -> VisionCLIP:
    """Both towers of the stage's sizes with random weights."""
    sizes = {name: parameters[name] for name in ("image_width", "text_layers", "text_width", "projection_size")}
    sizes |= {"vocabulary_size": vocabulary_size, "logit_bias": parameters["loss"] == "sigmoid"}
    torch.manual_seed(streams.integer(seed, "initial weights of the towers"))
    return VisionCLIP(visionclip.sized(**sizes))


def parameters_of(folder: str | Path) -> dict[str, object]:
    """The parameters of the finished stage in ``folder``; raises as ``runs.require``."""
    return runs.require(folder, STAGE)["parameters"]


def shares(sources: Sequence[str]) -> dict[str, float]:
    """The share (0 to 1) of each source in a training set: DDPM images, phantoms, photographs."""
    return {source: sources.count(source) / len(sources) for source in sorted(set(sources))}
