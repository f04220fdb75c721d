"""What learns of a VisionCLIP's image side, and what a classifier says before it has learnt anything."""

import pytest
import torch

from visionclip.data.images import standardise
from visionclip.evaluation import zero_shot
from visionclip.models import classifiers, visionclip
from visionclip.models.classifiers import Sentences


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    config = visionclip.sized(8, 1, 64, 16, 20, pyramid_size=8)
    config.scales, config.vision_config.depths = [0.5, 1.0], [1, 1, 1, 1]
    return visionclip.VisionCLIP(config).train(False)


@pytest.fixture(scope="module")
def classes():
    torch.manual_seed(1)
    return [torch.nn.functional.normalize(torch.randn(count, 16), dim=1) for count in (1, 3)]


@pytest.fixture
def head(classes):
    return Sentences(classes, 9.0)


@pytest.fixture(scope="module")
def pixels():
    torch.manual_seed(2)
    return torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)


def test_sentences_are_the_logits_of_zero_shot_prediction(head, classes, network, pixels):
    with torch.no_grad():
        embeds = network.get_image_features(standardise(pixels))
    assert torch.allclose(head(embeds).double(), torch.tensor(zero_shot.class_logits(embeds, classes, 9.0)), atol=1e-5)


def test_before_an_update_what_is_tuned_is_the_model_read_at_one_scale(network, head, pixels):
    with torch.no_grad():
        whole = head(network.project(network._read(standardise(pixels))[0]))
        for one in (classifiers.full(network, head), classifiers.low_rank(network, head, 0)):
            assert torch.allclose(one.train(False).head(one(pixels)), whole, atol=1e-5)


def test_a_tuned_model_is_a_copy(network, head):
    one = classifiers.full(network, head)
    before = network.vision_projection.weight.clone()
    with torch.no_grad():
        for value in one.learning():
            value.add_(1)
    assert torch.equal(network.vision_projection.weight, before)
    assert network.config.scales == [0.5, 1.0]


def test_the_image_side_learns_and_no_sentence(network, head):
    one = classifiers.full(network, head)
    learning = {name for name, value in one.named_parameters() if value.requires_grad}
    assert {name.split(".")[2] for name in learning} == set(classifiers.IMAGE_SIDE)
    assert not any(".text" in name for name in learning)


def test_statistics_stay_in_a_tuned_tower_and_are_learnt_from_scratch(network, head, pixels):
    for one, stay in ((classifiers.full(network, head), True), (classifiers.from_scratch(network, 2, 0), False)):
        norm = one.encoder.network.vision.embedder.embedder.normalization
        before = norm.running_mean.clone()
        one.train()(pixels)
        assert torch.equal(norm.running_mean, before) == stay


def test_from_scratch_has_the_tower_s_shape_and_weights_of_its_seed(network):
    one, again, other = (classifiers.from_scratch(network, 2, seed) for seed in (1, 1, 2))
    kernel = "encoder.network.vision.embedder.embedder.convolution.weight"
    weights = [dict(each.named_parameters())[kernel] for each in (one, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert weights[0].shape == network.vision.embedder.embedder.convolution.weight.shape
    assert not torch.equal(weights[0], network.vision.embedder.embedder.convolution.weight)


def test_low_rank_updates_alone_learn_and_move_the_logits(network, head, pixels):
    one = classifiers.low_rank(network, head, 0)
    learning = dict((name, value) for name, value in one.named_parameters() if value.requires_grad)
    assert learning
    assert all("lora_" in name for name in learning)
    assert sum(value.numel() for value in learning.values()) < sum(
        value.numel() for value in classifiers.full(network, head).learning()
    )
    before = one.head(one(pixels))
    before[:, 1].sum().backward()
    assert any(value.grad.abs().sum() > 0 for value in learning.values())


def test_an_adapter_stays_near_the_embedding_and_at_unit_length(head):
    torch.manual_seed(0)
    embeds = torch.nn.functional.normalize(torch.randn(5, 16), dim=1)
    adapted = classifiers.adapter(16, head, 0)(embeds)
    assert torch.allclose(adapted.norm(dim=1), torch.ones(5))
    assert (adapted * embeds).sum(1).min() > 0.9
    assert not torch.allclose(adapted, embeds)
