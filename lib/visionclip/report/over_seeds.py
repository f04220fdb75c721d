"""The same training from several seeds: what a run's model, and its copies of further seeds, reach on each task."""

from collections.abc import Iterator
from pathlib import Path

from visionclip import runs
from visionclip.evaluation.intervals import Interval, over_seeds, score_over_seeds

STAGES = ("03-pretrain", "04-zero-shot", "07-explanation")
LOSS = "loss above its floor"  # the one measure here that has no upper limit
OWN = ("seed", "out", "checkpoint")  # parameters in which a copy differs


def rows(run: Path) -> list[dict]:
    """A row for each score of the run's 03, 04 and 07 that all of its seeds have: what it is ``of``, by which
    ``measure``, its mean over ``seeds`` as an interval, and the value of each.

    Seeds are the copies that are finished and were made as the run itself, by the same code and parameters; no rows
    without one.
    """
    copies = sorted((run / "seeds").glob("[0-9]*"), key=lambda folder: int(folder.name))
    made_by = _made_by(run)
    folders = [run, *(folder for folder in copies if made_by and _made_by(folder) == made_by)]
    if len(folders) < 2:
        return []
    found = [
        dict(_scores(*(runs.read_json(folder / stage / "numbers.json") for stage in STAGES))) for folder in folders
    ]
    shared = [key for key in found[0] if all(key in own for own in found)]
    return [
        {"of": of, "measure": measure, "mean": _mean(measure, [own[of, measure] for own in found]), "seeds": len(found)}
        | {"values": [own[of, measure] for own in found]}
        for of, measure in shared
    ]


def _mean(measure: str, values: list[float]) -> Interval:
    return over_seeds(values) if measure == LOSS else score_over_seeds(values)


def _made_by(folder: Path) -> list:
    """Code and parameters of each of ``STAGES``, but for those that a copy has of its own; empty if one isn't
    finished."""
    cards = [folder / stage / "card.json" for stage in STAGES]
    if not all(card.is_file() for card in cards):
        return []
    read = [runs.read_json(card) for card in cards]
    return [
        [card["code"], {name: value for name, value in card["parameters"].items() if name not in OWN}] for card in read
    ]


def _scores(trained: dict, scored: dict, explained: dict) -> Iterator[tuple[tuple[str, str], float]]:
    """What a score is of, its measure, and the score, as the three stages wrote them."""
    yield ("held-out phantoms, image to text", "R@1"), trained["retrieval"]["image to text"]["R@1"]["value"]
    yield ("held-out phantoms, captions", LOSS), trained["loss_above_floor"]
    for row in scored["results"]:
        of = f"{row['dataset']} {row['task']} ({row['split']})"
        for key, measure in (("auc", "AUC"), ("aca", "ACA")):
            if row[key]["value"] is not None:
                yield (of, measure), row[key]["value"]
    for row in explained["localisation"]:
        if row["average_precision"]["value"] is not None:
            of = f"{row['dataset']} {row['finding']} ({row['split']})"
            yield (of, "average precision"), row["average_precision"]["value"]
