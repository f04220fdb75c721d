"""Images and sentences as embeddings, in inference mode and batch by batch."""

from collections.abc import Sequence

import numpy as np
import torch

from visionclip.data import images
from visionclip.models.visionclip import VisionCLIP
from visionclip.progress import progress
from visionclip.text.familiarity import warn


@torch.no_grad()
def encode_images(
    network: VisionCLIP, pixels: np.ndarray, batch_size: int = 32, projected: bool = True
) -> torch.Tensor:
    """Unit-length float32 N×P of prepared uint8 N×S×S×3; N×D before the projection if not ``projected``."""
    network.train(False)
    encode = network.get_image_features if projected else network.get_pooled_features
    parts = progress(images.to_tensor(pixels).split(batch_size), "encode images")
    return torch.cat([encode(images.standardise(part.to(network.device))).cpu().float() for part in parts])


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
