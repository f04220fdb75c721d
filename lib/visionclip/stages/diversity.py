"""Stage 08: what a set must contain. Captions and drawn eyes are made poorer in one way each, at the same size.

Every arm trains both towers on as many phantoms for as many updates, and is scored on the same held-out phantoms in its
own words. No photograph takes part, so that whatever is chosen here was chosen on phantoms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas

from visionclip import conditions, keys, runs
from visionclip.data import images, phantoms
from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import Dataset
from visionclip.evaluation import metrics, scoring, tables, zero_shot
from visionclip.evaluation.intervals import adjusted, over_seeds, paired
from visionclip.stages import pretrain
from visionclip.text.grammar import PLAIN, Style

REFERENCE = "everything"
TRAINING = "training phantoms of the diversity arms"
PROMPTS = 6  # wordings of each condition and language


@dataclass(frozen=True)
class Arm:
    """An ablation arm: languages and style of the captions and prompts, factors that all eyes share, and whether an eye
    may have a second disease."""

    languages: tuple[str, ...] = ("zh", "en")
    style: Style = PLAIN
    fixed: Mapping[str, object] = field(default_factory=dict)
    single: bool = False

    @property
    def drawing(self) -> str:
        """What tells drawn sets apart: arms with the same drawing share their eyes."""
        return keys.digest([dict(self.fixed), self.single])


ARMS: dict[str, Arm] = {
    REFERENCE: Arm(),
    "Chinese only": Arm(languages=("zh",)),
    "English only": Arm(languages=("en",)),
    "one wording": Arm(style=Style(variety=1)),
    "definitions": Arm(style=Style("definitions")),
    "names and definitions": Arm(style=Style("both")),
    "one camera": Arm(fixed={"camera": "canon", "colour": "neutral", "field_shape": "circle", "field_radius": 3.2}),
    "one anatomy": Arm(fixed={"pigment": 0.5, "age": 60, "rotation": 0, "gaze": 0.2, "tortuosity": 1.0}),
    "one disease an eye": Arm(single=True),
}


def draw_all(arms: Sequence[str], seeds: Sequence[int], count: int, size: int) -> dict[tuple[str, int], LabelledImages]:
    """The phantoms of each seed by the arms' ``drawing``, each set once."""
    wanted = {(ARMS[name].drawing, seed): ARMS[name] for seed in seeds for name in arms}
    return {(drawing, seed): draw(arm, count, size, seed) for (drawing, seed), arm in wanted.items()}


def draw(arm: Arm, count: int, size: int, seed: int, workers: int = 0) -> LabelledImages:
    """``count`` phantoms as the arm draws them, prepared and with finding maps as those of stage 01's sets are."""
    eyes = phantoms.balanced_eyes(count, seed, TRAINING, 0.1)
    eyes = [main_disease(eye) for eye in eyes] if arm.single else eyes
    drawn_from = [(seed, TRAINING, index) for index in range(count)]
    return phantoms.draw(eyes, drawn_from, size, f"phantoms, seed {seed}", workers, arm.fixed, masks="findings")


def main_disease(eye: Mapping[str, int]) -> dict[str, int]:
    """The eye with nothing but its main disease, and macular edema without its retinopathy."""
    kept = conditions.presentation(eye).split(" ")[0]
    return {key: value if key == kept or key not in conditions.DISEASES else 0 for key, value in eye.items()}


def held_out_tasks(held_out: LabelledImages, size: int) -> Dataset:
    """The tasks of held-out phantoms, which are prepared, at another size."""
    return scoring.phantom_tasks(replace(held_out, pixels=images.resized(held_out.pixels, size)))


def evaluate(
    folder: Path,
    name: str,
    training: LabelledImages,
    held_out: Dataset,
    per_image: int,
    pretrained: Mapping[str, object],
    **changed: int,
) -> dict[str, float]:
    """Train both towers as the arm ``name`` does and return the AUC (0 to 1) of every task; kept below ``folder`` and
    read back. ``pretrained`` are stage 03's parameters, but for those ``changed``, the seed among them."""
    arm, settings = ARMS[name], pretrain.settings(pretrained, size=training.pixels.shape[1], **changed)
    targets = [task.targets for task in held_out.tasks]
    known = [training.conditions, keys.arrays(training.pixels, training.masks, held_out.images.pixels, *targets)]
    sizes = {key: value for key, value in pretrained.items() if "width" in key or "size" in key or "layers" in key}
    tasks, tower = [task.name for task in held_out.tasks], pretrain.tower_key(pretrained)
    key = settings.key(arm, sizes, tower, per_image, known, tasks, keys.code(__file__))
    place = folder / f"{name}-{settings.seed}".replace(" ", "-")

    def compute() -> dict[str, float | None]:
        network, tokenizer = pretrain.learn(training, pretrained, settings, place, arm.languages, per_image, arm.style)
        logits = zero_shot.predict(network, tokenizer, held_out, arm.languages, PROMPTS, arm.style)
        return {
            task.name: metrics.scores(task.targets, logits[task.name], task.ordinal)["auc"] for task in held_out.tasks
        }

    return runs.cached(place.with_suffix(".json"), key, compute)


def compare(arms: Mapping[str, Sequence[Mapping[str, float]]]) -> list[dict]:
    """One row an arm: its AUC, mean over tasks and seeds, and its difference to the reference, seed by seed, with
    t-intervals over seeds and a paired t-test, Holm-corrected. ``arms`` holds what ``evaluate`` gave for each seed, in
    the same order for all arms."""
    means = {name: np.array([np.mean(list(aucs.values())) for aucs in seeds]) for name, seeds in arms.items()}
    others = [name for name in means if name != REFERENCE]
    against = [paired(means[name], means[REFERENCE]) for name in others]
    compared = dict(zip(others, adjusted(against), strict=True))
    return [
        {"arm": name, "auc": over_seeds(values), "against": compared.get(name), "seeds": values.tolist()}
        for name, values in means.items()
    ]


def table(rows: Sequence[dict]) -> pandas.DataFrame:
    """One row an arm, the best first; * where the difference to the reference is significant."""
    best_first = sorted(rows, key=lambda row: -row["auc"].value)
    text = "{against.difference:+.3f}{against.star}"
    shown = [{**row, "difference": text.format_map(row) if row["against"] else ""} for row in best_first]
    return tables.table(shown, ("set", "mean AUC", "difference"), **{"set": "{arm}", "mean AUC": "{auc}"})


def verdict(rows: Sequence[dict]) -> str:
    """Which arms differ from the reference by more than chance over seeds, in words."""
    compared = {row["arm"]: row["against"] for row in rows if row["against"] and row["against"].p is not None}
    if not compared:
        return "One seed was run: nothing is said of what differs by chance."
    sure = {name: against.difference.value for name, against in compared.items() if against.star}
    parts = [
        f"{word} than everything: {', '.join(names)}"
        for word, sign in (("worse", -1), ("better", 1))
        if (names := [name for name, value in sure.items() if sign * value > 0])
    ]
    return f"Over {len(rows[0]['seeds'])} seeds, {'; '.join(parts) or 'no arm differs by more than chance'}."
