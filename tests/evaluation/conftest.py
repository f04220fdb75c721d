import numpy as np
import pytest
import torch

from visionclip import conditions
from visionclip.data.labelled import LabelledImages
from visionclip.models import visionclip
from visionclip.text import captions
from visionclip.text.tokenizer import train_tokenizer


@pytest.fixture(scope="package")
def held_out():
    """Eighty eyes of which only the conditions mean something."""
    rng = np.random.default_rng(0)
    eyes = conditions.balanced(80, rng)
    pixels = rng.integers(0, 256, (80, 32, 32, 3), np.uint8)
    return LabelledImages(pixels, eyes, ["phantom"] * 80, [f"eye-{index}" for index in range(80)])


@pytest.fixture(scope="package")
def texts(held_out):
    return captions.table(held_out.conditions, ("zh", "en"), 2, np.random.default_rng(0))[0]


@pytest.fixture(scope="package")
def untrained(texts, tmp_path_factory):
    """A small pair of towers and its tokenizer."""
    words = train_tokenizer([one.text for one in texts], tmp_path_factory.mktemp("words"))
    torch.manual_seed(0)
    return visionclip.VisionCLIP(visionclip.sized(8, 1, 64, 16, len(words))).train(False), words
