"""What a result was made by, as short digests: parameters, inputs, and the code itself.

Whatever is kept on disk to be read back carries the key of all that made it. The code's part covers the library files
that a program imports, directly or not, without comments and docstrings: a changed number makes a result anew, a
better explanation of it does not.
"""

import ast
import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

PACKAGE = Path(__file__).resolve().parent
DIGITS = 16  # hexadecimal, 64 bits: no two results of a study meet by chance


def digest(content: object) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of ``content`` as canonical JSON (see ``plain``)."""
    text = json.dumps(content, sort_keys=True, default=plain, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def plain(value: object) -> object:
    """What JSON has no word for: a dataclass as a mapping, a NumPy number or array as Python's own.

    Raises:
        TypeError: it is neither.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} can't be written as JSON")


def arrays(*given: np.ndarray | None) -> str:
    """The digest of every byte, shape and type of these arrays; None stands for one that is left out."""
    content = hashlib.sha256()
    for array in given:
        content.update(b"none" if array is None else f"{array.shape} {array.dtype}".encode())
        if array is not None:
            content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()[:DIGITS]


def weights(of: "torch.nn.Module | Mapping[str, torch.Tensor] | None") -> str:
    """The digest of every weight and buffer of a network by name; of nothing where there is none."""
    state = {} if of is None else of if isinstance(of, Mapping) else of.state_dict()
    named = {name: arrays(value.detach().cpu().contiguous().view(-1).numpy()) for name, value in state.items()}
    return digest(named)


def file(path: Path) -> str:
    """The digest of a file's content."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:DIGITS]


def code(*programs: str | Path | ModuleType) -> str:
    """The digest of the library files that these modules or notebooks import, and of the modules themselves.

    Raises:
        ValueError: a file can't be parsed; the message names it.
    """
    files = {path for program in programs for path in sources(program)}
    files |= {path for path in map(_path, programs) if path.suffix == ".py"}
    return digest({path.relative_to(PACKAGE).as_posix(): _essence(path) for path in sorted(files)})


def sources(program: str | Path | ModuleType) -> list[Path]:
    """The library files that a module (an object, or its path) or a notebook's path depends on, by its imports.

    Raises:
        ValueError: a file can't be parsed; the message names it.
    """
    path = _path(program)
    if path.suffix == ".ipynb":
        cells = [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
        text = "\n".join("".join(cell["source"]) for cell in cells)
        text = re.sub(r"(?m)^[%!].*$", "", text)  # IPython's own commands are not Python
    else:
        text = path.read_text("utf-8")
    found: set[Path] = set()
    pending = _imported(text, path)
    while pending:
        module = pending.pop()
        if module not in found:
            found.add(module)
            pending |= _imported(module.read_text("utf-8"), module)
    return sorted(found)


def _path(program: str | Path | ModuleType) -> Path:
    return Path(str(program.__file__) if isinstance(program, ModuleType) else program).resolve()


def _parsed(text: str, path: Path) -> ast.Module:
    try:
        return ast.parse(text)
    except SyntaxError as error:
        raise ValueError(f"{path.name}: cannot be parsed: {error}") from error


def _imported(text: str, path: Path) -> set[Path]:
    """The library files that ``text`` of the file ``path`` imports, the packages on the way included."""
    names = set()
    for node in ast.walk(_parsed(text, path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = path.relative_to(PACKAGE.parent).parts[: -node.level]
                base = ".".join((*package, *filter(None, [base])))
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return {file for name in names for file in _files(name)}


def _files(name: str) -> Iterable[Path]:
    """The files of a dotted name and of the packages on the way, where they are the library's."""
    top, *parts = name.split(".")
    if top == PACKAGE.name:
        for depth in range(len(parts) + 1):
            module = PACKAGE.joinpath(*parts[:depth])
            yield from (file for file in (module.with_suffix(".py"), module / "__init__.py") if file.is_file())


@functools.cache
def _essence(path: Path) -> str:
    """A module's syntax tree without docstrings, and the tables of the same name beside it (``x.yaml``, ``x.json``)."""
    tree = _parsed(path.read_text("utf-8"), path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    tables = [path.with_suffix(kind) for kind in (".yaml", ".json")]
    return digest([ast.dump(tree), *(file(table) if table.is_file() else "" for table in tables)])
