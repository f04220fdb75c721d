"""Loaders of labelled photographs: a folder with ``labels.csv`` and ``tasks.yaml``, or a published dataset as unpacked.

``labels.csv`` has a column ``file`` (a path below the folder, whose extension may be left out) and a column for each
label; where there is a column ``group`` (a patient or an examination), images of one group aren't taken for
independent. ``tasks`` says how ``tasks.yaml`` is written. A published dataset needs neither file: ``archives`` knows
its owner's tree. Nothing is downloaded: ``published`` says how to obtain the sets of the field, and ``python -m
visionclip.data.folders`` which are here.
"""

import argparse
import csv
import io
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PureWindowsPath

import numpy as np
from PIL import Image

from visionclip import conditions, runs
from visionclip.data import archives, listing, prepared
from visionclip.data.field_of_view import SURROUNDS
from visionclip.data.labelled import LabelledImages
from visionclip.data.published import PUBLISHED, Published
from visionclip.data.tasks import (
    Dataset,
    NothingToScore,
    Plan,
    Row,
    TaskPlan,
    integer,
    load_plan,
    plain,
    read_text,
    refuse_repeats,
)

LABELS, TASKS = "labels.csv", "tasks.yaml"
DEFAULT_FOLDER = "data/external"
DEVELOPMENT = "development"  # the split of a set that is there to choose by
CREDITS = {"idrid": "IDRiD, Porwal et al., CC BY 4.0"}  # sets whose licence lets a report show their photographs
TRAIN = {"split": "train"}
TUNED = ("idrid", "palm")  # sets whose training splits this study's drawing and settings were chosen by
SEEDS = "seed folder"  # the source of labelled seed images
PICTURES = (*archives.PICTURES, ".bmp", ".webp")  # what a name without extension may stand for


def find(folder: str | Path) -> list[Path]:
    """The dataset folders directly below ``folder``, by name: those with labels.csv or tasks.yaml, and published trees.

    A folder that isn't there holds none.

    Raises:
        ValueError: ``folder`` is itself a dataset folder.
    """
    folder = runs.resolve(folder)
    if _has_labels(folder):
        raise ValueError(f"{runs.relative(folder)}: is itself a dataset folder; give the folder that holds it")
    children = sorted(folder.iterdir()) if folder.is_dir() else []
    return [child for child in children if _has_labels(child) or archives.recognise(child)]


def load(folder: str | Path, size: int, rows: Mapping[str, object] | None = None) -> Dataset:
    """Read a dataset folder and decode its images to ``size``; ``rows`` ({column: value}) replaces the reported split.

    A task is left unscored if the split has no image of one of its classes: over the classes that are left its
    scores would answer an easier question. Links below the folder are followed.

    Raises:
        FileNotFoundError: labels.csv, tasks.yaml or an image isn't there.
        NothingToScore: no row is left of the split.
        ValueError: labels.csv or tasks.yaml isn't laid out as documented, a name is no condition or column, an image of
            the split is listed twice or could be several, a file lies outside the folder, or an image is unreadable.
            All but the last is noticed before decoding.
    """
    folder = runs.resolve(folder)
    table, plan, remarks = _load_tree(folder)
    chosen = plan.test if rows is None else {column: plain(str(value)) for column, value in rows.items()}
    for column in (*plan.columns, *chosen):
        if column not in table[0]:
            here = f"{runs.relative(folder / LABELS)}: no column {column!r}"
            raise ValueError(f"{here}, which {TASKS} or the call needs; it has {', '.join(table[0])}")
    whole = DEVELOPMENT if is_development(folder) else "all"
    split = ", ".join(value if column == "split" else f"{column} {value}" for column, value in chosen.items()) or whole
    kept, skipped = _select(table, split, chosen, plan.drop)
    if not kept:
        raise NothingToScore(_why_nothing(folder, table, split, list(chosen)))
    tasks, unscored = [], {}
    for one in plan.tasks:
        task = one.apply(kept)
        if (task.targets < 0).any():
            skipped[f"{one.name}: label that no class lists"] = int((task.targets < 0).sum())
        if reason := _why_unscored(one, kept, table, split):
            unscored[one.name] = reason
        else:
            tasks.append(task)
    files = [row["file"] for row in kept]
    groups = [row["group"] or row["file"] for row in kept] if "group" in table[0] else []
    pixels, surrounds = _decode(folder, files, size)
    remarks = [*remarks, *surrounds]
    photographs = LabelledImages(pixels, [{} for _ in kept], [folder.name] * len(kept), files, groups)
    return Dataset(folder.name, split, photographs, tasks, skipped, unscored, remarks)


def protocol_rows(folder: str | Path, protocol: str) -> dict[str, str] | None:
    """The rows of a dataset folder that a protocol reports, for ``load``; None for those of its own tasks.

    "flair" takes Messidor-2, FIVES whole and the training images of REFUGE (Silva-Rodríguez et al., Medical Image
    Analysis 2025), "own" the test split of FIVES and of REFUGE. Other sets have one protocol.

    Raises:
        ValueError: another protocol.
    """
    if protocol not in ("flair", "own"):
        raise ValueError(f"protocol: {protocol!r} is not known; choose flair or own")
    published = _published(runs.resolve(folder))
    return {"split": published.own} if protocol == "own" and published and published.own else None


def native_sizes(folder: str | Path, files: Sequence[str]) -> list[int]:
    """The shorter side in pixels of each of these files of a dataset folder, as it lies there; only its head is read.

    Raises:
        FileNotFoundError: an image isn't there.
        ValueError: it could be several.
    """
    folder = runs.resolve(folder)
    sides = []
    for file in _lookup(folder, files):
        with Image.open(folder / file) as picture:
            sides.append(min(picture.size))
    return sides


def credit(name: str) -> str:
    """The words that have to stand beside photographs of the set of this name, in any capitals; none where its owner
    does not let them be shown."""
    return CREDITS.get(name.casefold(), "")


def is_development(folder: Path) -> bool:
    """True of a set that is there to choose by, whole, and whose scores are no result: its name ends in "_dev"
    or "-dev"."""
    return re.search(r"[-_]dev$", folder.name) is not None


def reports(folder: str | Path, rows: Mapping[str, str]) -> bool:
    """True where these rows are among those that a folder reports by its own tasks: all of its rows, where ``test`` in
    them names no column of these; raises as ``load`` does of its labels."""
    try:
        _, plan, _ = _load_tree(runs.resolve(folder))
    except NothingToScore:
        return False
    return all(plan.test.get(column, value) == value for column, value in rows.items())


def has_rows(folder: str | Path, rows: Mapping[str, str]) -> bool:
    """True where a folder has a row with these values of these columns; raises as ``load`` does of its labels."""
    try:
        table, _, _ = _load_tree(runs.resolve(folder))
    except NothingToScore:
        return False
    return any(all(row.get(column) == value for column, value in rows.items()) for row in table)


def labelled(folder: str | Path, size: int) -> LabelledImages:
    """Load a folder of labelled seed images, decoded to ``size``, with what is known of each.

    ``labels.csv`` has ``file`` and one column for each condition that is known, named by its key. A condition without
    a column, or with an empty cell, stays unknown: nobody looked, which is neither healthy nor readable nor left.

    Raises:
        FileNotFoundError: labels.csv or an image isn't there.
        ValueError: a column is no condition, a cell none of its values, a row states nothing, or a file is refused as
            by ``load``.
    """
    files, eyes = stated(folder)
    names = [f"{SEEDS}-{number:07d}".replace(" ", "-") for number in range(len(files))]  # a shard's key has no point
    return LabelledImages(_decode(runs.resolve(folder), files, size)[0], eyes, [SEEDS] * len(files), names)


def stated(folder: str | Path) -> tuple[list[str], list[dict[str, int]]]:
    """The files that labels.csv of a folder of seed images lists, and what it states of each; raises as ``labelled``,
    but looks for no image."""
    folder = runs.resolve(folder)
    table = _load_labels(folder / LABELS)
    where = runs.relative(folder / LABELS)
    if len(table[0]) == 1:
        raise ValueError(f"{where}: no condition; add a column such as dr_grade")
    eyes = []
    for row in table:
        known = {key: integer(value) for key, value in row.items() if key != "file" and value}
        if not known:
            raise ValueError(f"{where}: {row['file']} states no condition; fill in a cell or leave the row out")
        eyes.append(conditions.check(known, f"{where}: {row['file']}"))
    return [row["file"] for row in table], eyes


def external_folder(parameter: str) -> Path:
    """Where the datasets are: the parameter, or ``VISIONCLIP_EXTERNAL`` where the parameter is at its default."""
    named = os.environ.get("VISIONCLIP_EXTERNAL", "")
    return runs.resolve(named if named and parameter == DEFAULT_FOLDER else parameter)


def missing(folder: str | Path) -> list[Published]:
    """The published sets of which no folder below ``folder`` has the name or the tree; raises as ``find`` does."""
    here = find(folder)
    names = {path.name.casefold() for path in here} | {archives.recognise(path) for path in here}
    return [one for one in PUBLISHED if one.folder not in names]


def describe(folder: Path) -> str:
    """Which datasets are below ``folder``, what each holds, and how to obtain the published ones that aren't there."""
    lines = []
    for path in find(folder):
        try:
            rows, plan, remarks = _load_tree(path)
        except NothingToScore as reason:
            lines.append(f"found    {path.name}: not to be used; {reason}")
            continue
        lines.append(f"found    {path.name}: {len(rows)} images, tasks {', '.join(one.name for one in plan.tasks)}")
        lines += [f"         {remark}" for remark in remarks]
    for one in missing(folder):
        lines += [f"missing  {one.name}: {one.images} images of {one.owner}", f"         terms: {one.terms}"]
        lines += [f"         get it: {one.get}", f"         put it: {runs.relative(folder)}/{one.folder}, as unpacked"]
    return "\n".join(lines)


def _has_labels(folder: Path) -> bool:
    return (folder / LABELS).is_file() or (folder / TASKS).is_file()


def _published(folder: Path) -> Published | None:
    """What a folder is by its tree; labels of its own come first."""
    name = None if _has_labels(folder) else archives.recognise(folder)
    return next((one for one in PUBLISHED if one.folder == name), None)


def _load_tree(folder: Path) -> tuple[Sequence[Row], Plan, list[str]]:
    """Rows, tasks and remarks of a dataset folder."""
    if published := _published(folder):
        rows, remarks = archives.load(folder, published.folder)
        return rows, published.plan, remarks
    return _load_labels(folder / LABELS), load_plan(folder / TASKS), []


def _load_labels(path: Path) -> list[Row]:
    """The rows of labels.csv, at least one, every cell as canonical text and every file below the folder."""
    where = runs.relative(path)
    if not path.is_file():
        raise FileNotFoundError(f"{where}: no such file; write it with a column `file` and one for each label")
    text = read_text(path)
    if not text.strip():
        raise ValueError(f"{where}: empty; give it a header with a column `file` and a row for each image")
    (_, header), *lines = _cells(where, text)
    refuse_repeats(where, "column", header)
    if not lines:
        raise ValueError(f"{where}: a header and no row; give it a row for each image")
    table = []
    for number, cells in lines:
        if len(cells) != len(header):
            raise ValueError(f"{where}: line {number} has {len(cells)} cells, the header {len(header)}; correct it")
        row = dict(zip(header, cells, strict=True))
        table.append({**row, "file": _inside(f"{where}: line {number}", row["file"])})
    return table


def _cells(where: str, text: str) -> Iterator[tuple[int, list[str]]]:
    """The line number and the canonical cells of every line that isn't blank, the header first."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    separators = [mark for mark in ",;\t" if "file" in (cell.strip(' "') for cell in header.split(mark))]
    if not separators:
        raise ValueError(f"{where}: no column `file` in its header {header[:80]!r} (by commas, semicolons, tabs)")
    lines = csv.reader(io.StringIO(text), delimiter=separators[0], strict=True)
    try:
        for cells in lines:
            if any(cell.strip() for cell in cells):
                yield lines.line_num, [plain(cell) for cell in cells]
    except csv.Error as error:
        raise ValueError(f"{where}: line {lines.line_num} is no CSV ({error}); check its quotes") from None


def _inside(where: str, file: str) -> str:
    """``file`` without detours; refused if it isn't a path below the folder on every system."""
    path = PureWindowsPath(file)  # takes both kinds of slash, and drives
    if not file:
        raise ValueError(f"{where} names no file; give its path below the folder")
    if path.anchor or ".." in path.parts:
        raise ValueError(f"{where}: {file} is outside the folder; move the image into it and give its path below it")
    return path.as_posix()


def _select(
    table: Sequence[Row], split: str, chosen: Mapping[str, str], drop: Mapping[str, str]
) -> tuple[list[Row], dict[str, int]]:
    """The rows of the split that aren't dropped, and how many were left out for which reason."""
    skipped: Counter[str] = Counter()
    kept = []
    for row in table:
        if any(row[column] != value for column, value in chosen.items()):
            skipped[f"not in split {split!r}"] += 1
        elif reason := next((f"{column} is {value}" for column, value in drop.items() if row[column] == value), ""):
            skipped[reason] += 1
        else:
            kept.append(row)
    return kept, dict(skipped)


def _why_nothing(folder: Path, table: Sequence[Row], split: str, columns: Sequence[str]) -> str:
    """Why no row is left, and the remedy, in one line."""
    held = "; ".join(f"{column}: {', '.join(sorted({row[column] for row in table})[:8])}" for column in columns)
    if _published(folder):
        return f"{runs.relative(folder)}: no labelled image of split {split!r} (there: {held}); unpack that split too"
    there = f" ({LABELS} has {held})" if held else ""
    return (
        f"{runs.relative(folder / LABELS)}: no row is left of split {split!r}; correct test or drop in {TASKS}{there}"
    )


def _why_unscored(task: TaskPlan, kept: Sequence[Row], table: Sequence[Row], split: str) -> str:
    """Which classes lack an image, in one line; empty if none does."""
    in_split, anywhere = ({task.class_of.get(row[task.column]) for row in rows} for rows in (kept, table))
    return "; ".join(
        f"class {one.name!r} has no image in {f'split {split!r}' if index in anywhere else LABELS}"
        for index, one in enumerate(task.classes)
        if index not in in_split
    )


def _decode(folder: Path, files: Sequence[str], size: int) -> tuple[np.ndarray, list[str]]:
    """Prepared images uint8 N×size×size×3 of all files, and remarks on what surrounds their fields of view; every file
    is looked up before the first is decoded."""
    found = _lookup(folder, files)
    refuse_repeats(runs.relative(folder / LABELS), "file", found)
    pixels, kinds = prepared.load(folder, found, size)
    surrounds = Counter(kinds)
    return pixels, [f"{surrounds[kind]} images with {what}" for kind, what in SURROUNDS.items() if surrounds[kind]]


def _lookup(folder: Path, files: Sequence[str]) -> list[str]:
    """The image that each name means: the file itself, or the one that differs in capitals, in the spelling of its type
    (.jpg, .jpeg), or by an extension that the name lacks, as in Kaggle's labels. The folder is listed at most once.

    Raises:
        FileNotFoundError: there is none; the message names what comes nearest, such as 0017.png for 17.
        ValueError: there are several.
    """
    absent = {file for file in files if not (folder / file).is_file()}
    there = [path.as_posix() for path in listing.files(folder, links=True)] if absent else []
    there = [path for path in there if path.casefold().endswith(PICTURES)]
    meaning: dict[str, list[str]] = {}
    for path in there:
        for name in (_normal(path), _stem(path)):
            meaning.setdefault(name, []).append(path)
    return [_only(folder, file, meaning, there) if file in absent else file for file in files]


def _normal(file: str) -> str:
    """A name in one spelling: lower case, composed letters, one extension for each type."""
    name = unicodedata.normalize("NFC", file).casefold()
    return re.sub(r"\.jpeg$", ".jpg", re.sub(r"\.tiff$", ".tif", name))


def _stem(file: str) -> str:
    """The name in one spelling, without the extension of an image."""
    name = _normal(file)
    return name.rpartition(".")[0] if name.endswith(PICTURES) else name


def _only(folder: Path, file: str, meaning: Mapping[str, Sequence[str]], there: Sequence[str]) -> str:
    """The one image of ``there`` that ``file`` means, which is no file itself; raises as ``_lookup``."""
    hits = [path for path in meaning.get(_normal(file), ()) if (folder / path).is_file()]  # and no link to nothing
    if len(hits) > 1:
        several = f"{runs.relative(folder / LABELS)}: {file} can mean {' or '.join(hits[:3])}"
        raise ValueError(f"{several}; write the whole name of the one that is meant")
    if not hits:
        where = f"{runs.relative(folder / file)}: no such image, though {LABELS} lists it"
        raise FileNotFoundError(f"{where}; {_remedy(file, [path for path in there if (folder / path).is_file()])}")
    return hits[0]


def _remedy(file: str, there: Sequence[str]) -> str:
    """What to do about an image that isn't there. What comes nearest is named, not taken: it may be of another eye."""

    def numbers(name: str) -> list[str]:
        return re.findall(r"\d+", _stem(Path(name).name))

    def without_zeros(name: str) -> str:
        return re.sub(r"(?<!\d)0+(?=\d)", "", _stem(Path(name).name))

    near = [path for path in there if without_zeros(path) == without_zeros(file)]
    if not near:
        return "add the image or leave its row out"
    why = ", as spreadsheets drop zeros" if numbers(near[0]) != numbers(file) else ""
    return f"the folder has {near[0]}: write that if it is meant{why}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print ``describe`` of a folder; a mistake is one line on standard error and exit status 2."""
    parser = argparse.ArgumentParser(prog="python -m visionclip.data.folders", description=describe.__doc__)
    parser.add_argument("folder", nargs="?", default=DEFAULT_FOLDER, help="folder with one folder a dataset")
    try:
        print(describe(external_folder(parser.parse_args(arguments).folder)))
    except (ValueError, OSError) as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
