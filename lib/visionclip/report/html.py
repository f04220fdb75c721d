"""Notebooks as HTML that holds no script, loads nothing from elsewhere and names no path of the machine.

Whatever comes from a notebook or a file is escaped or passes an allow-list of tags.
"""

import base64
import io
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import bleach
from bs4 import BeautifulSoup, Tag
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from jinja2 import pass_context
from markupsafe import Markup, escape
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from PIL import Image
from traitlets.config import Config

from visionclip import conditions, runs
from visionclip.data.published import PUBLISHED

TEMPLATES = Path(__file__).parent / "templates"
HIDDEN = {"hide", "remove", "papermill-error-cell-tag"}  # tags of cells that no page shows
HEADINGS = ("h1", "h2", "h3", "h4")
PIXELS = ("image/png", "image/jpeg")
PICTURES = ("image/svg+xml", *PIXELS)  # the best first
WEBP_QUALITY = 82  # less than half the bytes of JPEG of 85, see docs/decisions.md
COORDINATES = r'\s(?:d|x|y|x1|x2|y1|y2|cx|cy|points|width|height)="[^"]*"|translate\([^)]*\)'
DIGITS = r"-?\d+\.\d{3,}"  # of a number in SVG that are more than are seen
NARROW = 3  # columns that a phone has room for
SCREEN = 96  # CSS pixels an inch
WORDS = (
    5  # of a cell at most in which names are replaced: longer ones are sentences, in which they are names of columns
)
# What stands for a condition, finding or task in a table: a whole cell, or a word of a short one.
KEY = re.compile(r"(?<![\w./])[a-z]+(?:_[a-z0-9]+)+(?:>=\d)?(?![\w/]|\.\w)|(?<![\w./])[a-z]+>=\d")
# Sets by the names of their folders, as words of a sentence or a cell, and as their owners write them; a part of
# ODIR-5K is there for development.
SETS = {one.folder: one.name for one in PUBLISHED}
SETS |= {"odir_dev": "ODIR-dev", "odir dev": "ODIR-dev", "heimed": "HEI-MED"}
SET = re.compile(rf"(?<![\w./-])({'|'.join(sorted(SETS, key=len, reverse=True))})(?![\w/-]|\.\w)")
# Kinds of output that a page shows, the best first.
SHOWN = ["text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/latex", "text/plain"]
NUMBER = re.compile(r"[-−+±<≤≥>~≈ ]*\.?\d[^A-Za-z]*$|nan$|-$|–$|$", re.IGNORECASE)
# Where a path begins: after no word, unless that is a colour code or a quoted newline.
START = r"(?:(?<![\w.~-])|(?<=\dm)|(?<=\\n))"
_TAGS = (
    "a abbr b blockquote br caption code col colgroup dd del details div dl dt em figcaption figure h1 h2 h3 h4 h5 h6 "
    "hr i img input kbd li ol p pre q s small span strong sub summary sup table tbody td tfoot th thead tr u ul "
    "math menclose mfrac mi mn mo mover mphantom mpadded mroot mrow mspace msqrt mstyle msub msubsup msup mtable mtd "
    "mtext mtr munder munderover"
)
_ATTRIBUTES = (
    "alt checked class colspan disabled href id lang rowspan scope src title type "
    "accent columnalign display displaystyle linethickness mathvariant movablelimits scriptlevel stretchy width"
)
TAGS, ATTRIBUTES = frozenset(_TAGS.split()), frozenset(_ATTRIBUTES.split())


class _Renderer(IPythonRenderer):
    """Markdown with formulas that read without a script."""

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
    exporter = _Exporter(
        config=Config(
            TagRemovePreprocessor={"enabled": True, "remove_cell_tags": HIDDEN},
            NbConvertBase={"display_data_priority": SHOWN},
        ),
        template_name="report",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        extra_template_basedirs=[str(TEMPLATES)],
        filters={"safe_html": partial(safe_html, files=frozenset(files)), "formula": formula, "uri": data_uri},
    )
    return exporter.from_notebook_node(notebook, dict(frame))[0]


def blocks(markdown: str) -> list[tuple[str, str]]:
    """The blocks of markdown outside all others (``h1``, ``p``, ``ul`` ...), each with its text in one line."""
    html = MarkdownWithMath(renderer=_Renderer(escape=True)).render(markdown)
    tags = BeautifulSoup(html, "html.parser").find_all(recursive=False)
    return [(tag.name, " ".join(tag.get_text().replace("¶", "").split())) for tag in tags]


def without_paths(text: str) -> str:
    """``text`` with paths below the repository made relative, the home folder as ``~``, the temporary one and that of
    the environment as ``…``."""
    root, home, temporary = str(runs.ROOT), str(Path.home()), tempfile.gettempdir()
    if runs.ROOT.is_relative_to(Path.home()):
        text = text.replace(f"~/{runs.ROOT.relative_to(Path.home()).as_posix()}/", "")
    for folder, name in ((root, "."), (sys.prefix, "…"), (temporary, "…"), (home, "~")):
        if len(folder) > 1:
            inside = "" if folder == root else f"{name}/"
            text = re.sub(rf"{START}{re.escape(folder)}/", inside, text)
            text = re.sub(rf"{START}{re.escape(folder)}(?![\w.-])", name, text)
    return text


def conceal(content: object) -> object:
    """``without_paths`` on every text of a notebook but its encoded images."""
    if isinstance(content, dict):
        return {
            key: value if key in PIXELS and isinstance(value, str) else conceal(value) for key, value in content.items()
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
        _name(table)
        _align(table)
        _stack(table)
        table.wrap(soup.new_tag("div", attrs={"class": "scroll", "tabindex": "0"}))
    for image in soup("img"):
        if not image.get("src"):
            image.replace_with(str(image.get("alt") or ""))
    for link in soup("a"):
        target = str(link.get("href", ""))
        page = re.sub(r"\.ipynb(?=#|$)", ".html", target)
        if page.partition("#")[0] in files:
            link["href"] = page
        elif target and not re.match(r"https?:|mailto:|#", target):
            link.unwrap()
    return Markup(soup)


def _allowed(tag: str, name: str, value: str) -> bool:
    if name == "src":
        return tag == "img" and value.startswith("data:image/")
    if name == "href":
        return tag == "a" and not value.startswith("data:")
    return name in ATTRIBUTES and (tag == "input" or name not in ("type", "checked", "disabled"))


def in_words(text: str) -> str:
    """A sentence with the plain names of the conditions, findings, tasks and sets that are words of it."""
    return KEY.sub(lambda match: conditions.plain(match[0]), SET.sub(lambda match: SETS[match[0]], text))


def _name(table: Tag) -> None:
    """Conditions, findings and tasks by their plain names (``conditions.plain``)."""
    for text in [text for cell in table(["td", "th"]) for text in cell.find_all(string=True)]:
        if text.find_parent("code"):
            continue
        whole = str(text).strip()
        known = re.split(r">=| \d", whole)[0] in {*conditions.FACTS, *conditions.FINDINGS, *conditions.PLAIN}
        if len(whole.split()) > WORDS:
            continue
        named = conditions.plain(whole) if known else in_words(str(text))
        if named != str(text):
            text.replace_with(named)


def _align(table: Tag) -> None:
    """Mark the columns of nothing but numbers, heading included, for the stylesheet to set flush right."""
    rows = [row(["td", "th"]) for row in table("tr")]
    body = [cells for cells in rows if any(cell.name == "td" for cell in cells)]
    for column in range(min((len(cells) for cells in rows), default=0)):
        if body and all(NUMBER.match(cells[column].get_text().strip()) for cells in body):
            for cells in rows:
                cells[column]["class"] = " ".join([*cells[column].get_attribute_list("class"), "number"])


def _stack(table: Tag) -> None:
    """Give each cell of a table that is too wide for a phone its column's title, for the stylesheet to show there."""
    rows = [row(["td", "th"]) for row in table("tr")]
    if (
        not rows
        or len(rows[0]) <= NARROW
        or any(len(cells) != len(rows[0]) for cells in rows)
        or rows[0][-1].name == "td"
    ):
        return
    if any(cells[-1].name == "th" for cells in rows[1:]):  # more than one row of titles
        return
    table["class"] = " ".join([*(table.get("class") or []), "stack"])
    for cells in rows[1:]:
        for title, cell in zip(rows[0], cells, strict=True):
            cell["data-title"] = title.get_text().strip()


def data_uri(picture: tuple[str, str]) -> str:
    """A picture (kind, data) as an address that holds it, in fewer bytes than a notebook's: JPEG as WebP, SVG with as
    many digits as are seen."""
    kind, data = picture
    if kind == "image/svg+xml":
        return f"data:{kind};base64,{base64.b64encode(smaller_svg(data).encode()).decode()}"
    if kind == "image/jpeg":
        return f"data:image/webp;base64,{_webp(data)}"
    return f"data:{kind};base64,{data.replace(chr(10), '')}"


def _webp(jpeg: str) -> str:
    file = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(jpeg))).save(file, "WEBP", quality=WEBP_QUALITY, method=6)
    return base64.b64encode(file.getvalue()).decode()


def smaller_svg(svg: str) -> str:
    """The same drawing with coordinates to a hundredth of a point; what scales others keeps its digits."""
    return re.sub(COORDINATES, lambda found: re.sub(DIGITS, _hundredth, found[0]), svg)


def _hundredth(number: re.Match) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def width(kind: str, data: str) -> int | None:
    """The width in CSS pixels at which a picture has the size it was drawn for; None where it doesn't say."""
    if kind not in PIXELS:
        return None
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    dpi = image.info.get("dpi", (SCREEN,))[0]
    return round(image.width * SCREEN / float(dpi)) if dpi > SCREEN else None


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
    """TeX as MathML, which a browser sets without a script; what is no TeX stays as it was written."""
    try:
        return Markup(tex2mathml(tex.strip("$ \n")))
    except MathError:
        return escape(tex)
