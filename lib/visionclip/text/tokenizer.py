"""The tokenizer of the captions: BERT's, with every word that the grammar can use and the characters of its languages.

A character that no caption has gets a token all the same, so that two such texts are not one; its weights stay as they
began, random, and ``familiarity`` warns of it.
"""

import os
import tempfile
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import PreTrainedTokenizerBase
from transformers.utils import cached_file

from visionclip import runs
from visionclip.text.familiarity import VisionCLIPTokenizer, pieces
from visionclip.text.grammar import CONTEXT, lexicon

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train_tokenizer(texts: Iterable[str], folder: str | Path, vocabulary: str = "") -> PreTrainedTokenizerBase:
    """Make the tokenizer of ``texts`` and of everything the grammar can say, and save it in ``folder``.

    If texts are Chinese it has all simplified characters of GB 2312 and the common traditional ones of Big5. It keeps
    which pieces the texts have, and warns of others when it is called.

    BERT's: lower case, one token for each Chinese character, WordPiece for words, at most ``CONTEXT`` tokens; curly
    quotes are folded, as in Chinese-CLIP. ``vocabulary`` takes the tokens from elsewhere: the path of a ``vocab.txt``,
    or a name on the Hugging Face hub such as ``hfl/chinese-roberta-wwm-ext`` (the paper's), which is then downloaded.

    Raises:
        FileNotFoundError: the vocabulary can't be found or downloaded.
        ValueError: it isn't a BERT vocabulary.
    """
    folder, texts = runs.resolve(folder), list(texts)
    tokenizer = _tokenizer(_foreign_tokens(vocabulary) if vocabulary else _own_tokens(texts))
    seen = {piece for parts in pieces(tokenizer, texts).values() for piece in parts}
    tokenizer.init_kwargs["seen"] = sorted(seen - {tokenizer.unk_token})
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
        raise FileNotFoundError(f"{runs.relative(folder)}: no tokenizer.json there; run 02-captions.ipynb first")
    return VisionCLIPTokenizer.from_pretrained(folder, local_files_only=True)


def unknown_tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> int:
    """How many [UNK] the texts give: anything but 0 means that the vocabulary doesn't fit them."""
    return sum(ids.count(tokenizer.unk_token_id) for ids in tokenizer(list(texts), verbose=False)["input_ids"])


def truncated_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> int:
    """How many texts lose their end to the context: with another's vocabulary a word can be many tokens."""
    whole = tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]
    return sum(len(ids) > tokenizer.model_max_length for ids in whole)


def _tokenizer(tokens: Mapping[str, int]) -> VisionCLIPTokenizer:
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
    roles = {f"{token[1:-1].lower()}_token": token for token in SPECIAL}
    return VisionCLIPTokenizer(tokenizer_object=backend, model_max_length=CONTEXT, **roles)


def _own_tokens(texts: Sequence[str]) -> dict[str, int]:
    """Every word and character of the texts and the grammar, numbered in alphabetical order.

    This is what WordPiece training arrives at on so few words, less the fragments on the way; the trainer of the
    tokenizers library itself gives other tokens from run to run. Latin characters spell words never seen.
    """
    normalizer = normalizers.BertNormalizer(lowercase=True)
    splitter = pre_tokenizers.BertPreTokenizer()
    corpus = {*texts, *lexicon(), *map(chr, range(33, 127)), *filter(str.isalpha, map(chr, range(0xC0, 0x180)))}
    if any(map(_is_chinese, set().union(*texts))):
        corpus |= _chinese_characters()
    pieces = {piece for text in corpus for piece, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))}
    characters = {character for piece in pieces for character in piece}
    inner = {f"##{character}" for character in characters if character.isalnum() and not _is_chinese(character)}
    return {token: number for number, token in enumerate((*SPECIAL, *sorted(pieces | characters | inner)))}


def _is_chinese(character: str) -> bool:
    return unicodedata.name(character, "").startswith("CJK UNIFIED")  # a word of its own to BERT, never inside one


def _chinese_characters() -> set[str]:
    """The 6763 characters of GB 2312 and the 5401 of Big5's first level, which are the common ones."""
    rows = [("gb2312", range(0xB0, 0xF8)), ("big5", range(0xA4, 0xC7))]
    cells = ((bytes([row, cell]), codec) for codec, own in rows for row in own for cell in range(0x40, 0xFF))
    return {character for code, codec in cells for character in code.decode(codec, "ignore") if _is_chinese(character)}


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
