"""The notebooks as software: parameters checked before anything runs, dependencies found, outputs fit to commit.

The cell tagged ``parameters`` of each notebook is the one source of names, types, defaults and allowed values::

    steps: int = 300  # optimiser steps [1..1000000]
    precision: str = "bf16"  # arithmetic of the model [fp32|bf16]

Command line: ``python -m visionclip.study run cpu``, ``check params/cpu``, ``environment``, ``refresh NOTEBOOK ...``
and ``normalise NOTEBOOK ...``; a mistake is one line on standard error and exit status 2.
"""

import argparse
import ast
import difflib
import fcntl
import importlib.util
import io
import math
import os
import re
import sys
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from visionclip import runs

Scalar = bool | int | float | str
TYPES: dict[str, type] = {"bool": bool, "int": int, "float": float, "str": str}
# YAML 1.1 reads 1e-3 as a string, and papermill hands it on as one.
EXPONENT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")
ALLOWED = re.compile(r"\s*\[([^\[\]]*(?:\.\.|\|)[^\[\]]*)\]")
SESSION = {"In", "Out", "exit", "quit", "get_ipython", "open"}  # what IPython itself puts among the globals

CHECKED = "_parameters_checked"  # among the globals of a notebook whose parameters were checked once


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell.

    ``type`` is ``bool``, ``int``, ``float``, ``str`` or ``list[...]`` of one of them. ``low`` and ``high`` (both
    inclusive) or ``choices`` limit the value, for a list each of its items; they are None where there is no limit.
    """

    name: str
    type: str
    default: object
    meaning: str
    low: float | None = None
    high: float | None = None
    choices: tuple[Scalar, ...] | None = None

    @property
    def allowed(self) -> str:
        """The limits in words, ready to follow the type: ``from 1 to 10``, ``one of fp32, bf16`` or nothing."""
        if self.choices is not None:
            return f" one of {', '.join(map(str, self.choices))}"
        return "" if self.low is None else f" from {self.low:g} to {self.high:g}"

    def read(self, value: object, where: str) -> object:
        """``value`` as this parameter's type; ``where`` (a file) opens the message.

        Raises:
            ValueError: the type is another or the value lies outside the limits.
        """
        item = self.type.removeprefix("list[").removesuffix("]")
        if item == self.type:
            return self._scalar(value, TYPES[item], where)
        if not isinstance(value, list | tuple) or not value:
            raise self._refusal(value, where)
        return [self._scalar(entry, TYPES[item], where) for entry in value]

    def _scalar(self, value: object, kind: type, where: str) -> Scalar:
        if kind in (int, float):
            number = float(value) if isinstance(value, str) and EXPONENT.fullmatch(value) else value
            if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
                raise self._refusal(value, where)
            if kind is int and number != int(number):
                raise self._refusal(value, where)
            value = kind(number)
        elif not isinstance(value, kind):
            raise self._refusal(value, where)
        below_or_above = self.low is not None and not self.low <= value <= self.high
        if below_or_above or (self.choices is not None and value not in self.choices):
            raise self._refusal(value, where)
        return value

    def _refusal(self, value: object, where: str) -> ValueError:
        return ValueError(f"{where}: {self.name} is {value!r}; allowed: {self.type}{self.allowed}")


def notebook_path(notebook: str | Path) -> Path:
    """The path of a notebook given by its name (``03-pretrain``) or by a path.

    Raises:
        ValueError: there is no such notebook.
    """
    path = Path(notebook)
    path = path if path.suffix == ".ipynb" else runs.ROOT / "notebooks" / f"{notebook}.ipynb"
    if not path.is_file():
        raise ValueError(f"{runs.relative(path)}: no such notebook{_suggestion(path.stem, notebooks())}")
    return path


def notebooks() -> list[str]:
    """The names of the study's notebooks, in order."""
    return sorted(path.stem for path in (runs.ROOT / "notebooks").glob("*.ipynb"))


def _suggestion(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def declared(notebook: str | Path) -> dict[str, Parameter]:
    """The parameters of a notebook (name or path) by name, in their order.

    Raises:
        ValueError: no such notebook, no parameters cell, or a line that is not ``name: type = default  # meaning``.
    """
    path = notebook_path(notebook)
    cells = [cell for cell in runs.read_json(path)["cells"] if "parameters" in cell["metadata"].get("tags", ())]
    if len(cells) != 1:
        raise ValueError(f"{runs.relative(path)}: {len(cells)} cells are tagged `parameters`; there must be one")
    source = "".join(cells[0]["source"])
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    try:
        for statement in ast.parse(source).body:
            line = ast.unparse(statement)
            parameter = _declaration(statement, comments.get(statement.end_lineno, ""))
            found[parameter.name] = parameter
    except SyntaxError as error:
        raise ValueError(f"{runs.relative(path)}: the parameters cell is not Python: {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{runs.relative(path)}: `{line}` is not `name: type = default  # meaning [limits]`"
        ) from error
    for parameter in found.values():
        parameter.read(parameter.default, runs.relative(path))
    return found


def _declaration(statement: ast.stmt, comment: str) -> Parameter:
    """The parameter of one annotated assignment; any other statement fails on the attribute it lacks."""
    kind, default = ast.unparse(statement.annotation), ast.literal_eval(statement.value)
    item = TYPES[kind.removeprefix("list[").removesuffix("]")]
    limits = ALLOWED.search(comment)
    low, high, choices = None, None, None
    if limits and ".." in limits[1]:
        low, high = map(float, limits[1].split(".."))
    elif limits:
        choices = tuple(item(choice.strip()) for choice in limits[1].split("|"))
    return Parameter(statement.target.id, kind, default, ALLOWED.sub("", comment).strip(), low, high, choices)


def check(notebook: str | Path, given: Mapping[str, object], where: str) -> SimpleNamespace:
    """Every parameter of a notebook as an attribute: ``given`` where it names one, else the default.

    ``where`` (the file that ``given`` comes from) opens the message. ``1e-3`` given as a string is read as the number
    it is, an integer is taken for a float, and 300.0 for an integer; a bool is never a number.

    Raises:
        ValueError: an unknown name, another type or a value that is not allowed, in one line.
    """
    parameters = declared(notebook)
    for name in given:
        if name not in parameters:
            raise ValueError(
                f"{where}: unknown parameter {name!r}{_suggestion(str(name), list(parameters))} "
                f"({Path(notebook).stem} has {', '.join(parameters)})"
            )
    values = {name: parameter.read(given.get(name, parameter.default), where) for name, parameter in parameters.items()}
    return SimpleNamespace(**values)


def parameters(namespace: dict[str, object], notebook: str | Path) -> SimpleNamespace:
    """Check a notebook's own globals; to be called in the cell after its parameters cell.

    The checked values are also written back to ``namespace``, so that ``learning_rate`` given as ``1e-3`` is a number
    there too. papermill only warns of a name that the notebook does not have; here any plain value among the
    globals that is not declared is refused, at the first call: when the cell is run again by hand, the globals hold
    the notebook's own results too.

    Raises:
        ValueError: an unknown name, another type or a value that is not allowed, in one line.
    """
    plain = bool | int | float | str | list | None
    given = {
        name: value
        for name, value in namespace.items()
        if isinstance(value, plain) and not name.startswith("_") and name not in SESSION
    }
    if CHECKED in namespace:
        given = {name: namespace[name] for name in declared(notebook)}
    checked = check(notebook, given, f"parameters of {Path(notebook).stem}")
    namespace.update(vars(checked), **{CHECKED: True})
    return checked


def read_flat(path: Path) -> dict[str, object]:
    """One parameter file: a flat YAML mapping of names to scalars or lists of scalars.

    Raises:
        ValueError: missing, not YAML, not a mapping, nested, or a name given twice; in one line.
    """
    import yaml

    where = runs.relative(path)
    if not path.is_file():
        raise ValueError(f"{where}: no such parameter file")
    try:
        text = path.read_text("utf-8")
        content, node = yaml.safe_load(text), yaml.compose(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{where}: not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f"{where}: must be lines of `name: value`, and is a {type(content).__name__}")
    names = [key.value for key, _ in node.value]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{where}: {name} is given twice")
    for name, value in content.items():
        if any(isinstance(entry, dict | list) for entry in (value if isinstance(value, list) else [value])):
            raise ValueError(f"{where}: {name} is nested; a value must be a scalar or a list of scalars")
    return content


def _known(path: Path) -> None:
    if path.stem not in notebooks() or path.suffix != ".yaml":
        hint = _suggestion(path.stem, notebooks())
        raise ValueError(f"{runs.relative(path)}: must be named after a notebook, as NN-name.yaml{hint}")


def preset(folder: str | Path) -> dict[str, SimpleNamespace]:
    """The checked parameters of all notebooks by name, from the files of one preset's folder.

    Raises:
        ValueError: no such folder, a file missing or belonging to no notebook, or a wrong parameter; in one line.
    """
    folder, names = runs.resolve(folder), notebooks()
    if not folder.is_dir():
        known = sorted(path.name for path in (runs.ROOT / "params").glob("*") if path.is_dir())
        raise ValueError(
            f"{runs.relative(folder)}: no such preset{_suggestion(folder.name, known)} (there are {', '.join(known)})"
        )
    for path in sorted(folder.iterdir()):
        _known(path)
    files = {name: folder / f"{name}.yaml" for name in names}
    return {name: check(name, read_flat(path), runs.relative(path)) for name, path in files.items()}


def sources(program: str | Path) -> list[str]:
    """The library files that a notebook or a module depends on, relative to the root, found by following its imports.

    Raises:
        ValueError: there is no such file, or its code cannot be parsed.
    """
    path = runs.resolve(program)
    if path.suffix != ".py":
        path = notebook_path(program)
        cells = [cell for cell in runs.read_json(path)["cells"] if cell["cell_type"] == "code"]
        code = "\n".join("".join(cell["source"]) for cell in cells)
        code = re.sub(r"(?m)^[%!].*$", "", code)  # IPython's own commands are not Python
    else:
        code = path.read_text("utf-8")
    found, pending = set(), _imported(code, path)
    while pending:
        module = pending.pop()
        if module not in found:
            found.add(module)
            pending |= _imported(module.read_text("utf-8"), module)
    return sorted(runs.relative(module) for module in found)


def _imported(code: str, path: Path) -> set[Path]:
    """The library files that ``code`` of the file ``path`` imports, the packages on the way included."""
    library, names = runs.ROOT / "lib", set()
    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        raise ValueError(f"{runs.relative(path)}: cannot be parsed: {error}") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = path.relative_to(library).parts[: -node.level]
                base = ".".join((*package, *filter(None, [base])))
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    files = set()
    for name in names:
        parts = name.split(".")
        if parts[0] == "visionclip":
            for depth in range(1, len(parts) + 1):
                module = library.joinpath(*parts[:depth])
                files |= {file for file in (module.with_suffix(".py"), module / "__init__.py") if file.is_file()}
    return files


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


def normalise(path: str | Path) -> None:
    """Rewrite an executed notebook without what changes from run to run: papermill's, widgets' and timing metadata.

    Kept are sources, tags, outputs, the kernel ``python3`` and the language.

    Raises:
        ValueError: the execution counts of the code cells are not 1 .. N.
    """
    import nbformat

    path = Path(path).absolute()
    _save(nbformat.read(path, as_version=4), path)


def refresh(path: str | Path) -> None:
    """Execute a notebook at its defaults, as JupyterLab would, and save it normalised; a failing one stays as it was.

    ``VISIONCLIP_EXTERNAL`` is hidden from it: what is committed must not depend on the photographs of one machine.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    import nbformat
    from nbclient import NotebookClient

    path = Path(path).absolute()
    notebook = nbformat.read(path, as_version=4)
    visible = {name: value for name, value in os.environ.items() if name != "VISIONCLIP_EXTERNAL"}
    folder = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=None, kernel_name="python3", resources=folder).execute(env=visible)
    _save(notebook, path)


def _save(notebook, path: Path) -> None:
    """Normalise a notebook in memory and write it atomically."""
    import nbformat

    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        raise ValueError(f"{runs.relative(path)}: execution counts are not 1 to {len(code)}; run the whole notebook")
    for cell in notebook.cells:
        cell.metadata = {"tags": cell.metadata.tags} if cell.metadata.get("tags") else {}
        for output in cell.get("outputs", ()):
            output.pop("transient", None)
            if "metadata" in output:
                output.metadata = {}
            for kind in [kind for kind in output.get("data", ()) if kind.startswith("application/vnd.jupyter.widget")]:
                del output.data[kind]
    with runs.atomic(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        nbformat.write(nbformat.from_dict(notebook), file)


def check_files(path: Path) -> None:
    """Check the parameters in a preset's folder or in single files."""
    path = path.absolute()
    if path.suffix == ".yaml":
        _known(path)
        check(path.stem, read_flat(path), runs.relative(path))
    else:
        preset(path)
    print(f"{runs.relative(path)}: valid")


def run(preset: str) -> None:
    """Become Snakemake, running one preset on all cores.

    The system drops this lock when the process ends, however it ends; Snakemake's own outlives a killed run and
    would have to be removed by hand.

    Raises:
        ValueError: the study is already running in this folder.
    """
    folder = runs.ROOT / ".snakemake"
    folder.mkdir(exist_ok=True)
    lock = os.open(folder / "study.lock", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(lock, True)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError("the study is already running in this folder; wait for it to end") from None
    options = ["--nolock", "--rerun-incomplete", "--cores", "all", "--config", f"preset={preset}"]
    os.chdir(runs.ROOT)
    os.execv(sys.executable, [sys.executable, "-m", "snakemake", *options])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m visionclip.study", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("environment", help=environment.__doc__.splitlines()[0])
    works = {"check": check_files, "refresh": refresh, "normalise": normalise}
    for name, work in works.items():
        command = commands.add_parser(name, help=work.__doc__.splitlines()[0])
        command.add_argument("paths", nargs="+", type=Path)
    commands.add_parser("run", help=run.__doc__.splitlines()[0]).add_argument("preset")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "environment":
            environment()
        elif chosen.command == "run":
            run(chosen.preset)
        else:
            for path in chosen.paths:
                works[chosen.command](path)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
