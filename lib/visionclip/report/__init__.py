"""HTML reports of executed notebooks: ``python -m visionclip.report --preset cpu``.

Every executed notebook of ``runs/<preset>`` becomes ``reports/<preset>/NN-name.html`` beside one shared stylesheet
and an ``index.html``. The pages hold no script, load nothing from elsewhere and name no path of the machine;
whatever comes from a notebook or a file is escaped or passes an allow-list of tags.
"""

import argparse
import ast
import base64
import io
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import bleach
import nbformat
from bs4 import BeautifulSoup, Tag
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from markupsafe import Markup, escape
from nbconvert import HTMLExporter
from nbconvert.filters.ansi import strip_ansi
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from PIL import Image
from traitlets.config import Config

from visionclip import runs
from visionclip.report import cards

TEMPLATES = Path(__file__).parent / "templates"
STUDY = "VisionCLIP: a language–image model of the retina trained without one patient’s photograph"
QUESTION = (
    "Can a language–image model of the retina be trained without one patient’s photograph, and how good, how big "
    "and how safe must the synthetic set be?"
)
HIDDEN = {"hide", "remove", "papermill-error-cell-tag"}
NUMBER = re.compile(r"[-−+±<≤≥>~≈ ]*\.?\d[^A-Za-z]*$|nan$|-$|–$|$", re.IGNORECASE)
# Where a path begins: after no word, unless that is a colour code or a quoted newline.
START = r"(?:(?<![\w.~-])|(?<=\dm)|(?<=\\n))"
STAGE = "[0-9][0-9]-*"
_TAGS = (
    "a abbr b blockquote br caption code col colgroup dd del details div dl dt em figcaption figure h1 h2 h3 h4 h5 h6 "
    "hr i img input kbd li ol p pre q s small span strong sub summary sup table tbody td tfoot th thead tr u ul"
)
_ATTRIBUTES = "alt checked class colspan disabled href id lang rowspan scope src title type"
TAGS, ATTRIBUTES = frozenset(_TAGS.split()), frozenset(_ATTRIBUTES.split())
_SIGNS = """alpha α beta β gamma γ delta δ epsilon ε varepsilon ε zeta ζ eta η theta θ kappa κ lambda λ mu μ nu ν xi ξ
pi π rho ρ sigma σ tau τ phi φ chi χ psi ψ omega ω Gamma Γ Delta Δ Theta Θ Lambda Λ Sigma Σ Phi Φ Psi Ψ Omega Ω ell ℓ
cdot · times × pm ± le ≤ leq ≤ ge ≥ geq ≥ ne ≠ neq ≠ approx ≈ sim ∼ propto ∝ infty ∞ sum ∑ prod ∏ int ∫ sqrt √ partial ∂
nabla ∇ in ∈ notin ∉ subset ⊂ cup ∪ cap ∩ to → rightarrow → mapsto ↦ mid | lVert ‖ rVert ‖ langle ⟨ rangle ⟩ top ⊤
forall ∀ exists ∃ dots … ldots … cdots …"""
SIGNS = dict(zip(_SIGNS.split()[::2], _SIGNS.split()[1::2], strict=True)) | {"left": "", "right": ""}


@dataclass(frozen=True)
class Page:
    """One notebook of a run: a stage, or a failed point of the dataset-size study.

    ``status`` is "finished", "failed" or "not run"; ``error`` is the last line of the traceback of a failed one;
    ``notebook`` is the executed notebook, or None where there is none to show; times are in seconds.
    """

    name: str
    title: str
    question: str
    status: str
    error: str = ""
    notebook: nbformat.NotebookNode | None = None
    card: Mapping = field(default_factory=dict)
    headline: Sequence[Mapping[str, str]] = ()
    seconds: float | None = None

    @property
    def file(self) -> str:
        return self.name.replace("/", "--") + ".html"


def build(
    runs_folder: str | Path, reports_folder: str | Path, preset: str, notebooks_folder: str | Path = "notebooks"
) -> Path:
    """Write the reports of ``<runs_folder>/<preset>`` into ``<reports_folder>/<preset>`` and return the index.

    Works with any subset of the stages: the index names those of ``notebooks_folder`` that were not run.
    Pages of an earlier build whose notebook is gone are removed. Beside the pages stand the run's cards, and
    ``numbers.json`` with every number of the finished stages.

    Raises:
        FileNotFoundError: the run's folder does not exist.
    """
    run, reports = runs.resolve(runs_folder) / preset, runs.resolve(reports_folder) / preset
    if not run.is_dir():
        raise FileNotFoundError(
            f"{runs.relative(run)}: no such run; run the study first with `make study PRESET={preset}`"
        )
    sources = {path.stem: path for path in runs.resolve(notebooks_folder).glob(f"{STAGE}.ipynb")}
    names = sorted(sources.keys() | {path.stem for path in _executed(run)})
    stages = [_stage(run, name, sources.get(name)) for name in names]
    points = [page for page in map(partial(_point, run), _point_logs(run, names)) if page.status == "failed"]
    shown = [page for page in (*stages, *points) if page.notebook]
    filled = cards.fill(run, preset)
    files = {"index.html", *(page.file for page in shown), *(card.file for card in filled)}

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"duration": duration}
    environment.globals["provenance"] = provenance
    with runs.atomic(reports / "style.css") as temporary:
        shutil.copyfile(TEMPLATES / "style.css", temporary)
    for before, page, after in zip([None, *shown], shown, [*shown[1:], None], strict=False):
        module = environment.get_template("page.html.j2").make_module(
            {"page": page, "before": before, "after": after, "preset": preset, "provenance": provenance(page.card)}
        )
        frame = {"header": without_paths(module.header), "footer": without_paths(module.footer)}
        _write(reports / page.file, convert(page.notebook, frame, files))
    for card in filled:
        page = environment.get_template("card.html.j2").render(card=card, preset=preset, by=cards.BY)
        _write(reports / card.file, without_paths(page))
    index = environment.get_template("index.html.j2").render(
        study=STUDY,
        question=QUESTION,
        preset=preset,
        stages=stages,
        cards=filled,
        failed=[page for page in (*stages, *points) if page.status == "failed"],
        total=computing_time(_cards(run)),
        points=len(list(run.glob("*/points/*/*/card.json"))),
        shared=sorted({row for page in stages for row in provenance(page.card) if row[0] in ("Machine", "Versions")}),
    )
    _write(reports / "index.html", without_paths(index))
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


def _executed(run: Path) -> list[Path]:
    return [*run.glob(f"{STAGE}/{STAGE}.ipynb"), *run.glob(f"logs/{STAGE}.ipynb"), *run.glob(f"{STAGE}/")]


def _cards(run: Path) -> list[dict]:
    return [runs.read_json(path) for pattern in (STAGE, "*/points/*/*") for path in run.glob(f"{pattern}/card.json")]


def _point_logs(run: Path, stages: Iterable[str]) -> list[Path]:
    """Executed notebooks below ``logs`` that are not those of the stages themselves."""
    own = {run / "logs" / f"{name}.ipynb" for name in stages}
    return sorted(path for path in (run / "logs").rglob("*.ipynb") if path not in own and path.name[0] != ".")


def _stage(run: Path, name: str, source: Path | None) -> Page:
    return _page(name, run / name, [run / name / f"{name}.ipynb", run / "logs" / f"{name}.ipynb"], source)


def _point(run: Path, log: Path) -> Page:
    """The page of one point of the dataset-size study: ``logs/**/n<size>-s<seed>/<stage>.ipynb``."""
    point, stage = log.parent.name, log.stem
    folder = next(run.glob(f"*/points/{point}/{stage}"), run / "05-dataset-size" / "points" / point / stage)
    return _page(f"{folder.relative_to(run).parts[0]}/{point}/{stage}", folder, [log], None)


def _page(name: str, folder: Path, candidates: Sequence[Path], source: Path | None) -> Page:
    executed = sorted((path for path in candidates if path.is_file()), key=lambda path: path.stat().st_mtime)
    card_file, numbers_file = folder / "card.json", folder / "numbers.json"
    notebook = _read(executed[-1]) if executed else None
    title, question = heading(notebook or (_read(source) if source else nbformat.v4.new_notebook()), name)
    newer = bool(executed) and not (card_file.is_file() and card_file.stat().st_mtime > executed[-1].stat().st_mtime)
    if notebook and newer and (error := failure(notebook)):
        seconds = notebook.metadata.get("papermill", {}).get("duration")
        return Page(name, title, question, "failed", error, notebook, seconds=seconds)
    if not card_file.is_file():
        return Page(name, title, question, "not run")
    card = runs.read_json(card_file)
    headline = runs.read_json(numbers_file).get("headline", []) if numbers_file.is_file() else []
    return Page(name, title, question, "finished", "", notebook, card, headline, card.get("seconds"))


def _read(path: Path) -> nbformat.NotebookNode:
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


def heading(notebook: nbformat.NotebookNode, name: str) -> tuple[str, str]:
    """The title (first heading) and the question (first paragraph below it) of a notebook, as plain text."""
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "markdown" and not _tags(cell) & HIDDEN]
    blocks = [block.strip() for source in cells[:2] for block in re.split(r"\n\s*\n|(?<=\n)(?=#)", source)]
    titles = [block.splitlines()[0].lstrip("# ") for block in blocks if block.startswith("#")]
    paragraphs = [
        "\n".join(line for line in block.splitlines() if not line.startswith("#"))
        for block in blocks
        if not block.startswith(("- ", "* ", "|", "```"))
    ]
    paragraphs = [text for text in paragraphs if text.strip()]
    asked = next((text for text in paragraphs if "?" in text or "？" in text), next(iter(paragraphs), ""))
    title = re.sub(r"^\d\d\W+", "", _plain(titles[0])) if titles else name
    return title, re.sub(r"^Question[.:] ", "", _plain(asked))


def _plain(markdown: str) -> str:
    """Markdown as one line of plain text."""
    html = MarkdownWithMath(renderer=_Renderer(escape=True)).render(markdown)
    return " ".join(BeautifulSoup(html, "html.parser").get_text().replace("¶", "").split())


def failure(notebook: nbformat.NotebookNode) -> str:
    """Why an executed notebook did not reach its end, as one line; empty if it did.

    Where the kernel dies (out of memory, say) papermill records no error and marks every cell "completed"; only
    the missing execution counts tell.
    """
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                return without_paths(strip_ansi(f"{output.ename}: {output.evalue}".strip().splitlines()[0]))
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    unfinished = _unfinished(code)
    if not unfinished:
        return ""
    return (
        f"Stopped with {len(unfinished)} of {len(code)} code cells not run and no error recorded: still running, "
        "interrupted, or the kernel died (often for want of memory)."
    )


def _unfinished(cells: Iterable[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    return [cell for cell in cells if cell.source.strip() and cell.execution_count is None]


def _stopped(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The cell at which a notebook stopped, if it did: that with the error, else the first left unfinished."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    wrong = [cell for cell in code if any(output.output_type == "error" for output in cell.outputs)]
    return (wrong or _unfinished(code))[:1]


def computing_time(cards: Iterable[Mapping]) -> float:
    """Seconds in which at least one stage was running: what ran side by side, or within another, counts once."""
    total, until = 0.0, float("-inf")
    ends = [
        (datetime.strptime(card["finished"], "%Y-%m-%d %H:%M:%S %Z").replace(tzinfo=UTC).timestamp(), card)
        for card in cards
    ]
    for start, end in sorted((end - card["seconds"], end) for end, card in ends):
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
    state = {True: "with uncommitted changes", False: "clean"}.get(card.get("dirty"), "state unknown")
    machine = dict(card.get("machine", {}))
    return [
        ("Commit", f"{card.get('commit', 'unknown')[:10]} ({state})"),
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


def convert(notebook: nbformat.NotebookNode, frame: Mapping[str, str], files: Iterable[str] = ()) -> str:
    """The HTML page of a notebook between the ``header`` and ``footer`` of ``frame``, which are HTML already.

    ``files`` are the names in the reports folder: a link to one of their notebooks is kept, a dead one unlinked.
    """
    config = Config()
    config.TagRemovePreprocessor.enabled = True
    config.TagRemovePreprocessor.remove_cell_tags = HIDDEN
    config.NbConvertBase.display_data_priority = [
        "text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/latex", "text/plain"
    ]  # fmt: skip
    exporter = _Exporter(
        config=config,
        template_name="report",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        extra_template_basedirs=[str(TEMPLATES)],
        filters={"safe_html": partial(safe_html, files=frozenset(files)), "formula": formula},
    )
    return exporter.from_notebook_node(prepare(notebook), dict(frame))[0]


def prepare(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy fit to publish: no path of the machine, small figures with alt text, parameters as rows of a table."""
    notebook = nbformat.from_dict(_conceal(notebook))
    rows = parameters(notebook)
    injected = [cell for cell in notebook.cells if "injected-parameters" in _tags(cell)]
    for cell in _stopped(notebook):
        cell.metadata["failed"] = True
        cell.metadata["tags"] = sorted(_tags(cell) - HIDDEN)
    heard = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            titles = [line.lstrip("# ") for line in cell.source.splitlines() if re.match(r"#{1,4} ", line)]
            heard = _plain(titles[-1]) if titles else heard
        elif cell.cell_type == "code":
            if cell in injected[:1] or (not injected and "parameters" in _tags(cell)):
                cell.metadata["parameters"] = rows
            for output in cell.outputs:
                _prepare_figure(output, cell.metadata.get("alt") or f"Figure: {heard or 'output of the cell'}")
    return notebook


def _prepare_figure(output: nbformat.NotebookNode, alt: str) -> None:
    for kind in ("image/png", "image/jpeg", "image/svg+xml"):
        if kind in output.get("data", {}):
            output.metadata[kind] = {"alt": alt, **output.metadata.get(kind, {})}
    if "image/png" in output.get("data", {}):
        output.data["image/png"] = smaller_png(output.data["image/png"])


def _tags(cell: nbformat.NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def parameters(notebook: nbformat.NotebookNode) -> list[dict[str, str]]:
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


def _rows(cell: nbformat.NotebookNode) -> list[dict[str, str]]:
    """The assignments ``name: type = value  # meaning`` of a cell."""
    lines, rows = cell.source.splitlines(), []
    for node in ast.parse(cell.source).body:
        if not isinstance(node, (ast.AnnAssign, ast.Assign)) or node.value is None:
            continue
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
        if isinstance(target, ast.Name):
            after = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
            constant = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
            value = node.value.value if constant else ast.unparse(node.value)
            rows.append({"name": target.id, "value": value, "meaning": after.partition("#")[2].strip()})
    return rows


def smaller_png(content: str) -> str:
    """A base64 PNG with the same pixels in fewer bytes: no metadata, no needless alpha, a palette if it is exact."""
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    if image.mode == "RGBA" and image.getextrema()[3] == (255, 255):
        image = image.convert("RGB")
    if image.mode == "RGB" and (colours := image.getcolors(256)):
        exact = image.quantize(len(colours), dither=Image.Dither.NONE)
        image = exact if exact.convert("RGB").tobytes() == image.tobytes() else image
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    smaller = base64.b64encode(file.getvalue()).decode()
    return min(smaller, content, key=len)


def without_paths(text: str) -> str:
    """``text`` with paths below the repository made relative, the home folder as ``~``, the temporary one as ``…``."""
    root, home, temporary = str(runs.ROOT), str(Path.home()), tempfile.gettempdir()
    if runs.ROOT.is_relative_to(Path.home()):
        text = text.replace(f"~/{runs.ROOT.relative_to(Path.home()).as_posix()}/", "")
    for folder, name in ((root, "."), (temporary, "…"), (home, "~")):
        if len(folder) > 1:
            inside = "" if folder == root else f"{name}/"
            text = re.sub(rf"{START}{re.escape(folder)}/", inside, text)
            text = re.sub(rf"{START}{re.escape(folder)}(?![\w.-])", name, text)
    return text


def _conceal(content: object) -> object:
    """``without_paths`` on every text of a notebook but its encoded images."""
    if isinstance(content, dict):
        return {
            key: value if key in ("image/png", "image/jpeg") and isinstance(value, str) else _conceal(value)
            for key, value in content.items()
        }
    if isinstance(content, list):
        return [_conceal(value) for value in content]
    return without_paths(content) if isinstance(content, str) else content


def safe_html(html: str, files: frozenset[str] = frozenset()) -> Markup:
    """Only the tags and attributes of the allow-list; other tags show as text, styles and handlers go.

    Images must be embedded. Tables get a box of their own to scroll in. A link to a notebook of the study leads to
    its report if ``files`` has it.
    """
    soup = BeautifulSoup(str(html), "html.parser")
    for style in soup("style"):  # pandas sends one with every table; the stylesheet does its work
        style.decompose()
    clean = bleach.clean(str(soup), tags=TAGS, attributes=_allowed, protocols=("http", "https", "mailto", "data"))
    soup = BeautifulSoup(clean, "html.parser")
    for table in soup("table"):
        _align(table)
        table.wrap(soup.new_tag("div", attrs={"class": "scroll", "tabindex": "0"}))
    for image in soup("img"):
        if not image.get("src"):
            image.replace_with(image.get("alt") or "")
    for link in soup("a"):
        _relink(link, files)
    return Markup(soup)


def _allowed(tag: str, name: str, value: str) -> bool:
    if name == "src":
        return tag == "img" and value.startswith("data:image/")
    if name == "href":
        return tag == "a" and not value.startswith("data:")
    return name in ATTRIBUTES and (tag == "input" or name not in ("type", "checked", "disabled"))


def _align(table: Tag) -> None:
    """Mark the columns of nothing but numbers, heading included, for the stylesheet to set flush right."""
    rows = [row(["td", "th"]) for row in table("tr")]
    body = [cells for cells in rows if any(cell.name == "td" for cell in cells)]
    for column in range(min((len(cells) for cells in rows), default=0)):
        if body and all(NUMBER.match(cells[column].get_text().strip()) for cells in body):
            for cells in rows:
                cells[column]["class"] = [*cells[column].get("class", []), "number"]


def _relink(link: Tag, files: frozenset[str]) -> None:
    target = link.get("href", "")
    page = re.sub(r"\.ipynb(?=#|$)", ".html", target)
    if page.partition("#")[0] in files:
        link["href"] = page
    elif target and not re.match(r"https?:|mailto:|#", target):
        link.unwrap()


class _Renderer(IPythonRenderer):
    """Markdown with formulas as text that reads without a script."""

    def inline_math(self, body: str) -> str:
        return f'<span class="math">{formula(body)}</span>'

    def block_math(self, body: str) -> str:
        return f'<span class="math block">{formula(body)}</span>'


class _Exporter(HTMLExporter):
    @pass_context
    def markdown2html(self, context, source):
        attachments = context.get("cell", {}).get("attachments", {})
        return MarkdownWithMath(renderer=_Renderer(escape=False, attachments=attachments)).render(source)


def formula(tex: str) -> Markup:
    """TeX as HTML that reads without a script: letters and signs, subscripts, superscripts and simple fractions."""
    text = str(escape(tex.strip("$ \n"))).replace("-", "−").replace(r"\\", "<br>")
    text = re.sub(r"\\[,;:!> ]|\\q?quad", " ", text)
    text = re.sub(r"\\(log|exp|max|min|sin|cos)\b", r"\\text{\1}", text)
    text = re.sub(r"\\([A-Za-z]+)", lambda match: SIGNS.get(match[1], match[0]), text)
    text = re.sub(r"([_^])([^{\s\\])", r"\1{\2}", text)
    group = r"\{([^{}]*)\}"
    while re.search(group, text):  # innermost braces first
        before = text
        text = re.sub(rf"_{group}", r"<sub>\1</sub>", text)
        text = re.sub(rf"\^{group}", r"<sup>\1</sup>", text)
        text = re.sub(r"\\[dt]?frac\{(\w*)\}\{(\w*)\}", r"\1∕\2 ", text)
        text = re.sub(rf"\\[dt]?frac{group}{group}", r"(\1) ∕ (\2)", text)
        text = re.sub(rf"\\(?:text|math|operator)\w*{group}", r'<span class="upright">\1</span>', text)
        text = text if text != before else re.sub(group, r"\1", text, count=1)
    return Markup(text)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m visionclip.report", description="Write the HTML reports of a run.")
    parser.add_argument("--preset", required=True, help="the run: a folder of runs/, such as cpu")
    parser.add_argument("--runs", default="runs", help="folder of the runs (default: %(default)s)")
    parser.add_argument("--reports", default="reports", help="folder of the reports (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        print(runs.relative(build(options.runs, options.reports, options.preset)))
    except (FileNotFoundError, ValueError) as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
