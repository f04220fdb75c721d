"""Towers from folders: which one is taken, that it arrives whole, and what is refused before anything is read."""

import json

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertTokenizer,
    ResNetConfig,
    ResNetForImageClassification,
    ResNetModel,
)

from visionclip.models import towers, visionclip
from visionclip.text.tokenizer import train_tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "eye", "with", "without", "眼"]
RESNET = {"embedding_size": 6, "hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 2, 1], "layer_type": "basic"}


def stirred(network):
    """With batch statistics of some training, which tell a tower that is whole from its weights alone."""
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.uniform_(-1, 1)
            layer.running_var.uniform_(0.5, 1.5)
            layer.num_batches_tracked.fill_(7)
    return network


@pytest.fixture
def resnet(tmp_path):
    torch.manual_seed(1)
    whole = stirred(ResNetForImageClassification(ResNetConfig(**RESNET)))
    whole.save_pretrained(tmp_path / "resnet")
    return whole.resnet


@pytest.fixture
def bert(tmp_path):
    """As RoBERTa-wwm is published: a masked language model, with its tokenizer, and with dropout; here in 16 bits."""
    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=20, hidden_size=24, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=16
    )
    whole = BertForMaskedLM(config).to(torch.bfloat16)
    whole.save_pretrained(tmp_path / "bert")
    (tmp_path / "bert" / "vocab.txt").write_text("\n".join(WORDS))
    return whole.bert.float()


@pytest.fixture
def saved(tmp_path):
    """A saved VisionCLIP and its tokenizer, in the folder of a stage."""
    words = train_tokenizer(["signs of glaucoma", "no glaucoma"], tmp_path / "words")
    torch.manual_seed(3)
    network = stirred(visionclip.VisionCLIP(visionclip.sized(9, 1, 128, 8, len(words), pyramid_size=4)))
    visionclip.save(network, words, 32, tmp_path / "stage" / "model")
    return network, words


def sizes(vocabulary_size=9):
    return visionclip.sized(8, 1, 64, 16, vocabulary_size, pyramid_size=8)


def same(one, other):
    states = one.state_dict(), other.state_dict()
    assert states[0].keys() == states[1].keys()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_without_a_folder_both_are_random_and_of_the_sizes_given():
    torch.manual_seed(0)
    network = towers.model(sizes(), "")
    torch.manual_seed(0)
    assert same(network, visionclip.VisionCLIP(sizes()))
    assert towers.tokenizer("") is None


@pytest.mark.parametrize("lock", ["none", "image"])
def test_an_image_tower_arrives_whole_and_of_its_own_size(tmp_path, resnet, lock):
    network = towers.model(sizes(), str(tmp_path / "resnet"), lock)
    assert same(network.vision, resnet)
    assert network.config.vision_config.hidden_sizes == RESNET["hidden_sizes"]
    assert network.config.text_config.hidden_size == 64
    assert network.train(False).get_cells(torch.randn(1, 3, 32, 32)).shape == (1, 8, 8, 8)
    assert towers.tokenizer(str(tmp_path / "resnet"), lock) is None


def test_a_text_tower_arrives_whole_with_its_tokenizer_and_without_dropout(tmp_path, bert, caplog, capfd):
    place = str(tmp_path / "bert")
    words = towers.tokenizer(place)
    assert words(["眼 with eye"])["input_ids"] == [[2, 8, 6, 5, 3]]
    assert len(words(["eye " * 40], truncation=True)["input_ids"][0]) == 16
    network = towers.model(sizes(len(words)), place, "text")
    assert same(network.text, bert)
    assert {value.dtype for value in network.text.parameters()} == {torch.float32}
    assert not any(one.p for one in network.text.modules() if isinstance(one, torch.nn.Dropout))
    assert network.config.text_config.vocab_size == 20
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.parametrize(("lock", "images", "texts"), [("image", 1, 0), ("text", 0, 1), ("none", 1, 1)])
def test_of_a_saved_model_the_locked_tower_is_taken_or_both(tmp_path, saved, lock, images, texts):
    place, (model, words) = str(tmp_path / "stage"), saved
    own = towers.tokenizer(place, lock)
    assert (own is not None) == texts
    network = towers.model(sizes(len(own or WORDS)), place, lock)
    assert network.config.vision_config.embedding_size == (9 if images else 8)
    assert network.config.text_config.hidden_size == (128 if texts else 64)
    if images:
        assert same(network.vision, model.vision)
    if texts:
        assert same(network.text, model.text)
        assert own(["no glaucoma"])["input_ids"] == words(["no glaucoma"])["input_ids"]
    assert towers.taken(f"{place}/model", lock) == towers.taken(place, lock)


def test_what_was_trained_with_a_tower_of_another_library_is_saved_and_loaded(tmp_path, bert, resnet):
    words = towers.tokenizer(str(tmp_path / "bert"))
    network = towers.model(sizes(len(words)), str(tmp_path / "bert"))
    visionclip.save(network, words, 32, tmp_path / "model")
    again, tokens, _ = visionclip.load(tmp_path / "model")
    assert same(network, again)
    assert tokens(["眼 with eye"])["input_ids"] == words(["眼 with eye"])["input_ids"]


def change(folder, **changed):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def pickled(place):
    (place / "model.safetensors").rename(place / "pytorch_model.bin")


REFUSED = {
    "no folder": ("text", lambda place: place.rename(place.with_name("away")), "no such folder; give the folder of"),
    "no config": ("text", lambda place: (place / "config.json").unlink(), "no config.json there; give the folder of"),
    "another kind": ("none", lambda place: change(place, model_type="vit"), "its config.json has model_type 'vit'; "),
    "the other tower": ("image", lambda place: None, "it has no image tower, which lock names; lock text"),
    "pickle": ("text", pickled, "no safetensors there; write them with save_pretrained"),
    "no tokenizer": ("none", lambda place: (place / "vocab.txt").unlink(), "no tokenizer there (tokenizer.json or "),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_folder_that_has_no_such_tower_is_refused_in_one_line(tmp_path, bert, what):
    lock, spoil, words = REFUSED[what]
    spoil(tmp_path / "bert")
    for use in (towers.taken, towers.tokenizer, towers.digest, lambda *given: towers.model(sizes(), *given)):
        with pytest.raises(ValueError, match=r"^tower is ") as caught:
            use(str(tmp_path / "bert"), lock)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_lock_needs_a_tower():
    with pytest.raises(ValueError, match="lock is 'text'; give tower, the folder that"):
        towers.taken("", "text")


@pytest.mark.parametrize("changed", [{"num_channels": 1}, {"downsample_in_first_stage": True}])
def test_images_of_other_channels_or_cells_are_refused(tmp_path, changed):
    ResNetModel(ResNetConfig(**RESNET, **changed)).save_pretrained(tmp_path / "resnet")
    with pytest.raises(ValueError, match="its ResNet must take 3 channels and not shrink in its first stage"):
        towers.taken(str(tmp_path / "resnet"))


def test_weights_of_another_model_are_refused(tmp_path, resnet):
    change(tmp_path / "resnet", depths=[1, 1, 2, 2])
    with pytest.raises(ValueError, match=r"its weights lack \S+ and \d+ more that its config has"):
        towers.model(sizes(), str(tmp_path / "resnet"))


def test_a_tokenizer_of_more_tokens_than_the_tower_has_is_refused(tmp_path, bert):
    with pytest.raises(ValueError, match="its text tower has 20 tokens, its tokenizer 21"):
        towers.model(sizes(21), str(tmp_path / "bert"))


def test_the_digest_is_of_what_is_read(tmp_path, bert):
    place = str(tmp_path / "bert")
    first = towers.digest(place)
    assert first != towers.digest("") != towers.digest(place, "text") != first
    (tmp_path / "bert" / "README.md").write_text("notes")
    assert towers.digest(place) == first
    (tmp_path / "bert" / "vocab.txt").write_text("\n".join([*WORDS, "of"]))
    assert towers.digest(place) != first


def test_the_text_tower_s_tokenizer_is_transformers_own(tmp_path, bert):
    assert isinstance(towers.tokenizer(str(tmp_path / "bert")), BertTokenizer)
