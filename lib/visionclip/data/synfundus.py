"""SynFundus-1M (arXiv 2312.00377; CC BY-NC-SA 4.0, models trained on it are research-only) in the place of stage 01.

``python -m visionclip.data.synfundus --folder DIR --out runs/mine/01-synthesis --images N --validation M`` writes what
stages 02 to 05 and 08 read. The folder holds the owner's PNGs (``Part0`` ... ``Part19``, or a flat folder) and one of
its tables, by commas or tabs: ``SynFundus-1M_annotation*.csv``, which has sentences, or ``SynFundus-1M_gen_cond.csv``,
whose row is the image's number where it has no ``idx``. Tables and images are streamed: what is held is sixteen bytes a
row and some images that are being decoded.

- What a table doesn't state stays unknown. ``is_dm`` is taken for degenerative myopia, a number in ``eye_side`` for 0
  left and 1 right: neither is documented. ``is_abnormal`` is 0 beside diseases in published rows, and is never read.
- A sentence that is understood whole (``visionclip.text.advice``) and contradicts no flag is the image's caption, and
  what it states is known of the image. Of any other, flags alone count; ``numbers.json`` says how often the two differ.
- Rows and images that can't be used are left out: counted in ``numbers.json``, each listed in ``faults.txt``. Phrases
  that say what the vocabulary can't are listed by frequency in ``phrases.txt``.
"""

import argparse
import csv
import json
import os
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path, PureWindowsPath
from typing import TextIO

import cv2
import numpy as np

from visionclip import keys, runs, streams
from visionclip.conditions import DISEASES, VOCABULARY
from visionclip.data import images, shards
from visionclip.data.archives import PICTURES
from visionclip.data.tasks import integer, plain, refuse_repeats
from visionclip.progress import progress
from visionclip.text import advice

SOURCE = "SynFundus-1M"
ANNOTATION, GENERATION = "SynFundus-1M_annotation*.csv", "SynFundus-1M_gen_cond.csv"
# The condition of each column; of two for one condition the first that is there.
COLUMNS = {
    "dr_grade": "dr_grade",
    **{f"is_{key}": key for key in DISEASES if key != "dr_grade"},
    "is_fundus": "fundus_readable",
    "is_macular_readable": "macula_readable",
    "is_optic_disc_readable": "disc_readable",
    "is_retinal_region_readable": "retina_readable",
    "eyes_side": "eye_side",
    "eye_side": "eye_side",
}
FILES, SENTENCE = ("file_name", "idx"), "diagnosticadvice"  # columns, in lower case
SIDES = {
    "left": "0",
    "right": "1",
    "l": "0",
    "r": "1",
    "os": "0",
    "od": "1",
    "左": "0",
    "右": "1",
    "左眼": "0",
    "右眼": "1",
}
NOTHING = {"", "nan", "none", "null", "na"}
PART, PARTS = 50_000, 20  # images in each part but the last, which has all the rest
DECODED = 64  # images at once, whose rows are in memory
FAULTS, PHRASES = "faults.txt", "phrases.txt"
LISTED = 50  # phrases in numbers.json


@dataclass(frozen=True)
class Table:
    """How a table is laid out: its delimiter, the number of its columns, and in which of them each condition, the
    sentence and the name of the file are (None: nowhere; then the row is the image's number)."""

    path: Path
    delimiter: str
    width: int
    flags: dict[str, int]
    sentence: int | None
    file: int | None

    def rows(self) -> Iterator[list[str]]:
        """The cells of each row that isn't blank.

        Raises:
            ValueError: the file isn't UTF-8 or no CSV; the message names it.
        """
        where = runs.relative(self.path)
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, delimiter=self.delimiter)
            try:
                next(lines)
                yield from filter(any, lines)
            except UnicodeDecodeError:
                raise ValueError(f"{where}: not UTF-8; save it with that encoding") from None
            except csv.Error as error:
                raise ValueError(f"{where}: line {lines.line_num} is no CSV ({error}); check its quotes") from None


@dataclass
class Survey:
    """What a table and its folder hold: rows, the numbers of those that can be used (each image once), and counts of
    sentences, phrases that aren't understood, cells that are no value, and how text and flag agree."""

    rows: int = 0
    usable: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    sentences: Counter[str] = field(default_factory=Counter)
    phrases: Counter[str] = field(default_factory=Counter)
    no_values: Counter[str] = field(default_factory=Counter)
    agreement: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    edema_without_retinopathy: Counter[int] = field(default_factory=Counter)  # of eyes without retinopathy, by is_dme


class Faults:
    """Rows and images that are left out: counted by kind, and listed in an open file, a line each."""

    def __init__(self, file: TextIO):
        self.file, self.counts = file, Counter[str]()

    def add(self, kind: str, name: str) -> None:
        """Count and list one."""
        self.counts[kind] += 1
        self.file.write(f"{kind}\t{name}\n")


def find_table(folder: Path) -> tuple[Table, list[str]]:
    """The table of a folder, the annotation where both are there, and remarks on what was chosen.

    Raises:
        FileNotFoundError: there is none.
        ValueError: there are several, or one doesn't have the columns of SynFundus-1M.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix == ".csv") if folder.is_dir() else []
    annotations = [path for path in files if "annotation" in path.name.casefold()]
    conditions = [path for path in files if "gen_cond" in path.name.casefold()]
    found = annotations or conditions
    if not found:
        where = f"{runs.relative(folder)}: no {ANNOTATION} and no {GENERATION}"
        raise FileNotFoundError(f"{where}; give the folder that holds one of them and the images")
    if len(found) > 1:
        raise ValueError(f"{runs.relative(found[0])}: {found[1].name} lies beside it; leave one of them in the folder")
    table = _layout(found[0], ordered=not annotations)
    remarks = [f"{found[0].name} is read, not {conditions[0].name}"] if annotations and conditions else []
    if table.file is None:
        remarks.append(f"{found[0].name} has no column {' or '.join(FILES)}: row n, from 0, is taken for image n")
    if not annotations and "eye_side" in table.flags:
        remarks.append("numbers of eye_side are taken for 0 left, 1 right, which is documented nowhere: look at some")
    return table, remarks


def _layout(path: Path, ordered: bool) -> Table:
    """The layout that a table's header shows; where rows aren't ``ordered`` as images are, one has to name the file."""
    where = runs.relative(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            line = file.readline()
    except UnicodeDecodeError:
        raise ValueError(f"{where}: not UTF-8; save it with that encoding") from None

    def header(delimiter: str) -> list[str]:
        return [cell.strip().casefold() for cell in next(csv.reader([line], delimiter=delimiter), [])]

    delimiter = max("\t,;", key=lambda mark: len(COLUMNS.keys() & set(header(mark))))
    columns = header(delimiter)
    flags: dict[str, int] = {}
    for column, key in COLUMNS.items():
        if column in columns:
            flags.setdefault(key, columns.index(column))
    if not flags:
        raise ValueError(f"{where}: no column dr_grade or is_… in its header {line[:80]!r} (by commas or tabs)")
    refuse_repeats(where, "column", [column for column in columns if column])
    file_column = next((columns.index(name) for name in FILES if name in columns), None)
    if file_column is None and not ordered:
        raise ValueError(f"{where}: no column {' or '.join(FILES)}, which says whose labels a row has; add one")
    sentence = columns.index(SENTENCE) if SENTENCE in columns else None
    return Table(path, delimiter, len(columns), flags, sentence, file_column)


class Pictures:
    """Where the images of a folder are: in its parts by number, or in any folder up to two levels down."""

    def __init__(self, folder: Path):
        below = _folders(folder)
        places = [folder, *below, *(path for child in below for path in _folders(child))]
        numbers = [re.fullmatch(r"part(\d+)", place.name.casefold()) for place in places]
        self.parts = {int(number[1]): str(place) for number, place in zip(numbers, places, strict=True) if number}
        self.places = sorted(map(str, places), key=lambda place: place in self.parts.values())  # parts come last

    def find(self, name: str) -> str | None:
        """The path of the image of this name (a file, with or without extension, or a number); None: it isn't there."""
        file = PureWindowsPath(name).name
        stem = file.rpartition(".")[0] if file.casefold().endswith(PICTURES) else file
        names = list(dict.fromkeys([file] * (file != stem) + [f"{stem}.png"]))
        part = self.parts.get(min(int(stem) // PART, PARTS - 1)) if re.fullmatch(r"[0-9]{1,18}", stem) else None
        for place in [part, *self.places] if part else self.places:
            for one in names:
                if os.path.isfile(f"{place}/{one}"):
                    return f"{place}/{one}"
        return None


def _folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith("."))


@lru_cache(maxsize=1 << 12)
def _value(key: str, cell: str) -> int | None:
    """The value of a condition that a cell states; None where it leaves it open, -1 where it is no value."""
    text = plain(cell).casefold()
    if text in NOTHING:
        return None
    value = integer(SIDES.get(text, text) if key == "eye_side" else text)
    return value if isinstance(value, int) and 0 <= value <= VOCABULARY[key].highest else -1


def _flags(table: Table, cells: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """The conditions that a row states, and those of which its cell is no value."""
    stated = {key: _value(key, cells[column]) for key, column in table.flags.items()}
    known = {key: value for key, value in stated.items() if value is not None and value >= 0}
    return known, [key for key, value in stated.items() if value == -1]


def _sentence(table: Table, cells: Sequence[str]) -> str:
    text = "" if table.sentence is None else cells[table.sentence].strip()
    return "" if text.casefold() in NOTHING else text


def _consistent(sentence: str, flags: dict[str, int]) -> dict[str, int]:
    """The facts of a sentence that is understood whole and contradicts no flag; {} of any other."""
    facts = advice.facts(sentence)
    return facts if all(flags.get(key, value) == value for key, value in facts.items()) else {}


def _name(table: Table, cells: Sequence[str], row: int) -> str:
    return str(row) if table.file is None else plain(cells[table.file])


def survey(table: Table, pictures: Pictures, faults: Faults) -> Survey:
    """Go through a table once and look up, but don't open, the image of each row; what can't be used is listed.

    Raises:
        ValueError: as ``Table.rows``.
    """
    found = Survey()
    usable, identities = array("q"), array("q")
    for row, cells in enumerate(progress(table.rows(), f"labels of {SOURCE}", _count(table.path))):
        found.rows += 1
        if len(cells) != table.width or not _name(table, cells, row):
            faults.add("malformed row", str(row))
            continue
        name, sentence = _name(table, cells, row), _sentence(table, cells)
        flags, no_values = _flags(table, cells)
        found.no_values.update(no_values)
        _compare(sentence, flags, found)
        path = pictures.find(name)
        if path is None:
            faults.add("missing", name)
        elif not flags and not _consistent(sentence, flags):
            faults.add("nothing known", name)
        else:
            usable.append(row)
            identities.append(hash(path))
    first = np.sort(np.unique(np.array(identities), return_index=True)[1])
    faults.counts["listed again"] += len(usable) - len(first)
    found.usable = np.array(usable)[first]
    return found


def _count(path: Path) -> int:
    """About how many lines a file has."""
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(partial(file.read, 1 << 20), b""))


def _compare(sentence: str, flags: dict[str, int], found: Survey) -> None:
    """Count what a sentence states beside its row's flags."""
    if flags.get("dr_grade") == 0 and "dme" in flags:
        found.edema_without_retinopathy[flags["dme"]] += 1
    if not sentence:
        return
    named: dict[str, advice.Phrase] = {}
    for phrase in advice.phrases(sentence):
        named[phrase.key] = phrase
        if not phrase.exact:
            found.phrases[phrase.text] += 1
    found.sentences["there"] += 1
    if advice.facts(sentence):
        found.sentences["understood"] += 1
        found.sentences["captions" if _consistent(sentence, flags) else "contradict a flag"] += 1
    for key in DISEASES:
        flag = flags.get(key)
        if flag is None or not (flag or key in named):
            continue
        if key not in named:
            found.agreement[key]["flag alone"] += 1
        elif not flag:
            found.agreement[key]["text alone"] += 1
        else:
            differs = named[key].exact and named[key].value != flag
            found.agreement[key]["another grade" if differs else "both"] += 1


@dataclass
class Draw:
    """Sets drawn from a table: ``rows`` are those not yet handed out, in random order; ``written`` counts the samples
    of each set."""

    table: Table
    pictures: Pictures
    rows: np.ndarray
    faults: Faults
    size: int
    seed: int
    written: Counter[str] = field(default_factory=Counter)

    def samples(self, name: str, count: int) -> Iterator[shards.Sample]:
        """The encoded samples of ``count`` rows, in the table's order, prepared as photographs are; fewer where no rows
        are left. In the place of an image that can't be read, which is listed, comes another at the end.

        Raises:
            ValueError: no image can be read.
        """
        with ThreadPoolExecutor(runs.cores()) as pool:  # OpenCV decodes and resizes without Python's lock
            while (missing := count - self.written[name]) and len(self.rows):
                chosen, self.rows = np.sort(self.rows[:missing]), self.rows[missing:]
                pending = _chosen(self.table, self.pictures, chosen)
                while batch := list(islice(pending, DECODED)):
                    encoded = pool.map(partial(_encoded, self.size), [path for _, _, path in batch])
                    for (row, cells, path), png in zip(batch, encoded, strict=True):
                        if png is None:
                            self.faults.add("unreadable", _name(self.table, cells, row))
                            continue
                        self.written[name] += 1
                        yield self._sample(row, cells, path, png)
        if not self.written[name]:
            where = f"{runs.relative(self.table.path)}: not one image of the {name} set can be read"
            raise ValueError(f"{where} ({self.faults.counts['unreadable']} were tried); unpack the images again")

    def _sample(self, row: int, cells: Sequence[str], path: str, png: bytes) -> shards.Sample:
        """A sentence without facts is kept, and not used."""
        flags, _ = _flags(self.table, cells)
        sentence = _sentence(self.table, cells)
        facts = _consistent(sentence, flags)
        record = {"conditions": {**flags, **facts}, "seed": self.seed, "source": SOURCE}
        record |= {"caption": {"text": sentence, "facts": facts}, "file": os.path.basename(path)}
        return {"__key__": f"synfundus-{row:07d}", "png": png, "json": json.dumps(record).encode()}


def _chosen(table: Table, pictures: Pictures, rows: np.ndarray) -> Iterator[tuple[int, list[str], str]]:
    """Each of these rows (in the table's order) with its number, its cells and the path of its image."""
    wanted = iter(rows.tolist())
    following = next(wanted, -1)
    for row, cells in enumerate(table.rows()):
        if row == following:
            yield row, cells, pictures.find(_name(table, cells, row)) or ""
            following = next(wanted, -1)


def _encoded(size: int, path: str) -> bytes | None:
    """The prepared image as PNG, None where the file can't be read."""
    try:
        return shards.encode(images.prepare(images.read(Path(path)), size))
    except (ValueError, OSError, cv2.error):
        return None


def write(folder: Path, out: Path, count: int, validation: int, size: int, seed: int = 0) -> list[str]:
    """Write stage 01 of ``count`` images that train and ``validation`` others that are held out; return remarks.

    Rows are chosen at random by ``seed`` among those whose image is there. Where fewer images can be read the sets are
    smaller, of too few rows at most half being held out. As by ``shards.write``, an earlier set is replaced when the
    new one is whole.

    Raises:
        FileNotFoundError: the folder holds no table.
        ValueError: the table isn't laid out as SynFundus-1M's, or nothing is left of it.
    """
    table, remarks = find_table(folder)
    pictures = Pictures(folder)
    with runs.atomic(out / FAULTS) as temporary, temporary.open("w", encoding="utf-8") as file:
        faults = Faults(file)
        found = survey(table, pictures, faults)
        if len(found.usable) < 2:
            reasons = ", ".join(f"{kind} {number}" for kind, number in faults.counts.items() if number) or "no row"
            where = f"{runs.relative(table.path)}: {len(found.usable)} of {found.rows} rows can be used ({reasons})"
            raise ValueError(f"{where}; give the folder that holds both the table and its images")
        settings = {"images": count, "validation": validation, "size": size, "seed": seed}
        stage = runs.Stage("01-synthesis", out, {"folder": runs.relative(folder), **settings})
        stage.code = keys.code(__file__)  # in the place of the notebook's
        order = streams.rng(seed, f"rows of {SOURCE}").permutation(len(found.usable))
        draw = Draw(table, pictures, found.usable[order], faults, size, seed)
        for name, wanted in (("validation", min(validation, len(order) // 2)), ("synthetic", count)):
            encoded = progress(draw.samples(name, wanted), f"{name} set of {SOURCE}", wanted)
            shards.write(stage.folder / name, encoded)
    with runs.atomic(out / PHRASES) as temporary:
        lines = (f"{number}\t{phrase}\n" for phrase, number in found.phrases.most_common())
        temporary.write_text("".join(lines), "utf-8")
    remarks += _remarks(found, draw, {"synthetic": count, "validation": validation})
    stage.finish(_numbers(found, draw, remarks))
    return remarks


def _remarks(found: Survey, draw: Draw, wanted: Mapping[str, int]) -> list[str]:
    """What whoever uses the set is to know, a line each."""
    remarks = [f"{number} rows: {kind}" for kind, number in draw.faults.counts.items() if number]
    remarks += [
        f"{name}: {draw.written[name]} images in place of {count}, as no more can be read"
        for name, count in wanted.items()
        if draw.written[name] < count
    ]
    remarks += [
        f"{key}: {number} cells are no value of it, taken as unknown" for key, number in found.no_values.items()
    ]
    if found.edema_without_retinopathy[1] > found.edema_without_retinopathy[0]:
        shown = "is_dme is 1 in most eyes without retinopathy: its values look inverted"
        remarks.append(f"{shown}; look at some, and correct or leave out the column")
    return remarks


def _numbers(found: Survey, draw: Draw, remarks: Sequence[str]) -> dict[str, object]:
    """What numbers.json says of the set; counts of sentences and phrases are of all rows of the table."""
    images, read = draw.written["synthetic"], found.sentences["there"]
    differ = sum(kinds["text alone"] + kinds["another grade"] for kinds in found.agreement.values())
    stated = differ + sum(kinds["both"] for kinds in found.agreement.values())
    headline = [
        {"name": "images", "value": f"{images}, of {SOURCE}"},
        {
            "name": "sentences understood",
            "value": f"{found.sentences['understood'] / read:.0%}" if read else "none there",
        },
        {
            "name": "diseases of sentences that flags deny",
            "value": f"{differ / stated:.0%}" if stated else "none there",
        },
    ]
    return {
        "headline": headline,
        "sources": {SOURCE: images},
        "validation": draw.written["validation"],
        "table": draw.table.path.name,
        "rows": found.rows,
        "usable": len(found.usable),
        "faults": draw.faults.counts,
        "no_values": found.no_values,
        "sentences": found.sentences,
        "agreement": {key: found.agreement[key] for key in DISEASES if key in found.agreement},
        "phrases": dict(found.phrases.most_common(LISTED)),
        "remarks": list(remarks),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Write SynFundus-1M as a finished stage 01; what is wrong is one line on standard error and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m visionclip.data.synfundus", description="SynFundus-1M in the place of stage 01."
    )
    parser.add_argument("--folder", type=runs.resolve, required=True, help="folder of the table and the images")
    parser.add_argument("--images", type=int, required=True, help="images of the training set, chosen at random")
    parser.add_argument("--validation", type=int, required=True, help="other images, held out")
    parser.add_argument("--size", type=int, default=224, help="pixels, side of every image")
    parser.add_argument("--seed", type=int, default=0, help="of the choice")
    parser.add_argument("--out", type=runs.resolve, required=True, help="folder of stage 01 that is written")
    given = parser.parse_args(arguments)
    if min(given.images, given.validation) < 1 or not 32 <= given.size <= 1024:
        parser.error("images and validation must be at least 1, size from 32 to 1024")
    try:
        with runs.lock(given.out.with_name(f".{given.out.name}.lock")):
            remarks = write(given.folder, given.out, given.images, given.validation, given.size, given.seed)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{error}\n")
    print(*remarks, f"saved {runs.relative(given.out)}", sep="\n")


if __name__ == "__main__":
    main()
