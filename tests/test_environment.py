"""The same versions wherever an environment is described, and nothing used that is not declared."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions

import yaml

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
