"""What the index shows besides the stages: pictures, and the run's scores beside published ones."""

import base64
import csv
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas
import yaml
from PIL import Image

from visionclip.data import folders
from visionclip.data import images as imaging
from visionclip.evaluation import conclusions, generated_share
from visionclip.evaluation.intervals import Interval
from visionclip.report import figures

TEMPLATES = Path(__file__).parent / "templates"
SHOWN = 256  # pixels, side of a picture of the strip
KINDS = {"phantom": "phantom", "ddpm": "generated"}  # by the source that a shard's labels give
GRADES = ("2", "3", "4")  # of retinopathy, so that there is something to see


@dataclass(frozen=True)
class Eye:
    """A picture of the strip: what it is, itself as a data address, and whom to credit."""

    kind: str
    uri: str
    credit: str = ""


def glossary() -> dict[str, str]:
    """What the pages' words mean, by word."""
    return yaml.safe_load((TEMPLATES / "glossary.yaml").read_text("utf-8"))


def cited() -> list[dict]:
    """Published figures: model, what it learnt from, set, measure, value, chance, n, protocol, source, where read."""
    return yaml.safe_load((TEMPLATES / "cited.yaml").read_text("utf-8"))


def strip(run: Path, parameters: Mapping) -> list[Eye]:
    """A photograph, a phantom and a generated eye with retinopathy, as far as a run has them.

    The photograph is from a set that is found in the run's folder of ``parameters`` and whose licence asks for nothing
    but attribution.
    """
    eyes = dict(_drawn(run / "01-synthesis" / "synthetic"))
    real = _photograph(folders.external_folder(str(parameters.get("external", folders.DEFAULT_FOLDER))))
    return [*([real] if real else []), *(Eye(name, eyes[name]) for name in KINDS.values() if name in eyes)]


def _drawn(folder: Path) -> Iterator[tuple[str, str]]:
    """The first eye of each kind whose retinopathy is of ``GRADES``, as (kind, address)."""
    found: set[str] = set()
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard) as file:
            for name in (member.name for member in file if member.name.endswith(".json")):
                labels = json.loads(_content(file, name))
                kind = KINDS.get(labels.get("source", ""))
                if kind and kind not in found and str(labels["conditions"].get("dr_grade")) in GRADES:
                    found.add(kind)
                    yield kind, _address(Image.open(io.BytesIO(_content(file, name.removesuffix("json") + "png"))))
        if len(found) == len(KINDS):
            return


def _content(file: tarfile.TarFile, name: str) -> bytes:
    member = file.extractfile(name)
    return member.read() if member else b""


def _photograph(external: Path) -> Eye | None:
    """The first photograph of ``GRADES`` of the first set below ``external`` that may be shown."""
    for folder in sorted(external.glob("*/")) if external.is_dir() else ():
        credit, labels = folders.credit(folder.name), folder / "labels.csv"
        if not credit or not labels.is_file():
            continue
        with labels.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        graded = [row for row in rows if (row.get("dr_grade") or "") in GRADES] or rows
        named = [Path(row.get("file") or "") for row in graded]
        inside = [folder / path for path in named if not path.is_absolute() and ".." not in path.parts]
        found = [path for path in inside if path.is_file()]
        if found:
            return Eye("photograph", _address(Image.fromarray(imaging.prepare(imaging.read(found[0]), SHOWN))), credit)
    return None


def _address(image: Image.Image) -> str:
    image = image.convert("RGB")
    image = image.resize((SHOWN, SHOWN), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def conclusion(scored: Mapping, repeated: Sequence[Mapping] = ()) -> str:
    """What the numbers of 04 say of real eyes, good and bad, and ``over_seeds.rows`` beside it; empty without any."""
    if not scored.get("results"):
        return ""
    failures = conclusions.failures(scored.get("at_thresholds", []), scored.get("grades", []))
    parts = conclusions.zero_shot(scored["results"]), _over_seeds(repeated), failures
    return " ".join(part for part in parts if part)


def _over_seeds(repeated: Sequence[Mapping]) -> str:
    """The lowest and the highest mean AUC over seeds, of photographs that took no part in choices."""
    aucs = {
        row["of"]: Interval.of(row["mean"])
        for row in repeated
        if row["measure"] == "AUC" and not row["of"].startswith(conclusions.DRAWN)
        if not row["of"].endswith(f"({conclusions.DEVELOPMENT})")
    }
    ends = dict.fromkeys(choose(aucs, key=lambda name: aucs[name].value or 0.0) for choose in (min, max) if aucs)
    means = " to ".join(f"{aucs[name]} ({name})" for name in ends)
    return (
        f"The mean of {repeated[0]['seeds']} trainings that differ in their seed: {means}, intervals over them."
        if ends
        else ""
    )


def elsewhere(reports: Path, file: str) -> dict[str, str]:
    """The folders beside ``reports`` that have this page, with the answer that their numbers hold."""
    return {name: found.get("answer", "") for name, found in _elsewhere(reports, file).items()}


def _elsewhere(reports: Path, file: str) -> dict[str, dict]:
    """The folders beside ``reports`` that have this page, with its numbers."""
    found = {}
    for path in sorted(reports.parent.glob(f"*/{file}")):
        numbers = path.parent / "numbers.json"
        if path.parent != reports and numbers.is_file():
            found[path.parent.name] = json.loads(numbers.read_text("utf-8")).get(path.stem, {})
    return found


def in_place_of_drawn(own: Mapping, reports: Path) -> str:
    """What 06 found generated eyes to be worth in place of drawn ones, which is what 01 is about: from its ``own``
    numbers in this run, or from those of another folder of reports, which is named; empty where no run asked."""
    for name, numbers in {"": own, **_elsewhere(reports, "06-transfer.html")}.items():
        if rows := numbers.get("generated"):
            found = [{**row, "difference": Interval.of(row["difference"])} for row in rows]
            return (
                f"Do they teach as drawn eyes do (06{f' of {name}' if name else ''})? {generated_share.verdict(found)}"
            )
    return ""


def comparison(results: Sequence[Mapping], measure: str) -> str:
    """A forest plot (SVG) of a run's zero-shot scores by ``measure`` (AUC or ACA), chance, and cited figures; empty
    without a score. What was chosen by stands in 04 alone."""
    score, chance = {"AUC": ("auc", None), "ACA": ("aca", "chance_aca")}[measure]
    own = [
        {"name": f"{row['dataset']}: {row['task']}", "n": row["n"], "chance": row[chance] if chance else 0.5}
        | asdict(Interval.of(row[score]))
        for row in sorted(results, key=lambda one: one["dataset"] in conclusions.DRAWN)
        if Interval.of(row[score]).value is not None and row["split"] != folders.DEVELOPMENT
    ]
    if not own:
        return ""
    others = [
        {"name": f"{row['model']}: {row['set']}", "n": row["n"], "chance": row["chance"], "value": row["value"]}
        | {"low": None, "high": None}
        for row in cited()
        if row["measure"] == measure
    ]
    rows = [row | {"cited": False} for row in own] + [row | {"cited": True} for row in others]
    table = pandas.DataFrame(rows).astype({"low": float, "high": float})
    return figures.as_svg(figures.beside_cited(table, measure)) or ""
