"""What a short Chinese advice sentence states, in the vocabulary: SynFundus-1M's column ``diagnosticAdvice``.

Such a sentence (arXiv 2312.00377) is phrases of the form ``疑似X`` (suspected X) or ``可见Y`` (visible Y), joined by
``，`` and closed by ``。``, severity in brackets: ``疑似糖尿病视网膜病变（中度），可见出血斑。``. Only what it says is
taken from it, never what it leaves out.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from visionclip.conditions import DISEASES, FINDINGS, VOCABULARY

PREFIXES = ("疑似", "可见")


@dataclass(frozen=True)
class Phrase:
    """A phrase, and the fact that it states: ``key`` of ``conditions.FACTS`` (empty where the vocabulary has no such
    word) at ``value``. Where it isn't ``exact``, it says more or less than the fact: that a graded disease is there at
    all, ``value`` being the least that this can mean, or how severe one without grades is."""

    text: str
    key: str = ""
    value: int = 0
    exact: bool = False


def _named() -> Iterator[tuple[str, tuple[str, int, bool]]]:
    """Every name of a disease or lesion, graded or not, with key, value and whether that is all it says."""
    for key in DISEASES:
        condition = VOCABULARY[key]
        for name in condition.chinese:
            yield name, (key, 1, not condition.grades)
            for value, (grade, _) in enumerate(condition.grades, 1):
                yield f"{name}({grade})", (key, value, True)
                yield f"{grade}{name}", (key, value, True)
    for key, finding in FINDINGS.items():
        if finding.lesion:
            yield from ((name, (key, 1, True)) for name in finding.chinese)


NAMED = dict(_named())


@lru_cache(maxsize=1 << 16)
def phrases(sentence: str) -> tuple[Phrase, ...]:
    """The phrases of a sentence in their order; full-width and half-width marks are the same."""
    parts = re.split(r"[,、;。\s]+", unicodedata.normalize("NFKC", sentence))
    return tuple(_phrase(part) for part in parts if part)


def _phrase(text: str) -> Phrase:
    name = text
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    bare = re.sub(r"\([^()]*\)$", "", name)
    if name in NAMED:
        return Phrase(text, *NAMED[name])
    if bare in NAMED:  # a severity for which the vocabulary has no word
        key, value, _ = NAMED[bare]
        return Phrase(text, key, value)
    return Phrase(text)


def facts(sentence: str) -> dict[str, int]:
    """The facts of a sentence that is understood whole, in the order of its phrases; {} of any other.

    Whole are only sentences all of whose phrases are ``exact`` and none of which contradicts another.
    """
    found = phrases(sentence)
    stated = {phrase.key: phrase.value for phrase in found}
    whole = all(phrase.exact and stated[phrase.key] == phrase.value for phrase in found)
    return stated if whole else {}
