import copy

import numpy as np
import pytest
import torch

from visionclip.evaluation import encoding
from visionclip.evaluation.encoding import encode_images, encode_texts
from visionclip.models.visionclip import VisionCLIP, sized


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """fp32, as bf16 rounds by the batch."""
    encoding.KEPT.clear()
    monkeypatch.setattr(encoding, "bf16_is_fast", lambda _: False)


def test_in_bf16_embeddings_and_cells_are_nearly_the_same(pyramid, held_out, monkeypatch):
    exact = encode_images(pyramid, held_out.pixels[:5]), *encoding.encode_cells(pyramid, held_out.pixels[:5])
    encoding.KEPT.clear()
    monkeypatch.setattr(encoding, "bf16_is_fast", lambda _: True)
    fast = encode_images(pyramid, held_out.pixels[:5]), *encoding.encode_cells(pyramid, held_out.pixels[:5])
    assert not torch.equal(exact[0], fast[0])
    for one, other in zip(exact, fast, strict=True):
        assert other.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(one, other, dim=1).min() > 0.99


def test_embeddings_have_unit_length_and_do_not_hang_on_the_batch(untrained, held_out):
    network, _ = untrained
    network.train()
    whole = encode_images(network, held_out.pixels[:10])
    assert not network.training
    assert whole.shape == (10, 16)
    assert torch.allclose(whole.norm(dim=1), torch.ones(10), atol=1e-5)
    encoding.KEPT.clear()
    assert torch.allclose(whole, encode_images(network, held_out.pixels[:10], batch_size=3), atol=1e-5)


def test_features_before_the_projection_lead_to_the_embedding(untrained, held_out):
    network, _ = untrained
    features = encode_images(network, held_out.pixels[:4], projected=False)
    projected = torch.nn.functional.normalize(network.vision_projection(features), dim=1)
    assert torch.allclose(projected, encode_images(network, held_out.pixels[:4]), atol=1e-5)


def test_a_set_is_encoded_once_and_again_where_weights_scales_or_pixels_are_others(untrained, held_out, monkeypatch):
    network, _ = copy.deepcopy(untrained[0]), encoding.KEPT.clear()
    asked, pooled = [], type(network).get_pooled_features
    monkeypatch.setattr(type(network), "get_pooled_features", lambda *given: asked.append(1) or pooled(*given))
    pixels = held_out.pixels[:4].copy()
    first = encode_images(network, pixels)
    encode_images(network, pixels, projected=False)
    assert torch.equal(first, encode_images(network, pixels.copy()))
    assert len(asked) == 1
    pixels[0, 3, 3] ^= 255
    encode_images(network, pixels)
    network.config.scales = [0.5, 1.0]
    encode_images(network, pixels)
    with torch.no_grad():
        network.vision_projection.weight.mul_(-1)
    encode_images(network, pixels)
    assert len(asked) == 4
    monkeypatch.setattr(encoding, "SETS", 2)
    encode_images(network, held_out.pixels[5:8])
    assert len(encoding.KEPT) == 2


@pytest.fixture
def pyramid(untrained):
    torch.manual_seed(0)
    return VisionCLIP(sized(8, 1, 64, 16, len(untrained[1]), pyramid_size=8))


def test_with_the_cells_come_the_features(pyramid, held_out, monkeypatch):
    pixels = held_out.pixels[:5]
    encoding.KEPT.clear()
    features = encode_images(pyramid, pixels)
    encoding.KEPT.clear()
    cells = torch.cat(list(encoding.encode_cells(pyramid, pixels, batch_size=2)))
    assert cells.shape == (5, 8, pixels.shape[1] // 4, pixels.shape[1] // 4)
    monkeypatch.setattr(VisionCLIP, "get_pooled_features", None)  # nothing is encoded again
    assert torch.allclose(features, encode_images(pyramid, pixels), atol=1e-5)


def test_features_of_other_pixels_or_of_a_part_are_not_kept(pyramid, held_out):
    encoding.KEPT.clear()
    next(encoding.encode_cells(pyramid, held_out.pixels[:5], batch_size=2))
    larger = list(encoding.encode_cells(pyramid, held_out.pixels[:5], 2 * held_out.pixels.shape[1]))
    assert larger[0].shape[-1] == held_out.pixels.shape[1] // 2
    assert not encoding.KEPT


def test_a_model_without_pyramid_has_no_cells(untrained, held_out):
    with pytest.raises(ValueError, match="pyramid"):
        next(encoding.encode_cells(untrained[0], held_out.pixels[:2]))


def test_a_sentence_is_embedded_the_same_in_any_company(untrained, texts):
    sentences = [one.text for one in texts[:9]]
    together = encode_texts(*untrained, sentences)
    assert together.shape == (9, 16)
    apart = torch.cat([encode_texts(*untrained, [one]) for one in sentences])
    assert np.allclose(together, apart, atol=1e-5)
    assert torch.allclose(together, encode_texts(*untrained, sentences, batch_size=2), atol=1e-5)


def test_a_text_that_no_caption_resembles_is_warned_of_in_one_line(untrained, texts, caplog):
    encode_texts(*untrained, [one.text for one in texts[:9]])
    assert caplog.records == []
    embedded = encode_texts(*untrained, ["裂孔", "脱离"], batch_size=1)
    assert (embedded[0] - embedded[1]).abs().max() > 1e-3
    assert len(caplog.records) == 1
    assert "no training caption has 裂, 孔, 脱, 离;" in caplog.text
