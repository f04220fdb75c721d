"""Finished stages 01 and 02 of noise, with a folder of photographs, as small as later stages can read them.

The images have maps of a finding, but for the first ones, which nobody marked.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest

from visionclip import conditions, runs
from visionclip.data import shards
from visionclip.data.labelled import LabelledImages
from visionclip.stages import transfer
from visionclip.text import captions
from visionclip.text.tokenizer import train_tokenizer

PARAMETERS = {
    "image_width": 8,
    "text_layers": 1,
    "text_width": 64,
    "projection_size": 16,
    "pyramid_size": 8,
    "loss": "multi_positive",
    "sizes": [24, 32],
    "updates": [5, 3],
    "scales": [0.5, 1.0],
    "condition_weight": 1.0,
    "map_weight": 1.0,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "text_rate": 0.1,
    "text_warmup": 2,
    "weight_decay": 0.1,
    "warmup": 0.1,
    "chunk": 0,
    "augmentation": 0.0,
    "precision": "fp32",
    "seed": 3,
    "out": "elsewhere",
}
PLAN = """\
test: {split: test}
tasks:
  myopia:
    column: pm
    classes:
      - {name: no, values: [0], conditions: [{pm: 0}]}
      - {name: yes, values: [1], conditions: [{pm: 1}]}
"""


@pytest.fixture(scope="package", autouse=True)
def _each_set_is_drawn_once() -> Iterator[None]:
    """Drawing starts processes, which takes longer than all that is done with a few phantoms."""
    drawn, draw = {}, transfer.Sets._draw

    def once(sets: transfer.Sets, arm: transfer.Arm, *given: object) -> LabelledImages:
        key = repr((arm.fixed, given, sets.ranges))
        if key not in drawn:
            drawn[key] = draw(sets, arm, *given)
        return drawn[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer.Sets, "_draw", once)
        yield


@dataclass(frozen=True)
class Study:
    """Folders of the stages, and the parameters of stage 03, as stage 05 is given them."""

    root: Path
    pretrained: dict = field(default_factory=PARAMETERS.copy)

    @property
    def sources(self) -> dict[str, str]:
        names = {"synthesis": "01-synthesis", "captions_folder": "02-captions"}
        return {name: str(self.root / folder) for name, folder in names.items()} | {"external": str(self.root / "eyes")}

    def finish(self, name: str, parameters: dict) -> None:
        runs.Stage(name, self.root / name, parameters).finish({"headline": []})


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    study = Study(tmp_path_factory.mktemp("study"))
    rng = np.random.default_rng(0)
    texts = []
    for name, count in (("synthetic", 32), ("validation", 40)):
        eyes = conditions.balanced(count, rng)
        pixels = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
        marked = np.arange(count) >= 4
        masks = rng.integers(0, 256, (count, 1, 8, 8), np.uint8) * marked[:, None, None, None]
        names = [f"{name}-{index:03d}" for index in range(count)]
        images = LabelledImages(pixels, eyes, ["phantom"] * count, names, [], masks, ("exudate",), marked)
        shards.write(study.root / "01-synthesis" / name, shards.samples(images, 0))
        table, texts_of = captions.table(eyes, ("zh", "en"), 2, rng)
        captions.write(study.root / "02-captions" / name, table, texts_of, images.keys)
        texts += [caption.text for caption in table]
    train_tokenizer(texts, study.root / "02-captions" / "tokenizer")
    study.finish("01-synthesis", {})
    study.finish("02-captions", {"languages": ["zh", "en"]})
    clinic = study.root / "eyes" / "clinic"
    clinic.mkdir(parents=True)
    for number in range(8):
        cv2.imwrite(str(clinic / f"{number}.png"), rng.integers(0, 256, (40, 40, 3), np.uint8))
    lines = ["file,split,pm", *(f"{number}.png,test,{number % 2}" for number in range(8))]
    (clinic / "labels.csv").write_text("\n".join(lines))
    (clinic / "tasks.yaml").write_text(PLAN)
    return study.root


@pytest.fixture
def study(finished, tmp_path) -> Study:
    """A copy that a test may change."""
    return Study(Path(shutil.copytree(finished, tmp_path / "study")))
