"""Small models of the same size and updates, pretrained on eyes of different sources, for stage 09.

Drawn, generated from the same conditions and layouts, or photographs with what their labels state: those of all sets
but the one that is scored, without near-duplicates of it. As many drawn as generated eyes; of photographs there are as
many as there are, and what none of them has they are not asked without labels. They come without finding maps: drawn
eyes without maps are what they are to be compared with.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas

from visionclip.conditions import plain
from visionclip.data import duplicates, images
from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import Dataset, Task, stated
from visionclip.evaluation.intervals import Interval, over_seeds, score_over_seeds
from visionclip.models.generator import VisionCLIPDDPMPipeline
from visionclip.stages import fine_tuning, privacy, transfer
from visionclip.stages.fine_tuning import FULL, PROBE, ZERO_SHOT, Question, Start

DRAWN, UNMAPPED, GENERATED, REAL = "drawn", "drawn without maps", "generated", "photographs"
EYES = {  # arms of 06
    DRAWN: transfer.REFERENCE,
    UNMAPPED: "no finding maps",
    GENERATED: transfer.GENERATED_ALONE,
    REAL: transfer.REFERENCE,
}
COMPARED = ((UNMAPPED, DRAWN), (GENERATED, DRAWN), (REAL, DRAWN), (REAL, UNMAPPED))  # eyes, and those they replace
METHODS = (ZERO_SHOT, PROBE, FULL)  # how they are used


def photographs(datasets: Sequence[Dataset], size: int) -> LabelledImages:
    """The photographs of these sets of which a task states anything, at ``size`` pixels, with what is stated.

    Raises:
        ValueError: there are none.
    """
    parts = [_of_set(one, size) for one in datasets if any(stated(one))]
    if not parts:
        raise ValueError("towers: photographs of another set are needed; leave photographs out, or add a set")
    return privacy.together(*parts)


def without_copies(known: LabelledImages, scored: LabelledImages) -> LabelledImages:
    """The images of which none of those that are scored is a near-duplicate (``duplicates.pairs``)."""
    copies = {place for place, _ in duplicates.pairs(known.pixels, scored.pixels)}
    return known.take([place for place in range(len(known)) if place not in copies])


def _of_set(dataset: Dataset, size: int) -> LabelledImages:
    """The photographs of one set of which something is stated, named with their set: two may have the same names."""
    known = privacy.stated(dataset)
    names, patients = ([f"{dataset.name}/{own}" for own in column] for column in (known.keys, known.members))
    return replace(known, pixels=images.resized(known.pixels, size), keys=names, groups=patients)


@dataclass(frozen=True, eq=False)
class Towers:
    """What is pretrained by ``kinds`` of eyes, ``count`` of ``size`` pixels where they are drawn or generated, by the
    ``pipeline``, in as many ``updates``; photographs are those of ``datasets``. Trainings are kept below ``folder``."""

    folder: Path
    kinds: Sequence[str]
    datasets: Sequence[Dataset]
    count: int
    updates: int
    size: int
    pipeline: VisionCLIPDDPMPipeline | None = None
    kept: dict = field(default_factory=dict)
    drawn: dict[int, transfer.Sets] = field(default_factory=dict)  # by seed: the phantoms that kinds share

    def of(self, dataset: str, seed: int) -> list[Start]:
        """The models to start from for questions of a set, one a kind; those of photographs have seen the other sets
        alone, and are left out where there is no other."""
        starts = []
        for kind in self.kinds:
            if kind == REAL and not self.others(dataset):
                continue
            key = kind, dataset if kind == REAL else "", seed
            if key not in self.kept:
                self.kept[key] = self._trained(kind, dataset, seed, "-".join(filter(None, key[:2])))
            starts.append(self.kept[key])
        return starts

    def others(self, dataset: str) -> list[Dataset]:
        """The sets but this one of which a task states anything."""
        return [one for one in self.datasets if one.name != dataset and any(stated(one))]

    def photographs_for(self, dataset: str) -> LabelledImages:
        """The photographs that pretrain a model which is asked of a set: those of ``others`` without near-duplicates of
        any of its own; raises as ``photographs``."""
        scored = next(one for one in self.datasets if one.name == dataset)
        return without_copies(photographs(self.others(dataset), self.size), scored.images)

    def _trained(self, kind: str, dataset: str, seed: int, name: str) -> Start:
        arm = transfer.ARMS[EYES[kind]]
        eyes = self.photographs_for(dataset) if kind == REAL else self._eyes(arm, seed)
        settings = transfer.settings_of(arm, self.updates, seed)
        network, tokenizer = transfer.learn(arm, eyes, settings, self.folder / f"{name}-{seed}".replace(" ", "-"))
        return Start(kind, network, tokenizer, self.size)

    def _eyes(self, arm: transfer.Arm, seed: int) -> LabelledImages:
        if seed not in self.drawn:
            arms = [transfer.ARMS[EYES[kind]] for kind in self.kinds if kind != REAL]
            self.drawn[seed] = transfer.Sets(arms, self.count, self.size, seed, self.pipeline)
        return self.drawn[seed].of(arm)


def evaluate(
    folder: Path,
    questions: Sequence[Question],
    towers: Towers,
    prompt_count: int,
    shares: Sequence[float],
    held: float,
    updates: int,
    seeds: Sequence[int],
) -> list[dict]:
    """The rows of ``fine_tuning.evaluate`` for each question and seed, by ``METHODS`` from each kind of tower, but for
    zero-shot of a condition that no photograph of the other sets has. A seed is another pretraining too."""
    rows = []
    for seed in seeds:
        for question in questions:
            starts = towers.of(question.dataset.name, seed)
            languages = transfer.LANGUAGES
            frozen = {one.name: fine_tuning.freeze(one, question, languages, prompt_count) for one in starts}
            given = folder, question, starts, frozen, METHODS, shares, held, updates, seed
            found = fine_tuning.evaluate(*given) if starts else []
            named = {
                key for one in towers.others(question.dataset.name) for eye in stated(one) for key in eye if eye[key]
            }
            unasked = {REAL} if not _keys(question.task) <= named else set()
            rows += [row for row in found if row["method"] != ZERO_SHOT or row["start"] not in unasked]
    return rows


def _keys(task: Task) -> set[str]:
    """The conditions that the classes of a task are told by."""
    return {key for one in task.classes for facts in one.facts for key in facts}


def described(towers: Towers, questions: Sequence[Question]) -> list[str]:
    """One line a set that is asked: how many eyes pretrain the models that are asked of it."""
    lines = []
    for name in dict.fromkeys(one.dataset.name for one in questions):
        counts = {kind: towers.count for kind in towers.kinds if kind != REAL}
        if REAL in towers.kinds and towers.others(name):
            counts[REAL] = len(towers.photographs_for(name))
        lines.append(f"{name} is asked after {', '.join(f'{count} {kind}' for kind, count in counts.items())}")
    return lines if towers.kinds else []


def _few(shares: Iterable[float]) -> float:
    """Of the shares of the labels the largest that is few (``fine_tuning.FEW``), or else the smallest, 0 aside."""
    given = sorted({share for share in shares if share})
    return max((share for share in given if share <= fine_tuning.FEW), default=min(given, default=1.0))


def table(points: Sequence[dict]) -> pandas.DataFrame:
    """AUC by task, method and labels, a column a kind of eyes: with no labels, with few (``fine_tuning.FEW``), and all.
    ``points`` are ``fine_tuning.curves``."""
    shares = 0, _few(one["share"] for one in points), 1
    cells = [
        {"task": plain(one["task"]), "method": one["method"], "labels": one["labels"]}
        | {"eyes": one["start"], "auc": str(one["auc"])}
        for one in points
        if one["share"] in shares
    ]
    index = ["task", "method", "labels"]
    frame = pandas.DataFrame(cells, columns=[*index, "eyes", "auc"])
    wide = frame.pivot(index=index, columns="eyes", values="auc").fillna("")
    order = list(dict.fromkeys(map(tuple, frame[index].to_numpy().tolist())))
    return wide.reindex(index=order, columns=list(dict.fromkeys(frame["eyes"])))


def differences(rows: Sequence[Mapping]) -> list[dict]:
    """One row a method, share and pair of ``COMPARED``, of the mean AUC over the tasks that both have: what the eyes
    that are replaced reach (``score``), and what the others change, seed by seed, with t-intervals."""
    frame, found = pandas.DataFrame(rows, columns=fine_tuning.ROW), []
    for (method, share), part in frame.groupby(["method", "share"], sort=False):
        by_kind = {kind: own.pivot(index="task", columns="seed", values="auc") for kind, own in part.groupby("start")}
        for kind, replaced in COMPARED:
            if {kind, replaced} <= by_kind.keys():
                own, before = by_kind[kind].align(by_kind[replaced], join="inner")
                row = {"method": method, "share": share, "eyes": kind, "in place of": replaced, "tasks": len(own)}
                row["score"] = score_over_seeds(before.mean().to_numpy())
                found.append({**row, "difference": over_seeds((own.mean() - before.mean()).to_numpy())})
    return found


def verdict(compared: Sequence[Mapping]) -> list[str]:
    """One sentence for each of ``differences`` without labels and with few: what other eyes change, and whether the
    interval, which is not corrected for how many are compared, holds 0."""
    few, sentences = _few(one["share"] for one in compared), []
    for one in compared:
        if (one["method"], one["share"]) in ((ZERO_SHOT, 0), (PROBE, few)):
            difference: Interval = one["difference"]
            labels = f" with {100 * one['share']:g} % of the labels" if one["share"] else ""
            sentences.append(
                f"Small models, {one['method']}{labels}: with {one['in place of']} eyes the mean AUC over "
                f"{one['tasks']} tasks is {one['score']}; {one['eyes']} in their place change it by "
                f"{difference:+.3f}, {_sure(difference)}."
            )
    return sentences


def _sure(difference: Interval) -> str:
    if difference.low is None or difference.high is None:
        return "one seed, which has no interval"
    return "not by more than chance" if difference.low <= 0 <= difference.high else "its interval apart from 0"
