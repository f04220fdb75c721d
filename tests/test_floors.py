"""The library as floors: imports lead down, and inside a folder in no circle; names are those of the field."""

import ast
import graphlib
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from visionclip import keys

FLOORS = (
    ("conditions", "streams", "keys", "runs", "progress"),
    ("phantom", "text"),
    ("data",),
    ("models",),
    ("training",),
    ("evaluation",),
    ("stages",),
    ("report",),
    ("study",),
    ("__main__",),
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
STAGES = {"synthesis", "captions", "pretrain", "zero_shot", "dataset_size", "transfer", "explanation", "diversity"}
STAGES |= {"your_photograph", "robustness", "fine_tuning", "privacy"}
# Words that say who does what to whom where the field has a term, as parts of a name.
OLD_WORDS = {  # but for the teacher of a distillation, which is the field's
    *("teach", "teaches", "teaching", "teachable", "taught", "untaught", "lesson", "lessons"),
    *("tell", "tells", "told", "untold", "ask", "asks", "asked", "answer", "answers", "answered", "said"),
    *("odds", "borne", "mapped", "reader", "readers", "reading", "readings"),
}


def modules() -> Iterator[tuple[str, Path]]:
    """The dotted name below the package of every file of the library, a folder's own file by the folder's name."""
    for path in sorted(keys.PACKAGE.rglob("*.py")):
        parts = path.relative_to(keys.PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:
            yield name, path


MODULES = dict(modules())


def imported(name: str) -> set[str]:
    """The library's modules that a module names in an import, those inside its functions too."""
    path, found = MODULES[name], set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for one in names:
            parts = one.split(".")
            if parts[0] == keys.PACKAGE.name:
                places = [".".join(parts[1 : end + 1]) for end in range(len(parts), 0, -1)]
                found.add(next(place for place in places if place in MODULES or not place))
    return found - {""}


IMPORTS = {name: imported(name) for name in MODULES}


def test_every_module_is_on_a_floor():
    assert {name.partition(".")[0] for name in MODULES} == set(FLOOR)


def test_stages_are_named_as_notebooks_are():
    own = {name.partition(".")[2] for name in MODULES if name.startswith("stages.")}
    assert own - {"sweep", "referee", "small_towers"} <= STAGES, "or points of 05, models of 01 and 09"


def test_imports_lead_down():
    """From folder to folder to a lower floor."""
    wrong = [
        f"{name} imports {other}"
        for name, others in IMPORTS.items()
        for other in sorted(others)
        if (one := name.partition(".")[0]) != (two := other.partition(".")[0])
        and FLOOR[one] <= FLOOR[two]
        and (FLOOR[one] or FLOOR[two])
    ]
    assert wrong == []


def test_no_imports_lead_in_a_circle():
    """Inside a folder, and among the modules of the lowest floor."""
    try:
        order = list(graphlib.TopologicalSorter(IMPORTS).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(error.args[1]))
    assert set(order) == set(MODULES)


def test_a_folder_s_own_file_holds_a_docstring_alone():
    open_to_all = {"phantom", "study"}
    full = {
        name
        for name, path in MODULES.items()
        if path.stem == "__init__" and len(ast.parse(path.read_text("utf-8")).body) > 1
    }
    assert full <= open_to_all


def loaded(module: str) -> set[str]:
    """The modules of whole libraries that importing one brings along."""
    code = f"import sys, visionclip.{module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["study.graph", "study.notebooks", "study.parameters", "phantom", "keys", "runs"])
def test_what_must_not_wait_for_torch_does_not_import_it(module):
    assert "torch" not in loaded(module)


def given_names() -> Iterator[tuple[str, str]]:
    """Every name that the library gives to a module, class, function, argument or variable, and where."""
    for module, path in MODULES.items():
        yield module.rpartition(".")[2], module
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield node.name, f"{module}:{node.lineno}"
            elif isinstance(node, ast.arg):
                yield node.arg, f"{module}:{node.lineno}"
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id, f"{module}:{node.lineno}"
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                yield node.attr, f"{module}:{node.lineno}"
            elif isinstance(node, ast.alias) and node.asname:
                yield node.asname, f"{module}:{node.lineno}"


def test_names_are_of_the_field():
    found = defaultdict(list)
    for name, place in given_names():
        spaced = "".join(f"_{letter}" if letter.isupper() else letter for letter in name).lower()
        if set(spaced.split("_")) & OLD_WORDS:
            found[name].append(place)
    assert dict(found) == {}
