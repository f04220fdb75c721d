"""The table of datasets of the field that aren't shipped, ``published.yaml``."""

import re
from dataclasses import dataclass
from pathlib import Path

from visionclip.data import tasks

TABLE = Path(__file__).with_suffix(".yaml")
TEXT, SHARE = (r"(?s).+", str), (r"[01]|0\.\d+", float)  # the pattern of a value, and its type
REQUIRED = {"name": TEXT, "owner": TEXT, "terms": TEXT, "images": (r"\d+", int), "get": TEXT, "labels": TEXT}
OPTIONAL = {"accuracy": SHARE, "majority": SHARE, "own": TEXT}


@dataclass(frozen=True)
class Published:
    """A dataset of the field: whose it is, how to obtain it and how it is scored.

    ``accuracy`` is VisionCLIP's zero-shot figure (arXiv 2403.10823, which states neither split nor averaging), to be
    read with ``majority``, the accuracy of always answering the commonest class; both 0 to 1, None if not known.
    ``labels`` says what labels.csv needs, ``plan`` what its tasks.yaml would hold. ``own`` is the split that its owner
    reports on, where FLAIR's protocol takes other rows.
    """

    folder: str
    name: str
    owner: str
    terms: str
    images: int
    get: str
    labels: str
    plan: tasks.Plan
    accuracy: float | None = None
    majority: float | None = None
    own: str = ""


def load(path: Path = TABLE) -> tuple[Published, ...]:
    """The datasets of a table in its order.

    Raises:
        ValueError: a key is unknown or missing, a value isn't of its type, or a task is refused as by
            ``tasks.load_plan``; the message names the file and the dataset.
    """
    return tuple(_published(folder, given, f"{path.name}: {folder}") for folder, given in tasks.load_yaml(path).items())


def _published(folder: str, given: object, where: str) -> Published:
    given = tasks.fields(given, where, (*REQUIRED, "tasks"), (*OPTIONAL, "drop", "test"))
    values = {}
    for key, (pattern, kind) in (REQUIRED | OPTIONAL).items():
        if key in given:
            if not isinstance(given[key], str) or not re.fullmatch(pattern, given[key]):
                raise ValueError(f"{where}: {key} is {given[key]!r}; write it as {pattern}")
            values[key] = kind(given[key])
    plan = tasks.plan({key: value for key, value in given.items() if key in ("drop", "test", "tasks")}, where)
    return Published(folder, plan=plan, **values)


PUBLISHED = load()
