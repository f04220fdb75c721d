"""Pages of a run: every executed notebook of ``runs/<preset>`` becomes ``reports/<preset>/NN-name.html``.

Beside them stand one stylesheet, an ``index.html``, the cards, and ``numbers.json``.
"""

import ast
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import nbformat
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from nbconvert.filters.ansi import strip_ansi
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from visionclip import runs
from visionclip.report import cards, html

STUDY = "VisionCLIP: a language–image model of the retina trained without one patient’s photograph"
QUESTION = (
    "Can a language–image model of the retina be trained without one patient’s photograph, and how good, how big "
    "and how safe must the synthetic set be?"
)
STAGE = "[0-9][0-9]-*"
FINISHED = re.compile(r"^finished (?P<finished>.+ UTC) after (?P<seconds>[\d.]+) s\n?\Z", re.M)  # ends a point's log
UNKNOWN_END = "no error recorded: still running, interrupted, or killed (often for want of memory)."


@dataclass(frozen=True)
class Page:
    """One notebook of a run, or the log of a point of the dataset-size study that failed.

    ``status`` is "finished", "failed" or "not run"; ``error`` is the last line of the traceback of a failed one;
    ``notebook`` is the executed notebook, or None where there is none to show; times are in seconds.
    """

    name: str
    title: str
    question: str
    status: str
    error: str = ""
    notebook: NotebookNode | None = None
    card: Mapping = field(default_factory=dict)
    headline: Sequence[Mapping[str, str]] = ()
    seconds: float | None = None

    @property
    def file(self) -> str:
        """The name of the file that it becomes."""
        """The name of the page's file."""
        return self.name.replace("/", "--") + ".html"


def build(
    runs_folder: str | Path, reports_folder: str | Path, preset: str, notebooks_folder: str | Path = "notebooks"
) -> Path:
    """Write the reports of ``<runs_folder>/<preset>`` into ``<reports_folder>/<preset>`` and return the index.

    Works with any subset of the stages: the index names those of ``notebooks_folder`` that were not run.
    Pages of an earlier build whose notebook is gone are removed.

    Raises:
        FileNotFoundError: the run's folder does not exist.
        ValueError: a notebook can't be read; the message names it.
    """
    run, reports = runs.resolve(runs_folder) / preset, runs.resolve(reports_folder) / preset
    if not run.is_dir():
        raise FileNotFoundError(
            f"{runs.relative(run)}: no such run; run the study first with `make study PRESET={preset}`"
        )
    sources = {path.stem: path for path in runs.resolve(notebooks_folder).glob(f"{STAGE}.ipynb")}
    executed = {path.stem for pattern in (f"{STAGE}/", f"logs/{STAGE}.ipynb") for path in run.glob(pattern)}
    stages = [_stage(run, name, sources.get(name)) for name in sorted(sources.keys() | executed)]
    failed_points = [_failed_point(run, log) for log in _point_logs(run) if not _point_finished(run, log)]
    shown = [(page, page.notebook) for page in (*stages, *failed_points) if page.notebook]
    filled = cards.fill(run, preset)
    files = {"index.html", *(page.file for page, _ in shown), *(card.file for card in filled)}

    environment = Environment(
        loader=FileSystemLoader(html.TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"duration": duration}
    environment.globals["provenance"] = provenance
    with runs.atomic(reports / "style.css") as temporary:
        shutil.copyfile(html.TEMPLATES / "style.css", temporary)
    order = [None, *(page for page, _ in shown), None]
    for (page, notebook), before, after in zip(shown, order, order[2:], strict=False):
        module = environment.get_template("page.html.j2").make_module(
            {"page": page, "before": before, "after": after, "preset": preset, "provenance": provenance(page.card)}
        )
        frame = {part: html.without_paths(getattr(module, part)) for part in ("header", "footer")}
        _write(reports / page.file, convert(notebook, frame, files))
    for card in filled:
        text = environment.get_template("card.html.j2").render(card=card, preset=preset, by=cards.BY)
        _write(reports / card.file, html.without_paths(text))
    index = environment.get_template("index.html.j2").render(
        study=STUDY,
        question=QUESTION,
        preset=preset,
        stages=stages,
        cards=filled,
        failed=[page for page in (*stages, *failed_points) if page.status == "failed"],
        total=computing_time(_times(run)),
        points=len(list(run.glob("*/points/*.json"))),
        shared=sorted({row for page in stages for row in provenance(page.card) if row[0] in ("Machine", "Versions")}),
    )
    _write(reports / "index.html", html.without_paths(index))
    runs.write_json(reports / "numbers.json", {page.name: _numbers(run, page) for page in stages if page.card})
    for stale in reports.glob("*.html"):
        if stale.name not in files:
            stale.unlink()
    return reports / "index.html"


def _numbers(run: Path, page: Page) -> dict:
    """What a finished stage measured and the seconds that it took, for whoever quotes it."""
    path = run / page.name / "numbers.json"
    return {"seconds": page.seconds, **(runs.read_json(path) if path.is_file() else {})}


def _write(path: Path, text: str) -> None:
    with runs.atomic(path) as temporary:
        temporary.write_text(text, "utf-8")


# --- what a run left behind ---------------------------------------------------------------------------------------


def _stage(run: Path, name: str, source: Path | None) -> Page:
    """The page of a stage, from whichever of its executed notebook and card is newer."""
    candidates = (run / name / f"{name}.ipynb", run / "logs" / f"{name}.ipynb")
    executed = sorted((path for path in candidates if path.is_file()), key=lambda path: path.stat().st_mtime)
    card_file, numbers_file = run / name / "card.json", run / name / "numbers.json"
    notebook = _read(executed[-1]) if executed else None
    title, question = heading(notebook or (_read(source) if source else new_notebook()), name)
    newer = bool(executed) and not (card_file.is_file() and card_file.stat().st_mtime > executed[-1].stat().st_mtime)
    if notebook and newer and (error := failure(notebook)):
        seconds = notebook.metadata.get("papermill", {}).get("duration")
        return Page(name, title, question, "failed", error, notebook, seconds=seconds)
    if not card_file.is_file():
        return Page(name, title, question, "not run")
    card = runs.read_json(card_file)
    headline = runs.read_json(numbers_file).get("headline", []) if numbers_file.is_file() else []
    return Page(name, title, question, "finished", "", notebook, card, headline, card.get("seconds"))


def _point_logs(run: Path) -> list[Path]:
    """The logs of the points of the dataset-size study: ``logs/<stage>/<point>.log``."""
    return sorted(run.glob(f"logs/{STAGE}/*.log"))


def _point_finished(run: Path, log: Path) -> bool:
    """Whether a point's job came to its end, or the notebook that gathers them has since made what was missing."""
    card = run / log.parent.name / "card.json"
    gathered = card.is_file() and card.stat().st_mtime > log.stat().st_mtime
    return gathered or bool(FINISHED.search(log.read_text("utf-8")))


def _failed_point(run: Path, log: Path) -> Page:
    """The page of a point that failed: its log, as the error of the one cell of a notebook."""
    name, lines = f"{log.parent.name}/{log.stem}", log.read_text("utf-8").rstrip().splitlines()
    traced = any(line.startswith("Traceback") for line in lines)
    error = html.without_paths(lines[-1]) if traced else f"Stopped with {UNKNOWN_END}"
    kind, _, value = error.partition(": ")
    output = new_output("error", ename=kind, evalue=value, traceback=lines or [error])
    command = f"python -m visionclip.study point {run.name} {log.stem}"
    cells = [new_markdown_cell(f"# {name}", id="title"), new_code_cell(command, outputs=[output], id="log")]
    return Page(name, name, "", "failed", error, new_notebook(cells=cells))


def _times(run: Path) -> list[Mapping]:
    """When each stage and point that finished did so, and the seconds that it took."""
    points = [FINISHED.search(log.read_text("utf-8")) for log in _point_logs(run)]
    return [
        *(runs.read_json(path) for path in run.glob(f"{STAGE}/card.json")),
        *({"finished": point["finished"], "seconds": float(point["seconds"])} for point in points if point),
    ]


def _read(path: Path) -> NotebookNode:
    """The notebook in ``path`` (nbformat 4).

    Raises:
        ValueError: the file is not a notebook; the message names it.
    """
    try:
        return nbformat.read(path, as_version=4)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, AttributeError) as error:
        raise ValueError(
            f"{runs.relative(path)}: not a readable notebook; delete it and run its stage again"
        ) from error


def heading(notebook: NotebookNode, name: str) -> tuple[str, str]:
    """The title (first heading) and the question (first paragraph below it) of a notebook, as plain text."""
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "markdown" and not _tags(cell) & html.HIDDEN]
    blocks = [block.strip() for source in cells[:2] for block in re.split(r"\n\s*\n|(?<=\n)(?=#)", source)]
    titles = [block.splitlines()[0].lstrip("# ") for block in blocks if block.startswith("#")]
    paragraphs = [
        "\n".join(line for line in block.splitlines() if not line.startswith("#"))
        for block in blocks
        if not block.startswith(("- ", "* ", "|", "```"))
    ]
    paragraphs = [text for text in paragraphs if text.strip()]
    question = next((text for text in paragraphs if "?" in text or "？" in text), next(iter(paragraphs), ""))
    title = re.sub(r"^\d\d\W+", "", html.plain(titles[0])) if titles else name
    return title, re.sub(r"^Question[.:] ", "", html.plain(question))


def failure(notebook: NotebookNode) -> str:
    """Why an executed notebook did not reach its end, as one line; empty if it did.

    Where the kernel dies (out of memory, say) papermill records no error and marks every cell "completed"; only
    the missing execution counts tell.
    """
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                return html.without_paths(strip_ansi(f"{output.ename}: {output.evalue}".strip().splitlines()[0]))
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    unfinished = _unfinished(code)
    return f"Stopped with {len(unfinished)} of {len(code)} code cells not run and {UNKNOWN_END}" if unfinished else ""


def _unfinished(cells: Iterable[NotebookNode]) -> list[NotebookNode]:
    return [cell for cell in cells if cell.source.strip() and cell.execution_count is None]


def _stopped(notebook: NotebookNode) -> list[NotebookNode]:
    """The cell at which a notebook stopped, if it did: that with the error, else the first left unfinished."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    wrong = [cell for cell in code if any(output.output_type == "error" for output in cell.outputs)]
    return (wrong or _unfinished(code))[:1]


def computing_time(times: Iterable[Mapping]) -> float:
    """Seconds in which at least one stage was running: what ran side by side, or within another, counts once.

    ``times`` have ``finished`` (as in a card) and ``seconds``.
    """
    total, until = 0.0, float("-inf")
    ends = [
        (datetime.strptime(one["finished"], "%Y-%m-%d %H:%M:%S %Z").replace(tzinfo=UTC).timestamp(), one["seconds"])
        for one in times
    ]
    for start, end in sorted((end - seconds, end) for end, seconds in ends):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def duration(seconds: float | None) -> str:
    """Seconds as people read them: "4.2 s", "3 min 20 s", "2 h 05 min"."""
    if seconds is None:
        return "–"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def provenance(card: Mapping) -> list[tuple[str, str]]:
    """What made a stage, as rows of (name, value) for people; empty without a card."""
    if not card:
        return []
    states = {True: "with uncommitted changes", False: "clean", None: "state unknown"}
    machine = dict(card.get("machine", {}))
    return [
        ("Commit", f"{card.get('commit', 'unknown')[:10]} ({states[card.get('dirty')]})"),
        ("Seed", str(card.get("seed"))),
        ("Parameters", card.get("parameters_hash", "unknown")),
        ("Lock file", card.get("lock", "unknown")),
        ("Inputs", " · ".join(f"{name} {value}" for name, value in card.get("inputs", {}).items()) or "none"),
        (
            "Machine",
            f"{machine.get('processor', 'unknown')}, {machine.get('cores', '?')} cores, "
            f"{machine.get('system', 'unknown')}, Python {machine.get('python', '?')}",
        ),
        ("Versions", " · ".join(f"{name} {value}" for name, value in card.get("versions", {}).items()) or "unknown"),
        ("Finished", card.get("finished", "unknown")),
        ("Duration", duration(card.get("seconds"))),
    ]


# --- one notebook to one page -------------------------------------------------------------------------------------


def convert(notebook: NotebookNode, frame: Mapping[str, str], files: Iterable[str] = ()) -> str:
    """The page of an executed notebook; see ``html.export``."""
    return html.export(prepare(notebook), frame, files)


def prepare(notebook: NotebookNode) -> NotebookNode:
    """A copy fit to publish: no path of the machine, small figures with alt text, parameters as rows of a table."""
    notebook = nbformat.from_dict(html.conceal(notebook))
    rows = parameters(notebook)
    injected = [cell for cell in notebook.cells if "injected-parameters" in _tags(cell)]
    for cell in _stopped(notebook):
        cell.metadata["failed"] = True
        cell.metadata["tags"] = sorted(_tags(cell) - html.HIDDEN)
    section = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            titles = [line.lstrip("# ") for line in cell.source.splitlines() if re.match(r"#{1,4} ", line)]
            section = html.plain(titles[-1]) if titles else section
        elif cell.cell_type == "code":
            if cell in injected[:1] or (not injected and "parameters" in _tags(cell)):
                cell.metadata["parameters"] = rows
            for output in cell.outputs:
                _prepare_figure(output, cell.metadata.get("alt") or f"Figure: {section or 'output of the cell'}")
    return notebook


def _prepare_figure(output: NotebookNode, alt: str) -> None:
    for kind in ("image/png", "image/jpeg", "image/svg+xml"):
        if kind in output.get("data", {}):
            output.metadata[kind] = {"alt": alt, **output.metadata.get(kind, {})}
    if "image/png" in output.get("data", {}):
        output.data["image/png"] = html.smaller_png(output.data["image/png"])


def _tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def parameters(notebook: NotebookNode) -> list[dict[str, str]]:
    """Rows of name, value, default and meaning from the ``parameters`` cell and the one that papermill injected."""
    declared, injected = (
        [row for cell in notebook.cells if cell.cell_type == "code" and tag in _tags(cell) for row in _rows(cell)]
        for tag in ("parameters", "injected-parameters")
    )
    values = {row["name"]: row["value"] for row in injected}
    known = {row["name"] for row in declared}
    return [{**row, "default": row["value"], "value": values.get(row["name"], row["value"])} for row in declared] + [
        {**row, "default": row["value"]} for row in injected if row["name"] not in known
    ]


def _rows(cell: NotebookNode) -> list[dict[str, str]]:
    """The assignments ``name: type = value  # meaning`` of a cell."""
    lines, rows = cell.source.splitlines(), []
    for node in ast.parse(cell.source).body:
        if not isinstance(node, ast.AnnAssign | ast.Assign) or node.value is None:
            continue
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
        if isinstance(target, ast.Name):
            meaning = lines[int(node.end_lineno or 0) - 1].encode()[node.end_col_offset :].decode().partition("#")[2]
            text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
            value = str(ast.literal_eval(node.value)) if text else ast.unparse(node.value)
            rows.append({"name": target.id, "value": value, "meaning": meaning.strip()})
    return rows
