"""Which committed reports hold a notebook's answer: those of `cpu`, or of a larger run where it has left it out."""

from visionclip import runs, study

CPU, OVERNIGHT, ABLATIONS = "cpu", "overnight", "ablations"
PRESETS = {CPU: "`cpu`", OVERNIGHT: "`overnight`", ABLATIONS: "`cpu`, earlier"}  # as README calls them


def numbers(name: str) -> dict:
    """What the reports hold of a notebook."""
    return _all(FOLDERS[name])[name]


def seeds(folder: str) -> list[dict]:
    """What the reports hold of a run's further seeds: rows of ``over_seeds``."""
    return _all(folder)["seeds"]


def _all(folder: str) -> dict:
    place = runs.ROOT / "reports" / folder / "numbers.json"
    return runs.read_json(place) if place.is_file() else {}


def _folder(name: str) -> str:
    if (runs.ROOT / f"params/{CPU}/{name}.yaml").is_file():
        return CPU
    return next(folder for folder in (OVERNIGHT, ABLATIONS) if name in _all(folder))


FOLDERS = {name: _folder(name) for name in study.notebook_names()}
