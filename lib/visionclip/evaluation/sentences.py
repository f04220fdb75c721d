"""Findings as sentences: what the maps of an eye show, written by the captions' grammar in any of its languages.

A lesion is stated where the peak of its map, the mean of the cells that show it most (``evidence.PEAK``), reaches a
threshold, and denied where it doesn't. The threshold is that of held-out phantoms, whose masks say what they show, at
which sensitivity and specificity are highest together (Youden, Cancer 1950). How much of it there is, and where, isn't
stated: the map says that.
"""

from collections.abc import Mapping

import numpy as np
import pandas
from sklearn.metrics import roc_curve

from visionclip import streams
from visionclip.conditions import FINDINGS, Conditions
from visionclip.evaluation import evidence, tables
from visionclip.evaluation.intervals import Interval, share
from visionclip.text.grammar import DRAFTS, Style, describe, length

PLAINEST = Style(variety=1)  # always the commonest wording


def peaks(maps: np.ndarray) -> np.ndarray:
    """How surely a finding is somewhere in each of N images, 0 to 1, from maps N×s×s of its probability."""
    flat = maps.reshape(len(maps), -1)
    count = max(1, round(evidence.PEAK * flat.shape[1]))
    return np.partition(flat, -count, axis=1)[:, -count:].mean(1, dtype=float)


def fit(maps: Mapping[str, np.ndarray], shown: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The threshold, 0 to 1, of each lesion that at least ``evidence.LEAST`` phantoms show and don't: from its maps
    N×s×s, and ``shown`` bool N."""
    thresholds = {}
    for finding, truth in shown.items():
        if FINDINGS[finding].lesion and min(truth.sum(), (~truth).sum()) >= evidence.LEAST:
            false, true, levels = roc_curve(truth, peaks(maps[finding]))
            thresholds[finding] = float(levels[1:][(true - false)[1:].argmax()])  # the first is above all
    return thresholds


def found(maps: Mapping[str, np.ndarray], thresholds: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Whether each of N images shows each lesion that has a threshold and maps N×s×s: bool N by its name."""
    return {finding: peaks(maps[finding]) >= limit for finding, limit in thresholds.items() if finding in maps}


def write(facts: Conditions, language: str) -> str:
    """Sentences in ``language`` ("zh" or "en") that state ``facts`` of findings, first what is there (1), then what is
    not (0): "可见硬性渗出。未见出血。"; a dash where there is no fact.

    Always the same ones for the same facts: of some drafts of each the shortest.

    Raises:
        ValueError: a fact is not one of ``conditions.FACTS``, or the language isn't known.
    """
    rng = streams.rng(0, "findings as sentences")
    parts = [{finding: value for finding, value in facts.items() if value == wanted} for wanted in (1, 0)]
    written = [
        min((describe(part, language, rng, PLAINEST) for _ in range(DRAFTS)), key=length) for part in parts if part
    ]
    return (" " if language == "en" else "").join(written) or "–"


def agreement(
    dataset: str, split: str, stated: Mapping[str, np.ndarray], shown: Mapping[str, np.ndarray]
) -> list[dict]:
    """How often sentences are right, a row a finding: of ``n`` images those that are ``showing`` it, ``sensitivity``
    and ``specificity`` with intervals (``intervals.share``), undefined where no image shows it, or all do.

    ``stated`` and ``shown`` are bool N by finding; one that isn't in both has no row.
    """
    rows = []
    for finding, own in stated.items():
        if finding in shown and len(own):
            truth = shown[finding]
            row = {"dataset": dataset, "split": split, "finding": finding, "n": len(own), "showing": int(truth.sum())}
            right = {"sensitivity": own[truth], "specificity": ~own[~truth]}
            rows.append(row | {name: share(of) if len(of) else Interval(None) for name, of in right.items()})
    return rows


def agreement_table(rows: list[dict]) -> pandas.DataFrame:
    """One row a finding of ``agreement``."""
    texts = {"n": "{showing} of {n}", "sensitivity": "{sensitivity}", "specificity": "{specificity}"}
    return tables.table(rows, ("dataset", "finding", *texts), dataset="{dataset} ({split})", **texts)
