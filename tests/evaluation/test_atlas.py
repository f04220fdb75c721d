"""Photographs beside drawn eyes: of each condition the first, of sets that may be shown alone."""

import numpy as np

from visionclip import conditions
from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import ClassOf, Dataset, Task
from visionclip.evaluation import atlas

CLASSES = [ClassOf(str(grade), [{"dr_grade": grade}]) for grade in range(3)]
GRADES = Task("dr_grade", True, CLASSES, np.array([0, 2, 1, 2]))
PIXELS = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((4, 8, 8, 3), np.uint8)  # each of its place's grey
HEALTHY = dict.fromkeys(conditions.DISEASES, 0)
DRAWN = [HEALTHY, HEALTHY | {"amd": 1}, HEALTHY | {"dr_grade": 2}, HEALTHY | {"dr_grade": 2}]


def both(name: str) -> tuple[dict, dict, str]:
    photographed = Dataset(name, "test", LabelledImages(PIXELS, [{}] * 4, [name] * 4, list("abcd")), [GRADES])
    return atlas.beside(LabelledImages(PIXELS, DRAWN, ["phantom"] * 4, list("efgh")), [photographed])


def test_the_first_of_each_condition_that_both_have():
    drawn, photographed, credit = both("idrid")
    assert {name: picture.max() for name, picture in drawn.items()} == {"dr_grade 2": 2}
    assert {name: picture.max() for name, picture in photographed.items()} == {"dr_grade 2": 1}
    assert "IDRiD" in credit


def test_a_set_that_may_not_be_shown_is_not():
    assert both("clinic") == ({}, {}, "")
