"""Contrastive batches of any size in the memory of a small one (gradient caching, Gao et al., RepL4NLP 2021)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

Part = Callable[[], torch.Tensor]  # encodes one part of the batch: N×P
Values = dict[str, torch.Tensor]


def propagate(
    network: nn.Module,
    images: Sequence[Part],
    texts: Sequence[Part],
    compare: Callable[[torch.Tensor, torch.Tensor], Values],
) -> Values:
    """Propagate the "loss" of ``compare`` (image embeddings B×P, text embeddings U×P) into ``network``.

    Embeddings are computed part by part without a graph, the loss's gradient with respect to them is kept, and each
    part is encoded again to pass it on: one part's activations are held at a time. The result is that of encoding the
    same parts with a graph; batch normalisation sees parts either way. Values are returned detached.
    """
    with torch.no_grad(), _frozen_statistics(network):
        embedded = [torch.cat([part() for part in parts]) for parts in (images, texts)]
    leaves = [embeddings.requires_grad_() for embeddings in embedded]
    values = compare(*leaves)
    values["loss"].backward()
    for parts, leaf in zip((images, texts), leaves, strict=True):
        gradient, start = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad, 0
        for part in parts:
            embeddings = part()
            embeddings.backward(gradient[start : start + len(embeddings)])
            start += len(embeddings)
    return {name: value.detach() for name, value in values.items()}


@contextmanager
def _frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Batch normalisation as in training, its running statistics left alone: each part is seen twice, counted once."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
