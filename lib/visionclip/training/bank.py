"""What is asked in every update beside the captions drawn: each condition of an eye, and each finding of its cells.

A caption drawn says little of an eye. But whether a condition is there is known of all of them, and a drawn eye's masks
say where every finding is. So each update states every condition at each of its values, and names every finding, in
words drawn anew.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from visionclip.conditions import DISEASES, VOCABULARY
from visionclip.data.pairs import Pairs
from visionclip.text.grammar import phrases


@dataclass(frozen=True)
class Bank:
    """Texts by their places in a table that begins with the captions.

    ``statements`` are captions that state one condition at one value and nothing else, for each value of each of
    ``conditions``; ``named`` are the phrases of each channel of the masks, which ``texts`` holds.
    """

    conditions: tuple[str, ...]
    statements: list[list[np.ndarray]]
    named: list[np.ndarray]
    texts: list[str]

    @cached_property
    def values(self) -> list[int]:
        """How many values each condition has, 0 among them."""
        return [len(of_condition) for of_condition in self.statements]

    def draw_statements(self, rng: np.random.Generator) -> np.ndarray:
        """A statement of each value of each condition, one after another."""
        return np.array([rng.choice(texts) for of_condition in self.statements for texts in of_condition], int)

    def draw_names(self, rng: np.random.Generator) -> np.ndarray:
        """A phrase for each channel of the masks."""
        return np.array([rng.choice(texts) for texts in self.named], int)

    def targets(self, eyes: Sequence[dict[str, int]]) -> np.ndarray:
        """int N×K, the value of each condition, -1 where unknown."""
        return np.array([[eye.get(key, -1) for key in self.conditions] for eye in eyes], int).reshape(len(eyes), -1)


def of_pairs(pairs: Pairs) -> Bank:
    """The bank of a set: of a disease the captions that state it alone, if there are any for each of its values, and
    names of its masks' channels in the languages of its captions."""
    alone: dict[tuple[str, int], list[int]] = defaultdict(list)
    for caption in pairs.captions:
        if len(caption.facts) == 1:
            (fact,) = caption.facts.items()
            alone[fact].append(caption.text_id)
    values = {key: range(VOCABULARY[key].highest + 1) for key in DISEASES}
    stated = [key for key in DISEASES if all((key, value) in alone for value in values[key])]
    statements = [[np.array(alone[key, value]) for value in values[key]] for key in stated]
    languages = sorted({caption.language for caption in pairs.captions})
    texts: list[str] = []
    named = []
    for finding in pairs.images.mask_names:
        own = [phrase for language in languages for phrase in phrases(finding, language)]
        named.append(len(pairs.captions) + len(texts) + np.arange(len(own)))
        texts += own
    return Bank(tuple(stated), statements, named, texts)
