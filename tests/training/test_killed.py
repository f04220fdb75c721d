"""Training that is killed at any moment ends with the weights of training that was not.

``VISIONCLIP_KILLS=20 pytest tests/training/test_killed.py`` kills as often as the study promises; CI less often.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from visionclip import keys
from visionclip.training import checkpoints

KILLS = int(os.environ.get("VISIONCLIP_KILLS", "2"))
COMMON = """
import sys
from pathlib import Path
import numpy as np
import torch
from visionclip import conditions
from visionclip.data.labelled import LabelledImages
rng = np.random.default_rng(0)
eyes = conditions.balanced(64, rng)
pixels = rng.integers(0, 256, (64, 32, 32, 3), np.uint8)
images = LabelledImages(pixels, eyes, ["phantom"] * 64, [str(i) for i in range(64)])
folder = Path(sys.argv[1])
"""
LEARNERS = {
    "pretraining": COMMON
    + """
from visionclip.data.pairs import Pairs
from visionclip.models import visionclip
from visionclip.text import captions
from visionclip.text.tokenizer import train_tokenizer
from visionclip.training import contrastive
table, texts_of = captions.table(eyes, ("zh", "en"), 2, rng)
tokenizer = train_tokenizer([one.text for one in table], folder / "words")
torch.manual_seed(0)
network = visionclip.VisionCLIP(visionclip.sized(8, 1, 64, 16, len(tokenizer)))
settings = contrastive.Settings(
    updates=60, batch_size=16, learning_rate=1e-3, text_warmup=40, checkpoint_every=2, checkpoint_minutes=0.01
)
contrastive.train(network, tokenizer, Pairs(images, table, texts_of), settings, folder)
""",
    "diffusion": COMMON
    + """
from visionclip.training import denoising
settings = denoising.Settings(updates=120, patch=2, channels=(16, 32), checkpoint_every=2)
denoising.train(images, settings, folder)
""",
}


def start(program, folder):
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen([sys.executable, "-c", program, str(folder)], start_new_session=True)


def weights(folder):
    """A digest of the finished run's weights."""
    with checkpoints.safe_open(folder / "checkpoint.safetensors", framework="pt") as file:
        assert file.metadata()["finished"] == "true"
        return keys.digest({name: file.get_tensor(name).tolist() for name in sorted(file.keys()) if name != "log"})


@pytest.mark.slow
@pytest.mark.parametrize("learner", LEARNERS)
def test_killed_at_any_moment_it_ends_with_the_same_weights(tmp_path, learner):
    program, chance = LEARNERS[learner], random.Random(learner)
    began = time.monotonic()
    assert start(program, tmp_path / "whole").wait() == 0
    whole, killed = time.monotonic() - began, 0
    for _ in range(20 * KILLS):
        child = start(program, tmp_path / "killed")
        try:
            child.wait(chance.uniform(0.3 * whole, 0.9 * whole))
            if killed:
                break
            shutil.rmtree(tmp_path / "killed")  # the machine has become faster than it was: sooner, from the start
            whole *= 0.6
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            killed += 1
        if killed == KILLS:
            break
    assert start(program, tmp_path / "killed").wait() == 0
    assert killed
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert not list((tmp_path / "killed").glob(".*.partial"))
