"""Cards of a run: model card, datasheet, CLAIM 2024 and TRIPOD+AI, filled from what its stages wrote.

Each is a YAML file of ``templates/cards``: sections of items, each with an answer and who gives it: ``run`` (the run's
own metadata), ``study`` (true of every run of this study), ``you`` (whoever publishes), ``na`` (does not apply).
Answers are templates over ``facts``; what an unfinished stage would say reads "not run".
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from jinja2 import Environment, StrictUndefined

from visionclip import runs
from visionclip.evaluation.intervals import Interval

FOLDER = Path(__file__).parent / "templates" / "cards"
NAMES = ("model-card", "datasheet", "claim-2024", "tripod-ai")
BY = {"run": "this run", "study": "this study", "you": "you", "na": "does not apply"}
UNKNOWN = "(not run)"
DRAWN = {"phantom", "ddpm"}


@dataclass(frozen=True)
class Card:
    """A filled card: ``sections`` of (title, items), an item being number, question, who answers, and answer."""

    name: str
    title: str
    source: str
    sections: list[tuple[str, list[dict[str, str]]]]

    @property
    def file(self) -> str:
        """The name of its page."""
        """The name of the card's page."""
        return f"{self.name}.html"

    @property
    def counts(self) -> dict[str, int]:
        """How many items each of ``BY`` answers."""
        given = Counter(item["by"] for _, items in self.sections for item in items)
        return {BY[who]: given[who] for who in BY if given[who]}


def fill(run: Path, preset: str) -> list[Card]:
    """The cards of the run in ``run``, whichever of its stages are finished."""
    environment = Environment(undefined=StrictUndefined, autoescape=False)  # text: escaped where it becomes HTML
    known = facts(run, preset)
    cards = []
    for name in NAMES:
        plan = yaml.safe_load((FOLDER / f"{name}.yaml").read_text("utf-8"))
        sections = [
            (
                section["title"],
                [
                    {
                        "n": item.get("n", ""),
                        "item": item["item"],
                        "by": item["by"],
                        "answer": environment.from_string(item["answer"]).render(known),
                    }
                    for item in section["items"]
                ],
            )
            for section in plan["sections"]
        ]
        cards.append(Card(name, plan["title"], plan["source"], sections))
    return cards


def facts(run: Path, preset: str) -> dict[str, object]:
    """What the answers may use: of the stages' cards and numbers, as text."""
    cards = {path.parent.name: runs.read_json(path) for path in sorted(run.glob("[0-9][0-9]-*/card.json"))}
    numbers = {name: runs.read_json(run / name / "numbers.json") for name in cards}

    def number(stage: str, *keys: str) -> object:
        value: object = numbers.get(stage, {})
        for key in keys:
            value = value.get(key, UNKNOWN) if isinstance(value, Mapping) else UNKNOWN
        return f"{value:.3g}" if isinstance(value, float) else value

    def of(stage: str, parameter: str) -> object:
        return cards.get(stage, {}).get("parameters", {}).get(parameter, UNKNOWN)

    def made(stage: str, key: str) -> object:
        return cards.get(stage, {}).get(key, UNKNOWN)

    pretrained, scored = cards.get("03-pretrain", {}), numbers.get("04-zero-shot", {})
    return {
        "preset": preset,
        "of": of,
        "made": made,
        "number": number,
        "weights": pretrained.get("outputs", {}).get("model/model.safetensors", UNKNOWN),
        "machine": pretrained.get("machine", {}).get("processor", UNKNOWN),
        "versions": _listed(pretrained.get("versions")),
        "sources": _listed(numbers.get("01-synthesis", {}).get("sources")),
        "shares": _shares(numbers.get("03-pretrain", {}).get("shares")),
        "patients": _patients(numbers.get("01-synthesis", {}).get("sources"), of("01-synthesis", "seeds")),
        "fidelity": _fidelity(numbers.get("01-synthesis", {})),
        "kid": number("01-synthesis", "fidelity", "kid", "mean"),
        "kid_floor": number("01-synthesis", "fidelity", "kid_floor", "mean"),
        "tested": _tested(scored.get("results")),
        "results": _results(scored.get("results")),
        "controls": _controls(scored.get("controls")),
        "duplicates": _duplicates(scored.get("duplicates")),
        "appearance": _appearance(numbers.get("06-transfer", {}).get("looks")),
    }


def _listed(pairs: Mapping | None) -> str:
    return ", ".join(f"{name} {value}" for name, value in pairs.items()) if pairs else UNKNOWN


def _shares(shares: Mapping | None) -> str:
    return ", ".join(f"{name} {value:.0%}" for name, value in shares.items()) if shares else UNKNOWN


def _patients(sources: Mapping | None, seeds: object) -> str:
    if not sources:
        return UNKNOWN
    if not seeds and set(sources) <= DRAWN:
        return "None: every image is drawn, or generated by a model that saw drawn eyes only"
    return f"Photographs are upstream ({', '.join(sorted(set(sources) - DRAWN)) or seeds}): see their owner's terms"


def _fidelity(numbers: Mapping) -> str:
    def mean(name: str) -> str:
        rows = numbers.get("fidelity", {}).get(name) or {}
        values = [row["auc"] for row in rows.values() if row["auc"] is not None]
        return f"{sum(values) / len(values):.2f}" if values else UNKNOWN

    return f"{mean('generated')} on generated images, {mean('phantoms')} on held-out phantoms"


def _tested(results: list | None) -> str:
    if not results:
        return UNKNOWN
    tasks: dict[str, list[str]] = {}
    for result in results:
        tasks.setdefault(f"{result['dataset']} ({result['split']})", []).append(f"{result['task']} n={result['n']}")
    return "; ".join(f"{name}: {', '.join(of_set)}" for name, of_set in tasks.items())


def _real_first(rows: list | None) -> list:
    """The rows of real photographs, or where there are none those of phantoms."""
    return [row for row in rows or [] if row["dataset"] != "held-out phantoms"] or rows or []


def _results(results: list | None) -> str:
    rows = [row for row in _real_first(results) if row["auc"]["value"] is not None]
    return "; ".join(f"{row['dataset']} {row['task']} AUC {Interval.of(row['auc'])}" for row in rows) or UNKNOWN


def _controls(rows: list | None) -> str:
    if not rows:
        return "(not computed)" if rows is not None else UNKNOWN

    def line(row: Mapping) -> str:
        rivals = {name: row[name] for name in ("random weights", "colour statistics") if row[name] is not None}
        return f"{row['dataset']} {row['task']}: {', '.join(f'{name} {value:.3f}' for name, value in rivals.items())}"

    return "; ".join(map(line, _real_first(rows)))


def _duplicates(rows: list | None) -> str:
    if not rows:
        return UNKNOWN
    leaks = [row for row in rows if row["compared with"] != "itself" and row["near-duplicate pairs"]]
    return (
        "; ".join(f"{row['tested set']} with {row['compared with']}: {row['near-duplicate pairs']}" for row in leaks)
        or "none between tested and training images"
    )


def _appearance(rows: list | None) -> str:
    if not rows:
        return "(no photographs)" if rows is not None else UNKNOWN
    most = max(rows, key=lambda row: row["separability"])
    return f"{most['quantity']} most unlike, in {most['dataset']} (AUC {most['separability']:.2f})"
