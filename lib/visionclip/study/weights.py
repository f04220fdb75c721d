"""The generator that the repository publishes, trained once for hours, and its referee: ``make weights``.

Every part goes on where it was stopped, over as many nights as it takes: the originals in shards, the diffusion model,
its student of few steps and the referee in checkpoints. Under ``accelerate launch`` several processes train them. What
is published, below ``weights``, is the student in half precision and the referee, each with a card and the digests of
its files.
"""

import argparse
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from accelerate import PartialState

from visionclip import runs
from visionclip.data import streaming
from visionclip.models.generator import VisionCLIPDDPMPipeline
from visionclip.stages import referee as referees
from visionclip.stages import synthesis
from visionclip.stages.referee import Referee
from visionclip.training import denoising, distillation

PUBLISHED = "weights"
DIGESTS = "SHA256SUMS"
TRAINED_AT = "_name_or_path"  # diffusers writes there where the student lay on the machine that trained it
SIZE, ORIGINALS, SEED = 128, 20000, 0
JUDGING = "phantoms of the referee"
JUDGED_BY, JUDGE_UPDATES = 12000, 3000  # phantoms that the referee learns from, and its updates of 32
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
license: cc-by-4.0
library_name: diffusers
tags: [fundus, retina, synthetic]
---

# A generator of retina photographs that nobody took

A conditional diffusion model of {size} x {size} pixels, distilled into {steps} evaluations of its network without
guidance. It was trained on {originals} phantoms, drawn eyes: no photograph, and so no patient, took part. The ranges of
the drawing were chosen by looking at photographs of IDRiD, PALM and ODIR-5K, by scores on them, and by experts' marks
on photographs of IDRiD, HEI-MED and DRIVE.

```python
from visionclip.models.generator import VisionCLIPDDPMPipeline

pipeline = VisionCLIPDDPMPipeline.from_pretrained("{folder}")
pipeline([{{"dr_grade": 3, "dme": 1}}, {{"gc": 1}}]).images
```

Where this package isn't installed, `DiffusionPipeline.from_pretrained("{folder}", custom_pipeline="generator",
trust_remote_code=True)` of diffusers loads it. Conditions are those of `visionclip.conditions`; what isn't named is
unknown. `layouts` say where things are: masks of a drawn eye ({layout}).

- **Made by** `make weights` at commit {commit}, seed {seed}: {updates} updates of {batch} images, then {student}
  of the student
- **What it is worth**: `notebooks/01-synthesis.ipynb` measures whether its eyes show what labels and layouts say, given
  `generator: {folder}` and `generator_size: {size}`; a first measurement stands in `docs/decisions.md`
- **Not for** diagnosis, for training that no photograph checks, or for passing its images off as photographs
- **Licence**: CC BY 4.0, for the weights and for what is drawn with them; MIT for the code beside them
"""
REFEREE_CARD = """---
license: cc-by-4.0
library_name: transformers
tags: [fundus, retina, synthetic]
---

# The referee of drawn and generated eyes

A small VisionCLIP that says what an eye of {size} x {size} pixels shows, and where. It learnt from {originals}
phantoms, drawn eyes, alone, in {updates} updates of 32 by `make weights`, and judges whether a generated eye shows what
its label and its layout say: `referee_model: {folder}` in `params/<preset>/01-synthesis.yaml`. What it is sure of on
phantoms that it has not seen stands beside every figure of that notebook's report. `referee.json` has its thresholds.

- **Made at** commit {commit}, seed {seed}
- **Not for** photographs: it has seen none, nor a phantom as a camera would spoil it
- **Licence**: CC BY 4.0; MIT for the code beside it
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


def train_referee(folder: Path, originals: int, updates: int, size: int, seed: int) -> Referee:
    """The referee, trained below ``folder`` on as many phantoms of another purpose than the generator's."""
    drawn = synthesis.draw(originals, JUDGING, seed, size)
    return referees.train(drawn, updates, seed, folder / "referee")


def publish_referee(referee: Referee, out: Path, facts: Mapping[str, object]) -> None:
    """Save a referee with its card of these ``facts`` (its ``size`` among them) and the SHA-256 of every file."""
    shutil.rmtree(out, ignore_errors=True)
    referees.save(referee, int(str(facts["size"])), out)
    (out / "README.md").write_text(REFEREE_CARD.format(**facts, folder=runs.relative(out)), "utf-8")
    write_digests(out)


def publish(student: Path, out: Path, facts: Mapping[str, object]) -> None:
    """Copy a saved pipeline in half precision, with its card of these ``facts`` and the SHA-256 of every file."""
    pipeline = VisionCLIPDDPMPipeline.from_pretrained(student)
    described = {**facts, "folder": runs.relative(out), "layout": ", ".join(pipeline.unet.config.layout)}
    shutil.rmtree(out, ignore_errors=True)
    pipeline.unet.half()
    pipeline.save_pretrained(out)
    for config in (out / "model_index.json", out / "unet" / "config.json"):
        runs.write_json(config, {key: value for key, value in runs.read_json(config).items() if key != TRAINED_AT})
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
        referee = train_referee(given.folder, JUDGED_BY, JUDGE_UPDATES, SIZE, SEED)
        if PartialState().is_main_process:
            both = {"size": SIZE, "seed": SEED, "commit": str(runs.git_state()["commit"])[:7]}
            facts = {**both, "originals": ORIGINALS, "updates": TEACHER.updates, "batch": TEACHER.batch_size}
            publish(student, given.out / "generator", {**facts, "steps": STUDENT.steps, "student": STUDENT.updates})
            judge = {**both, "originals": JUDGED_BY, "updates": JUDGE_UPDATES}
            publish_referee(referee, given.out / "referee", judge)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
