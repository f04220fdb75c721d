"""Classifiers made of a VisionCLIP's image side: its tower to be trained, whole or by low-rank updates, or an adapter
over its embeddings; the classes are those of a task, by the sentences that name them or by a linear head."""

from collections.abc import Iterator, Sequence
from copy import deepcopy

import torch
from torch import nn
from torch.nn import functional

from visionclip import streams
from visionclip.data.images import standardise
from visionclip.models.visionclip import VisionCLIP

REDUCTION, RATIO = 4, 0.2  # of CLIP-Adapter: its bottleneck, and its share in the embedding
RANK, ALPHA = 4, 8  # of LoRA
IMAGE_SIDE = ("vision", "pyramid", "vision_projection")


class Sentences(nn.Module):
    """The classes of a task by the embeddings of their sentences, which training leaves as they are.

    ``classes`` are A×P for each, unit length: a class is the union of its A alternatives.
    """

    embeds: torch.Tensor
    scale: torch.Tensor

    def __init__(self, classes: Sequence[torch.Tensor], scale: float):
        super().__init__()
        self.counts = [len(one) for one in classes]
        self.register_buffer("embeds", torch.cat(list(classes)))
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, image_embeds: torch.Tensor) -> torch.Tensor:
        """Image embeddings N×P → logits N×K, as of zero-shot prediction."""
        alternatives = (self.scale * image_embeds @ self.embeds.T).split(self.counts, dim=1)
        return torch.stack([one.logsumexp(1) for one in alternatives], dim=1)


class ImageTower(nn.Module):
    """The image side of a copy of a VisionCLIP, which alone learns: uint8 or float [0, 255] N×3×S×S → N×P, or N×D
    before the projection if not ``projected``.

    It reads images at the size that it is given and no other scale. With ``keep_statistics`` batch normalisation uses
    those that it came with, as a few photographs have none worth having.
    """

    network: VisionCLIP

    def __init__(self, network: VisionCLIP, projected: bool = True, keep_statistics: bool = True):
        super().__init__()
        self.network, self.projected, self.keep_statistics = deepcopy(network), projected, keep_statistics
        self.network.config.scales = [1.0]
        for name, value in self.network.named_parameters():
            value.requires_grad_(name.partition(".")[0] in IMAGE_SIDE[: 3 if projected else 2])

    def train(self, mode: bool = True) -> "ImageTower":
        """As of every module; statistics that are kept are used in training too."""
        super().train(mode)
        for module in self.modules():
            if self.keep_statistics and isinstance(module, nn.BatchNorm2d):
                module.train(False)
        return self

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Unit-length embeddings, or pooled features; float32."""
        pooled = self.network.get_pooled_features(standardise(pixels, self.network.config.plain_colours))
        return self.network.project(pooled) if self.projected else pooled.float()


class FeatureAdapter(nn.Module):
    """CLIP-Adapter (Gao et al., IJCV 2024): a bottleneck of two layers over embeddings N×P that are not trained, mixed
    into them by ``RATIO``, at unit length."""

    def __init__(self, width: int):
        super().__init__()
        inner = max(width // REDUCTION, 1)
        self.layers = nn.Sequential(
            nn.Linear(width, inner, bias=False), nn.ReLU(), nn.Linear(inner, width, bias=False), nn.ReLU()
        )

    def forward(self, embeds: torch.Tensor) -> torch.Tensor:
        """Adapted embeddings N×P."""
        return functional.normalize(RATIO * self.layers(embeds).float() + (1 - RATIO) * embeds, dim=1)


class Classifier(nn.Module):
    """An ``encoder`` and the ``head`` over what it makes of images or of their embeddings; ``forward`` is the
    encoder's, as a head's logits need every digit."""

    def __init__(self, encoder: nn.Module, head: nn.Module):
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """What the head takes."""
        return self.encoder(inputs)

    def learning(self) -> Iterator[nn.Parameter]:
        """The weights that learn."""
        return (value for value in self.parameters() if value.requires_grad)


def from_scratch(network: VisionCLIP, classes: int, seed: int) -> Classifier:
    """The image tower of ``network`` with random weights, and a linear head of as many ``classes``."""
    torch.manual_seed(streams.integer(seed, "initial weights: tower from scratch"))
    fresh = VisionCLIP(deepcopy(network.config))
    head = nn.Linear(fresh.vision_projection.in_features, classes)
    return Classifier(ImageTower(fresh, projected=False, keep_statistics=False), head)


def full(network: VisionCLIP, head: Sentences) -> Classifier:
    """The image side of ``network``, all of which learns. Without an update it is zero-shot prediction; trained, its
    network is a VisionCLIP again, which the same sentences ask (cf. FLYP, Goyal et al., CVPR 2023)."""
    return Classifier(ImageTower(network), deepcopy(head))


def low_rank(network: VisionCLIP, head: Sentences, seed: int) -> Classifier:
    """As ``full``, of which only low-rank updates of its kernels learn (LoRA, Hu et al., ICLR 2022), by peft."""
    from peft import LoraConfig, inject_adapter_in_model  # seconds to import, for one method of one stage

    torch.manual_seed(streams.integer(seed, "initial weights: low-rank updates"))
    tower = ImageTower(network)
    kernels = [
        name
        for name, module in tower.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and name.split(".")[1] in IMAGE_SIDE
    ]
    inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=kernels), tower)
    return Classifier(tower, deepcopy(head))


def adapter(width: int, head: Sentences, seed: int) -> Classifier:
    """A ``FeatureAdapter`` over embeddings of this width."""
    torch.manual_seed(streams.integer(seed, "initial weights: adapter"))
    return Classifier(FeatureAdapter(width), deepcopy(head))
