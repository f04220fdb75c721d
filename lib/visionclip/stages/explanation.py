"""Stage 07: where the model looks, on held-out phantoms and on every set of marked photographs that is found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas

from visionclip import conditions, runs
from visionclip.conditions import DEFINING, FINDINGS
from visionclip.data import folders, images, marks
from visionclip.data.labelled import LabelledImages
from visionclip.data.marks import Marks
from visionclip.data.tasks import Dataset
from visionclip.evaluation import attribution, false_alarms, localisation, pointing, sentences
from visionclip.evaluation.attribution import Case
from visionclip.evaluation.intervals import Interval
from visionclip.models import visionclip
from visionclip.models.supervision import SHOWN
from visionclip.models.visionclip import VisionCLIP
from visionclip.progress import progress

PHANTOMS = "phantoms"  # the dataset of a row
REPORTED = ("test", "all", attribution.HELD_OUT)  # splits that chose nothing
ALARMS = 6  # healthy eyes that are shown

Maps = dict[str, np.ndarray]  # float32 N×s×s of each finding


def load(folder: Path) -> tuple[VisionCLIP, object, visionclip.VisionCLIPImageProcessor]:
    """Model, tokenizer and image processor of a saved model that has maps.

    Raises:
        FileNotFoundError: there is no model.
        ValueError: it has no feature pyramid, and so no maps.
    """
    network, tokenizer, processor = visionclip.load(folder)
    if network.pyramid is None:
        raise ValueError(
            f"{runs.relative(folder)}: a model without feature pyramid has no maps; train 03 with pyramid_size above 0"
        )
    return network, tokenizer, processor


def with_maps(held_out: LabelledImages) -> LabelledImages:
    """The phantoms whose findings are known cell by cell.

    Raises:
        ValueError: there is none.
    """
    known = np.ones(len(held_out), bool) if held_out.marked is None else held_out.marked
    if held_out.masks is None or not known.any():
        remedy = "give a set of phantoms, or run notebooks/01-synthesis.ipynb anew"
        raise ValueError(f"synthesis: its held-out images have no finding maps; {remedy}")
    return held_out.take(np.flatnonzero(known))


def sets(folder: str, size: int) -> list[Marks]:
    """Every set of marked photographs below ``folder`` (see ``marks.marks_folder``), prepared to ``size`` pixels.

    Raises:
        ValueError: a set is named as the phantoms are in results, or ``marks.load`` refuses it.
    """
    found = marks.find(marks.marks_folder(folder))
    for path in found:
        if path.name == PHANTOMS:
            raise ValueError(f"{runs.relative(path)}: results call the held-out phantoms so; rename this set of marks")
    return [marks.load(path, size) for path in found]


def find(
    network: VisionCLIP,
    tokenizer,
    held_out: LabelledImages,
    marked: Sequence[Marks],
    languages: Sequence[str],
    sizes: Sequence[int],
    fine_sizes: Sequence[int],
) -> dict[str, Maps]:
    """Maps of the findings that each set has marks of, and the phantoms, by the name of the set.

    Probabilities float32 N×s×s, 0 to 1, of images seen at each of ``sizes`` pixels; those of ``pointing.FINE`` in
    photographs at each of ``fine_sizes``, which makes real lesions as large as drawn ones.
    """
    drawn = images.resized(held_out.pixels, max(sizes))
    found = {PHANTOMS: _found(network, tokenizer, drawn, list(held_out.mask_names), languages, sizes)}
    for one in marked:
        fine = [finding for finding in one.masks if finding in pointing.FINE]
        others = [finding for finding in one.masks if finding not in fine]
        found[one.name] = _found(network, tokenizer, one.pixels, others, languages, sizes)
        found[one.name] |= _found(network, tokenizer, one.pixels, fine, languages, fine_sizes)
    return found


def _found(
    network: VisionCLIP,
    tokenizer,
    pixels: np.ndarray,
    findings: Sequence[str],
    languages: Sequence[str],
    sizes: Sequence[int],
) -> Maps:
    if not findings:
        return {}
    named = pointing.name_embeddings(network, tokenizer, findings, languages)
    maps = pointing.finding_maps(network, pixels, named, sizes)
    return dict(zip(findings, maps.swapaxes(0, 1), strict=True))


def localise(
    held_out: LabelledImages, marked: Sequence[Marks], maps: Mapping[str, Maps], seed: int, resamples: int
) -> list[dict]:
    """How the maps agree with marks: a row a finding of the phantoms, then one a finding and split of each set.

    A row has ``dataset``, ``finding``, ``split`` and the scores of ``localisation``. The threshold of ``dice`` is the
    best for the phantoms, on photographs too.
    """
    drawn = np.stack([maps[PHANTOMS][finding] for finding in held_out.mask_names], axis=1)
    rows = [{"dataset": PHANTOMS, **row} for row in pointing.on_phantoms(held_out, drawn, seed, resamples)]
    thresholds = {row["finding"]: row["threshold"] for row in rows}
    for one in progress(marked, "hold against marks"):
        rows += localisation.evaluate(one, maps[one.name], thresholds, seed, resamples)
    return rows


def cases(held_out: LabelledImages, marked: Sequence[Marks]) -> list[Case]:
    """Eyes that show what defines a disease: phantoms first, then photographs by set and split."""
    return [
        *attribution.in_phantoms(held_out, PHANTOMS),
        *(case for one in marked for case in attribution.in_marks(one)),
    ]


def dense(cases: Sequence[Case], maps: Mapping[str, Maps]) -> list[np.ndarray]:
    """Of each case the maps N×s×s of any of the findings that define its disease, on the finest of their grids."""
    return [attribution.any_of(_stacked(maps[case.dataset], case.findings, case.places)) for case in cases]


def _stacked(maps: Maps, findings: Sequence[str], places: Sequence[int] | np.ndarray) -> np.ndarray:
    """Maps N×C×s×s of the findings at these places, on the finest of their grids."""
    side = max(maps[finding].shape[-1] for finding in findings)
    each = [[cv2.resize(one, (side, side)) for one in maps[finding][places]] for finding in findings]
    return np.stack([np.stack(of_finding) for of_finding in each], axis=1)


def gradcams(
    network: VisionCLIP,
    tokenizer,
    cases: Sequence[Case],
    pixels: Mapping[str, np.ndarray],
    languages: Sequence[str],
    size: int,
) -> list[np.ndarray]:
    """Of each case the Grad-CAM N×h×w of its disease, of images (``pixels`` by dataset) seen at ``size`` pixels."""
    diseases = list(dict.fromkeys(case.disease for case in cases))
    directions = attribution.directions(network, tokenizer, diseases, languages)
    return [
        attribution.gradcam(network, images.resized(pixels[case.dataset][case.places], size), directions[case.disease])
        for case in cases
    ]


def compare(
    cases: Sequence[Case], methods: Mapping[str, Sequence[np.ndarray]], seed: int, resamples: int
) -> list[dict]:
    """How the maps of each method agree with the marks of each case: a row a case and ``method``.

    The threshold of ``dice`` is that method's best for the phantoms of the disease; without them there is none.
    """
    rows, thresholds = [], {}
    for place, case in enumerate(progress(cases, "hold against marks")):
        for method, of_cases in methods.items():
            if case.dataset == PHANTOMS:
                thresholds[case.disease, method] = attribution.threshold(case, of_cases[place])
            known = thresholds.get((case.disease, method))
            scored = attribution.evaluate(case, of_cases[place], known, seed, resamples)
            rows.append({"method": method, **scored})
    return rows


@dataclass(frozen=True, eq=False)
class Alarms:
    """What is taken for disease in healthy eyes: ``rows`` of ``false_alarms.rates``, and by dataset the eyes that show
    it most surely, rows of ``false_alarms.surest`` with their places in the dataset."""

    rows: list[dict]
    surest: dict[str, list[dict]]


def alarms(
    network: VisionCLIP,
    tokenizer,
    held_out: LabelledImages,
    datasets: Sequence[Dataset],
    languages: Sequence[str],
) -> Alarms:
    """The findings that the maps show in healthy photographs of each dataset, by limits fixed on healthy phantoms.

    Nothing where no dataset has healthy eyes, or fewer than ``false_alarms.FEWEST`` phantoms are healthy.
    """
    healthy = {one.name: (one, false_alarms.healthy(one)) for one in datasets}
    healthy = {name: (one, places) for name, (one, places) in healthy.items() if places}
    if not healthy or sum(map(conditions.is_normal, held_out.conditions)) < false_alarms.FEWEST:
        return Alarms([], {})
    limits = false_alarms.limits(false_alarms.signs(network, tokenizer, held_out.pixels, languages), held_out)
    rows, surest = [], {}
    for name, (one, places) in healthy.items():
        eyes = one.images.take(places)
        above = false_alarms.excess(false_alarms.signs(network, tokenizer, eyes.pixels, languages), limits)
        rows += false_alarms.rates(f"{name} ({one.split})", above, eyes.members)
        found = false_alarms.surest(above, ALARMS)
        surest[name] = [{**eye, "place": places[eye["place"]]} for eye in found]
    return Alarms(rows, surest)


def alarm_pictures(
    network: VisionCLIP, tokenizer, datasets: Sequence[Dataset], alarms: Alarms, languages: Sequence[str]
) -> tuple[dict[str, Sequence[np.ndarray]], list[str], str]:
    """Rows of a gallery, the finding of each eye, and whom to credit; no rows where no set may be shown."""
    for one in datasets:
        if folders.credit(one.name) and one.name in alarms.surest:
            eyes = alarms.surest[one.name]
            pixels, findings = one.images.pixels[[eye["place"] for eye in eyes]], [eye["finding"] for eye in eyes]
            rows = false_alarms.pictures(network, tokenizer, pixels, findings, languages)
            return rows, findings, folders.credit(one.name)
    return {}, [], ""


# --- Pictures -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Shown:
    """A few eyes that may be shown: their ``places`` in a ``dataset``, what is marked on them, shares 0 to 1 or
    bool N×C×h×w of ``findings``, the disease that each is explained for, and the ``credit`` to stand beside them."""

    dataset: str
    places: list[int]
    pixels: np.ndarray
    masks: np.ndarray
    findings: list[str]
    diseases: list[str]
    credit: str = ""


def shown(held_out: LabelledImages, marked: Sequence[Marks], count: int) -> Shown:
    """``count`` photographs of a set that may be shown, where there is one, else phantoms.

    Photographs are of a split that chose nothing, those with the most kinds of lesions first, then the largest; of
    those with the same kinds one, as long as there are others.
    """
    for one in marked:
        if folders.credit(one.name):
            return _photographs(one, count)
    places = pointing.richest(held_out, count)
    own = held_out.take(places)
    masks, diseases = np.asarray(own.masks) / 255, [_defined(eye) for eye in own.conditions]
    return Shown(PHANTOMS, places, own.pixels, masks, list(own.mask_names), diseases)


def _photographs(marked: Marks, count: int) -> Shown:
    lesions = [finding for finding in marked.masks if FINDINGS[finding].lesion]
    areas = np.array([marked.masks[finding].sum((1, 2)) for finding in lesions]).reshape(len(lesions), -1)
    reported = np.array([split in REPORTED for split in marked.splits])
    richest = -areas.sum(0), -(areas > 0).sum(0), ~reported  # the last one counts first
    kinds = pandas.DataFrame([reported, *(areas > 0)]).T.iloc[np.lexsort(richest)]
    again = kinds.duplicated().sort_index().to_numpy()
    places = [int(place) for place in np.lexsort((*richest[:2], again, ~reported))[:count]]
    masks = np.stack([mask[places] for mask in marked.masks.values()], axis=1)
    diseases = ["dr_grade"] * len(places)
    return Shown(
        marked.name, places, marked.pixels[places], masks, list(marked.masks), diseases, folders.credit(marked.name)
    )


def _defined(eye: conditions.Conditions) -> str:
    """The first disease of an eye that findings define; retinopathy if there is none."""
    return next((disease for disease in DEFINING if eye.get(disease, 0) > 0), "dr_grade")


def pictures(
    network: VisionCLIP, tokenizer, shown: Shown, maps: Maps, languages: Sequence[str], size: int
) -> dict[str, Sequence[np.ndarray]]:
    """Rows of a gallery: the eyes, what is marked, the maps of the same findings, and Grad-CAM at ``size`` pixels."""
    small = images.resized(shown.pixels, size)
    directions = attribution.directions(network, tokenizer, list(dict.fromkeys(shown.diseases)), languages)
    heat = [
        attribution.gradcam(network, small[[place]], directions[disease])[0]
        for place, disease in enumerate(shown.diseases)
    ]
    return {
        "image": list(shown.pixels),
        "marks": _painted(shown, shown.masks),
        "maps": _painted(shown, _stacked(maps, shown.findings, shown.places)),
        "Grad-CAM": attribution.overlay(shown.pixels, np.stack(heat)),
    }


def _painted(shown: Shown, maps: np.ndarray) -> list[np.ndarray]:
    """``pointing.overlay`` of maps N×C×h×w of the eyes' findings; of the others there is nothing."""
    every = np.zeros((len(maps), len(FINDINGS), *maps.shape[2:]), np.float32)
    every[:, [list(FINDINGS).index(finding) for finding in shown.findings]] = maps
    return pointing.overlay(shown.pixels, every, list(FINDINGS))


# --- Sentences ----------------------------------------------------------------------------------------------------


def sentence_thresholds(held_out: LabelledImages, maps: Mapping[str, Maps]) -> dict[str, float]:
    """From which peak on (0 to 1) each lesion's map states it, fixed on the held-out phantoms (``sentences.fit``)."""
    return sentences.fit(maps[PHANTOMS], _drawn(held_out))


def sentence_rates(
    held_out: LabelledImages, marked: Sequence[Marks], maps: Mapping[str, Maps], thresholds: Mapping[str, float]
) -> list[dict]:
    """How often what is stated of each lesion is right (``sentences.agreement``): of the phantoms, then of each set and
    split of marked photographs, where somebody looked."""
    stated = {name: sentences.found(of_set, thresholds) for name, of_set in maps.items()}
    rows = sentences.agreement(PHANTOMS, attribution.HELD_OUT, stated[PHANTOMS], _drawn(held_out))
    for one in marked:
        splits = np.array(one.splits)
        for split in sorted(set(one.splits)):
            for finding, own in stated[one.name].items():
                used = one.known[finding] & (splits == split)
                truth = {finding: one.masks[finding][used].any((1, 2))}
                rows += sentences.agreement(one.name, split, {finding: own[used]}, truth)
    return rows


def _drawn(held_out: LabelledImages) -> dict[str, np.ndarray]:
    """Which phantoms show each finding, bool N."""
    there = np.any(np.asarray(held_out.masks) > 255 * SHOWN, axis=(2, 3))
    return dict(zip(held_out.mask_names, there.T, strict=True))


def written(shown: Shown, maps: Maps, thresholds: Mapping[str, float]) -> pandas.DataFrame:
    """The eyes that are shown as sentences, a row each, numbered from 1: what is marked on them, and what the maps of
    their set state and deny, in English and in Chinese."""
    stated, rows = sentences.found(maps, thresholds), []
    there = np.any(shown.masks > SHOWN, axis=(2, 3))
    for number, place in enumerate(shown.places):
        marked = {name: 1 for name, own in zip(shown.findings, there[number], strict=True) if own and name in stated}
        facts = {name: int(own[place]) for name, own in stated.items()}
        languages = {"maps": sentences.write(facts, "en"), "maps, in Chinese": sentences.write(facts, "zh")}
        rows.append({"eye": number + 1, "marked": sentences.write(marked, "en"), **languages})
    return pandas.DataFrame(rows)


def headline(localised: Sequence[Mapping], matrix: Sequence[Mapping]) -> list[dict[str, str]]:
    """For the index page: the average precision on each reported set of marks, or the phantoms' mean pixel AUC where
    there is none, and of how many tasks the right sentence is the best."""
    marked = [row for row in localised if row["dataset"] != PHANTOMS and row["split"] in REPORTED]
    rows = [
        {
            "name": f"{row['dataset']} {row['finding']} ({row['split']}), average precision",
            "value": str(row["average_precision"]),
        }
        for row in marked
    ]
    drawn = [row["pixel_auc"].value for row in localised if row["dataset"] == PHANTOMS]
    aucs = [auc for auc in drawn if auc is not None]
    mean = Interval(float(np.mean(aucs)) if aucs else None)
    ranked = [row["rank"] for row in matrix if row["rank"] is not None]
    best = {"name": "tasks whose own sentence is the best of all", "value": f"{ranked.count(1)} of {len(ranked)}"}
    return [*(rows or [{"name": f"{PHANTOMS}, mean pixel AUC", "value": str(mean)}]), best]
