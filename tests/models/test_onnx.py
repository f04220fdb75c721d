import json
import re

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from transformers import AutoTokenizer, BertTokenizer

from visionclip import streams
from visionclip.data import images
from visionclip.models import onnx as graphs
from visionclip.models import visionclip

pytestmark = pytest.mark.slow  # the exporter alone takes ten seconds
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{number}" for number in range(20))]
SIZE = 50  # whose quarter is no whole number, as the blur of the preprocessing takes it


@pytest.fixture(scope="module", params=[0, 12], ids=["plain", "with a pyramid"])
def network(request):
    torch.manual_seed(0)
    sizes = visionclip.sized(8, 2, 64, 16, len(WORDS), logit_bias=True, pyramid_size=request.param)
    sizes.scales = [0.5, 1.0] if request.param else [1.0]
    network = visionclip.VisionCLIP(sizes).train(False)
    with torch.no_grad():
        network.logit_bias.fill_(-3)
        for name, weight in network.vision.named_parameters():
            if name.endswith("normalization.weight"):  # zero at the end of each block: the block would not be seen
                weight.fill_(0.5)
    return network


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory):
    """The folder that the command line writes."""
    folder = tmp_path_factory.mktemp("onnx")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = BertTokenizer(vocab=str(folder / "vocab.txt"), model_max_length=52)
    visionclip.save(network, tokenizer, SIZE, folder / "model")
    graphs.main([str(folder / "model"), "--out", str(folder / "graphs")])
    return folder / "graphs"


def run(exported, name, output="embeddings", **inputs):
    session = onnxruntime.InferenceSession(exported / name, providers=["CPUExecutionProvider"])
    return session.run([output], inputs)[0]


@pytest.mark.parametrize("count", [1, 5])
def test_the_image_graph_gives_torch_s_embeddings_of_prepared_pixels(network, exported, count):
    rng = streams.rng(0, "pixels", count)
    photographs = rng.integers(0, 256, (count, 60, 80, 3), np.uint8)
    photographs[:, :, :9] = 0
    prepared = np.stack([images.prepare(photograph, SIZE) for photograph in photographs])
    found = run(exported, "image.onnx", pixels=prepared.transpose(0, 3, 1, 2))
    with torch.no_grad():
        expected = network.get_image_features(visionclip.VisionCLIPImageProcessor(SIZE)(photographs)["pixel_values"])
    assert found.shape == (count, 16)
    assert np.abs(found - expected.numpy()).max() <= 1e-4
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("count", "length"), [(1, 3), (4, 52)])
def test_the_text_graph_gives_torch_s_embeddings_of_any_length(network, exported, count, length):
    ids = streams.rng(0, "tokens", count).integers(5, len(WORDS), (count, length))
    mask = np.ones_like(ids)
    mask[0, length - 1 :] = 0
    found = run(exported, "text.onnx", input_ids=ids, attention_mask=mask)
    with torch.no_grad():
        expected = network.get_text_features(torch.from_numpy(ids), torch.from_numpy(mask))
    assert np.abs(found - expected.numpy()).max() <= 1e-4
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)


def test_both_graphs_and_the_numbers_make_the_model_s_logits(network, exported):
    facts = json.loads((exported / "visionclip.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(exported)
    assert facts.keys() == {"size", "preprocessing", "context", "scale", "bias", "cell_bias"}
    assert (facts["size"], facts["preprocessing"], facts["context"]) == (SIZE, images.PREPROCESSING, 52)
    pixels = streams.rng(0, "pixels").integers(0, 256, (2, 3, SIZE, SIZE), np.uint8)
    texts = dict(tokenizer(["word1", "word2 word3", "word4"], padding=True, return_tensors="np"))
    texts = {name: texts[name] for name in ("input_ids", "attention_mask")}
    cosines = run(exported, "image.onnx", pixels=pixels) @ run(exported, "text.onnx", **texts).T
    with torch.no_grad():
        given = {name: torch.from_numpy(tokens) for name, tokens in texts.items()}
        expected = network(images.standardise(torch.from_numpy(pixels)), **given).logits_per_image
    assert np.abs(facts["scale"] * cosines + facts["bias"] - expected.numpy()).max() <= 1e-3


def test_cells_and_queries_make_the_model_s_maps(network, exported):
    if network.pyramid is None:
        assert json.loads((exported / "visionclip.json").read_text())["cell_bias"] is None
        return
    facts = json.loads((exported / "visionclip.json").read_text())
    pixels = streams.rng(0, "pixels").integers(0, 256, (2, 3, SIZE, SIZE), np.uint8)
    ids = streams.rng(0, "tokens").integers(5, len(WORDS), (3, 4))
    queries = run(exported, "text.onnx", "queries", input_ids=ids, attention_mask=np.ones_like(ids))
    found = np.einsum("ndhw,ud->nuhw", run(exported, "image.onnx", "cells", pixels=pixels), queries)
    with torch.no_grad():
        cells = network.get_cells(images.standardise(torch.from_numpy(pixels)))
        texts = network.get_text_features(torch.from_numpy(ids), torch.ones(3, 4, dtype=torch.long))
        expected = network.maps(cells, texts).numpy()
    assert np.abs(found + facts["cell_bias"] - expected).max() <= 1e-3


def test_a_graph_is_one_file_without_a_path_of_this_machine(exported):
    found = {path.name for path in exported.iterdir()}
    assert found == {"image.onnx", "text.onnx", "visionclip.json", "tokenizer.json", "tokenizer_config.json"}
    for name in ("image.onnx", "text.onnx"):
        graph = onnx.load(exported / name, load_external_data=False)
        onnx.checker.check_model(graph)
        assert not [one for one in graph.graph.initializer if one.data_location == onnx.TensorProto.EXTERNAL]
        assert not re.search(rb"\.py\b", graph.SerializeToString())


def test_a_folder_without_a_model_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        graphs.main([str(tmp_path), "--out", str(tmp_path / "graphs")])
    assert "03-pretrain" in capsys.readouterr().err
