"""What a result was made by: parameters, arrays and weights, which files, and what of them."""

import ast
import functools
import shutil
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

import tiny
from visionclip import keys, runs

FILES = {
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


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A library of empty modules that import each other, in the place of the real one."""
    folder = tmp_path / "lib" / "visionclip"
    (folder / "eye").mkdir(parents=True)
    for name, code in FILES.items():
        (folder / name).write_text(code)
    monkeypatch.setattr(keys, "PACKAGE", folder)
    keys._essence.cache_clear()
    return folder


def names(library, program) -> set[str]:
    return {path.relative_to(library).as_posix() for path in keys.sources(program)}


def test_sources_are_the_files_that_a_notebook_imports_directly_or_not(library, tmp_path):
    notebook = tiny.notebook("03-pretrain", "%matplotlib inline\nfrom visionclip.a import something")
    notebook.cells[1].source = "import torch"
    nbformat.write(notebook, tmp_path / "notebook.ipynb")
    wanted = {"__init__.py", "a.py", "b.py", "eye/__init__.py", "eye/iris.py", "eye/disc.py", "eye/cup.py"}
    assert names(library, tmp_path / "notebook.ipynb") == wanted
    disc = library / "eye/disc.py"
    assert names(library, disc) == {"__init__.py", "eye/__init__.py", "eye/cup.py", "eye/iris.py"}


def test_a_file_that_cannot_be_parsed_is_named(library):
    (library / "eye/cup.py").write_text("def (")
    with pytest.raises(ValueError, match=r"^cup\.py: cannot be parsed"):
        keys.sources(library / "eye/disc.py")


@pytest.mark.parametrize(
    ("code", "same"),
    [
        ('"""Another docstring."""\n\nNUMBER = 3  # another comment\n', True),
        ("NUMBER = 3\n", True),
        ('"""A docstring."""\n\nNUMBER = 4  # a comment\n', False),
    ],
)
def test_code_is_what_runs_and_neither_comment_nor_docstring(library, code, same):
    module = library / "eye/cup.py"
    module.write_text('"""A docstring."""\n\nNUMBER = 3  # a comment\n')
    before, other = keys.code(library / "eye/disc.py"), keys.code(library / "c.py")
    module.write_text(code)
    keys._essence.cache_clear()
    assert (keys.code(library / "eye/disc.py") == before) == same
    assert keys.code(library / "c.py") == other


NOTEBOOKS = sorted((runs.ROOT / "notebooks").glob("*.ipynb"))
MODULES = (
    "training/contrastive.py",
    "training/denoising.py",
    "stages/dataset_size.py",
    "stages/transfer.py",
    "stages/diversity.py",
    "stages/fine_tuning.py",
    "stages/robustness.py",
    "stages/privacy.py",
)
# the one model's own phantoms
DRAWING = {"transfer", "diversity", "privacy", "01-synthesis", "06-transfer", "08-diversity", "11-privacy"}
LEARNING = DRAWING | {"contrastive", "dataset_size", "03-pretrain", "05-dataset-size", "09-fine-tuning"}
# What hangs on a number in a module, by its name: learners and stages whose results it makes, and notebooks.
MADE_BY = {
    "models/losses.py": LEARNING,
    "models/supervision.py": LEARNING | {"04-zero-shot", "07-explanation"} | {"10-robustness", "12-your-photograph"},
    "training/bank.py": LEARNING,
    "training/gradient_cache.py": LEARNING,
    "text/grammar.py": LEARNING
    | {"02-captions", "04-zero-shot", "07-explanation", "fine_tuning", "09-fine-tuning"}
    | {"robustness", "10-robustness", "12-your-photograph"},
    "data/augment.py": LEARNING | {"fine_tuning", "09-fine-tuning"},
    "phantom/factors.py": DRAWING
    | {
        "fine_tuning",
        "09-fine-tuning",
        "03-pretrain",
        "04-zero-shot",
        "07-explanation",
        "robustness",
        "10-robustness",
        "12-your-photograph",
    },
    "models/generator.py": {
        *("denoising", "transfer", "privacy", "01-synthesis", "06-transfer", "09-fine-tuning", "11-privacy"),
    },
    "training/loop.py": LEARNING | {"denoising", "fine_tuning", "09-fine-tuning"},
    "training/fine_tuning.py": {"fine_tuning", "09-fine-tuning"},
    "evaluation/controls.py": {"01-synthesis", "04-zero-shot", "06-transfer", "07-explanation"},
}


class Copy:
    """A copy of the library whose files can be changed, one at a time."""

    def __init__(self, folder: Path):
        self.folder = folder
        imported = functools.cache(keys._imported)
        self.imported = lambda text, path: set(imported(text, path))  # of a text once, which is what takes time
        self.before = self.codes()

    def codes(self) -> dict[str, str]:
        """The code of every notebook and module as it is now."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(keys, "PACKAGE", self.folder)
            patch.setattr(keys, "_imported", self.imported)
            keys._essence.cache_clear()
            return {path.stem: keys.code(path) for path in (*NOTEBOOKS, *(self.folder / name for name in MODULES))}

    def changed_by(self, name: str, text: str) -> set[str]:
        """Whose code another text of a file changes; the file is as it was afterwards."""
        path = self.folder / name
        original = path.read_text("utf-8")
        path.write_text(text, "utf-8")
        try:
            return {program for program, code in self.codes().items() if code != self.before[program]}
        finally:
            path.write_text(original, "utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return Copy(shutil.copytree(keys.PACKAGE, tmp_path_factory.mktemp("lib") / "visionclip"))


def another_number(text: str) -> str:
    """The text of a module with its first number raised by one."""
    numbers = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool)
    ]
    first = min(numbers, key=lambda node: (node.lineno, node.col_offset))
    lines = text.encode().split(b"\n")
    line = lines[first.lineno - 1]
    lines[first.lineno - 1] = line[: first.col_offset] + f"{first.value + 1}".encode() + line[first.end_col_offset :]
    return b"\n".join(lines).decode()


def explained_otherwise(text: str) -> str:
    """The text of a module with another docstring wherever there is one, and comments."""
    lines = text.split("\n")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            first = node.body[0]
            start = len(lines[first.lineno - 1]) - len(lines[first.lineno - 1].lstrip())
            lines[first.lineno - 1 : first.end_lineno] = [
                " " * start + '"""Otherwise."""',
                *["# explained"] * (first.end_lineno - first.lineno),
            ]
    return "# explained\n" + "\n".join(lines)


@pytest.mark.parametrize("name", MADE_BY)
def test_a_changed_number_changes_the_code_of_what_is_made_by_it_and_no_other(copy, name):
    assert copy.changed_by(name, another_number((copy.folder / name).read_text("utf-8"))) == MADE_BY[name]


@pytest.mark.parametrize("name", [*MADE_BY, "conditions.py", "keys.py", "data/images.py", "stages/diversity.py"])
def test_a_comment_and_a_docstring_change_no_code(copy, name):
    text = (copy.folder / name).read_text("utf-8")
    otherwise = explained_otherwise(text)
    assert otherwise.count("Otherwise.") > 0
    assert ast.dump(ast.parse(otherwise)) != ast.dump(ast.parse(text))
    assert copy.changed_by(name, otherwise) == set()


def test_a_table_beside_a_module_is_part_of_its_code(copy):
    text = (copy.folder / "data/published.yaml").read_text("utf-8")
    changed = copy.changed_by("data/published.yaml", text + "\n# another row\n")
    assert changed >= {"dataset_size", "transfer", "04-zero-shot", "05-dataset-size", "06-transfer", "07-explanation"}
    assert not changed & {"contrastive", "denoising", "02-captions"}


def test_so_is_one_of_json(copy):
    text = (copy.folder / "evaluation/refusal.json").read_text("utf-8")
    changed = copy.changed_by("evaluation/refusal.json", text + "\n")
    assert changed >= {"robustness", "10-robustness", "12-your-photograph"}
    assert not changed & {"contrastive", "04-zero-shot"}


def test_several_programs_are_one_whatever_their_order():
    both = [keys.PACKAGE / name for name in MODULES[:2]]
    assert keys.code(*both) == keys.code(*reversed(both))
    assert len({keys.code(*both), *map(keys.code, both)}) == 3


def test_a_module_and_its_path_are_the_same_program():
    from visionclip.training import loop

    assert keys.code(loop) == keys.code(loop.__file__) == keys.code(Path(loop.__file__))
    assert keys.sources(loop) == keys.sources(loop.__file__)


@dataclass(frozen=True)
class Pair:
    first: int
    second: tuple[str, ...] = ()


def test_a_digest_is_of_the_content_whatever_holds_it():
    assert keys.digest({"a": 1, "b": [2]}) == keys.digest(OrderedDict([("b", (2,)), ("a", 1)]))
    assert keys.digest(Pair(1, ("x",))) == keys.digest({"first": 1, "second": ["x"]})
    assert keys.digest(np.float64(0.1)) == keys.digest(0.1)
    assert keys.digest(np.arange(3)) == keys.digest([0, 1, 2])
    contents = [1, 1.5, "1", [1], [[1]], None, {}, {"1": 1}, "视", [1, 2], [2, 1]]
    digests = [keys.digest(content) for content in contents]
    assert len(set(digests)) == len(contents)
    assert all(len(one) == keys.DIGITS and int(one, 16) >= 0 for one in digests)
    with pytest.raises(TypeError, match="set can't be written as JSON"):
        keys.digest({1, 2})


def test_arrays_are_told_apart_by_bytes_shape_type_and_place():
    given = np.arange(12, dtype=np.uint8)
    others = [
        (given,),
        (given + 1,),
        (given.reshape(3, 4),),
        (given.astype(np.int64),),
        (given, None),
        (None, given),
        (given, given),
        (),
    ]
    assert len({keys.arrays(*one) for one in others}) == len(others)
    assert keys.arrays(given[::2]) == keys.arrays(given[::2].copy())
    assert keys.arrays(given.reshape(3, 4).T) == keys.arrays(given.reshape(3, 4).T.copy())


def test_weights_are_told_apart_by_name_value_and_buffer():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    before = keys.weights(network)
    assert before == keys.weights(network.state_dict()) == keys.weights(network.to(memory_format=torch.channels_last))
    renamed = {f"x.{name}": value for name, value in network.state_dict().items()}
    assert keys.weights(renamed) != before
    network[1].running_mean += 1
    moved = keys.weights(network)
    network[0].weight.data[0, 0, 0, 0] += 1e-6
    assert len({before, moved, keys.weights(network), keys.weights(None)}) == 4


def test_a_file_is_told_by_its_content(tmp_path):
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (keys.file(tmp_path / name) for name in "abc")
    assert a == b != c
