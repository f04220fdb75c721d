"""What is asked in every update: captions of one condition alone, and names of what the masks show."""

import numpy as np
import pytest

from visionclip import conditions
from visionclip.data.labelled import LabelledImages
from visionclip.data.pairs import Pairs
from visionclip.text import captions
from visionclip.text.captions import Caption
from visionclip.text.grammar import phrases, semantic_id
from visionclip.training import bank

STATED = [  # what each caption states, and in which language
    ({"gc": 1}, "en"),
    ({"gc": 0}, "en"),
    ({"gc": 1, "amd": 0}, "en"),
    ({"gc": 0}, "zh"),
    ({"amd": 1}, "en"),  # without one that denies it
    *[({"dr_grade": grade}, "en") for grade in (3, 0, 1, 4, 2)],
    ({"rvo": 0}, "en"),
    ({"rvo": 1, "eye_side": 1}, "en"),  # not alone
    ({"exudate": 1}, "en"),  # a finding
    ({"exudate": 0}, "en"),
    ({"fundus_readable": 0}, "en"),
    ({"fundus_readable": 1}, "en"),
    (conditions.complete({}), "en"),
]


def pairs(stated=STATED, findings=("exudate", "disc"), eyes=({"gc": 1}, {"dr_grade": 2, "gc": 0}, {"amd": 1})):
    table = [
        Caption(place, semantic_id(facts), language, f"text {place}", facts)
        for place, (facts, language) in enumerate(stated)
    ]
    count = len(eyes)
    masks = np.zeros((count, len(findings), 2, 2), np.uint8) if findings else None
    names = list(map(str, range(count)))
    pixels = np.zeros((count, 8, 8, 3), np.uint8)
    images = LabelledImages(pixels, list(eyes), ["phantom"] * count, names, masks=masks, mask_names=findings)
    return Pairs(images, table, [[0]] * count)


def test_statements_are_captions_of_one_condition_alone_at_each_of_its_values():
    made = bank.of_pairs(pairs())
    assert made.conditions == ("dr_grade", "gc"), "one without a caption for one of its values is left out"
    assert made.values == [5, 2]
    dr_grade, gc = ([texts.tolist() for texts in of_condition] for of_condition in made.statements)
    assert gc == [[1, 3], [0]]
    assert dr_grade == [[6], [7], [9], [5], [8]]


def test_names_are_those_of_the_masks_channels_in_the_captions_languages():
    of_both, english = bank.of_pairs(pairs()), bank.of_pairs(pairs([one for one in STATED if one[1] == "en"]))
    texts = [*(f"text {place}" for place in range(len(STATED))), *of_both.texts]
    exudate, disc = ({texts[place] for place in places} for places in of_both.named)
    assert exudate == {*phrases("exudate", "zh"), *phrases("exudate", "en")}
    assert disc == {*phrases("disc", "zh"), *phrases("disc", "en")}
    assert english.texts == [*phrases("exudate", "en"), *phrases("disc", "en")]


def test_without_masks_nothing_is_named_and_without_statements_nothing_stated():
    plain = bank.of_pairs(pairs(findings=()))
    assert (plain.named, plain.texts) == ([], [])
    assert plain.draw_names(np.random.default_rng(0)).tolist() == []
    described = bank.of_pairs(pairs([(conditions.complete({}), "en")]))
    assert described.conditions == ()
    assert described.draw_statements(np.random.default_rng(0)).tolist() == []
    assert described.targets([{"gc": 1}] * 3).shape == (3, 0)


def test_what_is_drawn_is_one_of_each_in_order():
    made, rng = bank.of_pairs(pairs()), np.random.default_rng(0)
    drawn = {tuple(made.draw_statements(rng)) for _ in range(40)}
    assert drawn == {(6, 7, 9, 5, 8, denied, 0) for denied in (1, 3)}
    names = np.array([made.draw_names(rng) for _ in range(400)])
    assert [set(column) for column in names.T] == [set(places) for places in made.named]


def test_targets_are_values_and_what_is_unknown_is_minus_one():
    made = bank.of_pairs(pairs())
    assert made.targets(pairs().images.conditions).tolist() == [[-1, 1], [2, 0], [-1, -1]]
    assert made.targets([conditions.complete({"dr_grade": 4})]).tolist() == [[4, 0]]


def test_every_disease_is_stated_by_captions_of_enough_eyes():
    eyes = conditions.balanced(900, np.random.default_rng(0))
    table, texts_of = captions.table(eyes, ("en",), 4, np.random.default_rng(1))
    images = LabelledImages(np.zeros((900, 2, 2, 3), np.uint8), eyes, ["phantom"] * 900, list(map(str, range(900))))
    made = bank.of_pairs(Pairs(images, table, texts_of))
    assert made.conditions == conditions.DISEASES
    for key, of_condition in zip(made.conditions, made.statements, strict=True):
        for value, texts in enumerate(of_condition):
            assert all(table[text].facts == {key: value} for text in texts)


def test_a_mask_of_no_finding_is_named():
    with pytest.raises(ValueError, match="finding: 'field' is not known"):
        bank.of_pairs(pairs(findings=("field",)))
