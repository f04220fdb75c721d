"""The supervised baseline learns, resumes exactly, and starts over when what made it changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import tiny_images
from visionclip import conditions
from visionclip.data import images as preparing
from visionclip.data import phantoms
from visionclip.data.labelled import LabelledImages
from visionclip.data.phantoms import FINDINGS, STRIDE
from visionclip.evaluation import metrics
from visionclip.evaluation.classification import finding_maps, predict
from visionclip.models.classifier import CONDITIONS, Classifier
from visionclip.training import classification

SMALL = classification.Settings(updates=6, batch_size=8, width=8, precision="fp32", checkpoint_every=2)


@pytest.fixture(scope="module")
def drawn():
    eyes, drawn_from = phantoms.with_healthy_twins(160, 0.35, 0, "test")
    return phantoms.draw(eyes, drawn_from, 48, workers=1, masks="findings")


@pytest.fixture(scope="module")
def images():
    """Noise with finding maps of noise: enough where nothing is to be learnt."""
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 256, (20, len(FINDINGS), 32 // STRIDE, 32 // STRIDE), np.uint8)
    names = [str(number) for number in range(20)]
    return LabelledImages(
        rng.integers(0, 256, (20, 32, 32, 3), np.uint8),
        conditions.balanced(20, rng),
        ["phantom"] * 20,
        names,
        masks=maps,
        mask_names=tuple(FINDINGS),
    )


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    checkpoint = tmp_path_factory.mktemp("classifier") / "c"
    return classification.train(images, SMALL, checkpoint=checkpoint), checkpoint


def test_it_learns_sides_and_maps(drawn):
    settings = classification.Settings(updates=60, width=8, augmentation=0.0, seed=1)
    network = classification.train(drawn, settings)
    assert not network.training
    alone, _ = predict(network, drawn.pixels)
    side = np.array([eye["eye_side"] for eye in drawn.conditions])
    right = alone[:, CONDITIONS.index("eye_side>=1")]
    assert metrics.scores(side, np.stack([-right, right], 1), False)["auc"] > 0.8
    disc = list(FINDINGS).index("disc")
    maps, truth = finding_maps(network, drawn.pixels[:20])[:, disc], drawn.masks[:20, disc] > 128
    assert maps[truth].mean() > 2 * maps[~truth].mean()


@pytest.mark.parametrize("stopped_at", [1, 3, 5])
def test_a_stopped_run_equals_an_uninterrupted_one(trained, images, tmp_path, monkeypatch, stopped_at):
    tiny_images.stop_after(stopped_at, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        classification.train(images, SMALL, checkpoint=tmp_path / "c")
    taken = tiny_images.watch(monkeypatch)
    resumed = classification.train(images, SMALL, checkpoint=tmp_path / "c")
    assert taken == list(range(stopped_at // 2 * 2, SMALL.updates))
    assert tiny_images.same(resumed, trained[0])


def test_a_finished_run_returns_at_once(trained, images, monkeypatch):
    network, checkpoint = trained
    taken = tiny_images.watch(monkeypatch)
    assert tiny_images.same(classification.train(images, SMALL, checkpoint=checkpoint), network)
    classification.train(images, replace(SMALL, checkpoint_every=5), checkpoint=checkpoint)
    assert taken == []


def other_start():
    torch.manual_seed(1)
    return Classifier(8)


CHANGES = {
    "seed": lambda images: {"settings": replace(SMALL, seed=1)},
    "map weight": lambda images: {"settings": replace(SMALL, map_weight=0.5)},
    "pixels": lambda images: {"images": replace(images, pixels=255 - images.pixels)},
    "conditions": lambda images: {"images": replace(images, conditions=images.conditions[::-1])},
    "maps": lambda images: {"images": replace(images, masks=255 - images.masks)},
    "no maps": lambda images: {"images": images.without_masks()},
    "preparation": lambda images: {"prepare": preparing.scaled},
    "start": lambda images: {"start": other_start()},
    "code": lambda images: {},
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_decides_the_result_starts_over_when_it_changes(trained, images, tmp_path, monkeypatch, what):
    if what == "code":
        monkeypatch.setattr(classification.keys, "code", lambda *_: "other code")
    (tmp_path / "c").write_bytes(trained[1].read_bytes())
    taken = tiny_images.watch(monkeypatch)
    given = {"images": images, "settings": SMALL, "checkpoint": tmp_path / "c", **CHANGES[what](images)}
    network = classification.train(**given)
    assert taken == list(range(SMALL.updates))
    assert what == "code" or not tiny_images.same(network, trained[0])


@pytest.mark.parametrize("change", [{"map_weight": 0.0}, {"augmentation": 0.0}, {"balanced": True}])
@pytest.mark.parametrize("with_maps", [True, False])
def test_it_trains_with_maps_and_without(images, change, with_maps):
    given = images if with_maps else images.without_masks()
    network = classification.train(given, replace(SMALL, updates=2, **change))
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


def test_without_a_weight_maps_change_nothing(images):
    settings = replace(SMALL, map_weight=0.0)
    assert tiny_images.same(
        classification.train(images, settings), classification.train(images.without_masks(), settings)
    )


def test_it_goes_on_from_where_it_is_to_start(images):
    start = other_start()
    network = classification.train(images, replace(SMALL, updates=1, learning_rate=1e-9), start=start)
    for one, other in zip(network.parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_a_rare_condition_weighs_as_much_as_a_common_one():
    wanted = np.zeros((20, 3), np.float32)
    wanted[:4, 0] = wanted[:10, 1] = wanted[:0, 2] = 1
    rarity = classification._rarity(wanted)
    assert rarity.tolist() == pytest.approx([4, 1, 19])


def test_unknown_targets_count_for_nothing():
    logits, truth = torch.randn(4, 3), torch.tensor([[1, 0, 1], [0, torch.nan, 1], [torch.nan] * 3, [1, 1, 0]])
    known = ~truth.isnan()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[known], truth[known])
    everyone = np.arange(4)
    assert classification.label_loss(logits, truth, everyone, None).item() == pytest.approx(expected.item(), rel=1e-5)
    halves = [classification.label_loss(logits[own], truth, own, None).item() for own in (everyone[:2], everyone[2:])]
    assert np.mean(halves) == pytest.approx(expected.item(), rel=1e-5)  # two processes have the loss of one
    whole = torch.ones(4, 3)
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, whole)
    assert torch.equal(classification.label_loss(logits, whole, everyone, None), plain)
    weights = classification._rarity(truth.numpy())
    assert torch.equal(weights, classification._rarity(truth.numpy()[[0, 1, 3]]))
    assert classification.label_loss(logits, torch.full((4, 3), torch.nan), everyone, None) == 0
