"""Grad-CAM of what an image says as a whole, against marks of the findings that define a disease.

The answer as a whole is the similarity of the image to sentences that state a disease minus that to sentences which
deny it. Grad-CAM (Selvaraju et al., ICCV 2017) shows what raises it, on the deepest features of the image tower; unlike
the maps of findings it was never trained to point. Both are scored as in ``localisation``, and with random weights too:
a map that looks as good without training explains nothing (Adebayo et al., NeurIPS 2018).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from visionclip import streams
from visionclip.conditions import DEFINING
from visionclip.data import field_of_view, images
from visionclip.data.labelled import LabelledImages
from visionclip.data.marks import Marks
from visionclip.evaluation import localisation, prompt_matrix
from visionclip.models.supervision import SHOWN
from visionclip.models.visionclip import VisionCLIP
from visionclip.progress import progress

HELD_OUT = "held out"  # the split of phantoms
GLOW = np.array((255, 120, 20), np.float32)  # the colour of what raises an answer


@dataclass(frozen=True, eq=False)
class Case:
    """Images of one split of a set, those at ``places`` in it, that show what defines a disease.

    ``masks`` are bool N×s×s, of any of the ``findings`` that define the disease and are marked in the set; ``fields``
    the field of view, alike.
    """

    dataset: str
    split: str
    disease: str
    findings: tuple[str, ...]
    places: np.ndarray
    masks: np.ndarray
    fields: np.ndarray

    @property
    def about(self) -> dict[str, str]:
        """What a row of results begins with."""
        return {"dataset": self.dataset, "disease": self.disease, "split": self.split}


def in_phantoms(held_out: LabelledImages, name: str) -> list[Case]:
    """For each disease of ``DEFINING`` the phantoms with finding maps that have it and show it, if there are two.

    Masks are of the cells of the finding maps.

    Raises:
        ValueError: the phantoms have no finding maps.
    """
    if held_out.masks is None:
        raise ValueError(f"{name}: no finding maps; draw the phantoms with them")
    shown = {finding: held_out.masks[:, place] > 255 * SHOWN for place, finding in enumerate(held_out.mask_names)}
    fields = localisation.visible(images.resized(held_out.pixels, held_out.masks.shape[-1]))
    cases = []
    for disease in DEFINING:
        has = np.array([eye.get(disease, 0) > 0 for eye in held_out.conditions])
        cases += _case(name, HELD_OUT, disease, shown, fields, has)
    return cases


def in_marks(marks: Marks) -> list[Case]:
    """For each split of a set and disease of ``DEFINING`` the photographs that show a mark of it, if there are two.

    One on which somebody did not look for all of its findings that the set marks is left out: what is not marked there
    may be there.
    """
    fields, splits, cases = localisation.visible(marks.pixels), np.array(marks.splits), []
    for split in sorted(set(marks.splits)):
        for disease in DEFINING:
            looked = [marks.known[finding] for finding in DEFINING[disease] if finding in marks.masks]
            cases += _case(marks.name, split, disease, marks.masks, fields, np.all([splits == split, *looked], axis=0))
    return cases


def _case(
    dataset: str, split: str, disease: str, masks: Mapping[str, np.ndarray], fields: np.ndarray, of_split: np.ndarray
) -> list[Case]:
    """The case of a disease among the images of a split, if two of them show it."""
    findings = tuple(finding for finding in DEFINING[disease] if finding in masks)
    union = np.any([masks[finding] for finding in findings] or [np.zeros_like(fields)], axis=0) & fields
    places = np.flatnonzero(of_split & union.any((1, 2)))
    case = Case(dataset, split, disease, findings, places, union[places], fields[places])
    return [case] if len(places) >= 2 else []


def directions(
    network: VisionCLIP, tokenizer, diseases: Sequence[str], languages: Sequence[str]
) -> dict[str, torch.Tensor]:
    """float32 P of each disease: what sentences that state it, at any of its values, have over those that deny it."""
    pairs = prompt_matrix.pairs(network, tokenizer, languages, keys=diseases)
    return {disease: present.mean(0) - absent[0] for disease, (absent, present) in pairs.items()}


def gradcam(network: VisionCLIP, pixels: np.ndarray, direction: torch.Tensor, batch_size: int = 16) -> np.ndarray:
    """Grad-CAM float32 N×h×w, 0 or more, of the similarity to ``direction`` (P), of prepared uint8 N×S×S×3.

    The layer is the deepest stage of the image tower, so that h is a 32nd of S.
    """
    from captum.attr import LayerGradCam  # takes a second to import, which what only scores need not wait for

    network.train(False)
    towards, stage = direction.to(network.device), network.vision.encoder.stages[-1]
    explain = LayerGradCam(lambda batch: network.get_image_features(batch) @ towards, stage)
    found = []
    for part in progress(np.array_split(pixels, -(-len(pixels) // batch_size)), "explain"):
        batch = images.standardise(
            images.to_tensor(part).to(network.device), network.config.plain_colours
        ).requires_grad_()
        found.append(explain.attribute(batch, relu_attributions=True)[:, 0].detach().float().cpu().numpy())
    return np.concatenate(found)


def any_of(maps: np.ndarray) -> np.ndarray:
    """The probability N×h×w that a cell shows any of the findings of maps N×C×h×w, as if they were independent."""
    return 1 - np.prod(1 - maps, axis=1)


def threshold(case: Case, maps: np.ndarray) -> float:
    """The threshold of highest Dice score of maps N×h×w, to be kept for the disease's other cases."""
    return localisation.best_threshold(maps, case.masks, case.fields)


def evaluate(case: Case, maps: np.ndarray, threshold: float | None, seed: int, resamples: int) -> dict:
    """The scores of ``localisation`` of maps N×h×w of a case, with its name; lesions are too small to be counted."""
    rng = streams.rng(seed, "bootstrap of explained images")
    given = maps, case.masks, case.fields, threshold, rng, resamples
    return {**case.about, **localisation.scores(*given, lesions=False)}


def overlay(pixels: np.ndarray, maps: np.ndarray) -> list[np.ndarray]:
    """Pictures uint8 S×S×3 of N images, greyed, with maps N×h×w (0 or more, each by its own maximum) in orange."""
    pictures = []
    for picture, own in zip(pixels, maps, strict=True):
        grey = np.repeat(picture[..., 1:2] * 0.6, 3, axis=2).astype(np.float32)
        heat = cv2.resize(own.astype(np.float32) / max(own.max(), 1e-12), picture.shape[1::-1])
        alpha = (heat * field_of_view.visible(picture))[..., None] * 0.85
        pictures.append((grey * (1 - alpha) + GLOW * alpha).astype(np.uint8))
    return pictures
