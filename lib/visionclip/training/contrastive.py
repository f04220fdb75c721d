"""Stage 03: pretrain VisionCLIP from random weights on synthetic images and their captions.

The order of images, the caption drawn for each and its augmentation are functions of the seed and the step, so a
resumed run equals an uninterrupted one, and two processes equal one with twice the batch.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas
import torch
from accelerate import Accelerator
from torch import distributed
from torch.distributed.nn.functional import all_gather

from visionclip import conditions, runs
from visionclip.data import images, shards
from visionclip.data.shards import Images
from visionclip.models import losses, visionclip
from visionclip.progress import progress
from visionclip.text import captions
from visionclip.text.captions import Caption, truth
from visionclip.training import checkpoints

WARMUP_RATE = 0.25  # peak learning rate of the text tower's warm-up, times its width
COLLAPSED = 0.995  # mean cosine of texts with different meanings, above which the text tower is of no use


@dataclass(frozen=True)
class Pairs:
    """Images and the captions that may stand beside each: ``texts_of[i]`` are indices into ``captions``."""

    images: Images
    captions: list[Caption]
    texts_of: list[list[int]]

    def subset(self, count: int, seed: int) -> "Pairs":
        """``count`` images at random (0: all); of the same seed, a smaller subset is part of every larger one."""
        if not 0 <= count <= len(self.images):
            raise ValueError(f"images: {count} asked for, the set holds {len(self.images)}; ask for 0 (all) up to that")
        order = np.random.default_rng([seed, 7]).permutation(len(self.images))[: count or None]
        return Pairs(self.images.take(order), self.captions, [self.texts_of[index] for index in order])


@dataclass(frozen=True)
class Settings:
    """How to train; ``updates`` optimiser steps of ``batch_size`` images over all processes."""

    updates: int
    batch_size: int
    learning_rate: float  # peak, of the image tower
    text_rate: float  # learning rate of the text tower relative to it
    text_warmup: int  # updates of the text tower alone, before the first image
    weight_decay: float
    warmup: float  # share of the updates
    loss: str  # "clip" or "multi_positive"
    augmentation: float  # strength, 0 to 1
    precision: str  # "no" or "bf16"
    seed: int
    checkpoint_every: int = 500


def read_pairs(synthesis: str | Path, captions_folder: str | Path, name: str) -> Pairs:
    """The set ``name`` ("synthetic" or "validation") of stage 01 with its captions of stage 02.

    Raises:
        ValueError: the captions were written for other images.
    """
    eyes = shards.read(runs.resolve(synthesis) / name)
    table, texts_of, keys = captions.read(runs.resolve(captions_folder) / name)
    if keys != eyes.keys:
        raise ValueError(
            f"{captions_folder}/{name}: captions of other images than {synthesis} holds; run 02-captions again"
        )
    return Pairs(eyes, table, texts_of)


def parameter_groups(network: visionclip.VisionCLIP, settings: Settings) -> list[dict]:
    """Weights by tower, each at its share of the peak rate; weight decay on matrices and kernels only."""
    groups = []
    for share, in_group in ((settings.text_rate, True), (1.0, False)):
        members = [value for name, value in network.named_parameters() if name.startswith("text") == in_group]
        for decay, chosen in (
            (settings.weight_decay, [value for value in members if value.ndim > 1]),
            (0.0, [value for value in members if value.ndim <= 1]),
        ):
            groups.append({"params": chosen, "weight_decay": decay, "lr": 0.0, "peak": share * settings.learning_rate})
    return groups


def set_rate(optimizer, done: int, updates: int, warmup: float) -> None:
    """Linear warm-up to each group's ``peak`` over that share of the updates, then half a cosine to zero."""
    rising = max(round(warmup * updates), 1)
    falling = 0.5 * (1 + math.cos(math.pi * max(done - rising, 0) / max(updates - rising, 1)))
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * min((done + 1) / rising, falling)


def warm_up_text(network: visionclip.VisionCLIP, tokens, pairs: Pairs, settings: Settings) -> None:
    """Teach the text tower alone what its captions mean, in place, before the first image.

    Two towers from random weights teach each other nothing for hundreds of updates. Here the full description of an
    eye stands where its image will stand, in the same loss: it must lie near every caption that is true of the
    eye. Cheap, as sentences are short; nothing but the captions and their facts is used.
    """
    full = [[text for text in beside if pairs.captions[text].full] or beside for beside in pairs.texts_of]
    spoken = [*network.text.parameters(), *network.text_projection.parameters(), network.logit_scale]
    peak = WARMUP_RATE / network.config.text_config.hidden_size
    optimizer = torch.optim.AdamW([{"params": spoken, "peak": peak}], weight_decay=0.05)
    for step in progress(range(settings.text_warmup), "text warm-up"):
        chosen = checkpoints.batch_indices(len(pairs.images), settings.batch_size, settings.seed, step)
        rng = np.random.default_rng([settings.seed, step, 2])
        described = [int(rng.choice(full[index])) for index in chosen]
        distinct = np.unique([int(rng.choice(pairs.texts_of[index])) for index in chosen])
        right = truth([pairs.images.conditions[i] for i in chosen], [pairs.captions[i] for i in distinct])
        rows = np.concatenate([described, distinct])
        embeds = network.get_text_features(**trimmed(tokens, rows, network.device))
        eyes, texts = embeds.split([len(described), len(distinct)])
        right = torch.from_numpy(right).to(network.device)
        loss = losses.multi_positive_loss(eyes, texts, network.scale, right)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(spoken, 1.0)
        set_rate(optimizer, step, settings.text_warmup, 0.1)
        optimizer.step()
    with torch.no_grad():
        network.logit_scale.fill_(visionclip.LOGIT_SCALE)


def gathered(part: torch.Tensor) -> torch.Tensor:
    """The rows of all processes in order, with gradients back to each."""
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return part
    return torch.cat(all_gather(part))


def embed(network, pixels: torch.Tensor, tokens: dict[str, torch.Tensor], rank: int, world: int):
    """Embeddings of a global batch, of which this process encodes every ``world``-th part.

    ``pixels`` B×3×S×S (B a multiple of ``world``) and the tokens of U distinct captions; returns B×P and U×P.
    """
    distinct = len(tokens["input_ids"])
    padded = math.ceil(distinct / world) * world
    rows = torch.arange(padded, device=pixels.device).clamp(max=distinct - 1).chunk(world)[rank]
    output = network(pixel_values=pixels.chunk(world)[rank], **{name: value[rows] for name, value in tokens.items()})
    return gathered(output.image_embeds), gathered(output.text_embeds)[:distinct]


def train(network: visionclip.VisionCLIP, tokenizer, pairs: Pairs, settings: Settings, folder: Path) -> list[dict]:
    """Train ``network`` in place and return what each update logged: loss, floor and temperature.

    Resumes from ``folder/checkpoint.safetensors``. Under ``accelerate launch`` each process encodes its share of
    every batch and the embeddings are gathered with gradients.
    """
    accelerator = Accelerator(mixed_precision=settings.precision)
    rank, world = accelerator.process_index, accelerator.num_processes
    if settings.batch_size % world:
        raise ValueError(f"batch_size: {settings.batch_size} can't be shared by {world} processes; use a multiple")
    if accelerator.device.type == "cuda":
        network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
    network = network.to(accelerator.device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(parameter_groups(network, settings))
    pixels = images.to_tensor(pairs.images.pixels)
    tokens = tokenizer([caption.text for caption in pairs.captions], padding=True, truncation=True, return_tensors="pt")
    seen = hashlib.sha256(np.ascontiguousarray(pairs.images.pixels)).hexdigest()  # keys stay when phantoms change
    spoken = [caption.text for caption in pairs.captions]
    fingerprint = runs.digest([asdict(settings), network.config.to_dict(), seen, spoken, pairs.texts_of])
    checkpoint = folder / "checkpoint.safetensors"
    history = checkpoints.restore(checkpoint, {"model": network}, optimizer, fingerprint)
    if not history:
        warm_up_text(network, tokens, pairs, settings)
    prepared, optimizer = accelerator.prepare(network, optimizer)

    for step in progress(range(len(history), settings.updates), "pretrain"):
        chosen = checkpoints.batch_indices(len(pairs.images), settings.batch_size, settings.seed, step)
        rng = np.random.default_rng([settings.seed, step, 1])
        texts = [int(rng.choice(pairs.texts_of[index])) for index in chosen]
        distinct, own = np.unique(texts, return_inverse=True)
        generator = torch.Generator(accelerator.device).manual_seed(settings.seed * 1_000_003 + step)
        batch = images.augment(pixels[chosen].to(accelerator.device), settings.augmentation, generator)
        spoken = trimmed(tokens, distinct, accelerator.device)
        image_embeds, text_embeds = embed(prepared, images.standardise(batch), spoken, rank, world)
        right = truth([pairs.images.conditions[i] for i in chosen], [pairs.captions[i] for i in distinct])
        right = torch.from_numpy(right).to(accelerator.device)
        own = torch.from_numpy(own).to(accelerator.device)
        if settings.loss == "clip":
            loss = losses.clip_loss(image_embeds, text_embeds, network.scale, own)
            meaning = np.unique([pairs.captions[index].semantic_id for index in texts], return_inverse=True)[1]
            floor = losses.floor(torch.from_numpy(meaning[:, None] == meaning[None]))
        else:
            loss = losses.multi_positive_loss(image_embeds, text_embeds, network.scale, right)
            floor = losses.floor(right)
        optimizer.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(prepared.parameters(), 1.0)
        set_rate(optimizer, step, settings.updates, settings.warmup)
        optimizer.step()
        with torch.no_grad():
            network.logit_scale.clamp_(max=visionclip.LARGEST_LOGIT_SCALE)
        entry = {"loss": loss.item(), "floor": floor.item(), "temperature": 1 / network.scale.item()}
        if not math.isfinite(entry["loss"]):
            raise FloatingPointError(f"loss is {entry['loss']} at update {step}; lower learning_rate")
        history.append(entry)
        done = step + 1
        if accelerator.is_main_process and (done % settings.checkpoint_every == 0 or done == settings.updates):
            checkpoints.save(checkpoint, {"model": network}, optimizer, fingerprint, history)
    network.train(False)
    return history


def trimmed(tokens, rows: Sequence[int], device) -> dict[str, torch.Tensor]:
    """The token ids and mask of these rows, without the columns that are padding in all of them."""
    mask = tokens["attention_mask"][rows]
    longest = int(mask.sum(1).max())
    return {
        "input_ids": tokens["input_ids"][rows, :longest].to(device),
        "attention_mask": mask[:, :longest].to(device),
    }


@torch.no_grad()
def encode_images(
    network: visionclip.VisionCLIP, pixels: np.ndarray, batch_size: int = 128, projected: bool = True
) -> torch.Tensor:
    """Unit-length float32 N×P of prepared uint8 N×S×S×3, in inference mode; N×D before the projection if not
    ``projected``."""
    network.train(False)
    parts = images.to_tensor(pixels).split(batch_size)
    encode = network.get_image_features if projected else network.get_pooled_features
    embedded = [
        encode(images.standardise(part.to(network.device))).cpu().float() for part in progress(parts, "encode images")
    ]
    return torch.cat(embedded)


@torch.no_grad()
def encode_texts(
    network: visionclip.VisionCLIP, tokenizer, texts: Sequence[str], batch_size: int = 256
) -> torch.Tensor:
    """Unit-length float32 N×P of sentences, in inference mode."""
    network.train(False)
    embedded = []
    for start in range(0, len(texts), batch_size):
        tokens = tokenizer(list(texts[start : start + batch_size]), padding=True, truncation=True, return_tensors="pt")
        tokens = tokens.to(network.device)
        embedded.append(network.get_text_features(tokens["input_ids"], tokens["attention_mask"]).cpu())
    return torch.cat(embedded)


def retrieval(image_embeds: torch.Tensor, text_embeds: torch.Tensor, positives: np.ndarray) -> dict[str, dict]:
    """Recall at 1, 5 and 10 in both directions, 0 to 1, with what chance would reach.

    A query counts as found at k if one of its k nearest is a right answer; ``positives`` is bool N×M. Chance for a
    query with r right answers of m is 1 - (1 - r/m)^k. Queries without a right answer are left out.
    """
    similarity = (image_embeds @ text_embeds.T).numpy()
    result = {}
    for name, scores, right in (
        ("image to text", similarity, positives),
        ("text to image", similarity.T, positives.T),
    ):
        answerable = right.any(1)
        order = np.argsort(-scores[answerable], axis=1, kind="stable")[:, :10]
        found = np.take_along_axis(right[answerable], order, axis=1)
        share = right[answerable].mean(1)
        result[name] = {
            f"R@{k}": {"value": float(found[:, :k].any(1).mean()), "chance": float((1 - (1 - share) ** k).mean())}
            for k in (1, 5, 10)
        }
    return result


def retrieval_table(result: dict[str, dict]) -> pandas.DataFrame:
    """The same numbers as rows of direction, k, recall and chance."""
    return pandas.DataFrame(
        {"direction": direction, "k": k, "recall": score["value"], "chance": score["chance"]}
        for direction, scores in result.items()
        for k, score in scores.items()
    )


def text_spread(text_embeds: torch.Tensor, captions: Sequence[Caption]) -> float:
    """Mean cosine between captions of different meaning, -1 to 1; near 1 the text tower has collapsed."""
    meaning = np.array([caption.semantic_id for caption in captions])
    different = torch.from_numpy(meaning[:, None] != meaning[None])
    return (text_embeds @ text_embeds.T)[different].mean().item()


def refuse_collapse(spread: float) -> None:
    """Fail the run when the text tower maps different meanings to one point.

    Raises:
        RuntimeError: the mean cosine reaches ``COLLAPSED``.
    """
    if spread >= COLLAPSED:
        raise RuntimeError(
            f"text tower collapsed: captions of different meaning have a mean cosine of {spread:.3f} "
            f"(limit {COLLAPSED}); lower learning_rate or train longer"
        )


def shares(sources: Sequence[str]) -> dict[str, float]:
    """The share (0 to 1) of each source in a training set: DDPM images, phantoms, photographs."""
    return {source: sources.count(source) / len(sources) for source in sorted(set(sources))}


def presentations(pairs: Pairs) -> dict[str, int]:
    """How many images show each main condition, for the report."""
    names = [conditions.presentation(eye) for eye in pairs.images.conditions]
    return {name: names.count(name) for name in sorted(set(names))}
