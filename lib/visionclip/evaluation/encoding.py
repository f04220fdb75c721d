"""Images and sentences as embeddings, in inference mode and batch by batch."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from visionclip import keys
from visionclip.data import images
from visionclip.models import saved
from visionclip.models.precision import bf16_is_fast
from visionclip.models.visionclip import VisionCLIP, required
from visionclip.progress import progress
from visionclip.text.familiarity import warn

SETS = 12  # whose features are kept: a few megabytes each
KEPT: OrderedDict[str, torch.Tensor] = OrderedDict()


@torch.no_grad()
def encode_images(
    network: VisionCLIP, pixels: np.ndarray, batch_size: int = 32, projected: bool = True
) -> torch.Tensor:
    """Unit-length float32 N×P of prepared uint8 N×S×S×3; N×D before the projection if not ``projected``.

    The last sets encoded in this process are kept, by weights and pixels, as sentences, controls and probe ask for the
    same ones.
    """
    network.train(False)
    key = _key(network, pixels)
    if key not in KEPT:
        parts = progress(images.to_tensor(pixels).split(batch_size), "encode images")
        _keep(key, [_seen(network, network.get_pooled_features, part) for part in parts])
    KEPT.move_to_end(key)  # the one asked for last goes last
    features = KEPT[key]
    return network.project(features.to(network.device)).cpu() if projected else features


def encode_cells(
    network: VisionCLIP, pixels: np.ndarray, size: int | None = None, batch_size: int = 16
) -> Iterator[torch.Tensor]:
    """What ``VisionCLIP.maps`` asks, B×D×s×s, of prepared uint8 N×S×S×3 seen at ``size`` pixels (None: S), by batches.

    The features of ``encode_images`` come with the cells, and are kept for it once the last batch was taken.

    Raises:
        ValueError: the model has no feature pyramid.
    """
    network.train(False)
    encoded, size = [], size or pixels.shape[1]
    for start in progress(range(0, len(pixels), batch_size), "find what is named"):
        part = images.to_tensor(images.resized(pixels[start : start + batch_size], size))
        with torch.no_grad():
            features, cells = _seen(network, network.get_features, part)
        encoded.append(features)
        yield required(cells).float()
    if size == pixels.shape[1]:
        _keep(_key(network, pixels), encoded)


def _seen(network: VisionCLIP, features: Callable, part: torch.Tensor) -> Any:
    """``features`` of images uint8 B×3×S×S, in bf16 where that is faster, which moves a score in its fourth digit."""
    seen = images.standardise(part.to(network.device), network.config.plain_colours)
    with torch.autocast(seen.device.type, torch.bfloat16, enabled=bf16_is_fast(seen.device)):
        return features(seen)


def _key(network: VisionCLIP, pixels: np.ndarray) -> str:
    return keys.digest([saved.key(network), keys.arrays(pixels)])


def _keep(key: str, encoded: Sequence[torch.Tensor]) -> None:
    KEPT[key] = torch.cat([one.cpu().float() for one in encoded])
    KEPT.move_to_end(key)
    while len(KEPT) > SETS:
        KEPT.popitem(last=False)


@torch.no_grad()
def encode_texts(
    network: VisionCLIP, tokenizer, texts: Sequence[str], batch_size: int = 256, warned: bool = True
) -> torch.Tensor:
    """Unit-length float32 N×P of sentences; words that no training caption has are warned of, in one line.

    Held-out captions need no warning (``warned`` False): that they have words never trained on is what they test.
    """
    if warned:
        warn(tokenizer, texts)
    network.train(False)
    embedded = []
    for start in range(0, len(texts), batch_size):
        part = list(texts[start : start + batch_size])
        tokens = tokenizer(part, padding=True, truncation=True, return_tensors="pt", verbose=False).to(network.device)
        embedded.append(network.get_text_features(tokens["input_ids"], tokens["attention_mask"]).cpu())
    return torch.cat(embedded)
