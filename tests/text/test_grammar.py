import re

import numpy as np
import pytest

from visionclip import conditions, keys
from visionclip.conditions import ABOUT, DISEASES, FACTS, FINDINGS, OBSERVED, READABILITY, VOCABULARY
from visionclip.text import grammar
from visionclip.text.grammar import LANGUAGES
from visionclip.text.wordings import DEFINITIONS, FINDING_DEFINITIONS, WORDINGS

# Written here once more: were they taken from the grammar, a wording of the wrong polarity would go unnoticed.
DENIES = {
    "zh": re.compile("未|无|不|没有|正常"),
    "en": re.compile(r"\b(no|not|nothing|without|absent|negative|free|normal|healthy|unremarkable)\b", re.I),
}
UNREADABLE = {
    "zh": re.compile("不可读|不清|不佳|无法|难以|差"),
    "en": re.compile(r"\b(unreadable|not readable|not gradable|cannot|unclear|poor|low)\b", re.I),
}
STATED = [
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


@pytest.mark.parametrize("facts", STATED, ids=str)
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


LESIONS = [key for key, finding in FINDINGS.items() if finding.lesion]
STYLES = [grammar.Style(naming) for naming in grammar.NAMINGS]
# What says how many or where, written here once more.
AMOUNT = {
    "zh": {1: re.compile("少量|散在|少许"), 2: re.compile("大量|多发|较多")},
    "en": {
        1: re.compile(r"\b(few|scattered|sparse)\b", re.I),
        2: re.compile(r"\b(many|numerous|abundant|large number)\b", re.I),
    },
}
MACULA = {"zh": re.compile("黄斑(区|部)"), "en": re.compile(r"\bmacula\b", re.I)}
QUADRANTS = {"zh": ("一个", "两个", "三个", "四个"), "en": ("one ", "two ", "three ", "four ")}


def called(finding, language):
    """All that a finding may be called."""
    names = FINDINGS[finding].chinese if language == "zh" else FINDINGS[finding].english
    return (*names, FINDING_DEFINITIONS[finding][language == "en"])


def tells(text, finding, language):
    return any(name.lower() in text.lower() for name in called(finding, language))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("key", OBSERVED)
def test_a_fact_about_a_finding_is_stated_in_its_polarity_with_its_amount_and_place_alone(key, language):
    finding, detail = ABOUT[key]
    for style in STYLES:
        for value in range(OBSERVED[key].highest + 1):
            if value == 0 and detail in ("amount", "quadrants"):
                continue
            texts = grammar.prompts({key: value}, language, 200, style)
            assert len(texts) > 10
            for text in texts:
                assert tells(text, finding, language), text
                assert bool(DENIES[language].search(text)) == (value == 0), text
                plain = text.lower()
                for name in sorted(called(finding, language), key=len, reverse=True):
                    plain = plain.replace(name.lower(), "")
                amounts = [amount for amount, words in AMOUNT[language].items() if words.search(plain)]
                assert amounts == [value] * (detail == "amount"), text
                assert bool(MACULA[language].search(plain)) == (detail == "macula"), text
                number = [count for count, words in enumerate(QUADRANTS[language], 1) if words in plain]
                assert number == [value] * (detail == "quadrants"), text


@pytest.mark.parametrize("finding", conditions.COUNTED)
def test_none_is_said_one_way_whatever_it_is_said_of(finding):
    for key in (f"{finding}_amount", f"{finding}_quadrants"):
        assert grammar.semantic_id({key: 0}) == f"{finding}=0"
        assert grammar.semantic_id({finding: 0, f"{finding}_macula": 0, key: 0}) == f"{finding}=0"
        for language in LANGUAGES:
            assert grammar.prompts({key: 0}, language, 9) == grammar.prompts({finding: 0}, language, 9)
    assert grammar.semantic_id({finding: 1, f"{finding}_amount": 2}) == f"{finding}_amount=2"


def test_no_text_stands_for_two_sets_of_facts():
    """Singles of all there is, and pairs and triples of findings' facts drawn, in every style."""
    rng = np.random.default_rng(0)
    singles = [{key: value} for key in FACTS for value in range(FACTS[key].highest + 1)]
    several = []
    for _ in range(400):
        chosen = rng.permutation(len(OBSERVED))[: rng.integers(2, 4)]
        facts = {key: int(rng.integers(OBSERVED[key].highest + 1)) for key in (list(OBSERVED)[i] for i in chosen)}
        try:
            several.append(conditions.check(facts, "drawn"))
        except ValueError:
            continue  # exudates absent, and at the macula
    meaning = {}
    for style in STYLES:
        for language in LANGUAGES:
            for facts in (*singles, *several):
                for _ in range(30 if len(facts) == 1 else 5):
                    text = grammar.describe(facts, language, rng, style)
                    assert meaning.setdefault(text, grammar.semantic_id(facts)) == grammar.semantic_id(facts), text
    assert len(meaning) > 5000


@pytest.mark.parametrize("amount", [1, 2])
@pytest.mark.parametrize("language", LANGUAGES)
def test_of_several_findings_each_keeps_its_amount_place_and_polarity(language, amount):
    facts = {
        "haemorrhage": 1,
        "microaneurysms_amount": amount,
        "cotton_wool": 0,
        "exudate_macula": 1,
        "drusen_quadrants": 2,
    }
    rng = np.random.default_rng(1)
    for _ in range(300):
        text = grammar.describe(facts, language, rng)
        clauses = re.split("[，。]" if language == "zh" else r"[;.]", text)
        about = {key: [one for one in clauses if tells(one, ABOUT[key][0], language)] for key in facts}
        assert all(len(own) == 1 for own in about.values()), text
        places = [clauses.index(own) for key, (own,) in about.items() if ABOUT[key][1] in ("macula", "quadrants")]
        assert min(places) > max(
            clauses.index(own) for key, (own,) in about.items() if clauses.index(own) not in places
        )
        assert [DENIES[language].search(one) is not None for (one,) in about.values()] == [False, False, True] + [
            False
        ] * 2
        clause = about["haemorrhage"][0].lower()
        word = AMOUNT[language][amount].search(clause)  # "few A and B" would leave open whether B are few
        assert not word or not tells(clause[word.start() :], "haemorrhage", language), text


def test_findings_beside_diseases_are_not_called_normal():
    facts = {**dict.fromkeys(DISEASES, 0), "drusen": 1}
    assert grammar.semantic_id(facts) == "normal drusen=1"
    for language, wrong in (("zh", "正常"), ("en", "normal fundus|healthy|within normal|unremarkable fundus")):
        texts = grammar.prompts(facts, language, 100)
        assert all(tells(text, "drusen", language) for text in texts)
        assert not [text for text in texts if re.search(wrong, text.replace("其余正常", ""), re.I)]


def test_the_commonest_wordings_of_findings():
    assert grammar.prompts({"exudate": 1}, "zh", 1) == ["可见硬性渗出。"]
    assert grammar.prompts({"exudate": 1}, "en", 1) == ["Hard exudates are seen."]
    assert grammar.prompts({"microaneurysms": 0}, "zh", 1) == ["未见微动脉瘤。"]
    assert grammar.prompts({"microaneurysms": 0}, "en", 1) == ["No microaneurysms."]
    assert grammar.prompts({"haemorrhage_quadrants": 2}, "zh", 1) == ["两个象限可见出血。"]
    assert grammar.prompts({"haemorrhage_quadrants": 2}, "en", 1) == ["Haemorrhages in two quadrants."]
    assert grammar.prompts({"exudate_macula": 0}, "zh", 1) == ["黄斑区未见硬性渗出。"]
    assert grammar.prompts({"exudate_macula": 1}, "en", 1) == ["Hard exudates at the macula."]
    assert "可见散在出血。" in grammar.prompts({"haemorrhage_amount": 1}, "zh", 30)
    assert "Numerous haemorrhages are seen." in grammar.prompts({"haemorrhage_amount": 2}, "en", 30)


@pytest.mark.parametrize("language", LANGUAGES)
def test_phrases_of_a_map_are_many_distinct_assertions_of_one_finding(language):
    owner = {}
    for finding in FINDINGS:
        for style in STYLES:
            texts = grammar.phrases(finding, language, style)
            assert len(set(texts)) == len(texts) >= (6 if finding in LESIONS else 4)
            assert texts == grammar.phrases(finding, language, style)
            for text in texts:
                assert owner.setdefault(text, finding) == finding
                assert tells(text, finding, language)
                assert not DENIES[language].search(text)
                assert not text.endswith(("。", "."))
        name = FINDINGS[finding].chinese[0] if language == "zh" else FINDINGS[finding].english[0]
        assert grammar.phrases(finding, language)[0] == name
        definition = FINDING_DEFINITIONS[finding][language == "en"]
        assert grammar.phrases(finding, language, grammar.Style("definitions", 1)) == [definition]
        assert {name, definition} < set(grammar.phrases(finding, language, grammar.Style("both")))
        assert len(grammar.phrases(finding, language, grammar.Style(variety=2))) == 4


def test_phrases_are_as_a_doctor_would_ask_and_of_known_findings_and_languages():
    assert {"硬性渗出", "可见硬性渗出"} <= set(grammar.phrases("exudate", "zh"))
    assert {"hard exudates", "hard exudates are seen"} <= set(grammar.phrases("exudate", "en"))
    assert grammar.phrases("disc", "zh")[:3] == ["视盘", "视乳头", "可见视盘"]
    with pytest.raises(ValueError, match="finding: 'exudates' is not known; choose from microaneurysms, "):
        grammar.phrases("exudates", "zh")
    with pytest.raises(ValueError, match="choose from zh, en"):
        grammar.phrases("exudate", "fr")


def test_definitions_of_findings_name_none_differ_and_leave_room_for_three():
    definitions = [definition for pair in FINDING_DEFINITIONS.values() for definition in pair]
    assert len(set(definitions)) == len(definitions)
    assert set(FINDING_DEFINITIONS) == set(FINDINGS)
    assert max(map(grammar.length, definitions)) < grammar.LONGEST / 3
    for language in LANGUAGES:
        for finding in FINDINGS:
            own = FINDINGS[finding].chinese if language == "zh" else FINDINGS[finding].english
            assert not [name for name in own if name in FINDING_DEFINITIONS[finding][language == "en"]]


def test_everything_that_is_said_of_findings_is_in_the_lexicon():
    known = set(re.findall(r"[a-z0-9]+|[\u4e00-\u9fff]", " ".join(grammar.lexicon()).lower()))
    texts = [
        text for finding in FINDINGS for language in LANGUAGES for text in grammar.phrases(finding, language, STYLES[2])
    ]
    texts += [
        text
        for key in OBSERVED
        for value in range(OBSERVED[key].highest + 1)
        for language in LANGUAGES
        for text in grammar.prompts({key: value}, language, 60, STYLES[2])
    ]
    assert set(re.findall(r"[a-z0-9]+|[\u4e00-\u9fff]", " ".join(texts).lower())) <= known
