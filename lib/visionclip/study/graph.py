"""The graph of the study: one table of stages, and all that the Snakefile asks about each of them.

A preset runs the stages that it has a parameter file of: one that leaves 05 out has no file of it.

With ``seeds`` the model is trained once more for each of them and scored as the first is: stages ``SEEDED`` have a copy
"seeds/N/03-pretrain" of that seed.

A stage runs again when its notebook or its parameter file changes, an earlier stage was run again, or one of its
``reasons`` is another: the library code that it imports (comments and docstrings aside), the folders that it is given,
the parameters that it takes over from another stage,
the vocabulary and every file of the folders from elsewhere that it reads: photographs, marks, a tower.
"""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache

from visionclip import keys, runs
from visionclip.data import listing
from visionclip.stages.sweep import PLANNED, Sweep
from visionclip.study.notebooks import PHOTOGRAPHS, environment
from visionclip.study.parameters import check, declared, preset

DEFAULT = "cpu"
fingerprint = cache(listing.fingerprint)  # a folder is looked at once for all its stages


@dataclass(frozen=True)
class Row:
    """A stage of the study.

    ``inputs`` are the earlier stages that it reads, by the parameter that takes their folder; ``settings`` those of
    which it takes the parameters alone, by the parameter that names their file, so that it need not wait for them;
    ``given`` the parameters that name a folder from elsewhere. One with ``all_cores`` takes the whole machine, one with
    ``gpu`` only where a GPU does its work; of several that could run, the highest ``priority`` goes first.
    """

    inputs: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    given: tuple[str, ...] = ()
    gpu: bool = True
    all_cores: bool = False
    priority: int = 0


STAGES = {
    "01-synthesis": Row(given=("seeds", "generator", "referee_model"), all_cores=True, priority=1),
    "02-captions": Row({"synthesis": "01-synthesis"}, gpu=False, priority=1),  # short, and the longest wait for it
    "03-pretrain": Row(
        {"synthesis": "01-synthesis", "captions_folder": "02-captions"}, given=("tower",), all_cores=True, priority=1
    ),
    "04-zero-shot": Row({"synthesis": "01-synthesis", "checkpoint": "03-pretrain"}, given=("external",)),
    "05-dataset-size": Row(
        {"synthesis": "01-synthesis", "captions_folder": "02-captions"},
        {"pretrained": "03-pretrain"},
        given=("external",),
    ),
    "06-transfer": Row({"synthesis": "01-synthesis"}, given=("external", "features")),
    "07-explanation": Row({"synthesis": "01-synthesis", "checkpoint": "03-pretrain"}, given=("external", "marks")),
    "08-diversity": Row({"synthesis": "01-synthesis"}, {"pretrained": "03-pretrain"}, given=("external",)),
    "09-fine-tuning": Row({"checkpoint": "03-pretrain"}, given=("external", "others", "generator")),
    "10-robustness": Row({"checkpoint": "03-pretrain"}, given=("external",)),
    "11-privacy": Row({"checkpoint": "03-pretrain"}, given=("external", "generator")),
    "12-your-photograph": Row(given=("photographs", "model")),
}
SIZES = "05-dataset-size"
SEEDED = ("03-pretrain", "04-zero-shot", "07-explanation")  # the training of the model, and where it is scored
SWEPT = {"sizes", "seeds", *PLANNED}  # parameters of 05 that say which points there are


def rule(stage: str) -> str:
    """The name of a stage's rule: ``zero_shot`` of ``04-zero-shot``, ``seeds_1_zero_shot`` of its copy of seed 1."""
    prefix, own = _parts(stage)
    return prefix.replace("/", "_") + own[3:].replace("-", "_")


def notebook(stage: str) -> str:
    """The name of the notebook, and so of the parameters, of a stage or of its copy of another seed.

    Raises:
        ValueError: no such stage.
    """
    prefix, own = _parts(stage)
    if own not in STAGES or (prefix and (not re.fullmatch(r"seeds/\d+/", prefix) or own not in SEEDED)):
        copies = ", ".join(f"seeds/N/{name}" for name in SEEDED)
        raise ValueError(f"{stage}: no such stage (there are {', '.join(STAGES)}, and with a number for N {copies})")
    return own


def _parts(stage: str) -> tuple[str, str]:
    """What stands before the name of a copy's notebook ("seeds/1/", or nothing), and that name."""
    own = stage.rpartition("/")[2]
    return stage.removesuffix(own), own


@cache
def has_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU, as far as can be told without waiting for torch."""
    return shutil.which("nvidia-smi") is not None


class Graph:
    """What runs for one preset, as paths relative to the repository's root.

    ``config`` is Snakemake's, of which there may be ``preset`` and ``seeds``, further ones as in "1,2".

    Raises:
        ValueError: an unknown key or preset, a wrong parameter or seed, or an environment that breaks the study; in one
            line.
    """

    def __init__(self, config: Mapping[str, str]):
        if unknown := sorted(set(config) - {"preset", "seeds"}):
            raise ValueError(f"--config {unknown[0]}: unknown; allowed: preset=NAME, seeds=1,2")
        environment()
        self.preset = config.get("preset", DEFAULT)
        self.parameters = preset(f"params/{self.preset}")
        for stage in self.parameters:
            check(stage, self.paths(stage), "table of stages")
        seeds = [seed for seed in str(config.get("seeds", "")).split(",") if seed]
        if seeds and SEEDED[0] not in self.parameters:
            raise ValueError(f"seeds: {','.join(seeds)}; {self.preset} has no {self.file(SEEDED[0])}; add it")
        for seed in seeds:
            if not seed.isdigit() or int(seed) == self.parameters["03-pretrain"].seed or seeds.count(seed) > 1:
                raise ValueError(f"seeds: {','.join(seeds)}; give numbers other than that of 03-pretrain, each once")
        copied = [f"seeds/{seed}/{stage}" for seed in seeds for stage in SEEDED if stage in self.parameters]
        self.stages = [*self.parameters, *copied]
        self.points = Sweep.of(vars(self.parameters[SIZES])).by_name if SIZES in self.parameters else {}

    def folder(self, stage: str) -> str:
        """The folder that a stage writes."""
        return f"runs/{self.preset}/{stage}"

    def file(self, stage: str) -> str:
        """The file of a stage's parameters."""
        return f"params/{self.preset}/{notebook(stage)}.yaml"

    def paths(self, stage: str) -> dict[str, str]:
        """The parameters of a stage that hold a folder of this run, or a file of this preset."""
        folders = {name: self.folder(earlier) for name, earlier in self._earlier(stage).items()}
        files = {name: self.file(earlier) for name, earlier in STAGES[notebook(stage)].settings.items()}
        return folders | files | {"out": self.folder(stage)}

    def _earlier(self, stage: str) -> dict[str, str]:
        """The earlier stages that a stage reads, by parameter: those of its own seed, where they have one."""
        prefix, own = _parts(stage)
        inputs = STAGES[own].inputs.items()
        return {name: prefix + earlier if earlier in SEEDED else earlier for name, earlier in inputs}

    def changed(self, stage: str) -> dict[str, object]:
        """What a stage is given beside its file: its folders, and its seed where it is a copy of another one."""
        prefix, own = _parts(stage)
        trained = prefix and own == SEEDED[0]
        return self.paths(stage) | ({"seed": int(prefix.split("/")[1])} if trained else {})

    def inputs(self, stage: str) -> dict[str, object]:
        """The files whose change runs a stage again, named as in its rule."""
        needed: dict[str, object] = {
            "notebook": f"notebooks/{notebook(stage)}.ipynb",
            "parameters": self.file(stage),
            "stages": [f"{self.folder(earlier)}/card.json" for earlier in self._earlier(stage).values()],
        }
        return needed | ({"points": [self.point(name) for name in self.points]} if stage == SIZES else {})

    def outputs(self, stage: str) -> dict[str, str]:
        """What a finished stage leaves, named as in its rule."""
        return {"card": f"{self.folder(stage)}/card.json", "notebook": f"{self.folder(stage)}/{notebook(stage)}.ipynb"}

    def logs(self, stage: str) -> dict[str, str]:
        """The notebook while it runs, where a failed one stays with its traceback, and its progress."""
        log = f"runs/{self.preset}/logs/{stage}"
        return {"notebook": f"{log}.ipynb", "progress": f"{log}.log"}

    def reasons(self, stage: str) -> dict[str, object]:
        """What else runs a stage again if it changes."""
        return {
            "code": keys.code(runs.resolve(f"notebooks/{notebook(stage)}.ipynb")),
            "paths": self.changed(stage),
            "given": self.given(stage),
            "settings": self.settings(stage),
            **({"vocabulary": words} if (words := self.vocabulary(stage)) else {}),
        }

    def settings(self, stage: str) -> list[object]:
        """The parameters of other stages that a stage takes, and the folders from elsewhere that these name."""
        taken = STAGES[notebook(stage)].settings.values()
        return [part for earlier in taken for part in (vars(self.parameters[earlier]), self.given(earlier))]

    def given(self, stage: str) -> list[str]:
        """The folders from elsewhere that a stage reads, each with its fingerprint; none where it reads none."""
        looked: list[str] = []
        stage = notebook(stage)
        for name in STAGES[stage].given:
            given = getattr(self.parameters[stage], name, "")
            if name in PHOTOGRAPHS and given == declared(stage)[name].default:
                given = os.environ.get(PHOTOGRAPHS[name]) or given
            for folder in given if isinstance(given, list) else [given]:
                looked += [folder, fingerprint(folder)] if folder not in ("", "none") else []
        return looked

    def vocabulary(self, stage: str) -> str:
        """The digest of the word list that a stage is given, empty without one or for a name on the hub."""
        path = runs.resolve(getattr(self.parameters[notebook(stage)], "vocabulary", ""))
        return keys.file(path) if path.is_file() else ""

    def threads(self, stage: str, cores: int | None) -> int:
        """The share of ``cores`` that a stage takes. Where a GPU does the work, stages take turns at it."""
        row = STAGES[notebook(stage)]
        return cores or 1 if row.all_cores or self.gpu(stage) else 1

    def gpu(self, stage: str) -> int:
        """The GPUs that a stage takes here; a profile may say otherwise for other machines."""
        return int(STAGES[notebook(stage)].gpu and has_gpu())

    # The points of the dataset-size study, each a job of its own.

    def point(self, name: str) -> str:
        """The result of a point."""
        return f"{self.folder(SIZES)}/points/{name}.json"

    def point_log(self, name: str) -> str:
        """What the program of a point printed, and its progress."""
        return f"runs/{self.preset}/logs/{SIZES}/{name}.log"

    def point_inputs(self) -> dict[str, object]:
        """As ``inputs``; the file of parameters is left out, see ``point_settings``."""
        return {"stages": self.inputs(SIZES)["stages"]}

    def point_reasons(self) -> dict[str, object]:
        """As ``reasons``."""
        return self.reasons(SIZES) | {"code": keys.code(keys.PACKAGE / "stages" / "dataset_size.py")}

    def point_settings(self, name: str) -> dict[str, object]:
        """What a point is made with: a new size is no reason to run the others again."""
        own = {key: value for key, value in vars(self.parameters[SIZES]).items() if key not in SWEPT}
        return own | asdict(self.points[name]) | self.paths(SIZES)

    # What people open.

    @property
    def index(self) -> str:
        """The page to start at."""
        return f"reports/{self.preset}/index.html"

    @property
    def results(self) -> list[str]:
        """All cards and executed notebooks."""
        return [path for stage in self.stages for path in self.outputs(stage).values()]

    def report_inputs(self) -> dict[str, object]:
        """The files whose change writes the pages again."""
        templates = (keys.PACKAGE / "report" / "templates").rglob("*.*")
        return {"results": self.results, "templates": sorted(map(runs.relative, templates))}
