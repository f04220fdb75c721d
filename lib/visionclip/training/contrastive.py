"""Pretraining: both towers, from random weights or as given, on images and one true caption of each, contrastively."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import distributed, nn
from torch.nn import functional

from visionclip import keys, streams
from visionclip.data.augment import augment
from visionclip.data.images import standardise, to_tensor
from visionclip.data.pairs import Pairs
from visionclip.models import losses, supervision, visionclip
from visionclip.models.visionclip import VisionCLIP
from visionclip.text import familiarity
from visionclip.training import gradient_cache, loop
from visionclip.training.bank import of_pairs
from visionclip.training.checkpoints import History
from visionclip.training.loop import Update

WARMUP_RATE = 0.25  # peak learning rate of the text tower's warm-up, times its width
SAMPLED = 16  # batches from which the share of true pairs is estimated

Tokens = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Settings(loop.Settings):
    """``learning_rate`` is the peak of the image tower."""

    loss: str = "multi_positive"  # of losses.OBJECTIVES
    text_rate: float = 0.1  # learning rate of the text tower relative to it
    text_warmup: int = 0  # updates of the text tower alone, before the first image
    weight_decay: float = 0.05  # on matrices and kernels only
    schedule: str = "constant"  # averaged weights settle instead, as in SWAD (Cha et al. 2021)
    clip: float = 5.0
    augmentation: float = 1.0  # strength, 0 to 1
    size: int = 0  # pixels at which images are seen; 0: as they are
    condition_weight: float = 0.0  # of the loss of every condition stated, that of the captions having 1
    map_weight: float = 0.0  # of the loss of every finding chosen of the cells, which needs a pyramid and masks
    chunk: int = 0  # images (and captions) encoded at once, by gradient caching; 0: all
    lock: str = "none"  # the tower ("image", "text") that stays as it is


def train(
    network: VisionCLIP,
    tokenizer,
    pairs: Pairs,
    settings: Settings,
    folder: Path | None,
    watch: loop.Watch | None = None,
) -> History:
    """Train ``network`` in place and return what each update logged: the loss, its parts and the temperature.

    The parts are that of the ``captions`` with its ``floor``, of the ``conditions`` stated and of the ``maps``, where
    they have a weight (see ``bank``). With a ``folder`` a stopped run goes on. Under ``accelerate launch`` each process
    encodes its share of every batch and the embeddings are gathered with gradients. ``watch`` stops it early.
    """
    settings = loop.on_this_machine(settings)
    network.lock(settings.lock)
    bank = of_pairs(pairs)
    texts = [*(caption.text for caption in pairs.captions), *bank.texts]
    familiarity.include(tokenizer, texts)
    tokens = dict(tokenizer(texts, padding=True, truncation=True, return_tensors="pt"))
    stated = bool(settings.condition_weight and bank.conditions)
    with_maps = bool(settings.map_weight and bank.named and network.pyramid)
    truth = bank.targets(pairs.images.conditions)
    if network.logit_bias is not None and not network.logit_bias.item():  # not trained before, at another size
        network.logit_bias.data.fill_(losses.starting_bias(positive_rate(pairs, settings)))
    ids, config = keys.arrays(tokens["input_ids"].numpy()), network.config.to_json_string(use_diff=False)
    key = settings.key(keys.weights(network), config, ids, pairs.key, keys.code(__file__))
    if watch:
        key = keys.digest([key, watch.every, watch.patience, watch.key])
    if settings.text_warmup:
        warm_up_text(network, tokens, pairs, settings, key, folder)
    objective = losses.OBJECTIVES[settings.loss]

    def step(update: Update) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            network.logit_scale.clamp_(max=visionclip.LARGEST_LOGIT_SCALE)
        rows = update.rows(len(pairs))
        distinct, own = np.unique(pairs.draw(rows, update.rng("caption of an image")), return_inverse=True)
        matches = matches_of(pairs, rows, distinct, own, update.device)
        statements = bank.draw_statements(update.rng("statements")) if stated else distinct[:0]
        names = bank.draw_names(update.rng("names of findings")) if with_maps else distinct[:0]
        chosen, places = np.unique(np.concatenate([distinct, statements, names]), return_inverse=True)
        of_captions, of_statements, of_names = np.split(places, np.cumsum([len(distinct), len(statements)]))
        batch, masks = _augmented(pairs, rows, settings, update, with_maps, network.config.plain_colours)
        own_rows = update.share(np.arange(len(rows)))

        def compare(images: gradient_cache.Encoded, texts: gradient_cache.Encoded) -> dict[str, torch.Tensor]:
            image_embeds, text_embeds = gathered(images[0]), gathered(texts[0])[: len(chosen)]
            captions, floor = objective(
                image_embeds, text_embeds[of_captions], network.scale, network.logit_bias, matches
            )
            values = {"loss": captions, "captions": captions, "floor": floor, "temperature": 1 / network.scale.detach()}
            if stated:
                logits = network.scale * image_embeds @ text_embeds[of_statements].T
                of_rows = torch.from_numpy(truth[rows]).to(update.device)
                values["conditions"] = supervision.condition_loss(logits, bank.values, of_rows)
                values["loss"] = values["loss"] + settings.condition_weight * values["conditions"]
            if with_maps and masks is not None:
                covered, known = masks
                logits = network.maps(images[1], text_embeds[of_names])
                covered = functional.interpolate(covered[own_rows], size=logits.shape[-2:], mode="area") / 255
                of_own = logits, covered, known[own_rows]
                entropy = supervision.map_loss(*of_own, known.float().mean())
                overlaps = gathered(supervision.overlaps(*of_own)[None]).sum(0)
                values["maps"] = gathered(entropy[None]).mean() + supervision.dice_loss(overlaps)
                values["loss"] = values["loss"] + settings.map_weight * values["maps"]
            return values

        images, texts = parts(update, batch, tokens, chosen, settings.chunk, with_maps)
        if settings.chunk:
            return gradient_cache.propagate(network, images, texts, compare)
        return compare(images[0](), texts[0]())

    return loop.train(
        network,
        step,
        settings,
        "pretrain",
        key,
        folder / "checkpoint.safetensors" if folder else None,
        parameter_groups(network, settings),
        watch=watch,
    )


def _augmented(
    pairs: Pairs, rows: np.ndarray, settings: Settings, update: Update, with_maps: bool, plain: bool = False
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor] | None]:
    """The images of a batch as the network sees them, N×3×S×S, and their masks N×C×s×s with which have any (bool N)."""
    batch = to_tensor(pairs.images.pixels[rows]).to(update.device)
    if settings.size and settings.size != batch.shape[-1]:
        shrinks = settings.size < batch.shape[-1]
        batch = functional.interpolate(batch.float(), size=settings.size, mode="area" if shrinks else "bilinear")
    masks, marked = None, pairs.images.marked
    if with_maps and pairs.images.masks is not None:
        masks = torch.from_numpy(pairs.images.masks[rows]).to(update.device)
    batch, masks = augment(batch, settings.augmentation, update.torch_rng("augmentation"), masks)
    if masks is None:
        return standardise(batch, plain), None
    known = np.ones(len(rows), bool) if marked is None else marked[rows]
    return standardise(batch, plain), (masks, torch.from_numpy(known).to(update.device))


def matches_of(pairs: Pairs, rows: np.ndarray, distinct: np.ndarray, own: np.ndarray, device) -> losses.Matches:
    """What is known of B images and U captions, ``rows`` and ``distinct`` of the pairs; ``own`` (B) is each image's."""
    known = [own, pairs.positives(rows, distinct), pairs.meanings[distinct], pairs.vectors(rows)]
    unknown = pairs.unknown(rows, distinct)
    known += [] if unknown is None else [unknown]
    return losses.Matches(*(torch.from_numpy(one).to(device) for one in known))


def positive_rate(pairs: Pairs, settings: Settings) -> float:
    """The share of true pairs to expect among those of a batch that are known to be true or false, 0 to 1 exclusive."""
    rates = []
    for number in range(SAMPLED):
        rng = streams.rng(settings.seed, "share of true pairs", number)
        rows = rng.integers(len(pairs), size=min(settings.batch_size, 256))
        texts = np.unique(pairs.draw(rows, rng))
        positives, unknown = pairs.positives(rows, texts), pairs.unknown(rows, texts)
        rates.append((positives if unknown is None else positives[~unknown]).mean())
    return float(np.clip(np.mean(rates), 1e-6, 1 - 1e-6))


def parts(
    update: Update, pixels: torch.Tensor, tokens: Tokens, chosen: np.ndarray, chunk: int, with_maps: bool = False
) -> tuple[list[gradient_cache.Part], list[gradient_cache.Part]]:
    """How this process encodes its share of standardised ``pixels`` and of the texts ``chosen``, part by part.

    Every process has as many texts, the last one again where they don't divide. ``with_maps`` images bring their cells.
    """
    padded = -(-len(chosen) // update.world) * update.world
    own_texts = update.share(chosen[np.arange(padded).clip(max=len(chosen) - 1)])
    own = pixels[update.share(np.arange(len(pixels)))]

    def image_part(part: torch.Tensor) -> gradient_cache.Part:
        def encode() -> gradient_cache.Encoded:
            output = update.network(pixel_values=part)
            return (output.image_embeds, output.cells) if with_maps else (output.image_embeds,)

        return encode

    def text_part(part: np.ndarray) -> gradient_cache.Part:
        return lambda: (update.network(**trimmed(tokens, part, update.device)).text_embeds,)

    images = own.split(chunk or len(own))
    texts = np.split(own_texts, range(chunk, len(own_texts), chunk)) if chunk else [own_texts]
    return [image_part(part) for part in images], [text_part(part) for part in texts]


class _Gathered(torch.autograd.Function):
    """The rows of all processes in order; backwards, each gets the sum of what all propagate to its rows."""

    @staticmethod
    def forward(_, part: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(part) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(_, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total.chunk(distributed.get_world_size())[distributed.get_rank()]


def gathered(part: torch.Tensor) -> torch.Tensor:
    """The rows N×P of all processes in order, with gradients back to each."""
    several = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
    return _Gathered.apply(part) if several else part


def trimmed(tokens: Tokens, rows: Sequence[int] | np.ndarray, device: torch.device) -> Tokens:
    """The token ids and mask U×T of these rows, without the columns that are padding in all of them."""
    mask = tokens["attention_mask"][rows]
    longest = int(mask.sum(1).max())
    ids = tokens["input_ids"][rows, :longest]
    return {"input_ids": ids.to(device), "attention_mask": mask[:, :longest].to(device)}


def parameter_groups(network: VisionCLIP, settings: Settings) -> list[dict]:
    """Weights by tower, each at its share of the peak rate; weight decay on matrices and kernels only, and nothing of a
    locked tower."""
    groups = []
    learning = [(name, value) for name, value in network.named_parameters() if value.requires_grad]
    for share, is_text in ((settings.text_rate, True), (1.0, False)):
        members = [value for name, value in learning if name.startswith("text") == is_text]
        for decay, matrices in ((settings.weight_decay, True), (0.0, False)):
            chosen = [value for value in members if (value.ndim > 1) == matrices]
            if chosen:
                groups.append({"params": chosen, "weight_decay": decay, "lr": share * settings.learning_rate})
    return groups


class TextTower(nn.Module):
    """The text side of a VisionCLIP, to be trained alone: the same weights."""

    def __init__(self, network: VisionCLIP):
        super().__init__()
        self.text, self.text_projection, self.logit_scale = network.text, network.text_projection, network.logit_scale

    forward = VisionCLIP.get_text_features


def warm_up_text(
    network: VisionCLIP, tokens: Tokens, pairs: Pairs, settings: Settings, key: str = "", folder: Path | None = None
) -> History:
    """Train the text tower alone on what its captions mean, in place, before the first image.

    Two towers from random weights learn nothing from each other for hundreds of updates. Here the full description of
    an eye stands where its image will stand: it must lie near every caption that is true of the eye. Cheap, as
    sentences are short; nothing but the captions and their facts is used.
    """
    alone = loop.Settings(
        updates=settings.text_warmup,
        batch_size=settings.batch_size,
        learning_rate=WARMUP_RATE / network.config.text_config.hidden_size,
        weight_decay=0.05,
        warmup=0.1,
        seed=settings.seed,
    )

    def step(update: Update) -> dict[str, torch.Tensor]:
        rows, rng = update.rows(len(pairs)), update.rng("captions of the warm-up")
        described, distinct = pairs.draw_full(rows, rng), np.unique(pairs.draw(rows, rng))
        embeds = update.network(**trimmed(tokens, np.concatenate([described, distinct]), update.device))
        eyes, texts = embeds.split([len(described), len(distinct)])
        matches = matches_of(pairs, rows, distinct, np.zeros(len(rows), int), update.device)
        loss, floor = losses.multi_positive(eyes, texts, network.scale, None, matches)
        return {"loss": loss, "floor": floor}

    checkpoint = folder / "text-warm-up.safetensors" if folder else None
    log = loop.train(TextTower(network), step, alone, "text warm-up", key, checkpoint, channels_last=False)
    with torch.no_grad():
        network.logit_scale.fill_(visionclip.LOGIT_SCALE)
    return log
