import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from visionclip import conditions
from visionclip.data.labelled import LabelledImages
from visionclip.data.pairs import Pairs
from visionclip.evaluation.encoding import encode_texts
from visionclip.models import losses, visionclip
from visionclip.text import captions
from visionclip.text.tokenizer import train_tokenizer
from visionclip.training import contrastive, loop

SETTINGS = contrastive.Settings(
    updates=6,
    batch_size=8,
    learning_rate=1e-3,
    text_rate=0.5,
    text_warmup=3,
    weight_decay=0.1,
    warmup=0.2,
    augmentation=0.5,
    seed=3,
    checkpoint_every=3,
)


def made_pairs():
    rng = np.random.default_rng(0)
    eyes = conditions.balanced(24, rng)
    pixels = rng.integers(0, 256, (24, 32, 32, 3), np.uint8)
    table, texts_of = captions.table(eyes, ("zh", "en"), 2, rng)
    return Pairs(LabelledImages(pixels, eyes, ["phantom"] * 24, [str(i) for i in range(24)]), table, texts_of)


@pytest.fixture(scope="module")
def pairs():
    return made_pairs()


@pytest.fixture(scope="module")
def tokenizer(pairs, tmp_path_factory):
    return train_tokenizer([one.text for one in pairs.captions], tmp_path_factory.mktemp("words"))


def fresh(tokenizer, **given):
    torch.manual_seed(0)
    return visionclip.VisionCLIP(visionclip.sized(8, 1, 64, 16, len(tokenizer), **given))


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("loss", losses.OBJECTIVES)
def test_training_lowers_every_loss_and_never_passes_the_floor(pairs, tokenizer, tmp_path, loss):
    settings = replace(SETTINGS, updates=25, loss=loss, augmentation=0)
    network = fresh(tokenizer, logit_bias=loss == "sigmoid")
    log = contrastive.train(network, tokenizer, pairs, settings, tmp_path)
    gaps = [entry["loss"] - entry["floor"] for entry in log]
    assert np.mean(gaps[-5:]) < 0.8 * np.mean(gaps[:3])
    assert min(gaps) > 0
    assert all(entry["temperature"] >= 0.01 - 1e-6 for entry in log)


def test_the_sigmoid_starts_at_the_share_of_true_pairs(pairs, tokenizer):
    settings = replace(SETTINGS, updates=1, text_warmup=0, loss="sigmoid", learning_rate=1e-9)
    network = fresh(tokenizer, logit_bias=True)
    contrastive.train(network, tokenizer, pairs, settings, None)
    expected = captions.truth(pairs.images.conditions, pairs.captions).mean()
    assert torch.sigmoid(network.logit_bias).item() == pytest.approx(expected, rel=0.25)


def test_a_stopped_run_equals_an_uninterrupted_one(pairs, tokenizer, tmp_path, monkeypatch):
    whole, stopped = fresh(tokenizer), fresh(tokenizer)
    expected = contrastive.train(whole, tokenizer, pairs, SETTINGS, tmp_path / "whole")

    def interrupted(items, label, total=None):
        for done, item in enumerate(items):
            if done == 4:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr(loop, "progress", interrupted)
    with pytest.raises(KeyboardInterrupt):
        contrastive.train(stopped, tokenizer, pairs, SETTINGS, tmp_path / "stopped")
    monkeypatch.undo()
    resumed = fresh(tokenizer)
    assert contrastive.train(resumed, tokenizer, pairs, SETTINGS, tmp_path / "stopped") == expected
    assert same(whole, resumed)


@pytest.mark.parametrize("what", ["seed", "pixels", "caption", "loss", "start"])
def test_whatever_decides_the_result_starts_over_when_it_changes(pairs, tokenizer, tmp_path, what, monkeypatch):
    first = contrastive.train(fresh(tokenizer), tokenizer, pairs, SETTINGS, tmp_path)
    settings, network, given = SETTINGS, fresh(tokenizer), pairs
    if what == "seed":
        settings = replace(SETTINGS, seed=4)
    elif what == "pixels":  # under the same keys
        given = replace(pairs, images=replace(pairs.images, pixels=255 - pairs.images.pixels))
    elif what == "caption":
        given = replace(pairs, texts_of=[own[:1] for own in pairs.texts_of])
    elif what == "loss":
        monkeypatch.setattr(contrastive.keys, "code", lambda *_: "other code")
        monkeypatch.setitem(losses.OBJECTIVES, "multi_positive", losses.clip)
    else:
        network.vision_projection.weight.data.mul_(-1)
    second = contrastive.train(network, tokenizer, given, settings, tmp_path)
    assert first != second
    assert len(second) == SETTINGS.updates


def test_smaller_subsets_are_part_of_larger_ones(pairs):
    small, large = pairs.subset(5, 1), pairs.subset(10, 1)
    assert set(small.images.keys) < set(large.images.keys)
    assert small.texts_of == large.texts_of[:5]
    assert pairs.subset(5, 2).images.keys != small.images.keys
    with pytest.raises(ValueError, match="images: 25 requested"):
        pairs.subset(25, 0)


def test_positives_of_a_batch_are_the_truth(pairs):
    rows, texts = np.array([3, 9, 9, 20]), np.array([1, 5, 8, 13, 2])
    truth = captions.truth([pairs.images.conditions[row] for row in rows], [pairs.captions[text] for text in texts])
    assert np.array_equal(pairs.positives(rows, texts), truth)


def gradients(network, pairs, tokenizer, chunk, batch=16):
    """Of one update of ``batch`` images, without augmentation, by weight."""
    settings = replace(SETTINGS, updates=1, batch_size=batch, text_warmup=0, augmentation=0, chunk=chunk)
    taken = {}
    network.logit_scale.register_hook(lambda gradient: None)

    def keep(weights, _):
        taken.update({name: value.grad.clone() for name, value in network.named_parameters()})
        return torch.tensor(0.0)

    original, loop.nn.utils.clip_grad_norm_ = loop.nn.utils.clip_grad_norm_, keep
    try:
        (entry,) = contrastive.train(network, tokenizer, pairs, settings, None)
    finally:
        loop.nn.utils.clip_grad_norm_ = original
    return entry["loss"], taken


class Frozen(visionclip.VisionCLIP):
    """Batch normalisation as in inference: how a batch is cut into parts then changes nothing."""

    def train(self, mode=True):
        return super().train(False)


@pytest.mark.parametrize("chunk", [3, 4, 16])
def test_a_cached_batch_equals_a_plain_one(pairs, tokenizer, chunk):
    torch.manual_seed(0)
    config = visionclip.sized(8, 1, 64, 16, len(tokenizer))
    network = Frozen(config)
    plain_loss, plain = gradients(network, pairs, tokenizer, 0)
    torch.manual_seed(0)
    loss, cached = gradients(Frozen(config), pairs, tokenizer, chunk)
    assert loss == pytest.approx(plain_loss, abs=1e-5)
    for name, value in plain.items():
        torch.testing.assert_close(cached[name], value, atol=1e-5, rtol=1e-4, msg=name)


def test_a_cached_batch_counts_the_statistics_of_each_part_once(pairs, tokenizer):
    network = fresh(tokenizer)
    gradients(network, pairs, tokenizer, 4)
    alone = fresh(tokenizer).train()
    (norm, *_), (same_norm, *_) = (
        [layer for layer in one.modules() if isinstance(layer, torch.nn.BatchNorm2d)] for one in (network, alone)
    )
    before = norm.running_mean.clone()
    settings = replace(SETTINGS, updates=1, batch_size=16)
    rows = loop.Update(0, alone, settings, torch.device("cpu"), 0, 1).rows(len(pairs))
    pixels = contrastive.standardise(contrastive.to_tensor(pairs.images.pixels[rows]))
    for part in pixels.split(4):
        alone.get_image_features(part)
    torch.testing.assert_close(same_norm.running_mean, before)


def test_a_batch_of_4096_fits_in_the_memory_of_64(tokenizer, pairs):
    eyes = conditions.balanced(4096, np.random.default_rng(1))
    pixels = np.random.default_rng(2).integers(0, 256, (4096, 32, 32, 3), np.uint8)
    table, texts_of = captions.table(eyes, ("zh",), 1, np.random.default_rng(3))
    many = Pairs(LabelledImages(pixels, eyes, ["phantom"] * 4096, list(map(str, range(4096)))), table, texts_of)
    network, largest = fresh(tokenizer), []
    network.vision.register_forward_hook(lambda module, given, _: largest.append(len(given[0])))
    loss, taken = gradients(network, many, tokenizer, 64, batch=4096)
    assert max(largest) == 64
    assert np.isfinite(loss)
    assert taken["vision_projection.weight"].abs().sum() > 0


PROCESS = """
import json, sys
from dataclasses import replace
from pathlib import Path
import torch
from safetensors.torch import save_file
import test_contrastive as tests
from visionclip.models import visionclip
from visionclip.training import contrastive

folder, chunk = Path(sys.argv[1]), int(sys.argv[2])
pairs = tests.made_pairs()
tokenizer = tests.train_tokenizer([one.text for one in pairs.captions], folder / f"words-{sys.argv[3]}")
torch.manual_seed(0)
network = tests.Frozen(visionclip.sized(8, 1, 64, 16, len(tokenizer)))
log = contrastive.train(network, tokenizer, pairs, replace(tests.SETTINGS, updates=3, text_warmup=2, chunk=chunk), None)
if sys.argv[3] == "0":
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, folder / "weights")
    (folder / "log.json").write_text(json.dumps(log))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("world", "chunk"), [(2, 0), (4, 0), (2, 3)])
def test_several_processes_equal_one(pairs, tokenizer, tmp_path, world, chunk):
    """Three whole updates after two of the warm-up: gathered embeddings, mean gradients, clipping, the optimiser."""
    torch.manual_seed(0)
    alone = Frozen(visionclip.sized(8, 1, 64, 16, len(tokenizer)))
    expected = contrastive.train(alone, tokenizer, pairs, replace(SETTINGS, updates=3, text_warmup=2), None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "ACCELERATE_USE_CPU": "true"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    shared |= {"PYTHONPATH": str(Path(__file__).parent)}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(tmp_path), str(chunk), str(rank)],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(world)
    ]
    assert [worker.wait(180) for worker in workers] == [0] * world
    for one, other in zip(json.loads((tmp_path / "log.json").read_text()), expected, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    weights = load_file(tmp_path / "weights")
    for name, value in alone.state_dict().items():
        if name.endswith("key.bias"):  # attention doesn't see it: its gradient is rounding, which AdamW inflates
            continue
        torch.testing.assert_close(weights[name], value, atol=3e-5, rtol=0, msg=name)  # AdamW inflates rounding


def test_norms_biases_and_temperature_do_not_decay_and_towers_have_their_own_rates(tokenizer):
    network = fresh(tokenizer)
    groups = contrastive.parameter_groups(network, SETTINGS)
    place = {id(value): group for group in groups for value in group["params"]}
    assert len(place) == len(list(network.parameters()))
    assert place[id(network.logit_scale)]["weight_decay"] == 0
    assert place[id(network.vision_projection.weight)]["weight_decay"] == SETTINGS.weight_decay
    assert place[id(network.text_projection.weight)]["lr"] == SETTINGS.text_rate * SETTINGS.learning_rate
    assert place[id(network.vision_projection.weight)]["lr"] == SETTINGS.learning_rate


def test_the_text_warm_up_brings_captions_near_what_entails_them(pairs, tokenizer):
    network = fresh(tokenizer)
    tokens = dict(tokenizer([one.text for one in pairs.captions], padding=True, truncation=True, return_tensors="pt"))
    image_weights = network.vision_projection.weight.clone()

    def separation():
        embeds = encode_texts(network, tokenizer, [one.text for one in pairs.captions])
        equal = torch.tensor([[a.semantic_id == b.semantic_id for a in pairs.captions] for b in pairs.captions])
        cosine = embeds @ embeds.T
        return (cosine[equal].mean() - cosine[~equal].mean()).item()

    before = separation()
    contrastive.warm_up_text(network, tokens, pairs, replace(SETTINGS, text_warmup=60))
    assert separation() > before + 0.1
    assert torch.equal(image_weights, network.vision_projection.weight), "no image was seen"
    assert network.scale.item() == pytest.approx(1 / 0.07, rel=1e-5)
