"""The same versions wherever an environment is described, and nothing used that is not declared."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distributions, packages_distributions

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook
from packaging.specifiers import SpecifierSet

from visionclip import runs


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines) -> dict[str, str]:
    """Version by package of the lines ``package==version``; every line that is not a comment must be one."""
    found = {}
    for line in lines:
        if line and not line.startswith("#"):
            name, version = re.fullmatch(r"([\w.-]+)==([\w.]+)", line).groups()
            found[normal(name)] = version
    return found


PROJECT = tomllib.loads((runs.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCK = pins((runs.ROOT / "requirements.lock").read_text("utf-8").splitlines())
DIRECT = pins(
    [*PROJECT["dependencies"], *(line for group in PROJECT["optional-dependencies"].values() for line in group)]
)


def test_every_direct_dependency_is_locked_at_the_same_version():
    assert {name: LOCK.get(name) for name in DIRECT} == DIRECT


def test_the_lock_is_sorted_and_free_of_what_breaks_the_study():
    names = [normal(line.split("==")[0]) for line in (runs.ROOT / "requirements.lock").read_text("utf-8").splitlines()]
    names = [name for name in names if not name.startswith("#")]
    assert names == sorted(names)
    assert not {"torchvision", "timm", "open-clip-torch", "visionclip"} & set(names)


def test_every_locked_package_takes_the_oldest_python_that_the_project_takes():
    oldest = f"{next(iter(SpecifierSet(PROJECT['requires-python']))).version}.0"
    needed = {one.name: one.metadata["Requires-Python"] for one in distributions() if normal(one.name) in LOCK}
    refused = {name: spec for name, spec in needed.items() if spec and oldest not in SpecifierSet(spec)}
    assert not refused, f"python {oldest} is not enough; lock an earlier version"


def test_no_description_of_the_environment_names_a_place_of_one_machine():
    for name in ("pyproject.toml", "requirements.lock", "environment.yml"):
        text = (runs.ROOT / name).read_text("utf-8")
        assert not re.search(r"file:|find-links|index-url|://", text), name


def test_conda_environment_installs_the_lock_on_a_python_that_the_project_allows():
    environment = yaml.safe_load((runs.ROOT / "environment.yml").read_text("utf-8"))
    python, pip, by_pip = environment["dependencies"]
    assert pip == "pip"
    assert by_pip["pip"] == ["-r requirements.lock", "-e ."]
    assert PROJECT["requires-python"] == f">={python.removeprefix('python=')}"


def test_every_package_that_the_library_and_the_tests_import_is_a_direct_dependency():
    providers = packages_distributions()
    used = {}
    files = [*(runs.ROOT / "lib").rglob("*.py"), *(runs.ROOT / "tests").rglob("*.py"), runs.ROOT / "conftest.py"]
    for path in (path for path in files if path.name != "peer_step.py"):  # run by the Python of another environment
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                used |= {alias.name.split(".")[0]: path.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                used[node.module.split(".")[0]] = path.name
    local = {"visionclip", *(path.stem for path in (runs.ROOT / "tests").glob("*.py"))}
    foreign = {name: file for name, file in used.items() if name not in sys.stdlib_module_names and name not in local}
    missing = {
        name: file
        for name, file in foreign.items()
        if not {normal(package) for package in providers.get(name, ())} & set(DIRECT)
    }
    assert not missing


def test_make_alone_prints_the_targets():
    result = subprocess.run(["make"], cwd=runs.ROOT, capture_output=True, text=True, check=True)
    assert {"make study", "make test", "make lab", "make notebooks"} <= set(
        re.findall(r"^make \w+", result.stdout, re.M)
    )


def test_make_refuses_an_old_python_in_one_line(tmp_path):
    old = tmp_path / "python"
    code = "import sys; sys.version_info = (3, 10); exec(sys.argv[2])"
    old.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}" "$@"\n')
    old.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        (tmp_path / name).write_text((runs.ROOT / name).read_text("utf-8"))
    command = ["make", "setup", f"PYTHON={old}"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert result.stderr.startswith("Python 3.11 or newer is needed")
    assert not (tmp_path / ".venv").exists()


def foreign_kernel(folder) -> dict[str, str]:
    """The environment of a JupyterHub: its kernel ``python3``, a Python without the library, comes first."""
    kernel = folder / "hub/kernels/python3/kernel.json"
    kernel.parent.mkdir(parents=True)
    argv = [str(folder / "python-of-the-hub"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    return {**os.environ, "JUPYTER_PATH": str(folder / "hub")}


@pytest.mark.parametrize("user", [0, 1000])
def test_make_lab_opens_on_the_study_s_own_kernel_and_as_root_where_it_is_root(tmp_path, user):
    """A program in JupyterLab's place prints what it was given and the kernel that it would start."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(runs.ROOT / name, tmp_path)
    environment = foreign_kernel(tmp_path)
    programs = tmp_path / ".venv/bin"
    programs.mkdir(parents=True)
    shutil.copytree(
        f"{sys.prefix}/share/jupyter/kernels/python3", tmp_path / ".venv/share/jupyter/kernels/python3", symlinks=True
    )
    (tmp_path / ".venv/ready").touch()
    kernel = (
        "from jupyter_client.kernelspec import KernelSpecManager as K; print(K().get_kernel_spec('python3').argv[0])"
    )
    (programs / "jupyter").write_text(f'#!/bin/sh\necho jupyter "$@"\nexec "{sys.executable}" -c "{kernel}"\n')
    (programs / "id").write_text(f"#!/bin/sh\necho {user}\n")
    for name in ("jupyter", "id"):
        (programs / name).chmod(0o755)
    environment["PATH"] = f"{programs}:{environment['PATH']}"
    result = subprocess.run(
        ["make", "-s", "lab"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    given, python = result.stdout.splitlines()
    assert given == f"jupyter lab notebooks{' --allow-root' if user == 0 else ''}"
    assert python == "python", "a bare name is this environment's Python to Jupyter"


def test_notebooks_are_compared_on_the_python_that_compares_them(tmp_path):
    environment = foreign_kernel(tmp_path)
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(runs.ROOT / name, tmp_path)
    notebook = new_notebook(cells=[new_code_cell("import visionclip", execution_count=1)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "imports.ipynb")
    command = [sys.executable, "-m", "pytest", "--nbval", "imports.ipynb"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "1 passed" in result.stdout, result.stdout
