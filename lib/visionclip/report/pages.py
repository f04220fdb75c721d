"""Pages of a run: every executed notebook of ``runs/<preset>`` becomes ``reports/<preset>/NN-name.html``.

Beside them stand one stylesheet, an ``index.html``, the cards, and ``numbers.json``.
"""

import ast
import re
import shutil
import time
from calendar import timegm
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nbformat
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from nbconvert.filters.ansi import strip_ansi
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell

from visionclip import conditions, runs
from visionclip.report import cards, figures, html, over_seeds, overview

STAGE = "[0-9][0-9]-*"
FINISHED = re.compile(r"^finished (?P<finished>.+ UTC) after (?P<seconds>[\d.]+) s\n?\Z", re.M)  # ends a point's log
UNKNOWN_END = "no error recorded: still running, interrupted, or killed (often for want of memory)."


@dataclass(frozen=True)
class Page:
    """One notebook of a run, or the log of a point of the dataset-size study that failed.

    ``status`` is "finished", "failed" or "not run"; ``error`` is the last line of the traceback of a failed one;
    ``notebook`` is the executed notebook, or None where there is none to show; ``card`` and ``numbers`` are what a
    finished stage wrote; times are in seconds.
    """

    name: str
    title: str
    question: str
    status: str
    error: str = ""
    notebook: NotebookNode | None = None
    card: Mapping = field(default_factory=dict)
    numbers: Mapping = field(default_factory=dict)
    seconds: float | None = None

    @property
    def file(self) -> str:
        """The name of the file that it becomes."""
        return self.name.replace("/", "--") + ".html"


def build(
    runs_folder: str | Path, reports_folder: str | Path, preset: str, notebooks_folder: str | Path = "notebooks"
) -> Path:
    """Write the reports of ``<runs_folder>/<preset>`` into ``<reports_folder>/<preset>`` and return the index.

    Works with any subset of the stages: the index names those of ``notebooks_folder`` that were not run, and leads to
    their pages in other folders of reports.
    Pages of an earlier build whose notebook is gone are removed.

    Raises:
        FileNotFoundError: the run's folder does not exist.
        ValueError: a notebook can't be read; the message names it.
    """
    run, reports = runs.resolve(runs_folder) / preset, runs.resolve(reports_folder) / preset
    if not run.is_dir():
        missing = f"{runs.relative(run)}: no such run; run the study first with `make study PRESET={preset}`"
        raise FileNotFoundError(missing)
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
    environment.filters |= {
        "duration": duration,
        "uri": html.data_uri,
        "in_words": html.in_words,
        "plain": conditions.plain,
        "width": lambda picture: html.width(*picture),
    }
    environment.globals["provenance"] = provenance
    with runs.atomic(reports / "style.css") as temporary:
        shutil.copyfile(html.TEMPLATES / "style.css", temporary)
    order = [None, *(page for page, _ in shown), None]
    boxes = {page.file: box(notebook) for page, notebook in shown}
    if "01-synthesis.html" in boxes:
        transfer = next((page.numbers for page in stages if page.name == "06-transfer"), {})
        boxes["01-synthesis.html"] = boxes["01-synthesis.html"].with_more(overview.in_place_of_drawn(transfer, reports))
    for (page, notebook), before, after in zip(shown, order, order[2:], strict=False):
        module = environment.get_template("page.html.j2").make_module(
            {"page": page, "before": before, "after": after, "preset": preset, "provenance": provenance(page.card)}
            | {"box": boxes[page.file]}
        )
        frame = {part: html.without_paths(getattr(module, part)) for part in ("header", "footer")}
        _write(reports / page.file, convert(notebook, frame, files, page.question))
    for card in filled:
        text = environment.get_template("card.html.j2").render(card=card, preset=preset, by=cards.BY)
        _write(reports / card.file, html.without_paths(text))
    repeated = over_seeds.rows(run)
    sentences = {page.name: boxes[page.file].sentence for page, _ in shown if page.status == "finished"}
    numbers: dict = {
        page.name: {"seconds": page.seconds, "answer": sentences.get(page.name, ""), **page.numbers}
        for page in stages
        if page.card
    }
    scored = next((page for page in stages if page.name == "04-zero-shot"), None)
    results = scored.numbers.get("results", []) if scored else []
    index = environment.get_template("index.html.j2").render(
        preset=preset,
        stages=stages,
        elsewhere={page.name: overview.elsewhere(reports, page.file) for page in stages if page.status == "not run"},
        answer=overview.conclusion(scored.numbers if scored else {}, repeated),
        cards=filled,
        failed=[page for page in (*stages, *failed_points) if page.status == "failed"],
        total=computing_time(_times(run)),
        points=len(list(run.glob("*/points/*.json"))),
        repeated=repeated,
        numbers=numbers,
        eyes=overview.strip(run, scored.card.get("parameters", {}) if scored else {}),
        comparisons={measure: overview.comparison(results, measure) for measure in ("AUC", "ACA")},
        cited=overview.cited(),
        glossary=overview.glossary(),
        shared=sorted({row for page in stages for row in provenance(page.card) if row[0] in ("Machine", "Versions")}),
    )
    _write(reports / "index.html", html.without_paths(index))
    runs.write_json(reports / "numbers.json", _rounded(numbers | ({"seeds": repeated} if repeated else {})))
    for stale in reports.glob("*.html"):
        if stale.name not in files:
            stale.unlink()
    return reports / "index.html"


def _rounded(value: Any) -> Any:
    """JSON's numbers with six digits, which is more than anything here is known to, and a third of the file less."""
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _write(path: Path, text: str) -> None:
    with runs.atomic(path) as temporary:
        temporary.write_text(text, "utf-8")


# --- what a run left behind ---------------------------------------------------------------------------------------


def _stage(run: Path, name: str, source: Path | None) -> Page:
    """The page of a stage, from whichever of its executed notebook and card is newer."""
    candidates = (run / name / f"{name}.ipynb", run / "logs" / f"{name}.ipynb")
    executed = sorted((path for path in candidates if path.is_file()), key=lambda path: path.stat().st_mtime)
    card_file, numbers_file = (run / name / file for file in ("card.json", "numbers.json"))
    notebook = _read(executed[-1]) if executed else None
    title, question = heading(notebook or (_read(source) if source else new_notebook()), name)
    newer = bool(executed) and not (card_file.is_file() and card_file.stat().st_mtime > executed[-1].stat().st_mtime)
    if notebook and newer and (error := failure(notebook)):
        seconds = notebook.metadata.get("papermill", {}).get("duration")
        return Page(name, title, question, "failed", error, notebook, seconds=seconds)
    if not card_file.is_file():
        return Page(name, title, question, "not run")
    card = runs.read_json(card_file)
    numbers = runs.read_json(numbers_file) if numbers_file.is_file() else {}
    return Page(name, title, question, "finished", "", notebook, card, numbers, card["seconds"])


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
        problem = f"{runs.relative(path)}: not a readable notebook; delete it and run its stage again"
        raise ValueError(problem) from error


def heading(notebook: NotebookNode, name: str) -> tuple[str, str]:
    """The title (first heading) and the question (first paragraph that asks, else the first) as plain text."""
    prose = [cell for cell in notebook.cells if cell.cell_type == "markdown" and not _tags(cell) & html.HIDDEN]
    blocks = [block for cell in prose[:2] for block in html.blocks(cell.source)]
    title = next((re.sub(r"^\d\d\W+", "", text) for tag, text in blocks if tag in html.HEADINGS), name)
    paragraphs = [text for tag, text in blocks if tag == "p"]
    question = next((text for text in paragraphs if re.search("[?？]", text)), next(iter(paragraphs), ""))
    return title, re.sub(r"^Question[.:] ", "", question)


def failure(notebook: NotebookNode) -> str:
    """Why an executed notebook did not reach its end, as one line; empty if it did.

    Where the kernel dies (out of memory, say) papermill records no error and marks every cell "completed"; only
    the missing execution counts tell.
    """
    stopped = _stopped(notebook)
    for error in (output for cell in stopped for output in _errors(cell)):
        return html.without_paths(strip_ansi(f"{error.ename}: {error.evalue}".strip().splitlines()[0]))
    count = sum(cell.cell_type == "code" for cell in notebook.cells)
    return f"Stopped with {len(stopped)} of {count} code cells not run and {UNKNOWN_END}" if stopped else ""


def _stopped(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells at which a notebook stopped, if it did: those with an error, else all that were left unfinished."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    unfinished = [cell for cell in code if cell.source.strip() and cell.execution_count is None]
    return [cell for cell in code if _errors(cell)] or unfinished


def _errors(cell: NotebookNode) -> list[NotebookNode]:
    return [output for output in cell.outputs if output.output_type == "error"]


def computing_time(times: Iterable[Mapping]) -> float:
    """Seconds in which at least one stage was running: what ran side by side, or within another, counts once.

    ``times`` have ``finished`` (as in a card) and ``seconds``.
    """
    total, until = 0.0, float("-inf")
    ends = [(timegm(time.strptime(one["finished"], "%Y-%m-%d %H:%M:%S UTC")), one["seconds"]) for one in times]
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

    def listed(name: str) -> str:
        return " · ".join(f"{key} {value}" for key, value in card[name].items()) or "none"

    return [
        ("Commit", f"{card['commit'][:10]} ({states[card['dirty']]})"),
        ("Seed", str(card["seed"])),
        ("Parameters", card["parameters_hash"]),
        ("Lock file", card["lock"]),
        ("Inputs", listed("inputs")),
        ("Machine", "{processor}, {cores} cores, {system}, Python {python}".format(**card["machine"])),
        ("Versions", listed("versions")),
        ("Finished", card["finished"]),
        ("Duration", duration(card["seconds"])),
    ]


# --- one notebook to one page -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Box:
    """What a page opens with: the sentence that answers its question, and the figure that answers best as (kind, data)
    with its caption, either empty where the notebook did not get so far."""

    sentence: str = ""
    figure: tuple[str, str] | None = None
    caption: str = ""

    def with_more(self, text: str) -> "Box":
        """With a further sentence, where there is one to add to and one to add."""
        return replace(self, sentence=f"{self.sentence} {html.in_words(text)}") if self.sentence and text else self


def box(notebook: NotebookNode) -> Box:
    """The text of the cell tagged ``answer``, in one paragraph, and the first picture of the one tagged ``figure``."""
    outputs = {tag: _outputs(notebook, tag) for tag in ("answer", "figure")}
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs["answer"]]
    pictures = [found for output in outputs["figure"] if (found := _picture(output))]
    sentence = html.in_words(html.without_paths(strip_ansi(" ".join("\n".join(texts).split()))))
    captions = [one for cell in notebook.cells if "figure" in _tags(cell) for one in _captions(cell).values()]
    return Box(sentence, pictures[0] if pictures else None, captions[0] if captions else "")


def _outputs(notebook: NotebookNode, tag: str) -> list[NotebookNode]:
    return [output for cell in notebook.cells if tag in _tags(cell) for output in cell.get("outputs", [])]


def _picture(output: NotebookNode) -> tuple[str, str] | None:
    """The best kind of picture in an output, and its data."""
    data = output.get("data", {})
    return next(((kind, data[kind]) for kind in html.PICTURES if kind in data), None)


def _captions(cell: NotebookNode) -> dict[int, str]:
    """The caption of each picture of a cell, by its place among the outputs: what it shows, if the cell displays that
    beneath it (``figures.captioned``), then what is drawn, which is the same in every run."""
    drawn, captions = cell.metadata.get("caption", ""), {}
    for place, output in enumerate(cell.get("outputs", [])):
        if _picture(output):
            captions[place] = drawn
        elif captions and (shown := figures.takeaway(output)):
            captions[max(captions)] = f"{html.in_words(shown)} {drawn}".strip()
    return captions


def convert(notebook: NotebookNode, frame: Mapping[str, str], files: Iterable[str] = (), question: str = "") -> str:
    """The page of an executed notebook; see ``html.export``."""
    return html.export(prepare(notebook, question), frame, files)


def prepare(notebook: NotebookNode, question: str = "") -> NotebookNode:
    """A copy fit to publish: no path of the machine, small figures with alt text, parameters as rows of a table.

    What its header and its box show is not shown again, and what made it (imports, parameters, checks, saving) comes
    last, behind a mark where the page's fold begins.
    """
    notebook = nbformat.from_dict(html.conceal(notebook))
    for cell in _stopped(notebook)[:1]:
        cell.metadata["failed"] = True
        cell.metadata["tags"] = sorted(_tags(cell) - html.HIDDEN)
    given = notebook.metadata.get("papermill", {}).get("parameters", {})
    section = "output of the cell"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(EARLIER, "", cell.source, flags=re.M)
            section = [section, *(text for tag, text in html.blocks(cell.source) if tag in html.HEADINGS)][-1]
        if "parameters" in _tags(cell):
            cell.metadata["parameters"] = parameters(cell, given)
        for place, caption in _captions(cell).items():
            cell.outputs[place].metadata["caption"] = caption
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if not figures.takeaway(output)]
        for output in cell.get("outputs", []):
            for kind in {"image/svg+xml", *html.PIXELS} & output.get("data", {}).keys():
                alt = cell.metadata.get("alt") or output.metadata.get("caption") or f"Figure: {section}"
                output.metadata[kind] = {"alt": alt, **output.metadata.get(kind, {})}
                if width := html.width(kind, output.data[kind]):
                    output.metadata[kind] = {"width": width, **output.metadata[kind]}
                if kind == "image/png":
                    output.data[kind] = html.smaller_png(output.data[kind])
    for output in [output for output in _outputs(notebook, "figure") if _picture(output)][:1]:
        output.data = nbformat.from_dict({"text/html": '<p class="above"><a href="#answer">Shown on top</a></p>'})
    story, made = _parted(notebook.cells)
    if story and story[0].cell_type == "markdown":
        story[0].source = _without_heading(story[0].source, question)
    notebook.cells = [*story, new_raw_cell("", metadata={"fold": True}, id="fold"), *made]
    return notebook


EARLIER = r"^- At `\w+`.*\n?"  # what a notebook quotes of a committed run, which is not the run of the page
MADE = ("Parameters", "Checks", "Save")  # sections that say how a page was made, not what was found


def _parted(cells: Iterable[NotebookNode]) -> tuple[list[NotebookNode], list[NotebookNode]]:
    """The story, and what made it: code before the first section, and the sections of ``MADE``; but where a notebook
    stopped is part of its story."""
    sections: list[tuple[str, list[NotebookNode]]] = [("", [])]
    for cell in cells:
        headings = [text for tag, text in html.blocks(cell.source) if tag == "h2"] if _is_prose(cell) else []
        if headings:
            sections.append((headings[0], []))
        sections[-1][1].append(cell)
    story: list[NotebookNode] = []
    made: list[NotebookNode] = []
    for title, own in sections:
        stopped = any(cell.metadata.get("failed") for cell in own)
        for cell in own:
            moved = title in MADE or (not title and not _is_prose(cell))
            (made if moved and not stopped else story).append(cell)
    return story, made


def _is_prose(cell: NotebookNode) -> bool:
    return cell.cell_type == "markdown"


def _without_heading(source: str, question: str) -> str:
    """The first cell without what the page's header and the index show: title, question, links to the neighbours, and
    the chain of the study."""
    parts = re.split(r"\n\s*\n", source.strip())
    shown = {"# ", "[V", "``"}

    def again(part: str) -> bool:
        text = " ".join(text for _, text in html.blocks(part))
        return part[:2] in shown or (bool(question) and re.sub(r"^Question[.:] ", "", text) == question)

    return "\n\n".join(part for part in parts if not again(part))


def _tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def parameters(cell: NotebookNode, given: Mapping[str, object]) -> list[dict[str, str]]:
    """Rows of name, value, default and meaning of ``name: type = default  # meaning`` and the values given instead."""
    lines, rows = cell.source.splitlines(), []
    for node in ast.parse(cell.source).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            default = ast.unparse(node.value).strip("'")
            meaning = lines[int(node.end_lineno or 0) - 1].encode()[node.end_col_offset :].decode().partition("#")[2]
            value = str(given.get(node.target.id, default))
            rows.append({"name": node.target.id, "value": value, "default": default, "meaning": meaning.strip()})
    return rows
