"""Parameters, dependencies and normalisation of notebooks."""

import fcntl
import os
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_output

import tiny
from visionclip import runs, study

NAME = "03-pretrain"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    return tiny.study(tmp_path)


def message(call, *arguments) -> str:
    with pytest.raises(ValueError, match=r"\S") as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_declared_reads_type_default_meaning_and_limits(root):
    found = study.declared(NAME)
    assert found["images"] == study.Parameter("images", "int", 4, "training images", 1, 100)
    assert found["precision"].choices == ("fp32", "bf16")
    assert found["languages"].type == "list[str]"
    assert found["augment"].default is True
    assert list(found)[-1] == "out"


def test_declared_takes_a_path_as_well_as_a_name(root):
    assert study.declared(root / "notebooks" / f"{NAME}.ipynb") == study.declared(NAME)


@pytest.mark.parametrize(
    "line",
    [
        "steps = 3  # no type [1..9]",
        "steps: complex = 3  # no such type [1..9]",
        "steps: int = 1 + two  # not a literal [1..9]",
        "steps: int = 30  # outside its own limits [1..9]",
        "steps: int = 3  # limits that are not numbers [few..many]",
        "steps: int = = 3",
        "print(1)",
    ],
)
def test_a_line_that_declares_no_valid_parameter_is_refused(root, line):
    nbformat.write(tiny.notebook(NAME, parameters=line), root / "notebooks" / f"{NAME}.ipynb")
    assert "notebooks/03-pretrain.ipynb" in message(study.declared, NAME)


def test_an_unknown_notebook_is_refused_with_the_closest_name(root):
    assert "did you mean 03-pretrain?" in message(study.declared, "03-pretain")


def test_defaults_are_filled_in(root):
    assert vars(study.check(NAME, {"images": 7}, "file"))["updates"] == 2
    assert study.check(NAME, {"images": 7}, "file").images == 7


@pytest.mark.parametrize(
    ("given", "expected"),
    [({"learning_rate": "1e-3"}, 0.001), ({"learning_rate": 1}, 1.0), ({"images": 5.0}, 5), ({"images": "2e1"}, 20)],
)
def test_numbers_become_the_declared_type(root, given, expected):
    (name,) = given
    value = getattr(study.check(NAME, given, "file"), name)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"imags": 7}, "unknown parameter 'imags'; did you mean images?"),
        ({"images": True}, "images is True; allowed: int from 1 to 100"),
        ({"images": 2.5}, "images is 2.5"),
        ({"images": "7"}, "images is '7'"),
        ({"images": 0}, "images is 0; allowed: int from 1 to 100"),
        ({"images": None}, "images is None"),
        ({"images": [7]}, "images is [7]"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'; allowed: float from 1e-06 to 1"),
        ({"augment": 1}, "augment is 1; allowed: bool"),
        ({"augment": "yes"}, "augment is 'yes'"),
        ({"precision": "fp64"}, "precision is 'fp64'; allowed: str one of fp32, bf16"),
        ({"precision": 32}, "precision is 32"),
        ({"languages": "zh"}, "languages is 'zh'; allowed: list[str] one of zh, en"),
        ({"languages": []}, "languages is []"),
        ({"languages": ["zh", "fr"]}, "languages is 'fr'"),
    ],
)
def test_a_wrong_parameter_is_one_line_with_key_file_and_what_is_allowed(root, given, words):
    text = message(study.check, NAME, given, "params/cpu/03-pretrain.yaml")
    assert text.startswith("params/cpu/03-pretrain.yaml: ")
    assert words in text


def test_inside_a_notebook_the_checked_values_replace_the_injected_ones(root):
    namespace = {name: parameter.default for name, parameter in study.declared(NAME).items()}
    namespace |= {"learning_rate": "1e-4", "In": [], "_private": 3, "runs": runs}
    assert study.parameters(namespace, NAME).learning_rate == 1e-4
    assert namespace["learning_rate"] == 1e-4


def test_a_name_that_papermill_only_warns_of_is_refused(root):
    defaults = {name: parameter.default for name, parameter in study.declared(NAME).items()}
    text = message(study.parameters, defaults | {"update": 3}, NAME)
    assert "unknown parameter 'update'; did you mean updates?" in text


def test_the_cell_can_be_run_again_once_the_notebook_has_results_among_its_globals(root):
    namespace = {name: parameter.default for name, parameter in study.declared(NAME).items()}
    study.parameters(namespace, NAME)
    namespace |= {"loss": 0.5, "updates": 9}
    assert study.parameters(namespace, NAME).updates == 9
    namespace["updates"] = 0
    assert "updates is 0" in message(study.parameters, namespace, NAME)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("images: {count: 3}", "images is nested"),
        ("languages: [[zh]]", "languages is nested"),
        ("- images", "is a list"),
        ("images: [1", "not YAML"),
        ("images: 3\nimages: 4", "images is given twice"),
        ("image: 3", "unknown parameter 'image'"),
        ("images: many", "images is 'many'"),
    ],
)
def test_a_bad_parameter_file_is_refused(root, text, words):
    (root / "params/cpu/03-pretrain.yaml").write_text(text)
    said = message(study.preset, "params/cpu")
    assert said.startswith("params/cpu/03-pretrain.yaml: ")
    assert words in said


def test_a_missing_file_an_unknown_file_and_an_unknown_preset_are_refused(root):
    assert "did you mean smoke?" in message(study.preset, "params/smoky")
    (root / "params/cpu/02-captions.yaml").unlink()
    assert message(study.preset, "params/cpu") == "params/cpu/02-captions.yaml: no such parameter file"
    (root / "params/cpu/02-caption.yaml").touch()
    assert "params/cpu/02-caption.yaml: must be named after a notebook" in message(study.preset, "params/cpu")


def test_the_command_line_says_valid_or_exits_with_2_and_one_line(root, capsys):
    study.main(["check", str(root / "params/cpu"), str(root / "params/smoke/03-pretrain.yaml")])
    assert capsys.readouterr().out == "params/cpu: valid\nparams/smoke/03-pretrain.yaml: valid\n"
    (root / "params/cpu/03-pretrain.yaml").write_text("image: 3")
    with pytest.raises(SystemExit) as caught:
        study.main(["check", str(root / "params/cpu")])
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_sources_are_the_files_that_a_notebook_imports_directly_or_not(root):
    library = root / "lib/visionclip"
    (library / "eye").mkdir(parents=True)
    files = {
        "__init__.py": "",
        "a.py": "from visionclip import b, nothing",
        "b.py": "def late():\n    import visionclip.eye.disc",
        "c.py": "",
        "eye/__init__.py": "from .iris import colour",
        "eye/iris.py": "",
        "eye/disc.py": "from . import cup",
        "eye/cup.py": "import numpy",
        "eye/lens.py": "",
    }
    for name, code in files.items():
        (library / name).write_text(code)
    notebook = tiny.notebook(NAME, "%matplotlib inline\nfrom visionclip.a import something")
    notebook.cells[1].source = "import torch"
    nbformat.write(notebook, root / "notebooks" / f"{NAME}.ipynb")
    wanted = {"__init__.py", "a.py", "b.py", "eye/__init__.py", "eye/iris.py", "eye/disc.py", "eye/cup.py"}
    assert study.sources(NAME) == sorted(f"lib/visionclip/{name}" for name in wanted)
    assert study.sources("lib/visionclip/eye/disc.py") == [
        f"lib/visionclip/{name}" for name in ("__init__.py", "eye/__init__.py", "eye/cup.py", "eye/iris.py")
    ]


def test_torchvision_is_refused_in_one_line(monkeypatch):
    study.environment()
    monkeypatch.setattr(study.importlib.util, "find_spec", lambda name: name == "torchvision")
    assert "uninstall torchvision" in message(study.environment)


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
    study.normalise(path)
    found = nbformat.read(path, as_version=4)
    assert set(found.metadata) == {"kernelspec", "language_info"}
    assert found.metadata.language_info == {"name": "python"}
    assert [cell.metadata for cell in found.cells] == [{}, {}, {"tags": ["parameters"]}, {}, {}, {}]
    assert found.cells[2].outputs[0].data == {"text/plain": "bar"}
    assert not found.cells[2].outputs[0].metadata
    before = path.read_bytes()
    study.normalise(path)
    assert path.read_bytes() == before


def test_normalise_refuses_a_notebook_run_out_of_order(root):
    path = root / "notebooks" / f"{NAME}.ipynb"
    assert "execution counts are not 1 to 5" in message(study.normalise, path)


def test_refresh_executes_at_the_defaults_from_the_notebooks_own_folder(root, monkeypatch):
    monkeypatch.setenv("VISIONCLIP_EXTERNAL", "/photographs")
    path = root / "notebooks" / f"{NAME}.ipynb"
    notebook = tiny.notebook(NAME)
    notebook.cells[1].source = 'import os\nprint(os.path.basename(os.getcwd()), os.getenv("VISIONCLIP_EXTERNAL"))'
    notebook.cells = notebook.cells[:3]
    nbformat.write(notebook, path)
    study.refresh(path)
    found = nbformat.read(path, as_version=4)
    assert [cell.execution_count for cell in found.cells[1:]] == [1, 2]
    assert found.cells[1].outputs[0].text == "notebooks None\n"
    assert "VISIONCLIP_EXTERNAL" in os.environ


def test_two_studies_do_not_run_in_one_folder(root, capsys):
    (root / ".snakemake").mkdir()
    with (root / ".snakemake/study.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(SystemExit):
            study.main(["run", "smoke"])
    assert capsys.readouterr().err == "the study is already running in this folder; wait for it to end\n"


def test_importing_study_does_not_import_torch():
    code = "import sys; from visionclip import study; assert 'torch' not in sys.modules and 'yaml' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
