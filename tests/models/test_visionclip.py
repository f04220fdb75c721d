import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
    BertTokenizer,
    pipeline,
)

from visionclip import conditions, phantom, streams
from visionclip.data import images
from visionclip.models import visionclip
from visionclip.text.tokenizer import train_tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "eye", "with", "without"]
GOLDEN = Path(__file__).parents[1] / "golden"


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


@pytest.fixture
def with_pyramid():
    torch.manual_seed(0)
    sizes = visionclip.sized(8, 1, 64, 16, len(WORDS), pyramid_size=12)
    return visionclip.VisionCLIP(sizes).train(False)


@pytest.fixture
def folder(network, tokenizer, tmp_path):
    visionclip.save(network, tokenizer, 32, tmp_path / "model")
    return tmp_path / "model"


def test_a_model_of_plain_colours_is_saved_with_its_preprocessing(tmp_path):
    network = visionclip.VisionCLIP(visionclip.sized(8, 1, 64, 16, 20, plain_colours=True))
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    processor = visionclip.VisionCLIPImageProcessor(32, plain_colours=network.config.plain_colours)
    processor.save_pretrained(tmp_path)
    network.config.save_pretrained(tmp_path / "config")
    again = visionclip.VisionCLIPImageProcessor.from_pretrained(tmp_path)(picture, return_tensors="pt")["pixel_values"]
    wanted = images.standardise(images.to_tensor(images.prepare(picture, 32)[None]), plain=True)
    assert torch.equal(again, wanted)
    assert visionclip.VisionCLIPConfig.from_pretrained(tmp_path / "config").plain_colours


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


# --- Saved folders, here and elsewhere ---


@pytest.mark.parametrize("size", [32, 64, 50])
def test_cells_are_a_quarter_of_the_resolution_and_can_be_asked_any_text(with_pyramid, size):
    pixels, texts = torch.randn(2, 3, size, size), torch.tensor([[2, 8, 3], [2, 5, 3], [2, 6, 3]])
    with torch.no_grad():
        cells, embeds = with_pyramid.get_cells(pixels), with_pyramid.get_text_features(texts)
        maps, out = with_pyramid.maps(cells, embeds), with_pyramid(pixels, texts)
    side = -(-size // 4)
    assert cells.shape == (2, 12, side, side)
    assert maps.shape == (2, 3, side, side)
    assert maps.dtype == torch.float32
    assert torch.equal(out.cells, cells)
    assert out.image_embeds.shape == (2, 16)
    assert torch.allclose(out.image_embeds.norm(dim=1), torch.ones(2))
    assert out.logits_per_image.shape == (2, 3)


def test_a_map_is_how_a_cell_answers_a_text_and_nothing_else(with_pyramid):
    cells, texts = torch.randn(1, 12, 5, 5), torch.nn.functional.normalize(torch.randn(2, 16), dim=1)
    with torch.no_grad():
        maps = with_pyramid.maps(cells, texts)
        query = with_pyramid.cell_projection.weight @ texts[1]
    assert maps[0, 1, 2, 3].item() == pytest.approx((cells[0, :, 2, 3] @ query).item() + visionclip.EMPTY, abs=1e-5)


def test_cells_know_what_lies_far_away_and_where_they_are(with_pyramid):
    """A spot changes the cells at its place the most, and through the deepest features those elsewhere."""
    for name, weight in with_pyramid.vision.named_parameters():
        if name.endswith("normalization.weight"):  # zero at the end of each block: the block would not be seen
            weight.data.fill_(0.5)
    plain = torch.zeros(1, 3, 64, 64)
    spotted = plain.clone()
    spotted[:, :, 8:12, 48:52] = 5
    with torch.no_grad():
        changed = (with_pyramid.get_cells(spotted) - with_pyramid.get_cells(plain)).abs().sum(1)[0]
    place = divmod(int(changed.argmax()), 16)
    assert abs(place[0] - 2) <= 1
    assert abs(place[1] - 12) <= 1
    assert changed[15, 0] > 0


def test_a_small_bright_part_is_not_averaged_away(with_pyramid):
    """Pooled features hold means and peaks, of the deepest features and of the cells."""
    with torch.no_grad():
        pooled = with_pyramid.get_pooled_features(torch.randn(2, 3, 64, 64))
        cells = with_pyramid.get_cells(torch.randn(2, 3, 64, 64))
    deepest = with_pyramid.config.vision_config.hidden_sizes[-1]
    assert pooled.shape == (2, 2 * (deepest + cells.shape[1]))
    cells = torch.zeros(1, 12, 16, 16)
    cells[0, 3, 5, 5] = 90.0
    with_pyramid.pyramid.forward = lambda stages: cells
    with torch.no_grad():
        means, peaks = with_pyramid.get_pooled_features(torch.randn(1, 3, 64, 64))[0, -24:].split(12)
    assert means[3].item() == pytest.approx(90 / 256)
    assert peaks[3].item() == pytest.approx(90 / visionclip.PEAK_CELLS)


@pytest.mark.parametrize(
    "asked", [lambda one: one.get_cells(torch.randn(1, 3, 32, 32)), lambda one: one.maps(1, torch.ones(1, 16))]
)
def test_a_model_without_a_pyramid_refuses_maps_in_one_line(network, asked):
    with pytest.raises(ValueError, match=r"no feature pyramid .*; train one with it") as refusal:
        asked(network)
    assert "\n" not in str(refusal.value)
    assert network(torch.randn(1, 3, 32, 32)).cells is None


@pytest.fixture
def pointing(tmp_path):
    """A saved model that points, and whose words are of both languages, as loaded."""
    words = train_tokenizer(["可见硬性渗出。", "Hard exudates are seen."], tmp_path / "words")
    torch.manual_seed(0)
    network = visionclip.VisionCLIP(visionclip.sized(8, 1, 64, 16, len(words), pyramid_size=12))
    visionclip.save(network, words, 32, tmp_path / "pointing")
    return visionclip.load(tmp_path / "pointing")


SENTENCES = ("可见硬性渗出。", "Hard exudates are seen.")


def test_it_points_to_what_sentences_of_either_language_name(pointing, photograph):
    network, words, processor = pointing
    both = np.stack([photograph, photograph[::-1]])
    found = network.point(both, SENTENCES)
    assert (found.shape, found.dtype) == ((2, 2, 8, 8), np.float32)
    assert 0 <= found.min() < found.max() <= 1
    assert np.abs(found[:, 0] - found[:, 1]).max() > 0, "two sentences, two maps"
    pixels = processor(both, return_tensors="pt")["pixel_values"]
    for place, sentence in enumerate(SENTENCES):
        tokens = words([sentence], return_tensors="pt")
        with torch.no_grad():
            embeds = network.get_text_features(tokens["input_ids"], tokens["attention_mask"])
            expected = torch.sigmoid(network.maps(network.get_cells(pixels), embeds))
        assert np.allclose(found[:, place], expected[:, 0], atol=1e-5), "a longer sentence beside it changes nothing"
    assert np.array_equal(network.point(pixels, SENTENCES), found), "standardised images are taken as they are"


def test_a_model_of_no_folder_points_with_a_processor_that_it_is_given(with_pyramid, tokenizer, photograph):
    with pytest.raises(ValueError, match=r"^point: this model is of no folder; give processor$"):
        with_pyramid.point(photograph, ["eye with a"])
    given = visionclip.VisionCLIPProcessor(visionclip.VisionCLIPImageProcessor(32), tokenizer)
    assert with_pyramid.point(photograph, ["eye with a"], given).shape == (1, 1, 8, 8)


def test_a_model_without_a_pyramid_points_nowhere(network, tokenizer, photograph):
    given = visionclip.VisionCLIPProcessor(visionclip.VisionCLIPImageProcessor(32), tokenizer)
    with pytest.raises(ValueError, match="no feature pyramid"):
        network.point(photograph, ["eye with a"], given)


def test_a_trained_model_reads_at_all_its_scales_and_averages_what_it_sees(with_pyramid, network):
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    half = functional.interpolate(pixels, size=32, mode="area")
    for one in (with_pyramid, network):
        alone = [one.get_pooled_features(given) for given in (half, pixels)]
        one.config.scales = [0.5, 1.0]
        torch.testing.assert_close(one.get_pooled_features(pixels), (alone[0] + alone[1]) / 2)
        training = one.train(True).get_pooled_features(pixels)
        one.config.scales = [1.0]
        torch.testing.assert_close(training, one.get_pooled_features(pixels), atol=1e-4, rtol=1e-4)
        one.train(False)


def test_maps_are_read_at_the_largest_of_the_scales(with_pyramid):
    pixels = torch.randn(1, 3, 64, 64)
    at_full = with_pyramid.get_cells(pixels)
    with_pyramid.config.scales = [1.0, 0.5]
    assert torch.equal(with_pyramid.get_cells(pixels), at_full)
    assert torch.equal(with_pyramid(pixels).cells, at_full)


def test_a_saved_pyramid_gives_the_same_maps(with_pyramid, tokenizer, tmp_path):
    with_pyramid.config.scales = [0.5, 1.0]
    visionclip.save(with_pyramid, tokenizer, 32, tmp_path / "model")
    loaded, _, _ = visionclip.load(str(tmp_path / "model"))
    assert loaded.config.pyramid_size == 12
    pixels, texts = torch.randn(2, 3, 32, 32), torch.tensor([[2, 8, 3]])
    with torch.no_grad():
        one, other = (
            each.maps(each.get_cells(pixels), each.get_text_features(texts)) for each in (with_pyramid, loaded)
        )
    assert torch.equal(one, other)
    assert one.std() > 0


def test_a_folder_of_before_there_were_pyramids_has_none(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    assert config.pop("pyramid_size") == 0
    path.write_text(json.dumps(config), "utf-8")
    assert visionclip.load(folder)[0].pyramid is None


def test_a_saved_folder_gives_the_same_embeddings_and_holds_no_pickle(network, tokenizer, photograph, folder):
    loaded, words, processor = visionclip.load(folder)
    assert not [path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pkl")]
    pixels = processor(photograph, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        # not to the bit: weights mapped from a file may lie otherwise in memory, and kernels differ by alignment
        assert torch.allclose(loaded.get_image_features(pixels), network.get_image_features(pixels), atol=1e-5)
    assert words("eye with a").input_ids == tokenizer("eye with a").input_ids


def test_a_saved_folder_holds_no_path_of_the_machine_even_when_saved_anew(folder, tmp_path):
    visionclip.save(*visionclip.load(folder)[:2], 32, tmp_path / "again")
    places = [str(path).encode() for path in (tmp_path, Path.home(), Path(visionclip.__file__).parents[3])]
    for path in [*folder.iterdir(), *(tmp_path / "again").iterdir()]:
        content = path.read_bytes()
        assert not [place for place in places if place in content], path.name
        assert not [word for word in (b"from visionclip", b"import visionclip") if word in content], path.name


def test_the_auto_classes_load_the_folder_where_the_package_is_imported(network, photograph, folder):
    processor = AutoProcessor.from_pretrained(folder)
    assert isinstance(processor, visionclip.VisionCLIPProcessor)
    assert isinstance(AutoImageProcessor.from_pretrained(folder), visionclip.VisionCLIPImageProcessor)
    inputs = processor(images=Image.fromarray(photograph), text=["eye", "eye a"], return_tensors="pt", padding=True)
    for auto in (AutoModel, AutoModelForZeroShotImageClassification):
        model = auto.from_pretrained(folder)
        assert isinstance(model, visionclip.VisionCLIP)
        assert torch.allclose(model(**inputs).logits_per_image, network(**inputs).logits_per_image, atol=1e-4)


def test_the_folder_runs_in_the_zero_shot_pipeline(photograph, folder):
    classify = pipeline("zero-shot-image-classification", model=str(folder))
    answers = classify(
        Image.fromarray(photograph), candidate_labels=["with a", "without a"], hypothesis_template="eye {}"
    )
    assert {answer["label"] for answer in answers} == {"with a", "without a"}
    assert sum(answer["score"] for answer in answers) == pytest.approx(1, abs=1e-4)


def test_the_pipeline_sees_16_bits_as_8(photograph, folder, tmp_path):
    """Which transformers' own cuts to white before a processor sees them."""
    classify = pipeline("zero-shot-image-classification", model=str(folder))
    wide = Image.fromarray(photograph[..., 0].astype(np.uint16) * 257)
    wide.save(tmp_path / "16 bits.png")
    expected, *others = (
        classify(given, candidate_labels=["with a", "without a"], hypothesis_template="eye {}")
        for given in (Image.fromarray(photograph[..., 0]), photograph[..., 0], wide, str(tmp_path / "16 bits.png"))
    )
    assert others == [expected] * 3


def test_a_saved_folder_can_be_read_by_whoever_may_read_new_files(network, tokenizer, tmp_path):
    before = os.umask(0o022)
    try:
        visionclip.save(network, tokenizer, 32, tmp_path / "model")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()} == {0o644}


ELSEWHERE = """
import json, sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "visionclip":
            raise ImportError("visionclip is not installed")

sys.meta_path.insert(0, NotInstalled())
from PIL import Image
from transformers import (
    AutoImageProcessor, AutoModel, AutoModelForZeroShotImageClassification, AutoProcessor, AutoTokenizer, pipeline
)

folder, photograph, again = sys.argv[1:]
image, texts, trust = Image.open(photograph), ["eye with a", "eye without a"], {"trust_remote_code": True}
processor = AutoProcessor.from_pretrained(folder, **trust)
inputs = processor(images=image, text=texts, return_tensors="pt", padding=True)
model = AutoModel.from_pretrained(folder, **trust)
tokens = AutoTokenizer.from_pretrained(folder, **trust)(texts, padding=True).input_ids
pixels = AutoImageProcessor.from_pretrained(folder, **trust)(image, return_tensors="pt").pixel_values
zero_shot = AutoModelForZeroShotImageClassification.from_pretrained(folder, **trust)
classify = pipeline("zero-shot-image-classification", model=folder, **trust)
named = classify(image, candidate_labels=texts, hypothesis_template="{}")
for part in (model, processor):
    part.save_pretrained(again)
reloaded = AutoModel.from_pretrained(again, **trust)(**AutoProcessor.from_pretrained(again, **trust)(
    images=image, text=texts, return_tensors="pt", padding=True))
maps = model.maps(model.get_cells(inputs.pixel_values), model.get_text_features(inputs.input_ids))
print(json.dumps({
    "classes": [type(one).__name__ for one in (processor.image_processor, processor, model, zero_shot)],
    "logits": [out.logits_per_image.tolist() for out in (model(**inputs), zero_shot(**inputs), reloaded)],
    "maps": maps.tolist(),
    "same tokens": tokens == inputs.input_ids.tolist(),
    "same pixels": bool((pixels == inputs.pixel_values).all()),
    "scores": [one["score"] for one in sorted(named, key=lambda one: texts.index(one["label"]))],
}))
"""


@pytest.mark.slow
def test_the_folder_is_at_home_where_the_package_is_not_installed(with_pyramid, tokenizer, photograph, tmp_path):
    """All auto classes and the pipeline, with the numbers of here; what is saved there loads there again."""
    folder = tmp_path / "model"
    visionclip.save(with_pyramid, tokenizer, 32, folder)
    Image.fromarray(photograph).save(tmp_path / "eye.png")
    elsewhere = {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    result = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, folder, tmp_path / "eye.png", tmp_path / "again"],
        cwd=tmp_path,
        env=os.environ | elsewhere,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["classes"] == ["VisionCLIPImageProcessor", "VisionCLIPProcessor", "VisionCLIP", "VisionCLIP"]
    assert found["same tokens"]
    assert found["same pixels"]
    inputs = AutoProcessor.from_pretrained(folder)(
        images=photograph, text=["eye with a", "eye without a"], return_tensors="pt", padding=True
    )
    with torch.no_grad():
        logits = with_pyramid(**inputs).logits_per_image
        texts = with_pyramid.get_text_features(inputs.input_ids)
        maps = with_pyramid.maps(with_pyramid.get_cells(inputs.pixel_values), texts)
    assert np.allclose(found["maps"], maps, atol=1e-4)
    assert np.allclose(found["logits"], logits[None], atol=1e-4)
    assert np.allclose(found["scores"], logits[0].softmax(0), atol=1e-4)


def test_a_folder_of_another_preprocessing_is_refused_in_one_line(folder):
    path = folder / "processor_config.json"
    saved = json.loads(path.read_text())
    saved["image_processor"]["version"] += 1
    path.write_text(json.dumps(saved))
    message = rf"^preprocessing: version {images.PREPROCESSING + 1} is saved, this code has {images.PREPROCESSING}; "
    for load in (visionclip.load, AutoProcessor.from_pretrained, AutoImageProcessor.from_pretrained):
        with pytest.raises(ValueError, match=message) as refusal:
            load(folder)
        assert "\n" not in str(refusal.value)


def test_a_folder_without_a_model_names_the_notebook_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="03-pretrain"):
        visionclip.load(tmp_path)


# --- Preprocessing ---


def seen(given, size=32):
    """What the model sees of photographs that the processor is given."""
    return visionclip.VisionCLIPImageProcessor(size)(given, return_tensors="pt")["pixel_values"]


def expected(*pictures, size=32):
    """What the model sees of photographs uint8 H×W×3."""
    return images.standardise(images.to_tensor(np.stack([images.prepare(picture, size) for picture in pictures])))


def test_the_processor_is_the_preprocessing_of_training(photograph):
    given = seen([Image.fromarray(photograph)] * 2, size=48)
    assert torch.equal(given, expected(photograph, photograph, size=48))


BATCHES = {
    "N×H×W×3": lambda both: both,
    "N×3×H×W": lambda both: both.transpose(0, 3, 1, 2),
    "a tensor N×3×H×W": lambda both: torch.from_numpy(both).permute(0, 3, 1, 2),
    "a tensor of fractions": lambda both: torch.from_numpy(both / np.float32(255)).requires_grad_(),
    "a list of H×W×3": list,
    "a list of several kinds": lambda both: [Image.fromarray(both[0]), torch.from_numpy(both[1])],
    "a tuple of doubles": lambda both: tuple(torch.from_numpy(both).double() / 255),
    "lists in a list": lambda both: [[both[0]], [both[1]]],
}


@pytest.mark.parametrize("given", BATCHES.values(), ids=BATCHES)
def test_several_photographs_are_taken_in_any_shape(photograph, given):
    both = np.stack([photograph, photograph[::-1]])
    assert torch.allclose(seen(given(both)), expected(*both), atol=1e-6)
    assert torch.equal(seen(both[0]), seen(both)[:1])


def test_a_tensor_of_half_the_bits_is_taken_too(photograph):
    half = (torch.from_numpy(photograph) / 255).bfloat16()
    assert torch.equal(seen(half), expected(images.to_rgb(half.float())))


def test_grey_and_wide_pixels_are_what_they_show(photograph):
    grey = photograph[..., 0]
    as_rgb = expected(grey[..., None].repeat(3, 2))
    for given in (grey, Image.fromarray(grey), grey.astype(np.uint16) * 257, grey[None], torch.from_numpy(grey)):
        assert torch.equal(seen(given), as_rgb)


def test_what_is_no_photograph_is_refused_in_one_line(photograph):
    for given in ([], photograph[..., :2], photograph.astype(np.float32), "nowhere.png"):
        with pytest.raises(ValueError, match="image") as refusal:
            seen(given)
        assert "\n" not in str(refusal.value)


def _photographs(folder):
    """Files of all kinds, each of the same picture, with the value that each must have at row 20, column 30."""
    rows, columns = np.mgrid[:60, :80]
    picture = np.stack([60 + columns, 40 + 2 * rows, 30 + rows + columns], -1).astype(np.uint8)
    grey, alpha = picture[..., 0], np.where(columns < 70, 255, 0).astype(np.uint8)
    image, turned = Image.fromarray(picture), Image.Exif()
    turned[0x0112] = 6  # to be turned clockwise
    colour = tuple(picture[20, 30].tolist())
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "16 bits.png")
    Image.fromarray(grey.astype(np.uint16) * 16).save(folder / "12 bits in 16.png")
    Image.fromarray(np.dstack([picture, alpha])).save(folder / "alpha.png")
    image.quantize(64).save(folder / "palette.png")
    image.convert("CMYK").save(folder / "cmyk.tif")
    image.save(folder / "turned.jpg", exif=turned, quality=100, subsampling=0)
    image.convert("L").save(folder / "grey.jpg", quality=100)
    return {
        "16 bits.png": (grey[20, 30],) * 3,
        "12 bits in 16.png": (grey[20, 30],) * 3,
        "alpha.png": colour,
        "palette.png": colour,
        "cmyk.tif": colour,
        "turned.jpg": tuple(np.rot90(picture, -1)[20, 30].tolist()),
        "grey.jpg": (round(float(picture[20, 30] @ [0.299, 0.587, 0.114])),) * 3,
    }


def test_a_file_is_seen_the_same_however_it_is_opened(tmp_path):
    """By ``data.images.read``, which training sets go through, by its path, and by PIL with whatever mode it has."""
    values = _photographs(tmp_path)
    for name, value in values.items():
        pixels = images.read(tmp_path / name)
        near = 6 if name == "palette.png" else 2  # of 64 colours
        assert np.abs(pixels[20, 30].astype(int) - np.array(value)).max() <= near, name
        for given in (tmp_path / name, str(tmp_path / name), Image.open(tmp_path / name)):
            assert torch.equal(seen(given), expected(pixels)), name
    assert not images.read(tmp_path / "alpha.png")[:, 70:].any(), "what is transparent is black"


# --- Golden values: a change of what the model sees or computes is to be noticed ---


def deterministic(network):
    """The network with weights that depend on no generator of torch's, and on no order."""
    state = network.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point() and tensor.ndim:
            drawn = torch.from_numpy(streams.rng(0, f"golden {name}").random(tuple(tensor.shape)) * 2 - 1)
            if tensor.ndim > 1:
                tensor.copy_(drawn * np.sqrt(6 / tensor[0].numel()))
            else:
                tensor.copy_(0.2 * drawn + name.endswith(("weight", "running_var")))
    network.load_state_dict(state)
    return network


def draw_golden():
    """How ``golden/photograph.jpg`` was made: on a wider frame, and lying on its side as its EXIF tells."""
    eye = conditions.complete({"dr": 3, "gc": 1})
    drawn = phantom.render(eye, streams.rng(0, "golden phantom"), 256)
    lying = Image.Exif()
    lying[0x0112] = 6
    frame = np.pad(np.rot90(drawn.image), [(10, 30), (50, 24), (0, 0)])
    Image.fromarray(frame).save(GOLDEN / "photograph.jpg", exif=lying, quality=95)


def measured(network, tokenizer):
    """What ``golden/numbers.json`` holds; ``golden/prepared.png`` is the photograph prepared at 64 pixels."""
    photograph = images.read(GOLDEN / "photograph.jpg")
    prepared = images.prepare(photograph, 64)
    pixels = images.standardise(images.to_tensor(np.stack([prepared, prepared[:, ::-1]])))
    coarse = torch.nn.functional.avg_pool2d(pixels[:1].double(), 8)[0]
    texts = tokenizer(["eye with a", "eye without a", "b c"], return_tensors="pt", padding=True)
    with torch.no_grad():
        logits = deterministic(network)(pixels, texts.input_ids, texts.attention_mask).logits_per_image
    return {
        "mean": pixels[0].double().mean((1, 2)).tolist(),
        "std": pixels[0].double().std((1, 2)).tolist(),
        "8×8 grid": coarse.tolist(),
        "logits": logits.tolist(),
    }


def test_the_golden_photograph_is_prepared_to_the_same_pixels():
    prepared = images.prepare(images.read(GOLDEN / "photograph.jpg"), 64).astype(int)
    away = np.abs(prepared - np.asarray(Image.open(GOLDEN / "prepared.png")))
    assert away.max() <= 1, "one level at most, where another processor rounds otherwise"
    assert (away > 0).mean() < 1e-3


def test_the_golden_tensor_and_logits_are_the_same(network, tokenizer):
    """After a wanted change, raise ``images.PREPROCESSING`` and write ``measured`` anew."""
    golden, found = json.loads((GOLDEN / "numbers.json").read_text("utf-8")), measured(network, tokenizer)
    assert golden.keys() == found.keys()
    for name, value in golden.items():
        assert np.abs(np.array(found[name]) - np.array(value)).max() < 1e-4, name
    logits = np.array(golden["logits"])
    assert np.abs(logits[0] - logits[1]).max() > 0.1, "an eye and its mirror image are told apart"


def test_the_pipeline_of_golden_values_notices_a_small_change(network, tokenizer, monkeypatch):
    golden = json.loads((GOLDEN / "numbers.json").read_text("utf-8"))
    monkeypatch.setattr(images, "BLACK", images.BLACK + 2)
    assert np.abs(np.array(measured(network, tokenizer)["logits"]) - golden["logits"]).max() > 1e-3


@pytest.mark.slow
def test_the_pipeline_warns_of_words_that_no_caption_has(photograph, tmp_path, caplog):
    words = train_tokenizer(["疑似青光眼。", "未见青光眼。"], tmp_path / "words")
    network = visionclip.VisionCLIP(visionclip.sized(8, 1, 64, 16, len(words)))
    visionclip.save(network, words, 32, tmp_path / "model")
    assert "auto_map" not in words.init_kwargs
    assert "auto_map" not in visionclip.load(tmp_path / "model")[1].init_kwargs
    classify = pipeline("zero-shot-image-classification", model=str(tmp_path / "model"))
    classify(Image.fromarray(photograph), candidate_labels=["裂孔", "青光眼"], hypothesis_template="疑似{}。")
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "texts: no training caption has 裂, 孔"
    ]
    elsewhere = {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    program = (
        "import sys; from transformers import AutoTokenizer;"
        "AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=True)('裂孔')"
    )
    command = [sys.executable, "-c", program, tmp_path / "model"]
    result = subprocess.run(
        command, cwd=tmp_path, env=os.environ | elsewhere, capture_output=True, text=True, check=True
    )
    assert "no training caption has 裂, 孔;" in result.stderr
