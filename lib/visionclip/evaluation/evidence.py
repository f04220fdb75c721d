"""Zero-shot prediction by evidence: what the whole image says of a condition beside the findings that define it.

A disease of ``FOUND`` is looked for twice: the image is compared with sentences that state it, and its cells with the
names of findings that define or mark it. One rule combines the two, fixed on held-out phantoms:

1. The evidence of a disease is the mean, over its findings, of the logit of the cells that show each of them most. Of
   glaucoma it is the cup-to-disc ratio, from the maps of disc and cup (Foster et al., British Journal of Ophthalmology
   2002).
2. Statements and evidence, each standardised by their mean and spread over the phantoms, are added.
3. A logistic regression on the phantoms, in which both answers weigh as much, makes a logit of the sum: above 0 the
   condition is predicted (Platt, 1999). Conditions without evidence have their statements alone.
4. Grades are "at least" questions; the probability of a grade is the difference of two of them (Frank & Hall, ECML
   2001). Where the classes of a task are different diseases, each is itself there and the others aren't.

Of the other diseases that findings define, adding the evidence lost something on one development set or another; so do
weights that phantoms choose, in place of the plain sum: see docs/decisions.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import torch
from scipy import special
from sklearn.linear_model import LogisticRegression

from visionclip.conditions import DEFINING, FINDINGS, Conditions
from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import ClassOf, Dataset, Task
from visionclip.evaluation import pointing, scoring, statements
from visionclip.evaluation.intervals import share
from visionclip.models.visionclip import VisionCLIP
from visionclip.text.grammar import PLAIN, Style

# The findings that are looked for, of those that define or mark a disease; chosen on the development sets by the worst.
FOUND: dict[str, tuple[str, ...]] = {
    "dr_grade": ("microaneurysms", "haemorrhage"),
    "dme": DEFINING["dme"],
    "gc": DEFINING["gc"],
    "rvo": ("haemorrhage",),  # that fill a quadrant; they define nothing, as several diseases have them
}
PEAK = 1 / 600  # of the cells, whose mean logit says how surely a finding is somewhere
GLAUCOMA, CUP_TO_DISC = "gc", "cup-to-disc ratio"
NO_DISC = 0.4  # the ratio where no disc is seen: that of most healthy eyes
FLAT = 1e-3  # the least slope of a rule
LEAST = 5  # phantoms with and without a condition, for it to have a rule
CERTAIN = 1e-9  # the least probability of a class, which has a logarithm


@dataclass(frozen=True)
class Measured:
    """What is seen of N images: logits float64 N×J of ``statements.CONDITIONS`` by sentences, the evidence N of each
    disease by its key, and what that is made of (``find``)."""

    stated: np.ndarray
    evidence: Mapping[str, np.ndarray]
    found: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """Of one condition: mean and spread of its statements and of its evidence (None: there is none) over the phantoms,
    slope and intercept of the regression, and on the phantoms its ``sensitivity`` and ``specificity`` (0 to 1)."""

    stated: tuple[float, float]
    evidence: tuple[float, float] | None
    slope: float
    intercept: float
    sensitivity: float
    specificity: float

    @property
    def threshold(self) -> float:
        """What the sum of both, standardised, has to exceed for the condition to be predicted."""
        return -self.intercept / self.slope

    def logits(self, stated: np.ndarray, evidence: np.ndarray | None) -> np.ndarray:
        """The logit N of the condition, above 0 where it is predicted."""
        summed = _standardised(stated, self.stated)
        if evidence is not None and self.evidence is not None:
            summed = summed + _standardised(evidence, self.evidence)
        return self.slope * summed + self.intercept


def measure(
    network: VisionCLIP,
    tokenizer,
    pixels: np.ndarray,
    languages: Sequence[str],
    prompt_count: int,
    style: Style = PLAIN,
) -> Measured:
    """What is seen of prepared uint8 N×S×S×3; a model without a feature pyramid finds no evidence."""
    # The findings first: with the cells come the features that the sentences are compared with.
    found = {} if network.pyramid is None else find(network, tokenizer, pixels, languages)
    stated = statements.predict(network, tokenizer, pixels, statements.CONDITIONS, languages, prompt_count, style)
    return Measured(stated, of_findings(found) if found else {}, found)


def find(network: VisionCLIP, tokenizer, pixels: np.ndarray, languages: Sequence[str]) -> dict[str, np.ndarray]:
    """What is ``seen`` of all findings in prepared uint8 N×S×S×3, float64 N each.

    Raises:
        ValueError: the model has no feature pyramid.
    """
    names = list(FINDINGS)
    text_embeds = pointing.name_embeddings(network, tokenizer, names, languages)
    parts = [seen(logits, names) for logits in pointing.map_logits(network, pixels, text_embeds)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def seen(logits: torch.Tensor, names: Sequence[str]) -> dict[str, np.ndarray]:
    """How surely each of the findings ``names`` is somewhere, from logits B×C×s×s: float64 B, the mean logit of the
    cells that show it most; and the ``CUP_TO_DISC`` ratio."""
    flat = logits.flatten(2)
    peaks = flat.topk(max(1, round(PEAK * flat.shape[2])), dim=2).values.mean(2).double().numpy()
    maps = (torch.sigmoid(logits[:, names.index(name)]).numpy() for name in ("disc", "cup"))
    ratio = np.array([cup_to_disc(*pair) for pair in zip(*maps, strict=True)])
    return dict(zip(names, peaks.T, strict=True)) | {CUP_TO_DISC: ratio}


def of_findings(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The evidence N of each disease of ``FOUND``, from what is ``seen`` of all findings."""
    means = {key: np.mean([found[name] for name in names], axis=0) for key, names in FOUND.items()}
    return means | {GLAUCOMA: found[CUP_TO_DISC]}


def cup_to_disc(disc: np.ndarray, cup: np.ndarray) -> float:
    """The cup-to-disc ratio of two maps s×s of probabilities, 0 to 1: the root of that of their areas, which no ragged
    edge changes; ``NO_DISC`` where there is no disc.

    The disc is the piece above a half that weighs most, with the cells around it; both areas are expected ones.
    """
    count, pieces = cv2.connectedComponents((disc > 0.5).astype(np.uint8))
    if count == 1:
        return NO_DISC
    weights = np.bincount(pieces.flat, weights=disc.flat)
    here = cv2.dilate((pieces == 1 + weights[1:].argmax()).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return float(min(np.sqrt(cup[here].sum() / disc[here].sum()), 1.0))


def _about(values: np.ndarray) -> tuple[float, float]:
    """Mean and spread, which is above 0."""
    return float(values.mean()), max(float(values.std()), 1e-6)


def _standardised(values: np.ndarray, about: tuple[float, float]) -> np.ndarray:
    return (values - about[0]) / about[1]


def fit(measured: Measured, held_out: LabelledImages) -> dict[str, Rule]:
    """The rule of each of ``statements.CONDITIONS`` that at least ``LEAST`` of the held-out phantoms have and lack."""
    wanted, rules = statements.targets(held_out.conditions), {}
    for name, stated, truth in zip(statements.CONDITIONS, measured.stated.T, wanted.T, strict=True):
        known = ~np.isnan(truth)
        if min((truth[known] == 1).sum(), (truth[known] == 0).sum()) >= LEAST:
            evidence = measured.evidence.get(name.split(">=")[0])
            rules[name] = _fit(stated[known], None if evidence is None else evidence[known], truth[known] == 1)
    return rules


def _fit(stated: np.ndarray, evidence: np.ndarray | None, truth: np.ndarray) -> Rule:
    uncalibrated = Rule(_about(stated), None if evidence is None else _about(evidence), 1.0, 0.0, np.nan, np.nan)
    summed = uncalibrated.logits(stated, evidence)
    regression = LogisticRegression(class_weight="balanced").fit(summed[:, None], truth)
    slope, intercept = float(regression.coef_[0, 0]), float(regression.intercept_[0])
    if slope < FLAT:  # few phantoms may say the contrary by chance; what states a condition can't speak against it
        slope, intercept = FLAT, -FLAT * float(summed[truth].mean() + summed[~truth].mean()) / 2
    predicted = slope * summed + intercept > 0
    sensitivity, specificity = float(predicted[truth].mean()), float((~predicted[~truth]).mean())
    return replace(uncalibrated, slope=slope, intercept=intercept, sensitivity=sensitivity, specificity=specificity)


def logits_of(rules: Mapping[str, Rule], measured: Measured) -> dict[str, np.ndarray]:
    """The logit N of each condition that has a rule, above 0 where it is predicted."""
    return {
        name: rule.logits(
            measured.stated[:, statements.CONDITIONS.index(name)], measured.evidence.get(name.split(">=")[0])
        )
        for name, rule in rules.items()
    }


def predict(rules: Mapping[str, Rule], measured: Measured, dataset: Dataset) -> dict[str, np.ndarray]:
    """Logits float64 N×K of the classes of each task of the dataset whose conditions have rules.

    A class is of one condition or of none of the task's. Where one is a union of several ("diseased"), the sentences
    are compared with each other and need no thresholds.
    """
    logits, predicted = logits_of(rules, measured), {}
    for task in dataset.tasks:
        questions = {key: _questions(key) for key in sorted(_conditions(task.classes))}
        needed = {name for names in questions.values() for name in names}
        if needed and all(questions.values()) and needed <= logits.keys() and _one_each(task.classes):
            values = {key: _values([logits[name] for name in names]) for key, names in questions.items()}
            predicted[task.name] = np.stack([_class_logit(one, values) for one in task.classes], axis=1)
    return predicted


def at_thresholds(rules: Mapping[str, Rule], logits: Mapping[str, np.ndarray], dataset: Dataset) -> list[dict]:
    """What thresholds fixed on phantoms do on a dataset: one row for each task whose two classes one rule parts.

    A row has the ``condition`` that the rule asks for and its ``threshold``, ``n`` images, how many have the condition
    (``positive``), and ``sensitivity`` and ``specificity`` with intervals (``intervals.share``). ``logits`` are those
    of ``predict``, N×2 for each task by its name: of a grade the rules of all lower ones must hold too, as no eye has a
    grade without them. A task that no rule parts, or that lacks a class, has no row; nor has one of whose grades some
    have no rule, as the sentences alone answer it.
    """
    rows, members = [], np.array(dataset.images.members)
    for task in dataset.tasks:
        condition, label = _parted(task)
        if not condition or not set(_questions(condition.split(">=")[0])) <= rules.keys():
            continue
        targets, of_known = scoring.known(task, logits[task.name])
        having = targets == label
        if having.all() or not having.any():
            continue
        right, groups = of_known.argmax(1) == targets, members[task.targets >= 0]
        sensitivity, specificity = (share(right[own], groups[own]) for own in (having, ~having))
        about = {"dataset": dataset.name, "split": dataset.split, "task": task.name, "condition": condition}
        counts = {"n": len(targets), "positive": int(having.sum())}
        rates = {"sensitivity": sensitivity, "specificity": specificity}
        rows.append({**about, "threshold": rules[condition].threshold, **counts, **rates})
    return rows


def _parted(task: Task) -> tuple[str, int]:
    """The "at least" question that parts the two classes of a task, and the class of which it is true; empty, and 0,
    where none does."""
    keys = sorted(_conditions(task.classes))
    if len(task.classes) != 2 or len(keys) != 1:
        return "", 0
    values = [sorted({_by_alike(facts).get(keys[0], 0) for facts in one.facts}) for one in task.classes]
    label = int(0 in values[0])
    parted = values[1 - label] + values[label] == list(range(len(_questions(keys[0])) + 1))
    return (f"{keys[0]}>={values[label][0]}", label) if parted else ("", 0)


def _conditions(classes: Sequence[ClassOf]) -> set[str]:
    """What the classes are about; of both kinds of myopia one, see ``statements.ALIKE``."""
    return {_alike(key) for one in classes for facts in one.facts for key in facts}


def _one_each(classes: Sequence[ClassOf]) -> bool:
    return all(len(_conditions([one])) <= 1 for one in classes)


def _alike(key: str) -> str:
    return next((one for one, kinds in statements.ALIKE.items() if key in kinds), key)


def _by_alike(facts: Conditions) -> dict[str, int]:
    """The facts, those of both kinds of myopia under one key."""
    return {_alike(key): value for key, value in facts.items()}


def _questions(key: str) -> list[str]:
    """The "at least" questions of a condition."""
    return [name for name in statements.CONDITIONS if name.split(">=")[0] == key]


def _values(at_least: Sequence[np.ndarray]) -> np.ndarray:
    """The probability N×V of each value of a condition, from the logits N of its "at least" questions in order."""
    # A higher grade is no likelier than a lower one.
    probability = np.minimum.accumulate(special.expit(np.stack(at_least, axis=1)), axis=1)
    ends = np.ones((len(probability), 1))
    return -np.diff(np.concatenate([ends, probability, 0 * ends], axis=1), axis=1)


def _class_logit(one: ClassOf, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """The log-probability N of a class from the probabilities N×V of the ``values`` of each condition of the task: that
    one of its alternatives is so and all else isn't there, each condition by itself."""
    named = [_by_alike(facts) for facts in one.facts]
    chosen = {tuple(facts.get(key, 0) for key in values) for facts in named}
    alternatives = [
        np.prod([of[:, value] for of, value in zip(values.values(), row, strict=True)], axis=0)
        for row in sorted(chosen)
    ]
    return np.log(np.sum(alternatives, axis=0).clip(CERTAIN, 1))
