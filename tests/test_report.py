"""The reports: what a run of any shape becomes, and what never gets into a page."""

import base64
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from visionclip import report, runs
from visionclip.report import cards

SOURCES = {
    "01-synthesis": "# 01 · Synthetic eyes\n\nDoes a generator that saw only phantoms draw *plausible* eyes?",
    "02-captions": "# 02 · Captions in Chinese\n\nDo the sentences say what the eye shows, and nothing else?",
    "03-pretrain": "# 03 · Pretraining\n\nDoes contrast alone teach the towers what an eye shows?",
    "04-zero-shot": "# 04 · Zero-shot on real photographs\n\n**Question.** Does it transfer?",
    "05-dataset-size": "# 05 · How much synthetic data is enough?\n\nWhere does the curve flatten?",
}
TRACEBACK = [
    "\x1b[31m---------------------------------------------------------------------------\x1b[39m",
    "\x1b[31mValueError\x1b[39m                                Traceback (most recent call last)",
    f"File \x1b[32m{runs.ROOT}/lib/visionclip/pretrain.py:33\x1b[39m, in train(steps)\n     32 loss = 1",
    "\x1b[31mValueError\x1b[39m: loss is not finite at step 12: <script>alert(1)</script>",
]


def png(width: int = 640, height: int = 360, transparent: bool = False) -> str:
    """A base64 PNG: a smooth image with more colours than a palette holds."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x % 256, y % 256, (x + y) // 4 % 256, np.full_like(x, 128 if transparent else 255)], -1)
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG", compress_level=1)
    return base64.b64encode(file.getvalue()).decode()


def shown(data: dict, **metadata) -> nbformat.NotebookNode:
    return new_output("display_data", data=data, metadata=metadata)


def code(source: str, *outputs, tags: tuple[str, ...] = (), count: int | None = 1) -> nbformat.NotebookNode:
    return new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags)}, execution_count=count)


def frame(columns: int) -> nbformat.NotebookNode:
    table = pd.DataFrame(
        np.arange(4 * columns).reshape(4, columns) / 7, columns=[f"measure {n}" for n in range(columns)]
    )
    table.insert(0, "condition", ["<script>alert(2)</script>", "糖尿病视网膜病变", "glaucoma", "no disease"])
    return shown({"text/html": table.to_html(), "text/plain": repr(table)})


def notebook(name: str) -> nbformat.NotebookNode:
    """An executed notebook with what real ones hold: figures, narrow and wide tables, Chinese text, formulas, noise."""
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="80" height="40"><circle cx="40" cy="20" r="15"/></svg>'
    return new_notebook(
        metadata={"language_info": {"name": "python"}},
        cells=[
            new_markdown_cell(SOURCES[name]),
            new_markdown_cell("- read the seed images\n- train the generator, see [captions](02-captions.ipynb)"),
            code("import visionclip\nfrom pathlib import Path  # 路径"),
            code(
                'steps: int = 300  # optimiser steps [1..1000000]\nlanguage: str = "zh"  # of the captions [zh|en]',
                tags=("parameters",),
            ),
            code("# Parameters\nsteps = 1200\n", tags=("injected-parameters",)),
            new_markdown_cell(
                "## The objective\n\nThe loss is $\\mathcal{L} = -\\frac{1}{N}\\sum_i \\log p_{ii}$ here."
            ),
            code(
                "show(samples)",
                shown({"image/png": png(), "text/plain": "<Figure>"}),
                new_output("stream", name="stderr", text="UserWarning: slow\n"),
                new_output("stream", name="stdout", text=f"saved {runs.ROOT}/runs/cpu/01-synthesis\n"),
            ),
            code("show(grid)", shown({"image/png": png(1600, 500)}, **{"image/png": {"alt": "16 synthetic eyes"}})),
            code("show(circle)", shown({"image/svg+xml": svg})),
            new_markdown_cell("## 结果\n\n左眼，重度非增殖期糖尿病视网膜病变，伴黄斑水肿。<script>alert(3)</script>"),
            code("table", frame(3)),
            code("wide", frame(24)),
            code("secret()", new_output("stream", name="stdout", text="hidden output"), tags=("hide",)),
            code(
                "raw",
                shown({"text/html": '<b onclick="x()">bold</b><script>alert(4)</script><img src="http://x.y/z">'}),
            ),
        ],
    )


def failed(source: nbformat.NotebookNode) -> nbformat.NotebookNode:
    error = new_output("error", ename="ValueError", evalue=TRACEBACK[-1].partition(": ")[2], traceback=TRACEBACK)
    source.cells = [*source.cells[:6], code("train(steps)", error, count=5), code("evaluate()", count=None)]
    return source


def write(path: Path, content: nbformat.NotebookNode) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(content, path)
    return path


def finish(folder: Path, minute: int = 0, **card) -> None:
    """A finished stage's card and numbers, taking 90 s until 12:``minute`` + 1:30."""
    runs.write_json(folder / "numbers.json", {"headline": [{"name": "AUC, any DR", "value": "0.71 (0.66–0.75)"}]})
    content = {
        "stage": folder.name,
        "parameters": {"steps": 1200, "language": "zh", "seed": 3},
        "parameters_hash": "0123456789ab",
        "seed": 3,
        "inputs": {"runs/cpu/01-synthesis": "ba9876543210"},
        "commit": "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567",
        "dirty": True,
        "lock": "feedfacecafe",
        "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
        "machine": {"processor": "A processor", "cores": 2, "system": "Linux x86_64", "python": "3.11.9"},
        "finished": f"2026-11-23 12:{minute + 1:02d}:30 UTC",
        "seconds": 90.0,
    }
    runs.write_json(folder / "card.json", content | card)


def study(folder: Path, failing: bool = True) -> Path:
    """A fake run "cpu" below ``folder``: two stages finished, one failed, one point failed, the rest not run."""
    for name, source in SOURCES.items():
        write(folder / "notebooks" / f"{name}.ipynb", new_notebook(cells=[new_markdown_cell(source)]))
    run = folder / "runs" / "cpu"
    for minute, name in enumerate(("01-synthesis", "02-captions")):
        write(run / name / f"{name}.ipynb", notebook(name))
        finish(run / name, 10 * minute)
    if failing:
        write(run / "logs" / "03-pretrain.ipynb", failed(notebook("03-pretrain")))
        write(run / "logs" / "05-points" / "n500-s1" / "03-pretrain.ipynb", failed(notebook("03-pretrain")))
    return folder


def build(folder: Path) -> Path:
    return report.build(folder / "runs", folder / "reports", "cpu", folder / "notebooks").parent


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> Path:
    return build(study(tmp_path_factory.mktemp("study")))


def test_the_numbers_of_finished_stages_lie_beside_the_pages(reports):
    numbers = runs.read_json(reports / "numbers.json")
    assert list(numbers) == ["01-synthesis", "02-captions"]
    assert numbers["01-synthesis"]["seconds"] == 90
    assert numbers["01-synthesis"]["headline"][0]["value"] == "0.71 (0.66–0.75)"


def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text("utf-8"), "html.parser")


def test_one_page_per_executed_notebook_beside_index_and_stylesheet(reports):
    assert {path.name for path in reports.iterdir()} == {
        "index.html",
        "style.css",
        "numbers.json",
        "01-synthesis.html",
        "02-captions.html",
        "03-pretrain.html",
        "05-dataset-size--n500-s1--03-pretrain.html",
        *(f"{name}.html" for name in cards.NAMES),
    }


def test_pages_hold_no_script_and_load_nothing_from_elsewhere(reports):
    for path in reports.glob("*.html"):
        page = soup(path)
        assert not page("script")
        assert not page("iframe")
        assert [link["href"] for link in page("link", rel="stylesheet")] == ["style.css"]
        assert all(tag["src"].startswith("data:image/") for tag in page.select("[src]"))
        assert not [name for tag in page.find_all() for name in tag.attrs if name.startswith("on") or name == "style"]
        assert page.html["lang"] == "en"
        assert page.title.text
        assert page.find("meta", attrs={"name": "viewport"})
    assert not re.search(r"url\(|@import", (reports / "style.css").read_text("utf-8"))


def test_markup_in_a_condition_a_message_or_an_output_is_shown_as_text(reports):
    text = soup(reports / "01-synthesis.html").get_text()
    assert all(f"<script>alert({number})</script>" in text for number in (2, 3, 4))
    assert "<script>alert(1)</script>" in soup(reports / "index.html").get_text()


def test_no_page_names_a_folder_of_the_machine(reports):
    for path in reports.glob("*.html"):
        text = path.read_text("utf-8")
        assert str(runs.ROOT) not in text
        assert str(reports.parent) not in text
    assert "saved runs/cpu/01-synthesis" in (reports / "01-synthesis.html").read_text("utf-8")


def test_home_and_temporary_folders_are_shortened_and_look_alikes_stay(monkeypatch):
    monkeypatch.setattr(report.Path, "home", lambda: Path("/home/ada"))
    monkeypatch.setattr(report.tempfile, "gettempdir", lambda: "/scratch")
    root = runs.ROOT
    text = f"/home/ada/x /home/adam/x /scratch/k.py a/scratch/b {root} {root}/lib/a.py \x1b[32m{root}/b\x1b[0m"
    expected = "~/x /home/adam/x …/k.py a/scratch/b . lib/a.py \x1b[32mb\x1b[0m"
    assert report.without_paths(text) == expected


def test_index_names_the_failed_first_with_their_last_traceback_line(reports):
    page = soup(reports / "index.html")
    alarm = page.find(class_="alarm")
    assert alarm.find_next("h1")  # the alarm comes before the title
    assert [item.strong.text for item in alarm("li")] == ["03-pretrain", "05-dataset-size/n500-s1/03-pretrain"]
    assert all("ValueError: loss is not finite at step 12" in item.text for item in alarm("li"))
    for link in alarm("a"):
        file, _, anchor = link["href"].partition("#")
        traceback = soup(reports / file).find(id=anchor).find(class_="traceback").text
        assert "lib/visionclip/pretrain.py:33" in traceback
        assert "\x1b" not in traceback


def test_index_has_question_status_duration_headline_and_total(reports):
    page = soup(reports / "index.html")
    rows = {row.th.contents[0].get_text(): row.get_text(" ") for row in page.select(".stages tbody tr")}
    assert list(rows) == list(SOURCES)
    assert "Does a generator that saw only phantoms draw plausible eyes?" in rows["01-synthesis"]
    assert "finished" in rows["01-synthesis"]
    assert "1 min 30 s" in rows["01-synthesis"]
    assert "0.71 (0.66–0.75)" in rows["01-synthesis"]
    assert "failed" in rows["03-pretrain"]
    assert "not run" in rows["04-zero-shot"]
    assert page.select(".stages tbody tr")[3].td.text == "Does it transfer?"
    assert "3 min 00 s of computing" in page.find(class_="total").text
    assert "Not for clinical use" in page.get_text()
    assert "0a1b2c3d4e (with uncommitted changes)" in page.find(class_="made").text


def test_without_failure_there_is_no_alarm(tmp_path):
    assert not soup(build(study(tmp_path, failing=False)) / "index.html").select(".alarm")


def test_a_card_newer_than_the_failed_log_wins(tmp_path):
    run = study(tmp_path) / "runs" / "cpu"
    finish(run / "03-pretrain")
    finish(run / "05-dataset-size" / "points" / "n500-s1" / "03-pretrain")
    for log in (run / "logs").rglob("*.ipynb"):
        os.utime(log, (1, 1))
    page = soup(build(tmp_path) / "index.html")
    assert not page.select(".alarm")
    assert "finished" in page.select(".stages tbody tr")[2].text


def test_a_failed_log_newer_than_the_card_is_a_failure(tmp_path):
    run = study(tmp_path) / "runs" / "cpu"
    finish(run / "03-pretrain")
    os.utime(run / "03-pretrain" / "card.json", (1, 1))
    assert "03-pretrain" in soup(build(tmp_path) / "index.html").find(class_="alarm").text


def test_a_kernel_that_died_without_an_error_is_a_failure():
    cells = [code("a"), code("b", count=None)]
    for cell in cells:  # what papermill writes then
        cell.metadata["papermill"] = {"status": "completed", "exception": False}
    assert report.failure(new_notebook(cells=cells)).startswith("Stopped with 1 of 2 code cells not run")
    page = BeautifulSoup(report.convert(new_notebook(cells=cells), {"header": "", "footer": ""}), "html.parser")
    assert page.find(id="failure").find(class_="highlight").text.strip() == "b"
    cells[1].execution_count = 2
    assert report.failure(new_notebook(cells=cells)) == ""


def test_code_and_messages_are_folded_and_hidden_cells_are_gone(reports):
    page = soup(reports / "01-synthesis.html")
    folded = page.select("details.code")
    assert "show(samples)" in " ".join(details.text for details in folded)
    assert not any(details.has_attr("open") for details in page("details"))
    assert "UserWarning: slow" in page.select_one("details.messages").text
    assert "hidden output" not in page.text
    assert "secret()" not in page.text


def test_a_failing_cell_is_shown_even_if_tagged_hide(tmp_path):
    content = failed(notebook("01-synthesis"))
    content.cells[6].metadata["tags"] = ["hide"]
    html = report.convert(content, {"header": "", "footer": ""})
    assert "loss is not finite" in html
    assert BeautifulSoup(html, "html.parser").select_one("#failure details.code").has_attr("open")


def test_injected_parameters_stand_in_a_table_with_default_and_meaning(reports):
    rows = soup(reports / "01-synthesis.html").select("table.parameters tbody tr")
    assert [[cell.text for cell in row(["th", "td"])] for row in rows] == [
        ["steps", "1200", "300", "optimiser steps [1..1000000]"],
        ["language", "zh", "", "of the captions [zh|en]"],
    ]
    assert rows[0]["class"] == ["changed"]


def test_every_figure_has_alt_text_its_own_or_that_of_its_section(reports):
    alts = [image["alt"] for image in soup(reports / "01-synthesis.html")("img")]
    assert alts[:3] == ["Figure: The objective", "16 synthetic eyes", "Figure: The objective"]


def test_figures_keep_every_pixel_and_shrink():
    for content in (png(), png(transparent=True)):
        smaller = report.smaller_png(content)
        before, after = (Image.open(io.BytesIO(base64.b64decode(text))).convert("RGBA") for text in (content, smaller))
        assert len(smaller) < len(content)
        assert before.tobytes() == after.tobytes()


def test_a_figure_of_few_colours_becomes_an_exact_palette():
    pixels = np.random.default_rng(0).integers(0, 2, (90, 90, 1), dtype=np.uint8) * np.array([200, 30, 90], np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    image = Image.open(io.BytesIO(base64.b64decode(report.smaller_png(base64.b64encode(file.getvalue()).decode()))))
    assert image.mode == "P"
    assert np.array_equal(np.asarray(image.convert("RGB")), pixels)


def test_footer_and_neighbours(reports):
    page = soup(reports / "02-captions.html")
    footer = page.find("footer").text
    for text in (
        "0a1b2c3d4e",
        "0123456789ab",
        "feedfacecafe",
        "A processor",
        "torch 2.13.0",
        "ba9876543210",
        "12:11:30",
    ):
        assert text in footer
    assert page.find("a", rel="prev")["href"] == "01-synthesis.html"
    assert page.find("a", rel="next")["href"] == "03-pretrain.html"
    assert soup(reports / "01-synthesis.html").find("a", string="captions")["href"] == "02-captions.html"


def test_columns_of_numbers_are_marked_with_their_heading():
    table = pd.DataFrame({"set": ["A", "B"], "AUC (95 % CI)": ["0.71 (0.66–0.75)", "–"], "n": [-1, 20]})
    cells = BeautifulSoup(report.safe_html(table.to_html(index=False)), "html.parser")(["th", "td"])
    marked = [cell.text for cell in cells if "number" in cell.get("class", [])]
    assert marked == ["AUC (95 % CI)", "n", "0.71 (0.66–0.75)", "-1", "–", "20"]


@pytest.mark.parametrize(
    ("tex", "html"),
    [
        (r"\tau \le 0.5", "τ ≤ 0.5"),
        (r"x_{ij}^2", "x<sub>ij</sub><sup>2</sup>"),
        (
            r"-\frac{1}{N}\sum_{i=1}^{N} \log p_i",
            '−1∕N ∑<sub>i=1</sub><sup>N</sup> <span class="upright">log</span> p<sub>i</sub>',
        ),
        (r"\frac{a+b}{2}", "(a+b) ∕ (2)"),
        (r"\mathcal{L}_{\text{clip}}", '<span class="upright">L</span><sub><span class="upright">clip</span></sub>'),
        (r"a < b", "a &lt; b"),
        (r"\unknown{x}", r"\unknownx"),
    ],
)
def test_a_formula_reads_without_a_script(tex, html):
    assert report.formula(tex) == html


def test_computing_time_counts_what_ran_side_by_side_once():
    cards = [{"finished": f"2026-01-01 00:{minute:02d}:00 UTC", "seconds": 120.0} for minute in (10, 11, 30)]
    assert report.computing_time(cards) == 300
    assert report.computing_time([]) == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (4.23, "4.2 s"), (59.97, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations_read_well(seconds, text):
    assert report.duration(seconds) == text


def test_a_page_whose_notebook_is_gone_is_removed_and_an_identical_run_gives_identical_pages(tmp_path):
    reports = build(study(tmp_path))
    before = (reports / "01-synthesis.html").read_bytes()
    (tmp_path / "runs/cpu/logs/03-pretrain.ipynb").unlink()
    build(tmp_path)
    assert not (reports / "03-pretrain.html").exists()
    assert (reports / "01-synthesis.html").read_bytes() == before
    assert not list(reports.glob(".*"))


def test_a_missing_run_and_a_broken_notebook_are_one_clear_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such run"):
        report.build(tmp_path, tmp_path, "cpu")
    (tmp_path / "cpu" / "01-a").mkdir(parents=True)
    (tmp_path / "cpu" / "01-a" / "01-a.ipynb").write_text("{")
    with pytest.raises(ValueError, match=r"01-a\.ipynb: not a readable notebook"):
        report.build(tmp_path, tmp_path, "cpu")


def test_importing_the_reports_does_not_import_torch():
    source = "import sys, json, visionclip.report; print(json.dumps('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is False
