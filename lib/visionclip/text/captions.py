"""Conditions as sentences: a small grammar in Chinese and English, and the table of captions of a set of images.

The Chinese follows SynFundus-1M's advice texts (arXiv 2312.00377): ``疑似X（中度），可见Y。``. Names of conditions come
from the vocabulary; how they are asserted, negated and joined is written here. A text is tied to its *facts*, the
conditions that it states, so that whether it is true of an eye is known and not guessed:

- all diseases at their values is a full description: it names those present and says that nothing else is;
- ``{"gc": 1}`` states glaucoma and ``{"gc": 0}`` its absence, whatever else the eye may have;
- ``{}`` is read as the normal eye, every disease at 0.
"""

import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import cached_file

from visionclip import conditions, runs
from visionclip.conditions import DISEASES, READABILITY, VOCABULARY, Conditions
from visionclip.text.wordings import DEFINITIONS, WORDINGS, Wordings

CONTEXT = 52  # tokens including [CLS] and [SEP], as in Chinese-CLIP
LONGEST = CONTEXT - 2  # pieces (Chinese characters, words, marks) of a text
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
KINDS = ("full", "single", "full", "negation")  # of the captions of an image, in turn
REDRAWS = 20  # of a caption that repeats another of the same image
SIDE_SAID = 0.5  # share of the full descriptions that name the eye side
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
        return _is_full(self.facts)


LANGUAGES = tuple(WORDINGS)

NAMINGS = ("names", "definitions", "both")


@dataclass(frozen=True)
class Style:
    """How sentences are worded.

    ``naming``: conditions by their ``names``, by their ``definitions``, or ``both`` by turns. ``variety``: how many
    wordings of each phrase and synonyms of each name are used, the commonest first; 0 for all.
    """

    naming: str = "names"
    variety: int = 0

    def __post_init__(self):
        if self.naming not in NAMINGS or self.variety < 0:
            raise ValueError(
                f"captions: naming {self.naming!r}, variety {self.variety}; "
                f"choose from {', '.join(NAMINGS)} and a variety of 0 or more"
            )


PLAIN = Style()


@dataclass(frozen=True)
class _Voice:
    """What a sentence is made with: language, chance and style."""

    language: str
    rng: np.random.Generator
    style: Style

    @property
    def words(self) -> Wordings:
        return WORDINGS[self.language]

    def pick(self, options: Sequence[str]) -> str:
        """One of the options, the earlier the likelier (of n, the first with probability 1/√n), as in natural text."""
        options = options[: self.style.variety or None]
        return options[int(len(options) * self.rng.random() ** 2)]

    def name(self, key: str, value: int) -> str:
        """What the condition is called at this value, 0 for its absence."""
        defined = self.style.naming == "definitions" or (self.style.naming == "both" and self.rng.random() < 0.5)
        if defined and key in DEFINITIONS:
            return DEFINITIONS[key][value if len(DEFINITIONS[key]) > 1 else 0][self.language == "en"]
        condition = VOCABULARY[key]
        name = self.pick(condition.chinese if self.language == "zh" else condition.english)
        if condition.grades and value:
            grade = condition.grades[value - 1][self.language == "en"]
            name = self.pick(self.words.graded).format(name=name, grade=grade)
        return name


def semantic_id(facts: Conditions) -> str:
    """What a text with these facts means, the same for all its wordings and in both languages.

    Facts are named in the vocabulary's order: ``gc=1`` (glaucoma, at least), ``only gc=1 eye_side=0`` (of all
    diseases this one), ``normal`` (of all diseases none).
    """
    stated = _stated(facts)
    if not _is_full(stated):
        return _listed(stated)
    present = [key for key in DISEASES if stated[key]]
    others = [key for key in stated if key not in DISEASES]
    named = _listed({key: stated[key] for key in (*present, *others)})
    return f"{'only' if present else 'normal'} {named}".strip()


def describe(facts: Conditions, language: str, rng: np.random.Generator, style: Style = PLAIN) -> str:
    """One sentence that states ``facts`` in ``language`` ("zh" or "en"), its wording drawn by ``rng`` within ``style``.

    A full description leaves unsaid that something is readable; everything else is said. Of eight drafts the
    first of at most ``LONGEST`` pieces is taken, else the shortest.

    Raises:
        ValueError: a fact is not in the vocabulary, or the language isn't known.
    """
    stated = _stated(facts)
    if language not in WORDINGS:
        raise ValueError(f"language: {language!r} is not known; choose from {', '.join(LANGUAGES)}")
    drafts = []
    for _ in range(8):
        drafts.append(_draft(stated, _Voice(language, rng, style)))
        if length(drafts[-1]) <= LONGEST:
            return drafts[-1]
    return min(drafts, key=length)


def prompts(facts: Conditions, language: str, count: int, style: Style = PLAIN) -> list[str]:
    """Up to ``count`` different wordings of ``facts``, always the same ones; fewer where the style has fewer.

    The commonest come first, and a smaller ensemble is the beginning of a larger one.
    """
    rng = np.random.default_rng(int(runs.digest([semantic_id(facts), language]), 16))
    frequent = Counter(describe(facts, language, rng, style) for _ in range(400))
    found = {text: None for text, _ in frequent.most_common(count)}
    repeats = 0
    while len(found) < count and repeats < 500:
        text = describe(facts, language, rng, style)
        repeats = repeats + 1 if text in found else 0
        found[text] = None
    return list(found)


def length(text: str) -> int:
    """Pieces of a text: each Chinese character, mark, and word or number counts one."""
    return len(re.findall(r"[A-Za-z0-9]+|[^\sA-Za-z0-9]", text))


def table(
    eyes: Sequence[Conditions],
    languages: Sequence[str],
    per_image: int,
    rng: np.random.Generator,
    style: Style = PLAIN,
) -> tuple[list[Caption], list[list[int]]]:
    """Captions of N eyes (complete conditions): the distinct texts, and for each eye the indices of its own.

    The captions of an eye are different texts (fewer than ``per_image`` only where the grammar has no more), by turns
    of ``KINDS`` that start anywhere, each in a language drawn. A full description of more than ``LONGEST`` pieces, as
    of an eye with many diseases, gives way to a single finding. No text stands for two sets of facts.

    Raises:
        ValueError: an eye is incomplete or not of the vocabulary, ``per_image`` < 1, or a language isn't known.
    """
    if per_image < 1 or not languages or not set(languages) <= set(LANGUAGES):
        raise ValueError(
            f"captions: {per_image} for each image in {list(languages)}; "
            f"ask for at least one, in languages of {', '.join(LANGUAGES)}"
        )
    captions: dict[str, Caption] = {}
    image_to_texts = []
    for index, eye in enumerate(eyes):
        eye = _complete(eye, index)
        start = int(rng.integers(len(KINDS)))
        own: list[int] = []
        for turn in range(start, start + per_image):
            for _ in range(REDRAWS):
                facts, language, text = _drawn(eye, KINDS[turn % len(KINDS)], languages, rng, style)
                if text not in captions:
                    captions[text] = Caption(len(captions), semantic_id(facts), language, text, facts)
                if captions[text].text_id not in own:
                    own.append(captions[text].text_id)
                    break
        image_to_texts.append(own)
    return list(captions.values()), image_to_texts


def truth(eyes: Sequence[Conditions], captions: Sequence[Caption]) -> np.ndarray:
    """Bool N×M: whether all facts of caption m hold in eye n (complete conditions).

    Raises:
        ValueError: an eye is incomplete or not of the vocabulary.
    """
    stated = [tuple(caption.facts.items()) for caption in captions]
    row_of = {facts: row for row, facts in enumerate(dict.fromkeys(stated))}  # far fewer than texts
    said = np.zeros((len(row_of), len(_COLUMNS)), np.float32)
    for facts, row in row_of.items():
        said[row, [_COLUMNS[fact] for fact in facts]] = 1
    shown = np.zeros((len(eyes), len(_COLUMNS)), np.float32)
    for row, eye in enumerate(eyes):
        shown[row, [_COLUMNS[fact] for fact in _complete(eye, row).items()]] = 1
    holds = shown @ said.T == said.sum(1)  # counts up to 18 are exact in float32
    return holds[:, [row_of[facts] for facts in stated]]


def write(
    folder: str | Path, captions: Sequence[Caption], image_to_texts: Sequence[Sequence[int]], keys: Sequence[str]
) -> None:
    """Write ``captions.jsonl`` (one text a line) and ``images.jsonl`` ({"key", "text_ids"}), each atomically.

    Raises:
        ValueError: not one key for each image, or what ``read`` would refuse.
    """
    folder = runs.resolve(folder)
    if len(keys) != len(image_to_texts):
        raise ValueError(f"{runs.relative(folder)}: {len(keys)} keys for the captions of {len(image_to_texts)} images")
    told = [asdict(caption) for caption in captions]
    linked = [{"key": key, "text_ids": list(own)} for key, own in zip(keys, image_to_texts, strict=True)]
    _check_captions(folder / CAPTIONS, told)
    _check_images(folder / IMAGES, linked, len(told))
    for name, records in ((CAPTIONS, told), (IMAGES, linked)):
        with runs.atomic(folder / name) as temporary:
            temporary.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records), "utf-8")


def read(folder: str | Path) -> tuple[list[Caption], list[list[int]], list[str]]:
    """The captions, the text indices of each image and the images' keys, as ``write`` wrote them.

    Raises:
        FileNotFoundError: a file isn't there.
        ValueError: a line isn't what ``write`` writes; the message names file and line.
    """
    folder = runs.resolve(folder)
    told, linked = _read_lines(folder / CAPTIONS), _read_lines(folder / IMAGES)
    captions = _check_captions(folder / CAPTIONS, told)
    _check_images(folder / IMAGES, linked, len(captions))
    return captions, [one["text_ids"] for one in linked], [one["key"] for one in linked]


def summary(captions: Sequence[Caption], image_to_texts: Sequence[Sequence[int]]) -> dict:
    """What a table of captions holds, for the report; shares are 0 to 1, lengths in pieces (see ``length``).

    ``p`` below is the chance that a training example has a text or a meaning: images are equally likely, and so are the
    captions of one image. ``unique_share_64`` is the expected share of distinct texts in 64 independent examples,
    Σ (1 - (1 - p)^64) / 64; ``one_hot_false_negatives`` = Σ p² over meanings is the chance that two examples mean the
    same, which a one-hot contrastive target calls a mismatch.
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


def train_tokenizer(texts: Iterable[str], folder: str | Path, vocabulary: str = "") -> PreTrainedTokenizerBase:
    """Make the tokenizer of ``texts`` and of everything the grammar can say, and save it in ``folder``.

    BERT's: lower case, one token for each Chinese character, WordPiece for words, at most ``CONTEXT`` tokens; curly
    quotes are folded, as in Chinese-CLIP. ``vocabulary`` takes the tokens from elsewhere: the path of a ``vocab.txt``,
    or a name on the Hugging Face hub such as ``hfl/chinese-roberta-wwm-ext`` (the paper's), which is then downloaded.

    Raises:
        FileNotFoundError: the vocabulary can't be found or downloaded.
        ValueError: it isn't a BERT vocabulary.
    """
    folder = runs.resolve(folder)
    tokenizer = _tokenizer(_foreign_tokens(vocabulary) if vocabulary else _own_tokens(texts))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".tokenizer-") as temporary:
        tokenizer.save_pretrained(temporary)
        for path in sorted(Path(temporary).iterdir()):
            os.replace(path, folder / path.name)
    return tokenizer


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer that ``train_tokenizer`` saved, without any download.

    Raises:
        FileNotFoundError: there is none.
    """
    folder = runs.resolve(folder)
    if not (folder / "tokenizer.json").is_file():
        raise FileNotFoundError(
            f"{runs.relative(folder)}: no tokenizer.json there; run notebooks/02-captions.ipynb first"
        )
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def unknown_tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> int:
    """How many [UNK] the texts give: anything but 0 means that the vocabulary doesn't fit them."""
    return sum(ids.count(tokenizer.unk_token_id) for ids in tokenizer(list(texts), verbose=False)["input_ids"])


def truncated_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> int:
    """How many texts lose their end to the context: with another's vocabulary a word can be many tokens."""
    whole = tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]
    return sum(len(ids) > tokenizer.model_max_length for ids in whole)


# Facts

_COLUMNS = {
    fact: column
    for column, fact in enumerate(
        (key, value) for key, condition in VOCABULARY.items() for value in range(condition.highest + 1)
    )
}


def _stated(facts: Conditions) -> dict[str, int]:
    """The facts in the vocabulary's order, none meaning the normal eye."""
    checked = conditions.check(facts, "facts") or dict.fromkeys(DISEASES, 0)
    return {key: checked[key] for key in VOCABULARY if key in checked}


def _is_full(stated: Conditions) -> bool:
    return all(key in stated for key in DISEASES)


def _listed(facts: Conditions) -> str:
    return " ".join(f"{key}={value}" for key, value in facts.items())


def _complete(eye: Conditions, index: int) -> dict[str, int]:
    """The eye as plain integers, refused if a key is missing: an unknown disease can't be denied."""
    missing = [key for key in VOCABULARY if key not in eye]
    if missing:
        raise ValueError(f"eye {index}: no {missing[0]}; complete its conditions first (conditions.complete)")
    return conditions.check(eye, f"eye {index}")


# Sentences


def _names(keys: Sequence[str], stated: Conditions, voice: _Voice) -> list[str]:
    return [voice.name(key, stated[key]) for key in keys]


def _list(names: Sequence[str], enumeration: str, last: str) -> str:
    return last.join(filter(None, (enumeration.join(names[:-1]), names[-1])))


def _clauses(names: Sequence[str], templates: Sequence[str], last: Sequence[str], voice: _Voice) -> list[str]:
    """Clauses that assert (or deny) all names: one of a list, or one for each name."""
    template = voice.pick(templates)
    # "no A or B", but not "A or B absent", which would leave one of them open.
    listable = not template.startswith("{}") or last[0] != " or "
    if len(names) > 1 and listable and voice.rng.random() < 0.5:
        return [template.format(_list(names, voice.words.enumeration, voice.pick(last)))]
    return [voice.pick(templates).format(name) for name in names]


def _draft(stated: Conditions, voice: _Voice) -> str:
    """One wording of the facts, however long."""
    words, rng, full = voice.words, voice.rng, _is_full(stated)
    keys = [key for key in stated if key in DISEASES]
    rng.shuffle(keys)
    present = _names([key for key in keys if stated[key]], stated, voice)
    absent = [] if full else _names([key for key in keys if not stated[key]], stated, voice)
    clauses: list[str] = []
    closing: list[str] = []
    readability = _readability(stated, full, voice)
    if full and present and rng.random() < 0.3:
        clauses.append(voice.pick(words.only).format(_list(present, words.enumeration, voice.pick(words.both))))
    elif present:
        clauses += _clauses(present, words.present, words.both, voice)
        closing = [voice.pick(words.rest)] if full else []
    elif full:
        closing = [voice.pick(words.rest if readability else words.normal)]
    if absent:
        clauses += _clauses(absent, words.absent, words.neither, voice)
    clauses += readability
    rng.shuffle(clauses)
    text = (words.turn if absent and (present or readability) else words.comma).join(clauses + closing)
    text = _opened(text, stated.get("eye_side"), voice)
    return text[0].upper() + text[1:] + words.stop


def _readability(stated: Conditions, full: bool, voice: _Voice) -> list[str]:
    words, clauses = voice.words, []
    for key in READABILITY:
        if key not in stated or (full and stated[key]):
            continue
        whole = key == "fundus_readable"
        if stated[key]:
            templates = words.readable_image if whole else words.readable
        else:
            templates = words.faulty_image if whole else words.faulty
        clauses.append(voice.pick(templates).format(*_names([key], stated, voice)))
    return clauses


def _opened(text: str, side: int | None, voice: _Voice) -> str:
    """The text with its eye side, or with an opening that says no more than that this is a photograph."""
    words, condition = voice.words, VOCABULARY["eye_side"]
    if side is None:
        return voice.pick(words.opening).format(text)
    name = (condition.chinese if voice.language == "zh" else condition.english)[side]
    if not text:
        return voice.pick(words.side_alone).format(name)
    return voice.pick(words.side).format(side=name, text=text)


# The captions of one eye


def _drawn(
    eye: Conditions, kind: str, languages: Sequence[str], rng: np.random.Generator, style: Style
) -> tuple[dict[str, int], str, str]:
    """Facts true of the eye, a language and a sentence; a full description too long for one sentence gives way."""
    language = languages[int(rng.integers(len(languages)))]
    if kind == "full":
        facts = _full(eye, rng)
        text = describe(facts, language, rng, style)
        if length(text) <= LONGEST:
            return facts, language, text
    facts = _negation(eye, rng) if kind == "negation" else _single(eye, rng)
    return facts, language, describe(facts, language, rng, style)


def _full(eye: Conditions, rng: np.random.Generator) -> dict[str, int]:
    said = [key for key in READABILITY if not eye[key]] + ["eye_side"] * (rng.random() < SIDE_SAID)
    return {key: eye[key] for key in (*DISEASES, *said)}


def _single(eye: Conditions, rng: np.random.Generator) -> dict[str, int]:
    """One disease or readability fault of the eye; normality counts as a finding."""
    findings = [{key: eye[key]} for key in DISEASES if eye[key]] or [dict.fromkeys(DISEASES, 0)]
    findings += [{key: 0} for key in READABILITY if not eye[key]]
    return findings[int(rng.integers(len(findings)))]


def _negation(eye: Conditions, rng: np.random.Generator) -> dict[str, int]:
    """One or two diseases that the eye doesn't have; a finding where it has them all."""
    absent = [key for key in DISEASES if not eye[key]]
    if not absent:
        return _single(eye, rng)
    chosen = rng.permutation(len(absent))[: int(rng.integers(1, 3))]
    return {absent[index]: 0 for index in sorted(chosen)}


# Files


def _read_lines(path: Path) -> list:
    """Every line of a JSON-lines file, decoded."""
    where = runs.relative(path)
    if not path.is_file():
        raise FileNotFoundError(f"{where}: no such file; run notebooks/02-captions.ipynb first")
    told = []
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                told.append(json.loads(line))
    except ValueError:  # not UTF-8, or not JSON
        raise ValueError(f"{where} line {len(told) + 1}: not JSON in UTF-8; {REMEDY}") from None
    return told


def _check_captions(path: Path, told: Sequence) -> list[Caption]:
    """The captions of decoded lines, whose ``text_id`` is their place and whose meaning is that of their facts."""
    names = [field.name for field in fields(Caption)]
    captions, seen = [], set()
    for index, one in enumerate(told):
        where = f"{runs.relative(path)} line {index + 1}"
        if not isinstance(one, dict) or one.keys() != set(names):
            raise ValueError(f"{where}: needs exactly {', '.join(names)}; {REMEDY}")
        if not isinstance(one["facts"], Mapping) or not one["facts"]:
            raise ValueError(f"{where}: no facts; {REMEDY}")
        facts = conditions.check(one["facts"], where)
        expected = {"text_id": index, "semantic_id": semantic_id(facts)}
        for name, value in expected.items():
            if one[name] != value:
                raise ValueError(f"{where}: {name} is {one[name]!r}, not {value!r}; {REMEDY}")
        if one["language"] not in LANGUAGES or not isinstance(one["text"], str) or not one["text"].strip():
            raise ValueError(f"{where}: needs a text and a language of {', '.join(LANGUAGES)}; {REMEDY}")
        if one["text"] in seen:
            raise ValueError(f"{where}: the text is there twice; {REMEDY}")
        seen.add(one["text"])
        captions.append(Caption(**{**one, "facts": facts}))
    if not captions:
        raise ValueError(f"{runs.relative(path)}: no caption; {REMEDY}")
    return captions


def _check_images(path: Path, linked: Sequence, count: int) -> None:
    seen = set()
    for index, one in enumerate(linked):
        where = f"{runs.relative(path)} line {index + 1}"
        if not isinstance(one, dict) or one.keys() != {"key", "text_ids"} or not isinstance(one["key"], str):
            raise ValueError(f"{where}: needs exactly key and text_ids; {REMEDY}")
        ids = one["text_ids"]
        if not isinstance(ids, list) or not ids or not all(type(text) is int and 0 <= text < count for text in ids):
            raise ValueError(f"{where}: text_ids of {one['key']} are {ids!r}, not numbers of captions; {REMEDY}")
        if one["key"] in seen:
            raise ValueError(f"{where}: {one['key']} is there twice; {REMEDY}")
        seen.add(one["key"])
    if not linked:
        raise ValueError(f"{runs.relative(path)}: no image; {REMEDY}")


# Tokens


def _tokenizer(tokens: Mapping[str, int]) -> PreTrainedTokenizerFast:
    """BERT's tokenizer over these tokens, with curly quotes folded, which the class ``BertTokenizer`` would lose."""
    backend = Tokenizer(WordPiece(dict(tokens), unk_token="[UNK]"))
    quotes = [normalizers.Replace(curly, plain) for curly, plain in ('“"', '”"', "‘'", "’'")]
    backend.normalizer = normalizers.Sequence([*quotes, normalizers.BertNormalizer(lowercase=True)])
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, tokens[token]) for token in ("[CLS]", "[SEP]")],
    )
    named = {f"{token[1:-1].lower()}_token": token for token in SPECIAL}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=CONTEXT, **named)


def _own_tokens(texts: Iterable[str]) -> dict[str, int]:
    """Every word and character of the texts and the grammar, numbered in alphabetical order.

    This is what WordPiece training arrives at on so few words, less the fragments on the way; the trainer of the
    tokenizers library itself gives other tokens from run to run. ASCII characters spell words never seen.
    """
    normalizer = normalizers.BertNormalizer(lowercase=True)
    splitter = pre_tokenizers.BertPreTokenizer()
    corpus = {*texts, *_lexicon(), *map(chr, range(33, 127))}
    pieces = {piece for text in corpus for piece, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))}
    characters = {character for piece in pieces for character in piece}
    inner = {f"##{character}" for character in characters if character.isalnum()}
    return {token: number for number, token in enumerate((*SPECIAL, *sorted(pieces | characters | inner)))}


def _lexicon() -> Iterable[str]:
    """Whatever the grammar can put into a sentence."""
    for words in WORDINGS.values():
        for value in asdict(words).values():
            yield from (re.sub(r"{\w*}", " ", wording) for wording in ([value] if isinstance(value, str) else value))
    for condition in VOCABULARY.values():
        yield from (*condition.chinese, *condition.english, *sum(condition.grades, ()))
    for phrases in DEFINITIONS.values():
        yield from sum(phrases, ())


def _foreign_tokens(vocabulary: str) -> dict[str, int]:
    """The tokens of a vocab.txt, one a line, on this disk or on the hub."""
    path = runs.resolve(vocabulary)
    if path.suffix == ".txt" and not path.is_file():
        raise FileNotFoundError(f"vocabulary: {vocabulary} is not there; leave it empty to make one of the captions")
    if not path.is_file():
        # Not BertTokenizer.from_pretrained: for a file it can't get, it silently has no words at all.
        try:
            path = Path(cached_file(vocabulary, "vocab.txt"))
        except (OSError, ValueError) as error:
            raise FileNotFoundError(
                f"vocabulary: {vocabulary} can't be had from the hub ({type(error).__name__}); "
                "give the path of its vocab.txt, or leave it empty to make one of the captions"
            ) from None
    try:
        lines = path.read_text("utf-8").rstrip("\n").split("\n")
    except UnicodeDecodeError:
        raise ValueError(f"vocabulary: {vocabulary} is not UTF-8; give a BERT vocab.txt") from None
    missing = [token for token in SPECIAL if token not in lines]
    if missing:
        raise ValueError(f"vocabulary: {vocabulary} has no {', '.join(missing)}; give a BERT vocab.txt")
    return {token: number for number, token in enumerate(lines)}
