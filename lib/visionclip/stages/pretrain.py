"""Stage 03: what its parameters stand for, which stages 05 and 08 take from its card."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import torch

from visionclip import runs, streams
from visionclip.data.pairs import Pairs
from visionclip.models import visionclip
from visionclip.models.visionclip import VisionCLIP
from visionclip.training import contrastive
from visionclip.training.checkpoints import History
from visionclip.training.contrastive import Settings

STAGE = "03-pretrain"


def settings(parameters: Mapping, **changed: object) -> Settings:
    """How these parameters of the stage train at the coarsest of its ``sizes``, but for what is ``changed``."""
    names = {one.name for one in fields(Settings)} & parameters.keys()
    first = {"size": parameters["sizes"][0], "updates": parameters["updates"][0]}
    return Settings(**{name: parameters[name] for name in names} | first | changed)


def train(network: VisionCLIP, tokenizer, pairs: Pairs, parameters: Mapping, folder: Path) -> History:
    """Train at each of the stage's ``sizes`` in turn, coarse to fine, for as many ``updates``; what each logged.

    What is learnt at few pixels need not be learnt at many. A stopped run goes on from ``folder``; the text tower is
    warmed up once.
    """
    log: History = []
    for size, updates in zip(parameters["sizes"], parameters["updates"], strict=True):
        warmed = {"text_warmup": 0} if log else {}
        of_size = settings(parameters, size=size, updates=updates, **warmed)
        log = log + contrastive.train(network, tokenizer, pairs, of_size, folder / f"{size}px")
    return log


def network(parameters: Mapping, vocabulary_size: int, seed: int) -> VisionCLIP:
    """Both towers of the stage's sizes with random weights."""
    names = ("image_width", "text_layers", "text_width", "projection_size", "pyramid_size")
    sizes = {name: parameters[name] for name in names}
    sizes |= {"vocabulary_size": vocabulary_size, "logit_bias": parameters["loss"] == "sigmoid"}
    torch.manual_seed(streams.integer(seed, "initial weights of the towers"))
    return VisionCLIP(visionclip.sized(**sizes))


def parameters_of(folder: str | Path) -> dict[str, object]:
    """The parameters of the finished stage in ``folder``; raises as ``runs.require``."""
    return runs.require(folder, STAGE)["parameters"]


def shares(sources: Sequence[str]) -> dict[str, float]:
    """The share (0 to 1) of each source in a training set: DDPM images, phantoms, photographs."""
    return {source: sources.count(source) / len(sources) for source in sorted(set(sources))}
