"""The captions of a set of images: distinct texts, which image each belongs to, and of which eyes each is true."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from visionclip import conditions, runs
from visionclip.conditions import ABOUT, DISEASES, FACTS, READABILITY, VOCABULARY, Conditions
from visionclip.text.grammar import LANGUAGES, LONGEST, PLAIN, Style, describe, is_full, length, semantic_id

KINDS = ("full", "single", "full", "negation")  # of the captions of an image, in turn
# Of one whose findings are known: a third on these, so that most captions are on diseases as ever, and at least one of
# any four on each side.
FINDING_KINDS = ("full", "finding", "full", "single", "finding", "negation")
FINDINGS_STATED = 3  # in a caption, at most
REDRAWS = 20  # of a caption that repeats another of the same image
SIDE_SHARE = 0.5  # of the full descriptions, which name the eye side
REMEDY = "run notebooks/02-captions.ipynb again"
CAPTIONS, IMAGES = "captions.jsonl", "images.jsonl"


@dataclass(frozen=True)
class Caption:
    """A distinct text: its place in the table, what it means in any language, and the facts that it states."""

    text_id: int
    semantic_id: str
    language: str  # "zh" or "en"
    text: str
    facts: dict[str, int]

    @property
    def full(self) -> bool:
        """True of a full description, which leaves no disease open."""
        return is_full(self.facts)


_FACTS = ((key, value) for key, condition in FACTS.items() for value in range(condition.highest + 1))
_COLUMNS = {fact: column for column, fact in enumerate(_FACTS)}
_SAME_CONDITION = np.array([[one[0] == other[0] for other in _COLUMNS] for one in _COLUMNS], np.float32)


def table(
    eyes: Sequence[Conditions],
    languages: Sequence[str],
    per_image: int,
    rng: np.random.Generator,
    style: Style = PLAIN,
    sentences: Sequence[tuple[str, Conditions]] = (),
) -> tuple[list[Caption], list[list[int]]]:
    """Captions of N eyes: the distinct texts, and for each eye the indices of its own.

    Conditions may be partial; what they leave open no caption states. Only an eye whose diseases are all known is
    described in full, or called normal; in place of that, any other has a single disease or fault, or a negation where
    it has none.

    The captions of an eye are different texts (fewer than ``per_image`` only where the grammar has no more), by turns
    of ``KINDS`` that start anywhere, each in a language drawn; of ``FINDING_KINDS`` where something is known of its
    findings (``conditions.OBSERVED``), of which a caption states one to three, there or not, how many or where. A full
    description of more than ``LONGEST`` pieces, as of an eye with many diseases, gives way to a single one. No text
    stands for two sets of facts.

    ``sentences``, where there are any, are one of each eye, written by whoever labelled it, with the facts that it
    states (("", {}): none): in a language asked for and of at most ``LONGEST`` pieces, it is the eye's first caption,
    word for word.

    Raises:
        ValueError: nothing is known of an eye, it isn't of ``FACTS``, ``per_image`` < 1, a language isn't one, or a
            sentence states what isn't known of its eye, or other facts than the same sentence of another.
    """
    if per_image < 1 or not languages or not set(languages) <= set(LANGUAGES):
        allowed = f"at least one, in languages of {', '.join(LANGUAGES)}"
        raise ValueError(f"captions: {per_image} for each image in {list(languages)}; choose {allowed}")
    captions = _of_sentences(eyes, sentences, languages) if sentences else {}
    written = [text if facts else "" for text, facts in sentences] or [""] * len(eyes)
    image_to_texts = []
    for index, (eye, sentence) in enumerate(zip(eyes, written, strict=True)):
        eye = _checked(eye, index)
        kinds = KINDS if eye.keys() <= VOCABULARY.keys() else FINDING_KINDS
        start = int(rng.integers(len(kinds)))
        own = [captions[sentence].text_id] if sentence in captions else []
        for turn in range(start, start + per_image - len(own)):
            for _ in range(REDRAWS):
                facts, language, text = _drawn(eye, kinds[turn % len(kinds)], languages, rng, style)
                if text not in captions:
                    captions[text] = Caption(len(captions), semantic_id(facts), language, text, facts)
                known = captions[text]  # which may be a sentence in the grammar's words that states other facts
                if known.text_id not in own and known.facts == facts:
                    own.append(known.text_id)
                    break
        image_to_texts.append(own)
    return list(captions.values()), image_to_texts


def truth(eyes: Sequence[Conditions], captions: Sequence[Caption]) -> np.ndarray:
    """Bool N×M: whether all facts of caption m are known to hold in eye n. Of partial conditions, a caption that isn't
    known to be true is false only where it is ``contradicted``, and else unknown.

    Raises:
        ValueError: nothing is known of an eye, or it isn't of ``FACTS``.
    """
    stated = [tuple(caption.facts.items()) for caption in captions]
    row_of = {facts: row for row, facts in enumerate(dict.fromkeys(stated))}  # far fewer than texts
    shown = fact_matrix([_checked(eye, row) for row, eye in enumerate(eyes)])
    return entailed(shown, fact_matrix([dict(facts) for facts in row_of]))[:, [row_of[facts] for facts in stated]]


def fact_matrix(rows: Sequence[Conditions]) -> np.ndarray:
    """uint8 N×F in {0, 1}: which of all possible facts (a condition at a value) each row states, in so many words or
    as what follows from others: many exudates at the macula are exudates, and where there are none, none are there."""
    matrix = np.zeros((len(rows), len(_COLUMNS)), np.uint8)
    for row, facts in zip(matrix, rows, strict=True):
        row[[_COLUMNS[fact] for fact in conditions.implied(facts).items()]] = 1
    return matrix


def entailed(shown: np.ndarray, stated: np.ndarray) -> np.ndarray:
    """Bool N×M: whether each row of ``shown`` (``fact_matrix`` N×F) has all facts of each row of ``stated`` (M×F)."""
    return shown.astype(np.float32) @ stated.T.astype(np.float32) == stated.sum(1)  # small counts are exact in float32


def contradicted(shown: np.ndarray, stated: np.ndarray) -> np.ndarray:
    """Bool N×M: whether each row of ``shown`` (N×F) has a fact of each row of ``stated`` (M×F) at another value."""
    shown, stated = shown.astype(np.float32), stated.astype(np.float32)
    return (shown @ _SAME_CONDITION) @ stated.T > shown @ stated.T


def write(
    folder: str | Path, captions: Sequence[Caption], image_to_texts: Sequence[Sequence[int]], keys: Sequence[str]
) -> None:
    """Write ``captions.jsonl`` (one text a line) and ``images.jsonl`` ({"key", "text_ids"}), each atomically.

    Raises:
        ValueError: not one key for each image, or what ``load`` would refuse.
    """
    folder = runs.resolve(folder)
    if len(keys) != len(image_to_texts):
        raise ValueError(f"{runs.relative(folder)}: {len(keys)} keys for the captions of {len(image_to_texts)} images")
    texts = [asdict(caption) for caption in captions]
    linked = [{"key": key, "text_ids": list(own)} for key, own in zip(keys, image_to_texts, strict=True)]
    _check_captions(folder / CAPTIONS, texts)
    _check_images(folder / IMAGES, linked, len(texts))
    write_lines(folder / CAPTIONS, texts)
    write_lines(folder / IMAGES, linked)


def write_lines(path: Path, records: Iterable[Mapping]) -> None:
    """Write records as JSON lines in UTF-8, atomically."""
    text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records)
    with runs.atomic(path) as temporary:
        temporary.write_text(text, "utf-8", newline="\n")


def load(folder: str | Path) -> tuple[list[Caption], list[list[int]], list[str]]:
    """The captions, the text indices of each image and the images' keys, as ``write`` wrote them.

    Raises:
        FileNotFoundError: a file isn't there.
        ValueError: a line isn't what ``write`` writes; the message names file and line.
    """
    folder = runs.resolve(folder)
    texts, linked = _load_lines(folder / CAPTIONS), _load_lines(folder / IMAGES)
    captions = _check_captions(folder / CAPTIONS, texts)
    _check_images(folder / IMAGES, linked, len(captions))
    return captions, [one["text_ids"] for one in linked], [one["key"] for one in linked]


def summary(captions: Sequence[Caption], image_to_texts: Sequence[Sequence[int]]) -> dict:
    """What a table of captions holds, for the report; shares are 0 to 1, lengths in pieces (see ``length``).

    ``p`` below is the probability that a training example has a text or a meaning: images are equally likely, and so
    are the captions of one image. ``unique_share_64`` is the expected share of distinct texts in 64 independent
    examples, Σ (1 - (1 - p)^64) / 64; ``one_hot_false_negatives`` = Σ p² over meanings is the probability that two
    examples mean the same, which a one-hot contrastive target calls a mismatch.
    """
    text_chance = np.zeros(len(captions))
    for own in image_to_texts:
        text_chance[list(own)] += 1 / (len(own) * len(image_to_texts))
    meaning = np.unique([caption.semantic_id for caption in captions], return_inverse=True)[1]
    meaning_chance = np.bincount(meaning, text_chance)
    used = [text for own in image_to_texts for text in own]
    lengths = np.array([length(caption.text) for caption in captions])
    return {
        "images": len(image_to_texts),
        "captions": len(used),
        "texts": len(captions),
        "semantic_ids": len(meaning_chance),
        "languages": dict(sorted(Counter(caption.language for caption in captions).items())),
        "duplicate_share": 1 - len(set(used)) / len(used),
        "unique_share_64": float((1 - (1 - text_chance) ** 64).sum() / 64),
        "one_hot_false_negatives": float((meaning_chance**2).sum()),
        "mean_length": float(lengths.mean()),
        "max_length": int(lengths.max()),
    }


def _checked(eye: Conditions, index: int) -> dict[str, int]:
    """The eye as plain integers, refused if nothing is known of it."""
    if not eye:
        raise ValueError(f"eye {index}: nothing is known of it; give at least one condition or leave the image out")
    return conditions.check(eye, f"eye {index}")


def _of_sentences(
    eyes: Sequence[Conditions], sentences: Sequence[tuple[str, Conditions]], languages: Sequence[str]
) -> dict[str, Caption]:
    """The captions that the sentences of eyes make, by their texts; raises as ``table``."""
    captions: dict[str, Caption] = {}
    for index, (eye, (text, facts)) in enumerate(zip(eyes, sentences, strict=True)):
        language = "zh" if re.search(r"[\u4e00-\u9fff]", text) else "en"
        if not facts or language not in languages or length(text) > LONGEST:
            continue
        if not conditions.holds(facts, eye):
            raise ValueError(f"eye {index}: {text!r} states {facts}, which isn't known of it; correct one or the other")
        one = Caption(len(captions), semantic_id(facts), language, text, dict(facts))
        if captions.setdefault(text, one).facts != facts:
            other = captions[text].facts
            raise ValueError(f"eye {index}: {text!r} states {facts} here and {other} of another eye; correct one")
    return captions


def _drawn(
    eye: Conditions, kind: str, languages: Sequence[str], rng: np.random.Generator, style: Style
) -> tuple[dict[str, int], str, str]:
    """Facts true of the eye, a language and a sentence; what is too long for one sentence gives way to less."""
    language = languages[int(rng.integers(len(languages)))]
    if kind == "full" and is_full(eye):
        facts = _full(eye, rng)
        text = describe(facts, language, rng, style)
        if length(text) <= LONGEST:
            return facts, language, text
    if kind == "finding" or eye.keys().isdisjoint(VOCABULARY):
        facts = _findings(eye, rng)
        while length(text := describe(facts, language, rng, style)) > LONGEST and len(facts) > 1:
            facts.popitem()
        return facts, language, text
    facts = _negation(eye, rng) if kind == "negation" else _single(eye, rng)
    return facts, language, describe(facts, language, rng, style)


def _full(eye: Conditions, rng: np.random.Generator) -> dict[str, int]:
    faults = [key for key in READABILITY if eye.get(key) == 0]
    side = ["eye_side"] * (rng.random() < SIDE_SHARE and "eye_side" in eye)
    return {key: eye[key] for key in (*DISEASES, *faults, *side)}


def _single(eye: Conditions, rng: np.random.Generator) -> dict[str, int]:
    """One disease or readability fault of the eye; normality counts as one, if all diseases are known.

    Where none is known, a disease that the eye doesn't have, and where nothing is said of diseases, what is known.
    """
    findings = [{key: eye[key]} for key in DISEASES if eye.get(key)]
    findings = findings or [dict.fromkeys(DISEASES, 0)] * is_full(eye)
    findings += [{key: 0} for key in READABILITY if eye.get(key) == 0]
    absent = [{key: 0} for key in DISEASES if key in eye]
    findings = findings or absent or [{key: value} for key, value in eye.items() if key in VOCABULARY]
    return findings[int(rng.integers(len(findings)))]


def _negation(eye: Conditions, rng: np.random.Generator) -> dict[str, int]:
    """One or two diseases that the eye is known not to have; what it has where there is none."""
    absent = [key for key in DISEASES if eye.get(key) == 0]
    if not absent:
        return _single(eye, rng)
    chosen = rng.permutation(len(absent))[: int(rng.integers(1, 3))]
    return {absent[index]: 0 for index in sorted(chosen)}


def _findings(eye: Conditions, rng: np.random.Generator) -> dict[str, int]:
    """One to three facts about as many findings of the eye, some of them absent as a rule.

    Of a finding that is there its presence, how many, or where (or that none is at the macula); of one that isn't that
    it isn't, or isn't at the macula: not ``exudate_amount`` at 0, which says the same.
    """
    known: dict[str, list[tuple[str, int]]] = {}
    for key, value in conditions.implied(eye).items():
        if key in ABOUT and (value or ABOUT[key][1] in ("", "macula")):
            known.setdefault(ABOUT[key][0], []).append((key, value))
    names = [list(known)[index] for index in rng.permutation(len(known))]
    there = [name for name in names if any(value for _, value in known[name])]
    others = [name for name in names if name not in there]
    count = int(rng.integers(1, FINDINGS_STATED + 1))
    shown = int(rng.integers(count + 1))
    chosen = there[:shown] + others[: count - shown] or there[:count] or others[:count]
    return dict(known[name][int(rng.integers(len(known[name])))] for name in chosen)


def _load_lines(path: Path) -> list:
    """Every line of a JSON-lines file, decoded."""
    where = runs.relative(path)
    if not path.is_file():
        raise FileNotFoundError(f"{where}: no such file; run notebooks/02-captions.ipynb first")
    records = []
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                records.append(json.loads(line))
    except ValueError:  # not UTF-8, or not JSON
        raise ValueError(f"{where} line {len(records) + 1}: not JSON in UTF-8; {REMEDY}") from None
    return records


def _check_captions(path: Path, records: Sequence) -> list[Caption]:
    """The captions of decoded lines, whose ``text_id`` is their place and whose meaning is that of their facts."""
    names = [field.name for field in fields(Caption)]
    captions: dict[str, Caption] = {}
    for where, one in _numbered(path, records, "caption"):
        _refuse(not isinstance(one, dict) or one.keys() != set(names), where, f"needs exactly {', '.join(names)}")
        _refuse(not isinstance(one["facts"], Mapping) or not one["facts"], where, "no facts")
        facts = conditions.check(one["facts"], where)
        for name, value in (("text_id", len(captions)), ("semantic_id", semantic_id(facts))):
            _refuse(one[name] != value, where, f"{name} is {one[name]!r}, not {value!r}")
        worded = isinstance(one["text"], str) and one["text"].strip() and one["language"] in LANGUAGES
        _refuse(not worded, where, f"needs a text and a language of {', '.join(LANGUAGES)}")
        _refuse(one["text"] in captions, where, "the text is there twice")
        captions[one["text"]] = Caption(**{**one, "facts": facts})
    return list(captions.values())


def _check_images(path: Path, linked: Sequence, count: int) -> None:
    seen = set()
    for where, one in _numbered(path, linked, "image"):
        complete = isinstance(one, dict) and one.keys() == {"key", "text_ids"} and isinstance(one["key"], str)
        _refuse(not complete, where, "needs exactly key and text_ids")
        key, ids = one["key"], one["text_ids"]
        known = isinstance(ids, list) and ids and all(type(text) is int and 0 <= text < count for text in ids)
        _refuse(not known, where, f"text_ids of {key} are {ids!r}, not numbers of captions")
        _refuse(key in seen, where, f"{key} is there twice")
        seen.add(key)


def _numbered(path: Path, records: Sequence, what: str) -> Iterator[tuple[str, Any]]:
    """Each decoded line with its place, as messages open with it; refused if there is none."""
    _refuse(not records, runs.relative(path), f"no {what}")
    for number, one in enumerate(records, 1):
        yield f"{runs.relative(path)} line {number}", one


def _refuse(wrong: object, where: str, what: str) -> None:
    if wrong:
        raise ValueError(f"{where}: {what}; {REMEDY}")
