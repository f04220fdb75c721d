"""Stage 05: VisionCLIP trained on parts of the synthetic set (sizes × seeds), and the curve through what they reach."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas

from visionclip import keys, runs
from visionclip.data import folders, listing, pairs
from visionclip.evaluation import metrics, scoring, zero_shot
from visionclip.evaluation.intervals import Interval, over_seeds
from visionclip.evaluation.scoring import PHANTOMS
from visionclip.stages import pretrain
from visionclip.stages.sweep import Point, Sweep
from visionclip.text.tokenizer import load_tokenizer
from visionclip.training import contrastive

WORTH = 0.01  # AUC that a doubling must add, for returns not to diminish
PROMPTS = 6  # wordings of each condition in each language of the captions
POINTS = "points"
EARLIER = {"synthesis": "01-synthesis", "captions_folder": "02-captions"}  # stages whose sets a point takes


def point(one: Point, out: str | Path, text_warmup: int, sources: Mapping[str, str]) -> list[dict]:
    """The AUC and ACA (0 to 1) of every task after the training ``one``, kept below ``out`` and read back.

    ``sources`` are the folders of the stages 01 (``synthesis``), 02 (``captions_folder``) and 03 (``pretrained``,
    whose other parameters are taken), and of the photographs (``external``).
    """
    parameters = pretrain.parameters_of(sources["pretrained"])
    settings = pretrain.settings(parameters, updates=one.updates, seed=one.seed, text_warmup=text_warmup)
    cards = [runs.require(sources[name], stage) for name, stage in EARLIER.items()]
    external = folders.external_folder(sources["external"])
    made_by = [asdict(one), settings.key(), parameters, [card["outputs"] for card in cards]]
    made_by.append(pretrain.tower_key(parameters))
    key = keys.digest([*made_by, listing.fingerprint(external), keys.code(__file__)])
    folder = runs.resolve(out) / POINTS

    def compute() -> list[dict]:
        whole = pairs.load(sources["synthesis"], sources["captions_folder"], "synthetic", held=0)
        training = whole.subset(one.images, one.seed).held_at(settings.size)
        of_captions = load_tokenizer(runs.resolve(sources["captions_folder"]) / "tokenizer")
        tokenizer = pretrain.words(parameters, of_captions)
        network = pretrain.network(parameters, len(tokenizer), one.seed)
        contrastive.train(network, tokenizer, training, settings, folder / one.name)
        held_out = pairs.load(sources["synthesis"], sources["captions_folder"], "validation").at(settings.size).images
        rows = []
        for dataset in [scoring.phantom_tasks(held_out), *scoring.load_all(external, settings.size)]:
            logits = zero_shot.predict(network, tokenizer, dataset, cards[1]["parameters"]["languages"], PROMPTS)
            for task in dataset.tasks:
                scores = metrics.scores(*scoring.known(task, logits[task.name]), task.ordinal)
                row = {"dataset": dataset.name, "task": task.name, "auc": scores["auc"], "aca": scores["aca"]}
                rows.append({"images": one.images, "updates": one.updates, "seed": one.seed, **row})
        return rows

    return runs.cached(folder / f"{one.name}.json", key, compute)


def points(sweep: Sweep, out: str | Path, text_warmup: int, sources: Mapping[str, str]) -> pandas.DataFrame:
    """One row for each schedule, size, seed, dataset and task, with its AUC and ACA; points not made yet are made."""
    rows = {name: point(one, out, text_warmup, sources) for name, one in sweep.by_name.items()}
    return pandas.DataFrame(
        {"schedule": schedule, **row}
        for schedule in sweep.schedules
        for one in sweep.points(schedule)
        for row in rows[one.name]
    )


def _by_seed(table: pandas.DataFrame, score: str) -> pandas.DataFrame:
    """The mean over tasks, a row for each schedule, dataset, size and seed."""
    return table.groupby(["schedule", "dataset", "images", "seed"], sort=True)[score].mean().reset_index(name="value")


def curve(table: pandas.DataFrame, score: str = "auc") -> pandas.DataFrame:
    """The mean over tasks and seeds with its interval over seeds, a row for each schedule, dataset and size."""
    rows = [
        {"schedule": schedule, "dataset": dataset, "images": images, **asdict(over_seeds(of_size["value"]))}
        for (schedule, dataset, images), of_size in _by_seed(table, score).groupby(["schedule", "dataset", "images"])
    ]
    return pandas.DataFrame(rows)


def fits(table: pandas.DataFrame, schedule: str) -> dict[str, dict | None]:
    """A power law of the error (1 - AUC) for each dataset, through the means over tasks of every seed, each of which is
    a training of its own; None where fewer than three sizes were run."""
    of_schedule = _by_seed(table[table["schedule"] == schedule], "auc")
    return {
        str(dataset): metrics.power_law(rows["images"].to_numpy(), 1 - rows["value"].to_numpy())
        for dataset, rows in of_schedule.groupby("dataset")
    }


def diminishing(fit: dict | None) -> float | None:
    """The number of images from which a doubling adds less than ``WORTH`` AUC, by the fitted law; None without one that
    falls for sure."""
    if fit is None or fit["low"] <= 0:
        return None
    gained = fit["coefficient"] * (1 - 2 ** -fit["exponent"])  # by doubling from one image
    return float((gained / WORTH) ** (1 / fit["exponent"]))


def levelled(of_dataset: pandas.DataFrame) -> int | None:
    """The smallest size that was run from which on every doubling added less than ``WORTH`` AUC, as measured; None if
    the last step still added more. ``of_dataset`` are the rows of a curve."""
    rows = of_dataset.sort_values("images")
    sizes, means = rows["images"].to_numpy(), rows["value"].to_numpy()
    slow = np.diff(means) / np.diff(np.log2(sizes)) < WORTH
    fast = np.flatnonzero(~slow)
    first = fast[-1] + 1 if fast.size else 0
    return int(sizes[first]) if first < len(slow) else None


def verdict(curves: pandas.DataFrame, fit: dict | None, dataset: str = PHANTOMS) -> str:
    """Whether returns diminish on ``dataset``, in words: what the fitted law says of the next doubling, and where the
    measured curve levels off."""
    if fit is None:
        return "Fewer than three sizes were run: no law is fitted, and nothing is said of returns."
    interval = f"(95 % interval {fit['low']:.2f} to {fit['high']:.2f})"
    if fit["low"] <= 0:
        return (
            f"On {dataset} the fitted exponent is {fit['exponent']:.2f} {interval}: "
            "these points do not show that more images help."
        )
    of_dataset = curves[curves["dataset"] == dataset]
    largest, point = of_dataset["images"].max(), diminishing(fit)
    gain = fit["coefficient"] * largest ** -fit["exponent"] * (1 - 2 ** -fit["exponent"])
    words = "returns diminish" if gain < WORTH else "returns do not diminish yet"
    beyond = ", beyond the sizes run" if point > largest else ""
    level = levelled(of_dataset)
    measured = f"from {level} images on no doubling" if level else "no size run is so large that a doubling"
    return (
        f"On {dataset} the error falls as images^-{fit['exponent']:.2f} {interval}; by this law doubling from "
        f"{largest:.0f} adds about {gain:.3f} AUC: {words}, and a doubling adds less than {WORTH} from about "
        f"{point:.2g} images{beyond}. As measured, {measured} adds {WORTH if level else f'less than {WORTH}'}."
    )


def headline(curves: pandas.DataFrame, fits: dict[str, dict | None]) -> list[dict[str, str]]:
    """For the index page: the phantoms' AUC at the smallest and largest size and the exponent of the fitted law."""
    rows = curves[curves["dataset"] == PHANTOMS].sort_values("images")
    first, last, fit = rows.iloc[0], rows.iloc[-1], fits[PHANTOMS]
    ends = f"mean AUC, {first['images']:.0f} to {last['images']:.0f} images"
    shown = {ends: f"{first['value']:.3f} to {last['value']:.3f}"}
    if fit is not None:
        shown["exponent of the error"] = f"{Interval(fit['exponent'], fit['low'], fit['high']):.2f}"
    return [{"name": name, "value": value} for name, value in shown.items()]
