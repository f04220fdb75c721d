"""``python -m visionclip.study COMMAND``; a mistake is one line on standard error and exit status 2."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from visionclip import runs
from visionclip.study import jobs
from visionclip.study.graph import Graph
from visionclip.study.notebooks import environment, normalise, refresh
from visionclip.study.parameters import check_file
from visionclip.study.parameters import preset as check_preset


def run(preset: str, seeds: Sequence[int] = ()) -> None:
    """Become Snakemake, running one preset on all cores, and the model once more for each further seed.

    Snakemake's own lock outlives a killed run and would have to be removed by hand, so that another takes its place.

    Raises:
        ValueError: a mistake in the preset, or a run of this folder that has not ended.
    """
    further = ",".join(map(str, seeds))
    graph = Graph({"preset": preset, "seeds": further})
    # or Snakemake takes 2024_11 for a number, and no for false
    config = [f"preset=!!str {preset}", f"seeds=!!str {further}"] if seeds else [f"preset=!!str {preset}"]
    options = ["--nolock", "--rerun-incomplete", "--cores", "all", "--config", *config]
    os.chdir(runs.ROOT)
    if not os.access(Path.home(), os.W_OK):  # as in many containers; Snakemake and Jupyter keep files there
        os.environ["HOME"] = str(runs.ROOT / ".snakemake" / "home")
        Path.home().mkdir(parents=True, exist_ok=True)
    with jobs.lock(runs.ROOT / "runs" / ".lock") as held:
        jobs.refuse_running(graph)
        os.set_inheritable(held.fileno(), True)
        os.execv(sys.executable, [sys.executable, "-m", "snakemake", *options])


def check(path: Path) -> None:
    """Check the parameters in a preset's folder, or in one file."""
    path = path.absolute()
    (check_file if path.suffix == ".yaml" else check_preset)(path)
    print(f"{runs.relative(path)}: valid")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m visionclip.study", description="Run and keep the study.")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(work: Callable[..., None], **options: dict) -> argparse.ArgumentParser:
        added = commands.add_parser(work.__name__, help=str(work.__doc__).splitlines()[0])
        added.set_defaults(work=work)
        for name, given in options.items():
            added.add_argument(name, **given)
        return added

    command(run, preset={}).add_argument("--seeds", type=int, nargs="+", default=())
    for job in (jobs.stage, jobs.point):
        command(job, preset={}, name={}).add_argument("--threads", type=int, default=runs.cores())
    for each in (check, refresh, normalise):
        command(each, paths={"nargs": "+", "type": Path})
    command(environment)
    chosen = vars(parser.parse_args(arguments))
    work, paths = chosen.pop("work"), chosen.pop("paths", None)
    del chosen["command"]
    try:
        if paths is None:
            work(**chosen)
        for path in paths or ():
            work(path)
    except (ValueError, OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
