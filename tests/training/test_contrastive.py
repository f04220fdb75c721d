import functools
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
from sklearn.metrics import roc_auc_score

from visionclip import conditions
from visionclip.data.images import standardise, to_tensor
from visionclip.data.labelled import LabelledImages
from visionclip.data.pairs import Pairs
from visionclip.evaluation.encoding import encode_texts
from visionclip.models import losses, visionclip
from visionclip.text import captions
from visionclip.text.tokenizer import train_tokenizer
from visionclip.training import contrastive, loop
from visionclip.training.bank import of_pairs

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


WITH_MAPS = replace(SETTINGS, condition_weight=2.0, map_weight=1.0)


def made_pairs(with_maps=False):
    """Noise; ``with_maps`` of two findings, which two thirds of the images have, most of them of the first ones."""
    rng = np.random.default_rng(0)
    eyes = conditions.balanced(24, rng)
    pixels = rng.integers(0, 256, (24, 32, 32, 3), np.uint8)
    table, texts_of = captions.table(eyes, ("zh", "en"), 2, rng)
    images = LabelledImages(pixels, eyes, ["phantom"] * 24, [str(i) for i in range(24)])
    if with_maps:
        marked = rng.random(24) < np.linspace(1, 0.3, 24)
        masks = rng.integers(0, 256, (24, 2, 8, 8), np.uint8) * marked[:, None, None, None]
        images = replace(images, masks=masks, mask_names=("exudate", "disc"), marked=marked)
    return Pairs(images, table, texts_of)


@pytest.fixture(scope="module")
def pairs():
    return made_pairs()


@pytest.fixture(scope="module")
def with_maps():
    return made_pairs(with_maps=True)


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


def test_parts_that_nothing_is_known_for_are_left_out(pairs, with_maps, tokenizer):
    """Maps need a pyramid and masks, conditions a weight and captions that state them."""

    def logged(given, pyramid_size, **changed):
        settings = replace(WITH_MAPS, updates=1, text_warmup=0, **changed)
        (entry,) = contrastive.train(fresh(tokenizer, pyramid_size=pyramid_size), tokenizer, given, settings, None)
        return entry

    always = {"loss", "captions", "floor", "temperature"}
    whole = logged(with_maps, 8)
    assert whole.keys() == always | {"conditions", "maps"}
    assert whole["loss"] == pytest.approx(whole["captions"] + 2 * whole["conditions"] + whole["maps"], rel=1e-5)
    assert logged(with_maps, 0).keys() == logged(pairs, 8).keys() == always | {"conditions"}
    assert logged(with_maps, 8, condition_weight=0).keys() == always | {"maps"}
    of_several = [[text for text in own if len(pairs.captions[text].facts) > 1] for own in pairs.texts_of]
    rows = [row for row, own in enumerate(of_several) if own]
    places = sorted({text for own in of_several for text in own})
    texts_of = [[places.index(text) for text in of_several[row]] for row in rows]
    full = Pairs(pairs.images.take(rows), [pairs.captions[place] for place in places], texts_of)
    assert logged(full, 8).keys() == always


def test_images_are_seen_at_the_size_that_is_set_and_masks_at_that_of_the_cells(with_maps, tokenizer):
    losses_at = {}
    for size in (0, 32, 48, 20):
        network, seen = fresh(tokenizer, pyramid_size=8), []
        network.pyramid.register_forward_hook(lambda *given, seen=seen: seen.append(given[2].shape[-1]))
        settings = replace(WITH_MAPS, updates=1, text_warmup=0, size=size)
        (losses_at[size],) = contrastive.train(network, tokenizer, with_maps, settings, None)
        assert seen == [(size or 32) // 4]
    assert losses_at[0] == losses_at[32]
    assert len({entry["maps"] for entry in losses_at.values()}) == 3


def test_the_sigmoid_starts_at_the_share_of_true_pairs(pairs, tokenizer):
    settings = replace(SETTINGS, updates=1, text_warmup=0, loss="sigmoid", learning_rate=1e-9)
    network = fresh(tokenizer, logit_bias=True)
    contrastive.train(network, tokenizer, pairs, settings, None)
    expected = captions.truth(pairs.images.conditions, pairs.captions).mean()
    assert torch.sigmoid(network.logit_bias).item() == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize(("pyramid_size", "lock"), [(0, "none"), (8, "none"), (8, "image"), (0, "text")])
def test_a_stopped_run_equals_an_uninterrupted_one(with_maps, tokenizer, tmp_path, monkeypatch, pyramid_size, lock):
    whole, stopped, resumed = (fresh(tokenizer, pyramid_size=pyramid_size) for _ in range(3))
    settings = replace(WITH_MAPS if pyramid_size else SETTINGS, lock=lock, ema=0.9 if lock != "none" else 0)
    expected = contrastive.train(whole, tokenizer, with_maps, settings, tmp_path / "whole")
    assert ("maps" in expected[0]) == ("conditions" in expected[0]) == bool(pyramid_size)

    def interrupted(items, label, total=None):
        for done, item in enumerate(items):
            if done == 4:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr(loop, "progress", interrupted)
    with pytest.raises(KeyboardInterrupt):
        contrastive.train(stopped, tokenizer, with_maps, settings, tmp_path / "stopped")
    monkeypatch.undo()
    assert contrastive.train(resumed, tokenizer, with_maps, settings, tmp_path / "stopped") == expected
    assert same(whole, resumed)


@pytest.mark.parametrize("what", ["seed", "pixels", "caption", "loss", "start", "lock", "tower"])
def test_whatever_decides_the_result_starts_over_when_it_changes(pairs, tokenizer, tmp_path, what, monkeypatch):
    first = contrastive.train(fresh(tokenizer), tokenizer, pairs, SETTINGS, tmp_path)
    settings, network, given = SETTINGS, fresh(tokenizer), pairs
    if what == "seed":
        settings = replace(SETTINGS, seed=4)
    elif what == "lock":
        settings = replace(SETTINGS, lock="image")
    elif what == "tower":
        next(network.vision.parameters()).data.mul_(-1)
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


def gradients(network, pairs, tokenizer, chunk, batch=16, settings=SETTINGS):
    """Of one update of ``batch`` images, without augmentation, by weight."""
    settings = replace(settings, updates=1, batch_size=batch, text_warmup=0, augmentation=0, chunk=chunk)
    taken = {}
    network.logit_scale.register_hook(lambda gradient: None)

    def keep(weights, _):
        taken.update({name: value.grad.clone() for name, value in network.named_parameters() if value.grad is not None})
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


@pytest.mark.parametrize(("chunk", "pyramid_size"), [(3, 0), (4, 0), (16, 0), (3, 8), (16, 8)])
def test_a_cached_batch_equals_a_plain_one(with_maps, tokenizer, chunk, pyramid_size):
    config = visionclip.sized(8, 1, 64, 16, len(tokenizer), pyramid_size=pyramid_size)
    settings = WITH_MAPS if pyramid_size else SETTINGS
    torch.manual_seed(0)
    plain_loss, plain = gradients(Frozen(config), with_maps, tokenizer, 0, settings=settings)
    torch.manual_seed(0)
    loss, cached = gradients(Frozen(config), with_maps, tokenizer, chunk, settings=settings)
    assert loss == pytest.approx(plain_loss, abs=1e-5)
    assert cached.keys() == plain.keys()
    assert ("cell_projection.weight" in plain) == bool(pyramid_size)
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
    pixels = standardise(to_tensor(pairs.images.pixels[rows]))
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


# Adam divides a gradient by its own size, which makes a whole step of rounding; by no less than this it does not.
STEADY = functools.partial(torch.optim.AdamW, eps=1e-3)
PROCESS = """
import json, sys
from dataclasses import replace
from pathlib import Path
import torch
from safetensors.torch import save_file
import test_contrastive as tests
from visionclip.models import visionclip
from visionclip.training import contrastive

folder, chunk, pyramid_size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[4])
pairs = tests.made_pairs(with_maps=True)
tokenizer = tests.train_tokenizer([one.text for one in pairs.captions], folder / f"words-{sys.argv[3]}")
torch.optim.AdamW = tests.STEADY
torch.manual_seed(0)
network = tests.Frozen(visionclip.sized(8, 1, 64, 16, len(tokenizer), pyramid_size=pyramid_size))
settings = tests.WITH_MAPS if pyramid_size else tests.SETTINGS
settings = replace(settings, updates=3, text_warmup=2, chunk=chunk)
log = contrastive.train(network, tokenizer, pairs, settings, None)
if sys.argv[3] == "0":
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, folder / "weights")
    (folder / "log.json").write_text(json.dumps(log))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("world", "chunk", "pyramid_size"), [(4, 0, 8), (2, 3, 8)])
def test_several_processes_equal_one(with_maps, tokenizer, tmp_path, monkeypatch, world, chunk, pyramid_size):
    """Three whole updates after two of the warm-up: gathered embeddings, mean gradients, clipping, the optimiser."""
    monkeypatch.setattr(torch.optim, "AdamW", STEADY)
    torch.manual_seed(0)
    alone = Frozen(visionclip.sized(8, 1, 64, 16, len(tokenizer), pyramid_size=pyramid_size))
    settings = replace(WITH_MAPS if pyramid_size else SETTINGS, updates=3, text_warmup=2)
    expected = contrastive.train(alone, tokenizer, with_maps, settings, None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "ACCELERATE_USE_CPU": "true"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    shared |= {"PYTHONPATH": str(Path(__file__).parent)}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(tmp_path), str(chunk), str(rank), str(pyramid_size)],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(world)
    ]
    assert [worker.wait(180) for worker in workers] == [0] * world
    for one, other in zip(json.loads((tmp_path / "log.json").read_text()), expected, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    weights = load_file(tmp_path / "weights")
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(weights[name], value, atol=1e-6, rtol=0, msg=name)


def spotted(count, seed):
    """Grey eyes, every other one with glaucoma: a light band above. In most a light square stands for exudates and a
    dark one for haemorrhages, each on a cell of its own; a quarter of the eyes is not marked."""
    rng = np.random.default_rng(seed)
    eyes = [conditions.complete({"gc": place % 2}) for place in range(count)]
    pixels = rng.integers(100, 140, (count, 32, 32, 3), np.uint8)
    pixels[1::2, :6] += 60
    masks, marked = np.zeros((count, 2, 8, 8), np.uint8), rng.random(count) < 0.75
    for place in range(count):
        for channel, value in enumerate((250, 20)):
            row, column = rng.integers([2, 4 * channel], [7, 4 * channel + 3])
            pixels[place, 4 * row : 4 * row + 8, 4 * column : 4 * column + 8] = value
            masks[place, channel, row : row + 2, column : column + 2] = 255 * marked[place]
    table, texts_of = captions.table(eyes, ("en",), 6, rng)
    images = LabelledImages(pixels, eyes, ["phantom"] * count, list(map(str, range(count))), [], masks)
    return Pairs(replace(images, mask_names=("exudate", "haemorrhage"), marked=marked), table, texts_of)


UNSEEN = "findings: hard exudates visible.", "findings: haemorrhages visible."  # nowhere in training


def test_a_sentence_points_and_a_condition_is_stated_after_a_few_updates(tmp_path):
    training, held_out = spotted(96, 0), spotted(60, 1)
    words = train_tokenizer([one.text for one in training.captions], tmp_path / "words")
    network = fresh(words, pyramid_size=16)
    settings = replace(WITH_MAPS, updates=80, batch_size=16, learning_rate=4e-3, text_warmup=20, augmentation=0)
    log = contrastive.train(network, words, training, settings, None)
    for name in ("conditions", "maps"):
        assert np.mean([entry[name] for entry in log[-5:]]) < 0.7 * np.mean([entry[name] for entry in log[:5]])
    texts = encode_texts(network, words, [*UNSEEN, "signs of glaucoma", "no glaucoma"])
    assert not set(UNSEEN) & {*of_pairs(training).texts, *(one.text for one in training.captions)}
    pixels = standardise(to_tensor(held_out.images.pixels))
    with torch.no_grad():
        maps = network.maps(network.get_cells(pixels), texts[:2])[held_out.images.marked].numpy()
        cosines = (network.get_image_features(pixels) @ texts[2:].T).numpy()
    shown = held_out.images.masks[held_out.images.marked] > 0
    either = shown[:, 0] ^ shown[:, 1]
    for channel in range(2):
        assert roc_auc_score(shown[:, channel].ravel(), maps[:, channel].ravel()) > 0.9
        among_both = roc_auc_score(shown[:, channel][either], maps[:, channel][either])
        assert among_both > 0.8, "of two findings it is the one that is named"
    has = [eye["gc"] for eye in held_out.images.conditions]
    assert roc_auc_score(has, cosines[:, 0] - cosines[:, 1]) > 0.9


def test_norms_biases_and_temperature_do_not_decay_and_towers_have_their_own_rates(tokenizer):
    network = fresh(tokenizer)
    groups = contrastive.parameter_groups(network, SETTINGS)
    place = {id(value): group for group in groups for value in group["params"]}
    assert len(place) == len(list(network.parameters()))
    assert place[id(network.logit_scale)]["weight_decay"] == 0
    assert place[id(network.vision_projection.weight)]["weight_decay"] == SETTINGS.weight_decay
    assert place[id(network.text_projection.weight)]["lr"] == SETTINGS.text_rate * SETTINGS.learning_rate
    assert place[id(network.vision_projection.weight)]["lr"] == SETTINGS.learning_rate


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def moved(module, before):
    """The tensors, statistics and counts too, that are not to the bit what they were."""
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("ema", [0, 0.9])
@pytest.mark.parametrize("chunk", [0, 4])
@pytest.mark.parametrize(("lock", "pyramid_size"), [("image", 0), ("image", 8), ("text", 8)])
def test_a_locked_tower_stays_and_all_else_learns(with_maps, tokenizer, lock, pyramid_size, chunk, ema):
    network = fresh(tokenizer, pyramid_size=pyramid_size)
    for layer in network.vision.modules():  # statistics of some training
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.weight.data.fill_(0.5)  # as the blocks start as identity
            layer.running_mean.normal_()
            layer.num_batches_tracked.fill_(41)
    modes = []
    network.towers[lock].register_forward_hook(lambda module, *_: modes.append(module.training))
    tower, before = state(network.towers[lock]), state(network)
    settings = replace(WITH_MAPS, updates=4, lock=lock, ema=ema, chunk=chunk, learning_rate=1e-2)
    log = contrastive.train(network, tokenizer, with_maps, settings, None)
    assert ("maps" in log[0]) == bool(pyramid_size)
    assert moved(network.towers[lock], tower) == set()
    assert not any(modes[modes.index(False) :])
    name = {"image": "vision", "text": "text"}[lock]
    learnt = moved(network, before)
    weights = {one for one, _ in network.named_parameters() if not one.startswith(f"{name}.")}
    idle = {f"text.embeddings.{one}.weight" for one in ("position_embeddings", "token_type_embeddings")}
    assert weights - idle <= learnt
    assert any("running_mean" in one for one in learnt) == (lock == "text" or bool(pyramid_size))


def test_a_tower_that_is_not_locked_any_more_learns_again(pairs, tokenizer):
    network = fresh(tokenizer)
    contrastive.train(network, tokenizer, pairs, replace(SETTINGS, updates=1, lock="image"), None)
    before = state(network.vision)
    contrastive.train(network, tokenizer, pairs, replace(SETTINGS, updates=1), None)
    assert {"embedder.embedder.convolution.weight", "embedder.embedder.normalization.running_mean"} < moved(
        network.vision, before
    )


def test_a_locked_text_tower_s_projection_is_warmed_up_alone(pairs, tokenizer):
    network = fresh(tokenizer)
    network.lock("text")
    tower, before = state(network.text), state(network)
    tokens = dict(tokenizer([one.text for one in pairs.captions], padding=True, truncation=True, return_tensors="pt"))
    log = contrastive.warm_up_text(network, tokens, pairs, replace(SETTINGS, text_warmup=40))
    assert moved(network.text, tower) == set()
    assert moved(network, before) == {"text_projection.weight"}
    assert np.mean([one["loss"] for one in log[-5:]]) < np.mean([one["loss"] for one in log[:5]])


def test_an_unknown_lock_is_refused(pairs, tokenizer):
    with pytest.raises(ValueError, match="lock: 'both' is not known; choose from none, image, text"):
        contrastive.train(fresh(tokenizer), tokenizer, pairs, replace(SETTINGS, lock="both"), None)


def test_words_of_the_captions_count_as_seen_by_a_tokenizer_of_elsewhere(pairs, tmp_path, caplog):
    words = train_tokenizer(["signs of glaucoma"], tmp_path / "words")
    network = fresh(words)
    before = encode_texts(network, words, ["macular edema"])
    assert "macular" in caplog.text
    caplog.clear()
    words.warned.clear()
    english = [place for place, one in enumerate(pairs.captions) if one.language == "en"]
    texts_of = [[english.index(text) for text in own if text in english] for own in pairs.texts_of]
    rows = [row for row, own in enumerate(texts_of) if own]
    table = [replace(pairs.captions[one], text_id=at) for at, one in enumerate(english)]
    given = Pairs(pairs.images.take(rows), table, [texts_of[row] for row in rows])
    contrastive.train(network, words, given, replace(SETTINGS, updates=1, text_warmup=0), None)
    assert "macular" not in caplog.text
    assert not torch.equal(encode_texts(network, words, ["macular edema"]), before)


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
