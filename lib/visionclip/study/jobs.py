"""The jobs of the graph: a stage or a point, under a lock, so that a folder never has two writers.

A job whose graph was killed keeps its lock.
"""

import os
import shutil
import time
import traceback
from pathlib import Path

from visionclip import runs
from visionclip.runs import lock
from visionclip.study.graph import SIZES, Graph, notebook
from visionclip.study.notebooks import execute
from visionclip.study.parameters import check_file, read_flat


def stage_lock(graph: Graph, stage: str) -> Path:
    """The lock of a stage's folder."""
    return runs.resolve(graph.folder(stage)) / ".lock"


def point_lock(graph: Graph, point: str) -> Path:
    """The lock of a point's result."""
    result = runs.resolve(graph.point(point))
    return result.with_name(f".{result.stem}.lock")


def refuse_running(graph: Graph) -> None:
    """Raise ValueError if a job of an earlier run is still at work: its graph was killed, and it was not."""
    locks = [
        *(stage_lock(graph, stage) for stage in graph.stages),
        *(point_lock(graph, point) for point in graph.points),
    ]
    for path in filter(Path.is_file, locks):
        with lock(path):
            pass


def stage(preset: str, name: str, threads: int) -> None:
    """Execute the notebook of a stage with a preset's parameters on so many cores, and copy it beside its results.

    Raises:
        ValueError: no such stage or preset, or the stage is still running.
        RuntimeError: a cell failed; in one line that names the notebook with the traceback.
    """
    graph, own = Graph({"preset": preset}), notebook(name)
    if own not in graph.parameters:
        raise ValueError(f"{graph.file(name)}: no such parameter file, so that {preset} leaves {own} out; add it")
    logs = {kind: runs.resolve(path) for kind, path in graph.logs(name).items()}
    given = read_flat(runs.resolve(graph.file(name)))
    checked = {key: getattr(graph.parameters[own], key) for key in given}
    with lock(stage_lock(graph, name)):
        _announce(logs["progress"], threads)
        execute(runs.resolve(f"notebooks/{own}.ipynb"), logs["notebook"], checked | graph.changed(name))
        with runs.atomic(runs.resolve(graph.outputs(name)["notebook"])) as temporary:
            shutil.copyfile(logs["notebook"], temporary)


def point(preset: str, name: str, threads: int) -> None:
    """Make a point of the dataset-size study on so many cores; why one failed is kept in its log.

    Raises:
        ValueError: no such point or preset, or the point is still running.
        RuntimeError: it failed; in one line that names the log.
    """
    graph = Graph({"preset": preset})
    if name not in graph.points:
        raise ValueError(f"{name}: no such point (there are {', '.join(graph.points) or f'none in {preset}'})")
    settings, log, started = graph.parameters[SIZES], runs.resolve(graph.point_log(name)), time.time()
    folders = graph.paths(SIZES) | {"external": settings.external}
    pretrained = vars(check_file(runs.resolve(folders.pop("pretrained"))))
    with lock(point_lock(graph, name)):
        _announce(log, threads)
        try:
            from visionclip.stages import dataset_size  # torch counts its threads when it is imported

            dataset_size.point(graph.points[name], graph.folder(SIZES), folders, pretrained)
        except Exception as error:
            with log.open("a") as output:
                traceback.print_exc(file=output)
            raise RuntimeError(f"{runs.relative(log)}: {type(error).__name__}: {error}") from error
        finished = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        with log.open("a") as output:
            output.write(f"finished {finished} after {time.time() - started:.1f} s\n")


def _announce(log: Path, threads: int) -> None:
    """Empty the log to which work appends how far it is, and tell all libraries how many cores they have."""
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    os.environ.update(OMP_NUM_THREADS=str(threads), VISIONCLIP_LOG=str(log))
