"""Notebooks executed on this interpreter, and their outputs made fit to commit."""

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from traitlets import default

from visionclip import runs

KERNEL = "python3"
# Variables that name a folder of photographs, by the parameter in whose place they stand where it is at its default.
PHOTOGRAPHS = {"external": "VISIONCLIP_EXTERNAL", "marks": "VISIONCLIP_MARKS"}


class Kernel(AsyncKernelManager):
    """A kernel of this interpreter; one of the same name that another environment has installed is not looked for."""

    @default("kernel_spec_manager")
    def _own(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])  # where none is installed, jupyter_client falls back on this Python


def environment() -> None:
    """Refuse an environment known to break the study.

    Raises:
        ValueError: torchvision is installed; a build that does not fit torch cannot be imported, and transformers and
            diffusers then fail with "Could not import module".
    """
    if importlib.util.find_spec("torchvision"):
        raise ValueError(
            "torchvision is installed and breaks transformers and diffusers where it does not fit torch; the study "
            f"does not use it: {sys.executable} -m pip uninstall torchvision"
        )


def execute(source: Path, target: Path, values: Mapping[str, object]) -> None:
    """Run the notebook ``source`` with these parameters; ``target`` is written cell by cell, and stays if one fails.

    Raises:
        RuntimeError: a cell failed or the kernel died; in one line that names ``target``, which holds the traceback.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        own = {"kernel_name": KERNEL, "kernel_manager_class": Kernel}
        papermill.execute_notebook(source, target, dict(values), progress_bar=False, **own)
    except PapermillExecutionError as error:
        reason = f"{error.ename}: {error.evalue}".splitlines()[0]
        raise RuntimeError(f"{runs.relative(target)} has the traceback of: {reason}") from None
    except DeadKernelError:
        raise RuntimeError(f"{runs.relative(target)}: its kernel died, often for want of memory") from None


def refresh(path: str | Path) -> None:
    """Execute a notebook at its defaults, as JupyterLab would, and save it normalised; a failing one stays as it was.

    The variables of ``PHOTOGRAPHS`` are hidden from it: what is committed must not depend on those of one machine.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    path = Path(path).absolute()
    notebook = nbformat.read(path, as_version=4)
    visible = {name: value for name, value in os.environ.items() if name not in PHOTOGRAPHS.values()}
    folder = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, timeout=None, kernel_name=KERNEL, kernel_manager_class=Kernel, resources=folder)
    client.execute(env=visible)
    _save(notebook, path)


def normalise(path: str | Path) -> None:
    """Rewrite an executed notebook without what changes from run to run: papermill's, widgets' and timing metadata.

    Kept are sources, tags, captions of figures, outputs, the kernel ``python3`` and the language.

    Raises:
        ValueError: the execution counts of the code cells are not 1 .. N.
    """
    path = Path(path).absolute()
    _save(nbformat.read(path, as_version=4), path)


def _save(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Normalise a notebook in memory and write it atomically."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": KERNEL},
        "language_info": {"name": "python"},
    }
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        raise ValueError(f"{runs.relative(path)}: execution counts are not 1 to {len(code)}; run the whole notebook")
    for cell in notebook.cells:
        cell.metadata = {name: cell.metadata[name] for name in ("caption", "tags") if cell.metadata.get(name)}
        for output in cell.get("outputs", ()):
            output.pop("transient", None)
            if "metadata" in output:
                output.metadata = {}
            for kind in [kind for kind in output.get("data", ()) if kind.startswith("application/vnd.jupyter.widget")]:
                del output.data[kind]
    with runs.atomic(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        nbformat.write(nbformat.from_dict(notebook), file)
