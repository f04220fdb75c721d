"""Notebooks as HTML that holds no script, loads nothing from elsewhere and names no path of the machine.

Whatever comes from a notebook or a file is escaped or passes an allow-list of tags.
"""

import base64
import io
import re
import tempfile
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import bleach
from bs4 import BeautifulSoup, Tag
from jinja2 import pass_context
from markupsafe import Markup, escape
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from PIL import Image
from traitlets.config import Config

from visionclip import runs

TEMPLATES = Path(__file__).parent / "templates"
HIDDEN = {"hide", "remove", "papermill-error-cell-tag"}  # tags of cells that no page shows
NUMBER = re.compile(r"[-−+±<≤≥>~≈ ]*\.?\d[^A-Za-z]*$|nan$|-$|–$|$", re.IGNORECASE)
# Where a path begins: after no word, unless that is a colour code or a quoted newline.
START = r"(?:(?<![\w.~-])|(?<=\dm)|(?<=\\n))"
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


def export(notebook: NotebookNode, frame: Mapping[str, str], files: Iterable[str] = ()) -> str:
    """A prepared notebook as a page between the ``header`` and ``footer`` of ``frame``, which are HTML already.

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
    return exporter.from_notebook_node(notebook, dict(frame))[0]


def plain(markdown: str) -> str:
    """Markdown as one line of plain text."""
    html = MarkdownWithMath(renderer=_Renderer(escape=True)).render(markdown)
    return " ".join(BeautifulSoup(html, "html.parser").get_text().replace("¶", "").split())


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


def conceal(content: object) -> object:
    """``without_paths`` on every text of a notebook but its encoded images."""
    if isinstance(content, dict):
        return {
            key: value if key in ("image/png", "image/jpeg") and isinstance(value, str) else conceal(value)
            for key, value in content.items()
        }
    if isinstance(content, list):
        return [conceal(value) for value in content]
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
            image.replace_with(str(image.get("alt") or ""))
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
                cells[column]["class"] = " ".join([*cells[column].get_attribute_list("class"), "number"])


def _relink(link: Tag, files: frozenset[str]) -> None:
    target = str(link.get("href", ""))
    page = re.sub(r"\.ipynb(?=#|$)", ".html", target)
    if page.partition("#")[0] in files:
        link["href"] = page
    elif target and not re.match(r"https?:|mailto:|#", target):
        link.unwrap()


def smaller_png(content: str) -> str:
    """A base64 PNG with the same pixels in fewer bytes: no metadata, no needless alpha, a palette if it is exact."""
    image: Image.Image = Image.open(io.BytesIO(base64.b64decode(content)))
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (255, 255):
        image = image.convert("RGB")
    if image.mode == "RGB" and (colours := image.getcolors(256)):
        exact = image.quantize(len(colours), dither=Image.Dither.NONE)
        image = exact if exact.convert("RGB").tobytes() == image.tobytes() else image
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    smaller = base64.b64encode(file.getvalue()).decode()
    return min(smaller, content, key=len)


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
