"""The Snakefile: it builds for every preset, refuses mistakes in one line, and reruns only what changed."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys

import pytest

import tiny
from visionclip import runs, study
from visionclip.stages.sweep import Sweep

REPORT = """
import sys
from pathlib import Path
preset = sys.argv[2]
page = Path(f"reports/{preset}/index.html")
page.parent.mkdir(parents=True, exist_ok=True)
page.write_text(" ".join(sorted(path.name for path in Path(f"runs/{preset}").rglob("*.ipynb"))))
"""


def snakemake(folder, *arguments, **environment) -> subprocess.CompletedProcess:
    """Run Snakemake in ``folder`` on the library that lies there."""
    variables = {name: value for name, value in os.environ.items() if name != "VISIONCLIP_EXTERNAL"}
    variables |= {"PYTHONPATH": str(folder / "lib"), **environment}
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


def planned(folder, *arguments, **environment) -> dict[str, int]:
    """How many jobs of each rule a dry run announces; ``all`` only names what is wanted."""
    result = snakemake(folder, "--dry-run", *arguments, **environment)
    assert result.returncode == 0, result.stderr
    counts = dict(re.findall(r"^(\w+) +(\d+)$", result.stdout + result.stderr, re.M))
    return {rule: int(count) for rule, count in counts.items() if rule not in ("all", "total")}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The graph and the library with tiny notebooks, and a report that only lists the notebooks it finds."""
    root = tiny.study(tmp_path_factory.mktemp("study"))
    for name in ("Snakefile", "pyproject.toml"):
        shutil.copy(runs.ROOT / name, root)
    shutil.copytree(runs.ROOT / "profiles", root / "profiles")
    shutil.copytree(runs.ROOT / "lib" / "visionclip", root / "lib" / "visionclip")
    (root / "lib/visionclip/report.py").write_text(REPORT)
    return root


@pytest.fixture(scope="module")
def finished(copy):
    """``copy`` after its whole smoke study."""
    result = snakemake(copy, "--config", "preset=smoke")
    assert result.returncode == 0, result.stderr
    return copy


@pytest.mark.parametrize("preset", tiny.PRESETS)
def test_every_preset_of_the_study_builds_a_graph(preset):
    result = snakemake(runs.ROOT, "--dry-run", "--forceall", "--config", f"preset={preset}")
    assert result.returncode == 0, result.stderr
    asked = study.preset(f"params/{preset}")["05-dataset-size"]
    points = len(Sweep(asked.sizes, asked.seeds, asked.schedules, asked.updates).folders)
    assert re.search(rf"^point_zero_shot +{points}$", result.stdout + result.stderr, re.M)


@pytest.mark.skipif(
    not importlib.util.find_spec("snakemake_executor_plugin_slurm"), reason="the slurm extra is not installed"
)
def test_slurm_profile_gives_every_gpu_stage_its_resources(copy):
    result = snakemake(copy, "--dry-run", "--profile", "profiles/slurm", "--cores", "512", "--config", "preset=paper")
    assert result.returncode == 0, result.stderr
    jobs = dict(re.findall(r"rule (\w+):\n(.*?)(?=\n\S|\Z)", result.stdout + result.stderr, re.S))
    for rule in (
        "synthesis",
        "pretrain",
        "zero_shot",
        "point_pretrain",
        "point_zero_shot",
        "transfer",
        "reading",
        "diversity",
    ):
        assert re.search(r"gpu=[1-9]", jobs[rule]), rule
        assert "runtime=60," not in jobs[rule], rule
    assert "threads: 32" in jobs["pretrain"]


def test_committed_reports_do_not_pass_for_a_finished_study(copy):
    page = copy / "reports/cpu/index.html"
    page.parent.mkdir(parents=True)
    page.write_text("as it comes with a clone")
    jobs = planned(copy, "--config", "preset=cpu")
    shutil.rmtree(page.parent)
    assert {"synthesis", "captions", "pretrain", "zero_shot", "dataset_size", "transfer", "reading", "report"} <= set(
        jobs
    )


def test_a_finished_study_is_not_run_again(finished):
    again = snakemake(finished, "--config", "preset=smoke")
    assert "Nothing to be done" in again.stdout + again.stderr


def test_executed_notebooks_lie_in_their_stages_and_logs(finished):
    for name in tiny.PARAMETERS:
        assert (finished / f"runs/smoke/{name}/{name}.ipynb").is_file()
        assert (finished / f"runs/smoke/logs/{name}.ipynb").is_file()
    point = finished / "runs/smoke/05-dataset-size/points/n2-s0"
    card = runs.read_json(point / "03-pretrain/card.json")
    assert card["parameters"]["images"] == 2
    assert card["parameters"]["learning_rate"] == 0.001
    assert (point / "04-zero-shot/04-zero-shot.ipynb").is_file()
    assert (finished / "runs/smoke/logs/n2-s0/03-pretrain.ipynb").is_file()


def test_a_change_that_no_stage_depends_on_reruns_nothing(finished):
    library = finished / "lib/visionclip/losses.py"
    library.write_text(library.read_text() + "\n# changed\n")
    (finished / "notebooks/04-zero-shot.ipynb").touch()
    (finished / "params/smoke/02-captions.yaml").touch()
    assert planned(finished, "--config", "preset=smoke") == {}


def test_other_photographs_rerun_only_the_stages_that_look_at_them(finished):
    jobs = planned(finished, "--config", "preset=smoke", VISIONCLIP_EXTERNAL="/photographs")
    assert set(jobs) == {"zero_shot", "point_zero_shot", "dataset_size", "transfer", "reading", "report"}


def test_a_new_dataset_in_the_folder_of_photographs_reruns_the_stages_that_look_at_it(finished):
    published = finished / "data/external/FIVES"  # an archive as its owner packs it has no labels.csv
    published.mkdir(parents=True)
    jobs = planned(finished, "--config", "preset=smoke")
    shutil.rmtree(published)
    assert set(jobs) == {"zero_shot", "point_zero_shot", "dataset_size", "transfer", "reading", "report"}


def test_a_new_size_runs_only_its_own_points(finished):
    file = finished / "params/smoke/05-dataset-size.yaml"
    before = file.read_text()
    file.write_text(before + "sizes: [2, 3]\n")
    jobs = planned(finished, "--config", "preset=smoke")
    file.write_text(before)
    assert jobs == {"point_pretrain": 1, "point_zero_shot": 1, "dataset_size": 1, "report": 1}


def test_a_failed_notebook_keeps_its_log_and_is_reported(finished):
    notebook = finished / "notebooks/05-dataset-size.ipynb"
    notebook.write_text(notebook.read_text().replace("stage.finish(", "stage.fail("))
    (finished / "reports/smoke/index.html").unlink()
    result = snakemake(finished, "--config", "preset=smoke")
    assert result.returncode != 0
    assert "has no attribute 'fail'" in (finished / "runs/smoke/logs/05-dataset-size.ipynb").read_text()
    assert not (finished / "runs/smoke/05-dataset-size/05-dataset-size.ipynb").exists()
    assert "05-dataset-size.ipynb" in (finished / "reports/smoke/index.html").read_text()


@pytest.mark.parametrize(
    ("config", "file", "text", "words"),
    [
        ("preset=smok", None, "", "params/smok: no such preset; did you mean smoke?"),
        ("prest=smoke", None, "", "--config prest: unknown; allowed: preset=NAME"),
        ("preset=cpu", "params/cpu/03-pretrain.yaml", "update: 3", "03-pretrain.yaml: unknown parameter 'update'"),
        ("preset=cpu", "params/cpu/05-dataset-size.yaml", "sizes: [2, 50]", "01-synthesis makes 4 images"),
    ],
)
def test_a_mistake_is_refused_before_anything_runs_in_one_line(copy, config, file, text, words):
    if file:
        (copy / file).write_text(text)
    result = snakemake(copy, "--config", config)
    if file:
        (copy / file).write_text("")
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    assert [line for line in result.stderr.splitlines() if words in line]
    assert "Building DAG" not in result.stderr
