"""What a published model's predictions are worth on photographs: measured once, and kept beside its weights.

Rules and thresholds come from held-out phantoms, as everywhere. Photographs for development, which have chosen the
drawing and flatter, say how far a logit can be believed: the AUC of each condition, the logit that nine of ten
photographs without it stay below, and a probability (Platt 1999) at the share of photographs that have it there. Of
each finding the healthy among them say from where on it is more than what is taken for it in nine of ten.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas
from PIL import Image
from safetensors.numpy import load_file, save_file
from scipy import special
from sklearn.linear_model import LogisticRegression

from visionclip import conditions, runs
from visionclip.data import images
from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import Dataset, stated
from visionclip.evaluation import evidence, false_alarms, statements
from visionclip.evaluation.encoding import encode_images
from visionclip.evaluation.intervals import Interval, mean_auc
from visionclip.models import saved
from visionclip.models.visionclip import VisionCLIP

FOLDER, CARD, EMBEDS, SHEET = "reference", "reference.json", "eyes.safetensors", "eyes.jpg"
LEAST = 10  # photographs with and without a condition, for anything to be said of it
SPECIFICITY = 0.9  # of the cut
CHANCE = 0.6  # an AUC whose lower limit is no higher is taken for none
THUMBNAIL, COLUMNS = 72, 20  # pixels of a drawn eye on the sheet, and how many stand in a row


@dataclass(frozen=True)
class Worth:
    """Of one condition on ``n`` photographs, ``positive`` of them with it: ``auc``; the logit ``cut`` that
    ``SPECIFICITY`` of those without it stay below and the share of those with it that reach it (``sensitivity``, 0 to
    1); ``slope`` and ``intercept`` that make a logit the log-odds of the condition. ``by_set`` has the AUC of each set
    alone: of several together it says too how well cameras are told apart that have more and fewer with it."""

    auc: Interval
    n: int
    positive: int
    cut: float
    sensitivity: float
    slope: float
    intercept: float
    by_set: dict[str, Interval] = field(default_factory=dict)

    @property
    def lowest(self) -> tuple[str, Interval] | None:
        """Of several sets the one with the lowest AUC; None of one alone."""
        least = min(self.by_set, key=lambda name: self.by_set[name].value or 0.0, default="")
        return (least, self.by_set[least]) if len(self.by_set) > 1 else None

    @property
    def right(self) -> float:
        """The share (0 to 1) of photographs at or above the cut that have the condition: its positive predictive value
        where as many have it as in these."""
        found, flagged = self.sensitivity * self.positive, (1 - SPECIFICITY) * (self.n - self.positive)
        return found / (found + flagged) if found + flagged else 0.0

    @property
    def above_chance(self) -> bool:
        """Whether the model tells photographs with the condition from those without it."""
        return self.auc.low is not None and self.auc.low > CHANCE

    def probability(self, logits: np.ndarray) -> np.ndarray:
        """The probability N (0 to 1) of the condition where as many have it as in these photographs."""
        return 1 / (1 + np.exp(-(self.slope * logits + self.intercept)))


@dataclass(frozen=True)
class Reference:
    """Rules by condition (see ``evidence``), what they are ``worth``, the ``sets`` that this was measured on, and M
    drawn eyes to compare with: unit-length ``embeds`` M×P, the diseases that they have, and thumbnails uint8 M×T×T×3.
    ``findings`` are the cut of each lesion: what ``SPECIFICITY`` of the healthy photographs stay below (see
    ``evidence.seen``).

    It holds for the model of these ``weights`` (their digest), asked in these ``languages`` in so many wordings.
    """

    weights: str
    languages: list[str]
    prompt_count: int
    rules: dict[str, evidence.Rule]
    worth: dict[str, Worth]
    sets: list[str]
    embeds: np.ndarray
    eyes: list[dict[str, int]]
    thumbnails: np.ndarray
    findings: dict[str, float] = field(default_factory=dict)

    def nearest(self, embeds: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each of N embeddings (unit length, N×P) the places N×count of the drawn eyes nearest to it, and their
        cosine similarity (-1 to 1)."""
        similarity = embeds @ self.embeds.T
        places = np.argsort(-similarity, axis=1)[:, :count]
        return places, np.take_along_axis(similarity, places, axis=1)


def make(
    network: VisionCLIP,
    tokenizer,
    held_out: LabelledImages,
    datasets: Sequence[Dataset],
    languages: Sequence[str],
    prompt_count: int,
    shown: int = 300,
) -> Reference:
    """The reference of a model, from held-out phantoms and photographs for development, both prepared at its size."""
    rules = evidence.fit(evidence.measure(network, tokenizer, held_out.pixels, languages, prompt_count), held_out)
    predicted, truth, groups, innocent = [], [], [], []
    for place, dataset in enumerate(datasets):
        measured = evidence.measure(network, tokenizer, dataset.images.pixels, languages, prompt_count)
        predicted.append(evidence.logits_of(rules, measured))
        healthy = false_alarms.healthy(dataset)
        innocent.append(pandas.DataFrame({name: own[healthy] for name, own in measured.found.items()}))
        truth.append(_of_both(statements.targets(labels(dataset))))
        groups += [f"{place} {member}" for member in dataset.images.members]
    worth: dict[str, Worth] = {}
    for name in rules if datasets else ():
        targets = np.concatenate(truth)[:, statements.CONDITIONS.index(name)]
        known = ~np.isnan(targets)
        logits = np.concatenate([of_set[name] for of_set in predicted])[known]
        sets = np.repeat([one.name for one in datasets], [len(one) for one in datasets])[known]
        own = _worth(logits, targets[known] == 1, np.array(groups)[known], sets)
        worth |= {name: own} if own else {}
    few = held_out.take(range(min(shown, len(held_out))))
    embeds = encode_images(network, few.pixels).numpy()
    thumbnails = images.resized(few.pixels, THUMBNAIL)
    made_for = saved.key(network), list(languages), prompt_count
    eyes = [{key: eye[key] for key in conditions.DISEASES if eye.get(key)} for eye in few.conditions]
    sets = [one.name for one in datasets]
    return Reference(*made_for, rules, worth, sets, embeds, eyes, thumbnails, _cuts(innocent))


def _cuts(innocent: Sequence[pandas.DataFrame]) -> dict[str, float]:
    """Of each lesion the cut, from what is seen of it in healthy photographs (a row each); none of few."""
    seen = pandas.concat(innocent) if innocent else pandas.DataFrame()
    lesions = [name for name, finding in conditions.FINDINGS.items() if finding.lesion and name in seen]
    return {name: float(seen[name].quantile(SPECIFICITY)) for name in lesions if len(seen) >= LEAST}


def _of_both(targets: np.ndarray) -> np.ndarray:
    """The targets N×J of a set, unknown where all that it knows of a condition is that nobody has it, or everybody:
    held against photographs of another set, such ones would say how well cameras are told apart."""
    varies = (targets == 0).any(0) & (targets == 1).any(0)
    return np.where(varies, targets, np.nan)


def labels(dataset: Dataset) -> list[dict[str, int]]:
    """What the tasks of a dataset say of each of its images (see ``tasks.stated``). Sets that label pathologic myopia
    know no other kind: what they say of it is said of both, see ``statements.ALIKE``."""
    known = stated(dataset)
    return [eye | {kind: eye["pm"] for kind in statements.ALIKE["pm"]} if "pm" in eye else eye for eye in known]


def _worth(logits: np.ndarray, having: np.ndarray, groups: np.ndarray, sets: np.ndarray) -> Worth | None:
    if min(having.sum(), (~having).sum()) < LEAST:
        return None
    cut = float(np.quantile(logits[~having], SPECIFICITY))
    regression = LogisticRegression().fit(logits[:, None], having)
    slope, intercept = float(regression.coef_[0, 0]), float(regression.intercept_[0])
    if slope <= 0:  # a higher logit is never a lower probability: all have what the photographs have
        slope, intercept = 0.0, float(special.logit(having.mean()))
    auc = mean_auc(having[None], logits[None], groups)
    own = {str(name): np.flatnonzero(sets == name) for name in np.unique(sets)}
    by_set = {name: mean_auc(having[None, rows], logits[None, rows], groups[rows]) for name, rows in own.items()}
    sensitivity = float((logits[having] >= cut).mean())
    return Worth(auc, len(logits), int(having.sum()), cut, sensitivity, slope, intercept, by_set)


def save(reference: Reference, folder: Path) -> None:
    """Write a reference below the folder of its model."""
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    count = len(reference.thumbnails)
    padded = np.zeros((-count % COLUMNS, *reference.thumbnails.shape[1:]), np.uint8)
    rows = np.concatenate([reference.thumbnails, padded]).reshape(-1, COLUMNS, THUMBNAIL, THUMBNAIL, 3)
    sheet = rows.swapaxes(1, 2).reshape(-1, COLUMNS * THUMBNAIL, 3)
    with runs.atomic(place / SHEET) as temporary:
        Image.fromarray(sheet).save(temporary, "JPEG", quality=85)
    with runs.atomic(place / EMBEDS) as temporary:
        save_file({"embeds": reference.embeds.astype(np.float16)}, temporary)
    described = {
        "weights": reference.weights,
        "languages": reference.languages,
        "prompt_count": reference.prompt_count,
        "sets": reference.sets,
        "rules": {name: asdict(rule) for name, rule in reference.rules.items()},
        "worth": {name: asdict(own) for name, own in reference.worth.items()},
        "eyes": reference.eyes,
        "findings": reference.findings,
    }
    runs.write_json(place / CARD, described)


def load(folder: str | Path, network: VisionCLIP) -> Reference | None:
    """The reference beside the model in ``folder``, which is ``network``; None where there is none.

    Raises:
        ValueError: it was measured for other weights, or for other conditions than there are now.
    """
    place = Path(folder) / FOLDER
    if not (place / CARD).is_file():
        return None
    found = runs.read_json(place / CARD)
    remedy = "make it anew: python -m visionclip reference --model FOLDER"
    if found["weights"] != saved.key(network):
        raise ValueError(f"{runs.relative(place)}: of another model than lies beside it; {remedy}")
    if not found["rules"].keys() <= set(statements.CONDITIONS):
        raise ValueError(f"{runs.relative(place)}: of other conditions than there are now; {remedy}")
    rules = {name: evidence.Rule(**_tuples(rule)) for name, rule in found["rules"].items()}
    worth = {name: _read(own) for name, own in found["worth"].items()}
    sheet = images.read(place / SHEET)
    cells = sheet.reshape(-1, THUMBNAIL, COLUMNS, THUMBNAIL, 3).swapaxes(1, 2).reshape(-1, THUMBNAIL, THUMBNAIL, 3)
    eyes = [conditions.check(eye, f"{runs.relative(place / CARD)}: eyes") for eye in found["eyes"]]
    embeds = load_file(place / EMBEDS)["embeds"].astype(np.float32)
    made_for = found["weights"], found["languages"], found["prompt_count"]
    drawn = embeds, eyes, cells[: len(eyes)]
    return Reference(*made_for, rules, worth, found["sets"], *drawn, found.get("findings", {}))


def _read(worth: Mapping) -> Worth:
    by_set = {name: Interval(**auc) for name, auc in worth.get("by_set", {}).items()}
    return Worth(**{**worth, "auc": Interval(**worth["auc"]), "by_set": by_set})


def _tuples(rule: Mapping) -> dict:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in rule.items()}
