import re

import numpy as np
import pytest

from visionclip import keys
from visionclip.conditions import DISEASES, READABILITY, VOCABULARY
from visionclip.text import grammar
from visionclip.text.grammar import LANGUAGES
from visionclip.text.wordings import DEFINITIONS, WORDINGS

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


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("key", DISEASES)
def test_a_disease_is_asserted_without_a_negation_and_denied_with_one(key, language):
    denials = grammar.prompts({key: 0}, language, 200)
    assert len(denials) > 10
    assert all(DENIES[language].search(text) and mentions(text, key, language) for text in denials)
    for value in range(1, VOCABULARY[key].highest + 1):
        assertions = grammar.prompts({key: value}, language, 200)
        assert len(assertions) > 10
        assert not any(DENIES[language].search(text) for text in assertions)
        assert all(mentions(text, key, language) for text in assertions)
        assert not set(assertions) & set(denials)


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_grade_of_retinopathy_is_named_and_no_other(language):
    grades = [grade[language == "en"] for grade in VOCABULARY["dr_grade"].grades]
    for value, grade in enumerate(grades, 1):
        for text in grammar.prompts({"dr_grade": value}, language, 200):
            assert [other for other in grades if other in text.lower()] == [grade]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("key", READABILITY)
def test_what_can_be_read_and_what_cannot_are_told_apart(key, language):
    faults, clear = (grammar.prompts({key: value}, language, 200) for value in (0, 1))
    assert all(UNREADABLE[language].search(text) for text in faults)
    assert not any(UNREADABLE[language].search(text) for text in clear)
    if key != "fundus_readable":  # of which "poor image quality" speaks too
        assert all(mentions(text, key, language) for text in (*faults, *clear))


def test_left_is_never_right():
    for language, sides in (("zh", "左右"), ("en", ("left", "right"))):
        for value, side in enumerate(sides):
            for facts in ({"eye_side": value}, {"gc": 1, "eye_side": value}):
                for text in grammar.prompts(facts, language, 50):
                    assert side in text.lower()
                    assert sides[1 - value] not in text.lower()


def test_an_empty_statement_is_the_normal_eye():
    normal = dict.fromkeys(DISEASES, 0)
    assert grammar.semantic_id({}) == grammar.semantic_id(normal) == "normal"
    for language in LANGUAGES:
        assert grammar.prompts({}, language, 20) == grammar.prompts(normal, language, 20)
        for text in grammar.prompts({}, language, 20):
            assert DENIES[language].search(text)
            assert not any(mentions(text, key, language) for key in DISEASES)


def test_the_commonest_wordings_are_synfunduss():
    assert grammar.prompts({"gc": 1}, "zh", 1) == ["疑似青光眼。"]
    assert grammar.prompts({"dr_grade": 2}, "zh", 1) == ["疑似糖尿病视网膜病变（中度）。"]
    assert grammar.prompts({"em": 0}, "zh", 1) == ["未见黄斑前膜。"]
    assert grammar.prompts({}, "zh", 1) == ["未见明显异常。"]
    assert grammar.prompts({"em": 0}, "en", 1) == ["No epiretinal membrane."]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_complete_description_names_what_is_there_and_nothing_else(eyes, language):
    rng = np.random.default_rng(2)
    for eye in eyes[:150]:
        text = grammar.describe(eye, language, rng)
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
        texts = grammar.prompts(facts, language, 12)
        assert len(set(texts)) == len(texts) > 4
        assert texts == grammar.prompts(facts, language, 12)
        assert texts[:3] == grammar.prompts(facts, language, 3)


def test_where_the_grammar_has_fewer_wordings_there_are_fewer_prompts():
    sides = grammar.prompts({"eye_side": 1}, "zh", 1000)
    assert sorted(sides) == sorted(wording.format("右眼") + "。" for wording in WORDINGS["zh"].side_alone)


@pytest.mark.parametrize("language", LANGUAGES)
def test_definitions_say_what_a_condition_looks_like_and_name_none(language):
    style = grammar.Style("definitions")
    for key in DISEASES:
        for value in range(VOCABULARY[key].highest + 1):
            texts = grammar.prompts({key: value}, language, 8, style)
            names = VOCABULARY[key].chinese if language == "zh" else VOCABULARY[key].english
            assert not any(name in text.lower() for text in texts for name in names)
            phrases = DEFINITIONS[key]
            phrase = phrases[value if len(phrases) > 1 else 0][language == "en"]
            assert all(phrase.lower() in text.lower() for text in texts)


def test_definitions_tell_conditions_apart_and_fit_the_context():
    phrases = [phrase for of_key in DEFINITIONS.values() for pair in of_key for phrase in pair]
    assert len(set(phrases)) == len(phrases)
    assert set(DEFINITIONS) == set(DISEASES)
    assert len(DEFINITIONS["dr_grade"]) == VOCABULARY["dr_grade"].highest + 1
    assert max(map(grammar.length, phrases)) < grammar.LONGEST - 10


def test_a_style_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="choose from names, definitions, both"):
        grammar.Style("nicknames")
    with pytest.raises(ValueError, match="variety of 0 or more"):
        grammar.Style(variety=-1)


GOLDEN = [
    (
        {},
        "无明显异常。",
        "Unremarkable fundus.",
    ),
    (
        {"dr_grade": 2},
        "中度糖尿病视网膜病变可能性大。",
        "Diabetic retinopathy (moderate) seen.",
    ),
    (
        {"dr_grade": 0, "gc": 0},
        "未见青光眼，未见糖尿病视网膜病变征象。",
        "No glaucomatous optic neuropathy, no visible diabetic retinopathy.",
    ),
    (
        {"gc": 1, "eye_side": 1},
        "右眼：符合青光眼表现。",
        "Probable glaucoma, right eye.",
    ),
    (
        {"macula_readable": 0},
        "印象：黄斑区难以辨认。",
        "Findings: macula unclear.",
    ),
    (
        {"amd": 1, "em": 1, "gc": 0, "macula_readable": 1},
        "黄斑区可读，可见黄斑视网膜前膜、年龄相关性黄斑变性，未发现青光眼。",
        "Macula readable; signs of epimacular membrane and age-related macular degeneration; without glaucoma.",
    ),
]


def golden(style):
    return [
        grammar.describe(facts, language, np.random.default_rng(seed), style)
        for seed, (facts, *_) in enumerate(GOLDEN)
        for language in LANGUAGES
    ]


def test_the_same_generator_words_the_same_sentences_as_ever():
    assert golden(grammar.PLAIN) == [text for _, *texts in GOLDEN for text in texts]
    assert keys.digest(golden(grammar.Style("definitions"))) == "f1f034cc9be44940"
    assert keys.digest(golden(grammar.Style("both", 2))) == "ea1ef3fcf05e5767"
