"""What a tokenizer's captions never said: words that a model can encode and not understand, and a warning that names
them. A saved model's folder carries this file, so that it also warns where the package is not installed."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from transformers import PreTrainedTokenizerFast

NAMED = 20  # words that a warning names


class VisionCLIPTokenizer(PreTrainedTokenizerFast):
    """BERT's tokenizer that knows the pieces of the captions it was made for, as ``seen`` in its saved configuration.

    A text with any other piece is warned of, each word once, unless it is called with ``verbose=False``. Without
    ``seen`` every piece of the vocabulary counts as seen.
    """

    # No __init__: with one of its own, transformers would build it anew from the vocabulary alone.

    @cached_property
    def warned(self) -> set[str]:
        """The words that were warned of."""
        return set()

    @property
    def familiar(self) -> frozenset[str]:
        """The pieces that captions have, without [UNK]."""
        return frozenset(self.init_kwargs.get("seen") or self.get_vocab()) - {self.unk_token}

    def __call__(self, text=None, *inputs, **kwargs):
        """Token ids as of ``PreTrainedTokenizerFast``; words that no caption has are warned of."""
        if kwargs.get("verbose", True) and text is not None:
            warn(self, [text] if isinstance(text, str) else text)
        return super().__call__(text, *inputs, **kwargs)


def pieces(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> dict[str, list[str]]:
    """The pieces of every word (or character, or mark) of the texts by the word, each word once and in order."""
    words = dict.fromkeys(word for text in texts for word in _words(tokenizer, text))
    model = tokenizer.backend_tokenizer.model
    return {word: [token.value for token in model.tokenize(word)] for word in words}


def unfamiliar(tokenizer: VisionCLIPTokenizer, texts: Iterable[str]) -> list[str]:
    """The words and characters of the texts that are unknown to the tokenizer or that no caption has, in order.

    The model has weights for them, if any, that no training has touched: their scores mean nothing.
    """
    familiar = tokenizer.familiar
    return [word for word, parts in pieces(tokenizer, texts).items() if not familiar.issuperset(parts)]


def include(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> None:
    """Count the pieces of these texts as seen: a model is trained on them beside its captions."""
    if isinstance(tokenizer, VisionCLIPTokenizer) and "seen" in tokenizer.init_kwargs:
        found = {piece for parts in pieces(tokenizer, texts).values() for piece in parts} - {tokenizer.unk_token}
        tokenizer.init_kwargs["seen"] = sorted(found.union(tokenizer.init_kwargs["seen"]))


def warn(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> None:
    """Log one line that names what is ``unfamiliar`` in the texts, if it is and wasn't named before.

    Only strings are looked at, and only of a ``VisionCLIPTokenizer``: others don't know what their model has seen.
    """
    if not isinstance(tokenizer, VisionCLIPTokenizer):
        return
    new = [word for word in unfamiliar(tokenizer, filter(_is_text, texts)) if word not in tokenizer.warned]
    if not new:
        return
    tokenizer.warned.update(new)
    rest = f" and {len(new) - NAMED} more" if len(new) > NAMED else ""
    logging.getLogger(__name__).warning(
        f"texts: no training caption has {', '.join(new[:NAMED])}{rest}; the model does not understand that, and scores"
        " of such texts mean nothing: use the captions' words, or train on captions that have these"
    )


def _is_text(text: object) -> bool:
    return isinstance(text, str)


def _words(tokenizer: PreTrainedTokenizerFast, text: str) -> Iterator[str]:
    backend = tokenizer.backend_tokenizer
    for word, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text)):
        yield word
