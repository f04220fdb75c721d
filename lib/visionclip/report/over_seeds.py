"""The same training from several seeds: what a run's model, and its copies of further seeds, reach on each task."""

from collections.abc import Iterator
from pathlib import Path

from visionclip import runs
from visionclip.evaluation.intervals import over_seeds

STAGES = ("03-pretrain", "04-zero-shot", "07-explanation")


def rows(run: Path) -> list[dict]:
    """A row for each score of the run's 03, 04 and 07 that all of its seeds have: what it is ``of``, by which
    ``measure``, its mean over ``seeds`` as an interval, and the value of each.

    None where the model was trained from one seed, or not all of its copies are finished.
    """
    folders = [run, *sorted((run / "seeds").glob("[0-9]*"), key=lambda folder: int(folder.name))]
    files = [[folder / stage / "numbers.json" for stage in STAGES] for folder in folders]
    if len(folders) < 2 or not all(path.is_file() for own in files for path in own):
        return []
    found = [dict(_scores(*map(runs.read_json, own))) for own in files]
    shared = [key for key in found[0] if all(key in own for own in found)]
    return [
        {"of": of, "measure": measure, "mean": over_seeds([own[of, measure] for own in found]), "seeds": len(found)}
        | {"values": [own[of, measure] for own in found]}
        for of, measure in shared
    ]


def _scores(trained: dict, scored: dict, explained: dict) -> Iterator[tuple[tuple[str, str], float]]:
    """What a score is of, its measure, and the score, as the three stages wrote them."""
    yield ("held-out phantoms, image to text", "R@1"), trained["retrieval"]["image to text"]["R@1"]["value"]
    yield ("held-out phantoms, captions", "loss above its floor"), trained["loss_above_floor"]
    for row in scored["results"]:
        of = f"{row['dataset']} {row['task']} ({row['split']})"
        for key, measure in (("auc", "AUC"), ("aca", "ACA")):
            if row[key]["value"] is not None:
                yield (of, measure), row[key]["value"]
    for row in explained["localisation"]:
        if row["average_precision"]["value"] is not None:
            of = f"{row['dataset']} {row['finding']} ({row['split']})"
            yield (of, "average precision"), row["average_precision"]["value"]
