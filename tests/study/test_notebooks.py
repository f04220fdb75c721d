"""Notebooks run on this interpreter, and normalised."""

import os
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_output

import tiny
from visionclip import runs
from visionclip.study import notebooks

NAME = "03-pretrain"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    return tiny.study(tmp_path)


def test_torchvision_is_refused_in_one_line(monkeypatch):
    notebooks.environment()
    monkeypatch.setattr(notebooks.importlib.util, "find_spec", lambda name: name == "torchvision")
    with pytest.raises(ValueError, match=r"^[^\n]*uninstall torchvision$"):
        notebooks.environment()


def test_normalise_keeps_sources_tags_and_outputs_only(root):
    path = root / "notebooks" / f"{NAME}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    for count, cell in enumerate(notebook.cells[1:], 1):
        cell.execution_count = count
        cell.metadata.update({"papermill": {"duration": 3.0}, "execution": {"started": "now"}})
    widget = {"text/plain": "bar", "application/vnd.jupyter.widget-view+json": {"model_id": "1f"}}
    notebook.cells[2].outputs = [new_output("display_data", widget, metadata={"papermill": {}})]
    notebook.metadata.update({"papermill": {"output_path": "/home/me"}, "widgets": {}})
    notebook.metadata.language_info.version = "3.11.7"
    nbformat.write(notebook, path)
    notebooks.normalise(path)
    found = nbformat.read(path, as_version=4)
    assert set(found.metadata) == {"kernelspec", "language_info"}
    assert found.metadata.language_info == {"name": "python"}
    assert [cell.metadata for cell in found.cells] == [{}, {}, {"tags": ["parameters"]}, {}, {}, {}]
    assert found.cells[2].outputs[0].data == {"text/plain": "bar"}
    assert not found.cells[2].outputs[0].metadata
    before = path.read_bytes()
    notebooks.normalise(path)
    assert path.read_bytes() == before


def test_normalise_refuses_a_notebook_run_out_of_order(root):
    path = root / "notebooks" / f"{NAME}.ipynb"
    with pytest.raises(ValueError, match=r"^[^\n]*execution counts are not 1 to 5[^\n]*$"):
        notebooks.normalise(path)


def test_refresh_executes_at_the_defaults_from_the_notebooks_own_folder(root, monkeypatch):
    monkeypatch.setenv("VISIONCLIP_EXTERNAL", "/photographs")
    monkeypatch.setenv("VISIONCLIP_MARKS", "/marks")
    path = root / "notebooks" / f"{NAME}.ipynb"
    notebook = tiny.notebook(NAME)
    hidden = '*(os.getenv(f"VISIONCLIP_{name}") for name in ("EXTERNAL", "MARKS"))'
    notebook.cells[1].source = f"import os\nprint(os.path.basename(os.getcwd()), {hidden})"
    notebook.cells = notebook.cells[:3]
    nbformat.write(notebook, path)
    notebooks.refresh(path)
    found = nbformat.read(path, as_version=4)
    assert [cell.execution_count for cell in found.cells[1:]] == [1, 2]
    assert found.cells[1].outputs[0].text == "notebooks None None\n"
    assert "VISIONCLIP_EXTERNAL" in os.environ


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """Another environment's kernelspec of the same name, first on Jupyter's path, whose Python does not start."""
    folder = tmp_path / "jupyter" / "kernels" / "python3"
    runs.write_json(
        folder / "kernel.json", {"argv": ["/nowhere/python"], "display_name": "other", "language": "python"}
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))


def test_this_interpreter_runs_a_notebook_whatever_kernels_are_installed(root, foreign):
    path = root / "notebooks" / f"{NAME}.ipynb"
    notebook = tiny.notebook(NAME)
    notebook.cells[3:] = [new_code_cell("import sys\nprint(sys.executable, updates)")]
    nbformat.write(notebook, path)
    notebooks.execute(path, root / "runs" / "executed.ipynb", {"updates": 7})
    executed = nbformat.read(root / "runs" / "executed.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == f"{sys.executable} 7\n"
    notebooks.refresh(path)
    assert nbformat.read(path, as_version=4).cells[-1].outputs[0].text == f"{sys.executable} 2\n"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise KeyError('no such eye\\nat all')", "executed.ipynb has the traceback of: KeyError: 'no such eye"),
        ("import os\nos._exit(9)", "executed.ipynb: its kernel died, often for want of memory"),
    ],
)
def test_a_notebook_that_fails_is_one_line_and_stays(root, code, words):
    path = root / "notebooks" / f"{NAME}.ipynb"
    notebook = tiny.notebook(NAME)
    notebook.cells[3:] = [new_code_cell(code)]
    nbformat.write(notebook, path)
    with pytest.raises(RuntimeError) as caught:
        notebooks.execute(path, root / "runs" / "executed.ipynb", {})
    assert "\n" not in str(caught.value)
    assert words in str(caught.value)
    assert (root / "runs" / "executed.ipynb").is_file()
