"""The published datasets as their owners distribute them: each archive's own tree read into rows of labels.

``load`` gives what ``labels.csv`` would hold (a mapping of columns to text for each image), so that an archive can be
scored as it was unpacked. Names are matched without regard to capitals, as the labels of several sets differ from the
disk in them; no link is followed. Formats, errata and traps are those met in public loaders and issue threads.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas

from visionclip import runs
from visionclip.data import listing
from visionclip.data.tasks import Row, plain

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


@dataclass
class Archive:
    """What a tree holds: files by path relative to ``folder``, and remarks for the report, counted by text."""

    folder: Path
    files: list[Path]
    remarks: Counter = field(default_factory=Counter)

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

    def table(self, path: Path, columns: Mapping[str, str], separator: str = ",") -> list[Row]:
        """The rows of a sheet or CSV; ``columns`` maps our names to patterns of its headers (spaces and case aside).

        Raises:
            ValueError: unreadable, or no header matches; the message names the file and the column.
        """
        try:
            if path.suffix.casefold() in (".xls", ".xlsx"):
                sheet = pandas.read_excel(self.folder / path, dtype=str, engine="calamine")
            else:
                sheet = pandas.read_csv(self.folder / path, dtype=str, sep=separator, encoding="utf-8-sig")
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

    def join(self, rows: Iterable[Row], pictures: Mapping[str, Path], key: str = "name") -> list[Row]:
        """Rows with the image that their ``key`` names as ``file``; what lacks its other half is counted, not kept."""
        joined, left = [], dict(pictures)
        for row in rows:
            path = left.pop(_stem(row[key]), None)
            if path is None:
                self.remarks["labels without an image"] += 1
            else:
                joined.append({"file": path.as_posix(), **{name: value for name, value in row.items() if name != key}})
        self.remarks["images without a label"] += len(left)
        return joined


def _stem(name: str) -> str:
    """The name of an image without folder and extension, in lower case."""
    name = re.split(r"[/\\]", name)[-1].casefold()
    return name.rsplit(".", 1)[0] if name.endswith(PICTURES) else name


def messidor(archive: Archive) -> list[Row]:
    """MESSIDOR: twelve label books (old or updated) and TIFFs, in one folder or a folder a base."""
    books: dict[str, Path] = {}
    for path in archive.matching(r"annotation[ _]base\d\d[^/]*\.xlsx?"):
        base = path.name.casefold().split("base")[1][:2]
        if base not in books or "update" in path.name.casefold():
            books[base] = path
    columns = {"name": "image name", "messidor_grade": "retinopathy grade", "dme_risk": r"risk of macular o?edema"}
    rows = [row for base in sorted(books) for row in archive.table(books[base], columns)]
    rows = [
        {
            **row,
            "messidor_grade": MESSIDOR_ERRATA.get(_stem(row["name"]), row["messidor_grade"]),
            "duplicate": str(int(_stem(row["name"]) in MESSIDOR_TWINS)),
        }
        for row in rows
    ]
    return archive.join(rows, archive.pictures())


def messidor2(archive: Archive) -> list[Row]:
    """Messidor-2: images and the adjudicated grades; both eyes of an examination are one ``group``.

    Raises:
        ValueError: there are no grades, or a table of them can't be read.
    """
    grades = archive.matching(r"messidor_data\.csv")
    if grades:
        columns = {
            "name": "image_id",
            "dr_grade": "adjudicated_dr_grade",
            "dme": "adjudicated_dme",
            "gradable": "adjudicated_gradable",
        }
        rows = archive.table(grades[0], columns)
    else:  # a mirror has the grade alone, of the gradable images
        mirror = archive.matching(r"[^/]*\.csv")
        mirror = [path for path in mirror if "diagnosis" in (archive.folder / path).open(errors="replace").readline()]
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


def fives(archive: Archive) -> list[Row]:
    """FIVES: {train,test}/Original/{number}_{A,D,G,N}.png. 50 names occur in both splits for different eyes."""
    rows = []
    for path in archive.matching(r"(?:train|test)/original/\d+_[adgn]\.png"):
        letter = path.stem[-1].upper()
        rows.append({"file": path.as_posix(), "split": path.parts[-3].casefold(), "label": letter})
    return rows


def refuge(archive: Archive) -> list[Row]:
    """REFUGE: its owner's folders, or a copy with index.json files; a split without labels is counted, never scored."""
    rows = []
    for path in archive.matching(r"(?:non-)?glaucoma/[gn]\d{4}\.jpg"):
        rows.append({"file": path.as_posix(), "split": "train", "glaucoma": str(int(path.parts[-2] == "Glaucoma"))})
    books = {
        "val": (r"fovea_locations?\.xlsx", r"glaucoma label", r"v\d{4}\.jpg"),
        "test": (r"glaucoma_label_and_fovea_locations?\.xlsx", r"label ?\(glaucoma ?= ?1\)", r"t\d{4}\.jpg"),
    }
    if rows or (archive.matching(books["val"][2]) and not archive.matching(r"index\.json")):
        for split, (book, label, names) in books.items():
            pictures = archive.pictures(names)
            labels = archive.matching(book)
            if pictures and not labels:
                archive.remarks[f"images of {split}, whose labels are not there"] += len(pictures)
            elif pictures:
                table = archive.table(labels[0], {"name": "imgname", "glaucoma": label})
                rows += [{**row, "split": split} for row in archive.join(table, pictures)]
        return rows
    for path in archive.matching(r"index\.json"):
        rows += _refuge_index(archive, path)
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
    named = [{"name": entry["ImgName"], "split": split, "glaucoma": str(entry["Label"])} for entry in known]
    return archive.join(named, pictures)


def idrid(archive: Archive) -> list[Row]:
    """IDRiD, disease grading: names run from IDRiD_001 in both splits, so the split's folder is part of the key."""
    rows = []
    for split, word in (("train", "training"), ("test", "testing")):
        for book in archive.matching(rf"[^/]*disease grading_{word} labels\.csv"):
            columns = {"name": "image name", "dr_grade": "retinopathy grade", "dme_risk": r"risk of macular edema"}
            pictures = archive.pictures(rf"[^/]*{word} set/idrid_\d+\.jpg")
            rows += [{**row, "split": split} for row in archive.join(archive.table(book, columns), pictures)]
    # Published as they are: `dup_conflict` is known only where somebody has looked for copies.
    return [{**row, "dup_conflict": "0"} for row in rows]


def palm(archive: Archive) -> list[Row]:
    """PALM: the training images say their class by the first letter (P pathologic, H high myopia, N normal); the
    validation images have a book."""
    rows = []
    for path in archive.matching(r"[hnp]\d{4}\.jpg"):
        rows.append({"file": path.as_posix(), "split": "train", "pm": str(int(path.name[0].casefold() == "p"))})
    pictures = archive.pictures(r"v\d{4}\.jpg")
    books = archive.matching(r"pm_labels?_and_fovea_locations?\.xlsx")
    if pictures and not books:
        archive.remarks["images of val, whose labels are not there"] += len(pictures)
    elif pictures:
        table = archive.table(books[0], {"name": "imgname", "pm": "(?:pm )?label"})
        rows += [{**row, "split": "val"} for row in archive.join(table, pictures)]
    return rows


# ODIR-5K's diagnostic keywords of an eye, by the column they decide; its label columns are of the patient.
ODIR_KEYWORDS = {
    "cataract": r"cataract",
    "pm": r"patholog\w+ myopia",
    "gc": r"glaucoma",
    "amd": r"age-related macular degeneration",
    "htr": r"hypertensive retinopathy",
}
ODIR_UNUSABLE = r"anterior segment image|no fundus image|low image quality"


def odir(archive: Archive) -> list[Row]:
    """ODIR-5K: a row for each eye, from its own keywords; both eyes of a patient are one ``group``."""
    books = archive.matching(r"(?:full_df\.csv|odir-5k_training_annotations[^/]*\.xlsx)")
    columns = {"id": "id", "left": "left-diagnostic keywords", "right": "right-diagnostic keywords"}
    eyes: dict[str, Row] = {}
    for patient in archive.table(sorted(books)[0], columns):
        for side in ("left", "right"):
            keywords = patient[side].casefold()
            eyes[f"{patient['id']}_{side}"] = {
                "name": f"{patient['id']}_{side}",
                "group": patient["id"],
                "unusable": str(int(bool(re.search(ODIR_UNUSABLE, keywords)))),
                # "suspected" is neither: an empty label is of no class
                **{
                    key: ""
                    if re.search(rf"suspected (?:{pattern})", keywords)
                    else str(int(bool(re.search(pattern, keywords))))
                    for key, pattern in ODIR_KEYWORDS.items()
                },
            }
    return archive.join(eyes.values(), archive.pictures(r"\d+_(?:left|right)\.jpg"))


@dataclass(frozen=True)
class Format:
    """How a published tree is recognised (all ``marks`` are patterns of paths in it), read, and counted.

    ``counts`` are the published numbers of images by value of a label, for a split where ``split`` names one.
    """

    marks: tuple[str, ...]
    rows: Callable[[Archive], list[Row]]
    label: str
    counts: Mapping[str, int]
    split: str = ""


FORMATS: dict[str, Format] = {
    "messidor": Format(
        (r"annotation[ _]base\d\d[^/]*\.xlsx?",),
        messidor,
        "messidor_grade",
        {"0": 546, "1": 153, "2": 247, "3": 254},
    ),
    "messidor2": Format(
        (r"messidor_data\.csv|messidor-2\.csv",),
        messidor2,
        "dr_grade",
        {"0": 1017, "1": 270, "2": 347, "3": 75, "4": 35},
    ),
    "fives": Format((r"(?:train|test)/original/\d+_[adgn]\.png",), fives, "label", dict.fromkeys("ADGN", 200)),
    "refuge": Format(
        (r"(?:glaucoma/g\d{4}\.jpg|(?:train|val|test)[^/]*/index\.json|refuge[^/]*/.*v\d{4}\.jpg)",),
        refuge,
        "glaucoma",
        {"0": 360, "1": 40},
        "train",
    ),
    "idrid": Format(
        (r"[^/]*disease grading_(?:training|testing) labels\.csv",),
        idrid,
        "dr_grade",
        {"0": 168, "1": 25, "2": 168, "3": 93, "4": 62},
    ),
    "palm": Format((r"palm[^/]*/.*[hnpv]\d{4}\.jpg|[hnp]\d{4}\.jpg",), palm, "pm", {}, "train"),
    "odir": Format((r"full_df\.csv|odir-5k_training_annotations[^/]*\.xlsx", r"\d+_left\.jpg"), odir, "pm", {}),
}


def recognise(folder: Path) -> str | None:
    """The key in ``FORMATS`` of the published tree that ``folder`` is, None for any other folder."""
    archive = Archive(folder, listing.files(folder))
    return next((name for name, known in FORMATS.items() if all(map(archive.matching, known.marks))), None)


def load(folder: Path, name: str) -> tuple[list[Row], list[str]]:
    """The rows of the published tree ``name``, and remarks: what was left out, and counts unlike the published ones.

    Raises:
        ValueError: a label book is unreadable or lacks a column, or no image has a label.
    """
    known, archive = FORMATS[name], Archive(folder, listing.files(folder))
    rows = known.rows(archive)
    remarks = [f"{count} {what}" for what, count in archive.remarks.items() if count]
    if not rows:
        reason = f" ({'; '.join(remarks)})" if remarks else ""
        raise ValueError(
            f"{runs.relative(folder)}: {name} without one labelled image{reason}; unpack images and labels"
        )
    return rows, [*remarks, *_unlike(known, rows)]


def _unlike(known: Format, rows: Sequence[Row]) -> list[str]:
    """A line where the labels are not distributed as published: a copy that is partial, older or altered."""
    counted = [row for row in rows if not known.split or row.get("split") == known.split]
    counts = Counter(row[known.label] for row in counted if row.get("gradable", "1") == "1")
    if not known.counts or counts == known.counts:
        return []
    here, published = (
        ", ".join(f"{value}: {count}" for value, count in sorted(one.items())) for one in (counts, known.counts)
    )
    return [f"{known.label} counts {here}; published are {published}"]
