"""What a result was made by: which files, and what of them."""

import nbformat
import pytest

import tiny
from visionclip import keys

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
