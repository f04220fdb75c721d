"""Parameters of notebooks: declared once, in the cell tagged ``parameters``, and checked before anything runs.

That cell is the one source of names, types, defaults, meanings and allowed values::

    steps: int = 300  # optimiser steps [1..1000000]
    precision: str = "bf16"  # arithmetic of the model [fp32|bf16]

A preset is a folder of ``params/`` with one flat YAML file a notebook.
"""

import ast
import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from visionclip import runs
from visionclip.study import constraints

Scalar = bool | int | float | str
Kind = type  # in Parameter, the name ``type`` is a field
TYPES: dict[str, Kind] = {"bool": bool, "int": int, "float": float, "str": str}
# papermill hands 1e-3 on as a string, as YAML 1.1 does.
EXPONENT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")
ALLOWED = re.compile(r"\s*\[([^\[\]]*(?:\.\.|\|)[^\[\]]*)\]")
# The scalars of a file that are no text, with their first characters: those of YAML 1.2. By 1.1, which PyYAML follows,
# `no` would be false, 017 would be 15, 1:30 would be 90, a date no text, and 1e3 a text.
SCALARS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|[0-9]+(?=[eE])|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
)
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

    def _scalar(self, value: Any, kind: "Kind", where: str) -> Any:
        if kind in (int, float):
            number = float(value) if isinstance(value, str) and EXPONENT.fullmatch(value) else value
            plain = isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
            if not plain or kind(number) != number:
                raise self._refusal(value, where)
            value = kind(number)
        outside = self.low is not None and self.high is not None and not self.low <= value <= self.high
        if not isinstance(value, kind) or outside or (self.choices is not None and value not in self.choices):
            raise self._refusal(value, where)
        return value

    def _refusal(self, value: object, where: str) -> ValueError:
        allowed = f"{where}: {self.name} is {value!r}; allowed: {self.type}{self.allowed}"
        return ValueError(f"{allowed}{self._hint(value)}")

    def _hint(self, value: object) -> str:
        """How to write what was probably meant."""
        if value is None:
            return "; leave the line out for the default"
        if self.type.startswith("list[") and value == []:
            return "; give at least one"
        if self.type == "bool":
            return "; write true or false"
        if "str" in self.type and not isinstance(value, str | list) and self.choices is None:
            return f'; put it in quotes: "{value}"'
        if "str" not in self.type and isinstance(value, str) and re.search(r"\d", value):
            return "; write a number in digits, without quotes, leading zeros or colons"
        return ""


def notebook_path(notebook: str | Path) -> Path:
    """The path of a notebook given by its name (``03-pretrain``) or by a path.

    Raises:
        ValueError: there is no such notebook.
    """
    path = Path(notebook)
    path = path if path.suffix == ".ipynb" else runs.ROOT / "notebooks" / f"{notebook}.ipynb"
    if not path.is_file():
        raise ValueError(f"{runs.relative(path)}: no such notebook{_suggestion(path.stem, notebook_names())}")
    return path


def notebook_names() -> list[str]:
    """The names of the study's notebooks, in order."""
    return sorted(path.stem for path in (runs.ROOT / "notebooks").glob("*.ipynb"))


def presets() -> list[str]:
    """The names of the study's presets: the folders of ``params/``."""
    return sorted(path.name for path in (runs.ROOT / "params").glob("[!.]*/"))


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
    found, line = {}, "the parameters cell"
    try:
        for statement in ast.parse(source).body:
            line = f"`{ast.unparse(statement)}`"
            parameter = _declaration(statement, source.splitlines())
            found[parameter.name] = parameter
    except (SyntaxError, AttributeError, KeyError, TypeError, ValueError) as error:
        expected = "`name: type = default  # meaning [limits]`"
        raise ValueError(f"{runs.relative(path)}: {line} is not {expected} ({error})") from error
    for parameter in found.values():
        parameter.read(parameter.default, runs.relative(path))
    return found


def _declaration(statement: Any, lines: Sequence[str]) -> Parameter:
    """The parameter of one annotated assignment; any other statement fails on the attribute it lacks."""
    kind, default = ast.unparse(statement.annotation), ast.literal_eval(statement.value)
    item = TYPES[kind.removeprefix("list[").removesuffix("]")]
    comment = lines[statement.end_lineno - 1].encode()[statement.end_col_offset :].decode().partition("#")[2]
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
        ValueError: an unknown name, another type, a value that is not allowed, or one that ``constraints`` rule out
            beside the others; in one line.
    """
    parameters = declared(notebook)
    for name in given:
        if name not in parameters:
            known = f"{_suggestion(str(name), list(parameters))} ({Path(notebook).stem} has {', '.join(parameters)})"
            raise ValueError(f"{where}: unknown parameter {name!r}{known}")
    values = SimpleNamespace(
        **{name: one.read(given.get(name, one.default), where) for name, one in parameters.items()}
    )
    for _, fault in constraints.faults({Path(notebook).stem: values}):
        raise ValueError(f"{where}: {fault}")
    return values


def parameters(namespace: dict[str, object], notebook: str | Path) -> SimpleNamespace:
    """Check a notebook's own globals; to be called in the cell after its parameters cell.

    The checked values are also written back to ``namespace``, so that ``learning_rate`` given as ``1e-3`` is a number
    there too. papermill only warns of a name that the notebook does not have; here any plain value among the
    globals that is not declared is refused, at the first call: when the cell is run again by hand, the globals hold
    the notebook's own results too. What the earlier stages were made with is read from their cards, where these are.

    Raises:
        ValueError: as ``check``, or a value that doesn't fit those of an earlier stage.
    """
    plain = bool | int | float | str | list | None
    given: dict[str, object] = {
        name: value
        for name, value in namespace.items()
        if isinstance(value, plain) and not name.startswith("_") and name not in SESSION
    }
    if CHECKED in namespace:
        given = {name: namespace[name] for name in declared(notebook)}
    name, where = Path(notebook).stem, f"parameters of {Path(notebook).stem}"
    checked = check(notebook, given, where)
    taken = {stage: check_file(path) for stage, path in constraints.settings(checked).items()}
    for stage, fault in constraints.faults({**constraints.earlier(checked), **taken, name: checked}):
        if stage == name:
            raise ValueError(f"{where}: {fault}")
    namespace.update(vars(checked), **{CHECKED: True})
    return checked


def _loader(text: str) -> Any:
    """PyYAML's safe loader of ``text``, but for ``SCALARS``."""
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: dict[str, list] = {}  # noqa: RUF012 (PyYAML's protocol)

    for kind, pattern, first in SCALARS:
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(f"(?:{pattern})$"), list(first))
    return Loader(text)


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
        loader = _loader(path.read_text("utf-8"))
        node = loader.get_single_node()
        content = None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, ValueError) as error:
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


def preset(folder: str | Path) -> dict[str, SimpleNamespace]:
    """The checked parameters of notebooks by name, from the files of one preset's folder: those it has a file of.

    Raises:
        ValueError: no such folder, no file in it or one that belongs to no notebook, none of a stage that another one
            needs, a wrong parameter, or one that doesn't fit those of another stage; in one line.
    """
    folder = runs.resolve(folder)
    if not folder.is_dir():
        hint = _suggestion(folder.name, presets())
        raise ValueError(f"{runs.relative(folder)}: no such preset{hint} (there are {', '.join(presets())})")
    for path in sorted(folder.iterdir()):
        if not path.name.startswith("."):  # what file managers and editors leave
            _require_notebook(path)
    files = {name: folder / f"{name}.yaml" for name in notebook_names()}
    values = {name: check_file(path) for name, path in files.items() if path.is_file()}
    if not values:
        raise ValueError(f"{runs.relative(folder)}: no parameter file; add one a notebook to run, as 01-synthesis.yaml")
    for stage, own in values.items():
        for earlier in constraints.needed(own):
            if earlier not in values:
                raise ValueError(
                    f"{runs.relative(files[earlier])}: no such parameter file; add it, as {stage} needs it"
                )
    for stage, fault in constraints.faults(values):
        raise ValueError(f"{runs.relative(files[stage])}: {fault}")
    return values


def check_file(path: Path) -> SimpleNamespace:
    """The checked parameters of the notebook that the file ``path`` is named after.

    Raises:
        ValueError: no such file or notebook, or a wrong parameter; in one line.
    """
    _require_notebook(path)
    return check(path.stem, read_flat(path), runs.relative(path))


def _require_notebook(path: Path) -> None:
    names = notebook_names()
    if path.stem not in names or path.suffix != ".yaml":
        hint = _suggestion(path.stem, names)
        raise ValueError(f"{runs.relative(path)}: must be named after a notebook, as NN-name.yaml{hint}")
