"""A study of eleven tiny notebooks in a folder of its own, for the tests of what runs notebooks."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

PRESETS = ("smoke", "cpu")
SYNTHESIS = 'synthesis: str = "runs/smoke/01-synthesis"  # folder of stage 01'
CAPTIONS = 'captions_folder: str = "runs/smoke/02-captions"  # folder of stage 02'
PRETRAINED = 'pretrained: str = "params/smoke/03-pretrain.yaml"  # parameters of stage 03'
CHECKPOINT = 'checkpoint: str = "runs/smoke/03-pretrain"  # folder of stage 03'
EXTERNAL = 'external: str = "data/external"  # folder of the photographs'
MARKS = 'marks: str = "data/marks"  # folder of marked photographs'
PARAMETERS = {
    "01-synthesis": "images: int = 4  # drawn [1..100]",
    "02-captions": SYNTHESIS,
    "03-pretrain": f"""{SYNTHESIS}
{CAPTIONS}
images: int = 4  # training images [1..100]
updates: int = 2  # optimiser updates [1..1000]
text_warmup: int = 1  # updates of the text tower alone [0..1000]
learning_rate: float = 1e-3  # at its highest [1e-6..1]
precision: str = "bf16"  # arithmetic of the model [fp32|bf16]
languages: list[str] = ["zh"]  # of the captions [zh|en]
augment: bool = True  # random rotation
seed: int = 0  # of every random draw [0..9]""",
    "04-zero-shot": f"""{SYNTHESIS}
{CHECKPOINT}
{EXTERNAL}
controls: bool = True  # score the controls too""",
    "05-dataset-size": f"""{SYNTHESIS}
{CAPTIONS}
{PRETRAINED}
{EXTERNAL}
sizes: list[int] = [2]  # training images [1..100]
seeds: list[int] = [0]  # of every random draw [0..9]
updates: int = 2  # optimiser updates [1..1000]
check_every: int = 1  # updates [1..1000]
patience: int = 1  # checks [1..100]
text_warmup: int = 1  # of each point [0..1000]
size: int = 0  # pixels [0..1024]""",
    "06-transfer": f"{SYNTHESIS}\n{EXTERNAL}",
    "07-explanation": f"{SYNTHESIS}\n{CHECKPOINT}\n{EXTERNAL}\n{MARKS}",
    "08-diversity": f"{SYNTHESIS}\n{PRETRAINED}\n{EXTERNAL}",
    "09-fine-tuning": f"{CHECKPOINT}\n{EXTERNAL}",
    "10-robustness": f"{CHECKPOINT}\n{EXTERNAL}",
    "11-privacy": f"{CHECKPOINT}\n{EXTERNAL}",
    "12-your-photograph": "seed: int = 0  # of every random draw [0..9]",
}


def notebook(name: str, *cells: str, parameters: str = "", imports: str = "") -> nbformat.NotebookNode:
    """A notebook that asks, imports, takes parameters and checks them, and then has ``cells``."""
    tagged = new_code_cell(parameters or PARAMETERS[name], metadata={"tags": ["parameters"]})
    return new_notebook(
        cells=[
            new_markdown_cell(f"# Does {name} work?"),
            new_code_cell(f"from visionclip import runs, study\n{imports}".strip()),
            tagged,
            new_code_cell(f'parameters = study.parameters(globals(), "{name}")'),
            *map(new_code_cell, cells),
        ],
        metadata={
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
    )


def study(root: Path, imports: dict[str, str] | None = None) -> Path:
    """Write twelve notebooks and two presets below ``root``; every notebook writes a finished stage.

    ``imports`` adds lines of import to notebooks, by their names.
    """
    for folder in ("notebooks", *(f"params/{preset}" for preset in PRESETS)):
        (root / folder).mkdir(parents=True)
    for name, parameters in PARAMETERS.items():
        cells = f'stage = runs.Stage("{name}", out, vars(parameters))', 'stage.finish({"headline": []})["stage"]'
        tagged = f'{parameters}\nout: str = "runs/smoke/{name}"  # folder'
        written = notebook(name, *cells, parameters=tagged, imports=(imports or {}).get(name, ""))
        nbformat.write(written, root / "notebooks" / f"{name}.ipynb")
        for preset in PRESETS:
            (root / "params" / preset / f"{name}.yaml").write_text(f"# make study PRESET={preset}\n")
    return root
