"""Stage 03: what its parameters stand for, which stages 05 and 08 take too, and the same model trained on images alone,
as stages 01, 06 and 08 need one."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from visionclip import streams
from visionclip.data.labelled import LabelledImages
from visionclip.data.pairs import Pairs
from visionclip.models import towers, visionclip
from visionclip.models.visionclip import VisionCLIP
from visionclip.text import captions
from visionclip.text.grammar import PLAIN, Style
from visionclip.text.tokenizer import train_tokenizer
from visionclip.training import contrastive
from visionclip.training.checkpoints import History
from visionclip.training.contrastive import Settings

SMALL = {  # towers that learn within minutes, by the stage's parameters: where a model only judges or compares
    "image_width": 16,
    "text_layers": 2,
    "text_width": 128,
    "projection_size": 128,
    "pyramid_size": 48,
    "loss": "multi_positive",
}


def settings(parameters: Mapping, **changed: object) -> Settings:
    """How these parameters of the stage train at the coarsest of its ``sizes``, but for what is ``changed``."""
    names = {one.name for one in fields(Settings)} & parameters.keys()
    first = {"size": parameters["sizes"][0], "updates": parameters["updates"][0]}
    return Settings(**{name: parameters[name] for name in names} | first | changed)


def train(network: VisionCLIP, tokenizer, pairs: Pairs, parameters: Mapping, folder: Path) -> History:
    """Train at each of the stage's ``sizes`` in turn, coarse to fine, for as many ``updates``; what each logged.

    What is learnt at few pixels need not be learnt at many. A stopped run goes on from ``folder``; the text tower is
    warmed up once. The trained network reads images at all of the stage's ``scales``.
    """
    log: History = []
    for size, updates in zip(parameters["sizes"], parameters["updates"], strict=True):
        warmed = {"text_warmup": 0} if log else {}
        of_size = settings(parameters, size=size, updates=updates, **warmed)
        log = log + contrastive.train(network, tokenizer, pairs, of_size, folder / f"{size}px")
    network.config.scales = list(parameters["scales"])
    return log


def learn(
    images: LabelledImages,
    parameters: Mapping,
    settings: Settings,
    folder: Path,
    languages: Sequence[str],
    per_image: int,
    style: Style = PLAIN,
    sides: bool = False,
) -> tuple[VisionCLIP, PreTrainedTokenizerBase]:
    """The model of the stage's ``parameters``, trained by ``settings`` on images alone, and its tokenizer.

    ``per_image`` captions of each are made on the spot; with ``sides`` one more, which says nothing but the eye side
    where it is known: in other captions it is the end of a long sentence, and learnt late. A stopped run goes on from
    ``folder``.
    """
    pairs = with_captions(images, languages, per_image, settings.seed, style, sides)
    tokenizer = words(parameters, train_tokenizer([caption.text for caption in pairs.captions], folder / "tokenizer"))
    model = network(parameters, len(tokenizer), settings.seed)
    contrastive.train(model, tokenizer, pairs, settings, folder)
    return model, tokenizer


def with_captions(
    images: LabelledImages,
    languages: Sequence[str],
    per_image: int,
    seed: int,
    style: Style = PLAIN,
    sides: bool = False,
) -> Pairs:
    """The images with captions made on the spot, ``per_image`` each and, with ``sides``, one of the eye side."""
    eyes, rng = images.conditions, streams.rng(seed, "captions made on the spot")
    table, texts_of = captions.table(eyes + _sides(eyes) * sides, languages, per_image, rng, style)
    if sides:
        texts_of = [own + side[:1] for own, side in zip(texts_of[: len(eyes)], texts_of[len(eyes) :], strict=True)]
    return Pairs(images, table, texts_of)


def _sides(eyes: Sequence[dict[str, int]]) -> list[dict[str, int]]:
    return [{"eye_side": eye["eye_side"]} if "eye_side" in eye else eye for eye in eyes]


def words(parameters: Mapping, otherwise):
    """The tokenizer that the stage trains with: that of the text tower, if ``tower`` brings one, else ``otherwise``."""
    own = towers.tokenizer(*_tower(parameters))
    return otherwise if own is None else own


def network(parameters: Mapping, vocabulary_size: int, seed: int) -> VisionCLIP:
    """Both towers of the stage's sizes with random weights, but for what its ``tower`` brings, of whatever size.

    Raises:
        ValueError: the tower can't be used, see ``towers``.
    """
    names = ("image_width", "text_layers", "text_width", "projection_size", "pyramid_size")
    sizes = {name: parameters[name] for name in names}
    sizes |= {"vocabulary_size": vocabulary_size, "logit_bias": parameters["loss"] == "sigmoid"}
    sizes |= {"plain_colours": parameters.get("plain_colours", False)}
    torch.manual_seed(streams.integer(seed, "initial weights of the towers"))
    return towers.model(visionclip.sized(**sizes), *_tower(parameters))


def tower_key(parameters: Mapping) -> str:
    """The digest of the tower that these parameters start from."""
    return towers.digest(*_tower(parameters))


def _tower(parameters: Mapping) -> tuple[str, str]:
    return parameters.get("tower", ""), parameters.get("lock", "none")  # SMALL has neither


def shares(sources: Sequence[str]) -> dict[str, float]:
    """The share (0 to 1) of each source in a training set: DDPM images, phantoms, photographs."""
    return {source: sources.count(source) / len(sources) for source in sorted(set(sources))}
