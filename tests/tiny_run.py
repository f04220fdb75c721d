"""An executed run with what real ones hold, below a folder of its own, for the tests of the reports."""

import base64
import html
import io
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from visionclip import runs
from visionclip.report import figures, pages

SOURCES = {
    "01-synthesis": "# 01 · Synthetic eyes\n\nDoes a generator that saw only phantoms draw *plausible* eyes?",
    "02-captions": "# 02 · Captions in Chinese\n\nDo the sentences say what the eye shows, and nothing else?",
    "03-pretrain": "# 03 · Pretraining\n\nDoes contrast alone show the towers what an eye shows?",
    "04-zero-shot": "# 04 · Zero-shot on real photographs\n\n**Question.** Does it transfer?",
    "05-dataset-size": "# 05 · How much synthetic data is enough?\n\nWhere does the curve flatten?",
}
TRACEBACK = [
    "\x1b[31m---------------------------------------------------------------------------\x1b[39m",
    "\x1b[31mValueError\x1b[39m                                Traceback (most recent call last)",
    f"File \x1b[32m{runs.ROOT}/lib/visionclip/training/contrastive.py:33\x1b[39m, in train(steps)\n     32 loss = 1",
    "\x1b[31mValueError\x1b[39m: loss is not finite at step 12: <script>alert(1)</script>",
]
SHOWN = "On idrid AUC is <b>0.6</b> & less."  # by the circle
SAID = "Of 20 <b>eyes</b> 0.710 [0.660, 0.750] are plausible.\n"
LOG = [
    "Traceback (most recent call last):",
    f'  File "{runs.ROOT}/lib/visionclip/training/contrastive.py", line 33, in train',
    "ValueError: loss is not finite at step 12: <script>alert(1)</script>",
    "",
]


def png(width: int = 640, height: int = 360, transparent: bool = False) -> str:
    """A base64 PNG: a smooth image with more colours than a palette holds."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x % 256, y % 256, (x + y) // 4 % 256, np.full_like(x, 128 if transparent else 255)], -1)
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG", compress_level=1)
    return base64.b64encode(file.getvalue()).decode()


def shown(data: dict, **metadata) -> nbformat.NotebookNode:
    return new_output("display_data", data=data, metadata=metadata)


def takeaway(sentence: str) -> nbformat.NotebookNode:
    """What ``figures.captioned`` displays beneath a figure."""
    return shown({"text/html": figures.TAKEAWAY.format(html.escape(sentence))})


def code(
    source: str, *outputs, tags: tuple[str, ...] = (), count: int | None = 1, caption: str = ""
) -> nbformat.NotebookNode:
    metadata = {"tags": list(tags), "caption": caption}
    return new_code_cell(source, outputs=list(outputs), metadata=metadata, execution_count=count)


def frame(columns: int) -> nbformat.NotebookNode:
    table = pd.DataFrame(
        np.arange(4 * columns).reshape(4, columns) / 7, columns=[f"measure {n}" for n in range(columns)]
    )
    table.insert(0, "condition", ["<script>alert(2)</script>", "糖尿病视网膜病变", "glaucoma", "no disease"])
    return shown({"text/html": table.to_html(), "text/plain": repr(table)})


def notebook(name: str) -> nbformat.NotebookNode:
    """An executed notebook with what real ones hold: figures, narrow and wide tables, Chinese text, formulas, noise."""
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="80" height="40"><circle cx="40" cy="20" r="15"/></svg>'
    return new_notebook(
        metadata={"language_info": {"name": "python"}, "papermill": {"parameters": {"steps": 1200}}},
        cells=[
            new_markdown_cell(SOURCES[name]),
            new_markdown_cell("- read the seed images\n- train the generator, see [captions](02-captions.ipynb)"),
            code("import visionclip\nfrom pathlib import Path  # 路径"),
            code(
                'steps: int = 300  # optimiser steps [1..1000000]\nlanguage: str = "zh"  # of the captions [zh|en]',
                tags=("parameters",),
            ),
            code("# Parameters\nsteps = 1200\n", tags=("injected-parameters",)),
            new_markdown_cell(
                "## The objective\n\nThe loss is $\\mathcal{L} = -\\frac{1}{N}\\sum_i \\log p_{ii}$ here."
            ),
            code(
                "show(samples)",
                shown({"image/png": png(), "text/plain": "<Figure>"}),
                new_output("stream", name="stderr", text="UserWarning: slow\n"),
                new_output("stream", name="stdout", text=f"saved {runs.ROOT}/runs/cpu/01-synthesis\n"),
                caption="Six eyes & more.",
            ),
            code("show(grid)", shown({"image/png": png(1600, 500)}, **{"image/png": {"alt": "16 synthetic eyes"}})),
            code(
                "show(circle)",
                shown({"image/svg+xml": svg}),
                takeaway(SHOWN),
                tags=("figure",),
                caption="A circle <is> round.",
            ),
            code("print(said)", new_output("stream", name="stdout", text=SAID), tags=("answer",)),
            code("show(more)", shown({"image/png": png()})),
            new_markdown_cell("## 结果\n\n左眼，重度非增殖期糖尿病视网膜病变，伴黄斑水肿。<script>alert(3)</script>"),
            code("table", frame(3)),
            code("wide", frame(24)),
            code("secret()", new_output("stream", name="stdout", text="hidden output"), tags=("hide",)),
            code(
                "raw",
                shown({"text/html": '<b onclick="x()">bold</b><script>alert(4)</script><img src="http://x.y/z">'}),
            ),
        ],
    )


def failed(source: nbformat.NotebookNode) -> nbformat.NotebookNode:
    error = new_output("error", ename="ValueError", evalue=TRACEBACK[-1].partition(": ")[2], traceback=TRACEBACK)
    source.cells = [*source.cells[:6], code("train(steps)", error, count=5), code("evaluate()", count=None)]
    return source


def write(path: Path, content: nbformat.NotebookNode) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(content, path)
    return path


def finish(folder: Path, minute: int = 0, **card) -> None:
    """A finished stage's card and numbers, taking 90 s until 12:``minute`` + 1:30."""
    runs.write_json(folder / "numbers.json", {"headline": [{"name": "AUC, any DR", "value": "0.71 (0.66–0.75)"}]})
    content = {
        "stage": folder.name,
        "parameters": {"steps": 1200, "language": "zh", "seed": 3},
        "parameters_hash": "0123456789ab",
        "seed": 3,
        "inputs": {"runs/cpu/01-synthesis": "ba9876543210"},
        "commit": "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567",
        "dirty": True,
        "lock": "feedfacecafe",
        "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
        "machine": {"processor": "A processor", "cores": 2, "system": "Linux x86_64", "python": "3.11.9"},
        "finished": f"2026-11-23 12:{minute + 1:02d}:30 UTC",
        "seconds": 90.0,
    }
    runs.write_json(folder / "card.json", content | card)


def log(run: Path, point: str, text: str) -> Path:
    """The log of a point's job."""
    path = run / "logs" / "05-dataset-size" / f"{point}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def study(folder: Path, failing: bool = True) -> Path:
    """A fake run "cpu" below ``folder``: two stages finished, one failed, one point failed, the rest not run."""
    for name, source in SOURCES.items():
        write(folder / "notebooks" / f"{name}.ipynb", new_notebook(cells=[new_markdown_cell(source)]))
    run = folder / "runs" / "cpu"
    for minute, name in enumerate(("01-synthesis", "02-captions")):
        write(run / name / f"{name}.ipynb", notebook(name))
        finish(run / name, 10 * minute)
    if failing:
        write(run / "logs" / "03-pretrain.ipynb", failed(notebook("03-pretrain")))
        log(run, "n500-s1", "\n".join(["contrastive: 20/40, 3 s", *LOG]))
    return folder


def build(folder: Path) -> Path:
    return pages.build(folder / "runs", folder / "reports", "cpu", folder / "notebooks").parent
