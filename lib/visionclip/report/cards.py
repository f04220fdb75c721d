"""Cards of a run: model card, datasheet, CLAIM 2024 and TRIPOD+AI, filled from what its stages wrote.

Each is a YAML file of ``templates/cards``: sections of items, each with an answer and who gives it: ``run`` (the run's
own metadata), ``study`` (true of every run of this study), ``you`` (whoever publishes), ``na`` (does not apply).
Answers are templates over ``facts``; what an unfinished stage would say reads "not run".
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

import yaml
from jinja2 import Environment, StrictUndefined

from visionclip import runs
from visionclip.data.synfundus import SOURCE
from visionclip.evaluation import conclusions
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

    def filled(item: Mapping[str, str]) -> dict[str, str]:
        return {"n": "", **item, "answer": environment.from_string(item["answer"]).render(known)}

    cards = []
    for name in NAMES:
        plan = yaml.safe_load((FOLDER / f"{name}.yaml").read_text("utf-8"))
        sections = [(section["title"], list(map(filled, section["items"]))) for section in plan["sections"]]
        cards.append(Card(name, plan["title"], plan["source"], sections))
    return cards


def facts(run: Path, preset: str) -> dict[str, object]:
    """What the answers may use: of the stages' cards and numbers, as text."""
    cards = {path.parent.name: runs.read_json(path) for path in sorted(run.glob("[0-9][0-9]-*/card.json"))}
    numbers = {name: runs.read_json(run / name / "numbers.json") for name in cards}
    made = partial(_found, cards)
    drawn, trained, scored = (numbers.get(name, {}) for name in ("01-synthesis", "03-pretrain", "04-zero-shot"))

    def number(stage: str, *keys: str) -> object:
        value = _found(numbers, stage, *keys)
        return f"{value:.3g}" if isinstance(value, float) else value

    return {
        "preset": preset,
        "of": lambda stage, parameter: made(stage, "parameters", parameter),
        "made": made,
        "number": number,
        "start": _start(cards.get("03-pretrain", {}).get("parameters")),
        "before": _before(cards.get("03-pretrain", {}).get("parameters", {})),
        "weights": made("03-pretrain", "outputs", "model/model.safetensors"),
        "machine": made("03-pretrain", "machine", "processor"),
        "versions": _listed(cards.get("03-pretrain", {}).get("versions")),
        "sources": _listed(drawn.get("sources")),
        "shares": _listed(trained.get("shares"), ".0%"),
        "loaded": SOURCE in drawn.get("sources", {}),
        "photographs": _photographs(drawn.get("sources"), cards.get("01-synthesis", {}).get("parameters", {})),
        "patients": _patients(drawn.get("sources"), made("01-synthesis", "parameters", "seeds")),
        "fidelity": _fidelity(drawn.get("fidelity", {})),
        "kid": number("01-synthesis", "fidelity", "kid", "value"),
        "kid_floor": number("01-synthesis", "fidelity", "kid_floor", "value"),
        "tested": _tested(scored.get("results")),
        "external": _tested(_reported(scored.get("results"))),
        "chosen_by": _chosen_by(scored),
        "robust": _robust(set(cards)),
        "results": _results(scored.get("results")),
        "controls": _controls(scored.get("controls")),
        "explained": _explained(numbers.get("07-explanation", {}).get("localisation")),
        "duplicates": _duplicates(scored.get("duplicates")),
        "appearance": _appearance(numbers.get("06-transfer", {}).get("looks")),
    }


def _found(content: object, *keys: str) -> object:
    """What lies under these keys, one within another."""
    for key in keys:
        content = content.get(key, UNKNOWN) if isinstance(content, Mapping) else UNKNOWN
    return content


def _listed(pairs: Mapping | None, spec: str = "") -> str:
    return ", ".join(f"{name} {value:{spec}}" for name, value in pairs.items()) if pairs else UNKNOWN


def _photographs(sources: Mapping | None, parameters: Mapping) -> bool:
    """Whether the training set descends from photographs."""
    return bool(parameters.get("seeds") or set(sources or ()) - DRAWN)


def _patients(sources: Mapping | None, seeds: object) -> str:
    if not sources:
        return UNKNOWN
    if not seeds and set(sources) <= DRAWN:
        return "None: every image is drawn, or generated by a model that saw drawn eyes only"
    return f"Photographs are upstream ({', '.join(sorted(set(sources) - DRAWN)) or seeds}): see their owner's terms"


def _start(parameters: Mapping | None) -> str:
    """What training started from."""
    if parameters is None:
        return UNKNOWN
    lock, folder = parameters.get("lock", "none"), _tower(parameters)
    if not folder:
        return "random weights"
    what = f"what comes from {folder}" if lock == "none" else f"the {lock} tower of {folder}, which stayed as it was"
    return f"random weights but for {what} (its own sizes hold)"


def _tower(parameters: Mapping) -> str:
    """The name of the folder that a tower comes from, without where it lies; empty where none does."""
    folder = Path(parameters.get("tower", ""))
    return folder.parent.name if folder.name == "model" else folder.name


def _before(parameters: Mapping) -> str:
    """What a card that speaks of the images alone has to add of the model."""
    folder = _tower(parameters)
    return f". Of the model: what trained the tower that comes from {folder} is not known here" if folder else ""


def _fidelity(fidelity: Mapping) -> str:
    def mean(name: str) -> str:
        values = [row["auc"] for row in (fidelity.get(name) or {}).values() if row["auc"] is not None]
        return f"{fmean(values):.2f}" if values else UNKNOWN

    return f"{mean('generated')} on generated images, {mean('phantoms')} on held-out phantoms"


def _tested(results: list | None) -> str:
    if not results:
        return UNKNOWN if results is None else "(no photographs)"
    tasks = defaultdict(list)
    for result in results:
        tasks[f"{result['dataset']} ({result['split']})"].append(f"{result['task']} n={result['n']}")
    return "; ".join(f"{name}: {', '.join(of_set)}" for name, of_set in tasks.items())


def _reported(results: list | None) -> list | None:
    """The results of photographs that took no part in choices."""
    return results and [
        row for row in results if row["dataset"] not in conclusions.DRAWN and row["split"] != conclusions.DEVELOPMENT
    ]


def _chosen_by(scored: Mapping) -> str:
    """The sets that the drawing was chosen by, as far as 04 found them."""
    of_04 = [row for row in scored.get("results") or [] if row["split"] == conclusions.DEVELOPMENT]
    named = dict.fromkeys(f"{row['dataset']} ({row['split']})" for row in (scored.get("tuned") or []) + of_04)
    return ", ".join(named) or "train splits of IDRiD and PALM and a part of ODIR-5K, which were not there in this run"


def _robust(finished: Set[str]) -> str:
    """What the finished stages vary, beside the wording."""
    varied = {"05-dataset-size": "sizes and seeds", "06-transfer": "parts left out", "08-diversity": "poorer sets"}
    varied |= {"10-robustness": "factors of drawn eyes, and sixteen corruptions"}
    made = [f"{what} ({name[:2]})" for name, what in varied.items() if name in finished]
    return ", ".join(made) or "nothing else in this run"


def _real_first(rows: list | None) -> list:
    """The rows of real photographs, or where there are none those of phantoms."""
    return [row for row in rows or [] if row["dataset"] not in conclusions.DRAWN] or rows or []


def _results(results: list | None) -> str:
    rows = [row for row in _real_first(results) if row["auc"]["value"] is not None]
    scores = [f"{row['dataset']} ({row['split']}) {row['task']} AUC {Interval.of(row['auc'])}" for row in rows]
    chosen_by = any(row["split"] == conclusions.DEVELOPMENT for row in rows)
    flattered = ". Sets called development chose the drawing, so that their scores flatter" if chosen_by else ""
    return ("; ".join(scores) or UNKNOWN) + flattered


def _controls(rows: list | None) -> str:
    if not rows:
        return "(not computed)" if rows is not None else UNKNOWN

    lines = []
    for row in _real_first(rows):
        rivals = [
            f"{name} {row[name]:.3f}" for name in ("random weights", "colour statistics") if row[name] is not None
        ]
        if row.get("rank"):
            rivals.append("its sentence {rank} of {of}".format_map(row["rank"]))
        lines.append(f"{row['dataset']} {row['task']}: {', '.join(rivals)}")
    return "; ".join(lines)


def _explained(rows: list | None) -> str:
    """How the maps of findings agree with marks: of photographs that chose nothing, or without any of phantoms."""
    if not rows:
        return UNKNOWN
    photographs = [row for row in rows if row["split"] in ("test", "all")]
    drawn = [row for row in rows if row["dataset"] in conclusions.DRAWN]
    scored = [row for row in photographs or drawn if row["average_precision"]["value"] is not None]
    return "; ".join(
        f"{row['dataset']} {row['finding']} {Interval.of(row['average_precision'])}"
        + f" (by chance {row['chance']['average_precision']:.3f})"
        for row in scored
    )


def _duplicates(rows: list | None) -> str:
    if not rows:
        return UNKNOWN
    found = [row for row in rows if row["near-duplicate pairs"]]
    pairs = [f"{row['tested set']} with {row['compared with']}: {row['near-duplicate pairs']}" for row in found]
    leaks = any(row["compared with"] != "itself" for row in found)
    return "; ".join(([] if leaks else ["none between tested and training images"]) + pairs)


def _appearance(rows: list | None) -> str:
    if not rows:
        return "(no photographs)" if rows is not None else UNKNOWN
    most = max(rows, key=lambda row: row["separability"])
    return f"{most['quantity']} most unlike, in {most['dataset']} (AUC {most['separability']:.2f})"
