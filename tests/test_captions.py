import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from visionclip import conditions
from visionclip.conditions import DISEASES, READABILITY, VOCABULARY
from visionclip.text import captions
from visionclip.text.captions import LANGUAGES

# Written here once more: were they taken from the grammar, a wording of the wrong polarity would go unnoticed.
DENIES = {
    "zh": re.compile("未|无|不|没有|正常"),
    "en": re.compile(r"\b(no|not|nothing|without|absent|negative|free|normal|healthy|unremarkable)\b", re.I),
}
UNREADABLE = {
    "zh": re.compile("不可读|不清|不佳|无法|难以|差"),
    "en": re.compile(r"\b(unreadable|not readable|not gradable|cannot|unclear|poor|low)\b", re.I),
}
FACTS = [
    {},
    *({key: value} for key, condition in VOCABULARY.items() for value in range(condition.highest + 1)),
    {"dr_grade": 2, "dme": 0},
    {"gc": 0, "cataract": 0},
    {"amd": 1, "em": 1, "gc": 0, "macula_readable": 1},
]


def names(key, language):
    condition = VOCABULARY[key]
    return condition.chinese if language == "zh" else condition.english


def mentions(text, key, language):
    return any(name.lower() in text.lower() for name in names(key, language))


@pytest.fixture(scope="module")
def eyes():
    return conditions.balanced(400, np.random.default_rng(0), unreadable=0.3)


@pytest.fixture(scope="module")
def made(eyes):
    return captions.table(eyes, LANGUAGES, 4, np.random.default_rng(1))


@pytest.fixture(scope="module")
def tokenizer(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    captions.train_tokenizer([caption.text for caption in made[0]], folder)
    return captions.load_tokenizer(folder)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("key", DISEASES)
def test_a_disease_is_asserted_without_a_negation_and_denied_with_one(key, language):
    denials = captions.prompts({key: 0}, language, 200)
    assert len(denials) > 10
    assert all(DENIES[language].search(text) and mentions(text, key, language) for text in denials)
    for value in range(1, VOCABULARY[key].highest + 1):
        assertions = captions.prompts({key: value}, language, 200)
        assert len(assertions) > 10
        assert not any(DENIES[language].search(text) for text in assertions)
        assert all(mentions(text, key, language) for text in assertions)
        assert not set(assertions) & set(denials)


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_grade_of_retinopathy_is_named_and_no_other(language):
    grades = [grade[language == "en"] for grade in VOCABULARY["dr_grade"].grades]
    for value, grade in enumerate(grades, 1):
        for text in captions.prompts({"dr_grade": value}, language, 200):
            assert [other for other in grades if other in text.lower()] == [grade]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("key", READABILITY)
def test_what_can_be_read_and_what_cannot_are_told_apart(key, language):
    faults, clear = (captions.prompts({key: value}, language, 200) for value in (0, 1))
    assert all(UNREADABLE[language].search(text) for text in faults)
    assert not any(UNREADABLE[language].search(text) for text in clear)
    if key != "fundus_readable":  # of which "poor image quality" speaks too
        assert all(mentions(text, key, language) for text in (*faults, *clear))


def test_left_is_never_right():
    for language, sides in (("zh", "左右"), ("en", ("left", "right"))):
        for value, side in enumerate(sides):
            for facts in ({"eye_side": value}, {"gc": 1, "eye_side": value}):
                for text in captions.prompts(facts, language, 50):
                    assert side in text.lower()
                    assert sides[1 - value] not in text.lower()


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_caption_that_denies_macular_edema_states_it(made, language):
    denial = {
        "zh": "[未无不没有]+[^，。]*黄斑水肿",
        "en": r"\b(no|without|free of|negative for)\b[^,;.]*macular o?edema",
    }
    denying = [one for one in made[0] if one.language == language and re.search(denial[language], one.text, re.I)]
    assert len(denying) > 10
    assert all(one.facts["dme"] == 0 for one in denying)


def test_an_empty_statement_is_the_normal_eye():
    normal = dict.fromkeys(DISEASES, 0)
    assert captions.semantic_id({}) == captions.semantic_id(normal) == "normal"
    for language in LANGUAGES:
        assert captions.prompts({}, language, 20) == captions.prompts(normal, language, 20)
        for text in captions.prompts({}, language, 20):
            assert DENIES[language].search(text)
            assert not any(mentions(text, key, language) for key in DISEASES)


def test_the_commonest_wordings_are_synfunduss():
    assert captions.prompts({"gc": 1}, "zh", 1) == ["疑似青光眼。"]
    assert captions.prompts({"dr_grade": 2}, "zh", 1) == ["疑似糖尿病视网膜病变（中度）。"]
    assert captions.prompts({"em": 0}, "zh", 1) == ["未见黄斑前膜。"]
    assert captions.prompts({}, "zh", 1) == ["未见明显异常。"]
    assert captions.prompts({"em": 0}, "en", 1) == ["No epiretinal membrane."]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_complete_description_names_what_is_there_and_nothing_else(eyes, language):
    rng = np.random.default_rng(2)
    for eye in eyes[:150]:
        text = captions.describe(eye, language, rng)
        present = [key for key in DISEASES if eye[key]]
        assert [key for key in DISEASES if mentions(text, key, language)] == present, text
        assert sum(side in text.lower() for side in names("eye_side", language)) == 1, text
        faults = [key for key in READABILITY if not eye[key]]
        assert bool(UNREADABLE[language].search(text)) == bool(faults), text
        for name in (name for key in present for name in names(key, language)):  # some contain "macula" or "optic disc"
            text = re.sub(name, "", text, flags=re.I)
        for key in READABILITY[1:]:
            assert mentions(text, key, language) == (key in faults), text


@pytest.mark.parametrize("facts", FACTS, ids=str)
def test_prompts_are_distinct_repeatable_and_begin_alike(facts):
    for language in LANGUAGES:
        texts = captions.prompts(facts, language, 12)
        assert len(set(texts)) == len(texts) > 4
        assert texts == captions.prompts(facts, language, 12)
        assert texts[:3] == captions.prompts(facts, language, 3)


def test_where_the_grammar_has_fewer_wordings_there_are_fewer_prompts():
    sides = captions.prompts({"eye_side": 1}, "zh", 1000)
    assert sorted(sides) == sorted(wording.format("右眼") + "。" for wording in captions.WORDINGS["zh"].side_alone)


def test_meaning_is_shared_by_synonyms_languages_and_order_and_by_nothing_else(made):
    assert captions.semantic_id({"gc": 0, "amd": 1}) == captions.semantic_id({"amd": 1, "gc": 0}) == "amd=1 gc=0"
    assert captions.semantic_id({"gc": 1}) == "gc=1"
    assert captions.semantic_id({**dict.fromkeys(DISEASES, 0), "gc": 1, "eye_side": 0}) == "only gc=1 eye_side=0"
    facts_of = {}
    for one in made[0]:
        assert facts_of.setdefault(one.semantic_id, one.facts) == one.facts
    assert len({tuple(facts.items()) for facts in facts_of.values()}) == len(facts_of)
    assert {one.language for one in made[0] if one.semantic_id == "normal"} == set(LANGUAGES)


def test_every_caption_is_true_of_its_own_eyes(eyes, made):
    table, texts_of = made
    truth = captions.truth(eyes, table)
    assert truth.shape == (len(eyes), len(table))
    assert truth.dtype == bool
    assert all(truth[eye, text] for eye, own in enumerate(texts_of) for text in own)


def test_truth_equals_a_plain_loop(eyes, made):
    some = made[0][::7]
    expected = [[conditions.holds(one.facts, eye) for one in some] for eye in eyes]
    assert np.array_equal(captions.truth(eyes, some), expected)


def test_truth_of_thousands_takes_no_time(eyes, made):
    """A loop over these 25 million pairs would take longer than the whole file may."""
    assert captions.truth(eyes * 13, (made[0] * 5)[:5000]).shape == (5200, 5000)


def test_half_of_the_captions_are_full_a_quarter_single_a_quarter_negations(eyes, made):
    table, texts_of = made
    used = [table[text] for own in texts_of for text in own]
    assert len(used) == 4 * len(eyes)
    denied = sum(
        not any(one.facts.values()) and len(one.facts) <= 2 and set(one.facts) <= set(DISEASES) for one in used
    )
    assert denied == len(eyes)
    full = sum(set(DISEASES) <= set(one.facts) for one in used)
    assert 0.5 <= full / len(used) < 0.6  # the finding of a normal eye is that it is normal
    with_side = sum("eye_side" in one.facts for one in used)
    assert 0.35 < with_side / full < 0.6


def test_texts_are_distinct_and_varied_and_meanings_repeat(eyes, made):
    table, texts_of = made
    assert [one.text_id for one in table] == list(range(len(table)))
    assert len({one.text.lower() for one in table}) == len(table) > 500
    assert all(len(set(own)) == 4 for own in texts_of)
    told = captions.summary(*made)
    assert told["semantic_ids"] < 0.5 * told["texts"]


def test_the_same_seed_makes_the_same_table_and_another_seed_another(eyes, made):
    assert captions.table(eyes, LANGUAGES, 4, np.random.default_rng(1)) == made
    assert captions.table(eyes, LANGUAGES, 4, np.random.default_rng(2)) != made


def test_one_language_alone(eyes):
    table, _ = captions.table(eyes[:50], ("zh",), 2, np.random.default_rng(0))
    assert {one.language for one in table} == {"zh"}


def test_an_eye_that_has_everything_is_told_in_parts_that_fit():
    eye = conditions.complete({**dict.fromkeys(DISEASES, 1), "macula_readable": 0})
    table, texts_of = captions.table([eye] * 20, LANGUAGES, 4, np.random.default_rng(0))
    assert max(captions.length(one.text) for one in table) <= captions.LONGEST
    assert captions.truth([eye], table).all()
    assert all(texts_of)


def test_an_incomplete_eye_an_unknown_fact_or_language_is_refused(eyes):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"eye 1: no dme"):
        captions.table([eyes[0], {"dr_grade": 2, **dict.fromkeys(DISEASES[1:5], 0)}], ("zh",), 1, rng)
    with pytest.raises(ValueError, match="'fr'"):
        captions.table(eyes, ("fr",), 1, rng)
    with pytest.raises(ValueError, match="at least one"):
        captions.table(eyes, ("zh",), 0, rng)
    with pytest.raises(ValueError, match="choose from zh, en"):
        captions.prompts({"gc": 1}, "fr", 1)
    with pytest.raises(ValueError, match="unknown condition 'glaucoma'"):
        captions.describe({"glaucoma": 1}, "zh", rng)
    with pytest.raises(ValueError, match="dr_grade is 5"):
        captions.describe({"dr_grade": 5}, "zh", rng)


def test_what_is_written_is_read_back(tmp_path, made):
    table, texts_of = made
    keys = [f"eye-{index}" for index in range(len(texts_of))]
    captions.write(tmp_path, table, texts_of, keys)
    assert captions.read(tmp_path) == (table, texts_of, keys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["captions.jsonl", "images.jsonl"]
    first = json.loads((tmp_path / "captions.jsonl").read_text("utf-8").splitlines()[0])
    assert list(first) == ["text_id", "semantic_id", "language", "text", "facts"]


def test_a_refused_table_leaves_the_old_one(tmp_path, made):
    table, texts_of = made
    keys = [str(index) for index in range(len(texts_of))]
    captions.write(tmp_path, table, texts_of, keys)
    for wrong in (
        (table, texts_of, keys[:-1]),
        (table, texts_of, ["same"] * len(keys)),
        (table[:-1], texts_of, keys),
        ([replace(table[0], semantic_id="gc=7"), *table[1:]], texts_of, keys),
        ([], [], []),
    ):
        with pytest.raises(ValueError, match=r"jsonl|keys"):
            captions.write(tmp_path, *wrong)
    assert captions.read(tmp_path) == (table, texts_of, keys)


CAPTION = {"text_id": 0, "semantic_id": "gc=1", "language": "zh", "text": "疑似青光眼。", "facts": {"gc": 1}}


@pytest.mark.parametrize(
    ("name", "line", "complaint"),
    [
        ("captions.jsonl", "{", r"captions\.jsonl line 1: not JSON"),
        ("captions.jsonl", "[]", r"captions\.jsonl line 1: needs exactly text_id"),
        ("captions.jsonl", "", r"captions\.jsonl: no caption"),
        ("captions.jsonl", json.dumps({**CAPTION, "text_id": 3}), "text_id is 3, not 0"),
        ("captions.jsonl", json.dumps({**CAPTION, "semantic_id": "gc=0"}), "semantic_id is 'gc=0', not 'gc=1'"),
        ("captions.jsonl", json.dumps({**CAPTION, "language": "fr"}), "language of zh, en"),
        ("captions.jsonl", json.dumps({**CAPTION, "text": ""}), "needs a text"),
        ("captions.jsonl", json.dumps({**CAPTION, "facts": {}}), "no facts"),
        ("captions.jsonl", json.dumps({**CAPTION, "facts": {"flu": 1}}), "line 1: unknown condition 'flu'"),
        ("captions.jsonl", f"{json.dumps(CAPTION)}\n{json.dumps({**CAPTION, 'text_id': 1})}", "line 2: .* twice"),
        ("images.jsonl", "nonsense", r"images\.jsonl line 1: not JSON"),
        ("images.jsonl", "", r"images\.jsonl: no image"),
        ("images.jsonl", '{"key": "a"}', "needs exactly key and text_ids"),
        ("images.jsonl", '{"key": "a", "text_ids": []}', r"text_ids of a are \[\]"),
        ("images.jsonl", '{"key": "a", "text_ids": [1]}', "not numbers of captions"),
        ("images.jsonl", '{"key": "a", "text_ids": [0]}\n{"key": "a", "text_ids": [0]}', "line 2: a is there twice"),
    ],
)
def test_a_malformed_file_is_refused_with_one_line(tmp_path, name, line, complaint):
    (tmp_path / "captions.jsonl").write_text(json.dumps(CAPTION) + "\n", "utf-8")
    (tmp_path / "images.jsonl").write_text('{"key": "a", "text_ids": [0]}\n', "utf-8")
    captions.read(tmp_path)
    (tmp_path / name).write_text(line, "utf-8")
    with pytest.raises(ValueError, match=complaint) as error:
        captions.read(tmp_path)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text_and_missing_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"captions\.jsonl: no such file; run"):
        captions.read(tmp_path)
    (tmp_path / "captions.jsonl").write_bytes("疑似".encode("gbk"))
    (tmp_path / "images.jsonl").write_text("{}")
    with pytest.raises(ValueError, match="line 1: not JSON in UTF-8"):
        captions.read(tmp_path)


def test_the_summary_of_a_table_that_can_be_counted_by_hand():
    one, two, three = (
        captions.Caption(0, "gc=1", "zh", "疑似青光眼。", {"gc": 1}),
        captions.Caption(1, "gc=1", "en", "Suspected glaucoma.", {"gc": 1}),
        captions.Caption(2, "em=0", "zh", "未见黄斑前膜。", {"em": 0}),
    )
    told = captions.summary([one, two, three], [[0, 1], [0, 2]])
    assert (told["images"], told["captions"], told["texts"], told["semantic_ids"]) == (2, 4, 3, 2)
    assert told["languages"] == {"en": 1, "zh": 2}
    assert told["duplicate_share"] == 0.25
    assert told["one_hot_false_negatives"] == pytest.approx(0.75**2 + 0.25**2)
    assert told["unique_share_64"] == pytest.approx((3 - 0.5**64 - 2 * 0.75**64) / 64)
    assert (told["mean_length"], told["max_length"]) == (pytest.approx((6 + 3 + 7) / 3), 7)
    json.dumps(told, allow_nan=False)


def test_no_text_of_the_grammar_is_unknown_or_truncated(made, tokenizer):
    spoken = [one.text for one in made[0]]
    spoken += [text for facts in FACTS for language in LANGUAGES for text in captions.prompts(facts, language, 40)]
    assert captions.unknown_tokens(tokenizer, spoken) == 0
    assert captions.truncated_texts(tokenizer, spoken) == 0
    assert all(len(tokenizer(text)["input_ids"]) == captions.length(text) + 2 for text in spoken[::20])


def test_a_tokenizer_of_other_texts_still_knows_the_grammar(made, tmp_path):
    tokenizer = captions.train_tokenizer(["可见出血斑。"], tmp_path)
    assert captions.unknown_tokens(tokenizer, [one.text for one in made[0]] + ["可见出血斑。", "Drusen?"]) == 0
    assert captions.unknown_tokens(tokenizer, ["罕见"]) > 0


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
    again = captions.train_tokenizer(texts[::-1], tmp_path)
    assert again.get_vocab() == captions.load_tokenizer(tmp_path).get_vocab() == tokenizer.get_vocab()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_captions_and_tokens_are_the_same_in_another_process(tmp_path):
    """Hash seeds differ between processes; nothing may hang on the order of a set."""
    some = conditions.balanced(30, np.random.default_rng(5))
    program = (
        "import json, sys, numpy; from visionclip import captions, conditions;"
        "eyes = conditions.balanced(30, numpy.random.default_rng(5));"
        "texts = [one.text for one in captions.table(eyes, ('zh', 'en'), 2, numpy.random.default_rng(6))[0]];"
        "tokens = captions.train_tokenizer(texts, sys.argv[1]).get_vocab();"
        "print(json.dumps([texts, captions.prompts({'gc': 1}, 'en', 9), tokens]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}  # this process has a random one, or 0
    command = [sys.executable, "-c", program, str(tmp_path)]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    texts, asked, tokens = json.loads(told.splitlines()[-1])
    table, _ = captions.table(some, LANGUAGES, 2, np.random.default_rng(6))
    assert texts == [one.text for one in table]
    assert asked == captions.prompts({"gc": 1}, "en", 9)
    assert tokens == captions.train_tokenizer(texts, tmp_path).get_vocab()


def test_the_papers_vocabulary_is_taken_from_a_file(tmp_path):
    tokens = [*captions.SPECIAL, *"疑似青光眼。", "gl", "##au", "##coma"]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens) + "\n", "utf-8")
    tokenizer = captions.train_tokenizer([], tmp_path / "words", str(tmp_path / "vocab.txt"))
    assert len(tokenizer) == len(tokens)
    assert tokenizer("疑似青光眼。")["input_ids"] == [2, 5, 6, 7, 8, 9, 10, 3]
    assert captions.load_tokenizer(tmp_path / "words").tokenize("Glaucoma") == ["gl", "##au", "##coma"]
    assert captions.truncated_texts(tokenizer, ["glaucoma " * 17, "glaucoma " * 16]) == 1


def test_a_vocabulary_that_cannot_be_had_is_refused_with_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.txt is not there"):
        captions.train_tokenizer([], tmp_path, str(tmp_path / "missing.txt"))
    with pytest.raises(FileNotFoundError, match="can't be had from the hub") as error:
        captions.train_tokenizer([], tmp_path, "nobody/no-such-vocabulary")
    assert "\n" not in str(error.value)
    (tmp_path / "words.txt").write_text("疑\n似\n", "utf-8")
    with pytest.raises(ValueError, match=r"has no \[PAD\]"):
        captions.train_tokenizer([], tmp_path, str(tmp_path / "words.txt"))
    with pytest.raises(FileNotFoundError, match=r"no tokenizer\.json there; run"):
        captions.load_tokenizer(tmp_path)


def test_a_full_description_leaves_no_disease_open():
    eyes = conditions.balanced(30, np.random.default_rng(0))
    texts, _ = captions.table(eyes, ("zh", "en"), 4, np.random.default_rng(0))
    full = [caption for caption in texts if caption.full]
    assert 0 < len(full) < len(texts)
    assert all(set(DISEASES) <= caption.facts.keys() for caption in full)
    assert all(set(DISEASES) - caption.facts.keys() for caption in texts if not caption.full)


@pytest.mark.parametrize("language", LANGUAGES)
def test_definitions_say_what_a_condition_looks_like_and_name_none(language):
    style = captions.Style("definitions")
    for key in DISEASES:
        for value in range(VOCABULARY[key].highest + 1):
            texts = captions.prompts({key: value}, language, 8, style)
            names = VOCABULARY[key].chinese if language == "zh" else VOCABULARY[key].english
            assert not any(name in text.lower() for text in texts for name in names)
            phrases = captions.DEFINITIONS[key]
            phrase = phrases[value if len(phrases) > 1 else 0][language == "en"]
            assert all(phrase.lower() in text.lower() for text in texts)


def test_definitions_tell_conditions_apart_and_fit_the_context():
    phrases = [phrase for of_key in captions.DEFINITIONS.values() for pair in of_key for phrase in pair]
    assert len(set(phrases)) == len(phrases)
    assert set(captions.DEFINITIONS) == set(DISEASES)
    assert len(captions.DEFINITIONS["dr_grade"]) == VOCABULARY["dr_grade"].highest + 1
    assert max(map(captions.length, phrases)) < captions.LONGEST - 10


def test_both_namings_mix_and_a_variety_of_one_says_everything_one_way(eyes):
    both = captions.prompts({"gc": 1}, "en", 30, captions.Style("both"))
    assert any("glaucoma" in text.lower() for text in both)
    assert any("optic cup" in text.lower() for text in both)
    assert captions.prompts({"gc": 1}, "en", 30, captions.Style(variety=1)) == ["Suspected glaucoma."]
    plain, _ = captions.table(eyes, LANGUAGES, 4, np.random.default_rng(1))
    poor, _ = captions.table(eyes, LANGUAGES, 4, np.random.default_rng(1), captions.Style(variety=1))
    assert len(poor) < 0.8 * len(plain)


def test_a_style_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="choose from names, definitions, both"):
        captions.Style("nicknames")
    with pytest.raises(ValueError, match="variety of 0 or more"):
        captions.Style(variety=-1)
