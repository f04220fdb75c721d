import numpy as np
import pytest

from visionclip import conditions


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
