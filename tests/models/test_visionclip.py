import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BertTokenizer, pipeline

from visionclip.data import images
from visionclip.models import visionclip

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "eye", "with", "without"]


@pytest.fixture
def tokenizer(tmp_path):
    (tmp_path / "words").mkdir()
    path = tmp_path / "words" / "vocab.txt"
    path.write_text("\n".join(WORDS))
    return BertTokenizer(vocab=str(path), model_max_length=52)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return visionclip.VisionCLIP(visionclip.sized(8, 1, 64, 16, len(WORDS))).train(False)


@pytest.fixture
def photograph():
    rng = np.random.default_rng(0)
    picture = rng.integers(40, 200, (90, 120, 3), np.uint8)
    picture[:, :10] = picture[:, -10:] = 0
    return picture


def test_the_paper_s_sizes_are_resnet50_and_roberta_base():
    with torch.device("meta"):
        network = visionclip.VisionCLIP(visionclip.sized(64, 12, 768, 1024, 21128))
    assert network.vision.num_parameters() == 23_508_032, "ResNet-50 without its classifier"
    assert 141e6 * 0.85 < network.num_parameters() < 141e6 * 1.15, "about 141 M weights in all"
    assert network.config.vision_config.depths == [3, 4, 6, 3]


def test_embeddings_have_unit_length_and_logits_are_scaled_cosines(network):
    ids = torch.tensor([[2, 5, 3], [2, 6, 3]])
    output = network(torch.randn(3, 3, 32, 32), ids, torch.ones_like(ids))
    assert torch.allclose(output.image_embeds.norm(dim=1), torch.ones(3), atol=1e-5)
    assert output.logits_per_image.shape == (3, 2)
    expected = output.image_embeds @ output.text_embeds.T / 0.07
    assert torch.allclose(output.logits_per_image, expected, atol=1e-4)
    assert torch.equal(output.logits_per_text, output.logits_per_image.T)


def test_the_temperature_is_clamped(network):
    with torch.no_grad():
        network.logit_scale.fill_(50)
    assert network.scale.item() == pytest.approx(100)


def test_a_saved_folder_gives_the_same_embeddings_and_holds_no_pickle(network, tokenizer, photograph, tmp_path):
    visionclip.save(network, tokenizer, 32, tmp_path / "model")
    loaded, words, processor = visionclip.load(tmp_path / "model")
    assert not [path.name for path in (tmp_path / "model").iterdir() if path.suffix in (".bin", ".pt", ".pkl")]
    pixels = processor(photograph, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        # not to the bit: weights mapped from a file may lie otherwise in memory, and kernels differ by alignment
        assert torch.allclose(loaded.get_image_features(pixels), network.get_image_features(pixels), atol=1e-5)
    assert words("eye with a").input_ids == tokenizer("eye with a").input_ids


def test_the_processor_is_the_preprocessing_of_training(photograph):
    processor = visionclip.VisionCLIPImageProcessor(size=48)
    given = processor([Image.fromarray(photograph)] * 2, return_tensors="pt")["pixel_values"]
    prepared = images.to_tensor(images.prepare(photograph, 48)[None])
    assert torch.equal(given[1:], images.standardise(prepared))


def test_the_folder_runs_in_the_zero_shot_pipeline(network, tokenizer, photograph, tmp_path):
    visionclip.save(network, tokenizer, 32, tmp_path / "model")
    classify = pipeline("zero-shot-image-classification", model=str(tmp_path / "model"))
    answers = classify(
        Image.fromarray(photograph), candidate_labels=["with a", "without a"], hypothesis_template="eye {}"
    )
    assert {answer["label"] for answer in answers} == {"with a", "without a"}
    assert sum(answer["score"] for answer in answers) == pytest.approx(1, abs=1e-4)


def test_a_folder_without_a_model_names_the_notebook_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="03-pretrain"):
        visionclip.load(tmp_path)
