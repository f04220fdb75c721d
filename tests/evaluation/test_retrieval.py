import numpy as np
import pytest
import torch
from torch.nn import functional

from visionclip.evaluation import retrieval, tables


def unit(rows, columns, seed=0):
    return functional.normalize(torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_retrieval_counts_any_true_caption_and_knows_chance():
    images, texts = torch.eye(4), torch.eye(4)
    positives = np.eye(4, dtype=bool)
    perfect = retrieval.retrieval(images, texts, positives)
    assert perfect["image to text"]["R@1"] == {"value": 1.0, "chance": pytest.approx(0.25), "n": 4}
    wrong = retrieval.retrieval(images, texts, np.roll(positives, 1, axis=1))
    assert wrong["text to image"]["R@1"]["value"] == 0
    several = retrieval.retrieval(images, texts, np.ones((4, 4), bool))
    assert several["image to text"]["R@1"]["chance"] == 1
    drawn = retrieval.retrieval(unit(8, 4), unit(8, 4, 1), np.eye(8, dtype=bool))["image to text"]
    assert drawn["R@5"]["chance"] == pytest.approx(5 / 8), "the nearest are distinct"
    assert drawn["R@10"] == {"value": 1.0, "chance": pytest.approx(1), "n": 8}
    assert tables.retrieval_table(perfect).loc[0].tolist() == ["image to text", "R@1", 1.0, 0.25]


def test_retrieval_without_a_true_caption_is_undefined():
    none = retrieval.retrieval(torch.eye(4), torch.eye(4), np.zeros((4, 4), bool))
    assert none["image to text"]["R@5"] == {"value": None, "chance": None, "n": 0}


def test_a_collapsed_text_tower_fails_the_run(texts):
    different = list({caption.semantic_id: caption for caption in texts}.values())[:6]
    same = functional.normalize(torch.ones(6, 8) + 1e-3 * unit(6, 8), dim=1)
    assert retrieval.text_spread(torch.eye(6), different) == pytest.approx(0)
    with pytest.raises(RuntimeError, match="text tower collapsed"):
        retrieval.refuse_collapse(retrieval.text_spread(same, different))
    retrieval.refuse_collapse(0.5)


def test_alignment_and_uniformity_know_their_extremes():
    same = unit(5, 4)
    assert retrieval.alignment(same, same) == 0
    assert retrieval.alignment(same, -same) == pytest.approx(4, rel=1e-5)
    assert retrieval.uniformity(same[:1].repeat(5, 1)) == pytest.approx(0, abs=1e-5)
    assert retrieval.uniformity(unit(200, 64)) < -3
