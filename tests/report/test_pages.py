"""The reports: what a run of any shape becomes, and what never gets into a page."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_markdown_cell, new_notebook

from tiny_run import SAID, SOURCES, build, code, failed, finish, log, notebook, png, shown, study, takeaway
from visionclip import runs
from visionclip.report import cards, overview, pages


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> Path:
    return build(study(tmp_path_factory.mktemp("study")))


def test_the_numbers_of_finished_stages_lie_beside_the_pages(reports):
    numbers = runs.read_json(reports / "numbers.json")
    assert list(numbers) == ["01-synthesis", "02-captions"]
    assert numbers["01-synthesis"]["seconds"] == 90
    assert numbers["01-synthesis"]["headline"][0]["value"] == "0.71 (0.66–0.75)"
    assert numbers["01-synthesis"]["answer"] == SAID.strip()


def test_a_page_opens_with_title_question_answer_and_figure_and_folds_what_made_it(reports):
    page = soup(reports / "01-synthesis.html")
    assert [page.h1.text, page.find(class_="question").text] == [
        "Synthetic eyes",
        "Does a generator that saw only phantoms draw plausible eyes?",
    ]
    assert len(page("h1")) == 1
    opening = page.main.find("section")
    assert opening["id"] == "answer"
    assert opening.p.text == SAID.strip()
    assert opening.img["src"].startswith("data:image/svg+xml")
    assert len(page("img", src=opening.img["src"])) == 1  # not twice
    assert page.find(class_="above").a["href"] == "#answer"
    (fold,) = page("details", class_="fold")
    assert fold.find("table", class_="parameters")
    assert not page.find("table", class_="parameters").find_all_next("img")
    assert "0a1b2c3d4e" in fold.text


def test_every_sentence_with_a_number_on_the_index_is_read_from_the_numbers(tmp_path, monkeypatch):
    monkeypatch.delenv("VISIONCLIP_EXTERNAL", raising=False)  # the strip has a photograph where there is one
    results = [
        {"dataset": "clinic", "task": "referable_dr", "split": "test", "n": 20, "chance_aca": 0.5}
        | {score: {"value": 0.8, "low": 0.7, "high": 0.9} for score in ("auc", "aca")}
    ]
    run = study(tmp_path, failing=False) / "runs" / "cpu"
    finish(run / "04-zero-shot")
    runs.write_json(
        run / "04-zero-shot" / "numbers.json", {"headline": [{"name": "AUC", "value": "8"}]} | {"results": results}
    )
    page, numbers = soup(build(tmp_path) / "index.html"), runs.read_json(tmp_path / "reports/cpu/numbers.json")
    said = {cell.text for cell in page("td", class_="said") if cell.text and not cell.dl}
    assert said == {own["answer"] for own in numbers.values() if own["answer"]}
    shown = {dd.text for dd in page.select(".headline dd")}
    assert shown == {row["value"] for own in numbers.values() if not own["answer"] for row in own["headline"]}
    assert page.select_one(".answer p").text == overview.conclusion(numbers["04-zero-shot"])
    for paragraph in page.main("p"):
        if not paragraph.find_parent(class_="answer") and "total" not in paragraph.get("class", []):
            assert not re.search(r"\d", paragraph.text.replace("04-zero-shot", "")), paragraph.text
    assert [image["alt"] for image in page("img")] == [
        f"Zero-shot {measure} of this run beside cited figures and chance" for measure in ("AUC", "ACA")
    ]


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
        "05-dataset-size--n500-s1.html",
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


def test_index_names_the_failed_first_with_their_last_traceback_line(reports):
    page = soup(reports / "index.html")
    alarm = page.find(class_="alarm")
    assert alarm.find_next("h1")  # the alarm comes before the title
    assert [item.strong.text for item in alarm("li")] == ["03-pretrain", "05-dataset-size/n500-s1"]
    assert all("ValueError: loss is not finite at step 12" in item.text for item in alarm("li"))
    for link in alarm("a"):
        file, _, anchor = link["href"].partition("#")
        traceback = soup(reports / file).find(id=anchor).find(class_="traceback").text
        assert re.search(r"lib/visionclip/training/contrastive\.py.*33", traceback)
        assert "\x1b" not in traceback


def test_a_stage_that_was_not_run_leads_to_its_page_in_other_reports(tmp_path):
    study(tmp_path)
    other = tmp_path / "reports/overnight/04-zero-shot.html"
    other.parent.mkdir(parents=True)
    other.write_text("of another run")
    runs.write_json(other.with_name("numbers.json"), {"04-zero-shot": {"answer": "AUC is 0.7."}})
    rows = soup(build(tmp_path) / "index.html").select(".stages tbody tr")
    said = next(row for row in rows if row.th.text.startswith("04")).select_one(".said").text
    assert said == "Of overnight, another run: AUC is 0.7."
    links = [[link["href"] for link in row.select(".status a")] for row in rows]
    assert links == [["../overnight/04-zero-shot.html"] if row.th.text.startswith("04") else [] for row in rows]


def test_the_page_of_01_says_what_generated_eyes_are_worth(tmp_path):
    run = study(tmp_path, failing=False) / "runs" / "cpu"
    assert "Do they teach" not in soup(build(tmp_path) / "01-synthesis.html").select_one("#answer").text
    rows = [
        {
            "arm": "generated alone",
            "share": 1.0,
            "dataset": name,
            "difference": {"value": value, "low": -0.2, "high": 0.1},
        }
        for name, value in (("mean of the sets", -0.01), ("clinic", -0.04))
    ]
    other = tmp_path / "reports/overnight/06-transfer.html"
    other.parent.mkdir(parents=True)
    other.write_text("of another run")
    runs.write_json(other.with_name("numbers.json"), {"06-transfer": {"generated": rows}})
    said = soup(build(tmp_path) / "01-synthesis.html").select_one("#answer").p.text
    assert said.startswith(SAID.strip())
    assert "Do they teach as drawn eyes do (06 of overnight)? In place of drawn eyes" in said
    assert "generated alone -0.010 [-0.200, +0.100] (worst set clinic, -0.040" in said
    finish(run / "06-transfer")
    runs.write_json(run / "06-transfer/numbers.json", {"headline": [], "generated": rows})
    said = soup(build(tmp_path) / "01-synthesis.html").select_one("#answer").p.text
    assert "as drawn eyes do (06)? In place" in said


def test_a_page_does_not_quote_an_earlier_run(tmp_path):
    prose = new_markdown_cell("## What we saw\n\n- At `cpu`: AUC 0.9.\n- *Try it*: more images.")
    text = pages.prepare(new_notebook(cells=[prose])).cells[0].source
    assert "0.9" not in text
    assert "*Try it*" in text


def test_index_has_question_status_duration_headline_and_total(reports):
    page = soup(reports / "index.html")
    rows = {row.th.contents[0].get_text(): row.get_text(" ") for row in page.select(".stages tbody tr")}
    assert list(rows) == list(SOURCES)
    assert "Does a generator that saw only phantoms draw plausible eyes?" in rows["01-synthesis"]
    assert "finished" in rows["01-synthesis"]
    assert "1 min 30 s" in rows["01-synthesis"]
    assert SAID.strip() in rows["01-synthesis"]
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
    finish(run / "05-dataset-size")
    for path in (run / "logs").rglob("*.*"):
        os.utime(path, (1, 1))
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
    assert pages.failure(new_notebook(cells=cells)).startswith("Stopped with 1 of 2 code cells not run")
    page = BeautifulSoup(pages.convert(new_notebook(cells=cells), {"header": "", "footer": ""}), "html.parser")
    assert page.find(id="failure").find(class_="highlight").text.strip() == "b"
    cells[1].execution_count = 2
    assert pages.failure(new_notebook(cells=cells)) == ""


def test_a_point_that_finished_counts_and_one_that_stopped_without_an_error_is_a_failure(tmp_path):
    run = study(tmp_path, failing=False) / "runs" / "cpu"
    log(run, "n500-s0", "contrastive: 40/40, 6 s\nfinished 2026-11-23 13:00:00 UTC after 120.4 s\n")
    page = soup(build(tmp_path) / "index.html")
    assert not page.select(".alarm")
    assert "5 min 00 s of computing" in page.find(class_="total").text
    log(run, "n500-s1", "contrastive: 20/40, 3 s\n")
    alarm = soup(build(tmp_path) / "index.html").find(class_="alarm")
    assert "05-dataset-size/n500-s1 Stopped with no error recorded" in " ".join(alarm.text.split())
    assert "contrastive: 20/40" in soup(tmp_path / "reports/cpu/05-dataset-size--n500-s1.html").text


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
    html = pages.convert(content, {"header": "", "footer": ""})
    assert "loss is not finite" in html
    assert BeautifulSoup(html, "html.parser").select_one("#failure details.code").has_attr("open")


def test_injected_parameters_stand_in_a_table_with_default_and_meaning(reports):
    rows = soup(reports / "01-synthesis.html").select("table.parameters tbody tr")
    assert [[cell.text for cell in row(["th", "td"])] for row in rows] == [
        ["steps", "1200", "300", "optimiser steps [1..1000000]"],
        ["language", "zh", "", "of the captions [zh|en]"],
    ]
    assert rows[0]["class"] == ["changed"]


def test_every_figure_has_alt_text_its_own_its_caption_or_that_of_its_section(reports):
    page = soup(reports / "01-synthesis.html")
    captions = ["On IDRiD AUC is <b>0.6</b> & less. A circle <is> round.", "Six eyes & more."]
    assert [image["alt"] for image in page("img")] == [*captions, "16 synthetic eyes", "Figure: The objective"]
    assert [caption.text for caption in page("figcaption")] == captions
    assert page.text.count("AUC is") == 1  # not again where the notebook shows it


def test_what_a_picture_shows_stands_before_what_is_drawn_whatever_its_kind_and_however_many_a_cell_has():
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="80" height="40"><circle cx="40" cy="20" r="15"/></svg>'
    pictures = [shown({"image/png": png(32, 32)}), shown({"image/svg+xml": svg}), shown({"image/png": png(48, 32)})]
    table = shown({"text/html": "<p>A table.</p>"})
    outputs = [takeaway("Of none."), pictures[0], takeaway("<One>."), table, pictures[1], takeaway("Two."), pictures[2]]
    content = new_notebook(cells=[new_markdown_cell("## A"), code("draw()", *outputs, caption="Drawn.")])
    page = BeautifulSoup(pages.convert(content, {"header": "", "footer": ""}), "html.parser")
    wanted = ["<One>. Drawn.", "Two. Drawn.", "Drawn."]
    assert [caption.text for caption in page("figcaption")] == [image["alt"] for image in page("img")] == wanted
    assert [page.text.count(text) for text in ("<One>.", "Two.", "A table.", "Of none.")] == [1, 1, 1, 0]


def test_footer_and_neighbours(reports):
    page = soup(reports / "02-captions.html")
    made = page.select_one("details.fold")
    assert not made.find_next_sibling("section")  # last, behind the story
    footer = made.text
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


def test_computing_time_counts_what_ran_side_by_side_once():
    cards = [{"finished": f"2026-01-01 00:{minute:02d}:00 UTC", "seconds": 120.0} for minute in (10, 11, 30)]
    assert pages.computing_time(cards) == 300
    assert pages.computing_time([]) == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (4.23, "4.2 s"), (59.97, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations_read_well(seconds, text):
    assert pages.duration(seconds) == text


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
        pages.build(tmp_path, tmp_path, "cpu")
    (tmp_path / "cpu" / "01-a").mkdir(parents=True)
    (tmp_path / "cpu" / "01-a" / "01-a.ipynb").write_text("{")
    with pytest.raises(ValueError, match=r"01-a\.ipynb: not a readable notebook"):
        pages.build(tmp_path, tmp_path, "cpu")


def test_importing_the_reports_does_not_import_torch():
    source = "import sys, json, visionclip.report.__main__; print(json.dumps('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is False


def test_numbers_have_six_digits_and_keep_their_shape():
    rows = [{"low": 1e-9 / 3, "n": 3, "is": True}]
    whole = {"auc": [0.123456789, 12345678, None], "name": "0.123456789", "rows": rows}
    kept = pages._rounded(whole)
    assert kept == {
        "auc": [0.123457, 12345678, None],
        "name": "0.123456789",
        "rows": [{"low": 3.33333e-10, "n": 3, "is": True}],
    }
    assert kept["rows"][0]["is"] is True
