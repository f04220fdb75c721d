"""Stage 10: where the model fails: rare presentations, what lies beyond its training, spoilt photographs, and pictures
of no retina. Nothing is trained; phantoms are drawn anew, and every factor of theirs is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise, product
from typing import Any

import numpy as np
import pandas
import torch

from visionclip import conditions, phantom, streams
from visionclip.conditions import DISEASES, READABILITY, VOCABULARY
from visionclip.data import images
from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import Dataset, Task
from visionclip.evaluation import corruptions, encoding, foreign, intervals, refusal, scoring, zero_shot
from visionclip.evaluation.intervals import Interval
from visionclip.models.visionclip import VisionCLIP
from visionclip.progress import progress
from visionclip.streams import Stream
from visionclip.text.grammar import PLAIN, Style

ALONE, TOGETHER = "phantoms for robustness", "phantoms of two diseases"
READABLE = "readable"  # a factor made of the readability flags
UNREADABLE = 0.15  # of the eyes
# The factors by which each condition is milder or harder to see.
OWN: dict[str, tuple[str, ...]] = {
    "dr_grade": ("haemorrhages", "microaneurysms"),
    "amd": ("drusen", "drusen_size"),
    "gc": ("cup_to_disc",),
    "dme": ("macular_exudates",),
    "pm": ("diffuse_atrophy",),
    "rvo": ("flames",),
    "em": ("membrane",),
    "cataract": ("lens_opacity",),
}
SHARED = ("camera", "pigment", "age", "field_radius", "blur", "exposure", READABLE)
PAIRS = (  # of the last three no eye of a balanced set, as 01 draws it, has both
    ("dr_grade", "dme"),
    ("dr_grade", "gc"),
    ("amd", "gc"),
    ("pm", "gc"),
    ("dr_grade", "cataract"),
    ("amd", "em"),
    ("pm", "rvo"),
    ("pm", "dr_grade"),
    ("dr_grade", "rvo"),
)
# Factors fixed beyond what training phantoms are drawn with (``phantom.factors.photograph`` and ``healthy``).
UNUSUAL: dict[str, dict[str, object]] = {
    "wide field": {"field_radius": 4.9},
    "narrow field": {"field_radius": 1.8},
    "very dark": {"exposure": 0.25},
    "out of focus": {"blur": 0.1},
    "very noisy": {"noise": 0.08},
    "tilted by 30 degrees": {"rotation": 30.0},
    "nearly grey": {"saturation": 0.15},
    "sharpened too much": {"sharpening": 2.8, "sharpening_radius": 0.05},
    "many ghosts and dust": {"ghosts": 8, "dust": 20},
}
THIRDS = 3  # parts of a set by a quality
WORST = 5  # eyes of each condition that are shown


@dataclass(frozen=True, eq=False)
class Drawn:
    """Phantoms with the ``factors`` of each, a row an eye."""

    eyes: LabelledImages
    factors: pandas.DataFrame


def draw(
    eyes: Sequence[dict[str, int]], stream: Sequence[Stream], size: int, fixed: Mapping[str, Any] | None = None
) -> Drawn:
    """One phantom of ``size`` pixels, prepared as photographs are, for each of N conditions and random streams."""
    made = [
        _finished(phantom.render(eye, streams.rng(seed, purpose, place), size, **(fixed or {})))
        for eye, (seed, purpose, place) in progress(list(zip(eyes, stream, strict=True)), "phantoms")
    ]  # in this process, as most sets are smaller than what starting others costs
    pixels, known = np.stack([image for image, _ in made]), [conditions.complete(eye) for eye in eyes]
    factors = pandas.DataFrame([parameters for _, parameters in made])
    factors[READABLE] = ["yes" if all(eye[key] for key in READABILITY) else "no" for eye in known]
    return Drawn(
        LabelledImages(pixels, known, ["phantom"] * len(known), [f"eye-{i}" for i in range(len(known))]), factors
    )


def _finished(drawn: phantom.Phantom) -> tuple[np.ndarray, dict[str, object]]:
    own = [*{name for names in OWN.values() for name in names}, *SHARED[:-1]]
    return images.prepare(drawn.image, len(drawn.image)), {name: drawn.parameters[name] for name in own}


def alone(count: int, size: int, seed: int) -> Drawn:
    """``count`` eyes of each condition of ``OWN`` and twice as many healthy ones, some of them hard to read."""
    eyes = [_eye({disease: 1}, seed, place) for place in range(count) for disease in OWN]
    eyes += [_eye({}, seed, place) for place in range(len(eyes), len(eyes) + 2 * count)]
    return draw(eyes, [(seed, ALONE, place) for place in range(len(eyes))], size)


def _eye(diseases: Mapping[str, int], seed: int, place: int) -> dict[str, int]:
    """An eye with these diseases, retinopathy of any referable grade; a share of eyes has a part that can't be read."""
    rng = streams.rng(seed, "conditions for robustness", place, *map(DISEASES.index, diseases))
    eye = {**diseases, "eye_side": int(rng.integers(2))}
    if "dr_grade" in eye:
        eye["dr_grade"] = int(rng.integers(2, 5))
    return eye | ({str(rng.choice(READABILITY)): 0} if rng.random() < UNREADABLE else {})


# --- Rankings -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Question:
    """A task of two classes with the prompt embeddings of each class, the positive one last."""

    task: Task
    classes: list[torch.Tensor]

    @property
    def positive(self) -> np.ndarray:
        """Bool N."""
        return self.task.targets == 1


def questions(
    network: VisionCLIP, tokenizer, dataset: Dataset, languages: Sequence[str], prompts: int, style: Style = PLAIN
) -> list[Question]:
    """The tasks of two classes, both of which have two images or more, as the model is asked them."""
    queries = [task for task in scoring.two_class_tasks(dataset) if min(_counts(task)) >= 2]
    warned = style == PLAIN  # of words that no caption has, which other styles are to test

    def embedded(task: Task) -> list[list[torch.Tensor]]:
        texts = [
            [zero_shot.all_prompts(facts, languages, prompts, style) for facts in one.facts] for one in task.classes
        ]
        return [
            [encoding.encode_texts(network, tokenizer, own, warned=warned) for own in of_class] for of_class in texts
        ]

    return [Question(task, zero_shot.class_embeddings(embedded(task))) for task in queries]


def _counts(task: Task) -> list[int]:
    return [int((task.targets == label).sum()) for label in (0, 1)]


def of_phantoms(eyes: LabelledImages) -> Dataset:
    """The conditions of ``OWN`` as tasks of these phantoms; retinopathy is referable or not."""
    dataset = scoring.phantom_tasks(eyes)
    names = [("referable_dr" if disease == "dr_grade" else disease) for disease in OWN]
    return replace(dataset, tasks=[task for task in dataset.tasks if task.name in names])


def rankings(network: VisionCLIP, pixels: np.ndarray, queries: Sequence[Question]) -> np.ndarray:
    """By how much the model prefers the positive class of each of K questions for each of N images, float64 K×N."""
    embeds, scale = encoding.encode_images(network, pixels), network.scale.item()
    return np.stack([zero_shot.class_logits(embeds, one.classes, scale) @ [-1, 1] for one in queries])


def _positives(queries: Sequence[Question]) -> np.ndarray:
    return np.stack([one.positive for one in queries])


# --- Factors ------------------------------------------------------------------------------------------------------


def by_factor(drawn: Drawn, queries: Sequence[Question], ranked: np.ndarray, bins: int) -> list[dict]:
    """AUC in each bin of each factor: rows of ``condition``, ``factor``, ``bin``, ``images`` and ``auc``.

    A condition's own factors part the eyes that have it, each part against all eyes without it; ``SHARED`` ones part
    all eyes, and the AUC is the mean over the conditions that the part has two eyes with and two without.
    """
    rows, positives = [], _positives(queries)
    for place, one in enumerate(queries):
        disease = "dr_grade" if one.task.name == "referable_dr" else one.task.name
        for factor in OWN[disease]:
            for name, inside in _bins(drawn.factors[factor], one.positive, bins):
                part = inside | ~one.positive
                auc = intervals.mean_auc(positives[place : place + 1, part], ranked[place : place + 1, part])
                rows.append(
                    {
                        "condition": _named(disease),
                        "factor": factor,
                        "bin": name,
                        "images": int(inside.sum()),
                        "auc": auc,
                    }
                )
    for factor in SHARED:
        for name, inside in _bins(drawn.factors[factor], np.ones(len(drawn.eyes), bool), bins):
            enough = _enough(positives[:, inside])
            if enough.any():
                auc = intervals.mean_auc(positives[enough][:, inside], ranked[enough][:, inside])
                rows.append(
                    {"condition": "all", "factor": factor, "bin": name, "images": int(inside.sum()), "auc": auc}
                )
    return rows


def _named(disease: str) -> str:
    return VOCABULARY[disease].english[0]


def _bins(values: pandas.Series, used: np.ndarray, count: int) -> list[tuple[str, np.ndarray]]:
    """Up to ``count`` parts of the ``used`` eyes by a factor, of about as many eyes each: a name and bool N of each
    part with two eyes or more; a part for each choice of a factor that isn't a number."""
    if not pandas.api.types.is_numeric_dtype(values):
        parts = [(str(choice), used & (values == choice).to_numpy()) for choice in sorted(set(values[used]))]
    else:
        held = values.to_numpy(float)
        if len(single := np.unique(held[used])) <= count:
            parts = [(f"{value:.3g}", used & (held == value)) for value in single]
        else:
            edges = np.unique(np.quantile(held[used], np.linspace(0, 1, count + 1)))
            insides = [used & (held >= low) & ((held < high) | (high == edges[-1])) for low, high in pairwise(edges)]
            parts = [(f"{held[inside].min():.3g} to {held[inside].max():.3g}", inside) for inside in insides]
    return [(name, inside) for name, inside in parts if inside.sum() >= 2]


def worst_eyes(pixels: np.ndarray, queries: Sequence[Question], ranked: np.ndarray) -> dict[str, list[np.ndarray]]:
    """Of each condition the ``WORST`` of N eyes, uint8 N×S×S×3, that have it and are ranked lowest, rows for a
    gallery."""
    return {
        one.task.name: list(pixels[_lowest(one.positive, scores)])
        for one, scores in zip(queries, ranked, strict=True)
        if one.positive.sum() >= WORST
    }


def _lowest(positive: np.ndarray, scores: np.ndarray) -> np.ndarray:
    places = np.flatnonzero(positive)
    return places[np.argsort(scores[places])[:WORST]]


# --- Unusual eyes -------------------------------------------------------------------------------------------------


def pairs(
    network: VisionCLIP, tokenizer, count: int, size: int, languages: Sequence[str], prompts: int, seed: int
) -> list[dict]:
    """Each disease of each of ``PAIRS`` in eyes that have both, against eyes with the other alone: a row each with its
    AUC, beside it that of eyes with it alone against healthy ones, and whether balanced sets, as 01 draws them, show
    both in one eye."""
    rows, known = [], trained_together(seed)
    for first, second in PAIRS:
        kinds: list[dict[str, int]] = [{first: 1, second: 1}, {first: 1}, {second: 1}, {}]
        eyes = [_eye(kind, seed, place) for kind in kinds for place in range(count)]
        drawn = draw(eyes, [(seed, TOGETHER, place) for place in range(len(eyes))], size)
        queries = questions(network, tokenizer, of_phantoms(drawn.eyes), languages, prompts)
        ranked = rankings(network, drawn.eyes.pixels, queries)
        kind = np.repeat(np.arange(4), count)
        for disease, other in ((first, second), (second, first)):
            name = "referable_dr" if disease == "dr_grade" else disease
            place = next(i for i, one in enumerate(queries) if one.task.name == name)
            without = 2 if disease == first else 1
            both, single = np.isin(kind, (0, without)), np.isin(kind, (3 - without, 3))
            aucs = [
                intervals.mean_auc(queries[place].positive[None, part], ranked[None, place, part])
                for part in (both, single)
            ]
            row = {"condition": _named(disease), "with": _named(other), "auc": aucs[0], "alone": aucs[1]}
            rows.append({**row, "trained": "yes" if {disease, other} in known else "no"})
    return rows


def trained_together(seed: int, count: int = 20000) -> set[frozenset[str]]:
    """The pairs of diseases that any of ``count`` eyes has which are drawn as those of training sets are."""
    eyes = conditions.balanced(count, streams.rng(seed, "eyes to count pairs in"))
    return {frozenset(pair) for eye in eyes for pair in combinations([name for name in DISEASES if eye[name]], 2)}


def beyond(
    network: VisionCLIP, queries: Sequence[Question], drawn: Drawn, ranked: np.ndarray, count: int, size: int, seed: int
) -> list[dict]:
    """What fixing the factors of ``UNUSUAL`` costs: the first ``count`` eyes of ``alone`` of every condition, drawn
    again with them; rows of a ``presentation``, its mean AUC and the ``change`` of it, paired."""
    places = first(drawn.eyes, count)
    eyes, stream = [drawn.eyes.conditions[place] for place in places], [(seed, ALONE, int(place)) for place in places]
    positives, usual = _positives(queries)[:, places], ranked[:, places]
    rows = [{"presentation": "as usual", "auc": intervals.mean_auc(positives, usual), "change": Interval(0.0)}]
    for name, fixed in UNUSUAL.items():
        changed = rankings(network, draw(eyes, stream, size, fixed).eyes.pixels, queries)
        change = intervals.mean_difference(positives, changed, usual)
        rows.append({"presentation": name, "auc": intervals.mean_auc(positives, changed), "change": change})
    return rows


def first(eyes: LabelledImages, count: int) -> np.ndarray:
    """The places of ``count`` eyes of each presentation of diseases, int."""
    kinds = [tuple(key for key in OWN if eye[key]) for eye in eyes.conditions]
    return np.sort(
        np.concatenate([[i for i, own in enumerate(kinds) if own == kind][:count] for kind in dict.fromkeys(kinds)])
    ).astype(int)


def by_words(network: VisionCLIP, tokenizer, drawn: Drawn, languages: Sequence[str], prompts: int) -> list[dict]:
    """Each condition asked by its name and by what defines it alone: rows of ``condition``, both AUC and the
    ``change``, paired; the last row is the mean. Whether captions of the training had definitions is the model's."""
    dataset = of_phantoms(drawn.eyes)
    styles = (PLAIN, Style(naming="definitions"))
    named, defined = (questions(network, tokenizer, dataset, languages, prompts, style) for style in styles)
    usual, other = (rankings(network, drawn.eyes.pixels, queries) for queries in (named, defined))
    positives, rows = _positives(named), []
    parts = [(one.task.name, slice(place, place + 1)) for place, one in enumerate(named)]
    for name, part in [*parts, ("mean", slice(None))]:
        aucs = {
            kind: intervals.mean_auc(positives[part], ranked[part])
            for kind, ranked in (("name", usual), ("definition", other))
        }
        rows.append(
            {"condition": name, **aucs, "change": intervals.mean_difference(positives[part], other[part], usual[part])}
        )
    return rows


# --- Corruptions --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Corrupted:
    """Of a set ``name`` of N images: ``rows`` of ``corruption``, ``strength``, ``auc`` and the paired ``change``, the
    ``clean`` AUC and the ``mean`` change over all rows."""

    name: str
    images: int
    rows: list[dict]
    clean: Interval
    mean: Interval

    @property
    def grid(self) -> pandas.DataFrame:
        """The change of AUC by corruption and strength."""
        values = [{**row, "change": row["change"].value} for row in self.rows]
        return pandas.DataFrame(values).pivot(index="corruption", columns="strength", values="change")


def readable(corrupted: Sequence[Corrupted]) -> list[Corrupted]:
    """Those that lose anything when they are spoilt: drawn eyes, and sets whose AUC is surely above chance as they are.
    What is read by chance can as well rise as fall."""
    return [one for one in corrupted if one.name == scoring.PHANTOMS or (one.clean.low or 0.0) > 0.5]


def sample(dataset: Dataset, count: int, seed: int) -> Dataset:
    """``count`` images of ``fully_labelled``, by turns of each class of each task; the tasks that are left can be
    scored."""
    labelled = fully_labelled(dataset)
    order = streams.rng(seed, "images to corrupt").permutation(len(labelled))
    queues = [
        [place for place in order if task.targets[place] == label] for task, label in product(labelled.tasks, (0, 1))
    ]
    taken: dict[int, None] = {}
    for turn in range(len(order)):
        taken |= dict.fromkeys(queue[turn] for queue in queues if turn < len(queue))
    return _taken(labelled, list(taken)[:count])


def fully_labelled(dataset: Dataset) -> Dataset:
    """The tasks of two classes, and the images that are of a class of each: elsewhere an unknown label would pass for
    a healthy eye's."""
    queried = replace(dataset, tasks=scoring.two_class_tasks(dataset))
    if not queried.tasks:
        return _taken(queried, [])
    known = np.all([task.targets >= 0 for task in queried.tasks], axis=0)
    return _taken(queried, np.flatnonzero(known).tolist())


def _taken(dataset: Dataset, places: Sequence[int]) -> Dataset:
    """The images at these places, and of the tasks those that they can score."""
    kept = [replace(task, targets=task.targets[list(places)]) for task in dataset.tasks]
    return scoring.scorable(replace(dataset, images=dataset.images.take(places), tasks=kept))


def corrupt(
    network: VisionCLIP, queries: Sequence[Question], dataset: Dataset, strengths: Sequence[int], seed: int
) -> Corrupted:
    """Every corruption at these strengths, each against the same images as they were; intervals are over images, by
    patient where these are known."""
    pixels, positives = dataset.images.pixels, _positives(queries)
    groups, usual = dataset.images.members, rankings(network, pixels, queries)
    rows, every = [], []
    for name, strength in progress(list(product(corruptions.CORRUPTIONS, strengths)), f"corrupt {dataset.name}"):
        ranked = rankings(network, corruptions.corrupt(pixels, name, strength, seed), queries)
        every.append(ranked)
        auc = intervals.mean_auc(positives, ranked, groups)
        change = intervals.mean_difference(positives, ranked, usual, groups)
        rows.append({"corruption": name, "strength": strength, "auc": auc, "change": change})
    repeated = np.tile(positives, (len(every), 1)), np.concatenate(every), np.tile(usual, (len(every), 1))
    mean = intervals.mean_difference(*repeated, groups)
    return Corrupted(dataset.name, len(dataset), rows, intervals.mean_auc(positives, usual, groups), mean)


# --- Photographs and refusal --------------------------------------------------------------------------------------


def by_quality(network: VisionCLIP, tokenizer, dataset: Dataset, languages: Sequence[str], prompts: int) -> list[dict]:
    """Mean AUC of photographs by thirds of what tells their quality, which ``refusal`` measures: light and detail.

    It is that of ``fully_labelled`` photographs, over the tasks that every third has two eyes with and two without.
    """
    dataset = fully_labelled(dataset)
    queries = questions(network, tokenizer, dataset, languages, prompts)
    if not queries:
        return []
    ranked, positives = rankings(network, dataset.images.pixels, queries), _positives(queries)
    measured = np.stack([refusal.measure(one) for one in dataset.images.pixels])
    rows = []
    for quality in ("brightness", "detail of 2 px"):
        values = pandas.Series(measured[:, refusal.MEASURES.index(quality)])
        thirds = _bins(values, np.ones(len(values), bool), THIRDS)
        enough = np.all([_enough(positives[:, inside]) for _, inside in thirds], axis=0)
        for name, inside in thirds if enough.any() else ():
            groups = np.array(dataset.images.members)[inside]
            auc = intervals.mean_auc(positives[enough][:, inside], ranked[enough][:, inside], groups)
            row = {"dataset": dataset.name, "quality": quality, "bin": name}
            rows.append({**row, "images": int(inside.sum()), "auc": auc})
    return rows


def _enough(positives: np.ndarray) -> np.ndarray:
    """Which of K tasks have two of N images, bool K×N, that are positive, and two that aren't."""
    return (positives.sum(1) >= 2) & ((~positives).sum(1) >= 2)


def gaps(rows: Sequence[Mapping]) -> list[dict]:
    """One row a set and quality of ``by_quality``: the AUC of its ``first`` third and of its ``last``, and the ``gap``,
    the last minus the first. Which thirds are compared is fixed before they are seen."""
    sets: dict[tuple, list[Mapping]] = {}
    for row in rows:
        sets.setdefault((row["dataset"], row["quality"]), []).append(row)
    return [
        {"dataset": name, "quality": quality, "first": own[0]["auc"], "last": own[-1]["auc"]}
        | {"gap": intervals.difference(own[-1]["auc"], own[0]["auc"])}
        for (name, quality), own in sets.items()
        if len(own) == THIRDS
    ]


def refusals(drawn: Drawn, datasets: Sequence[Dataset], count: int, seed: int) -> list[dict]:
    """The share refused by ``refusal``: of ``count`` pictures of no retina of each kind and of all of them, of phantoms
    that can be read, and of the photographs of each set; rows of ``pictures``, ``retina``, ``images``, ``refused``."""
    clear = np.flatnonzero(drawn.factors[READABLE] == "yes")
    made = foreign.draw(drawn.eyes.pixels[clear], count, seed)
    of_kind = {name: refusal.refused(pixels) for name, pixels in progress(made.items(), "refuse")}
    rows = [_refused("no retina, all kinds", False, np.concatenate(list(of_kind.values())))]
    rows += [_refused(name, False, refused) for name, refused in of_kind.items()]
    rows.append(_refused("readable phantoms", True, refusal.refused(drawn.eyes.pixels[clear])))
    for one in datasets:
        rows.append(_refused(f"{one.name} ({one.split})", True, refusal.refused(one.images.pixels), one.images.members))
    return rows


def _refused(name: str, retina: bool, refused: np.ndarray, groups: Sequence[str] | None = None) -> dict:
    return {"pictures": name, "retina": retina, "images": len(refused), "refused": intervals.share(refused, groups)}


def verdict(factors: Sequence[Mapping], corrupted: Sequence[Corrupted], refused: Sequence[Mapping], size: int) -> str:
    """The answer in a sentence: the bin of a factor of drawn eyes, read at ``size`` pixels, whose AUC is surely low
    (its interval ends lowest), the set that loses most under corruption, and what is refused."""
    scored = [row for row in factors if row["auc"].value is not None]
    worst = min(scored, key=lambda row: row["auc"].value if row["auc"].high is None else row["auc"].high)
    kept = max((row for row in refused if row["retina"]), key=lambda row: row["refused"].value)
    return (
        f"Of drawn eyes of {size} pixels it reads worst {worst['condition']} with {worst['factor'].replace('_', ' ')} "
        f"{worst['bin']} (AUC {worst['auc']}, {worst['images']} eyes); {_spoilt(corrupted)}; {refused[0]['refused']} "
        f"of {refused[0]['images']} drawn pictures of no retina, of kinds by which the rule was chosen, are refused, "
        f"and at most {kept['refused']} of a set of eyes ({kept['pictures']})."
    )


def _spoilt(corrupted: Sequence[Corrupted]) -> str:
    """By how much corruption changes AUC on the set that loses most."""
    scored = [(one.mean.value, one) for one in corrupted if one.mean.value is not None]
    if not scored:
        return "too few images were corrupted to score any"
    change, most = min(scored, key=lambda pair: pair[0])
    loses = ", which loses most" if change < 0 else ""
    return f"corruption changes AUC by {most.mean:+.3f} on {most.name}{loses} ({most.images} images)"
