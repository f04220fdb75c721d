"""Stage 05: VisionCLIP trained to a plateau on parts of the synthetic set (sizes × seeds), and the law through what
they reach on held-out phantoms and on photographs for development."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas

from visionclip import keys, runs, streams
from visionclip.data import folders, listing, pairs
from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import Dataset
from visionclip.evaluation import metrics, scaling, scoring, zero_shot
from visionclip.evaluation.intervals import Interval, over_seeds
from visionclip.evaluation.scoring import PHANTOMS
from visionclip.stages import pretrain
from visionclip.stages.sweep import Point, Sweep
from visionclip.text.tokenizer import load_tokenizer
from visionclip.training import contrastive
from visionclip.training.loop import Watch

WORTH = 0.01  # AUC that a doubling must add, for returns not to diminish
PROMPTS = 6  # wordings of each condition in each language of the captions
RESAMPLES = 300  # of the bootstrap over seeds
POINTS = "points"
FOLDERS = ("synthesis", "captions_folder", "out")  # parameters of stage 03 that a point has its own of
EARLIER = {"synthesis": "01-synthesis", "captions_folder": "02-captions"}  # stages whose sets a point takes


def point(one: Point, out: str | Path, sources: Mapping[str, str], pretrained: Mapping) -> list[dict]:
    """The AUC (0 to 1) of every task after the training ``one``, kept below ``out`` and read back.

    One half of the held-out phantoms says when the training is at its plateau, the other is scored, as are the
    photographs for development. ``sources`` are the folders of the stages 01 (``synthesis``) and 02
    (``captions_folder``) and of the photographs (``external``); ``pretrained`` are the parameters of stage 03, which
    say all else.
    """
    cards = [runs.require(sources[name], stage) for name, stage in EARLIER.items()]
    parameters, plan = {name: value for name, value in pretrained.items() if name not in FOLDERS}, one.plan
    size = plan.size or parameters["sizes"][0]
    settings = pretrain.settings(
        parameters, updates=plan.updates, seed=one.seed, text_warmup=plan.text_warmup, size=size
    )
    external, languages = folders.external_folder(sources["external"]), cards[1]["parameters"]["languages"]
    made_by = [asdict(one), settings.key(), parameters, [card["outputs"] for card in cards]]
    made_by.append(pretrain.tower_key(parameters))
    key = keys.digest([*made_by, listing.fingerprint(external), keys.code(__file__)])
    folder = runs.resolve(out) / POINTS

    def compute() -> list[dict]:
        whole = pairs.load(sources["synthesis"], sources["captions_folder"], "synthetic", held=0)
        training = whole.subset(one.images, one.seed).held_at(size)
        of_captions = load_tokenizer(runs.resolve(sources["captions_folder"]) / "tokenizer")
        tokenizer = pretrain.words(parameters, of_captions)
        network = pretrain.network(parameters, len(tokenizer), one.seed)
        held_out = pairs.load(sources["synthesis"], sources["captions_folder"], "validation").at(size).images
        watched, scored = halves(held_out)

        def plateau(model) -> float:
            return float(np.mean([row["auc"] for row in aucs(model, tokenizer, watched, languages)]))

        watch = Watch(plateau, plan.check_every, plan.patience, watched.images.key)
        few = min(settings.batch_size, len(training))  # a batch holds no image twice
        smaller = replace(settings, batch_size=few)
        log = contrastive.train(network, tokenizer, training, smaller, folder / one.name, watch)
        taken = {"updates": watch.best_update(log), "stopped": len(log), "plateau": watch.is_over(log)}
        about = {"images": one.images, "seed": one.seed, **taken}
        sets = [scored, *scoring.development(external, size)]
        return [{**about, **row} for dataset in sets for row in aucs(network, tokenizer, dataset, languages)]

    return runs.cached(folder / f"{one.name}.json", key, compute)


def halves(held_out: LabelledImages) -> tuple[Dataset, Dataset]:
    """The tasks of every other held-out phantom, to stop by, and of the others, to be scored."""
    parts = [scoring.phantom_tasks(held_out.take(range(start, len(held_out), 2))) for start in (0, 1)]
    return parts[0], parts[1]


def aucs(network, tokenizer, dataset: Dataset, languages: list[str]) -> list[dict]:
    """The zero-shot AUC (0 to 1) of each task."""
    logits = zero_shot.predict(network, tokenizer, dataset, languages, PROMPTS)
    return [
        {
            "dataset": dataset.name,
            "task": task.name,
            "auc": metrics.scores(*scoring.known(task, logits[task.name]), task.ordinal)["auc"],
        }
        for task in dataset.tasks
    ]


def points(sweep: Sweep, out: str | Path, sources: Mapping[str, str], pretrained: Mapping) -> pandas.DataFrame:
    """One row for each size, seed, dataset and task; points not made yet are made."""
    return pandas.DataFrame(row for one in sweep.by_name.values() for row in point(one, out, sources, pretrained))


def taken(table: pandas.DataFrame) -> pandas.DataFrame:
    """A row a size: the updates (mean over seeds) after which the best was reached, and after which it was certain; and
    the share (0 to 1) of seeds that had reached their plateau before the updates allowed were over."""
    points = table.drop_duplicates(["images", "seed"])
    return points.groupby("images")[["updates", "stopped", "plateau"]].mean().reset_index()


def by_size(table: pandas.DataFrame) -> dict[str, dict[int, list[float]]]:
    """The AUC (mean over tasks) of every seed, by dataset and size."""
    means = table.groupby(["dataset", "images", "seed"])["auc"].mean()
    sets: dict[str, dict[int, list[float]]] = {}
    for (dataset, images, _), value in means.items():
        sets.setdefault(str(dataset), {}).setdefault(int(images), []).append(float(value))
    return sets


def curve(table: pandas.DataFrame) -> pandas.DataFrame:
    """The mean over tasks and seeds with its interval (0 to 1) over seeds, a row for each dataset and size."""
    return pandas.DataFrame(
        {"dataset": dataset, "images": images, **asdict(interval)}
        for dataset, aucs in by_size(table).items()
        for images, interval in scaling.over_sizes(aucs).items()
    )


def returns(table: pandas.DataFrame, seed: int) -> dict[str, dict | None]:
    """For each dataset the ``law``, the AUC that ``last`` doubling before the largest size and the ``next`` one add by
    it, with intervals over seeds, and where a doubling begins to add less than ``WORTH`` (``from``, None where it does
    not up to the largest size); and what the best size has ``reached``, and by how much the largest is above the
    ``previous`` one, ``measured`` seed by seed. Nothing is said of more than twice the largest. None below
    ``scaling.SIZES`` sizes."""
    return {dataset: _returns(aucs, dataset, seed) for dataset, aucs in by_size(table).items()}


def _returns(aucs: Mapping[int, list[float]], dataset: str, seed: int) -> dict | None:
    law, largest = scaling.fit(aucs), max(aucs)
    if law is None:
        return None
    drawn = scaling.resampled(aucs, streams.rng(seed, f"bootstrap over seeds, {dataset}"), RESAMPLES)
    starts = {"last": largest / 2, "next": largest}
    gains = {
        name: asdict(Interval.within(law.doubling(start), np.array([one.doubling(start) for one in drawn])))
        for name, start in starts.items()
    }
    sizes = np.geomspace(min(aucs), largest, 200)
    slow = sizes[[law.doubling(size) < WORTH for size in sizes]]
    floor = Interval.within(law.floor, np.array([one.floor for one in drawn]))
    reached = max(scaling.over_sizes(aucs).values(), key=lambda one: one.value or 0.0)
    found = {"law": asdict(law), "floor": asdict(floor), "largest": largest, "reached": asdict(reached)}
    found |= {"resamples": len(drawn), "previous": sorted(aucs)[-2]}
    found["measured"] = asdict(over_seeds(np.subtract(aucs[largest], aucs[sorted(aucs)[-2]])))
    return {**found, **gains, "from": _first(slow)}


def _first(sizes: np.ndarray) -> float | None:
    return float(sizes[0]) if len(sizes) else None


def verdict(found: Mapping | None, dataset: str = PHANTOMS, plateau: float = 1.0) -> str:
    """Whether returns diminish on ``dataset``, in a sentence: what the last doubling within the sizes run adds by the
    law, which can't fall, beside what was measured. Of models below ``scoring.LEARNT`` nothing is said; ``plateau`` is
    the share of trainings on the largest size that had reached theirs."""
    if found is None:
        return f"On {dataset}, fewer than {scaling.SIZES} sizes were run: no law is fitted."
    gain, largest, reached = Interval.of(found["last"]), found["largest"], Interval.of(found["reached"])
    if (reached.value or 0.0) < scoring.LEARNT:
        return (
            f"On {dataset} no size learns enough in these trainings to say how many images are enough: the best has "
            f"mean AUC {reached} (chance 0.5)."
        )
    short = "" if plateau > 0.5 else ", most trainings short of their plateau"
    measured = (
        f"On {dataset}, the last doubling, to {largest} images, adds {gain:+.3f} AUC by the law, which can't fall "
        f"(measured from {found['previous']} images: {Interval.of(found['measured']):+.3f}{short})"
    )
    if gain.low is None or gain.high is None:
        alone = "one seed a size was run, so that nothing is said of chance"
        return f"{measured}; {'every resample of the seeds says the same' if found['resamples'] else alone}."
    if gain.high < WORTH:
        start = found["from"]
        since = f", as each does from about {start:.2g} images" if start is not None and start < largest / 2 else ""
        return f"{measured}, surely less than {WORTH}{since}: returns have diminished."
    if gain.low > WORTH:
        return f"{measured}, surely more than {WORTH}: returns have not diminished yet."
    return f"{measured}: whether that is more than {WORTH}, these seeds can't tell."


def worth(found: Mapping | None) -> str:
    """What the last and the next doubling add by the law, with 95 % intervals, for beside the verdict."""
    if found is None:
        return "no law"
    last, coming = (f"{Interval.of(found[name]):+.3f}" for name in ("last", "next"))
    return f"AUC by doubling to {found['largest']} images {last}, from there {coming} by the law"


def headline(curves: pandas.DataFrame, found: Mapping[str, dict | None]) -> list[dict[str, str]]:
    """For the index page: the phantoms' AUC at the smallest and largest size, and what the last doubling adds."""
    rows = curves[curves["dataset"] == PHANTOMS].sort_values("images")
    first, last, phantoms = rows.iloc[0], rows.iloc[-1], found[PHANTOMS]
    ends = f"mean AUC, {first['images']:.0f} to {last['images']:.0f} images"
    shown = {ends: f"{first['value']:.3f} to {last['value']:.3f}"}
    if phantoms is not None:
        shown["AUC that the last doubling adds"] = f"{Interval.of(phantoms['last']):+.3f}"
    return [{"name": name, "value": value} for name, value in shown.items()]
