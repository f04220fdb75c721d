"""The published datasets as their owners distribute them: each archive's own tree read into rows of labels.

``load`` gives what ``labels.csv`` would hold (a mapping of columns to text for each image), so that an archive can be
scored as it was unpacked. Names are matched without regard to capitals, as the labels of several sets differ from the
disk in them; no link is followed. Formats, errata and traps are those met in public loaders and issue threads.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas

from visionclip import runs
from visionclip.data import listing
from visionclip.data.tasks import NothingToScore, Row, plain

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")

# Corrections on the owner's download page. Newer label books carry them already, so the value is set, never compared.
MESSIDOR_ERRATA = {
    "20051020_63045_0100_pp": "0",
    "20051020_64007_0100_pp": "3",
    "20051020_63936_0100_pp": "1",
    "20060523_48477_0100_pp": "3",
}
# The second image of each of the 13 pairs of Base33 that show one photograph twice.
MESSIDOR_TWINS = {
    f"20051202_{number}_0400_pp"
    for number in ["55582", "41076", "48287", "48586", "55457", "55626", "54783", "48575", "55484", "55562", "55547"]
} | {"20051205_32966_0400_pp", "20051205_32981_0400_pp"}


class Archive:
    """What a tree holds: files by path relative to ``folder``, and remarks for the report, counted by text."""

    def __init__(self, folder: Path):
        self.folder, self.files = folder, listing.files(folder)
        self.remarks: Counter[str] = Counter()

    def matching(self, pattern: str) -> list[Path]:
        """Files whose path (slashes, lower case) matches from its start or after a slash to its end."""
        search = re.compile(rf"(?:^|/)(?:{pattern})$")
        return [path for path in self.files if search.search(path.as_posix().casefold())]

    def pictures(self, pattern: str = r"[^/]*") -> dict[str, Path]:
        """Images by stem in lower case.

        Raises:
            ValueError: two images have one name, so that a label could mean either.
        """
        found: dict[str, Path] = {}
        for path in self.matching(pattern):
            if path.suffix.casefold() in PICTURES:
                other = found.setdefault(path.stem.casefold(), path)
                if other != path:
                    raise ValueError(f"{self.where(path)}: the same name as {other.as_posix()}; keep one of the two")
        return found

    def where(self, path: Path) -> str:
        """A file of the archive as messages name it."""
        return runs.relative(self.folder / path)

    def table(self, path: Path, columns: Mapping[str, str]) -> list[Row]:
        """The rows of a sheet or CSV; ``columns`` maps our names to patterns of its headers (spaces and case aside).

        Raises:
            ValueError: unreadable, or no header matches; the message names the file and the column.
        """
        try:
            if path.suffix.casefold() in (".xls", ".xlsx"):
                sheet = pandas.read_excel(self.folder / path, dtype=str, engine="calamine")
            else:
                sheet = pandas.read_csv(self.folder / path, dtype=str, encoding="utf-8-sig")
        except Exception as error:  # each engine fails in its own way on a broken file
            reason = " ".join(str(error).split())[:120]
            raise ValueError(f"{self.where(path)}: not readable as a table ({reason}); unpack it again") from None
        headers = {str(header).strip().casefold(): header for header in sheet.columns}
        chosen = {}
        for name, pattern in columns.items():
            hit = next((headers[header] for header in headers if re.fullmatch(pattern, header)), None)
            if hit is None:
                raise ValueError(f"{self.where(path)}: no column like {pattern!r}; it has {', '.join(headers)}")
            chosen[name] = sheet[hit].fillna("").map(plain)
        rows = pandas.DataFrame(chosen).to_dict("records")
        return [row for row in rows if row[next(iter(columns))]]

    def join(self, rows: Iterable[Row], pictures: Mapping[str, Path]) -> list[Row]:
        """Rows with the image of their ``name`` as ``file``; what lacks its other half is counted, not kept."""
        joined, left = [], dict(pictures)
        for row in rows:
            path = left.pop(_stem(row["name"]), None)
            if path is None:
                self.remarks["labels without an image"] += 1
            else:
                joined.append({"file": path.as_posix(), **{key: row[key] for key in row if key != "name"}})
        self.remarks["images without a label"] += len(left)
        return joined

    def split(self, split: str, images: str, book: str, columns: Mapping[str, str]) -> list[Row]:
        """The rows of a split: its images by their pattern, its labels by that of their table (see ``table``).

        Where there is no table, the images are counted, never scored.
        """
        pictures, books = self.pictures(images), self.matching(book)
        if not books:
            self.remarks[f"images of {split}, whose labels are not there"] += len(pictures)
            return []
        return [{**row, "split": split} for row in self.join(self.table(books[0], columns), pictures)]


def _stem(name: str) -> str:
    """The name of an image without folder and extension, in lower case."""
    name = re.split(r"[/\\]", name)[-1].casefold()
    return name.rsplit(".", 1)[0] if name.endswith(PICTURES) else name


def _flag(true: object) -> str:
    return "1" if true else "0"


MESSIDOR_BOOK = r"annotation[ _]base\d\d[^/]*\.xlsx?"


def messidor(archive: Archive) -> list[Row]:
    """MESSIDOR: twelve label books (old or updated) and TIFFs, in one folder or a folder a base."""
    updated_last = sorted(archive.matching(MESSIDOR_BOOK), key=lambda path: "update" in path.name.casefold())
    books = {path.name.casefold().split("base")[1][:2]: path for path in updated_last}
    columns = {"name": "image name", "messidor_grade": "retinopathy grade", "dme_risk": r"risk of macular o?edema"}
    rows = []
    for _, book in sorted(books.items()):
        for row in archive.table(book, columns):
            name = _stem(row["name"])
            grade = MESSIDOR_ERRATA.get(name, row["messidor_grade"])
            rows.append({**row, "messidor_grade": grade, "duplicate": _flag(name in MESSIDOR_TWINS)})
    return archive.join(rows, archive.pictures())


def messidor2(archive: Archive) -> list[Row]:
    """Messidor-2: images and the adjudicated grades; both eyes of an examination are one ``group``.

    Raises:
        ValueError: there are no grades, or a table of them can't be read.
    """
    if grades := archive.matching(r"messidor_data\.csv"):
        columns = {"name": "image_id", **{key: f"adjudicated_{key}" for key in ("dr_grade", "dme", "gradable")}}
        rows = archive.table(grades[0], columns)
    else:  # a mirror has the grade alone, of the gradable images
        tables = archive.matching(r"[^/]*\.csv")
        mirror = [path for path in tables if "diagnosis" in (archive.folder / path).open(errors="replace").readline()]
        if not mirror:
            raise ValueError(f"{runs.relative(archive.folder)}: no messidor_data.csv; add the adjudicated grades")
        rows = archive.table(mirror[0], {"name": "id_code", "dr_grade": "diagnosis"})
        rows = [{**row, "dme": "", "gradable": "1"} for row in rows]
    examination: dict[str, str] = {}
    for path in archive.matching(r"messidor-2\.csv"):
        for number, line in enumerate((archive.folder / path).read_text("utf-8-sig").splitlines()):
            examination |= {_stem(cell.strip(' "')): f"examination {number}" for cell in line.split(";")}
    rows = [{**row, "group": examination.get(_stem(row["name"]), row["name"])} for row in rows]
    return archive.join(rows, archive.pictures())


FIVES_IMAGE = r"(?:train|test)/original/\d+_[adgn]\.png"


def fives(archive: Archive) -> list[Row]:
    """FIVES: {train,test}/Original/{number}_{A,D,G,N}.png. 50 names occur in both splits for different eyes."""
    return [
        {"file": path.as_posix(), "split": path.parts[-3].casefold(), "label": path.stem[-1].upper()}
        for path in archive.matching(FIVES_IMAGE)
    ]


def refuge(archive: Archive) -> list[Row]:
    """REFUGE: its owner's folders, or a copy with index.json files; a split without labels is counted, never scored."""
    rows = [
        {"file": path.as_posix(), "split": "train", "glaucoma": _flag(path.parts[-2].casefold() == "glaucoma")}
        for path in archive.matching(r"(?:non-)?glaucoma/[gn]\d{4}\.jpg")
    ]
    if not rows and (indices := archive.matching(r"index\.json")):
        return [row for path in indices for row in _refuge_index(archive, path)]
    for split, book, label in (
        ("val", r"fovea_locations?\.xlsx", r"glaucoma label"),
        ("test", r"glaucoma_label_and_fovea_locations?\.xlsx", r"label ?\(glaucoma ?= ?1\)"),
    ):
        rows += archive.split(split, rf"{split[0]}\d{{4}}\.jpg", book, {"name": "imgname", "glaucoma": label})
    return rows


def _refuge_index(archive: Archive, path: Path) -> list[Row]:
    """A split of the copies: ``{train,val,test}/index.json`` with ImgName and, where there is one, Label."""
    split = next((name for name in ("train", "val", "test") if name in path.parent.name.casefold()), "")
    entries = json.loads((archive.folder / path).read_text("utf-8"))
    entries = list(entries.values()) if isinstance(entries, dict) else entries
    known = [entry for entry in entries if "Label" in entry]
    archive.remarks[f"images of {split}, whose labels are not there"] += len(entries) - len(known)
    below = re.escape(path.parent.as_posix().casefold())
    pictures = archive.pictures(rf"{below}/.*images/[^/]*") if known else {}
    rows = [{"name": entry["ImgName"], "split": split, "glaucoma": str(entry["Label"])} for entry in known]
    return archive.join(rows, pictures)


def idrid(archive: Archive) -> list[Row]:
    """IDRiD, disease grading: names run from IDRiD_001 in both splits, so the split's folder is part of the key."""
    columns = {"name": "image name", "dr_grade": "retinopathy grade", "dme_risk": r"risk of macular edema"}
    rows = []
    for split, word in (("train", "training"), ("test", "testing")):
        book = rf"[^/]*disease grading_{word} labels\.csv"
        rows += archive.split(split, rf"[^/]*{word} set/idrid_\d+\.jpg", book, columns)
    # Published as they are: `dup_conflict` is known only where somebody has looked for copies.
    return [{**row, "dup_conflict": "0"} for row in rows]


def palm(archive: Archive) -> list[Row]:
    """PALM: the training images say their class by the first letter (P pathologic, H high myopia, N normal); the
    validation images have a book."""
    rows = [
        {"file": path.as_posix(), "split": "train", "pm": _flag(path.name[0] in "Pp")}
        for path in archive.matching(r"[hnp]\d{4}\.jpg")
    ]
    book, columns = r"pm_labels?_and_fovea_locations?\.xlsx", {"name": "imgname", "pm": "(?:pm )?label"}
    return rows + archive.split("val", r"v\d{4}\.jpg", book, columns)


# ODIR-5K's diagnostic keywords of an eye, by the column they decide; its label columns are of the patient.
ODIR_KEYWORDS = {
    "cataract": r"cataract",
    "pm": r"patholog\w+ myopia",
    "gc": r"glaucoma",
    "amd": r"age-related macular degeneration",
    "htr": r"hypertensive retinopathy",
}
ODIR_BOOK = r"full_df\.csv|odir-5k_training_annotations[^/]*\.xlsx"
ODIR_UNUSABLE = r"anterior segment image|no fundus image|low image quality"


def odir(archive: Archive) -> list[Row]:
    """ODIR-5K: a row for each eye, from its own keywords; both eyes of a patient are one ``group``."""
    columns = {"id": "id", "left": "left-diagnostic keywords", "right": "right-diagnostic keywords"}
    eyes: dict[str, Row] = {}  # by name, as full_df.csv has each patient twice
    for patient in archive.table(sorted(archive.matching(ODIR_BOOK))[0], columns):
        for side in ("left", "right"):
            name, keywords = f"{patient['id']}_{side}", patient[side].casefold()
            unusable = _flag(re.search(ODIR_UNUSABLE, keywords))
            eyes[name] = {"name": name, "group": patient["id"], "unusable": unusable}
            for key, pattern in ODIR_KEYWORDS.items():
                suspected = re.search(rf"suspected (?:{pattern})", keywords)  # is neither: empty, of no class
                eyes[name][key] = "" if suspected else _flag(re.search(pattern, keywords))
    return archive.join(eyes.values(), archive.pictures(r"\d+_(?:left|right)\.jpg"))


@dataclass(frozen=True)
class Format:
    """How a published tree is read, recognised (all ``marks`` are patterns of paths in it), and counted.

    ``counts`` are the published numbers of images by value of ``label``, for a split where ``split`` names one.
    """

    rows: Callable[[Archive], list[Row]]
    marks: tuple[str, ...]
    label: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    split: str = ""


MESSIDOR2_TABLE = r"messidor_data\.csv|messidor-2\.csv"
REFUGE_IMAGE = r"glaucoma/g\d{4}\.jpg|(?:train|val|test)[^/]*/index\.json|refuge[^/]*/.*v\d{4}\.jpg"
IDRID_BOOK = r"[^/]*disease grading_(?:training|testing) labels\.csv"
FORMATS: dict[str, Format] = {
    "messidor": Format(messidor, (MESSIDOR_BOOK,), "messidor_grade", {"0": 546, "1": 153, "2": 247, "3": 254}),
    "messidor2": Format(messidor2, (MESSIDOR2_TABLE,), "dr_grade", {"0": 1017, "1": 270, "2": 347, "3": 75, "4": 35}),
    "fives": Format(fives, (FIVES_IMAGE,), "label", dict.fromkeys("ADGN", 200)),
    "refuge": Format(refuge, (REFUGE_IMAGE,), "glaucoma", {"0": 360, "1": 40}, "train"),
    "idrid": Format(idrid, (IDRID_BOOK,), "dr_grade", {"0": 168, "1": 25, "2": 168, "3": 93, "4": 62}),
    "palm": Format(palm, (r"palm[^/]*/.*[hnpv]\d{4}\.jpg|[hnp]\d{4}\.jpg",)),
    "odir": Format(odir, (ODIR_BOOK, r"\d+_left\.jpg")),
}


def recognise(folder: Path) -> str | None:
    """The key in ``FORMATS`` of the published tree that ``folder`` is, None for any other folder."""
    archive = Archive(folder)
    return next((name for name, known in FORMATS.items() if all(map(archive.matching, known.marks))), None)


def load(folder: Path, name: str) -> tuple[list[Row], list[str]]:
    """The rows of the published tree ``name``, and remarks: what was left out, and counts unlike the published ones.

    Raises:
        NothingToScore: no image has a label.
        ValueError: a label book is unreadable or lacks a column.
    """
    known, archive = FORMATS[name], Archive(folder)
    rows = known.rows(archive)
    remarks = [f"{count} {what}" for what, count in archive.remarks.items() if count]
    if not rows:
        why = f" ({'; '.join(remarks)})" if remarks else ""
        raise NothingToScore(
            f"{runs.relative(folder)}: {name} without one labelled image{why}; unpack images and labels"
        )
    counted = [row for row in rows if not known.split or row["split"] == known.split]
    counts = Counter(row[known.label] for row in counted if row.get("gradable", "1") == "1") if known.counts else {}
    if counts != known.counts:  # a copy that is partial, older or altered
        here, published = (", ".join(f"{key}: {one[key]}" for key in sorted(one)) for one in (counts, known.counts))
        remarks.append(f"{known.label} counts {here}; published are {published}")
    return rows, remarks
