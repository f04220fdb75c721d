import itertools
from collections import Counter

import numpy as np
import pytest

from visionclip import conditions, phantom


def test_every_presentation_is_as_frequent_as_the_others_in_a_balanced_set():
    count = 40 * len(conditions.PRESENTATIONS)
    eyes = conditions.balanced(count, np.random.default_rng(0), unreadable=0)
    for key in conditions.DISEASES[1:]:
        assert sum(eye[key] for eye in eyes) >= 40
    for grade in (1, 2, 3, 4):
        assert sum(eye["dr_grade"] == grade for eye in eyes) >= 40
    assert sum(map(conditions.is_normal, eyes)) == 3 * 40


def test_macular_edema_always_comes_with_retinopathy():
    eyes = conditions.balanced(500, np.random.default_rng(1))
    assert all(eye["dr_grade"] >= 1 for eye in eyes if eye["dme"])


def test_readability_faults_are_as_frequent_as_asked():
    eyes = conditions.balanced(2000, np.random.default_rng(2), unreadable=0.2)
    faulty = sum(not all(eye[key] for key in conditions.READABILITY) for eye in eyes)
    assert 300 < faulty < 500


def test_vector_counts_grades_as_thresholds():
    by_name = dict(zip(conditions.VECTOR_NAMES, conditions.vector({"dr_grade": 3, "gc": 1}), strict=True))
    assert [by_name[f"dr_grade>={grade}"] for grade in (1, 2, 3, 4)] == [1, 1, 1, 0]
    assert by_name["gc>=1"] == 1
    assert by_name["amd>=1"] == 0
    assert by_name["fundus_readable>=1"] == 1, "what is not said is readable"


@pytest.mark.parametrize("facts", [{"dr_grade": 5}, {"gc": -1}, {"gc": "yes"}, {"glaucoma": 1}, {"gc": 0.5}])
def test_check_refuses_what_is_not_in_the_vocabulary_and_names_the_place(facts):
    with pytest.raises(ValueError, match=r"^labels\.csv row 7: ") as refusal:
        conditions.check(facts, "labels.csv row 7")
    assert "\n" not in str(refusal.value)


def test_check_accepts_whole_floats_as_tables_give_them():
    assert conditions.check({"dr_grade": 2.0}, "x") == {"dr_grade": 2}


def test_holds_asks_only_what_is_stated():
    eye = conditions.complete({"dr_grade": 2, "dme": 1})
    assert conditions.holds({"dme": 1}, eye)
    assert conditions.holds({}, eye)
    assert not conditions.holds({"dr_grade": 0}, eye)


# Whatever can be true of exudates at once: none at all, or few or many, at the macula or not, in 1 to 4 quadrants.
DETAILED = ("exudate", "exudate_amount", "exudate_macula", "exudate_quadrants")
EYES = [
    dict(zip(DETAILED, values, strict=True))
    for values in [(0, 0, 0, 0), *itertools.product((1,), (1, 2), (0, 1), (1, 2, 3, 4))]
]
STATEMENTS = [
    {key: value for key, value in zip(DETAILED, values, strict=True) if value is not None}
    for values in itertools.product((None, 0, 1), (None, 0, 1, 2), (None, 0, 1), (None, 0, 1, 2, 3, 4))
]


def possible(facts):
    return [eye for eye in EYES if facts.items() <= eye.items()]


def test_what_follows_from_facts_is_what_all_eyes_with_them_have_in_common():
    for facts in filter(possible, STATEMENTS):
        common = set.intersection(*(set(eye.items()) for eye in possible(facts)))
        assert conditions.implied({"gc": 1, **facts}) == {"gc": 1, **dict(common)}, facts


def test_facts_that_no_eye_has_are_refused_and_all_others_are_not():
    for facts in STATEMENTS:
        if possible(facts):
            assert conditions.check(facts, "x") == facts
        else:
            with pytest.raises(ValueError, match=r"^eye 3: exudate.* is 0 and exudate.* is [1-4], which can't both be"):
                conditions.check(facts, "eye 3")


def test_of_facts_that_mean_the_same_the_same_fewest_are_left():
    left = {}
    for facts in filter(possible, STATEMENTS):
        fewest = conditions.reduced({"gc": 0, **facts})
        meaning = frozenset(conditions.implied(facts).items())
        assert left.setdefault(meaning, fewest) == fewest
        assert conditions.implied(fewest) == {"gc": 0, **conditions.implied(facts)}
        for key in fewest.keys() - {"gc"}:
            fewer = {other: value for other, value in fewest.items() if other != key}
            assert conditions.implied(fewer) != conditions.implied(fewest), "nothing more can be left out"
    assert conditions.reduced({"exudate_quadrants": 0}) == {"exudate": 0}
    assert conditions.reduced({"exudate": 1, "exudate_amount": 2}) == {"exudate_amount": 2}


def test_holds_knows_what_follows():
    eye = {"exudate_amount": 1}
    assert conditions.holds({"exudate": 1}, eye)
    assert conditions.holds({"exudate_macula": 0, "exudate_amount": 0}, {"exudate": 0})
    for open_or_wrong in ({"exudate": 0}, {"exudate_amount": 2}, {"exudate_macula": 1}, {"drusen": 1}):
        assert not conditions.holds(open_or_wrong, eye)


def test_facts_about_findings_stand_beside_the_vocabulary_and_not_in_it():
    assert not conditions.OBSERVED.keys() & conditions.VOCABULARY.keys()
    assert list(conditions.FACTS) == [*conditions.VOCABULARY, *conditions.OBSERVED]
    assert list(conditions.complete({"exudate": 1})) == list(conditions.VOCABULARY)
    assert {name.partition(">=")[0] for name in conditions.VECTOR_NAMES} == set(conditions.VOCABULARY)
    assert {condition.kind for condition in conditions.OBSERVED.values()} == {"finding"}
    with pytest.raises(ValueError, match=r"^render: unknown condition 'exudate'; allowed are dr_grade, "):
        conditions.check({"exudate": 1}, "render", conditions.VOCABULARY)


def test_every_lesion_is_there_or_not_and_those_that_come_in_numbers_have_an_amount_and_places():
    highest = {key: condition.highest for key, condition in conditions.OBSERVED.items()}
    for key, finding in conditions.FINDINGS.items():
        own = {of: value for of, value in highest.items() if conditions.ABOUT[of][0] == key}
        details = {f"{key}_amount": 2, f"{key}_macula": 1, f"{key}_quadrants": 4} if finding.counted else {}
        assert own == ({key: 1, **details} if finding.lesion else {})
    assert conditions.COUNTED == ("microaneurysms", "haemorrhage", "exudate", "cotton_wool", "drusen")


def test_findings_are_shown_by_masks_that_a_phantom_has_and_leave_none_out():
    shown = {mask for finding in conditions.FINDINGS.values() for mask in finding.masks}
    without_a_word = {"field", "fibrosis", "pigment"}  # the field of view, fibrous bands, clumps of pigment
    assert shown == {*phantom.ANATOMY, *phantom.LESIONS} - without_a_word
    for finding in conditions.FINDINGS.values():
        assert set(finding.masks) <= set(phantom.LESIONS if finding.lesion else phantom.ANATOMY)


def test_no_two_findings_or_diseases_share_a_name():
    lesions = [finding for finding in conditions.FINDINGS.values() if finding.lesion]
    diseases = [conditions.VOCABULARY[key] for key in conditions.DISEASES]
    names = Counter(name.lower() for one in (*lesions, *diseases) for name in (*one.chinese, *one.english))
    assert {name for name, count in names.items() if count > 1} == set()


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("dr_grade>=1", "mild retinopathy or worse"),
        ("dr_grade>=4", "proliferative retinopathy"),
        ("dr_grade 2", "moderate retinopathy"),
        ("dr_grade", "retinopathy grade"),
        ("gc>=1", "glaucoma"),
        ("aon>=1", "optic nerve anomaly"),
        ("referable_dr", "referable retinopathy"),
        ("macular_edema", "macular edema"),
        ("cotton_wool", "cotton wool spots"),
        ("normal", "no disease"),
        ("mean of the tasks", "mean of the tasks"),
        ("my_task", "my task"),
    ],
)
def test_names_are_plain(name, read):
    assert conditions.plain(name) == read


def test_every_condition_and_finding_has_a_plain_name():
    names = [conditions.plain(name) for name in (*conditions.VECTOR_NAMES, *conditions.FINDINGS)]
    assert not [name for name in names if "_" in name or ">=" in name]
