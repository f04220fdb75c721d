"""Stage 06: which parts of the phantoms and of the preprocessing teach a model real eyes.

A small reader is taught on phantoms from which one part is left out, and asked about real photographs of the ``train``
splits, which no report scores: what is found here may choose how phantoms are drawn.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pandas
import torch
from sklearn.metrics import roc_auc_score

from visionclip import conditions, phantom, runs
from visionclip.data import folders, images
from visionclip.data.folders import Dataset, Task
from visionclip.evaluation import metrics, zero_shot
from visionclip.models import classifier

WHOLE = "everything"
SHOWN = ("red", "green", "blue", "contrast", "sharpness", "dark width", "bright width")


@dataclass(frozen=True)
class Arm:
    """One way to teach a reader: factors of the phantoms that are fixed, how many diseased eyes (share, 0 to 1) have a
    healthy twin, how their images are prepared, and the weight of the lesion maps."""

    fixed: Mapping[str, object] = field(default_factory=dict)
    twins: float = 0.35
    augmentation: float = 1.0
    standardised: bool = True
    mapping: float = 1.0


# What is left out, by name. A fixed factor overrides what a disease would draw: the scored diseases keep their signs.
ARMS: dict[str, Arm] = {
    WHOLE: Arm(),
    "no camera": Arm(
        {
            "camera": "canon",
            "colour": "neutral",
            "exposure": 1.0,
            "field_shape": "circle",
            "field_radius": 3.2,
            "blur": 0,
            "noise": 0.004,
            "haze": 0.1,
            "vignette": 0.3,
            "unevenness": 0.2,
            "aberration": 0,
            "jpeg_quality": 100,
        }
    ),
    "no look-alikes": Arm(
        {"hard_drusen": 0, "foveal_reflex": 0, "sheen": 0, "flare": 0, "dust": 0, "lashes": 0, "light_reflex": 0}
    ),
    "one anatomy": Arm(
        {"pigment": 0.5, "age": 50, "rotation": 0, "gaze": 0.2, "tortuosity": 1.0, "vein_dilation": 1.0}
    ),
    "no minor lesions": Arm({"microaneurysms": 0, "cotton_wool": 0, "flames": 0, "irma": 0}),
    "no lesion maps": Arm(mapping=0.0),
    "no healthy twins": Arm(twins=0.0),
    "no augmentation": Arm(augmentation=0.0),
    "no standardisation": Arm(standardised=False),
}
SWEEPS: dict[str, tuple[dict[str, int], tuple[float, ...]]] = {
    "cup_to_disc": ({}, (0.2, 0.35, 0.5, 0.7, 0.9)),
    "pigment": ({}, (0, 0.25, 0.5, 0.75, 1)),
    "tessellation": ({}, (0, 0.25, 0.5, 0.75, 1)),
    "lens_opacity": ({}, (0, 0.2, 0.4, 0.7, 1)),
    "haemorrhages": ({}, (0, 5, 20, 60, 150)),
    "macular_exudates": ({}, (0, 1, 2, 4, 8)),
    "drusen": ({}, (0, 10, 40, 90, 200)),
    "crescent": ({}, (0, 0.3, 0.7, 1.2, 2)),
    "vein_dilation": ({}, (0.7, 1, 1.3, 1.6, 2)),
}


def strips(size: int, seed: int) -> dict[str, list[np.ndarray]]:
    """For each factor of ``SWEEPS`` one eye, uint8 S×S×3, at five values of that factor and nothing else changed."""
    still = {
        "haze": 0,
        "blur": 0,
        "flare": 0,
        "unevenness": 0.1,
        "exposure": 1.0,
        "camera": "canon",
        "colour": "neutral",
    }
    return {
        name: [
            phantom.render(eye, np.random.default_rng([seed, 6]), size, **still, **{name: value}).image
            for value in values
        ]
        for name, (eye, values) in SWEEPS.items()
    }


def teachable(folder: Path, size: int) -> list[Dataset]:
    """The ``train`` splits of the dataset folders below ``folder``; none where there is none."""
    train = {"split": "train"}
    found = folders.find(folder) if folder.is_dir() else []
    return [folders.load(path, size, train) for path in found if folders.has_rows(path, train)]


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
    inside = cv2.erode(images.field_of_view(image).astype(np.uint8), np.ones((5, 5))) > 0
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
    """For each real set and quantity the median of phantoms and of photographs, and how well the two can be told apart:
    the AUC of the quantity alone, 0.5 where they overlap."""
    rows = []
    for name, table in real.items():
        for quantity in SHOWN:
            told = np.concatenate([drawn[quantity], table[quantity]])
            auc = roc_auc_score(np.arange(len(told)) >= len(drawn), told)
            medians = {"phantoms": drawn[quantity].median(), "photographs": table[quantity].median()}
            rows.append({"dataset": name, "quantity": quantity, **medians, "told apart": max(auc, 1 - auc)})
    return pandas.DataFrame(rows)


def eyes_of(count: int, twins: float, seed: int) -> tuple[list[dict[str, int]], list[list[int]]]:
    """Conditions and seeds of ``count`` eyes to learn from: balanced over the vocabulary, three in a hundred with a
    readability fault, and a share ``twins`` of them the healthy twin of another: same eye, same photograph, no disease,
    so that only the disease tells the two apart."""
    single = count - int(count * twins / (1 + twins))
    eyes = conditions.balanced(single, np.random.default_rng([seed, 6, 1]), 0.03)
    seeds = [[seed, 6, index] for index in range(single)]
    sick = [index for index, eye in enumerate(eyes) if not conditions.is_normal(eye)][: count - single]
    healthy = dict.fromkeys(conditions.DISEASES, 0)
    return [*eyes, *({**eyes[index], **healthy} for index in sick)], [*seeds, *(seeds[index] for index in sick)]


def lessons(arm: Arm, count: int, seed: int, size: int, label: str, workers: int = 0) -> classifier.Lessons:
    """``count`` phantoms as the arm draws them."""
    return classifier.draw(*eyes_of(count, arm.twins, seed), size, label, workers, arm.fixed)


def scaled(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 or float [0, 255] to float [-1, 1]: what standardisation is compared with."""
    return pixels.float() / 127.5 - 1


def ask(taught: classifier.Reader, arm: Arm, datasets: Sequence[Dataset]) -> dict[str, tuple[Task, np.ndarray]]:
    """For each two-class task of each dataset the reader's log-odds N of its second class, borne out by its maps if the
    arm has them."""
    answers = {}
    for dataset in datasets:
        named, borne_out = classifier.read(taught, dataset.pixels, prepare_of(arm))
        for task in two_class_tasks(dataset):
            logits = classifier.task_logits(task, borne_out if arm.mapping else named)
            answers[f"{dataset.name} {task.name}"] = task, logits @ [-1.0, 1.0]
    return answers


def two_class_tasks(dataset: Dataset) -> list[Task]:
    """The tasks of two classes that a reader can answer."""
    return [task for task in zero_shot.two_class_tasks(dataset) if classifier.can_answer(task)]


def prepare_of(arm: Arm):
    return images.standardise if arm.standardised else scaled


def compare(arms: Mapping[str, Mapping[str, tuple[Task, np.ndarray]]]) -> list[dict]:
    """One row an arm and task: its AUC with DeLong's interval, and its difference to everything, p Holm-corrected.

    ``arms`` holds the answers of each arm to the same tasks; ``WHOLE`` is one of them.
    """
    rows = []
    for arm, answers in arms.items():
        for name, (task, odds) in answers.items():
            known = task.targets >= 0
            positive = task.targets[known] == 1
            alone = metrics.auc_interval(positive, odds[known])
            row = {"arm": arm, "task": name, "auc": alone["value"], "low": alone["low"], "high": alone["high"]}
            row["against"] = metrics.delong(positive, odds[known], arms[WHOLE][name][1][known])
            rows.append(row)
    compared = [row["against"] for row in rows if row["arm"] != WHOLE]
    for told, p in zip(compared, metrics.holm([one["p"] for one in compared]), strict=True):
        told["adjusted_p"] = p
    return rows


def table(rows: Sequence[dict]) -> pandas.DataFrame:
    """Arms by tasks: AUC, and in brackets the difference to everything; * where it differs at an adjusted 5 %."""

    def cell(row: dict) -> str:
        told = row["against"]
        if row["arm"] == WHOLE:
            return f"{row['auc']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        return f"{row['auc']:.3f} ({told['difference']:+.3f}{'*' if told['adjusted_p'] < 0.05 else ''})"

    return (
        pandas.DataFrame({"left out": row["arm"], "task": row["task"], "cell": cell(row)} for row in rows)
        .pivot(index="left out", columns="task", values="cell")
        .reindex(dict.fromkeys(row["arm"] for row in rows))
    )


def digest(arm: Arm, seed: int, size: int, datasets: Sequence[Dataset] = ()) -> str:
    """What a few phantoms and all photographs look like: what is kept from another way of drawing is of no use."""
    seen = hashlib.sha256()
    for eye, chance in zip(*eyes_of(4, arm.twins, seed), strict=True):
        seen.update(phantom.render(eye, np.random.default_rng(chance), size, **arm.fixed).image)
    for dataset in datasets:
        seen.update(np.ascontiguousarray(dataset.pixels))
    return seen.hexdigest()[:12]


def answers(
    folder: Path, name: str, datasets: Sequence[Dataset], count: int, updates: int, size: int, seed: int
) -> dict[str, tuple[Task, np.ndarray]]:
    """Teach a reader as the arm ``name`` does, ``updates`` steps of 24 images of ``size`` pixels, and ask it.

    Its answers are kept below ``folder`` and read back.
    """
    arm, tasks = ARMS[name], {f"{d.name} {task.name}": task for d in datasets for task in two_class_tasks(d)}
    settings = classifier.Settings(
        updates, augmentation=arm.augmentation, mapping=arm.mapping, seed=seed, checkpoint_every=updates
    )
    told = {"count": count, "size": size, "arm": repr(arm), "settings": repr(settings), "tasks": list(tasks)}
    told["pixels"] = digest(arm, seed, size, datasets)
    told["findings"] = repr(classifier.FINDINGS) if arm.mapping else None
    kept = folder / f"{name}-{size}-{seed}.json".replace(" ", "-")
    if kept.is_file() and (read := runs.read_json(kept))["told"] == told:
        return {task: (tasks[task], np.array(odds)) for task, odds in read["odds"].items()}
    taught = classifier.teach(lessons(arm, count, seed, size, f"phantoms: {name}"), settings, prepare_of(arm))
    found = ask(taught, arm, datasets)
    runs.write_json(kept, {"told": told, "odds": {task: odds.tolist() for task, (_, odds) in found.items()}})
    return found
