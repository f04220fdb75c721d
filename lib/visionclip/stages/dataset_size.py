"""Stage 05: gather the points that the graph ran (stages 03 and 04 over sizes × seeds) into a curve."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas

from visionclip import runs
from visionclip.evaluation import metrics
from visionclip.evaluation.zero_shot import PHANTOMS
from visionclip.stages.sweep import Sweep

WORTH = 0.01  # AUC that a doubling must add, for returns not to diminish


def run_missing(out: str | Path, sweep: Sweep, preset: str) -> None:
    """Let the graph run the points that are not there yet; nothing to do where it has called this notebook itself.

    Raises:
        FileNotFoundError: a point is missing and the sweep or ``out`` are not the preset's own, so that the graph does
            not know it.
        RuntimeError: a point failed; the message names the log.
    """
    cards = [runs.resolve(out) / "points" / name / "04-zero-shot" / "card.json" for name in sweep.folders]
    missing = [runs.relative(card) for card in cards if not card.is_file()]
    if not missing:
        return
    command = [sys.executable, "-m", "snakemake", "--cores", "all", "--config", f"preset={preset}", "--", *missing]
    done = subprocess.run(command, cwd=runs.ROOT, capture_output=True, text=True, check=False)
    if "MissingRuleException" in done.stderr:
        raise FileNotFoundError(
            f"{missing[0]}: not a point of params/{preset}/05-dataset-size.yaml; put its parameters there first"
        )
    if done.returncode:
        raise RuntimeError(f"a point failed; see runs/{preset}/logs ({done.stderr.strip().splitlines()[-1]})")


def points(folder: Path, sweep: Sweep) -> pandas.DataFrame:
    """One row for each schedule, size, seed, dataset and task, with its AUC and ACA (0 to 1).

    Raises:
        FileNotFoundError: a point has not been run; the message names it.
    """
    rows = []
    for schedule in sweep.schedules:
        for name in sweep.names(schedule).values():
            runs.require(folder / name / "04-zero-shot", "04-zero-shot")
            used = runs.require(folder / name / "03-pretrain", "03-pretrain")["parameters"]
            for result in runs.read_json(folder / name / "04-zero-shot" / "numbers.json")["results"]:
                rows.append(
                    {
                        "schedule": schedule,
                        "images": used["images"],
                        "updates": used["updates"],
                        "seed": used["seed"],
                        "dataset": result["dataset"],
                        "task": result["task"],
                        **{score: result[score]["value"] for score in ("auc", "aca")},
                    }
                )
    return pandas.DataFrame(rows)


def shares(folder: Path, sweep: Sweep) -> dict[str, float]:
    """The share (0 to 1) of each source in the largest point's training set."""
    largest = sweep.names(sweep.schedules[0])[max(sweep.sizes), sweep.seeds[0]]
    return runs.read_json(folder / largest / "03-pretrain" / "numbers.json")["shares"]


def _by_seed(table: pandas.DataFrame, score: str) -> pandas.DataFrame:
    """The mean over tasks, a row for each schedule, dataset, size and seed."""
    return table.groupby(["schedule", "dataset", "images", "seed"], sort=True)[score].mean().reset_index(name="value")


def curve(table: pandas.DataFrame, score: str = "auc") -> pandas.DataFrame:
    """Mean over tasks, then over seeds with a 95 % t-interval: a row for each schedule, dataset and size."""
    rows = [
        {"schedule": schedule, "dataset": dataset, "images": images, **metrics.summary_interval(of_size["value"])}
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
    told = [
        {
            "name": f"mean AUC, {first['images']:.0f} to {last['images']:.0f} images",
            "value": f"{first['value']:.3f} to {last['value']:.3f}",
        }
    ]
    if fit is not None:
        value = f"{fit['exponent']:.2f} [{fit['low']:.2f}, {fit['high']:.2f}]"
        told.append({"name": "exponent of the error", "value": value})
    return told
