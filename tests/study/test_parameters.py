"""Parameters: declared in a notebook, given in files, checked in one line."""

import subprocess
import sys

import nbformat
import pytest

import tiny
from visionclip import runs, study
from visionclip.study.parameters import check_file

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
    line = message(study.preset, "params/cpu")
    assert line.startswith("params/cpu/03-pretrain.yaml: ")
    assert words in line


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("images: 1_0", 10),
        ("images: 0x1F", 31),
        ("images: +5", 5),
        ("images: 1e1", 10),
        ("images: 5.", 5),
        ("learning_rate: 1e-3", 0.001),
        ("learning_rate: 1.5e-3", 0.0015),
        ("learning_rate: .5", 0.5),
        ("learning_rate: 1", 1.0),
        ("augment: False", False),
        ("out: 2024-01-01", "2024-01-01"),
        ("out: no", "no"),
        ("out: 1:30", "1:30"),
        ("out: 017", "017"),
        ('out: "2024"', "2024"),
        ("languages: [zh]", ["zh"]),
    ],
)
def test_what_yaml_could_take_for_another_type_is_read_as_written(root, line, expected):
    path = root / "params/cpu/03-pretrain.yaml"
    path.write_text(line)
    value = getattr(check_file(path), line.split(":")[0])
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("precision: no", "precision is 'no'; allowed: str one of fp32, bf16"),
        ("languages: [no]", "languages is 'no'; allowed: list[str] one of zh, en"),
        ("augment: no", "augment is 'no'; allowed: bool; write true or false"),
        ("augment: 0", "augment is 0; allowed: bool; write true or false"),
        (
            "images: 017",
            "images is '017'; allowed: int from 1 to 100; write a number in digits, without quotes, leading",
        ),
        ("images: 0o17", "images is '0o17'; allowed: int from 1 to 100; write a number in digits"),
        ("images: 1:30", "images is '1:30'; allowed: int from 1 to 100; write a number in digits"),
        ("images: 2024-01-01", "images is '2024-01-01'; allowed: int"),
        ('images: "7"', "images is '7'; allowed: int from 1 to 100; write a number in digits, without quotes"),
        ("learning_rate: .inf", "learning_rate is inf"),
        ("images:", "images is None; allowed: int from 1 to 100; leave the line out for the default"),
        ("out: ~", "out is None; allowed: str; leave the line out for the default"),
        ("out: 2024", 'out is 2024; allowed: str; put it in quotes: "2024"'),
        ("out: true", 'out is True; allowed: str; put it in quotes: "True"'),
        ("no: 3", "unknown parameter 'no'"),
        ("<<: 3", "unknown parameter '<<'"),
        ("images: !!int x", "not YAML"),
        ("images: 3\n---\nimages: 4", "not YAML"),
    ],
)
def test_what_yaml_could_take_for_another_type_is_else_refused_with_how_to_write_it(root, line, words):
    (root / "params/cpu/03-pretrain.yaml").write_text(line)
    assert message(study.preset, "params/cpu").startswith(f"params/cpu/03-pretrain.yaml: {words}")


def test_a_missing_file_an_unknown_file_and_an_unknown_preset_are_refused(root):
    assert "did you mean smoke?" in message(study.preset, "params/smoky")
    (root / "params/cpu/02-captions.yaml").unlink()
    line = "params/cpu/02-captions.yaml: no such parameter file; add it, as 03-pretrain needs it"
    assert message(study.preset, "params/cpu") == line
    (root / "params/cpu/02-caption.yaml").touch()
    assert "params/cpu/02-caption.yaml: must be named after a notebook" in message(study.preset, "params/cpu")


def test_a_preset_has_the_stages_of_its_files_and_one_at_least(root):
    for name in ("05-dataset-size", "08-diversity"):
        (root / f"params/cpu/{name}.yaml").unlink()
    assert list(study.preset("params/cpu")) == [name for name in study.notebook_names() if name[:2] not in ("05", "08")]
    for path in (root / "params/cpu").iterdir():
        path.unlink()
    assert message(study.preset, "params/cpu").startswith("params/cpu: no parameter file; add one a notebook to run")


def test_hidden_files_are_neither_presets_nor_parameters(root):
    """JupyterLab keeps copies in .ipynb_checkpoints, Finder leaves a .DS_Store."""
    known = study.presets()
    (root / "params/cpu/.DS_Store").touch()
    for folder in ("params/.ipynb_checkpoints", "params/cpu/.ipynb_checkpoints"):
        (root / folder).mkdir()
    assert study.presets() == known
    assert list(study.preset("params/cpu")) == study.notebook_names()


def test_importing_study_does_not_wait_for_torch():
    for name in ("study", "study.graph", "study.__main__"):
        code = f"import sys, visionclip.{name}; assert not {{'torch', 'yaml', 'papermill'}} & set(sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True)
