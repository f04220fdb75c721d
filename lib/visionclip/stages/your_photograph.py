"""Stage 12: what a trained model sees in photographs that nobody has labelled.

Each picture is looked at before the model is: one that is no retina is refused. Of the others every condition is
predicted by the rules of ``evidence``, with what the prediction is worth where a ``reference`` lies beside the model,
and where it sees which finding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import pandas

from visionclip import phantom, runs, streams
from visionclip.conditions import DISEASES, FINDINGS, VOCABULARY, Conditions
from visionclip.data import field_of_view, images
from visionclip.data.folders import PICTURES
from visionclip.evaluation import evidence, pointing, refusal
from visionclip.evaluation import reference as references
from visionclip.evaluation.encoding import encode_images
from visionclip.evaluation.reference import CHANCE, SPECIFICITY, Reference, Worth
from visionclip.models import visionclip
from visionclip.models.visionclip import VisionCLIP

PUBLISHED = "weights/visionclip"  # folder of the model that reads where none is named
STANDING_IN: tuple[dict[str, int], ...] = (
    {"dr_grade": 3, "dme": 1},
    {"gc": 1},
    {},
)  # drawn where no photograph is given
LANGUAGES, NEAREST = ("zh", "en"), 4  # of the findings' names, where there is no reference; drawn eyes shown
SOFT, DARK = 0.9, 25.0  # mean absolute Laplacian and mean green inside the field, of 255, below which it is remarked
SURE = 0.5  # probability from which a cell is said to show a finding, and a higher grade is stated for a lower one
SHOWN = 5  # conditions of an eye in the notebook's table, where no more are seen
LESIONS = tuple(name for name, finding in FINDINGS.items() if finding.lesion)


@dataclass(frozen=True)
class Predicted:
    """One condition ("dr_grade>=2") of one photograph: its ``logit`` and, where the model has a reference, its
    ``probability`` (0 to 1), what that is ``worth``, and whether it is ``seen``: the logit reaches the cut there, and
    the model tells such photographs at all."""

    condition: str
    logit: float
    probability: float | None
    worth: Worth | None
    seen: bool

    @property
    def names(self) -> tuple[str, str]:
        """The condition in Chinese and English."""
        return named(self.condition)

    @property
    def believed(self) -> str:
        """What the prediction is worth, in words."""
        if self.worth is None:
            return "not measured on photographs"
        figure = f"AUC {self.worth.auc:.2f} on {self.worth.n} photographs, {self.worth.positive} with it"
        if self.worth.lowest:
            figure += ", on {} alone {:.2f}".format(*self.worth.lowest)
        others = f"flags {1 - SPECIFICITY:.0%} of the others, so that {self.worth.right:.0%} of flags are right"
        found = f"finds {self.worth.sensitivity:.0%} of these and {others}"
        weak = f"too weak to be stated (lower limit of AUC not above {CHANCE}): {figure}"
        return f"{figure}; {found}" if self.worth.above_chance else weak


@dataclass(frozen=True)
class Examined:
    """One photograph: its ``name``, why it is refused (empty: it isn't), remarks on its quality, the prepared picture
    uint8 S×S×3, what is ``predicted`` by condition, maps of ``FINDINGS`` float32 C×s×s (0 to 1), the drawn eyes most
    like it: thumbnail, what it was drawn with, cosine similarity; and the lesions that are ``found``.

    A lesion is found where it is seen more surely than in nine of ten healthy photographs, as the reference has it
    (which may not); without a reference where a cell is likelier to show it than not."""

    name: str
    refused: list[str]
    remarks: list[str] = field(default_factory=list)
    picture: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 3), np.uint8))
    predicted: list[Predicted] = field(default_factory=list)
    maps: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0), np.float32))
    nearest: list[tuple[np.ndarray, str, float]] = field(default_factory=list)
    found: list[str] = field(default_factory=list)

    @property
    def seen(self) -> list[Predicted]:
        """The conditions that are seen; of grades one alone, the highest that is likelier than not, or else the lowest
        that is seen."""
        stated: dict[str, Predicted] = {}
        for one in self.predicted:
            key = one.condition.split(">=")[0]
            if one.seen and (key not in stated or (one.probability or 0.0) >= SURE):
                stated[key] = one
        return list(stated.values())

    @cached_property
    def overlay(self) -> np.ndarray:
        """The picture with its findings painted over it, uint8 S×S×3."""
        return pointing.overlay(self.picture[None], self.maps[None], tuple(FINDINGS))[0]

    @property
    def findings(self) -> list[tuple[str, str]]:
        """The lesions that are found, in Chinese and English."""
        return [(FINDINGS[name].chinese[0], FINDINGS[name].english[0]) for name in self.found]

    @property
    def sentence(self) -> str:
        """What is seen, in both languages, or why nothing is said."""
        if self.refused:
            return f"not read: {'; '.join(self.refused)}"
        if not any(one.worth for one in self.predicted):
            return "nothing is said: what this model's predictions are worth on photographs was not measured"
        chinese, english = zip(*([one.names for one in self.seen] or [("未见异常", "nothing")]), strict=True)
        return f"{'，'.join(chinese)} · {', '.join(english)}"


def named(condition: str) -> tuple[str, str]:
    """A condition ("dr_grade>=2") in Chinese and English words."""
    key, _, value = condition.partition(">=")
    word, grade = VOCABULARY[key], int(value)
    if not word.grades or grade == 1:
        return word.chinese[0], word.english[0]
    chinese, english = word.grades[grade - 1]
    higher = ("及以上", " or worse") if grade < word.highest else ("", "")
    return f"{chinese}{higher[0]}{word.chinese[0]}", f"{word.english[0]}, {english}{higher[1]}"


def drawn_with(eye: Conditions) -> str:
    """The diseases that an eye was drawn with, in English words."""
    shown = [VOCABULARY[key] for key in DISEASES if eye.get(key)]
    words = [f"{one.grades[eye[one.key] - 1][1]} {one.english[0]}" if one.grades else one.english[0] for one in shown]
    return ", ".join(words) or "healthy"


def find(given: str | Path | Sequence[str | Path]) -> list[Path]:
    """The photographs that are given: a folder's, or the files named.

    Raises:
        FileNotFoundError: there is no such file or folder, or no picture in the folder.
    """
    found: list[Path] = []
    for one in [given] if isinstance(given, str | Path) else given:
        place = runs.resolve(one)
        if not place.exists():
            raise FileNotFoundError(f"{one}: no such file or folder; give photographs, or a folder of them")
        inside = sorted(path for path in place.iterdir() if path.suffix.lower() in PICTURES) if place.is_dir() else []
        if place.is_dir() and not inside:
            raise FileNotFoundError(f"{one}: no picture there ({', '.join(PICTURES)}); give a folder of photographs")
        found += inside or [place]
    return found


def stand_ins(folder: Path, size: int, seed: int) -> list[Path]:
    """Drawn eyes as picture files below ``folder``, called so, for whoever gives no photograph."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for place, eye in enumerate(STANDING_IN):
        drawn = phantom.render(eye, streams.rng(seed, "eyes that stand in for photographs", place), size)
        path = folder / f"drawn eye {place + 1}, {drawn_with(eye)}.png"
        cv2.imwrite(str(path), drawn.image[..., ::-1])
        paths.append(path)
    return paths


def keep_uploads(uploaded: Sequence[Mapping], folder: Path) -> list[Path]:
    """Write what was uploaded in a widget (``name`` and ``content`` each) below ``folder``, each in a folder of its
    own, as two may have one name."""
    paths = []
    for place, one in enumerate(uploaded):
        # a name that climbs out of the folder does not
        path = folder / str(place + 1) / (Path(one["name"]).name.strip(".") or "upload")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(one["content"]))
        paths.append(path)
    return paths


def read(photographs: str | Path | Sequence[str | Path], model: str | Path = PUBLISHED) -> list[Examined]:
    """What the model saved in the folder ``model`` sees in each of these files, or in those of a folder.

    Raises:
        FileNotFoundError, ValueError: as ``find``, ``examine`` and ``visionclip.load``.
    """
    network, tokenizer, processor = visionclip.load(runs.resolve(model))
    beside = references.load(runs.resolve(model), network)
    return examine(network, tokenizer, processor.size, beside, find(photographs))


def examine(
    network: VisionCLIP,
    tokenizer,
    size: int,
    reference: Reference | None,
    paths: Sequence[Path],
) -> list[Examined]:
    """What the model sees in each of these files, in their order; it reads pictures of ``size`` pixels. Without its
    ``reference`` it says where findings are, and predicts nothing.

    Raises:
        ValueError: the model has no feature pyramid, and so no maps.
    """
    opened = {path: _opened(path) for path in dict.fromkeys(paths)}
    fit = [path for path, (_, refused) in opened.items() if not refused]
    if fit:
        pixels = np.stack([images.prepare(opened[path][0], size) for path in fit])
        of_fit = dict(zip(fit, _predict(network, tokenizer, reference, pixels), strict=True))
    return [
        Examined(path.name, opened[path][1]) if opened[path][1] else Examined(path.name, [], **of_fit[path])
        for path in paths
    ]


def _opened(path: Path) -> tuple[np.ndarray, list[str]]:
    try:
        image = images.read(path)
    except (ValueError, OSError) as error:
        return np.zeros((1, 1, 3), np.uint8), [str(error).partition("; ")[0]]
    return image, refusal.reasons(image)


def _predict(network: VisionCLIP, tokenizer, reference: Reference | None, pixels: np.ndarray) -> list[dict]:
    languages = reference.languages if reference else LANGUAGES
    names = pointing.name_embeddings(network, tokenizer, tuple(FINDINGS), languages)
    maps = pointing.finding_maps(network, pixels, names)
    logits: dict[str, np.ndarray] = {}
    shown = {name: own.max((1, 2)) >= SURE for name, own in zip(FINDINGS, maps.swapaxes(0, 1), strict=True)}
    if reference:
        measured = evidence.measure(network, tokenizer, pixels, languages, reference.prompt_count)
        logits = evidence.logits_of(reference.rules, measured)
        shown = {name: measured.found[name] >= cut for name, cut in reference.findings.items()}
    embeds = encode_images(network, pixels).numpy()
    examined = []
    for place, picture in enumerate(pixels):
        predicted = [
            _predicted(name, own[place], reference) for name, own in logits.items() if not name.startswith("eye_side")
        ]
        nearest = _nearest(reference, embeds[place]) if reference else []
        examined.append(
            {
                "remarks": remarks(picture),
                "picture": picture,
                "predicted": predicted,
                "maps": maps[place],
                "found": [name for name in LESIONS if name in shown and shown[name][place]],
                "nearest": nearest,
            }
        )
    return examined


def _predicted(condition: str, logit: float, reference: Reference | None) -> Predicted:
    worth = reference.worth.get(condition) if reference else None
    if worth is None:
        return Predicted(condition, float(logit), None, None, False)
    probability = float(worth.probability(np.array(logit)))
    return Predicted(condition, float(logit), probability, worth, bool(worth.above_chance and logit >= worth.cut))


def _nearest(reference: Reference, embed: np.ndarray) -> list[tuple[np.ndarray, str, float]]:
    (places,), (similarity,) = reference.nearest(embed[None], NEAREST)
    drawn = []
    for place, alike in zip(places, similarity, strict=True):
        drawn.append((reference.thumbnails[place], drawn_with(reference.eyes[place]), float(alike)))
    return drawn


def remarks(picture: np.ndarray) -> list[str]:
    """What may keep a prepared picture uint8 S×S×3 from being judged: little light, little detail."""
    inside = cv2.erode(field_of_view.visible(picture).astype(np.uint8), np.ones((9, 9))) > 0
    green = picture[..., 1].astype(np.float32)
    if not inside.any():
        return ["no field of view is found"]
    detail = float(np.abs(cv2.Laplacian(green, cv2.CV_32F))[inside].mean())
    found = ["the picture is dark"] if green[inside].mean() < DARK else []
    return found + (["the picture is soft: small lesions can't be seen in it"] if detail < SOFT else [])


def table(examined: Sequence[Examined]) -> pandas.DataFrame:
    """One row a photograph and condition, as ``predictions.csv`` has it; a refused one has one row, without any."""
    columns = ("photograph", "refused", "condition", "english", "chinese", "seen", "logit", "probability", "worth")
    rows: list[tuple] = []
    for one in examined:
        rows += [(one.name, "; ".join(one.refused), *[None] * 7)] if one.refused else []
        for own in one.predicted:
            chinese, english = own.names
            rest = (own.seen, own.logit, own.probability, own.believed)
            rows.append((one.name, "", own.condition, english, chinese, *rest))
    return pandas.DataFrame(rows, columns=list(columns))


def summary(predicted: pandas.DataFrame) -> pandas.DataFrame:
    """Of each photograph of ``table`` what is seen, then what is likeliest, ``SHOWN`` rows or as many as are seen."""
    order = predicted.sort_values(["seen", "probability"], ascending=False, kind="stable", na_position="last")
    places = order.groupby("photograph").cumcount()
    shown = order[(places < SHOWN) | order["seen"].eq(True)].sort_values("photograph", kind="stable")
    return pandas.DataFrame(
        {
            "photograph": shown["photograph"],
            "condition": shown["english"].fillna(shown["refused"]),
            "seen": shown["seen"].map({True: "yes"}).fillna("–"),
            "probability": [f"{value:.2f}" if pandas.notna(value) else "–" for value in shown["probability"]],
            "what that is worth": shown["worth"].fillna("–"),
        }
    )


def records(predicted: pandas.DataFrame) -> list[dict]:
    """The rows of ``table`` as JSON has them: what isn't known is None."""
    return predicted.astype(object).where(predicted.notna(), None).to_dict("records")


def conclusion(examined: Sequence[Examined], drawn: bool) -> str:
    """What was seen, in one sentence."""
    fit = [one for one in examined if not one.refused]
    kind = "drawn eyes that stand in for photographs" if drawn else "photographs"
    seen = sorted({own.names[1] for one in fit for own in one.seen})
    refused = len(examined) - len(fit)
    measured = any(own.worth for one in fit for own in one.predicted)
    others = f"seen in the rest: {', '.join(seen) or 'nothing'}" if measured else "of the rest nothing is said"
    return f"Of {len(examined)} {kind} {refused or 'none'} {'was' if refused < 2 else 'were'} refused; {others}."
