"""The generator that the repository publishes, trained once for hours: ``make weights``.

Every part goes on where it was stopped, over as many nights as it takes: the originals in shards, the diffusion model
and its student of few steps in checkpoints. Under ``accelerate launch`` several processes train it. What is published,
below ``weights/generator``, is the student in half precision, with a card and the digests of its files.
"""

import argparse
import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from accelerate import PartialState

from visionclip import runs
from visionclip.data import streaming
from visionclip.models.generator import VisionCLIPDDPMPipeline
from visionclip.stages import synthesis
from visionclip.training import denoising, distillation

PUBLISHED = "weights/generator"
DIGESTS = "SHA256SUMS"
SIZE, ORIGINALS, SEED = 128, 20000, 0
TEACHER = denoising.Settings(
    patch=4,
    channels=(48, 96, 192),
    variance=0.998,
    updates=20000,
    batch_size=8,
    learning_rate=7e-4,
    ema=0.9995,
    weighted=synthesis.SMALL_LESIONS,
    precision="auto",
    seed=SEED,
)
STUDENT = distillation.Settings(steps=4, substeps=4, updates=4000, batch_size=8, ema=0.999, precision="auto", seed=SEED)
CARD = """---
license: mit
library_name: diffusers
tags: [fundus, retina, synthetic]
---

# A generator of retina photographs that nobody took

A conditional diffusion model of {size} x {size} pixels, distilled into {steps} evaluations of its network without
guidance. It was trained on {originals} phantoms, drawn eyes: no photograph, and so no patient, took part. The ranges of
the drawing were chosen by looking at photographs of IDRiD, PALM and ODIR-5K.

```python
from visionclip.models.generator import VisionCLIPDDPMPipeline

pipeline = VisionCLIPDDPMPipeline.from_pretrained("{folder}")
pipeline([{{"dr_grade": 3, "dme": 1}}, {{"gc": 1}}]).images
```

Where this package isn't installed, `DiffusionPipeline.from_pretrained("{folder}", custom_pipeline="generator",
trust_remote_code=True)` of diffusers loads it. Conditions are those of `visionclip.conditions`; what isn't named is
unknown. `layouts` say where things are: masks of a drawn eye ({layout}).

- **Made by** `make weights`: {updates} updates of {batch} images, then {student} of the student
- **What it is worth**: `notebooks/01-synthesis.ipynb` measures whether its eyes show what labels and layouts say, given
  `generator: {folder}` and `generator_size: {size}`; a first measurement stands in `docs/decisions.md`
- **Not for** diagnosis, for training that no photograph checks, or for passing its images off as photographs
- **Licence**: MIT, for the weights and for what is drawn with them
"""


def train(folder: Path, teacher: denoising.Settings, student: distillation.Settings, originals: int, size: int) -> Path:
    """Train teacher and student below ``folder`` on as many phantoms, and return the student's folder."""
    state = PartialState()
    with state.main_process_first():
        if state.is_main_process:
            synthesis.stream_originals(folder / "originals", originals, size, teacher.seed)
    images = streaming.load(folder / "originals")
    pipeline, _ = denoising.train(images, teacher, folder / "ddpm")
    distillation.train(pipeline.unet, images, student, folder / "student")
    return folder / "student"


def publish(student: Path, out: Path, facts: dict[str, object]) -> None:
    """Copy a saved pipeline in half precision, with its card of these ``facts`` and the SHA-256 of every file."""
    pipeline = VisionCLIPDDPMPipeline.from_pretrained(student)
    described = {**facts, "folder": runs.relative(out), "layout": ", ".join(pipeline.unet.config.layout)}
    shutil.rmtree(out, ignore_errors=True)
    pipeline.unet.half()
    pipeline.save_pretrained(out)
    runs.share(out)
    (out / "README.md").write_text(CARD.format(**described), "utf-8")
    write_digests(out)


def write_digests(folder: Path) -> None:
    """The SHA-256 of every file of a folder but this one, as ``sha256sum --check`` reads them."""
    (folder / DIGESTS).unlink(missing_ok=True)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}" for path in files
    ]
    (folder / DIGESTS).write_text("\n".join(digests) + "\n", "utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and publish."""
    parser = argparse.ArgumentParser(prog="python -m visionclip.study.weights", description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=runs.resolve, default="runs/weights", help="of originals and checkpoints")
    parser.add_argument("--out", type=runs.resolve, default=PUBLISHED, help="where the weights are published")
    given = parser.parse_args(arguments)
    try:
        student = train(given.folder, TEACHER, STUDENT, ORIGINALS, SIZE)
        if PartialState().is_main_process:
            facts = {"size": SIZE, "originals": ORIGINALS, "updates": TEACHER.updates, "batch": TEACHER.batch_size}
            publish(student, given.out, {**facts, "steps": STUDENT.steps, "student": STUDENT.updates})
    except (ValueError, OSError) as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
