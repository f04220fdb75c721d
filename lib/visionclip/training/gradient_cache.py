"""Contrastive batches of any size in the memory of a small one (gradient caching, Gao et al., RepL4NLP 2021)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

Encoded = tuple[torch.Tensor, ...]  # of N images or texts: embeddings N×P, and what else is compared
Part = Callable[[], Encoded]  # encodes one part of the batch
Values = dict[str, torch.Tensor]


def whole(parts: Sequence[Part]) -> Encoded:
    """What all parts encode."""
    return tuple(torch.cat(one) for one in zip(*(part() for part in parts), strict=True))


def propagate(
    network: nn.Module,
    images: Sequence[Part],
    texts: Sequence[Part],
    compare: Callable[[Encoded, Encoded], Values],
) -> Values:
    """Propagate the "loss" of ``compare`` (of B encoded images and U encoded texts) into ``network``.

    Embeddings are computed part by part without a graph, the loss's gradient with respect to them is kept, and each
    part is encoded again to pass it on: one part's activations are held at a time. The result is that of encoding the
    same parts with a graph; batch normalisation sees parts either way. Values are returned detached.
    """
    with torch.no_grad(), _frozen_statistics(network):
        leaves = [tuple(one.requires_grad_() for one in whole(parts)) for parts in (images, texts)]
    values = compare(*leaves)
    values["loss"].backward()
    for parts, of_side in zip((images, texts), leaves, strict=True):
        gradients = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in of_side]
        start = 0
        for part in parts:
            encoded = part()
            end = start + len(encoded[0])
            torch.autograd.backward(encoded, [gradient[start:end] for gradient in gradients])
            start = end
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
