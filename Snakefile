# The graph of the study: one rule a notebook, run by papermill. `make study PRESET=cpu`, or
# `snakemake --cores all --config preset=cpu`; `make help` tells the rest.
#
# A stage is finished when its card.json is there. It is rerun when its notebook, its parameter file, a library file it
# imports or an earlier stage changes. The notebook is executed into runs/<preset>/logs, where a failed one stays with
# its traceback, and copied into the stage's folder on success.
import os
import sys
from pathlib import Path

from visionclip import study
from visionclip.stages.sweep import Sweep

PRESET = config.get("preset", "cpu")
FOLDER = f"runs/{PRESET}"
POINTS = f"{FOLDER}/05-dataset-size/points"
SIZES_FILE = f"params/{PRESET}/05-dataset-size.yaml"
# The parameters that hold a folder, by notebook; the rest comes from params/<preset>/NN-name.yaml.
PATHS = {
    "01-synthesis": {"out": f"{FOLDER}/01-synthesis"},
    "02-captions": {"synthesis": f"{FOLDER}/01-synthesis", "out": f"{FOLDER}/02-captions"},
    "03-pretrain": {
        "synthesis": f"{FOLDER}/01-synthesis",
        "captions_folder": f"{FOLDER}/02-captions",
        "out": f"{FOLDER}/03-pretrain",
    },
    "04-zero-shot": {
        "synthesis": f"{FOLDER}/01-synthesis",
        "checkpoint": f"{FOLDER}/03-pretrain",
        "out": f"{FOLDER}/04-zero-shot",
    },
    "05-dataset-size": {"out": f"{FOLDER}/05-dataset-size"},
    "06-transfer": {"out": f"{FOLDER}/06-transfer"},
    "07-reader": {"out": f"{FOLDER}/07-reader"},
    "08-diversity": {"synthesis": f"{FOLDER}/01-synthesis", "out": f"{FOLDER}/08-diversity"},
}
PYTHON = sys.executable
PAPERMILL = """
    mkdir -p $(dirname {log.notebook:q}) $(dirname {output.notebook:q})
    : > {log.progress:q}
    export OMP_NUM_THREADS={threads} VISIONCLIP_LOG="$PWD"/{log.progress:q}
    {PYTHON:q} -m papermill {input.notebook:q} {log.notebook:q} --kernel python3 --no-progress-bar \
        --log-level WARNING -f {input.parameters:q} {params.given}
    cp {log.notebook:q} {output.notebook:q}
"""


def options(given):
    """papermill's command line for these parameters."""
    return " ".join(f"-p {name} {value}" for name, value in given.items())


def pretrain_point(size, seed, schedule):
    """What a point of the scaling curve changes in 03-pretrain."""
    return {
        **PATHS["03-pretrain"],
        "images": size,
        "seed": seed,
        "updates": SWEEP.steps(int(size), schedule.strip("-") or "updates"),
        "text_warmup": asked.text_warmup,
        "out": f"{POINTS}/n{size}-s{seed}{schedule}/03-pretrain",
    }


def zero_shot_point(size, seed, schedule):
    """What a point of the scaling curve changes in 04-zero-shot."""
    folder = f"{POINTS}/n{size}-s{seed}{schedule}"
    return {
        **PATHS["04-zero-shot"],
        "checkpoint": f"{folder}/03-pretrain",
        "controls": False,
        "out": f"{folder}/04-zero-shot",
    }


def needs(notebook, *stages):
    """The inputs of a rule: notebook, parameters, library files, and the cards of earlier stages by their folders."""
    return {
        "notebook": f"notebooks/{notebook}.ipynb",
        "parameters": f"params/{PRESET}/{notebook}.yaml",
        "library": study.sources(notebook),
        "stages": [f"{folder}/card.json" for folder in stages],
    }


def external_folder(notebook):
    """Where a notebook looks for real photographs."""
    folder = PARAMETERS[notebook].external
    if folder == study.declared(notebook)["external"].default:
        folder = os.environ.get("VISIONCLIP_EXTERNAL", folder)
    return Path(folder)


def photographs(notebook):
    """The tables of the real photographs that a notebook finds: one that changes is a reason to rerun."""
    folder = external_folder(notebook)
    return sorted(str(path) for name in ("labels.csv", "tasks.yaml") for path in folder.glob(f"*/{name}"))


def places(notebook):
    """The folders of real photographs that a notebook finds: one that comes or goes is a reason to rerun."""
    folder = external_folder(notebook)
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return [str(folder), *names]


try:
    if unknown := set(config) - {"preset"}:
        raise ValueError(f"--config {sorted(unknown)[0]}: unknown; allowed: preset=NAME")
    study.environment()
    PARAMETERS = study.preset(f"params/{PRESET}")
    asked = PARAMETERS["05-dataset-size"]
    SWEEP = Sweep(asked.sizes, asked.seeds, asked.schedules, asked.updates)
    for name, paths in PATHS.items():
        study.check(name, paths, "Snakefile")
    available = PARAMETERS["01-synthesis"].images
    if max(SWEEP.sizes) > available:
        raise ValueError(f"{SIZES_FILE}: sizes has {max(SWEEP.sizes)}, but 01-synthesis makes {available} images")
    for size in SWEEP.sizes:
        for seed in SWEEP.seeds:
            study.check("03-pretrain", pretrain_point(size, seed, ""), SIZES_FILE)
except ValueError as error:
    sys.exit(str(error))

ON_GPU = int(PRESET in ("gpu", "paper"))
# Points run side by side, one core each; where a GPU does the work they take turns at it.
TRAINING = workflow.cores if ON_GPU and workflow.cores else 1


wildcard_constraints:
    size="|".join(map(str, SWEEP.sizes)),
    seed="|".join(map(str, SWEEP.seeds)),
    schedule="(-epochs)?",


localrules:
    all,
    report,


NOTEBOOKS = expand(f"{FOLDER}/{{name}}/{{name}}.ipynb", name=PATHS)


# The notebooks are asked for by name: reports/cpu comes with a clone, and a page alone would pass for a finished study.
rule all:
    input:
        f"reports/{PRESET}/index.html",
        NOTEBOOKS,


rule report:
    input:
        notebooks=NOTEBOOKS,
        library=["lib/visionclip/report.py", *study.sources("lib/visionclip/report.py")],
        templates=sorted(str(path) for path in Path("lib/visionclip/templates").rglob("*.*")),
    output:
        f"reports/{PRESET}/index.html",
    shell:
        "{PYTHON:q} -m visionclip.report --preset {PRESET}"


rule synthesis:
    input:
        **needs("01-synthesis"),
    output:
        card=f"{FOLDER}/01-synthesis/card.json",
        notebook=f"{FOLDER}/01-synthesis/01-synthesis.ipynb",
    log:
        notebook=f"{FOLDER}/logs/01-synthesis.ipynb",
        progress=f"{FOLDER}/logs/01-synthesis.log",
    params:
        given=options(PATHS["01-synthesis"]),
    priority: 1  # it wants all cores: what depends on nothing, such as 06-transfer, waits until it has run
    threads: workflow.cores or 1
    resources:
        gpu=ON_GPU,
    shell:
        PAPERMILL


rule captions:
    input:
        **needs("02-captions", f"{FOLDER}/01-synthesis"),
    output:
        card=f"{FOLDER}/02-captions/card.json",
        notebook=f"{FOLDER}/02-captions/02-captions.ipynb",
    log:
        notebook=f"{FOLDER}/logs/02-captions.ipynb",
        progress=f"{FOLDER}/logs/02-captions.log",
    params:
        given=options(PATHS["02-captions"]),
    shell:
        PAPERMILL


rule pretrain:
    input:
        **needs("03-pretrain", f"{FOLDER}/01-synthesis", f"{FOLDER}/02-captions"),
    output:
        card=f"{FOLDER}/03-pretrain/card.json",
        notebook=f"{FOLDER}/03-pretrain/03-pretrain.ipynb",
    log:
        notebook=f"{FOLDER}/logs/03-pretrain.ipynb",
        progress=f"{FOLDER}/logs/03-pretrain.log",
    params:
        given=options(PATHS["03-pretrain"]),
    priority: 1  # the longest of those that run side by side
    threads: TRAINING
    resources:
        gpu=ON_GPU,
    shell:
        PAPERMILL


rule zero_shot:
    input:
        **needs("04-zero-shot", f"{FOLDER}/01-synthesis", f"{FOLDER}/03-pretrain"),
        photographs=photographs("04-zero-shot"),
    output:
        card=f"{FOLDER}/04-zero-shot/card.json",
        notebook=f"{FOLDER}/04-zero-shot/04-zero-shot.ipynb",
    log:
        notebook=f"{FOLDER}/logs/04-zero-shot.ipynb",
        progress=f"{FOLDER}/logs/04-zero-shot.log",
    params:
        given=options(PATHS["04-zero-shot"]),
        external=places("04-zero-shot"),
    threads: TRAINING
    resources:
        gpu=ON_GPU,
    shell:
        PAPERMILL


rule point_pretrain:
    input:
        **needs("03-pretrain", f"{FOLDER}/01-synthesis", f"{FOLDER}/02-captions"),
    output:
        card=f"{POINTS}/n{{size}}-s{{seed}}{{schedule}}/03-pretrain/card.json",
        notebook=f"{POINTS}/n{{size}}-s{{seed}}{{schedule}}/03-pretrain/03-pretrain.ipynb",
    log:
        notebook=f"{FOLDER}/logs/n{{size}}-s{{seed}}{{schedule}}/03-pretrain.ipynb",
        progress=f"{FOLDER}/logs/n{{size}}-s{{seed}}{{schedule}}/03-pretrain.log",
    params:
        given=lambda wildcards: options(pretrain_point(**wildcards)),
    threads: TRAINING
    resources:
        gpu=ON_GPU,
    shell:
        PAPERMILL


rule point_zero_shot:
    input:
        **needs("04-zero-shot", f"{FOLDER}/01-synthesis", f"{POINTS}/n{{size}}-s{{seed}}{{schedule}}/03-pretrain"),
        photographs=photographs("04-zero-shot"),
    output:
        card=f"{POINTS}/n{{size}}-s{{seed}}{{schedule}}/04-zero-shot/card.json",
        notebook=f"{POINTS}/n{{size}}-s{{seed}}{{schedule}}/04-zero-shot/04-zero-shot.ipynb",
    log:
        notebook=f"{FOLDER}/logs/n{{size}}-s{{seed}}{{schedule}}/04-zero-shot.ipynb",
        progress=f"{FOLDER}/logs/n{{size}}-s{{seed}}{{schedule}}/04-zero-shot.log",
    params:
        given=lambda wildcards: options(zero_shot_point(**wildcards)),
        external=places("04-zero-shot"),
    threads: TRAINING
    resources:
        gpu=ON_GPU,
    shell:
        PAPERMILL


rule dataset_size:
    input:
        **needs("05-dataset-size"),
        points=[f"{POINTS}/{name}/04-zero-shot/card.json" for name in SWEEP.folders],
    output:
        card=f"{FOLDER}/05-dataset-size/card.json",
        notebook=f"{FOLDER}/05-dataset-size/05-dataset-size.ipynb",
    log:
        notebook=f"{FOLDER}/logs/05-dataset-size.ipynb",
        progress=f"{FOLDER}/logs/05-dataset-size.log",
    params:
        given=options(PATHS["05-dataset-size"]),
    shell:
        PAPERMILL


rule transfer:
    input:
        **needs("06-transfer"),
        photographs=photographs("06-transfer"),
    output:
        card=f"{FOLDER}/06-transfer/card.json",
        notebook=f"{FOLDER}/06-transfer/06-transfer.ipynb",
    log:
        notebook=f"{FOLDER}/logs/06-transfer.ipynb",
        progress=f"{FOLDER}/logs/06-transfer.log",
    params:
        given=options(PATHS["06-transfer"]),
        external=places("06-transfer"),
    threads: TRAINING
    resources:
        gpu=ON_GPU,
    shell:
        PAPERMILL


rule reading:
    input:
        **needs("07-reader"),
        photographs=photographs("07-reader"),
    output:
        card=f"{FOLDER}/07-reader/card.json",
        notebook=f"{FOLDER}/07-reader/07-reader.ipynb",
    log:
        notebook=f"{FOLDER}/logs/07-reader.ipynb",
        progress=f"{FOLDER}/logs/07-reader.log",
    params:
        given=options(PATHS["07-reader"]),
        external=places("07-reader"),
    threads: TRAINING
    resources:
        gpu=ON_GPU,
    shell:
        PAPERMILL


rule diversity:
    input:
        **needs("08-diversity", f"{FOLDER}/01-synthesis"),
        like=f"params/{PRESET}/03-pretrain.yaml",
    output:
        card=f"{FOLDER}/08-diversity/card.json",
        notebook=f"{FOLDER}/08-diversity/08-diversity.ipynb",
    log:
        notebook=f"{FOLDER}/logs/08-diversity.ipynb",
        progress=f"{FOLDER}/logs/08-diversity.log",
    params:
        given=options(PATHS["08-diversity"]),
    threads: TRAINING
    resources:
        gpu=ON_GPU,
    shell:
        PAPERMILL


onerror:
    shell("{PYTHON:q} -m visionclip.report --preset {PRESET}")
