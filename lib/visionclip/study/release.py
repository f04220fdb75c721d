"""The model that the repository publishes: that of a finished run, with a card made of what the run wrote.

``make weights`` runs it on ``overnight``, and lets ``python -m visionclip reference`` say what its predictions are
worth. No figure of the card is written by hand.
"""

import argparse
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from visionclip import conditions, keys, runs
from visionclip.evaluation import conclusions
from visionclip.evaluation.intervals import Interval
from visionclip.report import html, over_seeds
from visionclip.study.weights import PUBLISHED, write_digests

NAME, MODEL, CARD = "visionclip", "model", "README.md"
TEMPLATE = Path(__file__).parent / "templates" / "visionclip.md.j2"
STAGES = ("01-synthesis", "03-pretrain", "04-zero-shot", "07-explanation")  # what the card quotes


def publish(run: Path, out: Path) -> None:
    """Copy the model of a finished ``run`` to ``out``, with its card and the SHA-256 of every file.

    Raises:
        FileNotFoundError: a stage that the card quotes isn't finished; what was published stays.
        ValueError: scores and model are of two runs, or photographs or a given tower went into the model.
    """
    text = card(run, out)
    fresh = out.with_name(f".{out.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(run / "03-pretrain" / MODEL, fresh)
    (fresh / CARD).write_text(text, "utf-8")
    write_digests(fresh)
    runs.share(fresh)
    shutil.rmtree(out, ignore_errors=True)
    fresh.rename(out)


def card(run: Path, out: Path) -> str:
    """The card of the model of a finished run that is published at ``out``; raises as ``publish``."""
    made = {stage: runs.require(run / stage, stage) for stage in STAGES}
    numbers = {stage: runs.read_json(run / stage / "numbers.json") for stage in STAGES}
    trained = made["03-pretrain"]
    _require_one_run(run, made)
    _require_phantoms_alone(run, made)
    environment = Environment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
    return environment.from_string(TEMPLATE.read_text("utf-8")).render(
        folder=runs.relative(out),
        preset=run.name,
        commit=str(trained["commit"])[:7],
        parameters=trained["parameters"],
        minutes=round(trained["seconds"] / 60),
        machine=trained["machine"],
        sources=numbers["01-synthesis"]["sources"],
        scores=[*_scores(numbers["04-zero-shot"]["results"])],
        marks=[*_marks(numbers["07-explanation"]["localisation"])],
        at_thresholds=[*_at_thresholds(numbers["04-zero-shot"]["at_thresholds"])],
        seeds=[row for row in over_seeds.rows(run) if not row["of"].startswith(conclusions.DRAWN)],
        in_words=html.in_words,
    )


def _require_one_run(run: Path, made: Mapping[str, Mapping]) -> None:
    """Refuse numbers of another model than that of 03, and a model of other images than those of 01."""
    for stage, before in (
        ("03-pretrain", "01-synthesis"),
        ("04-zero-shot", "03-pretrain"),
        ("07-explanation", "03-pretrain"),
    ):
        if keys.digest(made[before]["outputs"]) not in made[stage]["inputs"].values():
            raise ValueError(f"{runs.relative(run)}: {stage} read another {before} than is there; run the study again")


def _require_phantoms_alone(run: Path, made: Mapping[str, Mapping]) -> None:
    """Refuse a model that photographs or other weights went into, of which the card says nothing."""
    for stage, name in (("01-synthesis", "seeds"), ("03-pretrain", "tower")):
        if given := made[stage]["parameters"].get(name):
            raise ValueError(f"{runs.relative(run)}: {name} is {given!r}, which the card does not tell; leave it out")


def _scores(results: Sequence[Mapping]) -> Iterator[dict[str, str]]:
    """A row for each two-class task of photographs."""
    for row in results:
        auc = Interval.of(row["auc"])
        if row["dataset"] in conclusions.DRAWN or auc.value is None or row.get("by_thresholds"):
            continue
        chance = auc.low is not None and auc.low <= 0.5
        yield {
            "set": html.in_words(f"{row['dataset']} ({row['split']})"),
            "task": conditions.plain(row["task"]),
            "n": str(row["n"]),
            "auc": f"{auc}{', not surely above chance' if chance else ''}",
        }


def _marks(rows: Sequence[Mapping]) -> Iterator[str]:
    """How the maps agree with marks on each set of photographs, finding by finding."""
    for row in rows:
        precision = Interval.of(row["average_precision"])
        if row["dataset"] not in conclusions.DRAWN and precision.value is not None:
            yield html.in_words(f"{row['dataset']} ({row['split']}) {conditions.plain(row['finding'])} {precision}")


def _at_thresholds(rows: Sequence[Mapping]) -> Iterator[str]:
    """How many of each class of a task are told rightly, sensitivity and specificity."""
    for row in rows:
        sensitivity, specificity = (row[name]["value"] for name in ("sensitivity", "specificity"))
        if sensitivity is not None and specificity is not None:
            task = html.in_words(f"{row['dataset']} ({row['split']}) {row['task']}")
            yield f"{task} {sensitivity:.0%} and {specificity:.0%}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Publish."""
    parser = argparse.ArgumentParser(prog="python -m visionclip.study.release", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=runs.resolve, help="folder of a finished run, such as runs/overnight")
    parser.add_argument("--out", type=runs.resolve, default=f"{PUBLISHED}/{NAME}", help="where its model is published")
    given = parser.parse_args(arguments)
    try:
        publish(given.run, given.out)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{error}\n")
    print(f"{runs.relative(given.out)}: published")


if __name__ == "__main__":
    main()
