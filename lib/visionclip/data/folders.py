"""Readers of labelled photographs: a folder with ``labels.csv`` and ``tasks.yaml``, or a published dataset as unpacked.

``labels.csv`` has a column ``file`` (below the folder) and a column for each label; where there is a column ``group``
(a patient or an examination), images of one group aren't taken for independent. ``tasks.yaml`` says what can be
asked of them, in the study's vocabulary::

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
``1.0`` being ``1``. A published dataset needs neither file: ``layouts`` reads its owner's tree. Nothing is downloaded:
``PUBLISHED`` says how to obtain the sets of the field, and ``python -m visionclip.data.folders`` which are found.
"""

import argparse
import csv
import io
import os
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

import numpy as np
import yaml

from visionclip import conditions, runs
from visionclip.data import archives, images
from visionclip.progress import progress

LABELS, TASKS = "labels.csv", "tasks.yaml"
DEFAULT_FOLDER = "data/external"
Row = dict[str, str]


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
    """The images of one split: pixels uint8 N×S×S×3, the file names as ``keys``, and what is asked of them.

    ``skipped`` counts what was left out, by reason: rows as a whole, and labels that a task has no class for.
    ``unscored`` names each task that can't be scored on this split and why; ``tasks`` holds the others. ``remarks`` say
    how a published tree differs from what its owner published. ``groups`` names what each image belongs to, itself
    where nothing is known.
    """

    name: str
    split: str
    pixels: np.ndarray
    keys: list[str]
    tasks: list[Task]
    skipped: dict[str, int] = field(default_factory=dict)
    unscored: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.keys)


def find(folder: str | Path) -> list[Path]:
    """The dataset folders directly below ``folder``, by name: those with labels.csv or tasks.yaml, and published trees.

    Raises:
        FileNotFoundError: ``folder`` isn't there.
        ValueError: ``folder`` is itself a dataset folder.
    """
    folder = runs.resolve(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{runs.relative(folder)}: no such folder; give the one that holds the dataset folders")
    if _has_labels(folder):
        raise ValueError(f"{runs.relative(folder)}: is itself a dataset folder; give the folder that holds it")
    return sorted(child for child in folder.iterdir() if child.is_dir() and _is_dataset(child))


def load(folder: str | Path, size: int, rows: Mapping[str, object] | None = None) -> Dataset:
    """Read a dataset folder and decode its images to ``size``; ``rows`` ({column: value}) replaces the reported split.

    A task is left unscored if the split has no image of one of its classes: over the classes that are left its
    scores would answer an easier question. Links below the folder are followed.

    Raises:
        FileNotFoundError: labels.csv, tasks.yaml or an image isn't there.
        ValueError: labels.csv or tasks.yaml isn't laid out as above, a name is no condition or column, an image of the
            split is listed twice, a file lies outside the folder, no row is left, or an image is unreadable. All but
            the last is found before decoding.
    """
    folder = runs.resolve(folder)
    table, plan, remarks = _read_tree(folder)
    chosen = plan.test if rows is None else {column: archives.plain(str(value)) for column, value in rows.items()}
    columns = [*plan.drop, *chosen, *(question.column for question in plan.questions)]
    _require_columns(folder / LABELS, table, columns)

    split = _split_name(chosen)
    kept, skipped = _select(folder / LABELS, table, chosen, plan.drop)
    tasks, unscored = [], {}
    for question in plan.questions:
        targets = np.array([question.class_of.get(row[question.column], -1) for row in kept])
        if (targets < 0).any():
            skipped[f"{question.name}: label that no class lists"] = int((targets < 0).sum())
        reason = _why_unscored(question, kept, table, split)
        if reason:
            unscored[question.name] = reason
        else:
            tasks.append(Task(question.name, question.ordinal, question.classes, targets))
    pixels = _decode(folder, kept, size)
    keys, groups = [row["file"] for row in kept], [row.get("group") or row["file"] for row in kept]
    return Dataset(folder.name, split, pixels, keys, tasks, skipped, unscored, remarks, groups)


def protocol_rows(folder: str | Path, protocol: str) -> dict[str, str] | None:
    """The rows of a dataset folder that a protocol reports, for ``load``; None for those of its own tasks.

    "flair" takes Messidor-2, FIVES whole and the training images of REFUGE (Silva-Rodríguez et al., Medical Image
    Analysis 2025), "own" the test split of FIVES and of REFUGE. Other sets have one protocol.

    Raises:
        ValueError: another protocol.
    """
    if protocol not in ("flair", "own"):
        raise ValueError(f"protocol: {protocol!r} is not known; choose flair or own")
    folder = runs.resolve(folder)
    name = None if _has_labels(folder) else archives.recognise(folder)
    split = next((one.own for one in PUBLISHED if one.folder == name), "")
    return {"split": split} if protocol == "own" and split else None


def has_rows(folder: str | Path, rows: Mapping[str, str]) -> bool:
    """True where a folder has a row with these values of these columns; raises as ``load`` does of its labels."""
    table, _, _ = _read_tree(runs.resolve(folder))
    return any(all(row.get(column) == value for column, value in rows.items()) for row in table)


def labelled(folder: str | Path, size: int) -> tuple[np.ndarray, list[dict[str, int]]]:
    """Read a folder of labelled seed images: pixels uint8 N×size×size×3 and the complete conditions of each.

    ``labels.csv`` has ``file`` and one column for each condition that is known, named by its key; a condition without
    a column is at its default (healthy, readable, left). An empty cell is refused: unknown isn't healthy.

    Raises:
        FileNotFoundError: labels.csv or an image isn't there.
        ValueError: a column is no condition, a cell none of its values, or a file is refused as by ``load``.
    """
    folder = runs.resolve(folder)
    table = _read_labels(folder / LABELS)
    if len(table[0]) == 1:
        raise ValueError(f"{runs.relative(folder / LABELS)}: no condition; add a column such as dr_grade")
    eyes = []
    for row in table:
        where = f"{runs.relative(folder / LABELS)}: {row['file']}"
        told = {key: _integer(value) for key, value in row.items() if key != "file"}
        eyes.append(conditions.complete(conditions.check(told, where)))
    return _decode(folder, table, size), eyes


def external_folder(parameter: str) -> Path:
    """Where the datasets are: the parameter, or ``VISIONCLIP_EXTERNAL`` where the parameter is at its default."""
    named = os.environ.get("VISIONCLIP_EXTERNAL", "")
    return runs.resolve(named if named and parameter == DEFAULT_FOLDER else parameter)


def _has_labels(folder: Path) -> bool:
    return (folder / LABELS).is_file() or (folder / TASKS).is_file()


def _is_dataset(folder: Path) -> bool:
    return _has_labels(folder) or archives.recognise(folder) is not None


def _read_tree(folder: Path) -> "tuple[Sequence[Row], _Plan, list[str]]":
    """Rows, tasks and remarks of a dataset folder; its own labels.csv comes before what its tree looks like."""
    name = None if _has_labels(folder) else archives.recognise(folder)
    if name is None:
        return _read_labels(folder / LABELS), _read_plan(folder / TASKS), []
    rows, remarks = archives.read(folder, name)
    one = next(one for one in PUBLISHED if one.folder == name)
    return rows, _plan(yaml.load(one.tasks, _Loader), f"{runs.relative(folder)} ({one.name})"), remarks


def _integer(text: str) -> int | str:
    """The integer that ``text`` spells, else ``text`` itself, for the vocabulary to refuse."""
    return int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else text


def _refuse_repeats(where: str, what: str, values: Sequence[str]) -> None:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise ValueError(f"{where}: {what} {repeated[0]!r} is listed twice; leave one")


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{runs.relative(path)}: not UTF-8; save it with that encoding") from None


def _cells(where: str, text: str) -> Iterator[tuple[int, list[str]]]:
    """The line number and the canonical cells of every line that isn't blank, the header first."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    separators = [mark for mark in ",;\t" if "file" in (cell.strip(' "') for cell in header.split(mark))]
    if not separators:
        raise ValueError(
            f"{where}: no column `file` in its header {header[:80]!r} (commas, semicolons or tabs); add it"
        )
    reader = csv.reader(io.StringIO(text), delimiter=separators[0], strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, [archives.plain(cell) for cell in cells]
    except csv.Error as error:
        raise ValueError(f"{where}: line {reader.line_num} is no CSV ({error}); check its quotes") from None


def _read_labels(path: Path) -> list[Row]:
    """The rows of labels.csv, at least one, every cell as canonical text and every file below the folder."""
    where = runs.relative(path)
    if not path.is_file():
        raise FileNotFoundError(f"{where}: no such file; write it with a column `file` and one for each label")
    text = _read_text(path)
    if not text.strip():
        raise ValueError(f"{where}: empty; give it a header with a column `file` and a row for each image")
    (_, header), *lines = _cells(where, text)
    _refuse_repeats(where, "column", header)
    if not lines:
        raise ValueError(f"{where}: a header and no row; give it a row for each image")
    table = []
    for number, cells in lines:
        if len(cells) != len(header):
            raise ValueError(
                f"{where}: line {number} has {len(cells)} cells, the header {len(header)}; correct the line"
            )
        row = dict(zip(header, cells, strict=True))
        row["file"] = _inside(f"{where}: line {number}", row["file"])
        table.append(row)
    return table


def _inside(where: str, file: str) -> str:
    """``file`` without detours; refused if it isn't a path below the folder on every system."""
    path = PureWindowsPath(file)  # takes both kinds of slash, and drives
    if not file:
        raise ValueError(f"{where} names no file; give its path below the folder")
    if path.anchor or ".." in path.parts:
        raise ValueError(f"{where}: {file} is outside the folder; move the image into it and give its path below it")
    return path.as_posix()


def _require_columns(path: Path, table: Sequence[Row], columns: Sequence[str]) -> None:
    for column in columns:
        if column not in table[0]:
            raise ValueError(
                f"{runs.relative(path)}: no column {column!r}, which {TASKS} or the call asks for; "
                f"it has {', '.join(table[0])}"
            )


def _decode(folder: Path, rows: Sequence[Row], size: int) -> np.ndarray:
    """Prepared images uint8 N×size×size×3 of all rows; every file is looked up before the first is decoded."""
    files = [row["file"] for row in rows]
    _refuse_repeats(runs.relative(folder / LABELS), "file", files)
    for file in files:
        if not (folder / file).is_file():
            raise FileNotFoundError(_absent(folder, file))
    pixels = np.empty((len(rows), size, size, 3), np.uint8)

    def decode(place: int) -> None:
        pixels[place] = images.prepare(images.read(folder / files[place]), size)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:  # OpenCV decodes and resizes without Python's lock
        try:
            for _ in progress(pool.map(decode, range(len(files))), f"read {folder.name}", len(files)):
                pass
        except ValueError:
            pool.shutdown(cancel_futures=True)
            raise
    return pixels


def _absent(folder: Path, file: str) -> str:
    """What to say of a missing image; published labels often differ from the disk in capitals (Messidor-2: .JPG)."""
    path = folder / file
    alike = [
        other.name
        for other in (path.parent.iterdir() if path.parent.is_dir() else ())
        if unicodedata.normalize("NFC", other.name).casefold() == unicodedata.normalize("NFC", path.name).casefold()
    ]
    remedy = f"the folder has {alike[0]}: write that" if alike else "add the image or leave its row out"
    return f"{runs.relative(path)}: no such image, though {LABELS} lists it; {remedy}"


@dataclass(frozen=True)
class _Question:
    """A task as tasks.yaml states it; ``class_of`` maps label values to indices into ``classes``."""

    name: str
    column: str
    ordinal: bool
    classes: list[ClassOf]
    class_of: dict[str, int]


@dataclass(frozen=True)
class _Plan:
    drop: dict[str, str]
    test: dict[str, str]
    questions: list[_Question]


class _Loader(yaml.BaseLoader):
    """YAML whose scalars all stay text, so that ``no`` is a label; a key written twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.MarkedYAMLError(problem=f"{name!r} is there twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def _read_plan(path: Path) -> _Plan:
    where = runs.relative(path)
    if not path.is_file():
        raise ValueError(
            f"{where}: no such file; write what to ask of the labels: tasks: {{NAME: {{column: COLUMN, classes: "
            "[{name: CLASS, values: [0], conditions: [{dr_grade: 0}]}, ...]}}"
        )
    try:
        given = yaml.load(_read_text(path), _Loader)
    except yaml.YAMLError as error:
        line = error.problem_mark.line + 1 if getattr(error, "problem_mark", None) else "?"
        problem = " ".join(str(getattr(error, "problem", error)).split())
        raise ValueError(f"{where}: line {line} is no YAML ({problem}); correct it") from None
    return _plan(given, where)


def _plan(given: object, where: str) -> _Plan:
    given = _fields(given, where, required=("tasks",), optional=("drop", "test"))
    if not isinstance(given["tasks"], dict) or not given["tasks"]:
        raise ValueError(f"{where}: tasks must map at least one name to column and classes")
    return _Plan(
        _column_values(given.get("drop", {}), f"{where}: drop"),
        _column_values(given.get("test", {}), f"{where}: test"),
        [_question(name, task, f"{where}: {name}") for name, task in given["tasks"].items()],
    )


def _fields(given: object, where: str, required: Sequence[str], optional: Sequence[str] = ()) -> dict:
    """``given`` if it is a mapping of all the required keys and of no other than the optional ones."""
    if not isinstance(given, dict):
        raise ValueError(f"{where} must be a mapping of {', '.join((*required, *optional))}")
    for key in given:
        if key not in (*required, *optional):
            raise ValueError(f"{where}: unknown key {key!r}; allowed are {', '.join((*required, *optional))}")
    for key in required:
        if not given.get(key):
            raise ValueError(f"{where}: {key} is missing or empty; add it")
    return given


def _column_values(given: object, where: str) -> dict[str, str]:
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise ValueError(f"{where} must be a mapping of columns to one value each, such as {{split: test}}")
    return {column: archives.plain(value) for column, value in given.items()}


def _question(name: str, given: object, where: str) -> _Question:
    given = _fields(given, where, required=("column", "classes"), optional=("ordinal",))
    ordinal = given.get("ordinal", "false")
    if ordinal not in ("true", "false"):
        raise ValueError(f"{where}: ordinal is {ordinal!r}; allowed are true and false")
    if not isinstance(given["column"], str):
        raise ValueError(f"{where}: column must be the name of one column of {LABELS}")
    if not isinstance(given["classes"], list) or len(given["classes"]) < 2:
        raise ValueError(f"{where}: classes must list two or more")
    classes, values = zip(
        *(_class(one, f"{where}: class {n}") for n, one in enumerate(given["classes"], 1)), strict=True
    )
    _refuse_repeats(where, "class", [one.name for one in classes])
    _refuse_repeats(where, "value", [value for listed in values for value in listed])
    class_of = {value: index for index, listed in enumerate(values) for value in listed}
    return _Question(name, given["column"], ordinal == "true", list(classes), class_of)


def _class(given: object, where: str) -> tuple[ClassOf, list[str]]:
    """A class and the label values it lists."""
    given = _fields(given, where, required=("name", "values", "conditions"))
    if not isinstance(given["name"], str):
        raise ValueError(f"{where}: name must be text")
    where = f"{where} ({given['name']})"
    if not isinstance(given["values"], list) or not all(isinstance(value, str) and value for value in given["values"]):
        raise ValueError(f"{where}: values must be a list of labels, none empty, such as [0, 1]")
    if not isinstance(given["conditions"], list) or not all(isinstance(facts, dict) for facts in given["conditions"]):
        raise ValueError(f"{where}: conditions must be a list of mappings, such as [{{dr_grade: 1}}]")
    facts = [conditions.check({k: _integer(v) for k, v in one.items()}, where) for one in given["conditions"]]
    return ClassOf(given["name"], facts), [archives.plain(value) for value in given["values"]]


def _split_name(chosen: Mapping[str, str]) -> str:
    """What to call the rows with these values: ``test`` for {split: test}, ``centre 2`` for {centre: 2}."""
    return ", ".join(value if column == "split" else f"{column} {value}" for column, value in chosen.items()) or "all"


def _select(
    path: Path, table: Sequence[Row], chosen: Mapping[str, str], drop: Mapping[str, str]
) -> tuple[list[Row], dict[str, int]]:
    """The rows of the split that aren't dropped, and how many were left out for which reason."""
    inside = [row for row in table if all(row[column] == value for column, value in chosen.items())]
    skipped = Counter({f"not in split {_split_name(chosen)!r}": len(table) - len(inside)})
    kept = []
    for row in inside:
        reason = next((f"{column} is {value}" for column, value in drop.items() if row[column] == value), None)
        if reason:
            skipped[reason] += 1
        else:
            kept.append(row)
    if not kept:
        held = "; ".join(f"{column}: {', '.join(sorted({row[column] for row in table})[:8])}" for column in chosen)
        raise ValueError(
            f"{runs.relative(path)}: no row is left of split {_split_name(chosen)!r}; "
            f"correct test or drop in {TASKS}{f' ({LABELS} has {held})' if held else ''}"
        )
    return kept, {reason: count for reason, count in skipped.items() if count}


def _why_unscored(question: _Question, kept: Sequence[Row], table: Sequence[Row], split: str) -> str:
    """Which classes lack an image, in one line; empty if none does."""
    in_split, anywhere = ({question.class_of.get(row[question.column]) for row in rows} for rows in (kept, table))
    return "; ".join(
        f"class {one.name!r} has no image in {f'split {split!r}' if index in anywhere else LABELS}"
        for index, one in enumerate(question.classes)
        if index not in in_split
    )


@dataclass(frozen=True)
class Published:
    """A dataset of the field that isn't shipped: whose it is, how to obtain it and how to lay it out.

    ``accuracy`` is VisionCLIP's zero-shot figure (arXiv 2403.10823, which states neither split nor averaging), to be
    read beside ``majority``, the accuracy of always answering the commonest class; both 0 to 1, None if not known.
    ``layout`` says what labels.csv needs, ``tasks`` is the text of its tasks.yaml.
    """

    folder: str
    name: str
    owner: str
    terms: str
    images: int
    accuracy: float | None
    majority: float | None
    get: str
    layout: str
    tasks: str
    own: str = ""  # the split that its owner reports on, where FLAIR's protocol takes other rows


_DR_GRADE = """\
  dr_grade:
    column: dr_grade
    ordinal: true
    classes:
      - {name: no diabetic retinopathy, values: [0], conditions: [{dr_grade: 0}]}
      - {name: mild diabetic retinopathy, values: [1], conditions: [{dr_grade: 1}]}
      - {name: moderate diabetic retinopathy, values: [2], conditions: [{dr_grade: 2}]}
      - {name: severe diabetic retinopathy, values: [3], conditions: [{dr_grade: 3}]}
      - {name: proliferative diabetic retinopathy, values: [4], conditions: [{dr_grade: 4}]}
  referable_dr:
    column: dr_grade
    classes:
      - {name: not referable, values: [0, 1], conditions: [{dr_grade: 0}, {dr_grade: 1}]}
      - {name: referable, values: [2, 3, 4], conditions: [{dr_grade: 2}, {dr_grade: 3}, {dr_grade: 4}]}
"""
_EDEMA_RISK = """\
  macular_edema:
    column: dme_risk
    classes:
      - {name: no macular edema, values: [0, 1], conditions: [{dme: 0}]}
      - {name: diabetic macular edema, values: [2], conditions: [{dme: 1}]}
"""

PUBLISHED: tuple[Published, ...] = (
    Published(
        folder="messidor",
        name="MESSIDOR",
        owner="Messidor program partners (Decencière et al., Image Analysis & Stereology 2014)",
        terms="research and education only; copying, redistribution and commercial use prohibited",
        images=1200,
        accuracy=0.431,
        majority=0.455,
        get="the form at https://www.adcis.net/en/third-party/messidor/: 12 archives of 100 TIFF files, 12 label books",
        layout="file, messidor_grade and dme_risk (0 to 2) from the label books `Annotation_BaseXX.xls`, corrected as "
        "the site's errata say; duplicate, 1 for one image of each of the 13 pairs in Base33, else 0",
        # Not the international scale: 2 is 6 to 14 microaneurysms or 1 to 4 haemorrhages, 3 is more or new vessels. The
        # conditions are the nearest grades.
        tasks="""\
drop: {duplicate: 1}
tasks:
  messidor_grade:
    column: messidor_grade
    ordinal: true
    classes:
      - {name: grade 0, values: [0], conditions: [{dr_grade: 0}]}
      - {name: grade 1, values: [1], conditions: [{dr_grade: 1}]}
      - {name: grade 2, values: [2], conditions: [{dr_grade: 2}]}
      - {name: grade 3, values: [3], conditions: [{dr_grade: 3}, {dr_grade: 4}]}
"""
        + _EDEMA_RISK,
    ),
    Published(
        folder="messidor2",
        name="Messidor-2",
        owner="Messidor program partners and LaTIM, Brest; grades by Krause et al. (Ophthalmology 2018)",
        terms="research and education only, by agreement with the owner",
        images=1748,
        accuracy=None,
        majority=0.583,
        get="images: https://www.adcis.net/en/third-party/messidor2/; grades: `messidor_data.csv`, the adjudicated "
        "grades (Kaggle google-brain/messidor2-dr-grades)",
        layout="file (spelt as on disk: the grades say .jpg where the disk says .JPG), and of the adjudicated columns "
        "dr_grade, dme and gradable; 4 images aren't gradable",
        tasks="drop: {gradable: 0}\ntasks:\n"
        + _DR_GRADE
        + """\
  macular_edema:
    column: dme
    classes:
      - {name: no macular edema, values: [0], conditions: [{dme: 0}]}
      - {name: diabetic macular edema, values: [1], conditions: [{dme: 1}]}
""",
    ),
    Published(
        folder="fives",
        name="FIVES",
        owner="Eye Center, Second Affiliated Hospital of Zhejiang University (Jin et al., Scientific Data 2022)",
        terms="CC BY 4.0",
        images=800,
        accuracy=0.739,
        majority=0.25,
        get="https://doi.org/10.6084/m9.figshare.19688169: one RAR archive",
        layout="file with its folder (train/Original/1_A.png: 50 names occur in both splits for different eyes), and "
        "label, the letter at the end of the name",
        tasks="""\
tasks:
  disease:
    column: label
    classes:
      - {name: normal, values: [N], conditions: [{}]}
      - {name: age-related macular degeneration, values: [A], conditions: [{amd: 1}]}
      - name: diabetic retinopathy
        values: [D]
        conditions: [{dr_grade: 1}, {dr_grade: 2}, {dr_grade: 3}, {dr_grade: 4}]
      - {name: glaucoma, values: [G], conditions: [{gc: 1}]}
""",
        own="test",
    ),
    Published(
        folder="refuge",
        name="REFUGE",
        owner="iChallenge; Zhongshan Ophthalmic Center (Orlando et al., Medical Image Analysis 2020)",
        terms="challenge data, for research; registration",
        images=1200,
        accuracy=0.925,
        majority=0.9,
        get="https://refuge.grand-challenge.org: images and ground truth of each split",
        layout="file, split (train, val, test) and glaucoma (0, 1; empty where a copy has no labels, never 0); the "
        "reported split is the 400 training images, FLAIR's protocol",
        tasks="""\
test: {split: train}
tasks:
  glaucoma:
    column: glaucoma
    classes:
      - {name: no glaucoma, values: [0], conditions: [{gc: 0}]}
      - {name: glaucoma, values: [1], conditions: [{gc: 1}]}
""",
        own="test",
    ),
    Published(
        folder="idrid",
        name="IDRiD",
        owner="Eye Clinic, Nanded (Porwal et al., Data 2018)",
        terms="CC BY 4.0",
        images=516,
        accuracy=None,
        majority=None,
        get="https://doi.org/10.21227/H25W98: the part on disease grading",
        layout="file, split (train, test), dr_grade, dme_risk (0 to 2); dup_conflict, 1 where copies of one photograph "
        "are graded differently, else 0",
        tasks="drop: {dup_conflict: 1}\ntest: {split: test}\ntasks:\n" + _DR_GRADE + _EDEMA_RISK,
    ),
    Published(
        folder="palm",
        name="PALM",
        owner="iChallenge; Zhongshan Ophthalmic Center (Fang et al., Scientific Data 2024)",
        terms="challenge data, for research; registration",
        images=1200,
        accuracy=None,
        majority=None,
        get="https://palm.grand-challenge.org or https://doi.org/10.21227/55pk-8z03",
        layout="file, split (train, val) and pm (0, 1)",
        tasks="""\
test: {split: val}
tasks:
  pathologic_myopia:
    column: pm
    classes:
      - {name: no pathologic myopia, values: [0], conditions: [{pm: 0}]}
      - {name: pathologic myopia, values: [1], conditions: [{pm: 1}]}
""",
    ),
    Published(
        folder="odir",
        name="ODIR-5K",
        owner="Peking University and Shanggong Medical (challenge ODIR-2019)",
        terms="challenge data, for research; registration",
        images=7000,
        accuracy=None,
        majority=None,
        get="https://odir2019.grand-challenge.org: training images and annotations",
        layout="file, and 0 or 1 for cataract, pm, gc, amd and htr from the eye's own keywords (the other label "
        "columns are of the patient; empty where suspected); unusable, 1 for other images than of the fundus, else 0",
        tasks="drop: {unusable: 1}\ntasks:\n"
        + "".join(
            f"  {key}:\n    column: {key}\n    classes:\n"
            f"      - {{name: no {name}, values: [0], conditions: [{{{key}: 0}}]}}\n"
            f"      - {{name: {name}, values: [1], conditions: [{{{key}: 1}}]}}\n"
            for key, name in (
                (key, conditions.VOCABULARY[key].english[0]) for key in ("cataract", "pm", "gc", "amd", "htr")
            )
        ),
    ),
)


def missing(folder: str | Path) -> list[Published]:
    """The published sets of which no folder below ``folder`` has the name or the layout; raises as ``find`` does."""
    found = find(folder)
    there = {path.name.casefold() for path in found} | {archives.recognise(path) for path in found}
    return [one for one in PUBLISHED if one.folder not in there]


def describe(folder: Path) -> str:
    """Which datasets are below ``folder``, what each holds, and how to obtain the published ones that aren't there."""
    lines = []
    for path in find(folder) if folder.is_dir() else []:
        rows, plan, remarks = _read_tree(path)
        lines.append(f"found    {path.name}: {len(rows)} images, tasks {', '.join(one.name for one in plan.questions)}")
        lines += [f"         {remark}" for remark in remarks]
    for one in missing(folder) if folder.is_dir() else PUBLISHED:
        lines += [f"missing  {one.name}: {one.images} images of {one.owner}", f"         terms: {one.terms}"]
        lines += [f"         get it: {one.get}", f"         put it: {runs.relative(folder)}/{one.folder}, as unpacked"]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m visionclip.data.folders", description=describe.__doc__)
    parser.add_argument("folder", nargs="?", default=DEFAULT_FOLDER, help="folder with one folder a dataset")
    try:
        print(describe(external_folder(parser.parse_args(arguments).folder)))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
