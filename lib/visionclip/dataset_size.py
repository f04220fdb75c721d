"""Stage 05: gather the points that the graph ran (stages 03 and 04 over sizes × seeds) into a curve."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas

from visionclip import runs, statistics
from visionclip.zeroshot import PHANTOMS


def point_folders(folder: Path, sizes: Sequence[int], seeds: Sequence[int]) -> list[Path]:
    """Where the graph writes the points: one folder for each size and seed, with stages 03 and 04 in it."""
    return [folder / f"n{size}-s{seed}" for size in sizes for seed in seeds]


def run_missing(out: str | Path, sizes: Sequence[int], seeds: Sequence[int], preset: str) -> None:
    """Let the graph run the points that are not there yet; nothing to do where it has called this notebook itself.

    Raises:
        FileNotFoundError: a point is missing and ``sizes``, ``seeds`` or ``out`` are not the preset's own, so that the
            graph does not know it.
        RuntimeError: a point failed; the message names the log.
    """
    cards = [
        folder / "04-zero-shot" / "card.json" for folder in point_folders(runs.resolve(out) / "points", sizes, seeds)
    ]
    missing = [runs.relative(card) for card in cards if not card.is_file()]
    if not missing:
        return
    command = [sys.executable, "-m", "snakemake", "--cores", "all", "--config", f"preset={preset}", "--", *missing]
    done = subprocess.run(command, cwd=runs.ROOT, capture_output=True, text=True, check=False)
    if "MissingRuleException" in done.stderr:
        raise FileNotFoundError(
            f"{missing[0]}: not a point of params/{preset}/05-dataset-size.yaml; put sizes, seeds and out there first"
        )
    if done.returncode:
        raise RuntimeError(f"a point failed; see runs/{preset}/logs ({done.stderr.strip().splitlines()[-1]})")


def points(folder: Path, sizes: list[int], seeds: list[int]) -> pandas.DataFrame:
    """One row for each size, seed, dataset and task, with its AUC and ACA (0 to 1).

    Raises:
        FileNotFoundError: a point has not been run; the message names it.
    """
    rows = []
    for point in point_folders(folder, sizes, seeds):
        runs.require(point / "04-zero-shot", "04-zero-shot")
        used = runs.require(point / "03-pretrain", "03-pretrain")["parameters"]
        for result in runs.read_json(point / "04-zero-shot" / "numbers.json")["results"]:
            rows.append(
                {
                    "images": used["images"],
                    "seed": used["seed"],
                    "dataset": result["dataset"],
                    "task": result["task"],
                    **{score: result[score]["value"] for score in ("auc", "aca")},
                }
            )
    return pandas.DataFrame(rows)


def shares(folder: Path, sizes: Sequence[int], seeds: Sequence[int]) -> dict[str, float]:
    """The share (0 to 1) of each source in the largest point's training set."""
    largest = point_folders(folder, [max(sizes)], seeds)[0]
    return runs.read_json(largest / "03-pretrain" / "numbers.json")["shares"]


def curve(table: pandas.DataFrame, score: str = "auc") -> pandas.DataFrame:
    """Mean over tasks, then over seeds with a 95 % t-interval: a row for each dataset and size."""
    by_seed = table.groupby(["dataset", "images", "seed"], sort=True)[score].mean()
    rows = [
        {"dataset": dataset, "images": images, **statistics.summary_interval(values.to_numpy())}
        for (dataset, images), values in by_seed.groupby(level=["dataset", "images"])
    ]
    return pandas.DataFrame(rows)


def fits(curves: pandas.DataFrame) -> dict[str, dict | None]:
    """A power law of the error (1 - AUC) for each dataset; None where fewer than three sizes were run."""
    return {
        str(dataset): statistics.power_law(rows["images"].to_numpy(), 1 - rows["value"].to_numpy())
        for dataset, rows in curves.groupby("dataset")
    }


def verdict(curves: pandas.DataFrame, fit: dict | None, dataset: str = PHANTOMS) -> str:
    """Whether returns diminish on ``dataset``, in words: what the fitted law says of the next doubling."""
    if fit is None:
        return "Fewer than three sizes were run: no law is fitted, and nothing is said of returns."
    if fit["low"] <= 0:
        return (
            f"On {dataset} the fitted exponent is {fit['exponent']:.2f} "
            f"(95 % interval {fit['low']:.2f} to {fit['high']:.2f}): these points do not show that more images help."
        )
    last = curves[curves["dataset"] == dataset].sort_values("images").iloc[-1]
    gain = (1 - last["value"]) * (1 - 2 ** -fit["exponent"])
    words = "returns diminish" if gain < 0.01 else "returns do not diminish yet"
    return (
        f"On {dataset} the error falls as images^-{fit['exponent']:.2f} (95 % interval {fit['low']:.2f} to "
        f"{fit['high']:.2f}); doubling from {last['images']:.0f} would add about {gain:.3f} AUC: {words} "
        "(the line is drawn at 0.01 AUC a doubling)."
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
