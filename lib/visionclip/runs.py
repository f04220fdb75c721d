"""Stage folders: where they are, what made them, and how they are written so that nothing is half-written.

A stage reads the folders of earlier stages and writes only its own. ``numbers.json`` holds every figure its
report quotes; ``card.json``, written last, says what made the folder, so its presence means that the stage is complete.
"""

import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from visionclip import keys

with suppress(ImportError):  # Windows has none; there the user sees to it that no folder gets two writers
    import fcntl

ROOT = next(
    (folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file()), Path.cwd()
)
PACKAGES = ("torch", "transformers", "diffusers", "accelerate", "numpy", "scikit-learn", "papermill", "snakemake")


def resolve(path: str | Path) -> Path:
    """``path`` itself if absolute, else below the repository's root, whichever folder Python was started in."""
    return ROOT / Path(path).expanduser()


def relative(path: str | Path) -> str:
    """``path`` as people read it: relative to the repository's root where it lies below it."""
    path = Path(path)
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.as_posix()


def cores() -> int:
    """The cores that this process may use, on every system."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, moved into place only if the block ends without an error.

    Raises:
        OSError: the disk is full; the message names the file, which stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")  # processes may write one file each
    try:
        yield temporary
        share(temporary)
        os.replace(temporary, path)
    except Exception as error:  # every library has its own error for it
        if "no space left" not in str(error).casefold():
            raise
        raise OSError(f"{relative(path)}: the disk is full; free some space and run again, nothing is lost") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def lock(path: Path) -> Iterator[TextIO]:
    """Hold the lock of what ``path`` is named after: of a folder by ``.lock`` in it, of a file by ``.NAME.lock``.

    Yields the open file, which a child may inherit; in it stands the number of the process at work. The system drops
    the lock when that process ends, however it ends.

    Raises:
        ValueError: another process holds it; in one line that names folder and process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            if "fcntl" in globals():
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            place = relative(path.parent / path.name.removesuffix(".lock").removeprefix("."))
            holder = f"process {file.read()} is still at work there"
            raise ValueError(f"{place}: {holder}; wait for it to end, or stop it") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield file


def share(path: Path) -> None:
    """Give a file, or all files below a folder, the permissions of the umask: safetensors writes for one alone."""
    mask = os.umask(0)
    os.umask(mask)
    for file in filter(Path.is_file, [path, *path.rglob("*")]):
        os.chmod(file, 0o666 & ~mask)


def write_json(path: Path, content: object) -> None:
    """Write ``content`` atomically as readable UTF-8 JSON (see ``keys.plain``).

    Raises:
        ValueError: a number is NaN or infinite, which JSON has no word for; the message names the file.
    """
    try:
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False, default=keys.plain)
    except ValueError as error:
        raise ValueError(f"{relative(path)}: {error}; what has no value is to be None") from None
    with atomic(path) as temporary:
        temporary.write_text(text + "\n", "utf-8")


def read_json(path: Path) -> Any:
    """The content of a UTF-8 JSON file.

    Raises:
        ValueError: it is none; the message names the file.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{relative(path)}: no JSON ({error}); delete it, and make it anew") from None


def cached(path: Path, key: str, compute: Callable[[], object]) -> Any:
    """The JSON-able result of ``compute``, read back from ``path`` where it was kept under the same ``key``.

    The key is to cover parameters, inputs and ``keys.code`` of whatever ``compute`` runs.
    """
    if not path.is_file() or read_json(path).get("key") != key:
        write_json(path, {"key": key, "value": compute()})
    return read_json(path)["value"]


def git_state() -> dict[str, object]:
    """The commit and whether the working tree differs from it (reports and outputs aside); unknown outside git."""
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--", ":!reports"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "unknown", "dirty": None}
    return {"commit": commit.stdout.strip(), "dirty": bool(changes.stdout.strip())}


def machine() -> dict[str, object]:
    """Processor, cores and system; no host name, no path."""
    cpuinfo = Path("/proc/cpuinfo")
    models = [line for line in cpuinfo.read_text().splitlines() if "model name" in line] if cpuinfo.exists() else []
    processor = models[0].split(":")[1].strip() if models else platform.processor() or platform.machine()
    system = f"{platform.system()} {platform.machine()}"
    return {"processor": processor, "cores": cores(), "system": system, "python": platform.python_version()}


def require(folder: str | Path, stage: str) -> dict:
    """The card of the finished stage in ``folder``.

    Raises:
        FileNotFoundError: the folder has no card; the message names the notebook to run first.
    """
    card = resolve(folder) / "card.json"
    if not card.is_file():
        raise FileNotFoundError(
            f"{relative(resolve(folder))}: no finished {stage} there; run notebooks/{stage}.ipynb first, "
            "or the whole study with `make study`"
        )
    return read_json(card)


class Stage:
    """One run of one stage: its folder, its parameters and the folders it reads.

    Opening a stage removes the card of an earlier run and leaves its checkpoints and what it keeps under keys, which
    the stage's own functions read back only if the same parameters, inputs and code made them.
    """

    def __init__(self, name: str, out: str | Path, parameters: Mapping[str, object], inputs: Sequence[str | Path] = ()):
        self.name, self.folder, self.parameters = name, resolve(out), dict(parameters)
        self.inputs = {
            relative(resolve(folder)): keys.digest(read_json(resolve(folder) / "card.json")["outputs"])
            for folder in inputs
        }
        notebook = ROOT / "notebooks" / f"{name}.ipynb"
        self.code = keys.code(notebook) if notebook.is_file() else "unknown"
        self.started = time.time()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "card.json").unlink(missing_ok=True)

    def fresh(self, name: str) -> Path:
        """An empty folder of this stage: what an earlier run has left in it is gone."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def finish(self, numbers: Mapping[str, object]) -> dict:
        """Write ``numbers.json``, then ``card.json``; return the card."""
        write_json(self.folder / "numbers.json", numbers)
        lock = ROOT / "requirements.lock"
        card = {
            "stage": self.name,
            "parameters": self.parameters,
            "parameters_hash": keys.digest(self.parameters),
            "seed": self.parameters.get("seed"),
            "inputs": self.inputs,
            "code": self.code,
            "outputs": {
                path.relative_to(self.folder).as_posix(): keys.file(path)
                for path in sorted(self.folder.rglob("*"))
                if path.is_file() and path.suffix not in (".ipynb", ".log") and not path.name.startswith(".")
            },
            **git_state(),
            "lock": keys.file(lock) if lock.is_file() else "unknown",
            "versions": {package: version(package) for package in PACKAGES},
            "machine": machine(),
            "finished": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
            "seconds": round(time.time() - self.started, 1),
        }
        write_json(self.folder / "card.json", card)
        return card
