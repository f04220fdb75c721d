"""Words that no caption has: named, once, by whoever gives them to the tokenizer."""

import logging

import pytest

from visionclip.text.familiarity import NAMED, unfamiliar, warn
from visionclip.text.tokenizer import load_tokenizer, train_tokenizer


@pytest.fixture
def chinese(tmp_path):
    train_tokenizer(["疑似青光眼。", "未见青光眼。"], tmp_path)
    return load_tokenizer(tmp_path)


def test_two_labels_that_no_caption_has_differ_and_both_are_named(chinese, caplog):
    ids = chinese(["裂孔", "脱离", "視網膜", "青光眼"])["input_ids"]
    assert len(set(map(tuple, ids))) == 4
    assert not any(chinese.unk_token_id in one for one in ids)
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "texts: no training caption has 裂, 孔, 脱, 离, 視, 網, 膜"
    ]
    assert "\n" not in caplog.text.rstrip()


def test_a_word_is_warned_of_once_and_what_captions_have_never(chinese, caplog):
    for text in ("裂孔", "裂孔", "青光眼", ["疑似青光眼。"]):
        chinese(text)
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.WARNING
    chinese("裂缝")
    assert "has 缝;" in caplog.records[-1].getMessage()
    chinese("glaucoma", verbose=False)
    assert len(caplog.records) == 2


def test_another_language_and_what_has_no_token_are_unfamiliar(chinese):
    assert unfamiliar(chinese, ["Suspected glaucoma.", "青光眼 😀"]) == ["suspected", "glaucoma", ".", "😀"]
    assert unfamiliar(chinese, ["未见青光眼。"]) == []


def test_a_word_is_familiar_only_if_all_of_its_pieces_are(tmp_path):
    words = train_tokenizer(["No glaucoma."], tmp_path)
    assert unfamiliar(words, ["Glaucoma, glaucomas"]) == [",", "glaucomas"]


def test_a_warning_names_a_few_and_counts_the_rest(chinese, caplog):
    warn(chinese, ["".join(map(chr, range(0x4E00, 0x4E00 + NAMED + 5)))])
    assert f"{chr(0x4E00 + NAMED - 1)} and 5 more;" in caplog.text
