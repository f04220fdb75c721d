"""What labelled photographs are scored on: tasks of two or more classes, stated in the study's vocabulary.

``tasks.yaml`` says which column of the labels decides a task, and what each class means::

    drop: {dup_conflict: 1}         # rows left out: those where any of these columns has this value (optional)
    test: {split: test}             # the reported rows: all of these columns have these values (absent: all rows)
    tasks:
      referable_dr:
        column: dr_grade            # whose values decide
        ordinal: false              # true where the classes, in this order, are grades (optional)
        classes:                    # at least two
          - {name: not referable, values: [0, 1], conditions: [{dr_grade: 0}, {dr_grade: 1}]}
          - {name: referable, values: [2, 3, 4], conditions: [{dr_grade: 2}, {dr_grade: 3}, {dr_grade: 4}]}

An eye is of a class if any of its conditions holds; ``{}`` names no disease, a normal eye. Values are compared as text,
``1.0`` being ``1``.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from visionclip import conditions, runs
from visionclip.data.labelled import LabelledImages

Row = dict[str, str]  # of labels.csv, by column


class NothingToScore(ValueError):
    """A set without one image that its tasks could be scored on; others may have some."""


@dataclass(frozen=True)
class ClassOf:
    """A class of a task; an eye belongs to it if any of ``facts`` (partial conditions) holds."""

    name: str
    facts: list[dict[str, int]]


@dataclass(frozen=True)
class Task:
    """One question about each image: ``targets`` int N index ``classes``, -1 where no class lists the label."""

    name: str
    ordinal: bool
    classes: list[ClassOf]
    targets: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """The images of one split and the tasks that are scored on them.

    ``skipped`` counts what was left out, by reason: rows as a whole, and labels that a task has no class for.
    ``unscored`` names each task that can't be scored on this split and why; ``tasks`` holds the others. ``remarks`` say
    how a published tree differs from what its owner published.
    """

    name: str
    split: str
    images: LabelledImages
    tasks: list[Task]
    skipped: dict[str, int] = field(default_factory=dict)
    unscored: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.images)


def stated(dataset: Dataset) -> list[dict[str, int]]:
    """What the tasks say of each image: the facts of its classes, a normal eye's (none) that no disease is there; a
    class that stands for several things says nothing."""
    eyes: list[dict[str, int]] = [{} for _ in range(len(dataset))]
    for task in dataset.tasks:
        for eye, target in zip(eyes, task.targets.tolist(), strict=True):
            if target >= 0 and len(facts := task.classes[target].facts) == 1:
                eye |= facts[0] or dict.fromkeys(conditions.DISEASES, 0)
    return eyes


@dataclass(frozen=True)
class TaskPlan:
    """A task as tasks.yaml states it; ``class_of`` maps label values to indices into ``classes``."""

    name: str
    column: str
    ordinal: bool
    classes: list[ClassOf]
    class_of: dict[str, int]

    def apply(self, rows: Sequence[Row]) -> Task:
        """The task with the targets of these rows."""
        targets = np.array([self.class_of.get(row[self.column], -1) for row in rows])
        return Task(self.name, self.ordinal, self.classes, targets)


@dataclass(frozen=True)
class Plan:
    """A tasks.yaml: values by column of the rows left out (any) and of the rows reported (all), and the tasks."""

    drop: dict[str, str]
    test: dict[str, str]
    tasks: list[TaskPlan]

    @property
    def columns(self) -> list[str]:
        """The columns that the labels must have."""
        return [*self.drop, *self.test, *(task.column for task in self.tasks)]


def load_plan(path: Path) -> Plan:
    """The plan of a tasks.yaml.

    Raises:
        ValueError: it isn't there or not laid out as above, or a name is no condition; the message names the file.
    """
    where = runs.relative(path)
    if not path.is_file():
        example = "{column: COLUMN, classes: [{name: CLASS, values: [0], conditions: [{dr_grade: 0}]}, ...]}"
        raise ValueError(f"{where}: no such file; write what to ask of the labels: tasks: {{NAME: {example}}}")
    return plan(load_yaml(path), where)


def plan(given: object, where: str) -> Plan:
    """The plan of a decoded tasks.yaml; ``where`` opens messages. Raises as ``load_plan`` does."""
    given = fields(given, where, required=("tasks",), optional=("drop", "test"))
    if not isinstance(given["tasks"], dict):
        raise ValueError(f"{where}: tasks must map at least one name to column and classes")
    for key in ("drop", "test"):
        if not _are_values(given.get(key, {})):
            raise ValueError(f"{where}: {key} must be a mapping of columns to one value each, such as {{split: test}}")
    drop, test = ({column: plain(value) for column, value in given.get(key, {}).items()} for key in ("drop", "test"))
    return Plan(drop, test, [_task(name, task, f"{where}: {name}") for name, task in given["tasks"].items()])


def load_yaml(path: Path) -> Any:
    """A YAML file whose scalars all stay text, so that ``no`` is a label.

    Raises:
        ValueError: it is no YAML or not UTF-8, or a key is there twice; the message names file and line.
    """
    where = runs.relative(path)
    try:
        return yaml.load(read_text(path), _Loader)
    except yaml.YAMLError as error:
        line = error.problem_mark.line + 1 if getattr(error, "problem_mark", None) else "?"
        problem = " ".join(str(getattr(error, "problem", error)).split())
        raise ValueError(f"{where}: line {line} is no YAML ({problem}); correct it") from None


def fields(given: object, where: str, required: Sequence[str], optional: Sequence[str] = ()) -> dict:
    """``given`` if it is a mapping of all the required keys, none empty, and of no other than the optional ones.

    Raises:
        ValueError: it isn't; ``where`` opens the message.
    """
    if not isinstance(given, dict):
        raise ValueError(f"{where} must be a mapping of {', '.join((*required, *optional))}")
    for key in given:
        if key not in (*required, *optional):
            raise ValueError(f"{where}: unknown key {key!r}; allowed are {', '.join((*required, *optional))}")
    for key in required:
        if not given.get(key):
            raise ValueError(f"{where}: {key} is missing or empty; add it")
    return given


def plain(value: object) -> str:
    """A cell as text without outer spaces; ``1.0`` is ``1``, as tables with gaps are often written."""
    text = str(value).strip()
    return text.split(".")[0] if re.fullmatch(r"-?\d+\.0+", text) else text


def integer(text: str) -> int | str:
    """The integer that ``text`` spells, else ``text`` itself, for the vocabulary to refuse."""
    return int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else text


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte-order mark.

    Raises:
        ValueError: it is in another encoding; the message names it.
    """
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{runs.relative(path)}: not UTF-8; save it with that encoding") from None


def refuse_repeats(where: str, what: str, values: Sequence[str]) -> None:
    """Raise ValueError, opened by ``where``, if a value is there twice."""
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise ValueError(f"{where}: {what} {repeated[0]!r} is listed twice; leave one")


class _Loader(yaml.BaseLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.MarkedYAMLError(problem=f"{name!r} is there twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def _are_values(given: object) -> bool:
    return isinstance(given, dict) and all(isinstance(value, str) for value in given.values())


def _task(name: str, given: object, where: str) -> TaskPlan:
    if name.startswith(".") or set(name) & set("/\\"):
        raise ValueError(f"{where}: the name of a task is part of file names; leave out slashes and a leading point")
    given = fields(given, where, required=("column", "classes"), optional=("ordinal",))
    ordinal = given.get("ordinal", "false")
    if ordinal not in ("true", "false"):
        raise ValueError(f"{where}: ordinal is {ordinal!r}; allowed are true and false")
    if not isinstance(given["column"], str):
        raise ValueError(f"{where}: column must be the name of one column of the labels")
    if not isinstance(given["classes"], list) or len(given["classes"]) < 2:
        raise ValueError(f"{where}: classes must list two or more")
    classes: list[ClassOf] = []
    class_of: list[tuple[str, int]] = []
    for number, one in enumerate(given["classes"]):
        place = f"{where}: class {number + 1}"
        one = fields(one, place, required=("name", "values", "conditions"))
        label, values, alternatives = one["name"], one["values"], one["conditions"]
        if not isinstance(label, str):
            raise ValueError(f"{place}: name must be text")
        if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
            raise ValueError(f"{place} ({label}): values must be a list of labels, none empty, such as [0, 1]")
        if not isinstance(alternatives, list) or not all(map(_are_values, alternatives)):
            raise ValueError(f"{place} ({label}): conditions must be a list of mappings, such as [{{dr_grade: 1}}]")
        known = [{key: integer(value) for key, value in facts.items()} for facts in alternatives]
        classes.append(ClassOf(label, [conditions.check(facts, f"{place} ({label})") for facts in known]))
        class_of += [(plain(value), number) for value in values]
    refuse_repeats(where, "class", [one.name for one in classes])
    refuse_repeats(where, "value", [value for value, _ in class_of])
    return TaskPlan(name, given["column"], ordinal == "true", classes, dict(class_of))
