import math

import pytest
import torch
from torch.nn import functional

from visionclip.models import losses


def unit(rows, columns, seed=0):
    return functional.normalize(torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_without_shared_captions_both_losses_are_the_same():
    images, texts, scale = unit(6, 8), unit(6, 8, 1), torch.tensor(5.0)
    one_hot = losses.clip_loss(images, texts, scale, torch.arange(6))
    assert losses.multi_positive_loss(images, texts, scale, torch.eye(6)) == pytest.approx(one_hot.item(), rel=1e-5)


def test_clip_loss_equals_its_formula():
    images, texts, scale, own = unit(4, 8), unit(3, 8, 1), torch.tensor(3.0), torch.tensor([0, 1, 2, 1])
    logits = scale * images @ texts[own].T
    expected = -(logits.log_softmax(1).diag().mean() + logits.log_softmax(0).diag().mean()) / 2
    assert losses.clip_loss(images, texts, scale, own).item() == pytest.approx(expected.item(), rel=1e-5)


def test_perfect_embeddings_reach_the_floor_and_none_goes_below():
    meaning = torch.tensor([0, 0, 1, 2, 2, 2])
    positives = functional.one_hot(meaning).float()
    perfect = functional.one_hot(meaning).float()
    floor = losses.floor(positives)
    reached = losses.multi_positive_loss(perfect, torch.eye(3), torch.tensor(100.0), positives)
    assert reached.item() == pytest.approx(floor.item(), abs=1e-3)
    for seed in range(20):
        other = losses.multi_positive_loss(unit(6, 4, seed), unit(3, 4, seed + 50), torch.tensor(8.0), positives)
        assert other >= floor - 1e-5


def test_floor_of_the_one_hot_loss_is_the_published_formula():
    """Sum over captions of p ln(B p), for a batch in which the caption of share p stands B p times."""
    own = torch.tensor([0, 0, 0, 1, 2, 2])
    expected = sum(count / 6 * math.log(count) for count in (3, 1, 2))
    assert losses.floor(own[:, None] == own[None]).item() == pytest.approx(expected, rel=1e-5)


def test_alignment_and_uniformity_know_their_extremes():
    same = unit(5, 4)
    assert losses.alignment(same, same) == 0
    assert losses.alignment(same, -same) == pytest.approx(4, rel=1e-5)
    assert losses.uniformity(same[:1].repeat(5, 1)) == pytest.approx(0, abs=1e-5)
    assert losses.uniformity(unit(200, 64)) < -3


def test_a_caption_true_of_all_weighs_less_than_one_true_of_one_image():
    positives = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    by_image, by_text = losses.targets(positives)
    assert torch.allclose(by_image[0], torch.tensor([0.75, 0.25]))
    assert torch.allclose(by_text, torch.tensor([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]]))
