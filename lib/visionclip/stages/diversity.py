"""Stage 08: what a set must contain. Captions and drawn eyes are made poorer in one way each, at the same size.

Every arm trains both towers on as many phantoms for as many updates, and is asked about the same held-out phantoms in
its own words. No photograph takes part, so that whatever is chosen here was chosen on phantoms.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas
import torch
from scipy import stats

from visionclip import conditions, phantom, runs
from visionclip.data import images
from visionclip.data.folders import Dataset
from visionclip.data.shards import Images
from visionclip.evaluation import metrics, zero_shot
from visionclip.models import visionclip
from visionclip.text import captions
from visionclip.text.captions import PLAIN, Style
from visionclip.training import contrastive
from visionclip.training.contrastive import Pairs, Settings

WHOLE = "everything"
SURE = 0.05  # adjusted p below which a difference is told
PROMPTS = 6  # wordings of each condition and language that are asked


@dataclass(frozen=True)
class Arm:
    """One way to make the set: languages and style of the captions and prompts, factors that all eyes share, and
    whether an eye may have a second disease."""

    languages: tuple[str, ...] = ("zh", "en")
    style: Style = PLAIN
    fixed: Mapping[str, object] = field(default_factory=dict)
    alone: bool = False

    @property
    def drawing(self) -> str:
        """What tells drawn sets apart: arms with the same drawing share their eyes."""
        return runs.digest([dict(self.fixed), self.alone])


ARMS: dict[str, Arm] = {
    WHOLE: Arm(),
    "Chinese only": Arm(languages=("zh",)),
    "English only": Arm(languages=("en",)),
    "one wording": Arm(style=Style(variety=1)),
    "definitions": Arm(style=Style("definitions")),
    "names and definitions": Arm(style=Style("both")),
    "one camera": Arm(fixed={"camera": "canon", "colour": "neutral", "field_shape": "circle", "field_radius": 3.2}),
    "one anatomy": Arm(fixed={"pigment": 0.5, "age": 60, "rotation": 0, "gaze": 0.2, "tortuosity": 1.0}),
    "one disease an eye": Arm(alone=True),
}


def settings_like(like: SimpleNamespace, **changed: int) -> Settings:
    """The settings of these parameters of stage 03, but for those ``changed``."""
    names = {one.name for one in fields(Settings)} - {"checkpoint_every", *changed}
    return Settings(**{name: getattr(like, name) for name in names}, **changed)


def check_arms(names: Sequence[str]) -> None:
    """Raise ValueError unless all are names of ``ARMS``, each once, with ``WHOLE`` among them."""
    unknown = [name for name in names if name not in ARMS]
    if unknown or WHOLE not in names or len(set(names)) < len(names):
        what = f"{unknown[0]!r} is not known" if unknown else f"{WHOLE!r} must be there, and each arm once"
        raise ValueError(f"arms: {what}; choose from {', '.join(ARMS)}")


def eyes_of(arm: Arm, count: int, seed: int) -> list[dict[str, int]]:
    """Conditions of ``count`` eyes, balanced over the vocabulary; of each the main disease only where ``alone``."""
    eyes = conditions.balanced(count, np.random.default_rng([seed, 8, 1]))
    return [_main(eye) for eye in eyes] if arm.alone else eyes


def _main(eye: dict[str, int]) -> dict[str, int]:
    """The eye with nothing but its main disease, and macular edema without its retinopathy."""
    kept = conditions.presentation(eye).split(" ")[0]
    return {key: value if key == kept or key not in conditions.DISEASES else 0 for key, value in eye.items()}


def draw(arm: Arm, count: int, size: int, seed: int, workers: int = 0) -> Images:
    """``count`` phantoms as the arm draws them."""
    eyes = eyes_of(arm, count, seed)
    seeds = [[seed, 8, index] for index in range(count)]
    drawn = phantom.render_each(eyes, seeds, size, _picture, f"phantoms, seed {seed}", workers, arm.fixed)
    return Images(np.stack(list(drawn)), eyes, ["phantom"] * count, [f"eye-{index:07d}" for index in range(count)])


def _picture(drawn: phantom.Phantom) -> np.ndarray:
    return drawn.image


def reduced(held_out: Images, size: int) -> Images:
    """Held-out phantoms at another size."""
    pixels = np.stack([images.prepare(picture, size) for picture in held_out.pixels])
    return Images(pixels, held_out.conditions, held_out.sources, held_out.keys)


def teach(arm: Arm, training: Images, per_image: int, towers: Sequence[int], settings: Settings, folder: Path):
    """Both towers and their tokenizer, trained on ``training`` with the arm's captions; ``towers`` are the sizes that
    ``visionclip.sized`` takes before the vocabulary. A stopped run goes on from its checkpoint in ``folder``."""
    rng = np.random.default_rng([settings.seed, 8, 2])
    table, texts_of = captions.table(training.conditions, arm.languages, per_image, rng, arm.style)
    tokenizer = captions.train_tokenizer([caption.text for caption in table], folder / "tokenizer")
    torch.manual_seed(settings.seed)
    network = visionclip.VisionCLIP(visionclip.sized(*towers, len(tokenizer)))
    contrastive.train(network, tokenizer, Pairs(training, table, texts_of), settings, folder)
    return network, tokenizer


def ask(network, tokenizer, arm: Arm, dataset: Dataset) -> dict[str, float]:
    """AUC (0 to 1) of every task of the dataset, in the arm's languages and style."""
    logits = zero_shot.predict(network, tokenizer, dataset, arm.languages, PROMPTS, arm.style)
    return {task.name: metrics.scores(task.targets, logits[task.name], task.ordinal)["auc"] for task in dataset.tasks}


def answers(
    folder: Path,
    name: str,
    training: Images,
    held_out: Dataset,
    per_image: int,
    towers: Sequence[int],
    settings: Settings,
) -> dict[str, float]:
    """Teach the arm ``name`` and ask it; its answers are kept below ``folder`` and read back if nothing changed."""
    seen = hashlib.sha256(training.pixels)
    seen.update(held_out.pixels)
    told = {"arm": repr(ARMS[name]), "towers": list(towers), "settings": repr(settings), "captions": per_image}
    told |= {"pixels": seen.hexdigest()[:12], "tasks": [task.name for task in held_out.tasks]}
    kept = folder / f"{name}-{settings.seed}.json".replace(" ", "-")
    if kept.is_file() and (read := runs.read_json(kept))["told"] == told:
        return read["auc"]
    place = folder / kept.stem
    found = ask(*teach(ARMS[name], training, per_image, towers, settings, place), ARMS[name], held_out)
    runs.write_json(kept, {"told": told, "auc": found})
    (place / "checkpoint.safetensors").unlink()
    return found


def compare(told: Mapping[str, Sequence[Mapping[str, float]]]) -> list[dict]:
    """One row an arm: its AUC, mean over tasks and seeds with a 95 % t-interval over seeds, and likewise its difference
    to everything, seed by seed; ``adjusted_p`` is of a paired t-test, Holm-corrected over the arms, None for one seed.
    ``told`` holds the answers of each seed, in the same order for all arms."""
    means = {name: np.array([np.mean(list(answer.values())) for answer in seeds]) for name, seeds in told.items()}
    rows = [
        {
            "arm": name,
            "auc": metrics.summary_interval(values),
            "difference": metrics.summary_interval(values - means[WHOLE]) if name != WHOLE else None,
            "adjusted_p": None,
            "seeds": values.tolist(),
        }
        for name, values in means.items()
    ]
    tested = [row for row in rows if row["difference"] and len(row["seeds"]) > 1]
    p_values = [float(stats.ttest_rel(means[row["arm"]], means[WHOLE]).pvalue) for row in tested]
    for row, adjusted in zip(tested, metrics.holm(np.nan_to_num(p_values, nan=1.0)), strict=True):
        row["adjusted_p"] = adjusted
    return rows


def table(rows: Sequence[dict]) -> pandas.DataFrame:
    """One row an arm, the best first; * where it differs from everything at an adjusted 5 %."""

    def difference(row: dict) -> str:
        if row["difference"] is None:
            return ""
        low, high = (row["difference"][end] for end in ("low", "high"))
        interval = "" if low is None else f" [{low:+.3f}, {high:+.3f}]"
        star = "*" if row["adjusted_p"] is not None and row["adjusted_p"] < SURE else ""
        return f"{row['difference']['value']:+.3f}{interval}{star}"

    return pandas.DataFrame(
        {"set": row["arm"], "mean AUC": zero_shot.cell(row["auc"]), "difference": difference(row)}
        for row in sorted(rows, key=lambda row: -row["auc"]["value"])
    )


def verdict(rows: Sequence[dict]) -> str:
    """Which arms differ from everything by more than chance over seeds, in words."""
    tested = [row for row in rows if row["adjusted_p"] is not None]
    if not tested:
        return "One seed was run: nothing is said of what differs by chance."
    sure, parts = [row for row in tested if row["adjusted_p"] < SURE], []
    for words, found in (
        ("worse", [row["arm"] for row in sure if row["difference"]["value"] < 0]),
        ("better", [row["arm"] for row in sure if row["difference"]["value"] > 0]),
    ):
        if found:
            parts.append(f"{words} than everything: {', '.join(found)}")
    return f"Over {len(rows[0]['seeds'])} seeds, {'; '.join(parts) or 'no arm differs by more than chance'}."
