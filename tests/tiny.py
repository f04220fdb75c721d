"""A study of eight tiny notebooks in a folder of its own, for the tests of what runs notebooks."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

PRESETS = ("smoke", "cpu", "overnight", "gpu", "paper")
PARAMETERS = {
    "01-synthesis": "images: int = 4  # drawn [1..100]",
    "02-captions": 'synthesis: str = "runs/smoke/01-synthesis"  # folder of stage 01',
    "03-pretrain": """synthesis: str = "runs/smoke/01-synthesis"  # folder of stage 01
captions_folder: str = "runs/smoke/02-captions"  # folder of stage 02
images: int = 4  # training images [1..100]
updates: int = 2  # optimiser updates [1..1000]
text_warmup: int = 1  # updates of the text tower alone [0..1000]
learning_rate: float = 1e-3  # at its highest [1e-6..1]
precision: str = "bf16"  # arithmetic of the model [fp32|bf16]
languages: list[str] = ["zh"]  # of the captions [zh|en]
augment: bool = True  # random rotation
seed: int = 0  # of every random draw [0..9]""",
    "04-zero-shot": """synthesis: str = "runs/smoke/01-synthesis"  # folder of stage 01
checkpoint: str = "runs/smoke/03-pretrain"  # folder of stage 03
external: str = "data/external"  # folder of the photographs
controls: bool = True  # score the controls too""",
    "05-dataset-size": """sizes: list[int] = [2]  # training images [1..100]
seeds: list[int] = [0]  # of every random draw [0..9]
schedules: list[str] = ["updates"]  # of the points [updates|epochs]
updates: int = 2  # optimiser updates [1..1000]
text_warmup: int = 1  # of each point [0..1000]""",
    "06-transfer": """external: str = "data/external"  # folder of the photographs""",
    "07-reader": """external: str = "data/external"  # folder of the photographs""",
    "08-diversity": """synthesis: str = "runs/smoke/01-synthesis"  # folder of stage 01""",
}


def notebook(name: str, *cells: str, parameters: str = "") -> nbformat.NotebookNode:
    """A notebook that asks, imports, takes parameters and checks them, and then has ``cells``."""
    tagged = new_code_cell(parameters or PARAMETERS[name], metadata={"tags": ["parameters"]})
    return new_notebook(
        cells=[
            new_markdown_cell(f"# Does {name} work?"),
            new_code_cell("from visionclip import runs, study"),
            tagged,
            new_code_cell(f'parameters = study.parameters(globals(), "{name}")'),
            *map(new_code_cell, cells),
        ],
        metadata={
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
    )


def study(root: Path) -> Path:
    """Write the eight notebooks and five presets below ``root``; every notebook writes a finished stage."""
    for folder in ("notebooks", *(f"params/{preset}" for preset in PRESETS)):
        (root / folder).mkdir(parents=True)
    for name, parameters in PARAMETERS.items():
        cells = f'stage = runs.Stage("{name}", out, vars(parameters))', 'stage.finish({"headline": []})["stage"]'
        written = notebook(name, *cells, parameters=f'{parameters}\nout: str = "runs/smoke/{name}"  # folder')
        nbformat.write(written, root / "notebooks" / f"{name}.ipynb")
        for preset in PRESETS:
            (root / "params" / preset / f"{name}.yaml").write_text(f"# make study PRESET={preset}\n")
    return root
