"""Stage 06: which parts of the phantoms and of the preprocessing hold on real eyes.

A small classifier is trained on phantoms from which one part is left out, and scored on real photographs of the
``train`` splits, which no report quotes: what is learnt here may choose how phantoms are drawn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pandas
from sklearn.metrics import roc_auc_score

from visionclip import keys, phantom, runs, streams
from visionclip.data import field_of_view, folders, images
from visionclip.data.tasks import Dataset, Task
from visionclip.evaluation import classification, scoring
from visionclip.evaluation.intervals import Interval, adjusted, auc_interval, delong
from visionclip.stages import baseline
from visionclip.training.classification import Prepare, Settings, train

REFERENCE = "everything"
TRAINING = "training phantoms of the ablation"
SHOWN = ("red", "green", "blue", "contrast", "sharpness", "dark width", "bright width")


@dataclass(frozen=True)
class Arm:
    """An ablation arm: factors of the phantoms that are fixed, healthy twins as a share of the other eyes (0 to 1), how
    images are prepared, and the weight of the finding maps."""

    fixed: Mapping[str, object] = field(default_factory=dict)
    twins: float = baseline.TWINS
    augmentation: float = 1.0
    standardised: bool = True
    map_weight: float = 1.0

    @property
    def prepare(self) -> Prepare:
        """What makes pixels the classifier's input."""
        return images.standardise if self.standardised else images.scaled


CAMERA = {"camera": "canon", "colour": "neutral", "exposure": 1.0}
OPTICS = {
    "blur": 0,
    "noise": 0.004,
    "haze": 0.1,
    "vignette": 0.3,
    "unevenness": 0.2,
    "aberration": 0,
    "jpeg_quality": 100,
}
# What is left out, by name. A fixed factor overrides what a disease would draw: the scored diseases keep their signs.
ARMS: dict[str, Arm] = {
    REFERENCE: Arm(),
    "no camera": Arm(CAMERA | {"field_shape": "circle", "field_radius": 3.2} | OPTICS),
    "no look-alikes": Arm(
        {"hard_drusen": 0, "foveal_reflex": 0, "sheen": 0, "flare": 0, "dust": 0, "lashes": 0, "light_reflex": 0}
    ),
    "one anatomy": Arm(
        {"pigment": 0.5, "age": 50, "rotation": 0, "gaze": 0.2, "tortuosity": 1.0, "vein_dilation": 1.0}
    ),
    "no minor lesions": Arm({"microaneurysms": 0, "cotton_wool": 0, "flames": 0, "irma": 0}),
    "no lesion maps": Arm(map_weight=0.0),
    "no healthy twins": Arm(twins=0.0),
    "no augmentation": Arm(augmentation=0.0),
    "no standardisation": Arm(standardised=False),
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
    still = {"haze": 0, "blur": 0, "flare": 0, "unevenness": 0.1, **CAMERA}

    def drawn(**changed: float) -> np.ndarray:
        return phantom.render({}, streams.rng(seed, "factor strips"), size, **still, **changed).image

    return {name: [drawn(**{name: value}) for value in values] for name, values in SWEEPS.items()}


def load_train_splits(folder: Path, size: int) -> list[Dataset]:
    """The ``train`` splits of the dataset folders below ``folder``; none where there is none."""
    train = {"split": "train"}
    paths = folders.find(folder)
    return [folders.load(path, size, train) for path in paths if folders.has_rows(path, train)]


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


def tasks_of(datasets: Sequence[Dataset]) -> dict[str, tuple[Dataset, Task]]:
    """The two-class tasks that a classifier can predict, by dataset and name."""
    return {
        f"{dataset.name} {task.name}": (dataset, task)
        for dataset in datasets
        for task in scoring.two_class_tasks(dataset)
        if classification.can_predict(task)
    }


def predictions(
    folder: Path, name: str, datasets: Sequence[Dataset], count: int, updates: int, size: int, seed: int
) -> dict[str, np.ndarray]:
    """Train the arm ``name`` on ``count`` phantoms of ``size`` pixels and return, for each of ``tasks_of``, the logits
    N of the second class; kept below ``folder`` and read back."""
    arm, tasks = ARMS[name], tasks_of(datasets)
    settings = Settings(updates=updates, augmentation=arm.augmentation, map_weight=arm.map_weight, seed=seed)
    pixels = keys.arrays(*(dataset.images.pixels for dataset in datasets))
    classes = {place: task.classes for place, (_, task) in tasks.items()}
    key = settings.key(arm, classes, pixels, count, size, keys.code(__file__))

    def compute() -> dict[str, np.ndarray]:
        drawn = baseline.draw(count, TRAINING, seed, size, arm.twins, fixed=arm.fixed)
        classifier = train(drawn, settings, arm.prepare, label=f"classifier: {name}")
        logits = {}
        for dataset in datasets:
            alone, combined = classification.predict(classifier, dataset.images.pixels, arm.prepare)
            logits[dataset.name] = combined if arm.map_weight else alone
        return {
            place: classification.task_logits(task, logits[dataset.name]) @ [-1.0, 1.0]
            for place, (dataset, task) in tasks.items()
        }

    kept = runs.cached(folder / f"{name}-{size}-{seed}.json".replace(" ", "-"), key, compute)
    return {task: np.array(logits) for task, logits in kept.items()}


def compare(arms: Mapping[str, Mapping[str, np.ndarray]], datasets: Sequence[Dataset]) -> list[dict]:
    """One row an arm and task: its AUC, and its difference to the reference, Holm-corrected over all.

    ``arms`` holds the ``predictions`` of each arm; ``REFERENCE`` is one of them.
    """
    rows: list[dict] = []
    tasks = tasks_of(datasets)
    for arm, of_arm in arms.items():
        for name, logits in of_arm.items():
            targets, both = scoring.known(tasks[name][1], np.stack([logits, arms[REFERENCE][name]], axis=1))
            row = {"arm": arm, "task": name, "auc": auc_interval(targets == 1, both[:, 0])}
            rows.append({**row, "against": delong(targets == 1, *both.T)})
    compared = [row for row in rows if row["arm"] != REFERENCE]
    for row, against in zip(compared, adjusted([row["against"] for row in compared]), strict=True):
        row["against"] = against
    return rows


def table(rows: Sequence[dict]) -> pandas.DataFrame:
    """Arms by tasks: AUC, and in brackets the difference to the reference; * where it is significant."""

    def cell(row: dict) -> str:
        if row["arm"] == REFERENCE:
            return str(row["auc"])
        auc, difference = Interval(row["auc"].value), Interval(row["against"].difference.value)
        return f"{auc} ({difference:+.3f}{row['against'].star})"

    return (
        pandas.DataFrame({"left out": row["arm"], "task": row["task"], "cell": cell(row)} for row in rows)
        .pivot(index="left out", columns="task", values="cell")
        .reindex(dict.fromkeys(row["arm"] for row in rows))
    )
