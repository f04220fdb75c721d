"""Where a model points, against marks on photographs: scores of probability maps of one finding, with intervals.

All is counted inside the field of view, on the photographs where somebody looked for the finding.

- ``pixel_auc`` and ``average_precision`` rank the pixels of all photographs together, as is reported for IDRiD (Porwal
  et al., Medical Image Analysis 2020).
- ``pointing``: the share of photographs showing the finding where the map's maximum lies within ``TOLERANCE`` of a mark
  (the pointing game of Zhang et al., IJCV 2018). Of several equal maxima each counts for its share.
- ``dice``: the mean over photographs showing the finding of their Dice score at one threshold, given beforehand
  (``best_threshold``, found elsewhere); ``best_dice``, at the threshold that is best on these same photographs, bounds
  it from above.
- ``lesion_sensitivity``: the share of lesions found at one false positive a photograph, a point of the FROC curve as
  for ROC and CAMELYON16 (Niemeijer et al., IEEE TMI 2010; Ehteshami Bejnordi et al., JAMA 2017). Detections are the
  local maxima of the map, each with its height; one within ``REACH`` of a lesion finds the nearest, one further from
  all is false, and several in one lesion count once. Lesions are the 8-connected pieces of a mask, however small.

Intervals are of a bootstrap over photographs, that of ``pointing`` is Wilson's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from visionclip import streams
from visionclip.conditions import FINDINGS
from visionclip.data import field_of_view
from visionclip.data.marks import Marks
from visionclip.evaluation.intervals import Interval, bootstrap, share

SCORES = ("pixel_auc", "average_precision", "pointing", "dice", "best_dice", "lesion_sensitivity")
TOLERANCE = 1 / 64  # of the side: how far a maximum may lie from a mark
REACH = 1 / 128  # of the side: how far a detection may lie from its lesion, and from a higher one to be one of its own
FALSE_POSITIVES = 1  # a photograph
KEPT = 8  # false positives a photograph, the highest, on which the FROC curve is swept
LEVELS = 1024  # quantiles of the marked pixels, and of all, at which pixels are counted
SAMPLE = 1 << 20  # pixels of which quantiles are taken


def evaluate(
    marks: Marks, maps: Mapping[str, np.ndarray], thresholds: Mapping[str, float], seed: int, resamples: int = 1000
) -> list[dict]:
    """One result for each split and finding that is marked and has maps, as ``localisation`` in ``numbers.json``.

    ``maps`` are float N×h×w for each finding, higher for likelier, of any resolution; they are resized bilinearly to
    the masks. ``thresholds`` are those of ``dice`` (see ``best_threshold``); a finding without has none. A result is
    dataset, finding, split and what ``scores`` gives.

    Raises:
        ValueError: maps aren't N×h×w, or one isn't finite; the message names the finding.
    """
    for finding, own in maps.items():
        _refuse(f"{marks.name}, {finding}", own, len(marks))
    fields, splits, results = visible(marks.pixels), np.array(marks.splits), []
    for split in sorted(set(marks.splits)):
        for finding, known in marks.known.items():
            chosen = np.flatnonzero(known & (splits == split))
            if finding not in maps or not chosen.size:
                continue
            rng = streams.rng(seed, "bootstrap of marked photographs")
            given = maps[finding][chosen], marks.masks[finding][chosen], fields[chosen]
            scored = scores(*given, thresholds.get(finding), rng, resamples, FINDINGS[finding].lesion)
            results.append({"dataset": marks.name, "finding": finding, "split": split, **scored})
    return results


def scores(
    maps: np.ndarray,
    masks: np.ndarray,
    fields: np.ndarray,
    threshold: float | None,
    rng: np.random.Generator,
    resamples: int = 1000,
    lesions: bool = True,
) -> dict:
    """The ``SCORES`` of maps float N×h×w of one finding, as ``Interval`` each, on masks and fields bool N×S×S.

    Beside them ``n`` photographs, how many have the finding (``showing``), its ``lesions``, the ``threshold``, and what
    ``chance`` gives: 0.5 for the AUC, the share of pixels marked (average precision), the share within reach of a mark
    (pointing), the Dice score of marking everything (both), and the share of lesions that points strewn at random find
    at one false positive a photograph. Scores of ``lesions`` are None where those aren't counted, ``dice`` where there
    is no threshold; all are where fewer than two photographs show the finding, and ``reason`` says so, as of one alone
    nothing would say how sure a score is.

    Raises:
        ValueError: maps aren't N×h×w, or one isn't finite.
    """
    _refuse("localisation", maps, len(masks))
    counts = _count(maps, masks, fields, threshold)
    showing = counts.positives[:, 0] > 0
    facts = {"n": len(masks), "showing": int(showing.sum()), "reason": "", "threshold": threshold}
    if showing.sum() < 2:
        held = f"{facts['showing']} of {len(masks)}"
        reason = f"two photographs that show the finding are needed ({held})"
        return {**facts, "reason": reason, "lesions": None, **dict.fromkeys(SCORES, Interval(None)), "chance": {}}
    curve = _Pixels(counts, showing, threshold)
    found = [_find(*one) for one in _resized(maps, masks, fields)]
    scored = bootstrap(curve.measure, showing.astype(int), rng, resamples)
    hits = np.array([one.pointing for one in found])[showing]
    scored["pointing"] = share(hits)
    if lesions:
        scored |= bootstrap(_Froc(found).measure, showing.astype(int), rng, resamples)
    marked, pixels = counts.positives[:, 0], (counts.positives + counts.negatives)[:, 0]
    all_marked = float((2 * marked[showing] / (marked + pixels)[showing]).mean())
    chance = {
        "pixel_auc": 0.5,
        "average_precision": float(marked.sum() / pixels.sum()),
        "pointing": float(np.mean([one.near for one in found], where=showing)),
        "dice": all_marked,
        "best_dice": all_marked,
        "lesion_sensitivity": float(np.concatenate([one.random for one in found]).mean()) if lesions else None,
    }
    number = sum(len(one.heights) for one in found) if lesions else None
    return {**facts, "lesions": number, **{name: scored.get(name, Interval(None)) for name in SCORES}, "chance": chance}


def best_threshold(maps: np.ndarray, masks: np.ndarray, fields: np.ndarray | None = None) -> float:
    """The threshold of maps float N×h×w, among ``LEVELS`` of their quantiles, with the highest Dice score over the
    pixels of all images together.

    ``masks`` are N×H×H, bool or uint8 shares of 255, of which half counts as marked; ``fields`` bool N×H×H, None for
    all of every image. A pixel counts as predicted at the threshold or above it.

    Raises:
        ValueError: maps aren't N×h×w, or one isn't finite; no pixel is marked.
    """
    _refuse("localisation", maps, len(masks))
    masks = masks if masks.dtype == bool else masks > 127
    counts = _count(maps, masks, np.ones_like(masks) if fields is None else fields, None)
    hits, alarms = counts.positives.sum(0), counts.negatives.sum(0)
    if not hits[0]:
        raise ValueError("localisation: no pixel is marked, so that no threshold is best; give images with the finding")
    return float(counts.levels[(2 * hits / (hits + alarms + hits[0])).argmax()])


def visible(pixels: np.ndarray) -> np.ndarray:
    """The field of view of each prepared photograph uint8 N×S×S×3, bool N×S×S (``field_of_view.visible``)."""
    return np.array([field_of_view.visible(image) for image in pixels])


def _refuse(where: str, maps: np.ndarray, count: int) -> None:
    if maps.ndim != 3 or len(maps) != count or not maps.size:
        raise ValueError(f"{where}: maps of shape {maps.shape} for {count} photographs; give one map h×w for each")
    if not np.isfinite(maps).all():
        raise ValueError(f"{where}: a map holds NaN or is infinite; the model that gave it has diverged")


def _resized(
    maps: np.ndarray, masks: np.ndarray, fields: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Each map float32 S×S, what is marked of its photograph inside the field, and the field, bool S×S."""
    for own, mask, field in zip(maps, masks, fields, strict=True):
        yield cv2.resize(own.astype(np.float32), mask.shape[::-1], interpolation=cv2.INTER_LINEAR), mask & field, field


@dataclass(frozen=True)
class _Counts:
    """How many ``positives`` and ``negatives``, int N×L, of each photograph reach each of L rising ``levels``; all
    reach the first."""

    levels: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray


def _count(maps: np.ndarray, masks: np.ndarray, fields: np.ndarray, threshold: float | None) -> _Counts:
    """The counts at quantiles of the marked pixels, of all pixels, and at the threshold.

    A value that many pixels share, as in a map of few values, is a quantile: what is equal stays equal.
    """
    stride = -(-masks.size // SAMPLE)
    marked, anywhere, lowest = [np.empty(0, np.float32)], [np.empty(0, np.float32)], np.inf
    for values, mask, field in _resized(maps, masks, fields):
        marked.append(values[mask])
        anywhere.append(values[field][::stride])
        lowest = min(lowest, values[field].min(initial=np.inf))
    given = [] if threshold is None else [np.float32(threshold)]
    levels = np.unique(np.concatenate([[lowest], *map(_quantiles, (marked, anywhere)), given]).astype(np.float32))
    positives, negatives = [], []
    for values, mask, field in _resized(maps, masks, fields):
        positives.append(_reaching(values[mask], levels))
        negatives.append(_reaching(values[field & ~mask], levels))
    return _Counts(levels, np.array(positives), np.array(negatives))


def _quantiles(values: list[np.ndarray]) -> np.ndarray:
    """``LEVELS`` of the values at even distances in their order, or all where there are fewer."""
    pooled = np.sort(np.concatenate(values))
    return pooled[np.linspace(0, len(pooled) - 1, min(LEVELS, len(pooled))).astype(int)]


def _reaching(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """How many of the values are at each level or above it."""
    return len(values) - np.searchsorted(np.sort(values), levels)


class _Pixels:
    """The scores that depend on how many pixels reach each level, for weights of the photographs."""

    def __init__(self, counts: _Counts, showing: np.ndarray, threshold: float | None):
        self.counts, self.showing = counts, showing
        marked = counts.positives[showing]
        self.dice = 2 * marked / (marked + counts.negatives[showing] + marked[:, :1])
        self.place = None if threshold is None else int(np.searchsorted(counts.levels, np.float32(threshold)))

    def measure(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Each score as R values, of weights float R×N."""
        rows = [self._measure(own) for own in weights]  # one by one: R×L at once would be large
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    def _measure(self, weights: np.ndarray) -> dict[str, float]:
        hits, alarms = weights @ self.counts.positives, weights @ self.counts.negatives
        gained = hits - np.append(hits[1:], 0)  # the marked pixels from one level to the next
        below = alarms[0] - (alarms + np.append(alarms[1:], 0)) / 2
        precision = hits / np.maximum(hits + alarms, 1e-12)
        dice = weights[self.showing] @ self.dice / weights[self.showing].sum()
        measured = {
            "pixel_auc": (gained @ below) / (hits[0] * alarms[0]),
            "average_precision": (gained @ precision) / hits[0],
            "best_dice": dice.max(),
        }
        return measured if self.place is None else {**measured, "dice": dice[self.place]}


@dataclass(frozen=True)
class _Found:
    """What the maxima of one map find: ``pointing``, the share of its highest pixels that lie within ``TOLERANCE`` of a
    mark, and ``near``, that of all pixels (NaN where nothing is marked); of each of K lesions the height at which it is
    found (-inf: not) and the probability that ``random`` points find it; the heights of the ``false`` detections."""

    pointing: float
    near: float
    heights: np.ndarray
    random: np.ndarray
    false: np.ndarray


def _find(values: np.ndarray, mask: np.ndarray, field: np.ndarray) -> _Found:
    """What a map float32 S×S finds of a mask bool S×S that lies inside the field."""
    height, (rows, columns) = _maxima(values, field)
    if not mask.any():
        return _Found(np.nan, np.nan, np.empty(0), np.empty(0), height)
    distance, lesion = cv2.distanceTransformWithLabels(
        (~mask).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP
    )
    near, highest = distance <= TOLERANCE * len(mask), field & (values == values[field].max())
    lesion = np.where(distance <= REACH * len(mask), lesion, 0)  # 0: none
    hit, number = lesion[rows, columns], lesion.max()
    heights = np.full(number + 1, -np.inf)
    np.maximum.at(heights, hit, height)
    shares = np.bincount(lesion[field], minlength=number + 1) / field.sum()
    random = -np.expm1(-FALSE_POSITIVES * shares[1:] / max(shares[0], 1e-12))
    return _Found(float(near[highest].mean()), float(near[field].mean()), heights[1:], random, height[hit == 0])


def _maxima(values: np.ndarray, field: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Height, and row and column, of each local maximum of a map float32 S×S inside the field.

    It is the highest within ``REACH`` to each side, and higher than the lowest pixel; a plateau counts once, at its
    centre.
    """
    width = 2 * max(round(REACH * len(values)), 1) + 1
    inside = np.where(field, values, np.float32(-np.inf))
    lowest = values[field].min(initial=np.inf)
    peaks = (inside == cv2.dilate(inside, np.ones((width, width), np.uint8))) & (inside > lowest)
    _, plateaus, _, centres = cv2.connectedComponentsWithStats(peaks.astype(np.uint8))
    _, first = np.unique(plateaus[peaks], return_index=True)
    columns, rows = np.round(centres[1:]).astype(int).T
    return values[peaks][first], (rows, columns)


class _Froc:
    """The sensitivity at ``FALSE_POSITIVES`` a photograph, for weights of the photographs."""

    def __init__(self, found: list[_Found]):
        false = np.sort(np.concatenate([one.false for one in found]))
        kept = false[-KEPT * len(found) :]
        # Just above a false detection the sensitivity is best for what it costs.
        levels = np.unique(kept if len(kept) < len(false) else np.append(-np.inf, kept))
        self.false = np.array([_above(one.false, levels) for one in found])
        self.hits = np.array([_above(one.heights, levels) for one in found])
        self.lesions = np.array([len(one.heights) for one in found])

    def measure(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """The score as R values, of weights float R×N."""
        return {"lesion_sensitivity": np.array([self._sensitivity(own) for own in weights])}

    def _sensitivity(self, weights: np.ndarray) -> float:
        allowed = weights @ self.false <= FALSE_POSITIVES * weights.sum()
        return (weights @ self.hits)[allowed].max() / (weights @ self.lesions)


def _above(heights: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """How many of the heights are above each level."""
    return len(heights) - np.searchsorted(np.sort(heights), levels, side="right")
