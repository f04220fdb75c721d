"""Which files a folder holds, without opening one: cheap enough to be looked at before every run."""

import os
from pathlib import Path

from visionclip import keys, runs


def files(folder: Path, links: bool = False) -> list[Path]:
    """The files below ``folder``, relative to it and sorted, but for hidden ones and what archives leave behind.

    ``links``: follow links to folders, each place once. A folder that isn't there holds nothing.
    """
    listed, visited = [], set()
    for place, folders, names in os.walk(folder, followlinks=links):
        here = os.path.realpath(place)
        if here in visited:
            folders.clear()
            continue
        visited.add(here)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        names = sorted(name for name in names if not name.startswith(".") and name != "Thumbs.db")
        listed += [(Path(place) / name).relative_to(folder) for name in names]
    return listed


def fingerprint(folder: str | Path) -> str:
    """Of the path, size and time of change of every file below a dataset folder, or the folder of all of them.

    It changes where a file is replaced, renamed, added or deleted; links are followed, as photographs are read
    through them.
    """
    folder = runs.resolve(folder)
    states = []
    for path in files(folder, links=True):
        if (folder / path).exists():  # and no link to nothing
            state = (folder / path).stat()
            states.append([path.as_posix(), state.st_size, state.st_mtime_ns])
    return keys.digest(states)
