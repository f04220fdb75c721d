"""Which committed reports hold a notebook's answer: those of `cpu`, or of the ablations, which it leaves out."""

from visionclip import runs, study

CPU, ABLATIONS = "cpu", "ablations"
FOLDERS = {
    name: CPU if (runs.ROOT / f"params/{CPU}/{name}.yaml").is_file() else ABLATIONS for name in study.notebook_names()
}


def numbers(name: str) -> dict:
    """What the reports hold of a notebook."""
    return runs.read_json(runs.ROOT / "reports" / FOLDERS[name] / "numbers.json")[name]
