"""Small models that are alike but for whose eyes pretrained them, for stage 09.

Drawn, generated from the same conditions and layouts, or photographs with what their labels state: those of all sets
but the one that is scored. As many updates, as many drawn as generated eyes; of photographs there are as many as there
are, without finding maps, and what none of them has they are not asked without labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas

from visionclip.conditions import plain
from visionclip.data import images
from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import Dataset, Task, stated
from visionclip.evaluation.intervals import Interval, over_seeds, score_over_seeds
from visionclip.models.generator import VisionCLIPDDPMPipeline
from visionclip.stages import fine_tuning, privacy, transfer
from visionclip.stages.fine_tuning import FULL, PROBE, ZERO_SHOT, Question, Start

DRAWN, GENERATED, REAL = "drawn", "generated", "photographs"
EYES = {DRAWN: transfer.REFERENCE, GENERATED: transfer.GENERATED_ALONE, REAL: transfer.REFERENCE}  # arms of 06
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
            others = self.others(dataset) if kind == REAL else []
            if kind == REAL and not others:
                continue
            key = kind, dataset if kind == REAL else "", seed
            if key not in self.kept:
                self.kept[key] = self._trained(kind, others, seed, "-".join(filter(None, key[:2])))
            starts.append(self.kept[key])
        return starts

    def others(self, dataset: str) -> list[Dataset]:
        """The sets but this one of which a task states anything."""
        return [one for one in self.datasets if one.name != dataset and any(stated(one))]

    def _trained(self, kind: str, others: Sequence[Dataset], seed: int, name: str) -> Start:
        arm = transfer.ARMS[EYES[kind]]
        eyes = photographs(others, self.size) if kind == REAL else self._eyes(arm, seed)
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


def table(points: Sequence[dict]) -> pandas.DataFrame:
    """AUC by task, method and labels, a column a kind of eyes: with no labels, the largest share up to
    ``fine_tuning.FEW``, and all. ``points`` are ``fine_tuning.curves``."""
    few = max((one["share"] for one in points if 0 < one["share"] <= fine_tuning.FEW), default=1)
    cells = [
        {"task": plain(one["task"]), "method": one["method"], "labels": one["labels"]}
        | {"eyes": one["start"], "auc": str(one["auc"])}
        for one in points
        if one["share"] in (0, few, 1)
    ]
    index = ["task", "method", "labels"]
    frame = pandas.DataFrame(cells, columns=[*index, "eyes", "auc"])
    wide = frame.pivot(index=index, columns="eyes", values="auc").fillna("")
    order = list(dict.fromkeys(map(tuple, frame[index].to_numpy().tolist())))
    return wide.reindex(index=order, columns=list(dict.fromkeys(frame["eyes"])))


def differences(rows: Sequence[Mapping]) -> list[dict]:
    """One row a method, share and kind of eyes, of the mean AUC over the ``tasks`` that it has too: that of drawn eyes,
    and what generated ones and photographs change, seed by seed, with t-intervals."""
    frame, found = pandas.DataFrame(rows, columns=fine_tuning.ROW), []
    for (method, share), part in frame.groupby(["method", "share"], sort=False):
        by_kind = {kind: own.pivot(index="task", columns="seed", values="auc") for kind, own in part.groupby("start")}
        for kind in (GENERATED, REAL):
            if {DRAWN, kind} <= by_kind.keys():
                own, drawn = by_kind[kind].align(by_kind[DRAWN], join="inner")
                row = {"method": method, "share": share, "eyes": kind, "tasks": len(own)}
                row["drawn"] = score_over_seeds(drawn.mean().to_numpy())
                found.append({**row, "difference": over_seeds((own.mean() - drawn.mean()).to_numpy())})
    return found


def verdict(compared: Sequence[Mapping]) -> list[str]:
    """One sentence for each of ``differences`` without labels and with the fewest: what other eyes than drawn ones
    change, and whether the interval, which is not corrected for how many are compared, holds 0."""
    shares = sorted({one["share"] for one in compared})[:2]
    sentences = []
    for one in compared:
        if one["share"] in shares and one["method"] in (ZERO_SHOT, PROBE):
            difference: Interval = one["difference"]
            labels = f" with {100 * one['share']:g} % of the labels" if one["share"] else ""
            sentences.append(
                f"Small models, {one['method']}{labels}: drawn eyes reach mean AUC {one['drawn']} over {one['tasks']} "
                f"tasks; {one['eyes']} in their place change it by {difference:+.3f}, {_sure(difference)}."
            )
    return sentences


def _sure(difference: Interval) -> str:
    if difference.low is None or difference.high is None:
        return "one seed, which has no interval"
    return "not by more than chance" if difference.low <= 0 <= difference.high else "its interval apart from 0"
