"""One progress helper for all: a bar in JupyterLab or a terminal, sparse lines in a log, quiet in reports.

JupyterLab sets ``JPY_SESSION_NAME`` for its kernels; papermill, nbval and nbconvert do not, so a report never
holds a dead bar. ``VISIONCLIP_LOG`` names a file to which a batch run appends a line at every tenth of the way.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def progress(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Yield ``items`` and show how far they are; ``total`` is needed where ``items`` has no length."""
    total = len(items) if total is None else total  # type: ignore[arg-type]
    if os.environ.get("JPY_SESSION_NAME"):
        from tqdm.notebook import tqdm
    elif sys.stderr.isatty():
        from tqdm import tqdm
    else:
        yield from _logged(items, label, total)
        return
    yield from tqdm(items, desc=label, total=total, leave=False)


def _logged(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    log, started, written = os.environ.get("VISIONCLIP_LOG"), time.monotonic(), 0
    for done, item in enumerate(items, 1):
        yield item
        if log and done * 10 // max(total, 1) > written:
            written = done * 10 // total
            with Path(log).open("a", encoding="utf-8") as file:
                file.write(f"{label}: {done}/{total}, {time.monotonic() - started:.0f} s\n")
