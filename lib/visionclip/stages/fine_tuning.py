"""Stage 09: what pretraining without a patient is worth, in labelled photographs.

Photographs that are there to choose by (``scoring.load_development``) are parted by patient: some to learn from, with
more and more of their labels, the others to be scored. A tower that starts from random weights stands beside one that
was pretrained on phantoms, used without labels, with its features as they are, adapted, or trained on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import pandas
import torch
from sklearn.metrics import roc_auc_score

from visionclip import keys, runs
from visionclip.conditions import plain
from visionclip.data import images, phantoms
from visionclip.data.tasks import Dataset, Task
from visionclip.evaluation import label_efficiency, probe, scoring, zero_shot
from visionclip.evaluation.encoding import encode_images
from visionclip.evaluation.intervals import Comparison, Interval, adjusted, paired, score_over_seeds
from visionclip.evaluation.label_efficiency import Split, Worth
from visionclip.models import classifiers, saved, visionclip
from visionclip.models.classifiers import Classifier, ImageTower, Sentences
from visionclip.models.visionclip import VisionCLIP
from visionclip.training import fine_tuning
from visionclip.training.fine_tuning import Settings

SCRATCH, ZERO_SHOT, PROBE, TIP = "from scratch", "zero-shot", "linear probe", "Tip-Adapter"
ADAPTER, FULL, LORA = "CLIP-Adapter", "full fine-tuning", "LoRA"
METHODS = (SCRATCH, ZERO_SHOT, PROBE, TIP, ADAPTER, FULL, LORA)
# Peak learning rates of what is trained. A tower from random weights takes that of stage 03, one that is tuned a tenth.
RATES = {SCRATCH: 3e-3, ADAPTER: 3e-3, FULL: 3e-4, LORA: 3e-3}
TOWERS = (SCRATCH, FULL, LORA)  # learn from photographs, the others from what a tower makes of them
PRETRAINED = "phantoms"  # what the tower of stage 03 has seen
RANDOM = "random weights"
ALL = "all"
# Where there are no photographs: so many drawn eyes, and the question that is asked of them.
DRAWN_EYES, IN_PLACE = "drawn eyes", "phantoms in place of photographs"
DRAWN_COUNT, DRAWN_TASKS = 160, (f"{DRAWN_EYES} referable_dr",)
FEW = 0.05  # of the labels: what pretraining is to beat surely
ROW = ["task", "method", "start", "share", "labels", "scored", "auc", "seed"]  # of ``evaluate``
# Cited, none rerun here: other splits, other labels and other measures than those of this stage.
FIGURE, ABSTRACT = "MM-Retinal, read off a figure of its repository", "arXiv 2508.15986, abstract"
REAL, SYNTHETIC = "278 k to 288 k photographs", "1 M synthetic"
COLUMNS = ("model", "pretrained on", "set", "real labels", "score", "source")
PUBLISHED = [
    dict(zip(COLUMNS, row, strict=True))
    for row in (
        ("RETFound", "photographs without labels", "REFUGE", "20 %", "ACA 0.809", FIGURE),
        ("FLAIR", REAL, "REFUGE", "20 %", "ACA 0.831", FIGURE),
        ("FLAIR + SynFundus-1M", f"{REAL}, {SYNTHETIC}", "REFUGE", "20 %", "ACA 0.847", FIGURE),
        ("KeepFIT", REAL, "REFUGE", "20 %", "ACA 0.861", FIGURE),
        ("RETFound", "photographs without labels", "FIVES", "20 %", "ACA 0.765", FIGURE),
        ("FLAIR", REAL, "FIVES", "20 %", "ACA 0.835", FIGURE),
        ("FLAIR + SynFundus-1M", f"{REAL}, {SYNTHETIC}", "FIVES", "20 %", "ACA 0.842", FIGURE),
        ("KeepFIT", REAL, "FIVES", "20 %", "ACA 0.851", FIGURE),
        ("RETFound", "photographs without labels", "ODIR-200×3", "20 %", "ACA 0.907", FIGURE),
        ("FLAIR", REAL, "ODIR-200×3", "20 %", "ACA 0.875", FIGURE),
        ("FLAIR + SynFundus-1M", f"{REAL}, {SYNTHETIC}", "ODIR-200×3", "20 %", "ACA 0.890", FIGURE),
        ("KeepFIT", REAL, "ODIR-200×3", "20 %", "ACA 0.915", FIGURE),
        ("FLAIR, CLIP-Adapter", REAL, "ODIR-200×3", "1 a class", "ACA 0.720", FIGURE),
        ("FLAIR, CLIP-Adapter", REAL, "ODIR-200×3", "5 a class", "ACA 0.823", FIGURE),
        ("FLAIR, CLIP-Adapter", REAL, "ODIR-200×3", "10 a class", "ACA 0.863", FIGURE),
        ("SynFundus, supervised", f"{SYNTHETIC} with labels", "DR, sets together", "none", "AUC 0.797", ABSTRACT),
        ("SynFundus, supervised", f"{SYNTHETIC} with labels", "AIROGS", "none", "AUC 0.913", ABSTRACT),
        ("SynFundus, supervised", f"{SYNTHETIC} with labels", "RFMiD", "none", "AUC 0.880", ABSTRACT),
    )
]


@dataclass(frozen=True, eq=False)
class Start:
    """A pretrained model to start from, by what it was pretrained on, with its tokenizer and the side in pixels at
    which it reads images where it is not trained on."""

    name: str
    network: VisionCLIP
    tokenizer: object
    size: int


@dataclass(frozen=True, eq=False)
class Question:
    """A two-class task of a set, whose photographs towers are trained on at ``pixels`` uint8 N×S×S×3 and read at those
    of the set; ``members`` int N are patients, as of ``label_efficiency.groups``."""

    dataset: Dataset
    task: Task
    pixels: np.ndarray
    members: np.ndarray

    @property
    def name(self) -> str:
        """Of the set and the task."""
        return f"{self.dataset.name} {self.task.name}"

    @cached_property
    def key(self) -> str:
        """The digest of photographs and labels."""
        return keys.arrays(self.dataset.images.pixels, self.pixels, self.task.targets, self.members)


@dataclass(frozen=True, eq=False)
class Frozen:
    """What a start makes of a question without labels: ``pooled`` features N×D and unit-length ``embeds`` N×P of its
    photographs, float32, and the ``sentences`` of its classes."""

    pooled: np.ndarray
    embeds: np.ndarray
    sentences: Sentences

    @property
    def logits(self) -> np.ndarray:
        """Of zero-shot prediction, float32 N×K."""
        return self.sentences(torch.from_numpy(self.embeds)).numpy()


def methods_of(names: Sequence[str]) -> list[str]:
    """The methods of these names, or of ``ALL``, in the order of ``METHODS``."""
    return [method for method in METHODS if method in names or list(names) == [ALL]]


def load_starts(folders: Mapping[str, Path], size: int = 0) -> list[Start]:
    """The saved models of these folders, by what they were pretrained on, to be read at ``size`` pixels (0: as each was
    trained)."""
    loaded = {name: visionclip.load(folder) for name, folder in folders.items()}
    return [Start(name, *parts[:2], size or parts[2].size) for name, parts in loaded.items()]


def drawn_eyes(size: int, seed: int) -> Dataset:
    """Phantoms that stand in where there are no photographs, named so: they show what the figures look like, and say
    nothing of real eyes."""
    eyes = phantoms.balanced_eyes(DRAWN_COUNT, seed, IN_PLACE, 0.1)
    drawn_from = [(seed, IN_PLACE, place) for place in range(DRAWN_COUNT)]
    drawn = phantoms.draw(eyes, drawn_from, size, IN_PLACE, masks="findings")
    return replace(scoring.phantom_tasks(drawn), name=DRAWN_EYES, split="in place of photographs")


def questions(datasets: Sequence[Dataset], names: Sequence[str], training_size: int) -> list[Question]:
    """The two-class tasks of the sets, those of ``names`` ("palm pathologic_myopia") that are there, or ``ALL``, in the
    order of the names; towers that are trained see the photographs at ``training_size`` pixels."""
    found = {f"{one.name} {task.name}": (one, task) for one in datasets for task in scoring.two_class_tasks(one)}
    chosen = [found[name] for name in (found if list(names) == [ALL] else names) if name in found]
    sets = {one.name: one.images for one, _ in chosen}
    members = {name: label_efficiency.groups(own) for name, own in sets.items()}
    small = {name: images.resized(own.pixels, training_size) for name, own in sets.items()}
    return [Question(one, task, small[one.name], members[one.name]) for one, task in chosen]


def described(datasets: Sequence[Dataset], names: Sequence[str], chosen: Sequence[Question]) -> list[str]:
    """One line a question with the photographs of its classes, and one of what was named and isn't there."""
    lines = [f"{one.name}: {np.bincount(one.task.targets[one.task.targets >= 0]).tolist()}" for one in chosen]
    absent = [name for name in names if name not in [ALL, *(one.name for one in chosen)]]
    there = [f"{one.name} {task.name}" for one in datasets for task in scoring.two_class_tasks(one)]
    return lines + [f"not here: {', '.join(absent)}; here: {', '.join(there)}"] * bool(absent)


def freeze(start: Start, question: Question, languages: Sequence[str], prompt_count: int) -> Frozen:
    """What ``start`` makes of a question, each class described by its prompts."""
    pixels = images.resized(question.dataset.images.pixels, start.size)
    pooled = encode_images(start.network, pixels, projected=False)
    alternatives = zero_shot.prompt_embeddings(start.network, start.tokenizer, question.task, languages, prompt_count)
    sentences = Sentences(zero_shot.class_embeddings(alternatives), start.network.scale.item())
    return Frozen(pooled.numpy(), encode_images(start.network, pixels).numpy(), sentences)


def classifier(method: str, start: Start, frozen: Frozen, seed: int) -> Classifier:
    """What is to be trained by a method of ``RATES``."""
    if method == SCRATCH:
        return classifiers.from_scratch(start.network, len(frozen.sentences.counts), seed)
    if method == ADAPTER:
        return classifiers.adapter(frozen.embeds.shape[1], frozen.sentences, seed)
    if method == LORA:
        return classifiers.low_rank(start.network, frozen.sentences, seed)
    return classifiers.full(start.network, frozen.sentences)


def trained(
    method: str, start: Start, question: Question, frozen: Frozen, rows: np.ndarray, settings: Settings, place: Path
) -> Classifier:
    """A classifier that learnt by a method of ``RATES`` from the labels of these ``rows``; a stopped training goes on
    from ``place``, and a finished one is read back."""
    learner = classifier(method, start, frozen, settings.seed)
    inputs = question.pixels if method in TOWERS else frozen.embeds
    fine_tuning.train(learner, inputs[rows], question.task.targets[rows], settings, place)
    return learner


def settings_of(method: str, updates: int, seed: int) -> Settings:
    """How a method of ``RATES`` trains."""
    return Settings(updates=updates, learning_rate=RATES[method], seed=seed)


def predict(
    folder: Path,
    method: str,
    start: Start,
    question: Question,
    frozen: Frozen,
    parts: Split,
    share: float,
    updates: int,
    seed: int,
) -> np.ndarray:
    """Logits N×K of the ``scored`` photographs, by a method that knows the labels of a ``share`` of the pool; what is
    trained is kept below ``folder`` and read back."""
    rows, targets = label_efficiency.labelled(question.task, parts.pool, share), question.task.targets
    if method == ZERO_SHOT:
        return frozen.logits[parts.scored]
    if method == PROBE:
        fitted = probe.regression(probe.STRENGTH).fit(frozen.pooled[rows], targets[rows])
        return np.log(fitted.predict_proba(frozen.pooled[parts.scored]).clip(1e-12))
    if method == TIP:
        given = frozen.embeds[parts.scored], frozen.logits[parts.scored]
        return label_efficiency.tip_adapter(*given, frozen.embeds[rows], targets[rows])
    settings, inputs = settings_of(method, updates, seed), question.pixels if method in TOWERS else frozen.embeds
    place = folder / name_of(method, start, question, share, seed)
    seen = saved.key(start.network), keys.weights(frozen.sentences), start.size
    key = settings.key(method, seen, question.key, keys.arrays(rows, parts.scored), keys.code(__file__))

    def compute() -> list:
        checkpoint = place.with_suffix(".safetensors")
        learner = trained(method, start, question, frozen, rows, settings, checkpoint)
        checkpoint.unlink(missing_ok=True)  # hundreds of them are gigabytes, and logits are all that is asked
        return fine_tuning.predict(learner, inputs[parts.scored]).tolist()

    return np.array(runs.cached(place.with_suffix(".json"), key, compute))


def name_of(method: str, start: Start, question: Question, share: float, seed: int) -> str:
    """Of what is kept of a training, as a file's name without its ending."""
    begun = RANDOM if method == SCRATCH else start.name
    return f"{question.name}-{method}-{begun}-{share:g}-{seed}".replace(" ", "-").replace("/", "-").replace(".", "_")


def combinations(
    methods: Sequence[str], starts: Sequence[Start], shares: Sequence[float]
) -> list[tuple[str, Start, float]]:
    """What is run: each method from each start with each share of the labels, but for zero-shot, which takes none, and
    from scratch, which has the architecture of the first start and nobody's weights."""
    return [
        (method, start, share)
        for method in methods
        for start in (starts[:1] if method == SCRATCH else starts)
        for share in sorted(shares)
        if (method == ZERO_SHOT) == (share == 0)
    ]


def evaluate(
    folder: Path,
    question: Question,
    starts: Sequence[Start],
    frozen: Mapping[str, Frozen],
    methods: Sequence[str],
    shares: Sequence[float],
    held: float,
    updates: int,
    seed: int,
) -> list[dict]:
    """One row for each of ``combinations``: AUC (0 to 1) on the scored photographs, of which the share ``held`` is, and
    the number of labels used; none where the photographs can't be parted. ``frozen`` is by the names of ``starts``."""
    parts = label_efficiency.split(question.task, question.members, held, seed)
    if parts is None:
        return []
    rows = []
    for method, start, share in combinations(methods, starts, shares):
        logits = predict(folder, method, start, question, frozen[start.name], parts, share, updates, seed)
        begun = {"start": RANDOM if method == SCRATCH else start.name, "method": method, "seed": seed}
        labels = len(label_efficiency.labelled(question.task, parts.pool, share))
        counts = {"share": share, "labels": labels, "scored": len(parts.scored)}
        auc = float(roc_auc_score(question.task.targets[parts.scored], logits @ [-1.0, 1.0]))
        rows.append({"task": question.name, **begun, **counts, "auc": auc})
    return rows


def curves(rows: Sequence[dict]) -> list[dict]:
    """One row a task, method, start and share: the mean number of labels, and AUC with its t-interval over seeds."""
    if not rows:
        return []
    grouped = pandas.DataFrame(rows).groupby(["task", "method", "start", "share"], sort=False)
    return [
        dict(zip(("task", "method", "start", "share"), key, strict=True))
        | {"labels": round(part["labels"].mean()), "auc": score_over_seeds(part["auc"].tolist())}
        for key, part in grouped
    ]


def table(points: Sequence[dict], task: str) -> pandas.DataFrame:
    """AUC of a task: methods, with what they start from, by the share of the labels."""
    own = [point for point in points if point["task"] == task]
    titles = {share: f"{100 * share:g} % ({labels})" for share, labels in _labels(own).items()}
    cells = [
        {"method": point["method"], "start": point["start"], "share": titles[point["share"]], "auc": str(point["auc"])}
        for point in own
    ]
    wide = pandas.DataFrame(cells).pivot(index=["method", "start"], columns="share", values="auc")
    index = list(dict.fromkeys((cell["method"], cell["start"]) for cell in cells))
    return wide.reindex(index=index, columns=[titles[share] for share in sorted(titles)]).fillna("")


def _labels(points: Sequence[dict]) -> dict[float, int]:
    """The number of labels of each share."""
    return {point["share"]: point["labels"] for point in points}


def worths(rows: Sequence[dict]) -> list[dict]:
    """One row a task and pretrained start: its zero-shot AUC, and how many labels from scratch needs for it."""
    frame, found = pandas.DataFrame(rows, columns=ROW), []
    for (task, start), part in frame[frame["method"] == ZERO_SHOT].groupby(["task", "start"], sort=False):
        scratch = frame[(frame["task"] == task) & (frame["method"] == SCRATCH)].sort_values("share")
        by_seed = {seed: own.drop_duplicates("labels") for seed, own in scratch.groupby("seed")}
        if by_seed:
            targets = [part.loc[part["seed"] == seed, "auc"].item() for seed in by_seed]
            counts = [own["labels"].tolist() for own in by_seed.values()]
            scores = [own["auc"].tolist() for own in by_seed.values()]
            worth = label_efficiency.worth(counts, scores, targets)
            found.append({"task": task, "start": start, "auc": score_over_seeds(targets), "worth": worth})
    return found


def headline(valued: Sequence[dict]) -> list[str]:
    """One sentence a task and start."""
    sentences = []
    for one in valued:
        worth: Worth = one["worth"]
        some = f", reached in {worth.reached} of {worth.seeds} seeds" if 0 < worth.reached < worth.seeds else ""
        what = f"pretraining on {one['start']} is worth {worth} labels{some}"
        sentences.append(f"{one['task']}: {what} (zero-shot AUC {one['auc']}).")
    return sentences


def gains(rows: Sequence[dict]) -> list[dict]:
    """One row a task, pretrained start, method and share: by how much the AUC of the pretrained tower, used by the
    method with the same labels, is above that from scratch, paired over seeds and Holm-corrected over shares."""
    frame, found = pandas.DataFrame(rows, columns=ROW), []
    pretrained = frame[~frame["method"].isin([SCRATCH, ZERO_SHOT])]
    for (task, start, method), part in pretrained.groupby(["task", "start", "method"], sort=False):
        scratch = frame[(frame["task"] == task) & (frame["method"] == SCRATCH)]
        both = part.merge(scratch, on=["share", "seed"], suffixes=("", "_scratch"))
        shares = {share: own for share, own in both.groupby("share")}
        against = [paired(own["auc"].to_numpy(), own["auc_scratch"].to_numpy()) for own in shares.values()]
        found += [
            {"task": task, "start": start, "method": method, "share": share, "labels": round(own["labels"].mean())}
            | {"gain": gain}
            for (share, own), gain in zip(shares.items(), adjusted(against), strict=True)
        ]
    return found


def helps_until(compared: Sequence[dict]) -> list[str]:
    """One sentence a task, start and method: from which share on the pretrained tower is no longer ahead, by the mean
    over seeds, and at which shares it is ahead by more than chance."""
    sentences = []
    for task, start, method in dict.fromkeys((one["task"], one["start"], one["method"]) for one in compared):
        own = [one for one in compared if (one["task"], one["start"], one["method"]) == (task, start, method)]
        ahead = [place for place, one in enumerate(own) if _difference(one["gain"]) > 0]
        at = {place: f"{100 * own[place]['share']:g} %" for place in ahead}
        sure = [share for place, share in at.items() if own[place]["gain"].star]
        first = len(ahead)
        if first == len(own):
            until = "ahead of from scratch up to all labels"
        elif ahead == [*range(first)]:
            until = f"not ahead of from scratch from {100 * own[first]['share']:g} % ({own[first]['labels']} labels) on"
        else:
            until = f"ahead of from scratch at {', '.join(at.values())} alone"
        chance = f"ahead by more than chance at {', '.join(sure)}" if sure else "nowhere ahead by more than chance"
        sentences.append(f"{task}, {start}, {method}: {until}; {chance}")
    return sentences


def at_few(points: Sequence[dict], most: float = FEW) -> list[str]:
    """One sentence a task and start: AUC from scratch with the largest share of the labels up to ``most`` (0 to 1),
    beside it that of zero-shot, and of the linear probe with the same labels, and whether intervals are apart."""
    sentences = []
    for task in dict.fromkeys(point["task"] for point in points):
        own = [point for point in points if point["task"] == task and point["share"] <= most]
        if not (from_scratch := [one for one in own if one["method"] == SCRATCH]):
            continue
        scratch = max(from_scratch, key=lambda one: one["share"])
        with_labels = f"with {100 * scratch['share']:g} % of the labels ({scratch['labels']})"
        for start in dict.fromkeys(one["start"] for one in own if one["method"] == ZERO_SHOT):
            beside = [one for one in own if one["start"] == start and _beside(one, scratch)]
            scores = [f"{one['method']} {one['auc']} ({_apart(one['auc'], scratch['auc'])})" for one in beside]
            reached = f"{with_labels} from scratch reaches {scratch['auc']}"
            sentences.append(f"{plain(task)}: {reached}; pretrained on {start}, {', '.join(scores)}")
    return sentences


def _beside(point: Mapping, scratch: Mapping) -> bool:
    return point["method"] == ZERO_SHOT or (point["method"] == PROBE and point["share"] == scratch["share"])


def _apart(auc: Interval, scratch: Interval) -> str:
    if auc.low is None or scratch.high is None:
        return "one seed, which has no interval"
    return "above it, intervals apart" if auc.low > scratch.high else "intervals not apart"


def surely(compared: Sequence[dict]) -> str:
    """One sentence: at how many of the rows of ``gains`` the pretrained tower is ahead by more than chance, and where
    it is so with the fewest labels; that there are none, where nothing was compared."""
    if not compared:
        return "Nothing was compared that says what it adds to labels."
    sure = [one for one in compared if one["gain"].star and _difference(one["gain"]) > 0]
    if not sure:
        return "Given labels too, no method that begins with it is ahead of from scratch by more than chance."
    first = min(sure, key=lambda one: (one["labels"], -_difference(one["gain"])))
    return (
        f"Given labels too, it is ahead of from scratch by more than chance in {len(sure)} of {len(compared)} "
        f"comparisons, with the fewest labels by {first['method']} on {plain(first['task'])} "
        f"({first['labels']} labels, {first['gain'].difference:+.3f} AUC)."
    )


def _difference(gain: Comparison) -> float:
    return gain.difference.value or 0.0


def published_table() -> pandas.DataFrame:
    """Figures of others beside ours, cited and not rerun."""
    return pandas.DataFrame(PUBLISHED, columns=COLUMNS)


def save(
    folder: Path, start: Start, question: Question, frozen: Frozen, held: float, updates: int, seed: int
) -> np.ndarray | None:
    """Train the whole image side on all labels of the pool, as ``predict`` does, and save it to ``folder`` as models of
    stage 03 are; return its logits N×K of the scored photographs. None where the photographs can't be parted."""
    parts = label_efficiency.split(question.task, question.members, held, seed)
    if parts is None:
        return None
    rows = label_efficiency.labelled(question.task, parts.pool, 1)
    checkpoint = folder.with_name(f"{folder.name}.safetensors")
    learner = trained(FULL, start, question, frozen, rows, settings_of(FULL, updates, seed), checkpoint)
    logits = fine_tuning.predict(learner, question.pixels[parts.scored])
    network = cast(ImageTower, learner.encoder).network
    visionclip.save(network.cpu(), start.tokenizer, question.pixels.shape[1], folder)
    return logits
