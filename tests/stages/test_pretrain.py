"""What stage 03's parameters stand for, and training from few pixels to many."""

import numpy as np
import pytest
import torch

import tiny_images
from visionclip import runs
from visionclip.data import pairs
from visionclip.data.labelled import LabelledImages
from visionclip.models import visionclip
from visionclip.stages import pretrain
from visionclip.text.tokenizer import load_tokenizer, train_tokenizer, unknown_tokens
from visionclip.training import contrastive
from visionclip.training.contrastive import Settings


def test_settings_take_what_concerns_training_and_what_is_changed(study):
    parameters = study.pretrained
    settings = pretrain.settings(parameters, updates=7, seed=1)
    assert isinstance(settings, Settings)
    assert (settings.updates, settings.seed, settings.batch_size, settings.text_warmup) == (7, 1, 8, 2)
    assert settings.size == 24
    assert (pretrain.settings(parameters).seed, pretrain.settings(parameters).updates) == (3, 5)
    finest = pretrain.settings(parameters, size=32, updates=3)
    assert (finest.size, finest.updates, finest.condition_weight, finest.map_weight) == (32, 3, 1.0, 1.0)


def test_towers_follow_from_sizes_and_seed_alone(study):
    parameters = study.pretrained
    first = pretrain.network(parameters, 100, 0)
    torch.rand(1)
    assert tiny_images.same(first, pretrain.network(parameters, 100, 0))
    assert not tiny_images.same(first, pretrain.network(parameters, 100, 1))
    assert first.config.text_config.vocab_size == 100
    assert first.config.projection_size == 16
    assert first.config.pyramid_size == 8
    assert pretrain.network({**parameters, "pyramid_size": 0}, 100, 0).pyramid is None
    assert first.logit_bias is None
    assert pretrain.network({**parameters, "loss": "sigmoid"}, 100, 0).logit_bias is not None


@pytest.fixture
def given(study):
    """What stage 03 trains on: parameters, tokenizer and pairs."""
    folders = study.sources["synthesis"], study.sources["captions_folder"]
    parameters = study.pretrained
    return parameters, load_tokenizer(study.root / "02-captions" / "tokenizer"), pairs.load(*folders, "synthetic")


def trained(given, folder, **changed):
    parameters, words, training = given
    parameters = {**parameters, **changed}
    network = pretrain.network(parameters, len(words), 0)
    return network, pretrain.train(network, words, training, parameters, folder)


def test_training_goes_from_few_pixels_to_many_and_warms_the_text_up_once(given, tmp_path, monkeypatch):
    seen, warmed, warm_up = [], [], contrastive.warm_up_text
    vision = pretrain.visionclip.ResNetModel.forward

    def noted(self, pixels, *rest, **named):
        seen.append(pixels.shape[-1])
        return vision(self, pixels, *rest, **named)

    monkeypatch.setattr(pretrain.visionclip.ResNetModel, "forward", noted)
    monkeypatch.setattr(contrastive, "warm_up_text", lambda *one: warmed.append(1) or warm_up(*one))
    _, log = trained(given, tmp_path)
    assert seen == [24] * 5 + [32] * 3
    assert warmed == [1]
    assert len(log) == 8
    assert {"captions", "conditions", "maps", "floor", "temperature"} < log[-1].keys()
    assert all(np.isfinite(entry["loss"]) for entry in log)


def stop_at(monkeypatch, update):
    """Training is saved after every update and ended by hand before this one."""
    taken = []

    def interrupted(items, label, total=None):
        for item in items:
            if label == "pretrain" and len(taken) == update:
                raise KeyboardInterrupt
            taken.append(item) if label == "pretrain" else None
            yield item

    tiny_images.save_every_update(monkeypatch)
    monkeypatch.setattr(contrastive.loop, "progress", interrupted)


@pytest.mark.parametrize("stopped_at", [2, 6])
def test_a_run_stopped_at_either_size_ends_as_one_that_was_not(given, tmp_path, monkeypatch, stopped_at):
    whole, expected = trained(given, tmp_path / "whole")
    stop_at(monkeypatch, stopped_at)
    with pytest.raises(KeyboardInterrupt):
        trained(given, tmp_path / "stopped")
    numbers = tiny_images.watch(monkeypatch)
    network, log = trained(given, tmp_path / "stopped")
    assert log == expected
    assert tiny_images.same(network, whole)
    assert numbers == {2: [2, 3, 4, 0, 1, 2], 6: [1, 2]}[stopped_at]


def test_the_bias_of_the_sigmoid_goes_on_where_the_coarser_size_left_it(given, tmp_path, monkeypatch):
    biases, train = [], contrastive.loop.train

    def noted(network, *rest, **named):
        start = getattr(network, "logit_bias", None)
        start = None if start is None else start.item()
        log = train(network, *rest, **named)
        biases.append((start, network.logit_bias.item())) if start is not None else None
        return log

    monkeypatch.setattr(contrastive.loop, "train", noted)
    trained(given, tmp_path, loss="sigmoid")
    (first, reached), (start, _) = biases
    assert first != reached
    assert start == reached


@pytest.fixture
def own_model(study):
    """A saved model of other sizes and another vocabulary, in the folder of the stage."""
    words = train_tokenizer(["signs of glaucoma", "疑似青光眼"], study.root / "words")
    torch.manual_seed(7)
    model = visionclip.VisionCLIP(visionclip.sized(12, 1, 128, 8, len(words)))
    visionclip.save(model, words, 32, study.root / "own" / "model")
    return str(study.root / "own"), model, words


@pytest.mark.parametrize("lock", ["image", "text"])
def test_a_locked_tower_comes_from_its_folder_with_its_tokenizer_and_stays(given, tmp_path, own_model, lock):
    place, model, own = own_model
    parameters, words, training = given
    parameters = {**parameters, "tower": place, "lock": lock, "ema": 0.9}
    chosen = pretrain.words(parameters, words)
    assert (chosen.familiar == own.familiar) == (lock == "text")
    assert (chosen is words) == (lock == "image")
    network = pretrain.network(parameters, len(chosen), 0)
    start = pretrain.network(parameters, len(chosen), 0)
    assert tiny_images.same(network.towers[lock], model.towers[lock])
    other = {"image": "text", "text": "image"}[lock]
    log = pretrain.train(network, chosen, training, parameters, tmp_path / "run")
    assert len(log) == 8
    assert tiny_images.same(network.towers[lock], model.towers[lock])
    assert not tiny_images.same(network.towers[other], start.towers[other])
    visionclip.save(network, chosen, 32, tmp_path / "model")
    again, _, _ = visionclip.load(tmp_path / "model")
    assert tiny_images.same(again, network)
    assert again.locked == "none"
    assert again.config.scales == [0.5, 1.0]


@pytest.mark.parametrize("stopped_at", [2, 6])
@pytest.mark.parametrize("lock", ["image", "text"])
def test_a_run_with_a_locked_tower_that_stopped_goes_on(given, tmp_path, monkeypatch, own_model, lock, stopped_at):
    parameters, words, training = given
    changed = {"tower": own_model[0], "lock": lock, "ema": 0.9}
    given = parameters, pretrain.words({**parameters, **changed}, words), training
    whole, expected = trained(given, tmp_path / "whole", **changed)
    stop_at(monkeypatch, stopped_at)
    with pytest.raises(KeyboardInterrupt):
        trained(given, tmp_path / "stopped", **changed)
    numbers = tiny_images.watch(monkeypatch)
    network, log = trained(given, tmp_path / "stopped", **changed)
    assert log == expected
    assert tiny_images.same(network, whole)
    assert numbers[-1] == 2
    assert len(numbers) < 2 + 5 + 3


def test_towers_merely_start_from_a_folder_where_none_is_locked(given, tmp_path, own_model):
    place, model, own = own_model
    parameters, words, training = given
    parameters = {**parameters, "tower": place, "lock": "none"}
    network = pretrain.network(parameters, len(pretrain.words(parameters, words)), 0)
    assert all(tiny_images.same(network.towers[name], model.towers[name]) for name in ("image", "text"))
    assert network.config.projection_size == 16
    pretrain.train(network, own, training, parameters, tmp_path)
    assert not any(tiny_images.same(network.towers[name], model.towers[name]) for name in ("image", "text"))


def test_the_key_of_a_tower_follows_what_its_folder_holds(own_model):
    place, model, own = own_model
    none = pretrain.tower_key({})
    first = pretrain.tower_key({"tower": place, "lock": "image"})
    assert len({none, first, pretrain.tower_key({"tower": place, "lock": "text"})}) == 3
    assert none == pretrain.tower_key({"tower": "", "lock": "none"})
    model.vision_projection.weight.data.mul_(-1)
    visionclip.save(model, own, 32, runs.resolve(place) / "model")
    assert pretrain.tower_key({"tower": place, "lock": "image"}) != first


def test_shares_are_of_all_images():
    assert pretrain.shares(["phantom", "ddpm", "phantom", "phantom"]) == {"ddpm": 0.25, "phantom": 0.75}


EYES = [{"dr_grade": 2, "gc": 0, "eye_side": 1}, {"dr_grade": 0, "gc": 1, "eye_side": 0}, {"gc": 0}] * 4


def learnt(folder, monkeypatch, **changed):
    """The pairs that a model of photographs labelled in part is trained on, the model and its tokenizer."""
    seen, train = [], contrastive.train
    monkeypatch.setattr(contrastive, "train", lambda *given: seen.append(given[2]) or train(*given))
    pixels = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)
    images = LabelledImages(pixels, EYES, ["photograph"] * 12, [*map(str, range(12))])
    settings = Settings(updates=2, batch_size=8, learning_rate=1e-3, text_warmup=2, condition_weight=1.0)
    learner, words = pretrain.learn(images, pretrain.SMALL, settings, folder, ("en",), 3, **changed)
    return seen[0], learner, words


def test_images_alone_are_captioned_on_the_spot(tmp_path, monkeypatch):
    training, learner, words = learnt(tmp_path, monkeypatch)
    assert {caption.language for caption in training.captions} == {"en"}
    assert not learner.training
    for eye, texts in zip(EYES, training.texts_of, strict=True):
        assert len(set(texts)) == 3
        assert all(training.captions[text].facts.items() <= eye.items() for text in texts)
        assert not [text for text in texts if "eye_side" in training.captions[text].facts]
    assert not unknown_tokens(words, [caption.text for caption in training.captions])
    same = learnt(tmp_path / "again", monkeypatch)
    assert tiny_images.same(learner, same[1])
    assert same[0].captions == training.captions
    taken = tiny_images.watch(monkeypatch)
    assert tiny_images.same(learnt(tmp_path, monkeypatch)[1], learner)
    assert taken == []


def test_the_side_of_an_eye_has_a_caption_of_its_own_where_it_is_known(tmp_path, monkeypatch):
    training, *_ = learnt(tmp_path, monkeypatch, sides=True)
    for eye, texts in zip(EYES, training.texts_of, strict=True):
        *_, last = [training.captions[text].facts for text in texts]
        assert len(texts) == 4
        assert last == ({"eye_side": eye["eye_side"]} if "eye_side" in eye else {"gc": 0})
