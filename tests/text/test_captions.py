import json
import re
from dataclasses import replace

import numpy as np
import pytest

from visionclip import conditions, keys
from visionclip.conditions import ABOUT, DISEASES, OBSERVED, VOCABULARY
from visionclip.text import captions, grammar
from visionclip.text.grammar import LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_caption_that_denies_macular_edema_states_it(made, language):
    denial = {
        "zh": "[未无不没有]+[^，。]*黄斑水肿",
        "en": r"\b(no|without|free of|negative for)\b[^,;.]*macular o?edema",
    }
    denying = [one for one in made[0] if one.language == language and re.search(denial[language], one.text, re.I)]
    assert len(denying) > 10
    assert all(one.facts["dme"] == 0 for one in denying)


def test_meaning_is_shared_by_synonyms_languages_and_order_and_by_nothing_else(made):
    assert grammar.semantic_id({"gc": 0, "amd": 1}) == grammar.semantic_id({"amd": 1, "gc": 0}) == "amd=1 gc=0"
    assert grammar.semantic_id({"gc": 1}) == "gc=1"
    assert grammar.semantic_id({**dict.fromkeys(DISEASES, 0), "gc": 1, "eye_side": 0}) == "only gc=1 eye_side=0"
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
    summary = captions.summary(*made)
    assert summary["semantic_ids"] < 0.5 * summary["texts"]


def test_the_same_seed_makes_the_same_table_and_another_seed_another(eyes, made):
    assert captions.table(eyes, LANGUAGES, 4, np.random.default_rng(1)) == made
    assert captions.table(eyes, LANGUAGES, 4, np.random.default_rng(2)) != made


def test_one_language_alone(eyes):
    table, _ = captions.table(eyes[:50], ("zh",), 2, np.random.default_rng(0))
    assert {one.language for one in table} == {"zh"}


def test_an_eye_that_has_everything_is_told_in_parts_that_fit():
    eye = conditions.complete({**dict.fromkeys(DISEASES, 1), "macula_readable": 0})
    table, texts_of = captions.table([eye] * 20, LANGUAGES, 4, np.random.default_rng(0))
    assert max(grammar.length(one.text) for one in table) <= grammar.LONGEST
    assert captions.truth([eye], table).all()
    assert all(texts_of)


def test_an_eye_without_conditions_an_unknown_fact_or_language_is_refused(eyes):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"eye 1: nothing is known of it"):
        captions.table([eyes[0], {}], ("zh",), 1, rng)
    with pytest.raises(ValueError, match="'fr'"):
        captions.table(eyes, ("fr",), 1, rng)
    with pytest.raises(ValueError, match="at least one"):
        captions.table(eyes, ("zh",), 0, rng)
    with pytest.raises(ValueError, match="choose from zh, en"):
        grammar.prompts({"gc": 1}, "fr", 1)
    with pytest.raises(ValueError, match="unknown condition 'glaucoma'"):
        grammar.describe({"glaucoma": 1}, "zh", rng)
    with pytest.raises(ValueError, match="dr_grade is 5"):
        grammar.describe({"dr_grade": 5}, "zh", rng)


@pytest.mark.parametrize("known", [["dr_grade"], ["gc", "eye_side"], ["macula_readable"], ["eye_side"], DISEASES])
def test_what_is_unknown_no_caption_states(eyes, known):
    partial = [{key: eye[key] for key in known} for eye in eyes[:80]]
    table, texts_of = captions.table(partial, LANGUAGES, 4, np.random.default_rng(0))
    assert all(texts_of)
    for eye, own in zip(partial, texts_of, strict=True):
        assert all(table[text].facts.items() <= eye.items() for text in own)
    assert any(one.full for one in table) == (known is DISEASES)
    if known == ["dr_grade"]:
        told = re.compile(
            r"[左右]眼|青光|可读|清|质量|正常|异常|\b(left|right|normal|glaucoma|readable|clear|quality)\b", re.I
        )
        assert not [one.text for one in table if told.search(one.text)]


def test_a_complete_eye_among_partial_ones_is_described_as_ever(eyes, made):
    """The random numbers of complete eyes are spent as they were before conditions could be partial."""
    assert keys.digest([made[0], made[1]]) == keys.digest(captions.table(eyes, LANGUAGES, 4, np.random.default_rng(1)))
    mixed, texts_of = captions.table([eyes[0], {"gc": 1}], LANGUAGES, 4, np.random.default_rng(1))
    alone, own = captions.table(eyes[:1], LANGUAGES, 4, np.random.default_rng(1))
    assert [mixed[text] for text in texts_of[0]] == [alone[text] for text in own[0]]


def test_without_sentences_captions_are_what_they_were_before_there_were_any(eyes, observed):
    """To the byte, as of commit 1e10201: sentences that are there and state nothing change nothing either."""
    partial = [{key: eye[key] for key in ("dr_grade", "gc", "haemorrhage")} for eye in observed]
    for given, per_image, digest in (
        (eyes, 4, "064c622ed8f8c17e"),
        (observed, 8, "d7bc83b05e432462"),
        (partial, 4, "92d6326217991187"),
    ):
        for sentences in ((), [("", {})] * len(given), [("疑似青光眼。", {})] * len(given)):
            made = captions.table(given, LANGUAGES, per_image, np.random.default_rng(1), sentences=sentences)
            assert keys.digest(made) == digest


def test_a_sentence_of_its_own_is_an_eye_s_first_caption_word_for_word(eyes):
    eyes = [{**eye, "haemorrhage": 1} for eye in eyes[:40]]
    sentences = [("可见出血斑。", {"haemorrhage": 1}) if index % 2 else ("", {}) for index in range(40)]
    table, texts_of = captions.table(eyes, LANGUAGES, 4, np.random.default_rng(0), sentences=sentences)
    firsts = [table[own[0]] for own in texts_of[1::2]]
    assert {(one.text, one.language, tuple(one.facts.items())) for one in firsts} == {
        ("可见出血斑。", "zh", (("haemorrhage", 1),))
    }
    assert all(len(set(own)) == 4 for own in texts_of)
    assert captions.truth(eyes, table)[range(40), [own[0] for own in texts_of]].all()
    assert [one.text_id for one in table] == list(range(len(table)))
    english, _ = captions.table(eyes, ("en",), 4, np.random.default_rng(0), sentences=sentences)
    assert {one.language for one in english} == {"en"}
    too_long = [("可见出血斑。" * 10, {"haemorrhage": 1})] * 40
    assert "可见出血斑。" * 10 not in {
        one.text for one in captions.table(eyes, LANGUAGES, 4, np.random.default_rng(0), sentences=too_long)[0]
    }


def test_a_sentence_in_the_grammar_s_words_for_other_facts_keeps_its_own():
    """No text stands for two sets of facts, whoever wrote it."""
    eyes = [{"gc": 1, "haemorrhage": 1}] * 60
    sentences = [("疑似青光眼。", {"haemorrhage": 1}), *[("", {})] * 59]
    table, texts_of = captions.table(eyes, ("zh",), 4, np.random.default_rng(0), sentences=sentences)
    (one,) = [one for one in table if one.text == "疑似青光眼。"]
    assert one.facts == {"haemorrhage": 1}
    assert not any(one.text_id in own for own in texts_of[1:])


def test_a_sentence_that_is_not_known_to_be_true_or_has_two_meanings_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(
        ValueError, match=r"eye 1: '疑似青光眼。' states {'gc': 1}, which isn't known of it; correct one"
    ):
        captions.table([{"gc": 1}, {"amd": 1}], ("zh",), 2, rng, sentences=[("疑似青光眼。", {"gc": 1})] * 2)
    eyes, sentences = [{"gc": 1, "amd": 1}] * 2, [("可见异常。", {"gc": 1}), ("可见异常。", {"amd": 1})]
    with pytest.raises(ValueError, match=r"eye 1: '可见异常。' states {'amd': 1} here and {'gc': 1} of another eye"):
        captions.table(eyes, ("zh",), 2, rng, sentences=sentences)


def test_a_caption_of_a_partial_eye_is_true_contradicted_or_unknown():
    facts = [{"gc": 1}, {"gc": 0}, {"amd": 0}, {"gc": 1, "amd": 0}, {"gc": 0, "amd": 0}]
    shown, stated = (captions.fact_matrix(rows) for rows in ([{"gc": 1}, {"gc": 1, "amd": 1}], facts))
    assert captions.entailed(shown, stated).tolist() == [[True, *[False] * 4]] * 2
    assert captions.contradicted(shown, stated).tolist() == [
        [False, True, False, False, True],
        [False, True, True, True, True],
    ]


def test_what_isn_t_true_of_a_complete_eye_is_contradicted(eyes, made):
    shown, stated = captions.fact_matrix(eyes), captions.fact_matrix([one.facts for one in made[0]])
    assert np.array_equal(captions.contradicted(shown, stated), ~captions.entailed(shown, stated))


def test_what_is_written_is_read_back(tmp_path, made):
    table, texts_of = made
    keys = [f"eye-{index}" for index in range(len(texts_of))]
    captions.write(tmp_path, table, texts_of, keys)
    assert captions.load(tmp_path) == (table, texts_of, keys)
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
    assert captions.load(tmp_path) == (table, texts_of, keys)


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
    captions.load(tmp_path)
    (tmp_path / name).write_text(line, "utf-8")
    with pytest.raises(ValueError, match=complaint) as error:
        captions.load(tmp_path)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text_and_missing_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"captions\.jsonl: no such file; run"):
        captions.load(tmp_path)
    (tmp_path / "captions.jsonl").write_bytes("疑似".encode("gbk"))
    (tmp_path / "images.jsonl").write_text("{}")
    with pytest.raises(ValueError, match="line 1: not JSON in UTF-8"):
        captions.load(tmp_path)


def test_the_summary_of_a_table_that_can_be_counted_by_hand():
    one, two, three = (
        captions.Caption(0, "gc=1", "zh", "疑似青光眼。", {"gc": 1}),
        captions.Caption(1, "gc=1", "en", "Suspected glaucoma.", {"gc": 1}),
        captions.Caption(2, "em=0", "zh", "未见黄斑前膜。", {"em": 0}),
    )
    summary = captions.summary([one, two, three], [[0, 1], [0, 2]])
    assert (summary["images"], summary["captions"], summary["texts"], summary["semantic_ids"]) == (2, 4, 3, 2)
    assert summary["languages"] == {"en": 1, "zh": 2}
    assert summary["duplicate_share"] == 0.25
    assert summary["one_hot_false_negatives"] == pytest.approx(0.75**2 + 0.25**2)
    assert summary["unique_share_64"] == pytest.approx((3 - 0.5**64 - 2 * 0.75**64) / 64)
    assert (summary["mean_length"], summary["max_length"]) == (pytest.approx((6 + 3 + 7) / 3), 7)
    json.dumps(summary, allow_nan=False)


def test_a_full_description_leaves_no_disease_open():
    eyes = conditions.balanced(30, np.random.default_rng(0))
    texts, _ = captions.table(eyes, ("zh", "en"), 4, np.random.default_rng(0))
    full = [caption for caption in texts if caption.full]
    assert 0 < len(full) < len(texts)
    assert all(set(DISEASES) <= caption.facts.keys() for caption in full)
    assert all(set(DISEASES) - caption.facts.keys() for caption in texts if not caption.full)


def test_both_namings_mix_and_a_variety_of_one_says_everything_one_way(eyes):
    both = grammar.prompts({"gc": 1}, "en", 30, grammar.Style("both"))
    assert any("glaucoma" in text.lower() for text in both)
    assert any("optic cup" in text.lower() for text in both)
    assert grammar.prompts({"gc": 1}, "en", 30, grammar.Style(variety=1)) == ["Suspected glaucoma."]
    plain, _ = captions.table(eyes, LANGUAGES, 4, np.random.default_rng(1))
    poor, _ = captions.table(eyes, LANGUAGES, 4, np.random.default_rng(1), grammar.Style(variety=1))
    assert len(poor) < 0.8 * len(plain)


def test_the_same_generator_makes_the_same_table_as_ever(eyes):
    table, texts_of = captions.table(eyes[:50], LANGUAGES, 4, np.random.default_rng(1))
    assert keys.digest([table, texts_of]) == "6cda4270243bc95d"


def test_eyes_without_facts_about_findings_are_described_as_before_there_were_any():
    eyes = [conditions.complete({"dr_grade": 2, "dme": 1}), conditions.complete({"gc": 1, "eye_side": 1})]
    table, texts_of = captions.table([*eyes, {"amd": 0, "em": 1}], LANGUAGES, 3, np.random.default_rng(3))
    assert [one.text for one in table] == [
        "无晶状体混浊。",
        "左眼：提示中度糖尿病视网膜病变，疑似糖尿病黄斑水肿，余未见异常。",
        "眼底照片：疑似糖尿病黄斑水肿。",
        "未见明显糖尿病性视网膜病变。",
        "印象：仅考虑青光眼。",
        "Impression: glaucoma seen.",
        "Suspected epiretinal membrane.",
        "Suspected epimacular membrane.",
        "未见老年性黄斑变性。",
    ]
    assert texts_of == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def on_findings(caption):
    return caption.facts.keys() <= OBSERVED.keys()


def test_a_third_of_the_captions_of_eyes_with_known_findings_is_on_these(observed):
    table, texts_of = captions.table(observed, LANGUAGES, 4, np.random.default_rng(1))
    assert captions.table(observed, LANGUAGES, 4, np.random.default_rng(1)) == (table, texts_of)
    used = [[table[text] for text in own] for own in texts_of]
    told = [sum(map(on_findings, own)) for own in used]
    assert set(told) == {1, 2}
    assert sum(told) / sum(map(len, used)) == pytest.approx(1 / 3, abs=0.03)
    diseases = [one for own in used for one in own if not on_findings(one)]
    assert all(one.facts.keys() <= VOCABULARY.keys() for one in diseases)
    assert 0.4 < sum(one.full for one in diseases) / len(diseases) < 0.6


def test_captions_on_findings_are_true_state_one_to_three_and_have_all_kinds_of_facts(observed):
    table, texts_of = captions.table(observed, LANGUAGES, 6, np.random.default_rng(2))
    truth = captions.truth(observed, table)
    assert all(truth[eye, own].all() for eye, own in enumerate(texts_of))
    told = [one for one in table if on_findings(one)]
    assert {len(one.facts) for one in told} == {1, 2, 3}
    assert all(len({ABOUT[key][0] for key in one.facts}) == len(one.facts) for one in told)
    said = {fact for one in told for fact in one.facts.items()}
    none = {(key, 0) for key, (_, detail) in ABOUT.items() if detail in ("amount", "quadrants")}
    assert said == {(key, value) for key in OBSERVED for value in range(OBSERVED[key].highest + 1)} - none
    present, mixed = (sum(test(one.facts.values()) for one in told) / len(told) for test in (all, any))
    assert 0.25 < present < mixed < 0.9, "some of each polarity, and some of both"
    assert max(grammar.length(one.text) for one in table) <= grammar.LONGEST


@pytest.mark.parametrize("naming", grammar.NAMINGS)
def test_findings_that_are_too_long_for_one_sentence_give_way_to_fewer(observed, naming):
    table, _ = captions.table(observed[:100], LANGUAGES, 6, np.random.default_rng(0), grammar.Style(naming))
    assert max(grammar.length(one.text) for one in table if on_findings(one)) <= grammar.LONGEST
    assert all(one.semantic_id == grammar.semantic_id(one.facts) for one in table)


@pytest.mark.parametrize(
    "eye",
    [
        {"exudate": 1},
        {"drusen": 0},
        {"exudate_amount": 2},
        {"exudate_macula": 0},
        {"haemorrhage_quadrants": 0},
        {"eye_side": 1, "scar": 0},
        {"gc": 1, "exudate_quadrants": 3, "membrane": 0},
    ],
)
def test_of_findings_too_what_is_unknown_no_caption_states(eye):
    table, texts_of = captions.table([eye] * 20, LANGUAGES, 4, np.random.default_rng(0))
    assert all(texts_of)
    assert all(one.facts.items() <= conditions.implied(eye).items() for one in table)
    assert any(map(on_findings, table))
    assert any(one.facts.keys() & {"gc", "eye_side"} for one in table) == bool(eye.keys() & {"gc", "eye_side"})


def test_present_is_true_of_few_and_many_and_what_excludes_each_other_is_contradicted():
    eyes = [{"exudate_amount": 1}, {"exudate_amount": 2, "exudate_macula": 0}, {"exudate": 0}, {"gc": 0}]
    facts = [{"exudate": 1}, {"exudate_amount": 1}, {"exudate_macula": 1}, {"exudate": 0}, {"exudate_macula": 0}]
    shown, stated = captions.fact_matrix(eyes), captions.fact_matrix(facts)
    entailed, contradicted = captions.entailed(shown, stated), captions.contradicted(shown, stated)
    verdicts = np.where(entailed, "true", np.where(contradicted, "false", "open"))
    assert verdicts.tolist() == [
        ["true", "true", "open", "false", "open"],
        ["true", "false", "false", "false", "true"],
        ["false", "false", "false", "true", "true"],
        ["open"] * 5,
    ]
    assert not (entailed & contradicted).any()


def test_of_an_eye_with_all_findings_known_no_caption_on_them_is_open(observed):
    table, _ = captions.table(observed, LANGUAGES, 4, np.random.default_rng(1))
    shown, stated = captions.fact_matrix(observed), captions.fact_matrix([one.facts for one in table])
    assert np.array_equal(captions.contradicted(shown, stated), ~captions.entailed(shown, stated))
    assert np.array_equal(captions.truth(observed, table), captions.entailed(shown, stated))


def test_findings_that_contradict_each_other_are_refused(observed):
    with pytest.raises(ValueError, match=r"^eye 1: exudate is 0 and exudate_macula is 1, which can't both be"):
        captions.table([observed[0], {"exudate": 0, "exudate_macula": 1}], LANGUAGES, 1, np.random.default_rng(0))


def test_captions_on_findings_are_read_back(tmp_path, observed):
    table, texts_of = captions.table(observed[:20], LANGUAGES, 4, np.random.default_rng(1))
    names = [f"eye-{index}" for index in range(20)]
    captions.write(tmp_path, table, texts_of, names)
    assert captions.load(tmp_path) == (table, texts_of, names)
    text = json.dumps({**CAPTION, "semantic_id": "exudate=0", "facts": {"exudate": 0, "exudate_amount": 1}})
    (tmp_path / "captions.jsonl").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=r"captions\.jsonl line 1: exudate is 0 and exudate_amount is 1"):
        captions.load(tmp_path)
