"""Stage 11: does a generator, or the model, give away whom it learnt from?

Photographs, or phantoms in their place, are split into *members*, which train, and as many *controls*, which do not;
what attacks find among both is compared. A generator of very few images, trained very long, shows that an attack does
find what is there to be found.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas
import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from visionclip import keys, runs, streams
from visionclip.conditions import VECTOR_NAMES
from visionclip.data import folders, images, tasks
from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import Dataset, NothingToScore
from visionclip.evaluation import encoding, intervals, privacy, probe, tables
from visionclip.evaluation.intervals import SIGNIFICANT, Interval
from visionclip.evaluation.privacy import Neighbours
from visionclip.models import generator, sampling
from visionclip.models.generator import VisionCLIPDDPMPipeline
from visionclip.models.visionclip import VisionCLIP
from visionclip.stages import pretrain, synthesis
from visionclip.training import contrastive, denoising, private
from visionclip.training.denoising import Settings

PHANTOMS = "phantoms"
DRAWN = "phantoms in the place of photographs"
TIMES, NOISES = 8, 2  # of the denoising loss of an image: steps of the noise schedule, and noises at each
LANGUAGES, CAPTIONS = ("en",), 4  # of the small models: words, and captions an image
BY_HEART_RATE = 2e-3  # learning rate of a generator that is to remember: twice the usual
BATCH = 32  # images of an update of the small models
READ = 128  # pixels at most at which features are taken
PUBLIC = "phantoms whose patches are public"
USEFUL = 5  # images with a condition, and without it, for anything to be learnt of it
PRIVATE_BATCH = 64  # images expected of a private update: noise is added once to all of them

ATTACK_COLUMNS = {
    "attack": "{name}",
    "AUC (chance 0.5)": "{auc}",
    "found at 1 % false alarms": "{tpr}",
    "members": "{members}",
    "controls": "{controls}",
}
NEIGHBOUR_COLUMNS = {
    "generator": "{name}",
    "distance by": "{kind}",
    "ratio": "{ratio}",
    "ratio by chance": "{chance}",
    "p": "{p:.3f}",
    "nearer to a member": "{nearer:.2f}",
    "near-copies (chance)": "{copies} ({by_chance:.3f})",
}


@dataclass(frozen=True)
class Halves:
    """Members and as many controls, of the set ``name``; ``credit`` is due where its images are shown, and empty where
    they may not be."""

    name: str
    credit: str
    members: LabelledImages
    controls: LabelledImages

    @property
    def both(self) -> LabelledImages:
        """Members, then controls."""
        return together(self.members, self.controls)

    @property
    def member(self) -> np.ndarray:
        """Bool N, which of ``both`` are members."""
        return np.arange(len(self.members) + len(self.controls)) < len(self.members)

    @property
    def shown(self) -> bool:
        """Whether a report may show its images."""
        return self.name == PHANTOMS or bool(self.credit)

    def few(self, count: int) -> "Halves":
        """The first ``count`` members (all where there are fewer), and all controls."""
        return replace(self, members=self.members.take(range(len(self.members))[:count]))


@dataclass
class Attacks:
    """What each attack found, by its name: ``rows`` as ``privacy.membership`` has them, ``curves`` of both rates."""

    rows: dict[str, dict] = field(default_factory=dict)
    curves: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def add(self, name: str, member: np.ndarray, scores: np.ndarray, groups: Sequence[str]) -> None:
        """Note an attack whose ``scores`` (N) are higher for likelier members (bool N)."""
        self.rows[name] = privacy.membership(member, scores, groups)
        self.curves[name] = privacy.curve(member, scores)

    def table(self) -> pandas.DataFrame:
        """A row an attack."""
        rows = [{"name": name, **row} for name, row in self.rows.items()]
        return tables.table(rows, tuple(ATTACK_COLUMNS), **ATTACK_COLUMNS)


def together(*sets: LabelledImages) -> LabelledImages:
    """Sets without masks one behind the other."""
    return LabelledImages(
        np.concatenate([one.pixels for one in sets]),
        [eye for one in sets for eye in one.conditions],
        [source for one in sets for source in one.sources],
        [key for one in sets for key in one.keys],
        [group for one in sets for group in one.members],
    )


def load(external: Path, photographs: str, count: int, size: int, seed: int) -> Halves:
    """Members and controls, up to ``count`` each: of the ``train`` split of the set ``photographs`` below ``external``,
    or of all its rows where it has no such split, and phantoms where there is no such set.

    Raises:
        ValueError: as ``folders.load``, or fewer than four photographs are labelled.
    """
    folder = external / photographs
    if not photographs or folder not in folders.find(external):
        eyes = synthesis.draw(2 * count, DRAWN, seed, size, unreadable=0.0).without_masks()
        return Halves(PHANTOMS, "", *split(eyes, count, seed))
    rows = folders.TRAIN if folders.has_rows(folder, folders.TRAIN) else {}
    known = stated(folders.load(folder, size, rows))
    if len(known) < 4:
        raise ValueError(f"{runs.relative(folder)}: {len(known)} labelled photographs; at least 4 are needed")
    return Halves(photographs, folders.credit(photographs), *split(known, count, seed))


def stated(dataset: Dataset) -> LabelledImages:
    """The images of a dataset with what its tasks say of each (see ``tasks.stated``); those of which nothing is said
    are left out."""
    eyes = tasks.stated(dataset)
    known = replace(dataset.images, conditions=eyes)
    return known.take([place for place, eye in enumerate(eyes) if eye])


def split(known: LabelledImages, count: int, seed: int) -> tuple[LabelledImages, LabelledImages]:
    """Members and controls, ``count`` each or half of what there is, both images of a group on one side.

    Raises:
        ValueError: all labelled images are of one group.
    """
    groups = np.array(known.members)
    halves: tuple[list[int], list[int]] = ([], [])
    for group in streams.rng(seed, "members and controls").permutation(np.unique(groups)):
        min(halves, key=len).extend(np.flatnonzero(groups == group).tolist())
    if not all(halves):
        raise ValueError(f"privacy: {len(known)} labelled images, all of one patient; add photographs of another")
    most = min(count, *map(len, halves))
    return known.take(halves[0][:most]), known.take(halves[1][:most])


def learn(members: LabelledImages, settings: Settings, folder: Path) -> VisionCLIPDDPMPipeline:
    """A generator of the members by their conditions; a finished or stopped one is taken up from ``folder``."""
    return denoising.train(members, settings, folder)[0]


def learn_privately(
    members: LabelledImages, settings: Settings, epsilon: float, folder: Path
) -> VisionCLIPDDPMPipeline:
    """As ``learn``, with differential privacy of ``epsilon`` for each member; phantoms give what must be public."""
    public = synthesis.draw(len(members), PUBLIC, settings.seed, members.pixels.shape[1], 0.0).without_masks()
    changed = {"epsilon": epsilon, "precision": "fp32", "batch_size": min(PRIVATE_BATCH, len(members))}
    return private.train(members, public, private.Settings(**{**vars(settings), **changed}), folder)[0]


def generate(pipeline: VisionCLIPDDPMPipeline, halves: Halves, count: int, seed: int) -> np.ndarray:
    """``count`` generated images uint8 N×S×S×3 of ``conditions_to_generate``."""
    return sampling.sample(pipeline, conditions_to_generate(halves, count, seed), seed=seed)


def conditions_to_generate(halves: Halves, count: int, seed: int) -> np.ndarray:
    """``count`` vectors float32 N×K of the conditions of members and of controls in equal parts: of those of members
    alone generated images would be nearer to members, whoever trained the generator."""
    order = streams.rng(seed, "conditions that are generated").permutation(len(halves.members))
    return halves.both.vectors[np.resize(np.stack([order, order + len(halves.members)], 1), count)]


@torch.no_grad()
def denoising_losses(
    pipeline: VisionCLIPDDPMPipeline, known: LabelledImages, settings: Settings, kept: Path
) -> np.ndarray:
    """The denoising loss of each image with its conditions, float64 N, a mean over the same ``TIMES`` and ``NOISES``
    for all of them, as noise of its own would drown what tells images apart; read back from ``kept``.

    Members have a lower one where a generator remembers them (Carlini et al., USENIX Security 2023; Matsumoto et al.
    2023).
    """
    network = pipeline.unet
    schedule = generator.noise_schedule(network.config.prediction)
    times = torch.linspace(0, len(schedule.betas) - 1, TIMES + 2)[1:-1].round().long().repeat(NOISES)
    count, grid = len(times), network.config.size // network.config.patch
    source = streams.torch_rng(settings.seed, "noises of the membership attack")
    noise = torch.randn((count, network.config.components, grid, grid), generator=source)
    key = keys.digest([keys.weights(network), known.key, settings, keys.code(__file__)])

    def compute() -> list[float]:
        losses = []
        for pixels, vector in zip(known.pixels, known.vectors, strict=True):
            latents = network.encode(torch.from_numpy(pixels[None]).to(network.device)).expand(count, -1, -1, -1)
            labels = torch.from_numpy(vector).to(network.device).expand(count, -1)
            keep = torch.ones(count, 2, device=network.device)
            given = latents, noise.to(network.device), times.to(network.device), labels, None, keep, None
            losses.append(denoising.denoising_loss(network, schedule, *given, settings.highest_weight).item())
        return losses

    return np.array(runs.cached(kept, key, compute))


def features(network: VisionCLIP, pixels: np.ndarray, size: int) -> np.ndarray:
    """Features of unit length, float32 N×D, of images uint8 N×S×S×3 as the model sees them at ``size`` pixels, or at
    ``READ``: the generated ones have fewer."""
    found = encoding.encode_images(network, images.resized(pixels, min(size, READ)), projected=False)
    return functional.normalize(found.float(), dim=1).numpy()


def neighbours(
    made: np.ndarray, halves: Halves, network: VisionCLIP, size: int, seed: int, draws: int
) -> dict[str, dict[str, object]]:
    """Of generated images uint8 N×S×S×3 the nearest ``neighbours`` and the ``copies``, a share with its interval and
    what it is ``by_chance``, by "pixels" (thumbnails) and by "features" (of the network at ``size`` pixels)."""
    found: dict[str, dict[str, object]] = {}
    sets = made, halves.members.pixels, halves.controls.pixels
    compared = slice(2 * len(halves.members))
    kinds = {
        "pixels": [privacy.thumbnails(one) for one in sets],
        "features": [features(network, one, size) for one in sets],
    }
    for name, (own, members, controls) in kinds.items():
        rng = streams.rng(seed, "members by lot")
        few = controls[: len(members)]
        near = privacy.neighbours(own, members, few, rng, draws, halves.both.members[compared])
        copies = intervals.share(privacy.copies(own, members, controls))
        found[name] = {"near": near, "copies": copies, "by_chance": privacy.by_chance(len(controls))}
    return found


def neighbour_table(rows: Mapping[str, Mapping[str, Mapping]]) -> pandas.DataFrame:
    """A row for each generator and kind of distance, from what ``neighbours`` gave by generator."""
    listed = []
    for name, kinds in rows.items():
        for kind, row in kinds.items():
            near: Neighbours = row["near"]
            listed.append(
                {"name": name, "kind": kind, "copies": row["copies"], "by_chance": row["by_chance"], **vars(near)}
            )
    return tables.table(listed, tuple(NEIGHBOUR_COLUMNS), **NEIGHBOUR_COLUMNS)


def pictures(made: np.ndarray, halves: Halves, count: int) -> dict[str, list[np.ndarray]]:
    """The ``count`` generated images that are nearest to a member by their ratio, with that member and the nearest
    control, by thumbnails: rows for a gallery."""
    small, members, controls = (
        privacy.thumbnails(one) for one in (made, halves.members.pixels, halves.controls.pixels[: len(halves.members)])
    )
    to_members, to_controls = privacy.distances(small, members), privacy.distances(small, controls)
    worst = np.argsort(privacy.ratios(to_members, to_controls))[:count]
    return {
        "generated": [*made[worst]],
        "nearest member": [*halves.members.pixels[to_members[worst].argmin(1)]],
        "nearest control": [*halves.controls.pixels[to_controls[worst].argmin(1)]],
    }


def price(losses: Mapping[str, np.ndarray], member: np.ndarray) -> pandas.DataFrame:
    """The mean denoising loss of each generator on members and on controls, a row each: one that learnt nothing is as
    private as one can be, and draws noise."""
    columns = ("generator", "loss of members", "loss of controls")
    return pandas.DataFrame(
        [(name, float(own[member].mean()), float(own[~member].mean())) for name, own in losses.items()], columns=columns
    )


def utility(
    learnt_from: Mapping[str, tuple[np.ndarray, np.ndarray]], controls: LabelledImages, network: VisionCLIP, size: int
) -> dict[str, Interval]:
    """What images are worth to learn from: for each pair of pixels uint8 N×S×S×3 and condition vectors N×K the mean AUC
    of logistic regressions on the network's ``features`` that learnt from them and are asked of the controls, over the
    conditions that ``USEFUL`` images of every set and of the controls have, and lack ("train on synthetic, test on
    real", Esteban et al. 2017). All learn from as many images, the first ones of each; intervals are over the controls.
    Undefined where there is no such condition."""
    of_controls, count = controls.vectors, min((len(pixels) for pixels, _ in learnt_from.values()), default=0)
    learnt_from = {name: (pixels[:count], vectors[:count]) for name, (pixels, vectors) in learnt_from.items()}
    sets = [of_controls, *(vectors for _, vectors in learnt_from.values())]
    common = [place for place, name in enumerate(VECTOR_NAMES) if all(_useful(one[:, place]) for one in sets)]
    common = [place for place in common if not VECTOR_NAMES[place].startswith("eye_side")]
    if not common:
        return dict.fromkeys(learnt_from, Interval(None))
    unseen, found = features(network, controls.pixels, size), {}
    for name, (pixels, vectors) in learnt_from.items():
        known = features(network, pixels, size)
        fitted = [probe.regression(probe.STRENGTH).fit(known, vectors[:, place] > 0) for place in common]
        rankings = np.stack([one.decision_function(unseen) for one in fitted])
        found[name] = intervals.mean_auc(of_controls[:, common].T > 0, rankings, controls.members)
    return found


def _useful(known: np.ndarray) -> bool:
    """Whether enough of the images have a condition (0 or 1, NaN where unknown), and enough lack it."""
    return not np.isnan(known).any() and USEFUL <= known.sum() <= len(known) - USEFUL


def with_marks(members: LabelledImages, share: float) -> LabelledImages:
    """The members, the first ``share`` (0 to 1) of them with a text burnt into a corner."""
    pixels, count = members.pixels.copy(), round(share * len(members))
    pixels[:count] = privacy.marked(pixels[:count])
    return replace(members, pixels=pixels)


def found_marks(made: np.ndarray, members: LabelledImages, halves: Halves, share: float) -> dict[str, Interval]:
    """The share that shows the mark, of the generated images, of the members that bear it and of those that don't, by a
    correlation above that of all but 1 % of the controls."""
    limit = privacy.mark_scores(halves.controls.pixels)
    count = round(share * len(members))
    sets = {"generated": made, "members with it": members.pixels[:count], "members without": members.pixels[count:]}
    return {
        name: intervals.share(privacy.above(privacy.mark_scores(one), limit)) for name, one in sets.items() if len(one)
    }


def learn_model(
    known: LabelledImages, updates: int, seed: int, folder: Path
) -> tuple[VisionCLIP, PreTrainedTokenizerBase]:
    """A small VisionCLIP of these images and captions of their conditions, without augmentation, which would hide them:
    the worst case. A finished or stopped one is taken up from ``folder``."""
    settings = contrastive.Settings(
        updates=updates,
        batch_size=min(BATCH, len(known)),
        learning_rate=3e-3,
        text_warmup=updates // 2,
        augmentation=0.0,
        precision="auto",
        seed=seed,
    )
    return pretrain.learn(known, pretrain.SMALL, settings, folder, LANGUAGES, CAPTIONS)


def caption_losses(
    network: VisionCLIP, tokenizer, known: LabelledImages, languages: Sequence[str], seed: int
) -> np.ndarray:
    """The cross-entropy of each image, float64 N: how surely, among all captions of the set, the model points to those
    that are its own."""
    pairs = pretrain.with_captions(known, languages, CAPTIONS, seed)
    texts = encoding.encode_texts(network, tokenizer, [caption.text for caption in pairs.captions], warned=False)
    embeds = encoding.encode_images(network, known.pixels, batch_size=16)
    log_shares = functional.log_softmax(network.scale.item() * embeds @ texts.T, dim=1)
    own = [
        torch.logsumexp(row[list(texts_of)], 0).item() for row, texts_of in zip(log_shares, pairs.texts_of, strict=True)
    ]
    return -np.array(own, np.float64)


def model_shadows(halves: Halves, count: int, updates: int, seed: int, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """``caption_losses`` by ``count`` models that ``learn_model`` trains; see ``_by_shadows``."""
    both = halves.both

    def losses(part: LabelledImages, number: int) -> np.ndarray:
        network, tokenizer = learn_model(part, updates, seed + 1 + number, folder / f"shadow-{number}")
        return caption_losses(network, tokenizer, both, LANGUAGES, seed)

    return _by_shadows(both, count, seed, losses)


def generator_shadows(halves: Halves, count: int, settings: Settings, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """``denoising_losses`` by ``count`` generators that ``learn`` trains; see ``_by_shadows``."""
    both = halves.both

    def losses(part: LabelledImages, number: int) -> np.ndarray:
        place = folder / f"shadow-generator-{number}"
        pipeline = learn(part, replace(settings, seed=settings.seed + 1 + number), place)
        return denoising_losses(pipeline, both, settings, place / "losses.json")

    return _by_shadows(both, count, settings.seed, losses)


def _by_shadows(
    both: LabelledImages, count: int, seed: int, losses: Callable[[LabelledImages, int], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The losses of all images R×N after ``count`` trainings on a half of them drawn by lot and on the other, by turns
    (``losses`` of the half, by its number), and who was in each, bool R×N."""
    found, inside = [], []
    for number in range(count):
        order = streams.rng(seed, "halves of the shadows", number // 2).permutation(len(both))
        taken = (np.argsort(order) < len(both) // 2) == (number % 2 == 0)
        found.append(losses(both.take(np.flatnonzero(taken)), number))
        inside.append(taken)
    return np.array(found), np.array(inside)


def published(external: Path, photographs: str, size: int) -> Halves | None:
    """The ``train`` split of a set as members and its reported split as controls, which whoever saw no photograph can't
    tell apart but by how the two differ; None where the set has not both."""
    folder = external / photographs
    if not photographs or folder not in folders.find(external) or not folders.has_rows(folder, folders.TRAIN):
        return None
    if folders.reports(folder, folders.TRAIN):
        return None
    try:
        train, test = (stated(folders.load(folder, size, rows)) for rows in (folders.TRAIN, None))
    except NothingToScore:
        return None
    return Halves(photographs, folders.credit(photographs), train, test)


def verdict(halves: Halves, attacks: Attacks, whole: str, few: str, model: str) -> str:
    """The answer in a sentence, from the rows of these attacks by losses: on the generator of all members, on that of a
    few, and on the model. What is near, or bears a mark, says ``beside``.

    Members are given away where the AUC is surely above 0.5, or where more of them are found at 1 % false alarms than
    luck explains: a few can be, while all others are hidden among the controls.
    """
    of_all, of_few, of_model = (attacks.rows[name] for name in (whole, few, model))
    source = PHANTOMS if halves.name == PHANTOMS else f"photographs of {halves.name}"
    source += f" at {halves.members.pixels.shape[1]} pixels"

    def found(row: Mapping) -> str:
        auc: Interval = row["auc"]
        sure = (auc.value if auc.low is None else auc.low) or 0.0
        gives = "gives away" if sure > 0.5 or _luck(row) < SIGNIFICANT / 2 else "is not shown to give away"
        return f"{gives} whom it learnt from (AUC {auc}, {row['tpr']} found at 1 % false alarms)"

    return (
        f"By losses a generator of {of_all['members']} {source} {found(of_all)}, a small VisionCLIP {found(of_model)}, "
        f"and of {of_few['members']} learnt by heart {of_few['tpr']} are found (chance: AUC 0.5, "
        f"{privacy.by_chance(of_all['controls']):.3f} found)."
    )


def _luck(row: Mapping) -> float:
    """How likely as many members are found at 1 % false alarms by luck alone."""
    return privacy.by_luck(round(row["tpr"].value * row["members"]), row["members"], row["controls"])


def of_unseen(rows: Mapping[str, Mapping]) -> str:
    """What the same attacks find in networks that saw phantoms alone, a clause each: whether AUC is apart from 0.5, and
    the members found beside how likely luck finds as many."""
    if not rows:
        return "Without photographs of two splits, networks that saw none are not attacked."
    clauses = []
    for name, row in rows.items():
        auc: Interval = row["auc"]
        where = "at chance" if (auc.low or 0.0) <= 0.5 <= (auc.high or 1.0) else "apart from chance"
        hits = f"{row['tpr']} found at 1 % false alarms, by luck p {_luck(row):.2f}"
        clauses.append(f"{name} is {where} (AUC {auc}; {hits})")
    return f"Of what saw phantoms alone, {' and '.join(clauses)}."


def beside(
    near: Mapping[str, Mapping],
    by_heart: Mapping[str, Mapping],
    marks: Mapping[str, Interval],
    share: float,
    controls: int,
) -> str:
    """What the images of a generator give away beside its losses, in a sentence: whether they are nearer to members
    than chance has it, by each kind of distance (a generator's rows of ``neighbours``) by which those of a generator
    that learnt a few ``by_heart`` are, and how many repeat a mark that a ``share`` of the members bore
    (``found_marks``, by so many ``controls``)."""

    def nearer(kind: str, row: Mapping) -> str:
        found, control = row["near"], by_heart[kind]["near"]
        if control.p >= SIGNIFICANT:
            return (
                f"by {kind} can't be told, as copies of a few learnt by heart are not nearer either (p {control.p:.3f})"
            )
        sure = "are nearer to members than chance has it" if found.p < SIGNIFICANT else "are not shown to be nearer"
        return f"by {kind} {sure} (ratio {found.ratio.value:.3f}, p {found.p:.3f})"

    return (
        f"Generated images {' and '.join(nearer(*row) for row in near.items())}; of a generator whose members bore a "
        f"text in {share:.0%}, {marks['generated']} of the images show it (chance {privacy.by_chance(controls):.3f})."
    )
