from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing

from visionclip import conditions
from visionclip.data.shards import Images
from visionclip.models import visionclip
from visionclip.text import captions
from visionclip.training import contrastive

SETTINGS = contrastive.Settings(
    updates=6,
    batch_size=8,
    learning_rate=1e-3,
    text_rate=0.5,
    text_warmup=3,
    weight_decay=0.1,
    warmup=0.2,
    loss="multi_positive",
    augmentation=0.5,
    precision="no",
    seed=3,
    checkpoint_every=3,
)


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    eyes = conditions.balanced(24, rng)
    pixels = rng.integers(0, 256, (24, 32, 32, 3), np.uint8)
    table, texts_of = captions.table(eyes, ("zh", "en"), 2, rng)
    return contrastive.Pairs(Images(pixels, eyes, ["phantom"] * 24, [str(i) for i in range(24)]), table, texts_of)


@pytest.fixture(scope="module")
def tokenizer(pairs, tmp_path_factory):
    return captions.train_tokenizer([one.text for one in pairs.captions], tmp_path_factory.mktemp("words"))


def fresh(tokenizer):
    torch.manual_seed(0)
    return visionclip.VisionCLIP(visionclip.sized(8, 1, 64, 16, len(tokenizer)))


@pytest.mark.parametrize("loss", ["clip", "multi_positive"])
def test_training_lowers_the_loss_and_never_passes_the_floor(pairs, tokenizer, tmp_path, loss):
    settings = replace(SETTINGS, updates=25, loss=loss, augmentation=0)
    history = contrastive.train(fresh(tokenizer), tokenizer, pairs, settings, tmp_path)
    gaps = [entry["loss"] - entry["floor"] for entry in history]
    assert np.mean(gaps[-5:]) < 0.8 * np.mean(gaps[:3])
    assert min(gaps) > 0
    assert all(entry["temperature"] >= 0.01 - 1e-6 for entry in history)


def test_a_resumed_run_equals_an_uninterrupted_one(pairs, tokenizer, tmp_path, monkeypatch):
    whole, resumed = fresh(tokenizer), fresh(tokenizer)
    expected = contrastive.train(whole, tokenizer, pairs, SETTINGS, tmp_path / "whole")

    def interrupted(items, label, total=None):
        for done, item in enumerate(items):
            if done == 4:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr(contrastive, "progress", interrupted)
    with pytest.raises(KeyboardInterrupt):
        contrastive.train(resumed, tokenizer, pairs, SETTINGS, tmp_path / "resumed")
    monkeypatch.undo()
    resumed = fresh(tokenizer)
    assert contrastive.train(resumed, tokenizer, pairs, SETTINGS, tmp_path / "resumed") == expected
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )


def test_a_changed_setting_starts_over(pairs, tokenizer, tmp_path):
    first = contrastive.train(fresh(tokenizer), tokenizer, pairs, SETTINGS, tmp_path)
    second = contrastive.train(fresh(tokenizer), tokenizer, pairs, replace(SETTINGS, seed=4), tmp_path)
    assert first != second
    assert len(second) == SETTINGS.updates


def test_other_pixels_under_the_same_keys_start_over(pairs, tokenizer, tmp_path):
    first = contrastive.train(fresh(tokenizer), tokenizer, pairs, SETTINGS, tmp_path)
    changed = replace(pairs, images=replace(pairs.images, pixels=255 - pairs.images.pixels))
    assert contrastive.train(fresh(tokenizer), tokenizer, changed, SETTINGS, tmp_path) != first


def test_smaller_subsets_are_part_of_larger_ones(pairs):
    small, large = pairs.subset(5, 1), pairs.subset(10, 1)
    assert set(small.images.keys) < set(large.images.keys)
    assert small.texts_of == large.texts_of[:5]
    assert pairs.subset(5, 2).images.keys != small.images.keys
    with pytest.raises(ValueError, match="images: 25 asked for"):
        pairs.subset(25, 0)


def gradients_of_half_a_batch(rank, pixels, tokens, words, queue):
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True) if rank == 0 else None
    if rank == 0:
        queue.put(store.port)
    else:
        store = distributed.TCPStore("127.0.0.1", queue.get(), is_master=False)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    torch.manual_seed(0)
    network = torch.nn.parallel.DistributedDataParallel(
        visionclip.VisionCLIP(visionclip.sized(8, 1, 64, 16, words)).train(False)
    )
    step(network, network.module, pixels, tokens, rank, 2)
    if rank == 0:
        queue.put({name: value.grad.numpy() for name, value in network.module.named_parameters()})
    distributed.barrier()
    distributed.destroy_process_group()


def step(network, inner, pixels, tokens, rank, world):
    from visionclip.models import losses

    images, texts = contrastive.embed(network, pixels, tokens, rank, world)
    positives = torch.eye(5)[[0, 1, 2, 3, 4, 0, 1, 2]]
    losses.multi_positive_loss(images, texts, inner.scale, positives).backward()


def test_two_processes_equal_one_with_the_whole_batch():
    """Embeddings are gathered with gradients; five distinct captions are an odd number for two processes."""
    words, source = 50, torch.Generator().manual_seed(1)
    pixels = torch.randn(8, 3, 32, 32, generator=source)
    ids = torch.randint(5, words, (5, 7), generator=source)
    tokens = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    torch.manual_seed(0)
    alone = visionclip.VisionCLIP(visionclip.sized(8, 1, 64, 16, words)).train(False)
    step(alone, alone, pixels, tokens, 0, 1)

    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [
        context.Process(target=gradients_of_half_a_batch, args=(rank, pixels, tokens, words, queue)) for rank in (0, 1)
    ]
    for worker in workers:
        worker.start()
    for worker in workers[1:]:
        worker.join(60)
    together = queue.get(timeout=60)
    workers[0].join(60)
    for name, value in alone.named_parameters():
        assert np.allclose(together[name], value.grad.numpy(), atol=1e-5), name


def test_retrieval_counts_any_true_caption_and_knows_chance():
    images, texts = torch.eye(4), torch.eye(4)
    positives = np.eye(4, dtype=bool)
    perfect = contrastive.retrieval(images, texts, positives)
    assert perfect["image to text"]["R@1"] == {"value": 1.0, "chance": 0.25}
    wrong = contrastive.retrieval(images, texts, np.roll(positives, 1, axis=1))
    assert wrong["text to image"]["R@1"]["value"] == 0
    several = contrastive.retrieval(images, texts, np.ones((4, 4), bool))
    assert several["image to text"]["R@1"]["chance"] == 1


def test_a_collapsed_text_tower_fails_the_run(pairs):
    different = list({caption.semantic_id: caption for caption in pairs.captions}.values())[:6]
    same = torch.nn.functional.normalize(torch.ones(6, 8) + 1e-3 * torch.randn(6, 8), dim=1)
    assert contrastive.text_spread(torch.eye(6), different) == pytest.approx(0)
    with pytest.raises(RuntimeError, match="text tower collapsed"):
        contrastive.refuse_collapse(contrastive.text_spread(same, different))
    contrastive.refuse_collapse(0.5)


def test_norms_biases_and_temperature_do_not_decay_and_towers_have_their_own_rates(tokenizer):
    network = fresh(tokenizer)
    groups = contrastive.parameter_groups(network, SETTINGS)
    place = {id(value): group for group in groups for value in group["params"]}
    assert len(place) == len(list(network.parameters()))
    assert place[id(network.logit_scale)]["weight_decay"] == 0
    assert place[id(network.vision_projection.weight)]["weight_decay"] == SETTINGS.weight_decay
    assert place[id(network.text_projection.weight)]["peak"] == SETTINGS.text_rate * SETTINGS.learning_rate
    assert place[id(network.vision_projection.weight)]["peak"] == SETTINGS.learning_rate


def test_the_rate_rises_to_its_peak_and_falls_to_zero():
    optimizer = torch.optim.AdamW([{"params": [torch.nn.Parameter(torch.ones(1))], "peak": 2.0}])
    rates = []
    for done in range(100):
        contrastive.set_rate(optimizer, done, 100, 0.1)
        rates.append(optimizer.param_groups[0]["lr"])
    assert max(rates) == pytest.approx(2.0)
    assert rates[0] == pytest.approx(0.2)
    assert rates[-1] < 0.001
    assert rates[9:] == sorted(rates[9:], reverse=True)


def test_the_text_warm_up_brings_captions_near_what_entails_them(pairs, tokenizer):
    network = fresh(tokenizer)
    tokens = tokenizer([one.text for one in pairs.captions], padding=True, truncation=True, return_tensors="pt")
    image_weights = network.vision_projection.weight.clone()

    def separation():
        embeds = contrastive.encode_texts(network, tokenizer, [one.text for one in pairs.captions])
        same = torch.tensor([[a.semantic_id == b.semantic_id for a in pairs.captions] for b in pairs.captions])
        cosine = embeds @ embeds.T
        return (cosine[same].mean() - cosine[~same].mean()).item()

    before = separation()
    contrastive.warm_up_text(network, tokens, pairs, replace(SETTINGS, text_warmup=60))
    assert separation() > before + 0.1
    assert torch.equal(image_weights, network.vision_projection.weight), "no image was seen"
    assert network.scale.item() == pytest.approx(1 / 0.07, rel=1e-5)
