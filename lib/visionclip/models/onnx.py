"""Both towers as ONNX graphs, for browsers and machines without Python.

``python -m visionclip.models.onnx FOLDER_OF_MODEL --out FOLDER`` writes

- ``image.onnx``: ``pixels`` uint8 N×3×S×S → ``embeddings`` float32 N×P of unit length. The pixels are what
  ``data.images.prepare`` makes: cropped to the field of view, padded to a square, resized. Standardisation is part of
  the graph, so all that is left to do elsewhere is this crop and resize. Of a model with a pyramid also ``cells``
  float32 N×D×S/4×S/4;
- ``text.onnx``: ``input_ids`` and ``attention_mask`` int64 U×T → ``embeddings`` float32 U×P of unit length. Of a model
  with a pyramid also ``queries`` float32 U×D;
- the tokenizer, and ``visionclip.json`` with the ``size`` S, the version of the ``preprocessing``, the ``context`` (the
  highest T), the ``scale`` and ``bias``, which make logits of cosines: scale · image · textᵀ + bias, and the
  ``cell_bias`` (null without a pyramid), which makes logits of maps: queries · cells + cell_bias.

N, U and T are free. See ``tests/models/test_onnx.py`` for how close the embeddings are to torch's.
"""

import argparse
import copy
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from visionclip import runs
from visionclip.data.images import PREPROCESSING, standardise
from visionclip.models import visionclip
from visionclip.models.visionclip import VisionCLIP


class _ImageTower(nn.Module):
    def __init__(self, network: VisionCLIP):
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        pooled, cells = self.network.get_features(standardise(pixels, self.network.config.plain_colours))
        embeddings = self.network.project(pooled)
        return (embeddings,) if cells is None else (embeddings, cells)


class _TextTower(nn.Module):
    def __init__(self, network: VisionCLIP):
        super().__init__()
        self.network = network

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        embeddings = self.network.get_text_features(input_ids, attention_mask)
        queries = self.network.cell_projection
        return (embeddings,) if queries is None else (embeddings, queries(embeddings))


def export(model: VisionCLIP, tokenizer, image_size: int, folder: Path) -> None:
    """Write both graphs, the tokenizer and ``visionclip.json`` into ``folder``, see above; the model stays as it is."""
    model = copy.deepcopy(model).cpu().train(False)
    pixels = torch.zeros(2, 3, image_size, image_size, dtype=torch.uint8)
    ids = torch.ones(2, 8, dtype=torch.long)
    dense = model.pyramid is not None
    names = ["embeddings", "cells"] if dense else ["embeddings"]
    _write(_ImageTower(model), {"pixels": pixels}, names, {0: "images"}, folder / "image.onnx")
    tokens = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    names = ["embeddings", "queries"] if dense else ["embeddings"]
    _write(_TextTower(model), tokens, names, {0: "texts", 1: "tokens"}, folder / "text.onnx")
    tokenizer.save_pretrained(folder)
    facts = {
        "size": image_size,
        "preprocessing": PREPROCESSING,
        "context": tokenizer.model_max_length,
        "scale": model.scale.item(),
        "bias": 0.0 if model.logit_bias is None else model.logit_bias.item(),
        "cell_bias": None if model.cell_bias is None else model.cell_bias.item(),
    }
    runs.write_json(folder / "visionclip.json", facts)


def _write(
    tower: nn.Module, inputs: dict[str, torch.Tensor], outputs: list[str], free: dict[int, str], path: Path
) -> None:
    """One graph; ``free`` names the dimensions of the inputs that are not fixed."""
    import onnx

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # that torchvision is missing, four times
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch to itself
        program = torch.onnx.export(
            tower.train(False),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=(free,) * len(inputs),
            dynamo=True,
            verbose=False,
        )
    assert program  # None is returned where a file is written at once
    graph = program.model_proto
    for node in graph.graph.node:
        del node.metadata_props[:]  # stack traces, with the paths of this machine
    with runs.atomic(path) as temporary:
        onnx.save(graph, temporary)


def main(arguments: Sequence[str] | None = None) -> None:
    """Export the model that the command line names; what is wrong is one line on standard error and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m visionclip.models.onnx", description="Export a saved model as image.onnx and text.onnx."
    )
    parser.add_argument("model", type=Path, help="folder of the model, as stage 03 saves it")
    parser.add_argument("--out", type=Path, required=True, help="folder of the graphs")
    given = parser.parse_args(arguments)
    try:
        model, tokenizer, processor = visionclip.load(given.model)
        export(model, tokenizer, processor.size, given.out)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
