"""Maps of findings by their names: where in an image a model sees what words name."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
from torch.nn import functional

from visionclip import conditions, streams
from visionclip.data import field_of_view, images
from visionclip.data.labelled import LabelledImages
from visionclip.evaluation import localisation
from visionclip.evaluation.encoding import encode_cells, encode_texts
from visionclip.models.supervision import SHOWN
from visionclip.models.visionclip import VisionCLIP
from visionclip.text.grammar import phrases

# A few pixels wide even at the size trained at, and smaller on photographs than drawn: read at more pixels there,
# chosen on the marks of IDRiD train, HEI-MED and DRIVE, see docs/decisions.md.
FINE = ("microaneurysms", "exudate", "artery", "vein", "vessels")
PAINT = (  # findings, their colour and its opacity, each over those before it
    (("disc", "fovea"), (60, 200, 90), 0.35),
    (("exudate", "cotton_wool", "drusen", "atrophy"), (255, 220, 40), 0.9),
    (("microaneurysms", "haemorrhage", "neovessel"), (255, 40, 40), 0.9),
)


def name_embeddings(network: VisionCLIP, tokenizer, findings: Sequence[str], languages: Sequence[str]) -> torch.Tensor:
    """Unit-length float32 C×P: of each finding the mean over all its phrases in these languages."""
    named = [[text for one in languages for text in phrases(finding, one)] for finding in findings]
    means = [encode_texts(network, tokenizer, texts).mean(0) for texts in named]
    return functional.normalize(torch.stack(means), dim=1)


def finding_maps(
    network: VisionCLIP, pixels: np.ndarray, text_embeds: torch.Tensor, sizes: Sequence[int] = (), batch_size: int = 16
) -> np.ndarray:
    """Probabilities float32 N×C×s×s that prepared uint8 N×S×S×3 show what each text (unit length, C×P) names.

    See ``map_logits``.
    """
    return np.concatenate(
        [torch.sigmoid(one).numpy() for one in map_logits(network, pixels, text_embeds, sizes, batch_size)]
    )


def map_logits(
    network: VisionCLIP, pixels: np.ndarray, text_embeds: torch.Tensor, sizes: Sequence[int] = (), batch_size: int = 16
) -> Iterator[torch.Tensor]:
    """Logits float32 B×C×s×s of prepared uint8 N×S×S×3, batch by batch: what each text (unit length, C×P) names.

    The images are seen at each of ``sizes`` pixels (none: as they are), as lesions have no one size in all cameras, and
    the mean of the logits is taken on the finest grid.

    Raises:
        ValueError: the model has no feature pyramid.
    """
    text_embeds = text_embeds.to(network.device)
    of_sizes = [encode_cells(network, pixels, size, batch_size) for size in sorted(sizes or [pixels.shape[1]])]
    for cells in zip(*of_sizes, strict=True):
        with torch.no_grad():
            logits = [network.maps(one, text_embeds) for one in cells]
        finest = logits[-1].shape[-2:]
        alike = [functional.interpolate(one, size=finest, mode="bilinear", align_corners=False) for one in logits]
        yield torch.stack(alike).mean(0).cpu()


def on_phantoms(held_out: LabelledImages, maps: np.ndarray, seed: int, resamples: int = 300) -> list[dict]:
    """How maps N×C×s×s of the findings of held-out phantoms agree with their masks, a row a finding.

    A row has its name, the ``threshold`` (0 to 1) of highest Dice score on these phantoms, and ``localisation``'s
    scores over the cells; its Dice is at that threshold, and so an upper bound. On photographs, whose marks may choose
    nothing, a map is cut at this threshold. A cell shows a finding from ``supervision.SHOWN`` of it on. Findings that
    fewer than two phantoms show are left out.
    """
    side, rows = maps.shape[-1], []
    fields = localisation.visible(images.resized(held_out.pixels, side))
    for name, own, covered in zip(held_out.mask_names, maps.swapaxes(0, 1), _cells(held_out, side), strict=True):
        shown = covered > SHOWN
        if (shown & fields).any((1, 2)).sum() < 2:
            continue
        threshold = localisation.best_threshold(own, shown, fields)
        rng = streams.rng(seed, "bootstrap of held-out maps")
        lesions = conditions.FINDINGS[name].lesion
        scored = localisation.scores(own, shown, fields, threshold, rng, resamples, lesions)
        rows.append({"finding": name, "split": "held out", **scored})
    return rows


def _cells(held_out: LabelledImages, side: int) -> np.ndarray:
    """The share (0 to 1) of each of side×side cells that each finding covers, C×N×side×side."""
    masks = torch.from_numpy(np.asarray(held_out.masks)).float()
    return (functional.interpolate(masks, size=(side, side), mode="area") / 255).transpose(0, 1).numpy()


def overlay(pixels: np.ndarray, maps: np.ndarray, names: Sequence[str]) -> list[np.ndarray]:
    """Pictures uint8 S×S×3, greyed, with blood in red, bright lesions in yellow, disc and fovea in green.

    ``maps`` are shares or probabilities N×C×s×s, 0 to 1, of ``names``.
    """
    pictures = []
    for picture, of_picture in zip(pixels, maps, strict=True):
        grey = np.repeat(picture[..., 1:2] * 0.6, 3, axis=2).astype(np.float32)
        inside = field_of_view.visible(picture)[..., None]
        for findings, colour, opacity in PAINT:
            share = of_picture[[names.index(name) for name in findings if name in names]].max(0).astype(np.float32)
            alpha = cv2.resize(share, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)[..., None]
            alpha = np.clip(alpha, 0, 1) * inside * opacity
            grey = grey * (1 - alpha) + np.array(colour, np.float32) * alpha
        pictures.append(grey.astype(np.uint8))
    return pictures


def richest(drawn: LabelledImages, count: int) -> list[int]:
    """Places of ``count`` eyes with several findings, one of a kind of presentation.

    Raises:
        ValueError: the phantoms have no finding maps.
    """
    if drawn.masks is None:
        raise ValueError("richest: no finding maps; draw the phantoms with them")
    lesions = [place for place, name in enumerate(drawn.mask_names) if conditions.FINDINGS[name].lesion]
    richness = (drawn.masks[:, lesions] > 255 * SHOWN).any((2, 3)).sum(1)
    first: dict[str, int] = {}
    for place in np.argsort(-richness, kind="stable"):
        first.setdefault(conditions.presentation(drawn.conditions[place]), int(place))
    return list(first.values())[:count]
