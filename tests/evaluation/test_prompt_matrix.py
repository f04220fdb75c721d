"""Every sentence put to every task: which one is right, and the rank that it gets."""

import numpy as np
import pytest
import torch

from visionclip.conditions import FINDINGS
from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import ClassOf, Dataset, Task
from visionclip.evaluation import prompt_matrix, tables


def task(first, second, targets=(0, 0, 1, 1), name="task"):
    return Task(name, False, [ClassOf("first", first), ClassOf("second", second)], np.array(targets))


def dataset(*asked):
    count = len(asked[0].targets)
    pixels = np.zeros((count, 8, 8, 3), np.uint8)
    keys = [str(number) for number in range(count)]
    return Dataset("clinic", "test", LabelledImages(pixels, [{}] * count, ["photograph"] * count, keys), list(asked))


@pytest.mark.parametrize(
    ("first", "second", "positive", "keys"),
    [
        ([{"dr_grade": 0}, {"dr_grade": 1}], [{"dr_grade": 2}, {"dr_grade": 3}], 1, ("dr_grade",)),
        ([{"gc": 1}, {"dme": 1}], [{}], 0, ("dme", "gc")),
        ([{"exudate": 0}], [{"exudate_amount": 2}], 1, ("exudate",)),
        ([{"pm": 0}], [{"pm": 1}], 1, ("dm", "pm")),
        ([{"dm": 0}], [{"dm": 1}], 1, ("dm", "pm")),
        ([{"macula_readable": 0}], [{"macula_readable": 1}], 1, ()),
    ],
)
def test_the_right_sentences_are_those_of_what_a_class_shows(first, second, positive, keys):
    assert prompt_matrix.right(task(first, second)) == (positive, keys)


def axes(*values):
    """Sentences that look along one axis each: the present one along it, the absent one against it."""
    return {key: (-torch.eye(4)[[place]], torch.eye(4)[[place]]) for place, key in enumerate(values)}


def test_the_rank_counts_the_sentences_that_separate_better():
    images = torch.tensor([[0.1, 0.9, -1, 0], [0.2, 0.1, -1, 0], [0.3, 0.8, 1, 0], [0.15, 0.2, 1, 0]])
    rows = prompt_matrix.evaluate(
        dataset(task([{"gc": 0}], [{"gc": 1}]), task([{"em": 0}], [{"em": 1}]), task([{"dme": 1}], [{"dme": 0}])),
        images,
        axes("gc", "dme", "em", "amd"),
        10.0,
    )
    of_gc, of_em, of_dme = rows
    assert of_gc["auc"] == {"gc": 0.75, "dme": 0.5, "em": 1.0, "amd": 0.5}
    assert (of_gc["right"], of_gc["rank"], of_gc["of"]) == (("gc",), 2, 4)
    assert of_em["rank"] == 1
    assert of_dme["auc"]["em"] == 0.0, "the class that shows the disease is the first"
    assert of_dme["rank"] == 1, "one of two equals"
    assert prompt_matrix.grid(rows).tolist()[0] == [0.75, 0.5, 1.0, 0.5]


def test_a_task_that_no_sentence_is_about_has_no_rank_and_unlabelled_images_count_nothing():
    asked = task([{"disc_readable": 0}], [{"disc_readable": 1}], (0, 0, 1, 1, -1))
    images = torch.tensor([[-1.0, 0, 0, 0], [-1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [-9, 0, 0, 0]])
    (row,) = prompt_matrix.evaluate(dataset(asked), images, axes("gc"), 1.0)
    assert (row["right"], row["rank"], row["auc"]) == ((), None, {"gc": 1.0})
    (shown,) = tables.rank_table([row]).to_dict("records")
    assert (shown["sentence"], shown["rank"], shown["best of all"]) == ("–", "–", "gc 1.000")


def test_a_table_names_the_best_of_the_right_sentences():
    auc = {"dm": 0.7, "pm": 0.8, "gc": 0.9}
    row = {"dataset": "clinic", "task": "myopia", "split": "test", "right": ("dm", "pm"), "auc": auc}
    (shown,) = tables.rank_table([{**row, "rank": 2, "of": 3}]).to_dict("records")
    assert list(shown.values()) == ["clinic (test)", "myopia", "pm", "0.800", "2 of 3", "gc 0.900"]


def test_every_disease_and_lesion_has_sentences_for_and_against(untrained):
    pairs = prompt_matrix.pairs(*untrained, ("zh", "en"))
    assert {key for key in FINDINGS if FINDINGS[key].lesion} <= pairs.keys()
    assert not {"disc", "exudate_amount"} & pairs.keys()
    for key, (absent, present) in pairs.items():
        assert absent.shape == (1, 16)
        assert len(present) == (4 if key == "dr_grade" else 1)
        assert torch.cat([absent, present]).norm(dim=1) == pytest.approx(1)


def test_one_pair_is_the_same_alone(untrained):
    alone = prompt_matrix.pairs(*untrained, ("en",), keys=["dme"])["dme"]
    among = prompt_matrix.pairs(*untrained, ("en",), keys=["dr_grade", "dme"])["dme"]
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(alone, among, strict=True))
