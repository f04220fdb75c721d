"""What notebooks hold as HTML: safe, readable without a script, small."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from tiny_run import png
from visionclip import runs
from visionclip.report import html


def test_home_and_temporary_folders_are_shortened_and_look_alikes_stay(monkeypatch):
    monkeypatch.setattr(html.Path, "home", lambda: Path("/home/ada"))
    monkeypatch.setattr(html.tempfile, "gettempdir", lambda: "/scratch")
    monkeypatch.setattr(html.sys, "prefix", "/env")
    root = runs.ROOT
    text = f"/home/ada/x /home/adam/x /scratch/k.py /env/x a/scratch/b {root} {root}/lib/a.py \x1b[32m{root}/b\x1b[0m"
    expected = "~/x /home/adam/x …/k.py …/x a/scratch/b . lib/a.py \x1b[32mb\x1b[0m"
    assert html.without_paths(text) == expected


def test_figures_keep_every_pixel_and_shrink():
    for content in (png(), png(transparent=True)):
        smaller = html.smaller_png(content)
        before, after = (Image.open(io.BytesIO(base64.b64decode(text))).convert("RGBA") for text in (content, smaller))
        assert len(smaller) < len(content)
        assert before.tobytes() == after.tobytes()


def test_a_figure_of_few_colours_becomes_an_exact_palette():
    pixels = np.random.default_rng(0).integers(0, 2, (90, 90, 1), dtype=np.uint8) * np.array([200, 30, 90], np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    image = Image.open(io.BytesIO(base64.b64decode(html.smaller_png(base64.b64encode(file.getvalue()).decode()))))
    assert image.mode == "P"
    assert np.array_equal(np.asarray(image.convert("RGB")), pixels)


def test_columns_of_numbers_are_marked_with_their_heading():
    table = pd.DataFrame({"set": ["A", "B"], "AUC (95 % CI)": ["0.71 (0.66–0.75)", "–"], "n": [-1, 20]})
    cells = BeautifulSoup(html.safe_html(table.to_html(index=False)), "html.parser")(["th", "td"])
    marked = [cell.text for cell in cells if "number" in cell.get("class", [])]
    assert marked == ["AUC (95 % CI)", "n", "0.71 (0.66–0.75)", "-1", "–", "20"]


def test_tables_have_plain_names_and_code_stays():
    table = pd.DataFrame({"condition": ["dr_grade>=1", "gc", "clinic: referable_dr"], "file": ["a/b_c.csv", "", "x"]})
    table.loc[3] = ["file, split and dr_grade as a column", ""]
    html_of = table.to_html(index=False).replace("<td>x</td>", "<td><code>referable_dr</code></td>")
    cells = [cell.text for cell in BeautifulSoup(html.safe_html(html_of), "html.parser")("td")]
    assert cells == [
        *("mild retinopathy or worse", "a/b_c.csv", "glaucoma", ""),
        *("clinic: referable retinopathy", "referable_dr"),
        *("file, split and dr_grade as a column", ""),
    ]


def test_cells_of_wide_tables_say_their_column():
    wide = pd.DataFrame({"a": [1], "b": [2], "c": [3], "d": [4]})
    page = BeautifulSoup(html.safe_html(wide.to_html(index=False)), "html.parser")
    assert "stack" in page.table["class"]
    assert [cell["data-title"] for cell in page("td")] == ["a", "b", "c", "d"]
    assert "stack" not in BeautifulSoup(html.safe_html(wide[["a"]].to_html()), "html.parser").table["class"]


def test_a_picture_is_shown_at_the_size_it_was_drawn_for():
    file = io.BytesIO()
    Image.new("RGB", (400, 10)).save(file, "JPEG", dpi=(200, 200))
    data = base64.b64encode(file.getvalue()).decode()
    assert html.width("image/jpeg", data) == 192
    assert html.width("image/png", png()) is None
    assert html.width("image/svg+xml", "<svg/>") is None
    assert html.data_uri(("image/svg+xml", "<svg/>")) == "data:image/svg+xml;base64,PHN2Zy8+"


def test_pictures_of_a_page_are_smaller_and_look_the_same():
    y, x = np.mgrid[0:120, 0:160]
    pixels = np.stack([x, y, (x + y) // 2], -1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    jpeg = base64.b64encode(file.getvalue()).decode()
    kind, shown = html.data_uri(("image/jpeg", jpeg)).split(";base64,")
    assert kind == "data:image/webp"
    assert len(shown) < 0.7 * len(jpeg)
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown))).convert("RGB"))
    assert np.abs(seen.astype(int) - pixels).mean() < 3


def test_drawings_lose_the_digits_that_nobody_sees():
    drawn = '<g transform="translate(12.345678 -0.001) scale(0.015625)"><path d="M 1.500000 -2.125000 L 3 0.125"/></g>'
    fewer = '<g transform="translate(12.35 -0) scale(0.015625)"><path d="M 1.5 -2.12 L 3 0.12"/></g>'
    assert html.smaller_svg(drawn) == fewer
    written = '<text x="{}">1.23456 of d="1.23456</text>'
    assert html.smaller_svg(written.format("1.239")) == written.format("1.24")


@pytest.mark.parametrize(
    ("tex", "expected"),
    [
        (r"\tau \le 0.5", "<mi>τ</mi><mo>≤</mo><mn>0.5</mn>"),
        (r"x_{ij}^2", "<msubsup><mi>x</mi><mrow><mi>i</mi><mi>j</mi></mrow><mn>2</mn></msubsup>"),
        (r"-\frac{1}{N}", "<mo>−</mo><mfrac><mn>1</mn><mi>N</mi></mfrac>"),
        (r"\mathcal{L}_{\text{clip}}", "<msub><mi>ℒ</mi><mtext>clip</mtext></msub>"),
        (r"a < b", "<mi>a</mi><mo>&lt;</mo><mi>b</mi>"),
    ],
)
def test_a_formula_reads_without_a_script(tex, expected):
    shown = re.sub(r"\n *", "", html.safe_html(html.formula(f"$${tex}$$\n")))
    assert shown == f"<math>{expected}</math>"


def test_what_is_no_tex_is_shown_as_text():
    assert html.formula(r"\unknown{<x>}") == r"\unknown{&lt;x&gt;}"


def test_a_sentence_has_plain_names():
    said = html.in_words("clinic referable_dr (test), AUC 0.8 of gc>=1 at /data/odir_dev")
    assert said == "clinic referable retinopathy (test), AUC 0.8 of glaucoma at /data/odir_dev"
    assert html.in_words("idrid and odir_dev, palm (val); not palms") == "IDRiD and ODIR-dev, PALM (val); not palms"
    assert (
        html.in_words("dme of idrid. No idrid.csv, referable_dr.")
        == "dme of IDRiD. No idrid.csv, referable retinopathy."
    )
