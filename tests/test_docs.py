"""What README, CONTRIBUTING and docs/ say of the code is true: links, names, commands, examples, and the floors."""

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import committed
import visionclip
from visionclip import phantom, runs, study
from visionclip.data import tasks

LIBRARY = Path(visionclip.__file__).parent
PAGES = [*runs.ROOT.glob("*.md"), *(runs.ROOT / "docs").rglob("*.md")]
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]  # which also names what there was
README, CONTRIBUTING = ((runs.ROOT / name).read_text("utf-8") for name in ("README.md", "CONTRIBUTING.md"))
TEXTS = [page.read_text("utf-8") for page in (runs.ROOT / "README.md", *sorted(runs.ROOT.glob("docs/*.md")))]
COMMANDS = [runs.ROOT / name for name in ("Makefile", ".pre-commit-config.yaml")]
MAKEFILE = (runs.ROOT / "Makefile").read_text("utf-8")
PIPELINE, RENDER, POINT = "transformers import pipeline", "phantom import render", "model.point("
READ = "your_photograph.read("


def identity(page: Path) -> str:
    return page.relative_to(runs.ROOT).as_posix()


def blocks(language: str) -> list[str]:
    """The fenced examples in a language, of README and of what it leads to."""
    return [block for text in TEXTS for block in re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)]


def example(words: str) -> str:
    """The one Python example with these words."""
    (found,) = [block for block in blocks("python") if words in block]
    return found


def command_lines() -> list[list[str]]:
    """Their shell lines as words, without comments."""
    lines = (line for block in blocks("sh") for line in block.splitlines())
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def table(first: str) -> list[list[str]]:
    """The cells of CONTRIBUTING's table whose header starts with ``first``."""
    body = re.search(rf"^\| {first} \|.*\n\|[-| ]+\n((?:\|.*\n)+)", CONTRIBUTING, re.M)[1]
    return [[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in body.splitlines()]


# --- Names --------------------------------------------------------------------------------------------------------


def module(name: str) -> Path | None:
    """The file of a module or package of the library, by its dotted name."""
    path = LIBRARY.parent.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def defined(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """What the statements of a module or class define or import, by name."""
    names: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {name.id: node for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name: node for alias in node.names}
    return names


def exists(name: str) -> bool:
    """Whether a dotted name is a module of the library, or a thing in one, a class's own things included."""
    parts = name.split(".")
    deepest = max(depth for depth in range(1, len(parts) + 1) if module(".".join(parts[:depth])))
    body, rest = parsed(module(".".join(parts[:deepest]))).body, parts[deepest:]
    for part in rest:
        node = defined(body).get(part)
        if node is None:
            return False
        body = getattr(node, "body", [])
    return True


@pytest.mark.parametrize("page", CURRENT, ids=identity)
def test_every_name_of_the_library_exists(page):
    names = set(re.findall(r"\bvisionclip(?:\.[A-Za-z_]\w*)+", page.read_text("utf-8")))
    assert not sorted(name for name in names if not exists(name))


def test_a_wrong_name_would_be_noticed():
    assert exists("visionclip.data.labelled.LabelledImages.take")
    assert exists("visionclip.phantom.render")
    assert not exists("visionclip.reader")
    assert not exists("visionclip.data.labelled.LabelledImages.taken")


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_every_link_leads_somewhere(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    relative = {target.partition("#")[0] for target in targets if not re.match(r"https?:|mailto:|#", target)}
    assert not sorted(target for target in relative if not (page.parent / target).exists())


# --- Commands -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*CURRENT, *COMMANDS], ids=identity)
def test_every_program_can_be_run(page):
    for name in set(re.findall(r"python -m (visionclip[\w.]*)", page.read_text("utf-8"))):
        path = module(name)
        assert path, name
        path = path.with_name("__main__.py") if path.name == "__init__.py" else path
        assert path.is_file(), name
        assert '__name__ == "__main__"' in path.read_text("utf-8"), name


@pytest.mark.parametrize("page", CURRENT, ids=identity)
def test_every_target_of_make_and_every_preset_exists(page):
    text = page.read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.M))
    assert set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", text, re.M)) <= targets
    assert set(re.findall(r"\bpreset=([\w-]+)", text, re.I)) <= set(study.presets())


def test_the_shell_lines_name_what_there_is():
    notebooks = [words for words in command_lines() if words[0] == "papermill"]
    assert len(notebooks) == 3
    assert notebooks[0][1] == "--help-notebook"
    for words in notebooks:
        (path,) = [word for word in words if word.startswith("notebooks/")]
        declared = study.declared(runs.ROOT / path)
        for place, word in enumerate(words):
            if word == "-f":
                study.check(runs.ROOT / path, yaml.safe_load((runs.ROOT / words[place + 1]).read_text()), "README")
            if word == "-p":
                declared[words[place + 1]].read(words[place + 2], "README")
    (pytest_line,) = [words for words in command_lines() if words[0] == "pytest"]
    assert all((runs.ROOT / word).exists() for word in pytest_line if "/" in word or word == "notebooks")


def test_folders_that_are_named_are_there():
    for name in re.findall(r"--profile (\S+?)[ `]", (runs.ROOT / "docs/cluster.md").read_text("utf-8")):
        assert (runs.ROOT / name).is_dir(), name
    (row,) = re.findall(r"^\| `lib/visionclip/` \|(.*)$", README, re.M)
    for name in re.findall(r"`([\w/]+)`", row):
        assert (LIBRARY / name).is_dir() if name.endswith("/") else module(f"visionclip.{name}"), name


# --- Examples -----------------------------------------------------------------------------------------------------


def test_every_python_example_is_tried_here():
    assert len(blocks("python")) == 4
    assert len({example(PIPELINE), example(RENDER), example(POINT), example(READ)}) == 4


def test_the_example_of_reading_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").symlink_to(runs.ROOT / "weights")
    drawn = phantom.render({"dr_grade": 4}, np.random.default_rng(0), size=384)
    Image.fromarray(drawn.image).save(tmp_path / "eye.jpg")
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    exec(example(READ), {})
    assert "diabetic retinopathy" in capsys.readouterr().out


def test_the_example_of_a_phantom_runs():
    namespace: dict = {}
    exec(example(RENDER), namespace)
    eye = namespace["eye"]
    assert (eye.image.shape, eye.image.dtype) == ((256, 256, 3), np.uint8)
    assert eye.masks["cup"].any()
    assert eye.parameters["cup_to_disc"] == 0.8


def save_model(folder: Path, name: str, **sizes: int) -> None:
    """A small model below ``folder``, in the place that an example names, and an ``eye.jpg``."""
    import torch

    from visionclip.models import visionclip as model
    from visionclip.text.tokenizer import train_tokenizer

    torch.manual_seed(0)
    tokenizer = train_tokenizer([], folder / "tokenizer")
    network = model.VisionCLIP(model.sized(8, 1, 64, 16, len(tokenizer), **sizes))
    model.save(network, tokenizer, 32, folder / name)
    Image.fromarray(np.random.default_rng(0).integers(40, 200, (64, 80, 3), np.uint8)).save(folder / "eye.jpg")


def test_the_example_of_pointing_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path, re.search(r'from_pretrained\("([^"]+)"', example(POINT))[1], pyramid_size=8)
    namespace: dict = {}
    exec(example(POINT), namespace)
    assert namespace["maps"].shape == (1, 2, 8, 8)


@pytest.mark.slow
def test_the_example_of_the_pipeline_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = example(PIPELINE).splitlines()
    save_model(tmp_path, re.search(r'model="([^"]+)"', example(PIPELINE))[1])
    lines[-1] = f"scores = {lines[-1]}"
    namespace: dict = {}
    exec("\n".join(lines), namespace)
    assert {score["label"] for score in namespace["scores"]} == {"疑似青光眼", "未见青光眼"}
    assert sum(score["score"] for score in namespace["scores"]) == pytest.approx(1)


def test_the_example_of_a_dataset_is_a_plan(tmp_path):
    (block,) = [block for block in blocks("yaml") if "tasks:" in block]
    (tmp_path / "tasks.yaml").write_text(block, "utf-8")
    plan = tasks.load_plan(tmp_path / "tasks.yaml")
    assert [task.name for task in plan.tasks] == ["glaucoma"]
    assert plan.columns == ["split", "label"]


def test_the_example_of_a_tower_is_of_parameters_that_there_are():
    (block,) = [block for block in blocks("yaml") if block.startswith("tower:")]
    given, declared = yaml.safe_load(block), study.declared("03-pretrain")
    assert set(given) == {"tower", "lock"}
    for name, value in given.items():
        declared[name].read(value, "docs")


# --- The house ----------------------------------------------------------------------------------------------------


def test_the_map_shows_every_floor_of_the_house():
    floors = ast.literal_eval(defined(parsed(runs.ROOT / "tests" / "test_floors.py").body)["FLOORS"].value)
    shown = {int(row[0]): set(re.findall(r"`visionclip\.(\w+)`", row[1])) for row in table("floor")}
    assert shown == {number: set(names) for number, names in enumerate(floors)}


@pytest.mark.parametrize("row", table("to add a"), ids=lambda row: row[0].split(" (")[0])
def test_what_is_to_be_touched_is_there(row):
    _, touched, held = row
    paths = re.findall(r"`([\w./*-]+\.(?:py|yaml|ipynb)|tests/[\w./]+)`(?: \(`(\w+)`)?", f"{touched} {held}")
    if touched.startswith("no code"):
        return
    assert paths
    for path, name in paths:
        if re.search(r"\bNN\b|NAME|stages/name", path):
            continue
        own = (LIBRARY, runs.ROOT)[path.split("/")[0] in ("tests", "notebooks", "params", "profiles", "docs")] / path
        assert own.exists(), path
        if name and own.suffix == ".py":
            assert name in defined(parsed(own).body), f"{path}: {name}"


def test_the_losses_that_a_notebook_allows_are_those_that_there_are():
    objectives = defined(parsed(module("visionclip.models.losses")).body)["OBJECTIVES"].value
    assert study.declared("03-pretrain")["loss"].choices == tuple(key.value for key in objectives.keys)


def test_citation_and_changelog_know_the_version():
    citation = yaml.safe_load((runs.ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "license"} <= citation.keys()
    assert all({"type", "title", "authors"} <= one.keys() for one in citation["references"])
    assert citation["version"] == visionclip.__version__
    assert f"## [{visionclip.__version__}]" in (runs.ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_first_page_of_the_reports_leads_to_every_committed_folder():
    page = (runs.ROOT / "reports/index.html").read_text("utf-8")
    links = re.findall(r'href="([^"#:]+)"', page)
    assert all((runs.ROOT / "reports" / link).is_file() for link in links)
    earlier = [name for name, folder in committed.FOLDERS.items() if folder == committed.ABLATIONS]
    assert {f"{committed.ABLATIONS}/{name}.html" for name in earlier} <= {*links}
    assert {f"{folder}/index.html" for folder in (committed.CPU, committed.OVERNIGHT)} <= {*links}
    assert (runs.ROOT / ".nojekyll").is_file(), "GitHub Pages serves the folder as it is"
