"""What is taken for disease in healthy eyes: which finding the maps show in photographs of normal eyes.

How surely a finding is somewhere in an eye (``evidence.seen``) is held against a limit that a stated share of healthy
phantoms stays below, the specificity. If healthy photographs looked like healthy phantoms, the rest would exceed it
there too; what exceeds it more often is something innocent that is not drawn, or not drawn well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas

from visionclip import conditions
from visionclip.conditions import FINDINGS
from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import Dataset
from visionclip.evaluation import attribution, evidence, pointing, tables
from visionclip.evaluation.intervals import share
from visionclip.evaluation.metrics import SPECIFICITY
from visionclip.models.visionclip import VisionCLIP

SIGNS = (*(name for name, finding in FINDINGS.items() if finding.lesion), evidence.CUP_TO_DISC)
ANY = "any of them"
FEWEST = 10  # healthy phantoms, below which their share that exceeds a limit means nothing


@dataclass(frozen=True)
class Limit:
    """Of one sign: the value that ``SPECIFICITY`` of healthy phantoms stay at or below, and the spread of them all."""

    value: float
    spread: float


def healthy(dataset: Dataset) -> list[int]:
    """Places of the eyes that every task of the set calls normal, or of a class that a normal eye belongs to.

    What no task is about nobody may have looked for; an eye that a task has no class for is left out.
    """
    normal = np.full(len(dataset), bool(dataset.tasks))
    for task in dataset.tasks:
        classes = [label for label, one in enumerate(task.classes) if any(map(conditions.is_normal, one.facts))]
        normal &= np.isin(task.targets, classes)
    return np.flatnonzero(normal).tolist()


def signs(network: VisionCLIP, tokenizer, pixels: np.ndarray, languages: Sequence[str]) -> pandas.DataFrame:
    """How surely each of ``SIGNS`` (a column) is in prepared uint8 N×S×S×3 (rows): the peak logit of lesions, and the
    cup-to-disc ratio.

    Raises:
        ValueError: the model has no feature pyramid.
    """
    return pandas.DataFrame(evidence.find(network, tokenizer, pixels, languages))[list(SIGNS)]


def limits(found: pandas.DataFrame, drawn: LabelledImages, specificity: float = SPECIFICITY) -> dict[str, Limit]:
    """The limit of each column of ``signs`` of N phantoms, from those without a disease.

    Raises:
        ValueError: fewer than ``FEWEST`` of them are healthy.
    """
    normal = found[[conditions.is_normal(eye) for eye in drawn.conditions]]
    if len(normal) < FEWEST:
        raise ValueError(f"false alarms: {len(normal)} healthy phantoms; give at least {FEWEST}, or draw more")
    values = normal.quantile(specificity, interpolation="higher")
    return {name: Limit(float(values[name]), max(float(normal[name].std()), 1e-6)) for name in normal}


def excess(found: pandas.DataFrame, of: Mapping[str, Limit]) -> pandas.DataFrame:
    """By how much each of ``signs`` exceeds its limit, in spreads of healthy phantoms, so that all compare."""
    return pandas.DataFrame({name: (found[name] - limit.value) / limit.spread for name, limit in of.items()})


def rates(name: str, above: pandas.DataFrame, groups: Sequence[str]) -> list[dict]:
    """One row a sign, ``ANY`` of them last: the share of the healthy eyes of a set (``excess``, N rows) that
    ``exceed`` its limit, with an interval that takes ``groups`` into account (``intervals.share``), and the share in
    which it does so most (``surest``). Without eyes there are no rows.
    """
    if above.empty:
        return []
    values = above.to_numpy()
    alarms = values > 0
    most = alarms & (values.argmax(1)[:, None] == np.arange(values.shape[1]))
    alarms, most = (np.column_stack([one, alarms.any(1)]) for one in (alarms, most))
    return [
        {"dataset": name, "n": len(above), "finding": sign, "exceed": share(own, groups), "surest": float(first)}
        for sign, own, first in zip((*above, ANY), alarms.T, most.mean(0), strict=True)
    ]


def surest(above: pandas.DataFrame, count: int) -> list[dict]:
    """The ``count`` eyes whose maps show a disease most surely, the surest first: ``place`` among the N rows, the
    ``finding`` that does, and by how much (``excess``)."""
    values = above.to_numpy()
    order = np.argsort(-values.max(1), kind="stable")[:count]
    return [
        {"place": int(place), "finding": above.columns[values[place].argmax()], "excess": float(values[place].max())}
        for place in order
    ]


def pictures(
    network: VisionCLIP, tokenizer, pixels: np.ndarray, findings: Sequence[str], languages: Sequence[str]
) -> dict[str, Sequence[np.ndarray]]:
    """Rows of a gallery: prepared uint8 N×S×S×3 as they are, and with the map of one of ``SIGNS`` for each (that of the
    cup for the ratio), by its own maximum, painted over it: those of ``surest``, say."""
    names = ["cup" if finding == evidence.CUP_TO_DISC else finding for finding in findings]
    maps = pointing.finding_maps(network, pixels, pointing.name_embeddings(network, tokenizer, names, languages))
    own = np.stack([of_eye[place] for place, of_eye in enumerate(maps)])
    return {"image": list(pixels), "maps": attribution.overlay(pixels, own)}


def table(rows: Sequence[Mapping]) -> pandas.DataFrame:
    """Findings by sets: the share of healthy eyes that exceeds the limit, and in brackets the share in which the
    finding does so most."""
    texts = {"set": "{dataset} (n = {n})", "cell": "{exceed:.2f} ({surest:.2f})"}
    frame = tables.table(rows, ("finding", "set", "cell"), **texts)
    order = {"index": dict.fromkeys(frame["finding"]), "columns": dict.fromkeys(frame["set"])}
    return frame.pivot(index="finding", columns="set", values="cell").reindex(**order)
