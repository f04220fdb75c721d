"""Both losses against their formulas written out answer by answer and cell by cell."""

import math

import numpy as np
import pytest
import torch

from visionclip.models import supervision


def softplus(value):
    return math.log(1 + math.exp(value))


def asked(row, value, truth):
    """Minus the log-probability of the truth: whether what the statements' logits are of is at least ``value``."""
    at_least, below = sum(map(math.exp, row[value:])), sum(map(math.exp, row[:value]))
    return -math.log((at_least if truth >= value else below) / (at_least + below))


VALUES = [2, 5, 2]  # a disease that is there or not, a graded one, another
TRUTH = [[1, 3, 0], [0, -1, 1], [-1, 0, -1], [1, 4, -1]]
LOGITS = 2 * torch.randn(4, 9, generator=torch.Generator().manual_seed(0))


def test_conditions_equal_their_formula():
    rows = [[row[:2], row[2:7], row[7:]] for row in LOGITS.tolist()]
    answers = [
        asked(statements, value, truth)
        for row, of_row in zip(rows, TRUTH, strict=True)
        for statements, truth in zip(row, of_row, strict=True)
        for value in range(1, len(statements))
        if truth >= 0
    ]
    assert len(answers) == 3 + 3 * 4 + 2
    found = supervision.condition_loss(LOGITS, VALUES, torch.tensor(TRUTH))
    assert found.item() == pytest.approx(sum(answers) / len(answers), rel=1e-5)


def test_a_condition_that_is_there_or_not_is_a_choice_between_its_two_statements():
    found = supervision.condition_loss(torch.tensor([[0.3, 1.1]]), [2], torch.tensor([[1]]))
    assert found.item() == pytest.approx(softplus(0.3 - 1.1), rel=1e-5)


def test_what_is_unknown_has_no_gradient_and_nothing_known_no_loss():
    logits = LOGITS.clone().requires_grad_()
    supervision.condition_loss(logits, VALUES, torch.tensor(TRUTH)).backward()
    gradients = [part.abs().sum(1) for part in logits.grad.split(VALUES, dim=1)]
    for column, of_condition in enumerate(gradients):
        assert [value > 0 for value in of_condition] == [row[column] >= 0 for row in TRUTH]
    assert supervision.condition_loss(LOGITS, VALUES, torch.full((4, 3), -1)).item() == 0


def test_a_grade_is_ordered_and_a_near_miss_costs_less_than_a_far_one():
    sure = [[8.0 if place == said else -8.0 for place in range(5)] for said in range(5)]
    costs = [supervision.condition_loss(torch.tensor([row]), [5], torch.tensor([[1]])).item() for row in sure]
    assert costs[1] < 0.01 < costs[2] < costs[3] < costs[4]


MAPS = torch.randn(6, 2, 3, 3, generator=torch.Generator().manual_seed(1))
COVERED = torch.rand(6, 2, 3, 3, generator=torch.Generator().manual_seed(2)) ** 4
KNOWN = torch.tensor([True, False, True, True, False, True])


def test_maps_equal_their_formula():
    """A third of a cell fills it; what is touched at all counts seven times."""
    total = 0.0
    for image in np.flatnonzero(KNOWN):
        cells = zip(MAPS[image].flatten().tolist(), COVERED[image].flatten().tolist(), strict=True)
        for logit, covered in cells:
            full = min(3 * covered, 1.0)
            total += (7 if covered > 1 / 30 else 1) * (full * softplus(-logit) + (1 - full) * softplus(logit))
    found = supervision.map_loss(MAPS, COVERED, KNOWN, KNOWN.float().mean())
    assert found.item() == pytest.approx(total / (4 * 2 * 9), rel=1e-5)


def test_cells_that_show_a_finding_count_more():
    """From half a pixel of sixteen on a cell shows a finding: a microaneurysm at 192 px is hardly more."""
    one, weights = (1, 1, 1, 1), []
    for covered in (0.99 / 30, 1.01 / 30):
        loss = supervision.map_loss(torch.zeros(one), torch.full(one, covered), torch.tensor([True]), 1)
        weights.append(loss.item() / math.log(2))  # of a logit of 0 the loss is the same whatever is there
    assert weights == pytest.approx([1, 1 + supervision.RARE], rel=1e-5)
    assert pytest.approx(1 / 30) == supervision.SHOWN


def test_a_finding_counts_more_than_an_empty_cell_and_a_third_of_a_cell_as_all_of_it():
    everywhere, marked = (1, 1, 2, 2), torch.tensor([True])

    def loss(logit, covered):
        return supervision.map_loss(torch.full(everywhere, logit), torch.full(everywhere, covered), marked, 1).item()

    missed, invented = loss(-3.0, 1.0), loss(3.0, 0.0)
    assert missed == pytest.approx((1 + supervision.RARE) * invented)
    assert loss(-3.0, 1 / 3) == pytest.approx(missed)


def test_an_image_without_masks_counts_nothing():
    logits = MAPS.clone().requires_grad_()
    loss = supervision.map_loss(logits, COVERED, KNOWN, KNOWN.float().mean())
    loss.backward()
    assert [value > 0 for value in logits.grad.abs().sum((1, 2, 3))] == KNOWN.tolist()
    alone = supervision.map_loss(MAPS[KNOWN], COVERED[KNOWN], KNOWN[KNOWN], 1)
    assert loss.item() == pytest.approx(alone.item(), rel=1e-5)
    nobody = torch.zeros(6, dtype=torch.bool)
    assert supervision.map_loss(MAPS, COVERED, nobody, nobody.float().mean()).item() == 0


@pytest.mark.parametrize("shares", [2, 3])
def test_shares_of_a_batch_have_the_whole_s_loss_as_their_mean(shares):
    """However unevenly the images with masks are shared out."""
    share = KNOWN.float().mean()
    parts = zip(MAPS.chunk(shares), COVERED.chunk(shares), KNOWN.chunk(shares), strict=True)
    each = [supervision.map_loss(*part, share).item() for part in parts]
    assert len({round(value, 4) for value in each}) == shares
    whole = supervision.map_loss(MAPS, COVERED, KNOWN, share).item()
    assert sum(each) / shares == pytest.approx(whole, rel=1e-5)


def test_dice_equals_its_formula():
    told, cells = torch.sigmoid(MAPS)[KNOWN].numpy(), np.minimum(3 * COVERED[KNOWN].numpy(), 1)
    each = [
        1 - (2 * (told[:, place] * cells[:, place]).sum() + 1) / (told[:, place].sum() + cells[:, place].sum() + 1)
        for place in range(2)
    ]
    found = supervision.dice_loss(supervision.overlaps(MAPS, COVERED, KNOWN))
    assert found.item() == pytest.approx(np.mean(each), rel=1e-5)


@pytest.mark.parametrize("shares", [2, 3])
def test_overlaps_of_the_shares_of_a_batch_add_up(shares):
    parts = zip(MAPS.chunk(shares), COVERED.chunk(shares), KNOWN.chunk(shares), strict=True)
    added = sum(supervision.overlaps(*part) for part in parts)
    assert torch.allclose(added, supervision.overlaps(MAPS, COVERED, KNOWN))


def test_dice_weighs_a_small_finding_as_a_large_one():
    """Of 16×16 cells one lesion fills one and another a quarter; either of them missed costs as much."""
    covered = torch.zeros(1, 2, 16, 16)
    covered[0, 0, 0, 0] = covered[0, 1, :8, :8] = 1

    def missing(finding):
        logits = torch.where(covered > 0, 20.0, -20.0)
        logits[0, finding] = -20.0
        return supervision.dice_loss(supervision.overlaps(logits, covered, torch.tensor([True]))).item()

    small, large = missing(0), missing(1)
    assert (small, large) == pytest.approx((0.25, 0.49), abs=0.01)  # but for SMOOTH the same
    entropies = [
        supervision.map_loss(torch.full((1, 1, 16, 16), -20.0), one, torch.tensor([True]), 1).item()
        for one in covered.split(1, dim=1)
    ]
    assert entropies[1] > 60 * entropies[0]


def test_dice_of_a_finding_that_is_nowhere_asks_for_silence():
    nothing, known = torch.zeros(1, 1, 4, 4), torch.tensor([True])
    losses = [
        supervision.dice_loss(supervision.overlaps(torch.full((1, 1, 4, 4), one), nothing, known)).item()
        for one in (-20.0, 0.0)
    ]
    assert losses == pytest.approx([0, 1 - 1 / 9], abs=1e-5)
    nobody = torch.zeros(6, dtype=torch.bool)
    assert supervision.dice_loss(supervision.overlaps(MAPS, COVERED, nobody)).item() == 0
