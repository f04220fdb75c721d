"""Images with the captions that are true of them: what the towers are trained on."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from visionclip import conditions, keys, runs, streams
from visionclip.data import images, labelled, streaming
from visionclip.data.labelled import LabelledImages
from visionclip.text import captions
from visionclip.text.captions import Caption

HELD = 4 << 30  # bytes of images that are held in memory
DECODED = 256  # images at once, where all are made smaller


@dataclass(frozen=True)
class Pairs:
    """Images and the captions that each may be shown with: ``texts_of[i]`` are indices into ``captions``."""

    images: LabelledImages
    captions: list[Caption]
    texts_of: Sequence[Sequence[int]]

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, count: int, seed: int) -> "Pairs":
        """``count`` images at random (0: all); of the same seed, a smaller subset is part of every larger one.

        Raises:
            ValueError: the set holds fewer images.
        """
        if not 0 <= count <= len(self):
            raise ValueError(f"images: {count} requested, the set holds {len(self)}; give 0 (all) up to that")
        order = streams.rng(seed, "subset of the pairs").permutation(len(self))[: count or None]
        return Pairs(self.images.take(order), self.captions, [self.texts_of[index] for index in order])

    def at(self, size: int) -> "Pairs":
        """The same pairs, their images in memory at another side in pixels; those on disk are decoded part by part."""
        parts = np.array_split(np.arange(len(self)), -(-len(self) // DECODED))
        pixels = np.concatenate([images.resized(self.images.pixels[part], size) for part in parts])
        return replace(self, images=replace(self.images, pixels=pixels))

    def held_at(self, size: int, held: int = HELD) -> "Pairs":
        """The same pairs ``at`` a size no larger, if there they take at most ``held`` bytes; else as they are."""
        fits = size <= self.images.pixels.shape[1] and 3 * len(self) * size**2 <= held
        return self.at(size) if fits else self

    def draw(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One caption for each of these images (int B, places in the set): int B, indices into ``captions``."""
        return np.array([rng.choice(self.texts_of[row]) for row in rows])

    def draw_full(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """As ``draw``, a full description where the image has one."""
        full = ([text for text in self.texts_of[row] if self.captions[text].full] or self.texts_of[row] for row in rows)
        return np.array([rng.choice(texts) for texts in full])

    def positives(self, rows: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """Bool B×U: which of these captions are known to be true of which of these images."""
        return captions.entailed(self._shown[rows], self._stated[texts])

    def unknown(self, rows: np.ndarray, texts: np.ndarray) -> np.ndarray | None:
        """Bool B×U: which of these captions may be true of which of these images or not; None if all are complete."""
        if self._complete:
            return None
        shown, stated = self._shown[rows], self._stated[texts]
        return ~captions.entailed(shown, stated) & ~captions.contradicted(shown, stated)

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """float32 B×K in {0, 1}, the conditions of these images, NaN where unknown."""
        return np.stack([labelled.vector(self.images.conditions[row]) for row in rows])

    @cached_property
    def meanings(self) -> np.ndarray:
        """int M, a number for what each caption means."""
        return np.unique([caption.semantic_id for caption in self.captions], return_inverse=True)[1]

    @cached_property
    def key(self) -> str:
        """Of pixels, masks, conditions, captions and which belong together."""
        texts_of = [list(own) for own in self.texts_of]
        return keys.digest([self.images.key, keys.arrays(self._shown), self.captions, texts_of])

    @property
    def presentations(self) -> dict[str, int]:
        """How many images show each main condition."""
        return dict(sorted(Counter(map(labelled.presentation, self.images.conditions)).items()))

    @cached_property
    def _complete(self) -> bool:
        named = {key for caption in self.captions for key in caption.facts}
        return all(named <= conditions.implied(eye).keys() for eye in self.images.conditions)

    @cached_property
    def _shown(self) -> np.ndarray:
        return captions.fact_matrix(self.images.conditions)

    @cached_property
    def _stated(self) -> np.ndarray:
        return captions.fact_matrix([caption.facts for caption in self.captions])


def load(synthesis: str | Path, captions_folder: str | Path, name: str, held: int = HELD) -> Pairs:
    """The set ``name`` ("synthetic" or "validation") of stage 01 with its captions of stage 02.

    A set whose images would take more than ``held`` bytes is streamed from its shards.

    Raises:
        ValueError: the captions were written for other images.
    """
    loaded = streaming.load(runs.resolve(synthesis) / name, held)
    table, texts_of, names = captions.load(runs.resolve(captions_folder) / name)
    if names != loaded.keys:
        raise ValueError(f"{captions_folder}/{name}: captions of other images than {synthesis}; run 02-captions again")
    return Pairs(loaded, table, texts_of)
