"""House rules of the notebooks and of the presets, and that the check of their outputs does catch a change."""

import ast
import os
import re
import shutil
import statistics
import subprocess
import sys

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from nbformat.v4 import new_output

import committed
import tiny
from visionclip import runs, study
from visionclip.evaluation.intervals import Interval
from visionclip.stages import transfer
from visionclip.study.notebooks import normalise

NAMES, PRESETS = study.notebook_names(), study.presets()
FILES = [f"{preset}/{path.stem}" for preset in PRESETS for path in sorted((runs.ROOT / "params" / preset).glob("*"))]
LOCAL_PATH = re.compile(r"(?<![\w.:/])/(home|root|Users|tmp|work|mnt|data|opt|usr|var)/")


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(runs.ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def code_cells(name: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


def body(cell: nbformat.NotebookNode) -> list[ast.stmt]:
    return ast.parse(re.sub(r"(?m)^[%!].*$", "", cell.source)).body


def test_the_study_has_its_notebooks():
    assert list(tiny.PARAMETERS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_committed_in_order_and_whole(name):
    cells = code_cells(name)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(bool(cell.outputs) for cell in cells) >= len(cells) // 3
    for cell in cells:
        assert not [output for output in cell.outputs if output.output_type == "error"]


@pytest.mark.parametrize("name", NAMES)
def test_outputs_name_no_path_of_a_machine_and_hold_no_warning(name):
    for cell in code_cells(name):
        for output in cell.outputs:
            texts = [output.get("text", ""), *map(str, output.get("data", {}).values())]
            assert not [text for text in texts if LOCAL_PATH.search(text[:20000])]
            assert output.get("name") != "stderr", output.get("text")


@pytest.mark.parametrize("name", NAMES)
def test_metadata_is_normalised(name, tmp_path):
    path = runs.ROOT / "notebooks" / f"{name}.ipynb"
    shutil.copy(path, tmp_path)
    normalise(tmp_path / path.name)
    assert (tmp_path / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_cells_are_short_and_define_nothing(name):
    cells = code_cells(name)
    lengths = [len(cell.source.splitlines()) for cell in cells]
    assert statistics.median(lengths) <= 6
    assert sum(length <= 15 for length in lengths) >= 0.9 * len(lengths)
    assert max(lengths) <= 25
    defined = [node.name for cell in cells for node in body(cell) if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    assert not defined


def is_code(text: str) -> bool:
    try:
        return any(isinstance(part, ast.Assign | ast.AugAssign | ast.Call) for part in ast.walk(ast.parse(text)))
    except SyntaxError:
        return False


@pytest.mark.parametrize("name", NAMES)
def test_prose_holds_no_code(name):
    assert is_code("of_task = datasets[1:]\nprint(of_task)")
    assert not is_code("## The answer")
    assert [cell.source for cell in read(name).cells if cell.cell_type == "markdown" and is_code(cell.source)] == []


@pytest.mark.parametrize("name", NAMES)
def test_it_opens_with_its_question_imports_and_parameters_and_ends_by_saving(name):
    cells = read(name).cells
    opening = cells[0]
    assert opening.cell_type == "markdown"
    assert opening.source.startswith("# ")
    assert "?" in opening.source
    imports, parameters, checked, *rest = code_cells(name)
    assert all(isinstance(node, ast.Import | ast.ImportFrom) for node in body(imports))
    assert "parameters" in parameters.metadata.tags
    assert f'study.parameters(globals(), "{name}")' in checked.source
    assert any(isinstance(node, ast.Assert) for cell in rest for node in body(cell))
    assert any(".finish(" in cell.source for cell in rest[-2:])
    assert sum(cell.cell_type == "markdown" for cell in cells) >= len(rest) // 3


@pytest.mark.parametrize("name", NAMES)
def test_the_first_cell_has_title_links_question_and_what_is_done(name):
    title, links, chain, question, done = read(name).cells[0].source.split("\n\n")
    assert re.fullmatch(rf"# {name[:2]} · \S.*", title)
    assert links.startswith("[VisionCLIP](https://arxiv.org/abs/2403.10823) · ")
    place = NAMES.index(name)
    beside = [NAMES[other] for other in (place - 1, place + 1) if 0 <= other < len(NAMES)]
    linked = re.findall(r"\((\S+)\)", links)[1:]
    assert linked == [*(f"{other}.ipynb" for other in beside), f"../reports/{committed.FOLDERS[name]}/{name}.html"]
    (here,) = set(re.findall(r"\[(\d\d) [^\]]+\]", chain))  # the chain of the study, and where one is in it
    assert here == name[:2]
    assert re.fullmatch(r"\*\*Question\.\*\* [^?]+\?.*", question)
    assert all(line.startswith("- ") for line in done.splitlines())


@pytest.mark.parametrize("name", NAMES)
def test_one_cell_draws_the_figure_and_the_answer_is_printed(name):
    figures, answers = (
        [cell for cell in code_cells(name) if tag in cell.metadata.get("tags", [])] for tag in ("figure", "answer")
    )
    assert len(figures) == 1
    assert figures[0].outputs
    assert answers
    for cell in answers:
        assert any(output.get("text", "").strip() for output in cell.outputs)


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_has_a_caption(name):
    for cell in code_cells(name):
        drawn = any("image/png" in output.get("data", {}) for output in cell.outputs) or "figures." in cell.source
        if drawn and not cell.source.startswith("import"):
            assert cell.metadata.get("caption", "").endswith("."), cell.source


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_the_committed_run_saw_and_asks_for_one_exercise(name):
    size = dict.fromkeys((committed.CPU, committed.ABLATIONS), "At `cpu`") | {committed.OVERNIGHT: "At `overnight`"}
    size[committed.ABLATIONS] += ", which has left this out since"
    (cell,) = [cell for cell in read(name).cells if cell.source.startswith("## What we saw, and an exercise")]
    _, saw, exercise = re.split(r"\n+- ", cell.source)
    assert saw == f"{size[committed.FOLDERS[name]]}: {committed.numbers(name)['answer']}"
    assert exercise.startswith("*Try it*: ")


@pytest.mark.parametrize("name", NAMES)
def test_a_table_has_at_most_eight_columns(name):
    for output in (output for cell in code_cells(name) for output in cell.outputs):
        for row in BeautifulSoup(output.get("data", {}).get("text/html", ""), "html.parser")("tr"):
            assert len(row(["td", "th"])) <= 8, row.get_text(" ")


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_a_meaning_and_every_number_its_limits(name):
    found = study.declared(name)
    assert "out" in found
    for parameter in found.values():
        assert parameter.meaning, parameter.name
        if parameter.type.removeprefix("list[").removesuffix("]") in ("int", "float"):
            assert parameter.allowed, parameter.name


def test_every_preset_has_a_valid_file_for_every_notebook_and_no_other_but_cpu_leaves_the_ablations_out():
    assert sorted(path.name for path in (runs.ROOT / "params").iterdir()) == PRESETS
    for preset in PRESETS:
        left_out = ("05", "06", "08") if preset == "cpu" else ()
        assert list(study.preset(f"params/{preset}")) == [name for name in NAMES if name[:2] not in left_out]


@pytest.mark.parametrize("file", FILES)
def test_a_preset_opens_with_its_command_its_cost_and_the_figure_to_reach(file):
    text = (runs.ROOT / "params" / f"{file}.yaml").read_text("utf-8")
    head = re.match(r"(#.*\n)+", text)[0].lower()
    preset = file.split("/")[0]
    assert ("make study" if preset == "cpu" else f"make study preset={preset}") in head
    assert "cost" in head
    assert "reach" in head


@pytest.mark.parametrize("name", NAMES)
def test_the_smoke_preset_is_the_defaults_of_the_notebooks(name):
    given = yaml.safe_load((runs.ROOT / f"params/smoke/{name}.yaml").read_text("utf-8")) or {}
    assert vars(study.check(name, given, "smoke")) == vars(study.check(name, {}, "defaults"))


def test_nbval_passes_a_true_output_and_fails_an_altered_one(tmp_path):
    """The check of the committed outputs, as `make nbval` runs it, can fail; times and pictures may differ."""
    shutil.copy(runs.ROOT / "conftest.py", tmp_path)
    shutil.copy(runs.ROOT / "tests/nbval-sanitize.cfg", tmp_path)
    source = (
        'import sys, os\nhidden = [os.getenv(f"VISIONCLIP_{name}") for name in ("EXTERNAL", "MARKS")]\n'
        'print(2 + 2, "in 3.1 s", *hidden)\nprint("noise", file=sys.stderr)'
    )
    for name, printed in (("true", "4 in 9.9 s None None\n"), ("altered", "5 in 9.9 s None None\n")):
        notebook = tiny.notebook("01-synthesis")
        del notebook.cells[2:]
        notebook.cells[1].update(source=source, execution_count=1, outputs=[new_output("stream", text=printed)])
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-sanitize-with", "nbval-sanitize.cfg"]
    environment = {**os.environ, "VISIONCLIP_EXTERNAL": "/photographs", "VISIONCLIP_MARKS": "/marks"}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "1 failed, 1 passed" in result.stdout, result.stdout
    assert "FAILED altered.ipynb::Cell 0" in result.stdout, result.stdout


def test_the_departures_from_the_paper_quote_06():
    found = {row["arm"]: row for row in committed.numbers("06-transfer")["arms"] if row["task"] == transfer.ALL}
    (text,) = [cell.source for cell in read("03-pretrain").cells if cell.source.startswith("## Where this departs")]
    rows = re.findall(r"^\| .+ \| .+ \| (\*.+\*) \| (.+) \|$", text, re.M)
    assert len(rows) > 5
    for arms, quoted in rows:
        of_arms = [found[arm.strip("* ")]["against"]["difference"] for arm in arms.split(",")]
        assert quoted == "; ".join(f"{Interval.of(one):+.3f}" for one in of_arms), arms
