"""Stage 08: what a set must contain. Captions and drawn eyes are made poorer in one way each, at the same size.

Every arm trains both towers on as many phantoms for as many updates, and is scored in its own words on the same
held-out phantoms and photographs for development. No split that is reported takes part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas

from visionclip import conditions, keys, runs
from visionclip.data import folders, images, phantoms
from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import Dataset
from visionclip.evaluation import metrics, scoring, zero_shot
from visionclip.evaluation.intervals import Interval, adjusted, detectable, paired, score_over_seeds
from visionclip.models.visionclip import VisionCLIP
from visionclip.stages import pretrain
from visionclip.text.grammar import PLAIN, Style

REFERENCE = "everything"
TRAINING = "training phantoms of the diversity arms"
PROMPTS = 6  # wordings of each condition and language
# A disease that no eye of ``UNSEEN`` has, and the ways to ask for it: a style, and what each class states. Its findings
# are words that other diseases taught; "many" is the amount that sets it apart from most of them.
WITHHELD, UNSEEN = "rvo", "no vein occlusion"
WAYS: dict[str, tuple[Style, dict[str, int], dict[str, int]]] = {
    "its name": (PLAIN, {WITHHELD: 0}, {WITHHELD: 1}),
    "its definition": (Style(naming="definitions"), {WITHHELD: 0}, {WITHHELD: 1}),
    "its findings": (PLAIN, {"haemorrhage": 0}, {"haemorrhage_amount": 2}),
}


@dataclass(frozen=True)
class Arm:
    """An ablation arm: languages and style of the captions and prompts, factors that all eyes share, whether an eye may
    have a second disease, whether captions say what findings there are, and a disease that no eye has, so that
    captions name it as absent at most."""

    languages: tuple[str, ...] = ("zh", "en")
    style: Style = PLAIN
    fixed: Mapping[str, object] = field(default_factory=dict)
    single: bool = False
    findings: bool = True
    withheld: str = ""

    @property
    def drawing(self) -> str:
        """What tells drawn sets apart: arms with the same drawing share their eyes."""
        return keys.digest([dict(self.fixed), self.single, self.withheld])


ARMS: dict[str, Arm] = {
    REFERENCE: Arm(),
    "English only": Arm(languages=("en",)),
    "no findings": Arm(findings=False),
    "one wording": Arm(style=Style(variety=1)),
    "one camera": Arm(fixed={"camera": "canon", "colour": "neutral", "field_shape": "circle", "field_radius": 3.2}),
    "one anatomy": Arm(fixed={"pigment": 0.5, "age": 60, "rotation": 0, "gaze": 0.2, "tortuosity": 1.0}),
    "one disease an eye": Arm(single=True),
    UNSEEN: Arm(withheld=WITHHELD),
}


def draw_all(arms: Sequence[str], seeds: Sequence[int], count: int, size: int) -> dict[tuple[str, int], LabelledImages]:
    """The phantoms of each seed by the arms' ``drawing``, each set once."""
    wanted = {(ARMS[name].drawing, seed): ARMS[name] for seed in seeds for name in arms}
    return {(drawing, seed): draw(arm, count, size, seed) for (drawing, seed), arm in wanted.items()}


def draw(arm: Arm, count: int, size: int, seed: int, workers: int = 0) -> LabelledImages:
    """``count`` phantoms as the arm draws them, prepared and with finding maps as those of stage 01's sets are."""
    eyes = phantoms.balanced_eyes(count, seed, TRAINING, 0.1)
    eyes = [main_disease(eye) for eye in eyes] if arm.single else eyes
    eyes = [{**eye, arm.withheld: 0} for eye in eyes] if arm.withheld else eyes
    drawn_from = [(seed, TRAINING, index) for index in range(count)]
    return phantoms.draw(eyes, drawn_from, size, f"phantoms, seed {seed}", workers, arm.fixed, masks="findings")


def main_disease(eye: Mapping[str, int]) -> dict[str, int]:
    """The eye with nothing but its main disease, and macular edema without its retinopathy."""
    kept = conditions.presentation(eye).split(" ")[0]
    return {key: value if key == kept or key not in conditions.DISEASES else 0 for key, value in eye.items()}


def unsaid(training: LabelledImages) -> LabelledImages:
    """The same images, of whose findings no caption knows; their maps stay."""
    eyes = [{key: value for key, value in eye.items() if key not in conditions.OBSERVED} for eye in training.conditions]
    return replace(training, conditions=eyes)


def held_out_sets(held_out: LabelledImages, external: str, size: int) -> list[Dataset]:
    """The tasks of held-out phantoms, then those of the photographs that may be chosen by, each set named with its
    split."""
    return [held_out_tasks(held_out, size), *scoring.development(folders.external_folder(external), size)]


def held_out_tasks(held_out: LabelledImages, size: int) -> Dataset:
    """The tasks of held-out phantoms, which are prepared, at another size."""
    return scoring.phantom_tasks(replace(held_out, pixels=images.resized(held_out.pixels, size)))


def evaluate(
    folder: Path,
    name: str,
    training: LabelledImages,
    held_out: Sequence[Dataset],
    per_image: int,
    pretrained: Mapping[str, object],
    **changed: int,
) -> dict[str, dict[str, dict[str, float]]]:
    """Train both towers as the arm ``name`` does and return AUCs (0 to 1): of every set's ``tasks`` and, of the
    reference and of ``UNSEEN``, of each set by which of ``WAYS`` its ``withheld`` disease is asked for. Kept below
    ``folder`` and read back. ``pretrained`` are stage 03's parameters, but for those ``changed``, the seed among
    them."""
    arm, settings = ARMS[name], pretrain.settings(pretrained, size=training.pixels.shape[1], **changed)
    targets = [task.targets for dataset in held_out for task in dataset.tasks]
    pixels = [dataset.images.pixels for dataset in held_out]
    known = [training.conditions, keys.arrays(training.pixels, training.masks, *pixels, *targets)]
    sizes = {key: value for key, value in pretrained.items() if "width" in key or "size" in key or "layers" in key}
    tasks = [(dataset.name, task.name) for dataset in held_out for task in dataset.tasks]
    tower = pretrain.tower_key(pretrained)
    key = settings.key(arm, sizes, tower, per_image, known, tasks, keys.code(__file__))
    place = folder / f"{name}-{settings.seed}".replace(" ", "-")

    def compute() -> dict[str, dict[str, dict[str, float | None]]]:
        learnt = training if arm.findings else unsaid(training)
        network, tokenizer = pretrain.learn(learnt, pretrained, settings, place, arm.languages, per_image, arm.style)
        found = {"tasks": {one.name: _aucs(network, tokenizer, one, arm.languages, arm.style) for one in held_out}}
        if name in (REFERENCE, UNSEEN):
            sets = [one for one in map(_of_withheld, held_out) if one.tasks]
            found["withheld"] = {one.name: _by_ways(network, tokenizer, one, arm.languages) for one in sets}
        return found

    return runs.cached(place.with_suffix(".json"), key, compute)


def _aucs(
    network: VisionCLIP, tokenizer, dataset: Dataset, languages: Sequence[str], style: Style
) -> dict[str, float | None]:
    logits = zero_shot.predict(network, tokenizer, dataset, languages, PROMPTS, style)
    return {
        task.name: metrics.scores(*scoring.known(task, logits[task.name]), task.ordinal)["auc"]
        for task in dataset.tasks
    }


def _of_withheld(dataset: Dataset) -> Dataset:
    """The set with no task but that of the withheld disease, the eyes with it last; without any, if it has none."""
    tasks = [
        task for task in dataset.tasks if [one.facts for one in task.classes] == [[{WITHHELD: 0}], [{WITHHELD: 1}]]
    ]
    return replace(dataset, tasks=tasks)


def _by_ways(network: VisionCLIP, tokenizer, dataset: Dataset, languages: Sequence[str]) -> dict[str, float | None]:
    """AUC of a set's only task, asked for in each of ``WAYS``."""
    (task,) = dataset.tasks
    found = {}
    for way, (style, *facts) in WAYS.items():
        classes = [replace(one, facts=[fact]) for one, fact in zip(task.classes, facts, strict=True)]
        worded = replace(dataset, tasks=[replace(task, classes=classes)])
        found[way] = _aucs(network, tokenizer, worded, languages, style)[task.name]
    return found


def by_words(scores: Mapping[str, Sequence[Mapping[str, Mapping[str, Mapping[str, float]]]]]) -> list[dict]:
    """One row for each set and way to ask for the withheld disease: AUC of the reference, which saw it (``seen``), and
    of ``UNSEEN`` (``unseen``), with t-intervals over seeds; none unless both arms were trained. ``scores`` holds what
    ``evaluate`` gave for each seed of each arm."""
    if not {REFERENCE, UNSEEN} <= scores.keys():
        return []

    def over_seeds(arm: str, dataset: str, way: str) -> Interval:
        return score_over_seeds([seed["withheld"][dataset][way] for seed in scores[arm]])

    return [
        {"dataset": dataset, "way": way}
        | {"seen": over_seeds(REFERENCE, dataset, way), "unseen": over_seeds(UNSEEN, dataset, way)}
        for dataset in scores[REFERENCE][0]["withheld"]
        for way in WAYS
    ]


def compare(arms: Mapping[str, Sequence[Mapping[str, Mapping[str, float]]]]) -> list[dict]:
    """One row for each set and arm: its AUC, mean over tasks and seeds, and its difference to the reference, seed by
    seed, with t-intervals over seeds and a paired t-test, Holm-corrected over the arms of the set; and the
    ``detectable`` difference. ``arms`` holds what ``evaluate`` gave for each seed, in the same order for all arms."""
    return [row for dataset in next(iter(arms.values()))[0] for row in _compared(arms, dataset)]


def _compared(arms: Mapping[str, Sequence[Mapping[str, Mapping[str, float]]]], dataset: str) -> list[dict]:
    means = {name: np.array([np.mean(list(sets[dataset].values())) for sets in seeds]) for name, seeds in arms.items()}
    others = [name for name in means if name != REFERENCE]
    against = adjusted([paired(means[name], means[REFERENCE]) for name in others])
    compared = dict(zip(others, against, strict=True))
    rows = []
    for name, values in means.items():
        hidden = detectable(values - means[REFERENCE]) if name in compared else None
        row = {"dataset": dataset, "arm": name, "auc": score_over_seeds(values), "against": compared.get(name)}
        rows.append({**row, "detectable": hidden, "seeds": values.tolist()})
    return rows


def table(rows: Sequence[dict]) -> pandas.DataFrame:
    """One row for each set and arm that is compared: the difference with its interval, first; then Holm's p, what could
    hide, and the AUC."""
    shown = [
        {
            "set": row["dataset"],
            "arm": row["arm"],
            "difference to everything": f"{row['against'].difference:+.3f}" if row["against"] else "",
            "p (Holm)": _number(row["against"] and row["against"].adjusted_p),
            "could hide": _number(row["detectable"]),
            "mean AUC": str(row["auc"]),
        }
        for row in rows
    ]
    return pandas.DataFrame(shown)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def forest(rows: Sequence[dict]) -> pandas.DataFrame:
    """The differences as ``figures.differences`` draws them: name, value, low and high."""
    drawn = [(f"{row['arm']}, {row['dataset']}", row["against"].difference) for row in rows if row["against"]]
    return pandas.DataFrame({"name": name, "value": one.value, "low": one.low, "high": one.high} for name, one in drawn)


def verdict(rows: Sequence[dict], dataset: str = scoring.PHANTOMS) -> str:
    """Which arms differ from the reference on ``dataset`` by more than chance over seeds, with intervals, and how large
    a difference could hide in the others: a sentence. Of models below ``scoring.LEARNT`` nothing is said."""
    compared = {row["arm"]: row for row in rows if row["dataset"] == dataset and row["against"]}
    tested = {name: row for name, row in compared.items() if row["detectable"] is not None}
    if not tested:
        return "One seed or one arm was run: nothing is said of what differs by chance."
    seeds = len(rows[0]["seeds"])
    whole = next(row["auc"] for row in rows if row["dataset"] == dataset and not row["against"])
    if (whole.value or 0.0) < scoring.LEARNT:
        return (
            f"On {dataset}, over {seeds} seeds, no arm learns enough in these trainings to say what its set lacks: "
            f"{REFERENCE} has mean AUC {whole} (chance 0.5)."
        )
    sure = {name: row["against"].difference for name, row in tested.items() if row["against"].star}
    parts = [f"{name} changes AUC by {difference:+.3f}" for name, difference in sure.items()]
    if unsure := {name: row for name, row in tested.items() if name not in sure}:
        name, row = max(unsure.items(), key=lambda one: one[1]["detectable"])
        parts.append(
            f"{'nothing' if not sure else 'nothing else'} is resolved: the widest is {name}, "
            f"{row['against'].difference:+.3f}, where up to {row['detectable']:.3f} could hide"
        )
    return f"On {dataset}, over {seeds} seeds, {'; '.join(parts)}."


def says_of_unseen(rows: Sequence[dict]) -> str:
    """A sentence a set: by which of ``WAYS`` the model that never saw the disease ranks eyes with it highest, whether
    surely better than chance, beside the model that saw it."""
    if not rows:
        return f"Whether words stand in for a disease that no eye had takes the arm {UNSEEN}."
    sentences = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        best = max((row for row in rows if row["dataset"] == dataset), key=lambda row: row["unseen"].value or 0.0)
        low = best["unseen"].low
        sure = "" if low is not None and low > 0.5 else ", not surely above chance"
        sentences.append(
            f"{dataset}: retinal vein occlusion that no eye had is found best by {best['way']}, AUC "
            f"{best['unseen']}{sure}; by a model that saw it {best['seen']}."
        )
    return "\n".join(sentences)
