import json
import os
import subprocess
import sys

import numpy as np
import pytest

from visionclip import conditions
from visionclip.conditions import FACTS
from visionclip.text import captions, grammar
from visionclip.text import tokenizer as tokenization
from visionclip.text.grammar import LANGUAGES

STATED = [
    {},
    *({key: value} for key, condition in FACTS.items() for value in range(condition.highest + 1)),
    {"dr_grade": 2, "dme": 0},
    {"gc": 0, "cataract": 0},
    {"amd": 1, "em": 1, "gc": 0, "macula_readable": 1},
    {"exudate_macula": 1, "haemorrhage_quadrants": 4, "microaneurysms_amount": 2},
]


@pytest.fixture(scope="module")
def tokenizer(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    tokenization.train_tokenizer([caption.text for caption in made[0]], folder)
    return tokenization.load_tokenizer(folder)


def test_no_text_of_the_grammar_is_unknown_or_truncated(made, tokenizer):
    spoken = [one.text for one in made[0]]
    spoken += [text for facts in STATED for language in LANGUAGES for text in grammar.prompts(facts, language, 40)]
    assert tokenization.unknown_tokens(tokenizer, spoken) == 0
    assert tokenization.truncated_texts(tokenizer, spoken) == 0
    assert all(len(tokenizer(text)["input_ids"]) == grammar.length(text) + 2 for text in spoken[::20])


def test_a_tokenizer_of_other_texts_still_knows_the_grammar(made, tmp_path):
    tokenizer = tokenization.train_tokenizer(["可见出血斑。"], tmp_path)
    assert tokenization.unknown_tokens(tokenizer, [one.text for one in made[0]] + ["可见出血斑。", "Drusen?"]) == 0
    assert tokenization.unknown_tokens(tokenizer, ["罕见的視網膜裂孔"]) == 0
    assert tokenization.unknown_tokens(tokenizer, ["😀"]) == 1


def test_it_has_the_characters_of_its_language_and_no_other(tmp_path):
    chinese, english = (tokenization.train_tokenizer([text], tmp_path) for text in ("可见出血。", "No drusen."))
    hanzi = bytes([0xB0, 0xA1]).decode("gb2312"), bytes([0xF7, 0xFE]).decode("gb2312"), *"視網離"
    assert all(character in chinese.get_vocab() for character in hanzi)
    assert not any(f"##{character}" in chinese.get_vocab() for character in "視出")  # a character is a word
    assert "視" not in english.get_vocab()
    assert english.tokenize("Straße")[-2:] == ["##ß", "##e"]


def test_the_tokenizer_is_berts(tokenizer):
    assert len(tokenizer) > 300
    assert tokenizer.convert_ids_to_tokens(range(5)) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert tokenizer.tokenize("疑似青光眼（中度）。") == list("疑似青光眼（中度）。")
    assert tokenizer.tokenize("Suspected GLAUCOMA.") == ["suspected", "glaucoma", "."]
    assert tokenizer.tokenize("“疑似”") == ['"', "疑", "似", '"']
    batch = tokenizer(["青" * 100, "青光眼"], padding=True, truncation=True, return_tensors="np")
    assert batch["input_ids"].shape == (2, 52)
    assert batch["attention_mask"].sum(1).tolist() == [52, 5]


def test_the_tokenizer_survives_saving_and_does_not_depend_on_order(made, tokenizer, tmp_path):
    texts = [one.text for one in made[0]]
    again = tokenization.train_tokenizer(texts[::-1], tmp_path)
    assert again.get_vocab() == tokenization.load_tokenizer(tmp_path).get_vocab() == tokenizer.get_vocab()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_captions_and_tokens_are_the_same_in_another_process(tmp_path):
    """Hash seeds differ between processes; nothing may hang on the order of a set."""
    some = conditions.balanced(30, np.random.default_rng(5))
    program = (
        "import json, sys, numpy; from visionclip import conditions;"
        "from visionclip.text import captions, grammar, tokenizer;"
        "eyes = conditions.balanced(30, numpy.random.default_rng(5));"
        "texts = [one.text for one in captions.table(eyes, ('zh', 'en'), 2, numpy.random.default_rng(6))[0]];"
        "tokens = tokenizer.train_tokenizer(texts, sys.argv[1]).get_vocab();"
        "print(json.dumps([texts, grammar.prompts({'gc': 1}, 'en', 9), tokens]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}  # this process has a random one, or 0
    command = [sys.executable, "-c", program, str(tmp_path)]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    texts, prompts, tokens = json.loads(printed.splitlines()[-1])
    table, _ = captions.table(some, LANGUAGES, 2, np.random.default_rng(6))
    assert texts == [one.text for one in table]
    assert prompts == grammar.prompts({"gc": 1}, "en", 9)
    assert tokens == tokenization.train_tokenizer(texts, tmp_path).get_vocab()


def test_the_papers_vocabulary_is_taken_from_a_file(tmp_path):
    tokens = [*tokenization.SPECIAL, *"疑似青光眼。", "gl", "##au", "##coma"]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens) + "\n", "utf-8")
    tokenizer = tokenization.train_tokenizer([], tmp_path / "words", str(tmp_path / "vocab.txt"))
    assert len(tokenizer) == len(tokens)
    assert tokenizer("疑似青光眼。")["input_ids"] == [2, 5, 6, 7, 8, 9, 10, 3]
    assert tokenization.load_tokenizer(tmp_path / "words").tokenize("Glaucoma") == ["gl", "##au", "##coma"]
    assert tokenization.truncated_texts(tokenizer, ["glaucoma " * 17, "glaucoma " * 16]) == 1


def test_a_vocabulary_that_cannot_be_had_is_refused_with_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.txt is not there"):
        tokenization.train_tokenizer([], tmp_path, str(tmp_path / "missing.txt"))
    with pytest.raises(FileNotFoundError, match="can't be had from the hub") as error:
        tokenization.train_tokenizer([], tmp_path, "nobody/no-such-vocabulary")
    assert "\n" not in str(error.value)
    (tmp_path / "words.txt").write_text("疑\n似\n", "utf-8")
    with pytest.raises(ValueError, match=r"has no \[PAD\]"):
        tokenization.train_tokenizer([], tmp_path, str(tmp_path / "words.txt"))
    with pytest.raises(FileNotFoundError, match=r"no tokenizer\.json there; run"):
        tokenization.load_tokenizer(tmp_path)
