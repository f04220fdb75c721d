"""Stage 06: which parts of the phantoms, and of what is learnt from them, hold on real eyes.

The model is trained on phantoms from which one part is left out, and asked by sentences of photographs that are there
to choose by: ``train`` splits, and sets for development. No report quotes them as a result, so that what is learnt here
may choose how phantoms are drawn; ``choices`` says by which rule.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas
from sklearn.metrics import roc_auc_score
from transformers import PreTrainedTokenizerBase

from visionclip import keys, phantom, runs, streams
from visionclip.data import field_of_view, folders, images, phantoms
from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import Dataset, Task
from visionclip.evaluation import blind, choices, scoring, zero_shot
from visionclip.evaluation.intervals import adjusted, paired, score_over_seeds
from visionclip.models import sampling, saved
from visionclip.models.generator import VisionCLIPDDPMPipeline
from visionclip.models.visionclip import VisionCLIP
from visionclip.stages import pretrain
from visionclip.stages import referee as referees
from visionclip.stages.referee import Referee
from visionclip.stages.synthesis import GENERATED, HELD_OUT, draw_set
from visionclip.streams import Stream
from visionclip.text.grammar import PLAIN, Style
from visionclip.training.contrastive import Settings

REFERENCE, GENERATED_ALONE = "everything", "generated alone"
ALL = "mean of the tasks"
TRAINING = "training phantoms of the ablation"
NEEDED = "an arm with {} needs a {}; give {} of 01-synthesis"
TRIES = 3  # generations of an eye that the referee doubts
TWINS = 0.35  # healthy twins, as a share of the other eyes
LANGUAGES, CAPTIONS, PROMPTS = ("en",), 4, 6  # of the arms: words, captions an image, prompts
BESIDE = 6  # arms in one table, beside the reference
SHOWN = ("red", "green", "blue", "contrast", "sharpness", "dark width", "bright width")


@dataclass(frozen=True)
class Arm:
    """An ablation arm: factors of the phantoms that are fixed, healthy twins as a share of the other eyes (0 to 1),
    strength of the augmentation (0 to 1), the weights of what is learnt beside the captions, and the share (0 to 1) of
    the eyes that the generator draws from their layouts in place of the renderer, in how many steps (None: its own) and
    whether the referee rejects those whose label it doubts; the contrastive loss, whether the text tower has a warm-up,
    languages and style of captions and prompts, and whether images are seen in plain RGB."""

    fixed: Mapping[str, object] = field(default_factory=dict)
    twins: float = TWINS
    augmentation: float = 1.0
    condition_weight: float = 3.0
    map_weight: float = 1.0
    generated: float = 0.0
    steps: int | None = None
    rejection: bool = False
    loss: str = "multi_positive"
    warmup: bool = True
    languages: tuple[str, ...] = LANGUAGES
    style: Style = PLAIN
    plain_colours: bool = False

    @property
    def eyes(self) -> str:
        """What tells arms apart by their eyes, whoever draws them."""
        return keys.digest([dict(self.fixed), self.twins])


CAMERA = {"camera": "canon", "colour": "neutral", "exposure": 1.0}
OPTICS = {
    "blur": 0,
    "noise": 0.004,
    "haze": 0.1,
    "vignette": 0.3,
    "unevenness": 0.2,
    "aberration": 0,
    "tint": 0,
    "saturation": 1,
    "local_contrast": 0,
    "sharpening": 0,
    "jpeg_quality": 100,
}
# What is left out or drawn in one way alone, by name. A fixed factor overrides what a disease would draw: the scored
# diseases keep their signs.
ARMS: dict[str, Arm] = {
    REFERENCE: Arm(),
    "no camera": Arm(CAMERA | {"field_shape": "circle", "field_radius": 3.2} | OPTICS),
    "no look-alikes": Arm(
        {"hard_drusen": 0, "foveal_reflex": 0, "sheen": 0, "light_reflex": 0}
        | {"flare": 0, "dust": 0, "ghosts": 0, "shadow": 0, "glow": 0, "lashes": 0}
    ),
    "one anatomy": Arm(
        {"pigment": 0.5, "age": 50, "rotation": 0, "gaze": 0.2, "tortuosity": 1.0, "vein_dilation": 1.0}
    ),
    "plausible alone": Arm({"strangeness": 0}),
    "beyond plausible alone": Arm({"strangeness": 0.8}),
    "no minor lesions": Arm({"microaneurysms": 0, "cotton_wool": 0, "flames": 0, "irma": 0}),
    "no healthy twins": Arm(twins=0.0),
    "no augmentation": Arm(augmentation=0.0),
    "no condition loss": Arm(condition_weight=0.0),
    "no finding maps": Arm(map_weight=0.0),
    "captions alone": Arm(condition_weight=0.0, map_weight=0.0),
    "a quarter generated": Arm(generated=0.25),
    "half generated": Arm(generated=0.5),
    "three quarters generated": Arm(generated=0.75),
    GENERATED_ALONE: Arm(generated=1.0),
    "generated alone, 1 step": Arm(generated=1.0, steps=1),
    "generated alone, 2 steps": Arm(generated=1.0, steps=2),
    "generated alone, 8 steps": Arm(generated=1.0, steps=8),
    "a quarter generated, judged": Arm(generated=0.25, rejection=True),
    "half generated, judged": Arm(generated=0.5, rejection=True),
    "three quarters generated, judged": Arm(generated=0.75, rejection=True),
    "generated alone, judged": Arm(generated=1.0, rejection=True),
    "one-hot loss": Arm(loss="clip"),
    "no text warm-up": Arm(warmup=False),
    "Chinese in one wording": Arm(languages=("zh",), style=Style(variety=1)),
    "plain RGB": Arm(plain_colours=True),
    # VisionCLIP's own recipe (arXiv 2403.10823), every departure from it undone at once
    "as published": Arm(
        twins=0.0,
        condition_weight=0.0,
        map_weight=0.0,
        generated=1.0,
        loss="clip",
        warmup=False,
        languages=("zh",),
        style=Style(variety=1),
        plain_colours=True,
    ),
}
SWEEPS: dict[str, tuple[float, ...]] = {
    "cup_to_disc": (0.2, 0.35, 0.5, 0.7, 0.9),
    "pigment": (0, 0.25, 0.5, 0.75, 1),
    "tessellation": (0, 0.25, 0.5, 0.75, 1),
    "lens_opacity": (0, 0.2, 0.4, 0.7, 1),
    "haemorrhages": (0, 5, 20, 60, 150),
    "macular_exudates": (0, 1, 2, 4, 8),
    "drusen": (0, 10, 40, 90, 200),
    "crescent": (0, 0.3, 0.7, 1.2, 2),
    "vein_dilation": (0.7, 1, 1.3, 1.6, 2),
}


def strips(size: int, seed: int) -> dict[str, list[np.ndarray]]:
    """For each factor of ``SWEEPS`` one eye, uint8 S×S×3, at five values of that factor and nothing else changed."""
    still = {**CAMERA, **OPTICS, "haze": 0, "flare": 0, "glow": 0, "shadow": 0, "strangeness": 0}

    def drawn(**changed: float) -> np.ndarray:
        return phantom.render({}, streams.rng(seed, "factor strips"), size, phantom.USUAL, **still, **changed).image

    return {name: [drawn(**{name: value}) for value in values] for name, values in SWEEPS.items()}


def blind_pairs(folder: Path, size: int, count: int, seed: int) -> tuple[blind.Pairs, str] | None:
    """Pairs of ``blind.pairs`` at ``size`` pixels from the first set to choose by whose owner lets a report show it,
    with the credit that is due; None where there is no such set."""
    for path in folders.find(folder):
        if folders.credit(path.name) and folders.has_rows(path, folders.TRAIN):
            photographed = folders.load(path, size, folders.TRAIN)
            return blind.pairs(photographed, count, seed), folders.credit(path.name)
    return None


def appearance(pixels: np.ndarray) -> pandas.DataFrame:
    """What eyes look like at a glance, a row for each of uint8 N×S×S×3, inside the field.

    Mean ``red``, ``green``, ``blue`` (0 to 255); ``contrast``, the spread of green about its surroundings;
    ``sharpness``, the mean absolute Laplacian; ``dark width`` and ``bright width``, the mean radius in hundredths of
    the side at which closing or opening removes structures of green (granulometry, Matheron 1975): vessels and blood,
    exudates and reflexes.
    """
    return pandas.DataFrame([_appearance(image) for image in pixels], columns=SHOWN)


def _appearance(image: np.ndarray) -> list[float]:
    size = len(image)
    inside = cv2.erode(field_of_view.visible(image).astype(np.uint8), np.ones((5, 5))) > 0
    inside = inside if inside.any() else np.ones_like(inside)
    green = image[..., 1]
    flat = green.astype(np.float32) - cv2.GaussianBlur(green.astype(np.float32), (0, 0), size / 18)
    laplacian = np.abs(cv2.Laplacian(green.astype(np.float32), cv2.CV_32F))
    radii = range(1, max(size // 16, 2) + 1)
    widths = []
    for operation in (cv2.MORPH_CLOSE, cv2.MORPH_OPEN):
        level, removed = green.astype(np.float32), []
        for radius in radii:
            brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
            coarser = cv2.morphologyEx(green, operation, brush).astype(np.float32)
            removed.append(float(np.abs(coarser - level)[inside].mean()))
            level = coarser
        widths.append(100 / size * float(np.dot(radii, removed)) / max(sum(removed), 1e-6))
    return [*image[inside].mean(0), flat[inside].std(), laplacian[inside].mean(), *widths]


def distance_table(drawn: pandas.DataFrame, real: Mapping[str, pandas.DataFrame]) -> pandas.DataFrame:
    """For each real set and quantity the median of phantoms and of photographs, and how well the quantity alone tells
    the two apart: its AUC, 0.5 where they overlap."""
    rows = []
    for name, table in real.items():
        for quantity in SHOWN:
            values = np.concatenate([drawn[quantity], table[quantity]])
            auc = roc_auc_score(np.arange(len(values)) >= len(drawn), values)
            medians = {"phantoms": drawn[quantity].median(), "photographs": table[quantity].median()}
            rows.append({"dataset": name, "quantity": quantity, **medians, "separability": max(auc, 1 - auc)})
    return pandas.DataFrame(rows)


def draw(
    arm: Arm,
    count: int,
    size: int,
    seed: int,
    workers: int = 0,
    ranges: phantom.Ranges = phantom.USUAL,
    pipeline: VisionCLIPDDPMPipeline | None = None,
    judge: Referee | None = None,
) -> LabelledImages:
    """``Sets`` of one arm alone: ``count`` phantoms as it draws them.

    Raises as ``Sets.of``.
    """
    return Sets([arm], count, size, seed, pipeline, judge, workers, ranges).of(arm)


@dataclass(eq=False)
class Sets:
    """The training sets of ``arms`` under one seed, ``count`` phantoms each with finding maps, prepared as photographs
    are. What several arms share is drawn once.

    Those that are generated are the same eyes, by the ``pipeline`` from their conditions and layouts, so that arms of
    another share differ in nothing but who draws them, and a smaller share is part of a larger one. Of an arm with
    rejection those that the ``judge`` doubts are generated again, ``TRIES`` times in all, and what it doubts still is
    left to the renderer. ``workers`` processes draw (0: as many as cores), ``ranges`` say how factors vary.
    """

    arms: Sequence[Arm]
    count: int
    size: int
    seed: int
    pipeline: VisionCLIPDDPMPipeline | None = None
    judge: Referee | None = None
    workers: int = 0
    ranges: phantom.Ranges = phantom.USUAL
    kept: dict = field(default_factory=dict)

    def of(self, arm: Arm) -> LabelledImages:
        """What the arm learns from.

        Raises:
            ValueError: eyes are to be generated, and there is no pipeline; or judged, and there is no judge.
        """
        drawer, judge = self.pipeline, self.judge
        if arm.generated and drawer is None:
            raise ValueError(f"transfer: {NEEDED.format('generated eyes', 'generator', 'the pipeline')}")
        if arm.rejection and judge is None:
            raise ValueError(f"transfer: {NEEDED.format('rejection', 'referee', 'that')}")
        drawn = self._once(self._rendered, arm)
        if not arm.generated or drawer is None:
            return drawn
        pixels, kept = self._once(self._generated, arm, drawer, steps=arm.steps), np.ones(self.count, bool)
        if arm.rejection and judge is not None:
            pixels, doubted = self._once(self._judged, arm, drawer, judge, steps=arm.steps)
            kept = ~doubted
        first = slice(round(self.count * arm.generated))
        places = self._places[first][kept[first]]
        mixed = drawn.pixels.copy()
        mixed[places] = images.resized(pixels[first][kept[first]], self.size)
        generated = set(places.tolist())
        sources = [GENERATED if place in generated else source for place, source in enumerate(drawn.sources)]
        return replace(drawn, pixels=mixed, sources=sources)

    def _once(self, make: Callable[..., Any], arm: Arm, *makers: object, steps: int | None = None) -> Any:
        key = make.__name__, arm.eyes, steps
        if key not in self.kept:
            self.kept[key] = make(arm, *makers)
        return self.kept[key]

    @property
    def _places(self) -> np.ndarray:
        """The places of all eyes in the order in which they are generated, int N."""
        return streams.rng(self.seed, "eyes that are generated").permutation(self.count)

    def _eyes(self, arm: Arm) -> tuple[list[dict[str, int]], list[Stream]]:
        return phantoms.with_healthy_twins(self.count, arm.twins, self.seed, TRAINING)

    def _rendered(self, arm: Arm) -> LabelledImages:
        eyes, drawn_from = self._eyes(arm)
        label = f"phantoms, seed {self.seed}, {self.size} px"
        return self._draw(arm, eyes, drawn_from, self.size, label, "findings")

    def _draw(self, arm: Arm, eyes: list, drawn_from: list, size: int, label: str, masks: str | None) -> LabelledImages:
        return phantoms.draw(eyes, drawn_from, size, label, self.workers, arm.fixed, masks=masks, ranges=self.ranges)

    def _plan(self, arm: Arm, drawer: VisionCLIPDDPMPipeline) -> LabelledImages:
        """The layouts of the largest share that any arm of these eyes wants, at the generator's size."""
        share, config = max(other.generated for other in self.arms if other.eyes == arm.eyes), drawer.unet.config
        eyes, drawn_from = self._eyes(arm)
        places = self._places[: round(self.count * share)]
        own = [eyes[place] for place in places], [drawn_from[place] for place in places]
        masks = "layout" if config.layout else None
        return self._draw(arm, *own, config.size, f"layouts, seed {self.seed}", masks)

    def _generated(self, arm: Arm, drawer: VisionCLIPDDPMPipeline) -> np.ndarray:
        plan = self._once(self._plan, arm, drawer)
        places = self._places[: len(plan)]
        return sampling.sample(drawer, plan.vectors, plan.masks, arm.steps, seed=self.seed, places=places)

    def _judged(self, arm: Arm, drawer: VisionCLIPDDPMPipeline, judge: Referee) -> tuple[np.ndarray, np.ndarray]:
        plan = self._once(self._plan, arm, drawer)
        first = self._once(self._generated, arm, drawer, steps=arm.steps)
        return referees.drawn_again(judge, first, drawer, plan, TRIES, self.seed, bf16=False)


def held_out(count: int, size: int, seed: int) -> Dataset:
    """``count`` phantoms of ``size`` pixels that train no arm, with a task for each condition."""
    return scoring.phantom_tasks(draw_set(count, HELD_OUT, seed, size, 0.0))


def tasks_of(datasets: Sequence[Dataset]) -> dict[str, tuple[Dataset, Task]]:
    """The two-class tasks, by dataset and name."""
    return {
        f"{dataset.name} {task.name}": (dataset, task)
        for dataset in datasets
        for task in scoring.two_class_tasks(dataset)
    }


def predict(
    folder: Path,
    name: str,
    eyes: Callable[[], LabelledImages],
    datasets: Sequence[Dataset],
    count: int,
    updates: int,
    size: int,
    seed: int,
    makers: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Train the arm ``name`` on its ``eyes`` (``count`` phantoms of ``size`` pixels, some by the ``makers``, digests of
    the generator and of the referee) and return, for each of ``tasks_of``, the logits N of the second class; kept below
    ``folder`` and read back, without drawing."""
    arm, tasks, settings = ARMS[name], tasks_of(datasets), settings_of(ARMS[name], updates, seed)
    pixels = keys.arrays(*(dataset.images.pixels for dataset in datasets))
    classes = {place: task.classes for place, (_, task) in tasks.items()}
    drawn_by = list(makers[: 1 + arm.rejection]) if arm.generated else []
    key = settings.key(arm, classes, pixels, count, size, drawn_by, keys.code(__file__))
    place = folder / f"{name}-{size}-{seed}".replace(" ", "-")

    def compute() -> dict[str, np.ndarray]:
        network, tokenizer = learn(arm, eyes(), settings, place)
        return rank(network, tokenizer, datasets, arm.languages, arm.style)

    kept = runs.cached(place.with_suffix(".json"), key, compute)
    return {task: np.array(logits) for task, logits in kept.items()}


def settings_of(arm: Arm, updates: int, seed: int) -> Settings:
    """How the small model of an arm trains."""
    return Settings(
        updates=updates,
        batch_size=32,
        learning_rate=3e-3,
        loss=arm.loss,
        text_warmup=updates // 2 if arm.warmup else 0,
        ema=0.98,
        augmentation=arm.augmentation,
        condition_weight=arm.condition_weight,
        map_weight=arm.map_weight,
        precision="auto",
        seed=seed,
    )


def learn(
    arm: Arm, eyes: LabelledImages, settings: Settings, place: Path
) -> tuple[VisionCLIP, PreTrainedTokenizerBase]:
    """The small model that an arm makes of these eyes, and its tokenizer; a stopped training goes on from ``place``."""
    sizes = {**pretrain.SMALL, "loss": arm.loss, "plain_colours": arm.plain_colours}
    return pretrain.learn(eyes, sizes, settings, place, arm.languages, CAPTIONS, arm.style)


def rank(
    network: VisionCLIP, tokenizer, datasets: Sequence[Dataset], languages: Sequence[str], style: Style = PLAIN
) -> dict[str, np.ndarray]:
    """For each of ``tasks_of`` how surely each of N images is of the second class: the difference of its logits."""
    logits = {one.name: zero_shot.predict(network, tokenizer, one, languages, PROMPTS, style) for one in datasets}
    return {name: logits[dataset.name][task.name] @ [-1.0, 1.0] for name, (dataset, task) in tasks_of(datasets).items()}


def predict_all(
    folder: Path,
    names: Sequence[str],
    seeds: Sequence[int],
    datasets: Sequence[Dataset],
    count: int,
    updates: int,
    size: int,
    pipeline: VisionCLIPDDPMPipeline | None = None,
    judge: Referee | None = None,
) -> dict[str, list[dict[str, np.ndarray]]]:
    """For each arm what ``predict`` gives for every seed; what several arms share is drawn once a seed."""
    found = defaultdict(list)
    makers = [sampling.key(pipeline), saved.key(judge.network) if judge else ""]
    for seed in seeds:
        sets = Sets([ARMS[name] for name in names], count, size, seed, pipeline, judge)
        for name in names:
            eyes = partial(sets.of, ARMS[name])  # drawn if the arm isn't kept
            found[name].append(predict(folder, name, eyes, datasets, count, updates, size, seed, makers))
    return {name: found[name] for name in names}


def compare(arms: Mapping[str, Sequence[Mapping[str, np.ndarray]]], datasets: Sequence[Dataset]) -> list[dict]:
    """One row an arm and task, the means of all first (``ALL`` of photographs, and of phantoms, whose tasks have no row
    of their own): its AUC (0 to 1), mean over seeds, and its difference to the reference, seed by seed, with
    t-intervals over seeds and a paired t-test, Holm-corrected over the arms of each task.

    ``arms`` holds of each arm what ``predict`` gave for each seed, in the same order for all arms; ``REFERENCE`` is one
    of them.
    """
    aucs = {arm: _with_means(of_arm, datasets) for arm, of_arm in _aucs(arms, datasets).items()}
    rows = []
    for task in aucs[REFERENCE] if datasets else ():
        others = [arm for arm in aucs if arm != REFERENCE]
        against = adjusted([paired(aucs[arm][task], aucs[REFERENCE][task]) for arm in others])
        compared = dict(zip(others, against, strict=True))
        rows += [
            {
                "arm": arm,
                "task": task,
                "auc": score_over_seeds(of_arm[task]),
                "seeds": of_arm[task].tolist(),
                "against": compared.get(arm),
            }
            for arm, of_arm in aucs.items()
        ]
    return rows


def _with_means(aucs: dict[str, np.ndarray], datasets: Sequence[Dataset]) -> dict[str, np.ndarray]:
    drawn = {name for name, (dataset, _) in tasks_of(datasets).items() if dataset.name == scoring.PHANTOMS}
    photographs = {name: of_task for name, of_task in aucs.items() if name not in drawn}
    of_all = {ALL: photographs, scoring.PHANTOMS: {name: aucs[name] for name in aucs if name in drawn}}
    return {name: np.mean([*part.values()], axis=0) for name, part in of_all.items() if part} | photographs


def by_set(arms: Mapping[str, Sequence[Mapping[str, np.ndarray]]], datasets: Sequence[Dataset]) -> choices.Scores:
    """What each arm (see ``compare``) reaches on each dataset, the mean AUC over its tasks, float R: one a seed."""
    names: dict[str, list[str]] = defaultdict(list)
    for name, (dataset, _) in tasks_of(datasets).items():
        names[dataset.name].append(name)
    aucs = _aucs(arms, datasets)
    return {
        arm: {dataset: np.mean([of_arm[name] for name in own], axis=0) for dataset, own in names.items()}
        for arm, of_arm in aucs.items()
    }


def _aucs(
    arms: Mapping[str, Sequence[Mapping[str, np.ndarray]]], datasets: Sequence[Dataset]
) -> dict[str, dict[str, np.ndarray]]:
    """Of each arm the AUC of each task, float R: one a seed."""
    tasks = {name: task for name, (_, task) in tasks_of(datasets).items()}
    return {
        arm: {name: np.array([_auc(task, of_seed[name]) for of_seed in seeds]) for name, task in tasks.items()}
        for arm, seeds in arms.items()
    }


def _auc(task: Task, logits: np.ndarray) -> float:
    targets, of_known = scoring.known(task, logits)
    return float(roc_auc_score(targets, of_known))


def tables(rows: Sequence[dict]) -> list[pandas.DataFrame]:
    """Tasks by arms: the AUC of the reference, and of the others their difference to it; * where it is significant.
    Each table has the reference and at most ``BESIDE`` others."""
    others = [arm for arm in dict.fromkeys(row["arm"] for row in rows) if arm != REFERENCE]
    parts = [others[start : start + BESIDE] for start in range(0, len(others), BESIDE)] or [[]]
    return [_table([row for row in rows if row["arm"] in (REFERENCE, *part)]) for part in parts if rows]


def _table(rows: Sequence[dict]) -> pandas.DataFrame:

    def cell(row: dict) -> str:
        against = row["against"]
        return str(row["auc"]) if row["arm"] == REFERENCE else f"{against.difference:+.3f}{against.star}"

    return (
        pandas.DataFrame({"arm": row["arm"], "task": row["task"], "cell": cell(row)} for row in rows)
        .pivot(index="task", columns="arm", values="cell")
        .reindex(columns=dict.fromkeys(row["arm"] for row in rows), index=dict.fromkeys(row["task"] for row in rows))
    )
