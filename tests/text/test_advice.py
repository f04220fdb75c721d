"""Advice sentences: what they state, and that they never say another thing than the grammar's own."""

import pytest

from visionclip import conditions
from visionclip.text import advice, grammar


@pytest.mark.parametrize(
    ("sentence", "facts"),
    [
        ("疑似青光眼。", {"gc": 1}),
        ("可见出血斑。", {"haemorrhage": 1}),
        ("疑似脉络膜视网膜病变，可见硬性渗出。", {"crp": 1, "exudate": 1}),
        ("疑似糖尿病视网膜病变（中度），疑似糖尿病黄斑水肿。", {"dr_grade": 2, "dme": 1}),
        ("疑似糖尿病视网膜病变(增殖期)", {"dr_grade": 4}),
        ("疑似重度糖尿病性视网膜病变。", {"dr_grade": 3}),
        ("疑似青光眼、病理性近视。", {"gc": 1, "pm": 1}),
        ("疑似黄斑区域病变。", {}),  # beyond the vocabulary
        ("疑似脉络膜视网膜病变，疑似黄斑区域病变。", {}),  # not whole
        ("疑似高血压性视网膜病变（中度）。", {}),  # more than the vocabulary can say
        ("疑似糖尿病视网膜病变。", {}),  # less than a grade
        ("疑似糖尿病视网膜病变（轻度），疑似糖尿病视网膜病变（重度）。", {}),
        ("未见明显异常。", {}),  # of all diseases, also of those that were not looked for
        ("", {}),
    ],
)
def test_a_sentence_states_what_it_says_if_it_is_understood_whole(sentence, facts):
    assert advice.facts(sentence) == facts


def test_what_is_less_or_more_than_a_fact_still_names_its_condition():
    severe, unknown = advice.phrases("疑似高血压性视网膜病变（中度），疑似黄斑区域病变。")
    assert (severe.key, severe.value, severe.exact) == ("htr", 1, False)
    assert (unknown.text, unknown.key) == ("疑似黄斑区域病变", "")
    (graded,) = advice.phrases("疑似糖尿病视网膜病变。")
    assert (graded.key, graded.value, graded.exact) == ("dr_grade", 1, False)


def test_no_name_stands_for_two_conditions():
    named = [name for name, _ in advice._named()]
    assert len(named) == len(set(named))


def test_the_grammar_means_the_same_by_what_is_understood_of_it():
    understood = 0
    for key, fact in conditions.FACTS.items():
        for value in range(fact.highest + 1):
            for text in grammar.prompts({key: value}, "zh", 20):
                if stated := advice.facts(text):
                    assert grammar.semantic_id(stated) == grammar.semantic_id({key: value}), text
                    understood += 1
    assert understood > 30
