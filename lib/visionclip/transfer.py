"""Stage 06: which parts of the phantoms and of the preprocessing teach a model real eyes.

A small classifier is taught on phantoms from which one part is left out, and asked about real photographs of the
``train`` splits, which no report scores: what is found here may choose how phantoms are drawn.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas
import torch
from sklearn.metrics import roc_auc_score

from visionclip import conditions, external, fidelity, images, phantom, runs, statistics, zeroshot
from visionclip.external import Dataset, Task

WHOLE = "everything"
SHOWN = ("red", "green", "blue", "contrast", "sharpness", "dark width", "bright width")


@dataclass(frozen=True)
class Arm:
    """One way to teach the classifier: factors of the phantoms that are fixed, and how their images are prepared."""

    fixed: Mapping[str, object] = field(default_factory=dict)
    augmentation: float = 1.0
    standardised: bool = True


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
    found = external.find(folder) if folder.is_dir() else []
    return [external.load(path, size, train) for path in found if external.has_rows(path, train)]


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


def eyes_of(count: int, seed: int) -> list[dict[str, int]]:
    """The conditions that every arm draws, balanced over the vocabulary, a twentieth with a readability fault."""
    return conditions.balanced(count, np.random.default_rng([seed, 6, 1]), 0.05)


def draw(eyes: Sequence[dict[str, int]], arm: Arm, seed: int, size: int, label: str, workers: int = 0) -> np.ndarray:
    """Phantoms uint8 N×S×S×3 of these conditions as the arm fixes them, prepared as photographs are."""
    seeds = [[seed, 6, index] for index in range(len(eyes))]
    return np.stack(list(phantom.render_each(eyes, seeds, size, partial(_prepared, size), label, workers, arm.fixed)))


def _prepared(size: int, drawn: phantom.Phantom) -> np.ndarray:
    return images.prepare(drawn.image, size)


def teach(pixels: np.ndarray, eyes: Sequence[dict[str, int]], arm: Arm, updates: int, seed: int) -> fidelity.Referee:
    """A classifier of all conditions, taught on phantoms in ``updates`` steps of 64."""
    torch.manual_seed(seed)
    prepare = images.standardise if arm.standardised else fidelity.scaled
    return fidelity.train_referee(
        pixels, eyes, updates, batch=64, seed=seed, prepare=prepare, augmentation=arm.augmentation, mirror=False
    )


def ask(referee: fidelity.Referee, datasets: Sequence[Dataset]) -> dict[str, tuple[Task, np.ndarray]]:
    """For each two-class task of each dataset the classifier's log-odds N of its second class."""
    answers = {}
    for dataset in datasets:
        _, logits = referee.judge(dataset.pixels)
        for task in zeroshot.two_class_tasks(dataset):
            facts = [fact for fact in task.classes[1].facts if fact]
            key, value = min((item for fact in facts for item in fact.items()), key=lambda item: item[1])
            answers[f"{dataset.name} {task.name}"] = task, logits[:, fidelity.JUDGED.index(f"{key}>={value}")]
    return answers


def compare(arms: Mapping[str, Mapping[str, tuple[Task, np.ndarray]]]) -> list[dict]:
    """One row an arm and task: its AUC with DeLong's interval, and its difference to everything, p Holm-corrected.

    ``arms`` holds the answers of each arm to the same tasks; ``WHOLE`` is one of them.
    """
    rows = []
    for arm, answers in arms.items():
        for name, (task, odds) in answers.items():
            known = task.targets >= 0
            positive = task.targets[known] == 1
            alone = statistics.delong(positive, odds[known], np.zeros(known.sum()))
            row = {"arm": arm, "task": name, **{k: alone[k] + 0.5 for k in ("low", "high")}}
            row["auc"] = alone["difference"] + 0.5
            row["against"] = statistics.delong(positive, odds[known], arms[WHOLE][name][1][known])
            rows.append(row)
    compared = [row["against"] for row in rows if row["arm"] != WHOLE]
    for told, p in zip(compared, statistics.holm([one["p"] for one in compared]), strict=True):
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


def _digest(eyes: Sequence[dict[str, int]], arm: Arm, seed: int, size: int, datasets: Sequence[Dataset]) -> str:
    """What a few phantoms and all photographs look like: answers kept from another way of drawing are of no use."""
    seen = hashlib.sha256()
    for index, eye in enumerate(eyes):
        seen.update(phantom.render(eye, np.random.default_rng([seed, 6, index]), size, **arm.fixed).image)
    for dataset in datasets:
        seen.update(np.ascontiguousarray(dataset.pixels))
    return seen.hexdigest()[:12]


def answers(
    folder: Path, name: str, datasets: Sequence[Dataset], count: int, updates: int, size: int, seed: int
) -> dict[str, tuple[Task, np.ndarray]]:
    """Teach the arm ``name`` at ``size`` pixels and ask it; its answers are kept below ``folder`` and read back."""
    arm, tasks = ARMS[name], {f"{d.name} {task.name}": task for d in datasets for task in zeroshot.two_class_tasks(d)}
    eyes = eyes_of(count, seed)
    told = {"count": count, "updates": updates, "size": size, "seed": seed, "arm": repr(arm), "tasks": list(tasks)}
    told["pixels"] = _digest(eyes[:4], arm, seed, size, datasets)
    kept = folder / f"{name}-{size}-{seed}.json".replace(" ", "-")
    if kept.is_file() and (read := runs.read_json(kept))["told"] == told:
        return {task: (tasks[task], np.array(odds)) for task, odds in read["odds"].items()}
    referee = teach(draw(eyes, arm, seed, size, f"phantoms: {name}"), eyes, arm, updates, seed)
    found = ask(referee, datasets)
    runs.write_json(kept, {"told": told, "odds": {task: odds.tolist() for task, (_, odds) in found.items()}})
    return found
