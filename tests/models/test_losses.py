"""Each objective against its formula written out pair by pair, and what none of them can go below."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from visionclip.models import losses
from visionclip.models.losses import OBJECTIVES, Matches


def unit(rows, columns, seed=0):
    return functional.normalize(torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)), dim=1)


def matches(own, positives, meanings=None, labels=None):
    own, positives = torch.tensor(own), torch.tensor(positives)
    meanings = torch.arange(positives.shape[1]) if meanings is None else torch.tensor(meanings)
    labels = torch.eye(len(own)) if labels is None else torch.tensor(labels, dtype=torch.float32)
    return Matches(own, positives, meanings, labels)


ALONE = matches(list(range(6)), torch.eye(6).tolist())
SHARED = matches([0, 1, 2, 1], [[1, 0, 0], [0, 1, 0], [0, 1, 1], [1, 1, 0]], labels=[[1, 0], [1, 1], [0, 1], [1, 1]])
IMAGES, TEXTS, SCALE = unit(4, 8), unit(3, 8, 1), torch.tensor(3.0)


def cosines(images, texts):
    return [[sum(a * b for a, b in zip(x, y, strict=True)) for y in texts.tolist()] for x in images.tolist()]


def test_clip_equals_its_formula():
    own = SHARED.own.tolist()
    logits = [[3 * row[text] for text in own] for row in cosines(IMAGES, TEXTS)]
    by_image = [math.log(sum(map(math.exp, row))) - row[place] for place, row in enumerate(logits)]
    columns = list(zip(*logits, strict=True))
    by_text = [math.log(sum(map(math.exp, column))) - column[place] for place, column in enumerate(columns)]
    expected = (sum(by_image) / 4 + sum(by_text) / 4) / 2
    assert losses.clip(IMAGES, TEXTS, SCALE, None, SHARED)[0].item() == pytest.approx(expected, rel=1e-5)


def test_multi_positive_equals_its_formula():
    """A caption hands a unit evenly to the images it is true of; an image answers what it was handed, to a sum of 1."""
    logits = [[3 * value for value in row] for row in cosines(IMAGES, TEXTS)]
    truth = SHARED.positives.tolist()
    by_image = by_text = 0.0
    fitting = [sum(row[text] for row in truth) for text in range(3)]
    for image, row in enumerate(logits):
        total = math.log(sum(map(math.exp, row)))
        handed = [truth[image][text] / fitting[text] for text in range(3)]
        by_image -= sum(share / sum(handed) * (row[text] - total) for text, share in enumerate(handed)) / 4
    for text in range(3):
        total = math.log(sum(math.exp(row[text]) for row in logits))
        by_text -= sum(truth[i][text] / fitting[text] * (logits[i][text] - total) for i in range(4)) / 3
    found = losses.multi_positive(IMAGES, TEXTS, SCALE, None, SHARED)[0]
    assert found.item() == pytest.approx((by_image + by_text) / 2, rel=1e-5)


def test_sigmoid_equals_its_formula():
    expected = 0.0
    for image, row in enumerate(cosines(IMAGES, TEXTS)):
        for text, cosine in enumerate(row):
            sign = 1 if SHARED.positives[image, text] else -1
            expected += math.log(1 + math.exp(-sign * (3 * cosine - 0.7))) / 4
    found = losses.sigmoid(IMAGES, TEXTS, SCALE, torch.tensor(-0.7), SHARED)[0]
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_similarity_equals_its_formula():
    """A negative weighs 1 minus the Jaccard index of the conditions, and nothing where the caption is true."""
    labels, own, truth = SHARED.labels.tolist(), SHARED.own.tolist(), SHARED.positives.tolist()
    logits = [[3 * row[text] for text in own] for row in cosines(IMAGES, TEXTS)]

    def weight(i, j):
        if i == j:
            return 1.0
        both = sum(a * b for a, b in zip(labels[i], labels[j], strict=True))
        either = sum(max(a, b) for a, b in zip(labels[i], labels[j], strict=True))
        return 0.0 if truth[i][own[j]] else 1 - both / either

    expected = 0.0
    for i in range(4):
        expected += math.log(sum(weight(i, j) * math.exp(logits[i][j]) for j in range(4))) - logits[i][i]
        expected += math.log(sum(weight(j, i) * math.exp(logits[j][i]) for j in range(4))) - logits[i][i]
    found = losses.similarity(IMAGES, TEXTS, SCALE, None, SHARED)[0]
    assert found.item() == pytest.approx(expected / 8, rel=1e-5)


def test_without_shared_captions_or_conditions_three_of_them_are_the_same():
    images, texts, scale = unit(6, 8), unit(6, 8, 1), torch.tensor(5.0)
    names = ("clip", "multi_positive", "similarity")
    values = [OBJECTIVES[name](images, texts, scale, None, ALONE)[0] for name in names]
    assert values[1:] == pytest.approx([values[0].item()] * 2, rel=1e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_perfect_embeddings_reach_the_floor_and_none_goes_below(name):
    meaning = torch.tensor([0, 0, 1, 2, 2, 2])
    known = Matches(meaning, functional.one_hot(meaning), torch.arange(3), functional.one_hot(meaning).float())
    bias = torch.tensor(-50.0)
    images, scale = functional.one_hot(meaning).float(), torch.tensor(100.0)
    perfect, floor = OBJECTIVES[name](images, torch.eye(3), scale, bias, known)
    assert perfect.item() == pytest.approx(floor.item(), abs=1e-3)
    for seed in range(20):
        other, floor = OBJECTIVES[name](unit(6, 4, seed), unit(3, 4, seed + 50), torch.tensor(8.0), bias / 10, known)
        assert other >= floor - 1e-5


def test_floor_of_the_one_hot_loss_is_the_published_formula():
    """Sum over meanings of p ln(B p), for a batch in which the meaning of share p stands B p times."""
    known = matches([0, 1, 2, 3, 4, 4], torch.ones(6, 5).tolist(), meanings=[0, 0, 0, 1, 2])
    expected = sum(count / 6 * math.log(count) for count in (3, 1, 2))
    assert losses.clip(unit(6, 4), unit(5, 4), SCALE, None, known)[1].item() == pytest.approx(expected, rel=1e-5)


def test_an_unbiased_start_says_the_expected_share_of_everything():
    assert torch.sigmoid(torch.tensor(losses.starting_bias(0.125))).item() == pytest.approx(0.125)


def test_a_caption_true_of_all_weighs_less_than_one_true_of_one_image():
    by_image, by_text = losses.targets(torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0]]))
    assert torch.allclose(by_image[0], torch.tensor([0.75, 0.25]))
    assert torch.allclose(by_text, torch.tensor([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]]))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_pair_of_unknown_truth_neither_attracts_nor_repels(name):
    """Its gradient is that of leaving it out: with two images that have nothing else in common, none."""
    known = matches([0, 1], [[1, 0], [0, 1]], labels=[[1, 0], [torch.nan, 1]])
    open_pairs = torch.tensor([[False, True], [True, False]])
    images, texts = (unit(2, 8, seed).requires_grad_() for seed in (2, 3))
    loss, _ = OBJECTIVES[name](images, texts, SCALE, None, replace(known, unknown=open_pairs))
    if name == "sigmoid":
        own = -functional.logsigmoid(SCALE * (images * texts).sum(1)).sum() / 2
        assert loss.item() == pytest.approx(own.item(), rel=1e-5)
    else:
        assert loss.item() == pytest.approx(0, abs=1e-5)
    loss.backward()
    assert images.grad.isfinite().all()
    assert texts.grad.isfinite().all()
    counted, _ = OBJECTIVES[name](images, texts, SCALE, None, known)
    assert counted > loss + 0.01


@pytest.mark.parametrize("name", OBJECTIVES)
def test_nothing_unknown_changes_nothing(name):
    nowhere = replace(SHARED, unknown=torch.zeros_like(SHARED.positives, dtype=torch.bool))
    assert torch.equal(*(OBJECTIVES[name](IMAGES, TEXTS, SCALE, None, one)[0] for one in (SHARED, nowhere)))


def test_what_is_unknown_makes_no_image_alike_or_unlike():
    """Jaccard over what is known of both: of the first two images the second label, which they share."""
    labels = [[1, 1], [torch.nan, 1], [0, 0]]
    eye = matches([0, 1, 2], torch.eye(3).tolist(), labels=labels)
    images, texts = unit(3, 8, 4), unit(3, 8, 5)
    same = matches([0, 1, 2], torch.eye(3).tolist(), labels=[[1, 1], [1, 1], [0, 0]])
    assert torch.equal(*(losses.similarity(images, texts, SCALE, None, one)[0] for one in (eye, same)))
