"""Conditions as sentences: a small grammar in Chinese and English.

The Chinese follows SynFundus-1M's advice texts (arXiv 2312.00377): ``疑似X（中度），可见Y。``. Names of conditions come
from the vocabulary; how they are asserted, negated and joined is said in ``wordings``. A text is tied to its *facts*,
the conditions that it states, so that whether it is true of an eye is known and not guessed:

- all diseases at their values is a full description: it names those present and says that nothing else is;
- ``{"gc": 1}`` states glaucoma and ``{"gc": 0}`` its absence, whatever else the eye may have;
- ``{}`` is read as the normal eye, every disease at 0;
- ``{"exudate": 1}`` states hard exudates, few or many and wherever; how many (``exudate_amount``) and where
  (``exudate_macula``, ``exudate_quadrants``) are facts of their own, each with a wording of its own.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass

import numpy as np

from visionclip import conditions, streams
from visionclip.conditions import ABOUT, DISEASES, FACTS, FINDINGS, READABILITY, VOCABULARY, Conditions
from visionclip.text.wordings import DEFINITIONS, FINDING_DEFINITIONS, WORDINGS, Wordings

LANGUAGES = tuple(WORDINGS)
NAMINGS = ("names", "definitions", "both")
CONTEXT = 52  # tokens including [CLS] and [SEP], as in Chinese-CLIP
LONGEST = CONTEXT - 2  # pieces (Chinese characters, words, marks) of a text
DRAFTS = 8  # of a sentence that comes out too long


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
            raise ValueError(f"captions: {self}; choose from {', '.join(NAMINGS)} and a variety of 0 or more")


PLAIN = Style()


def describe(facts: Conditions, language: str, rng: np.random.Generator, style: Style = PLAIN) -> str:
    """One sentence that states ``facts`` in ``language`` ("zh" or "en"), its wording drawn by ``rng`` within ``style``.

    A full description leaves unsaid that something is readable, and what follows from another fact is left unsaid;
    everything else is said. Of eight drafts the first of at most ``LONGEST`` pieces is taken, else the shortest.

    Raises:
        ValueError: a fact is not one of ``FACTS``, or the language isn't known.
    """
    stated = _stated(facts)
    _check_language(language)
    drafts = []
    for _ in range(DRAFTS):
        drafts.append(_draft(stated, _Voice(language, rng, style)))
        if length(drafts[-1]) <= LONGEST:
            return drafts[-1]
    return min(drafts, key=length)


def prompts(facts: Conditions, language: str, count: int, style: Style = PLAIN) -> list[str]:
    """Up to ``count`` different wordings of ``facts``, always the same ones; fewer where the style has fewer.

    The commonest come first, and a smaller ensemble is the beginning of a larger one.
    """
    rng = streams.rng(0, f"prompts: {semantic_id(facts)} in {language}")
    frequent = Counter(describe(facts, language, rng, style) for _ in range(400))
    texts = {text: None for text, _ in frequent.most_common(count)}
    repeats = 0
    while len(texts) < count and repeats < 500:
        text = describe(facts, language, rng, style)
        repeats = repeats + 1 if text in texts else 0
        texts[text] = None
    return list(texts)


def phrases(finding: str, language: str, style: Style = PLAIN) -> list[str]:
    """Noun phrases and short sentences by which a map of ``finding`` (a key of ``FINDINGS``) may be asked for.

    Always the same ones, distinct, the commonest first; all without a full stop. Synonyms and wordings are as many as
    ``style`` has.

    Raises:
        ValueError: the finding or the language isn't known.
    """
    if finding not in FINDINGS:
        raise ValueError(f"finding: {finding!r} is not known; choose from {', '.join(FINDINGS)}")
    _check_language(language)
    words, variety = WORDINGS[language], style.variety or None
    names = _synonyms(FINDINGS[finding], language)[:variety] if style.naming != "definitions" else ()
    if style.naming != "names":
        names = (*names, FINDING_DEFINITIONS[finding][language == "en"])
    forms = (("{}", *words.seen) if FINDINGS[finding].lesion else words.shown)[:variety]
    worded = {form.format(name): row + place for row, form in enumerate(forms) for place, name in enumerate(names)}
    return sorted(worded, key=worded.__getitem__)  # where both are as common, the plainer form


def semantic_id(facts: Conditions) -> str:
    """What a text with these facts means, the same for all its wordings and in both languages.

    Facts are named in the order of ``FACTS``, without those that follow from others: ``gc=1`` (glaucoma, at least),
    ``only gc=1 eye_side=0`` (of all diseases this one), ``normal`` (of all diseases none), ``exudate_amount=2``.
    """
    stated = _stated(facts)
    if not is_full(stated):
        return _listed(stated)
    present = [key for key in DISEASES if stated[key]]
    others = [key for key in stated if key not in DISEASES]
    listed = _listed({key: stated[key] for key in (*present, *others)})
    return f"{'only' if present else 'normal'} {listed}".strip()


def is_full(facts: Conditions) -> bool:
    """True of a full description, which leaves no disease open."""
    return all(key in facts for key in DISEASES)


def length(text: str) -> int:
    """Pieces of a text: each Chinese character, mark, and word or number counts one."""
    return len(re.findall(r"[A-Za-z0-9]+|[^\sA-Za-z0-9]", text))


def lexicon() -> Iterator[str]:
    """Whatever the grammar can put into a sentence, in all its languages."""
    for words in WORDINGS.values():
        for value in astuple(words):
            yield from (re.sub(r"{\w*}", " ", wording) for wording in ([value] if isinstance(value, str) else value))
    for condition in FACTS.values():
        yield from (*condition.chinese, *condition.english, *sum(condition.grades, ()))
    for finding in FINDINGS.values():
        yield from (*finding.chinese, *finding.english)
    for definitions in (*DEFINITIONS.values(), FINDING_DEFINITIONS.values()):
        yield from sum(definitions, ())


def _check_language(language: str) -> None:
    if language not in WORDINGS:
        raise ValueError(f"language: {language!r} is not known; choose from {', '.join(LANGUAGES)}")


def _synonyms(named: conditions.Condition | conditions.Finding, language: str) -> tuple[str, ...]:
    return named.chinese if language == "zh" else named.english


def _stated(facts: Conditions) -> dict[str, int]:
    """The facts in the order of ``FACTS``, without those that follow from others; none meaning the normal eye."""
    checked = conditions.reduced(conditions.check(facts, "facts")) or dict.fromkeys(DISEASES, 0)
    return {key: checked[key] for key in FACTS if key in checked}


def _listed(facts: Conditions) -> str:
    return " ".join(f"{key}={value}" for key, value in facts.items())


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
        if self.defines() and key in DEFINITIONS:
            return DEFINITIONS[key][value if len(DEFINITIONS[key]) > 1 else 0][self.language == "en"]
        condition = VOCABULARY[key]
        name = self.pick(_synonyms(condition, self.language))
        if condition.grades and value:
            grade = condition.grades[value - 1][self.language == "en"]
            name = self.pick(self.words.graded).format(name=name, grade=grade)
        return name

    def finding(self, key: str) -> str:
        """What a finding is called."""
        if self.defines():
            return FINDING_DEFINITIONS[key][self.language == "en"]
        return self.pick(_synonyms(FINDINGS[key], self.language))

    def defines(self) -> bool:
        """Whether to describe instead of naming."""
        return self.style.naming == "definitions" or (self.style.naming == "both" and self.rng.random() < 0.5)


def _draft(stated: Conditions, voice: _Voice) -> str:
    """One wording of the facts, however long."""
    words, rng, full = voice.words, voice.rng, is_full(stated)
    keys = [key for key in stated if key in DISEASES]
    rng.shuffle(keys)
    present = [voice.name(key, stated[key]) for key in keys if stated[key]]
    absent = [] if full else [voice.name(key, 0) for key in keys if not stated[key]]
    clauses: list[str] = []
    closing: list[str] = []
    readability = _readability(stated, full, voice)
    if full and present and rng.random() < 0.3:
        clauses.append(voice.pick(words.only).format(_list(present, words.enumeration, voice.pick(words.both))))
    elif present:
        clauses += _clauses(present, words.present, words.both, voice)
        closing = [voice.pick(words.rest)] if full else []
    elif full:
        found = any(stated[key] for key in ABOUT if key in stated)
        closing = [voice.pick(words.rest if readability or found else words.normal)]
    if absent:
        clauses += _clauses(absent, words.absent, words.neither, voice)
    clauses += readability
    anywhere, placed = _findings(stated, voice)
    clauses += anywhere
    rng.shuffle(clauses)
    turns = anywhere or placed or (absent and (present or readability))
    text = (words.turn if turns else words.comma).join(clauses + placed + closing)
    text = _opened(text, stated.get("eye_side"), voice)
    return text[0].upper() + text[1:] + words.stop


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
        clauses.append(voice.pick(templates).format(voice.name(key, stated[key])))
    return clauses


def _findings(stated: Conditions, voice: _Voice) -> tuple[list[str], list[str]]:
    """Clauses about findings wherever they are, and those that name a place, which come after all others: what follows
    a place without naming one would seem to be said of it."""
    words = voice.words
    facts = [key for key in stated if key in ABOUT]
    voice.rng.shuffle(facts)

    def named(detail: str, value: int) -> list[str]:
        return [voice.finding(ABOUT[key][0]) for key in facts if ABOUT[key][1] == detail and stated[key] == value]

    # First those without an amount: "few A and B" would leave open whether B are few.
    present = named("", 1)
    present += [voice.pick(words.few).format(name) for name in named("amount", 1)]
    present += [voice.pick(words.many).format(name) for name in named("amount", 2)]
    kinds = (
        (present, words.seen, words.both),
        (named("", 0), words.unseen, words.neither),
        (named("macula", 1), words.macula, words.both),
        (named("macula", 0), words.no_macula, words.neither),
    )
    seen, unseen, macula, no_macula = (_clauses(*kind, voice) if kind[0] else [] for kind in kinds)
    placed = macula + no_macula
    for value, quadrants in enumerate(conditions.DETAILS["quadrants"], 1):
        for name in named("quadrants", value):
            placed.append(voice.pick(words.quadrants).format(name=name, quadrants=quadrants[voice.language == "en"]))
    voice.rng.shuffle(placed)
    return seen + unseen, placed


def _opened(text: str, side: int | None, voice: _Voice) -> str:
    """The text with its eye side, or with an opening that says no more than that this is a photograph."""
    words, condition = voice.words, VOCABULARY["eye_side"]
    if side is None:
        return voice.pick(words.opening).format(text)
    name = (condition.chinese if voice.language == "zh" else condition.english)[side]
    if not text:
        return voice.pick(words.side_alone).format(name)
    return voice.pick(words.side).format(side=name, text=text)
