"""The referee of stage 01: do generated eyes show what their labels and layouts say?

A small VisionCLIP learns the originals alone, the sentences that are true of them and what their layouts show. What it
says of phantoms that it has not seen is the best that can be reached; then it is shown the generated eyes.
"""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from visionclip import conditions, runs, streams
from visionclip.conditions import DISEASES
from visionclip.data import labelled, phantoms
from visionclip.data.labelled import LabelledImages
from visionclip.data.phantoms import FINDINGS
from visionclip.evaluation import fidelity, localisation, pointing, statements
from visionclip.evaluation.encoding import encode_images
from visionclip.evaluation.intervals import Interval
from visionclip.evaluation.statements import CONDITIONS
from visionclip.models import sampling, visionclip
from visionclip.models.generator import VisionCLIPDDPMPipeline
from visionclip.models.supervision import SHOWN
from visionclip.models.visionclip import VisionCLIP
from visionclip.stages import pretrain
from visionclip.training.contrastive import Settings

LANGUAGES, CAPTIONS, PROMPTS = ("en",), 4, 6  # its words, captions an image, prompts of a condition
COMPARED = 2000  # eyes of a set whose features are compared, all with all
THRESHOLD_EYES = 1000  # originals on which its thresholds are fixed
CARD = "referee.json"  # of what it was found to be like, beside its weights
FOLDER = "referee/model"  # of the referee that a stage trained, below its own
LIMITS = ("thresholds", "lowest", "highest")
DOUBT = 0.05  # share of the originals with a condition of which the referee would doubt it
# Of each disease the question of its lowest value; a grade is as good as another here, as neighbours look alike.
PRESENT = tuple(place for place, name in enumerate(CONDITIONS) if name.endswith(">=1") and name[:-3] in DISEASES)


@dataclass(frozen=True)
class Referee:
    """The model that judges generated images, its tokenizer, and what it was found to be like on originals.

    For each of ``CONDITIONS`` (float64 J) ``thresholds`` has the logit above which it is called present, as rare ones
    seldom get above 0, and ``lowest`` and ``highest`` those that all but ``DOUBT`` of the originals with it reach, and
    all but ``DOUBT`` / 10 of those without stay below (NaN where there are none); ``cuts`` the threshold of the map of
    each finding that originals show, 0 to 1.
    """

    network: VisionCLIP
    tokenizer: PreTrainedTokenizerBase
    thresholds: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    cuts: dict[str, float] = field(default_factory=dict)


def train(originals: LabelledImages, updates: int, seed: int, folder: Path) -> Referee:
    """The referee, trained on the originals alone: their conditions, and where there are layouts, what these show. A
    minute and a half on one core; a stopped run goes on from ``folder``."""
    settings = Settings(
        updates=updates,
        batch_size=32,
        learning_rate=3e-3,
        text_warmup=updates // 2,
        condition_weight=3.0,
        map_weight=1.0,
        ema=0.99,
        augmentation=0.0,
        precision="auto",
        seed=seed,
    )
    learnt_from = with_maps(originals)
    network, tokenizer = pretrain.learn(learnt_from, pretrain.SMALL, settings, folder, LANGUAGES, CAPTIONS, sides=True)
    few = learnt_from.take(range(len(originals))[:THRESHOLD_EYES])
    logits = statements.predict(network, tokenizer, few.pixels, CONDITIONS, LANGUAGES, PROMPTS)
    limits = [
        _limits(of_all, truth) for of_all, truth in zip(logits.T, statements.targets(few.conditions).T, strict=True)
    ]
    trained = Referee(network, tokenizer, statements.thresholds(logits, few.conditions), *np.array(limits).T)
    return trained if few.masks is None else replace(trained, cuts=_cuts(trained, few))


def save(referee: Referee, size: int, folder: Path) -> None:
    """Write the referee of images of ``size`` pixels below ``folder``: its model, and what it was found to be like."""
    visionclip.save(referee.network, referee.tokenizer, size, folder)
    limits = {name: [None if np.isnan(one) else float(one) for one in getattr(referee, name)] for name in LIMITS}
    runs.write_json(folder / CARD, {"conditions": CONDITIONS, **limits, "cuts": referee.cuts})


def load(folder: str | Path) -> Referee:
    """The referee saved in ``folder``.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it judges other conditions than there are now.
    """
    place = runs.resolve(folder)
    if not (place / CARD).is_file():
        raise FileNotFoundError(f"{runs.relative(place)}: no {CARD} there; give the folder of a saved referee")
    found = runs.read_json(place / CARD)
    if found["conditions"] != list(CONDITIONS):
        raise ValueError(f"{runs.relative(place)}: a referee of other conditions than there are now; train it again")
    network, tokenizer, _ = visionclip.load(place)
    thresholds, lowest, highest = (np.array(found[name], float) for name in LIMITS)
    return Referee(network, tokenizer, thresholds, lowest, highest, found["cuts"])


def of_stage(folder: str | Path) -> Referee | None:
    """The referee of a finished stage 01: the one given to it, or the one that it trained; None of a set that came from
    elsewhere, as SynFundus-1M does."""
    made = runs.require(folder, "01-synthesis")["parameters"]
    place = runs.resolve(made.get("referee_model") or runs.resolve(folder) / FOLDER)
    return load(place) if (place / CARD).is_file() else None


def with_maps(originals: LabelledImages) -> LabelledImages:
    """Originals with layouts as images with finding maps: the share of each cell that a finding covers, of 255."""
    if originals.masks is None:
        return originals
    maps = phantoms.finding_maps(originals.masks, originals.mask_names)
    return replace(originals, masks=maps, mask_names=tuple(FINDINGS))


def _limits(logits: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    having, lacking = logits[truth == 1], logits[truth == 0]
    lowest = np.quantile(having, DOUBT) if len(having) else np.nan
    return float(lowest), float(np.quantile(lacking, 1 - DOUBT / 10)) if len(lacking) else np.nan


def _cuts(referee: Referee, few: LabelledImages) -> dict[str, float]:
    shown = _shown(few.masks)
    there = [place for place, own in enumerate(shown.swapaxes(0, 1)) if own.any()]
    maps = _maps(referee, few.pixels)
    return {tuple(FINDINGS)[place]: localisation.best_threshold(maps[:, place], shown[:, place]) for place in there}


def _maps(referee: Referee, pixels: np.ndarray) -> np.ndarray:
    names = pointing.name_embeddings(referee.network, referee.tokenizer, tuple(FINDINGS), LANGUAGES)
    return pointing.finding_maps(referee.network, pixels, names)


def _shown(maps: np.ndarray | None) -> np.ndarray:
    """Where maps of shares of 255 show a finding."""
    return np.asarray(maps) > 255 * SHOWN


def judge(referee: Referee, pixels: np.ndarray, eyes: Sequence[dict[str, int]]) -> dict[str, dict]:
    """AUC, recall and specificity (0 to 1) of the conditions that images uint8 N×S×S×3 were made from.

    See ``fidelity.label_fidelity``; the referee's thresholds are its own, fixed on the originals.
    """
    return fidelity.label_fidelity(_logits(referee, pixels) - referee.thresholds, CONDITIONS, eyes)


def _logits(referee: Referee, pixels: np.ndarray) -> np.ndarray:
    return statements.predict(referee.network, referee.tokenizer, pixels, CONDITIONS, LANGUAGES, PROMPTS)


def judge_masks(referee: Referee, images: LabelledImages) -> dict[str, float]:
    """Dice score (0 to 1) of the referee's map of each finding, cut where originals say, against the layouts of images
    over all their cells; of findings that none shows there is none."""
    shown = _shown(with_maps(images).masks)
    found, names = _maps(referee, images.pixels), tuple(FINDINGS)
    scores = {}
    for name, cut in referee.cuts.items():
        own, seen = shown[:, names.index(name)], found[:, names.index(name)] >= cut
        if own.any():
            scores[name] = float(2 * (own & seen).sum() / (own.sum() + seen.sum()))
    return scores


def doubtful(referee: Referee, pixels: np.ndarray, eyes: Sequence[dict[str, int]]) -> np.ndarray:
    """Bool N: images whose label the referee doubts. A disease that an eye was made with is seen less than in all but
    ``DOUBT`` of the originals that have it, or, in an eye made with none, one is seen more than in all but
    ``DOUBT`` / 10 of those that lack it."""
    logits, wanted = _logits(referee, pixels)[:, PRESENT], statements.targets(eyes)[:, PRESENT]
    missing = ((wanted == 1) & (logits < referee.lowest[list(PRESENT)])).any(1)
    healthy = (np.nan_to_num(wanted) == 0).all(1)
    return missing | (healthy & ((wanted == 0) & (logits > referee.highest[list(PRESENT)])).any(1))


def drawn_again(
    referee: Referee,
    first: np.ndarray,
    pipeline: VisionCLIPDDPMPipeline,
    plan: LabelledImages,
    tries: int,
    seed: int,
    bf16: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 N×S×S×3 of the eyes of ``plan``, those of ``first`` that the referee doubts drawn again up to
    ``tries`` times in all, and bool N: which of them it doubts still. With one try all are taken as they are, and
    nothing is doubted."""
    drawn, doubted = first.copy(), np.zeros(len(first), bool)
    if tries > 1:
        doubted = doubtful(referee, first, plan.conditions)
    for attempt in range(1, tries):
        again = np.flatnonzero(doubted)
        if len(again):
            part = plan.take(again)
            layouts = layouts_for(pipeline, part)
            drawn[again] = sampling.sample(
                pipeline, part.vectors, layouts, seed=seed, places=again, attempt=attempt, bf16=bf16
            )
            doubted[again] = doubtful(referee, drawn[again], part.conditions)
    return drawn, doubted


def by_steps(
    referee: Referee,
    pipelines: Mapping[str, VisionCLIPDDPMPipeline],
    steps: Sequence[int],
    plan: LabelledImages,
    held_out: LabelledImages,
    seed: int,
    bf16: bool,
) -> pandas.DataFrame:
    """What fewer steps cost: a row for each pipeline, at its own guidance, and number of steps.

    Columns are the evaluations of the network an image (NFE), images a second on this machine, the referee's mean AUC
    over diseases and its mean Dice score over findings on the eyes of ``plan``, and their KID to held-out phantoms with
    its limits.
    """
    rows = {}
    for (name, pipeline), count in itertools.product(pipelines.items(), steps):
        started = time.perf_counter()
        pixels = sampling.sample(pipeline, plan.vectors, layouts_for(pipeline, plan), count, seed=seed, bf16=bf16)
        rate = len(pixels) / (time.perf_counter() - started)
        drawn = replace(plan, pixels=pixels)
        judged = judge(referee, pixels, plan.conditions)
        aucs = [row["auc"] for key, row in judged.items() if row["auc"] is not None and not key.startswith("eye_side")]
        dice = list(judge_masks(referee, drawn).values()) if plan.masks is not None else []
        rng = streams.rng(seed, "halves for KID")
        reference, made = (
            encode_images(referee.network, one, projected=False).numpy() for one in (held_out.pixels, pixels)
        )
        far = fidelity.kernel_distance(reference, made, rng)
        rows[f"{name}, {count}"] = {
            "NFE": count * (1 if pipeline.config.guidance == 1 else 2),
            "images/s": rate,
            "mean AUC": np.mean(aucs) if aucs else np.nan,
            "mean Dice": np.mean(dice) if dice else np.nan,
            **dict(zip(("KID", "KID low", "KID high"), (far.value, far.low, far.high), strict=True)),
        }
    return pandas.DataFrame(rows).T.astype({"NFE": int})


def layouts_for(pipeline: VisionCLIPDDPMPipeline, plan: LabelledImages) -> np.ndarray | None:
    """The layouts of ``plan`` where the pipeline takes any."""
    return plan.masks if pipeline.unet.config.layout else None


def doubt_rates(referee: Referee, sets: Mapping[str, tuple[np.ndarray, Sequence[dict[str, int]]]]) -> pandas.DataFrame:
    """The share of doubted images by main condition, a row each, in sets of uint8 N×S×S×3 and the conditions of N eyes,
    a column each."""
    rates = {}
    for name, (pixels, eyes) in sets.items():
        doubted = pandas.Series(doubtful(referee, pixels, eyes), dtype=float)
        rates[name] = doubted.groupby([labelled.presentation(eye) for eye in eyes]).mean()
    return pandas.DataFrame(rates)


def plain(table: pandas.DataFrame) -> dict[str, dict[str, float | None]]:
    """The rows of a table by their names, as JSON has it: what is undefined is None."""
    return table.astype(object).where(table.notna(), None).to_dict("index")


def distances(
    referee: Referee, originals: np.ndarray, held_out: np.ndarray, generated: np.ndarray, seed: int
) -> dict[str, dict]:
    """How far generated eyes are from what is held out, and the floor of it: originals, as many of them.

    All are uint8 N×S×S×3, of which ``COMPARED`` at most are compared, by the referee's features before their
    projection: ``kid`` and ``kid_floor`` (``fidelity.kernel_distance``), ``neighbours`` and ``neighbours_floor``
    (``fidelity.neighbourhoods``), which are empty where too few eyes were drawn.
    """
    rng = streams.rng(seed, "halves for KID")
    fair = originals[rng.permutation(len(originals))[: len(generated)]]
    reference, made, drawn = (
        encode_images(referee.network, pixels[rng.permutation(len(pixels))[:COMPARED]], projected=False).numpy()
        for pixels in (held_out, generated, fair)
    )
    found: dict[str, dict] = {}
    for end, features in (("", made), ("_floor", drawn)):
        found[f"kid{end}"] = asdict(fidelity.kernel_distance(reference, features, rng))
        enough = min(len(reference), len(features)) > fidelity.NEAREST
        near = fidelity.neighbourhoods(reference, features) if enough else {}
        found[f"neighbours{end}"] = {name: asdict(share) for name, share in near.items()}
    return found


def distance_table(found: Mapping[str, Mapping]) -> pandas.DataFrame:
    """``distances`` as people read it: a row a measure, generated eyes beside their floor."""
    rows = {
        "KID": [found["kid"], found["kid_floor"]],
        **{name: [own, found["neighbours_floor"][name]] for name, own in found["neighbours"].items()},
    }
    columns = ("generated eyes", "phantoms (floor)")
    return pandas.DataFrame({name: [f"{Interval.of(one):.2f}" for one in own] for name, own in rows.items()}, columns).T


def nearest(referee: Referee, originals: np.ndarray, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of M generated images the place of the original that is nearest to it, and their cosine similarity (-1
    to 1) by the referee's features; all uint8 ×S×S×3. A copy of what was learnt from would have one near 1."""
    among, made = (
        functional.normalize(encode_images(referee.network, pixels, projected=False).float(), dim=1)
        for pixels in (originals, generated)
    )
    similarity, place = (made @ among.T).max(1)
    return place.numpy(), similarity.numpy()


def fidelity_table(on_phantoms: dict[str, dict], on_generated: dict[str, dict]) -> pandas.DataFrame:
    """The referee's AUC on held-out phantoms and on generated eyes, a row a condition; NaN where too few show it."""
    return pandas.DataFrame(
        {
            name: {condition: row["auc"] for condition, row in judged.items()}
            for name, judged in (("phantoms", on_phantoms), ("generated", on_generated))
        },
        dtype=float,
    )


def call_table(on_phantoms: dict[str, dict], on_generated: dict[str, dict]) -> pandas.DataFrame:
    """Sensitivity and specificity of the referee's calls, at thresholds fixed on its own phantoms, a row a condition
    that enough of either set have."""
    shown = [
        name for name in on_phantoms if any(one[name]["recall"] is not None for one in (on_phantoms, on_generated))
    ]
    rates = {"sensitivity": "recall", "specificity": "specificity"}
    columns: dict[str, list] = {"condition": [conditions.plain(name) for name in shown]}
    for of_set, judged in (("phantoms", on_phantoms), ("generated", on_generated)):
        for title, key in rates.items():
            columns[f"{title}, {of_set}"] = [f"{Interval(judged[name][key]):.2f}" for name in shown]
    return pandas.DataFrame(columns)


def label_table(on_phantoms: dict[str, dict], on_generated: dict[str, dict]) -> pandas.DataFrame:
    """As people read ``fidelity_table``: each AUC with its limits beside how many eyes have the condition."""
    sets = {"held-out phantoms": on_phantoms, "generated eyes": on_generated}
    columns: dict[str, list] = {"condition": [conditions.plain(condition) for condition in on_phantoms]}
    for name, judged in sets.items():
        rows = [judged[condition] for condition in on_phantoms]
        columns[f"{name} with it"] = [row["positives"] for row in rows]
        columns[f"AUC, {name}"] = [f"{Interval(row['auc'], row['low'], row['high']):.2f}" for row in rows]
    return pandas.DataFrame(columns)
