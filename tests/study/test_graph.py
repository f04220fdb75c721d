"""The Snakefile: it builds for every preset, refuses mistakes in one line, and reruns only what changed."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell

import tiny
from visionclip import runs, study
from visionclip.data import folders, marks
from visionclip.study.graph import STAGES, Graph, fingerprint, notebook, rule
from visionclip.study.notebooks import PHOTOGRAPHS

REPORT = """
import sys
from pathlib import Path
preset = sys.argv[2]
page = Path(f"reports/{preset}/index.html")
page.parent.mkdir(parents=True, exist_ok=True)
page.write_text(" ".join(sorted(path.name for path in Path(f"runs/{preset}").rglob("*.ipynb"))))
"""
POINT = '''"""Makes a point that holds the number of another module, unless that is what it holds."""
from visionclip import counted, runs


def point(one, out, sources, pretrained):
    assert set(sources) == {"synthesis", "captions_folder", "external", "out"}
    assert pretrained["updates"] == 2
    path = runs.resolve(out) / "points" / f"{one.name}.json"
    before = runs.read_json(path)["number"] if path.exists() else 0
    if before != counted.NUMBER:
        runs.write_json(path, {"number": counted.NUMBER, "before": before})
'''
COUNTED = '"""A number."""\n\nNUMBER = 3  # of something\n'
IMPORTS = {
    "04-zero-shot": "from visionclip import counted",
    "05-dataset-size": "from visionclip.stages import dataset_size",
}
LOOKING = {
    "zero_shot",
    "point",
    "dataset_size",
    "transfer",
    "explanation",
    "diversity",
    "fine_tuning",
    "robustness",
    "privacy",
    "report",
}


def variables(folder, **changed) -> dict[str, str]:
    """An environment in which the library is that of ``folder``."""
    kept = {name: value for name, value in os.environ.items() if name not in PHOTOGRAPHS.values()}
    return kept | {"PYTHONPATH": str(folder / "lib"), **changed}


def snakemake(folder, *arguments, **changed) -> subprocess.CompletedProcess:
    """Run Snakemake in ``folder`` on the library that lies there."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    environment = variables(folder, **changed)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def planned(folder, *arguments, **changed) -> dict[str, int]:
    """How many jobs of each rule a dry run announces; ``all`` only names what is wanted."""
    result = snakemake(folder, "--dry-run", *arguments, **changed)
    assert result.returncode == 0, result.stderr
    counts = dict(re.findall(r"^(\w+) +(\d+)$", result.stdout + result.stderr, re.M))
    return {rule: int(count) for rule, count in counts.items() if rule not in ("all", "total")}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The graph and the library with tiny notebooks and points, and a report that only lists notebooks."""
    root = tiny.study(tmp_path_factory.mktemp("study"), IMPORTS)
    for name in ("Snakefile", "pyproject.toml"):
        shutil.copy(runs.ROOT / name, root)
    shutil.copytree(runs.ROOT / "profiles", root / "profiles")
    library = root / "lib" / "visionclip"
    shutil.copytree(runs.ROOT / "lib" / "visionclip", library, ignore=shutil.ignore_patterns("__pycache__"))
    (library / "report" / "__main__.py").write_text(REPORT)
    (library / "stages" / "dataset_size.py").write_text(POINT)
    (library / "counted.py").write_text(COUNTED)
    photograph = root / "data/external/clinic/eye.png"
    photograph.parent.mkdir(parents=True)
    photograph.write_bytes(b"pixels")
    return root


@pytest.fixture(scope="module")
def finished(copy):
    """``copy`` after its whole smoke study."""
    result = snakemake(copy, "--config", "preset=smoke")
    assert result.returncode == 0, result.stderr
    return copy


def test_the_table_has_every_notebook_and_stages_read_only_earlier_ones():
    assert list(STAGES) == study.notebook_names()
    read = {stage: (*row.inputs.values(), *row.settings.values()) for stage, row in STAGES.items()}
    assert all(earlier < stage for stage, others in read.items() for earlier in others)
    assert len({rule(stage) for stage in STAGES} | {"point", "report", "all"}) == len(STAGES) + 3


def test_the_table_says_which_notebooks_read_folders_from_elsewhere():
    named = {stage: tuple(name for name in PHOTOGRAPHS if name in study.declared(stage)) for stage in STAGES}
    named |= {"01-synthesis": ("seeds", "generator", "referee_model"), "03-pretrain": ("tower",)}
    named |= {"06-transfer": ("external", "features"), "09-fine-tuning": ("external", "others", "generator")}
    named |= {"11-privacy": ("external", "generator"), "12-your-photograph": ("photographs", "model")}
    assert {stage: row.given for stage, row in STAGES.items()} == named
    assert named["07-explanation"] == ("external", "marks")


def test_the_variables_are_those_that_the_library_reads(tmp_path, monkeypatch):
    monkeypatch.setenv(PHOTOGRAPHS["external"], str(tmp_path / "eyes"))
    monkeypatch.setenv(PHOTOGRAPHS["marks"], str(tmp_path / "marks"))
    assert folders.external_folder(folders.DEFAULT_FOLDER) == tmp_path / "eyes"
    assert marks.marks_folder(marks.DEFAULT_FOLDER) == tmp_path / "marks"


@pytest.mark.parametrize("preset", study.presets())
def test_the_folders_in_the_files_of_a_preset_are_those_of_the_graph(preset):
    graph = Graph({"preset": preset})
    for stage, values in graph.parameters.items():
        assert vars(values) == vars(values) | graph.paths(stage)


@pytest.mark.parametrize("preset", study.presets())
def test_every_preset_of_the_study_builds_a_graph(preset):
    jobs = planned(runs.ROOT, "--forceall", "--config", f"preset={preset}")
    graph = Graph({"preset": preset})
    points = {"point": len(graph.points)} if graph.points else {}
    assert jobs == {**{rule(stage): 1 for stage in graph.stages}, **points, "report": 1}
    assert preset == "cpu" or list(graph.parameters) == list(STAGES), "only `cpu` leaves stages out"


@pytest.mark.skipif(
    not importlib.util.find_spec("snakemake_executor_plugin_slurm"), reason="the slurm extra is not installed"
)
def test_slurm_profile_gives_every_gpu_stage_its_resources(copy):
    result = snakemake(copy, "--dry-run", "--profile", "profiles/slurm", "--cores", "512", "--config", "preset=cpu")
    assert result.returncode == 0, result.stderr
    jobs = dict(re.findall(r"rule (\w+):\n(.*?)(?=\n\S|\Z)", result.stdout + result.stderr, re.S))
    for name in ("point", *(rule(stage) for stage, row in STAGES.items() if row.gpu)):
        assert re.search(r"gpu=[1-9]", jobs[name]), name
        assert "runtime=60," not in jobs[name], name
    assert "threads: 32" in jobs["pretrain"]


def test_committed_reports_do_not_pass_for_a_finished_study(copy):
    page = copy / "reports/cpu/index.html"
    page.parent.mkdir(parents=True)
    page.write_text("as it comes with a clone")
    jobs = planned(copy, "--config", "preset=cpu")
    shutil.rmtree(page.parent)
    assert set(jobs) == {*map(rule, STAGES), "point", "report"}


@pytest.mark.slow
def test_a_finished_study_is_not_run_again(finished):
    again = snakemake(finished, "--config", "preset=smoke")
    assert "Nothing to be done" in again.stdout + again.stderr


@pytest.mark.slow
def test_notebooks_lie_in_their_stages_and_logs_and_points_in_their_stage(finished):
    for name in tiny.PARAMETERS:
        assert (finished / f"runs/smoke/{name}/{name}.ipynb").is_file()
        assert (finished / f"runs/smoke/logs/{name}.ipynb").is_file()
    assert runs.read_json(finished / "runs/smoke/05-dataset-size/points/n2-s0.json") == {"number": 3, "before": 0}
    log = (finished / "runs/smoke/logs/05-dataset-size/n2-s0.log").read_text()
    assert re.fullmatch(r"finished [\d-]+ [\d:]+ UTC after [\d.]+ s\n", log)
    parameters = runs.read_json(finished / "runs/smoke/08-diversity/card.json")["parameters"]
    assert parameters == {
        "synthesis": "runs/smoke/01-synthesis",
        "pretrained": "params/smoke/03-pretrain.yaml",
        "external": "data/external",
        "out": "runs/smoke/08-diversity",
    }


@pytest.mark.slow
def test_a_comment_a_docstring_and_a_touched_file_rerun_nothing(finished):
    module = finished / "lib/visionclip/counted.py"
    module.write_text('"""The same number, better explained."""\n\nNUMBER = 3\n')
    (finished / "notebooks/04-zero-shot.ipynb").touch()
    (finished / "params/smoke/02-captions.yaml").touch()
    jobs = planned(finished, "--config", "preset=smoke")
    module.write_text(COUNTED)
    assert jobs == {}


@pytest.mark.slow
def test_a_changed_number_reruns_the_stages_that_import_it_and_no_other(finished):
    module = finished / "lib/visionclip/counted.py"
    module.write_text(COUNTED.replace("3", "4"))
    jobs = planned(finished, "--config", "preset=smoke")
    module.write_text(COUNTED)
    assert jobs == {"zero_shot": 1, "point": 1, "dataset_size": 1, "report": 1}


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["card.json", "06-transfer.ipynb"])
def test_a_lost_card_or_notebook_reruns_its_stage(finished, lost):
    path = finished / "runs/smoke/06-transfer" / lost
    path.rename(finished / lost)
    jobs = planned(finished, "--config", "preset=smoke")
    (finished / lost).rename(path)
    assert jobs == {"transfer": 1, "report": 1}


@pytest.mark.slow
def test_another_folder_of_photographs_reruns_only_the_stages_that_look_at_them(finished):
    assert set(planned(finished, "--config", "preset=smoke", VISIONCLIP_EXTERNAL="/photographs")) == LOOKING


@pytest.mark.slow
def test_other_marks_rerun_only_the_stage_that_is_held_against_them(finished):
    jobs = planned(finished, "--config", "preset=smoke", VISIONCLIP_MARKS="/marks")
    assert set(jobs) == {"explanation", "report"}


@pytest.mark.slow
@pytest.mark.parametrize("change", ["replaced", "deleted", "renamed", "added"])
def test_a_photograph_that_changes_reruns_only_the_stages_that_look_at_it(finished, change):
    path = finished / "data/external/clinic/eye.png"
    other, was = path.with_name("other.png"), path.stat()
    if change in ("deleted", "renamed"):
        path.unlink()
    if change in ("renamed", "added"):
        other.write_bytes(b"pixels")
    if change == "replaced":
        path.write_bytes(b"PIXELS")
    jobs = planned(finished, "--config", "preset=smoke")
    other.unlink(missing_ok=True)
    path.write_bytes(b"pixels")
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert set(jobs) == LOOKING
    assert planned(finished, "--config", "preset=smoke") == {}


def test_a_changed_mark_is_a_reason_to_explain_again(tmp_path):
    graph = Graph({"preset": "smoke"})
    mask = tmp_path / "clinic/masks/exudate/1.png"
    mask.parent.mkdir(parents=True)
    graph.parameters["07-explanation"].marks = str(tmp_path)
    reasons = []
    for content in ("some", "other"):
        mask.write_text(content)
        fingerprint.cache_clear()
        reasons.append(graph.reasons("07-explanation")["given"])
    assert reasons[0][:-1] == reasons[1][:-1]
    assert str(tmp_path) in reasons[0]
    assert reasons[0] != reasons[1]


def test_seeds_a_word_list_and_a_tower_that_change_are_reasons_to_run_again(tmp_path):
    graph, stages = Graph({"preset": "smoke"}), ("01-synthesis", "02-captions", "03-pretrain", "09-fine-tuning")
    plain = [graph.reasons(stage) for stage in stages]
    assert [reasons["given"] for reasons in plain[:3]] == [[], [], []]
    assert "none" not in plain[3]["given"]
    photographs = graph.reasons("10-robustness")["given"]
    assert graph.reasons("08-diversity")["given"] == photographs, "its seeds are numbers"
    for name in ("eye.png", "vocab.txt"):
        (tmp_path / name).write_text("some")
    graph.parameters["01-synthesis"].seeds = str(tmp_path)
    graph.parameters["02-captions"].vocabulary = str(tmp_path / "vocab.txt")
    graph.parameters["03-pretrain"].tower = str(tmp_path)
    graph.parameters["09-fine-tuning"].others = ["weights/visionclip", str(tmp_path)]
    given = [graph.reasons(stage) for stage in stages]
    for name in ("eye.png", "vocab.txt"):
        (tmp_path / name).write_text("other")
    fingerprint.cache_clear()
    changed = [graph.reasons(stage) for stage in stages]
    assert all(one != two != three for one, two, three in zip(plain, given, changed, strict=True))


@pytest.mark.slow
def test_a_new_size_runs_only_its_own_points(finished):
    file = finished / "params/smoke/05-dataset-size.yaml"
    before = file.read_text()
    file.write_text(before + "sizes: [2, 3]\n")
    jobs = planned(finished, "--config", "preset=smoke")
    file.write_text(before)
    assert jobs == {"point": 1, "dataset_size": 1, "report": 1}


@pytest.mark.slow
def test_a_failed_notebook_keeps_its_log_and_is_reported(finished):
    notebook = finished / "notebooks/06-transfer.ipynb"
    before = notebook.read_text()
    notebook.write_text(before.replace("stage.finish(", "stage.fail("))
    (finished / "reports/smoke/index.html").unlink()
    result = snakemake(finished, "--config", "preset=smoke")
    notebook.write_text(before)
    assert result.returncode != 0
    assert re.search(r"^runs/smoke/logs/06-transfer.ipynb .*AttributeError: .*'fail'", result.stderr, re.M)
    assert "has no attribute 'fail'" in (finished / "runs/smoke/logs/06-transfer.ipynb").read_text()
    assert not (finished / "runs/smoke/06-transfer/06-transfer.ipynb").exists()
    assert "06-transfer.ipynb" in (finished / "reports/smoke/index.html").read_text()


@pytest.mark.slow
def test_a_failed_point_keeps_its_log(finished):
    module = finished / "lib/visionclip/counted.py"
    module.write_text('raise ValueError("no number")\n')
    result = snakemake(finished, "--config", "preset=smoke", "--", "runs/smoke/05-dataset-size/points/n2-s0.json")
    module.write_text(COUNTED)
    assert result.returncode != 0
    assert re.search(r"^runs/smoke/logs/05-dataset-size/n2-s0.log: ValueError: no number$", result.stderr, re.M)
    assert "Traceback" in (finished / "runs/smoke/logs/05-dataset-size/n2-s0.log").read_text()


@pytest.mark.slow
def test_a_point_finds_what_it_has_made_before_and_may_leave_it(finished):
    point = "runs/smoke/05-dataset-size/points/n2-s0.json"
    module = finished / "lib/visionclip/counted.py"
    for number in (3, 5):
        module.write_text(COUNTED.replace("3", str(number)))
        result = snakemake(finished, "--config", "preset=smoke", "--forcerun", "point", "--", point)
        assert result.returncode == 0, result.stderr
        assert planned(finished, "--config", "preset=smoke", "--", point) == {}
        assert runs.read_json(finished / point) == {"number": number, "before": {3: 0, 5: 3}[number]}
    module.write_text(COUNTED)


@pytest.mark.slow
def test_a_stage_that_outlives_its_graph_is_named_in_one_line_and_gets_no_second_writer(copy):
    notebook = copy / "notebooks/01-synthesis.ipynb"
    before = notebook.read_text()
    sleeping = nbformat.from_dict(nbformat.read(notebook, as_version=4))
    sleeping.cells.insert(0, new_code_cell("import time\ntime.sleep(60)"))
    nbformat.write(sleeping, notebook)
    command = [sys.executable, "-m", "visionclip.study"]
    options = {"cwd": copy, "env": variables(copy), "text": True, "stderr": subprocess.PIPE}
    first = subprocess.Popen([*command, "run", "cpu"], start_new_session=True, stdout=subprocess.DEVNULL, **options)
    lock = copy / "runs/cpu/01-synthesis/.lock"
    while first.poll() is None and not (lock.is_file() and lock.read_text()):
        time.sleep(0.1)
    job = int(lock.read_text())
    first.kill()
    first.wait()
    line = f"runs/cpu/01-synthesis: process {job} is still at work there; wait for it to end, or stop it\n"
    try:
        for again in (["run", "cpu"], ["stage", "cpu", "01-synthesis"]):
            result = subprocess.run([*command, *again], check=False, **options)
            assert (result.returncode, result.stderr) == (2, line)
    finally:
        os.kill(job, signal.SIGKILL)
        notebook.write_text(before)


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


def test_further_seeds_are_copies_of_the_stages_that_train_and_score_the_model():
    graph = Graph({"preset": "smoke", "seeds": "1,12"})
    assert graph.stages[: len(STAGES)] == list(STAGES)
    assert graph.stages[-3:] == ["seeds/12/03-pretrain", "seeds/12/04-zero-shot", "seeds/12/07-explanation"]
    assert graph.changed("seeds/12/03-pretrain")["seed"] == 12
    assert graph.changed("seeds/12/03-pretrain")["synthesis"] == "runs/smoke/01-synthesis"
    assert graph.changed("seeds/12/04-zero-shot")["checkpoint"] == "runs/smoke/seeds/12/03-pretrain"
    assert "seed" not in graph.changed("seeds/12/04-zero-shot").keys() | graph.changed("03-pretrain").keys()
    assert graph.inputs("seeds/1/07-explanation")["notebook"] == "notebooks/07-explanation.ipynb"
    assert graph.file("seeds/1/07-explanation") == "params/smoke/07-explanation.yaml"
    assert len({rule(stage) for stage in graph.stages}) == len(graph.stages)


def test_a_preset_leaves_out_the_stages_that_it_has_no_file_of(copy):
    left_out, points = ("05-dataset-size", "08-diversity"), "runs/cpu/05-dataset-size/points/n2-s0.json"
    files = {name: copy / f"params/cpu/{name}.yaml" for name in left_out}
    texts = {file: file.read_text() for file in files.values()}
    for file in texts:
        file.unlink()
    jobs = planned(copy, "--config", "preset=cpu")
    refused = snakemake(copy, "--dry-run", "--config", "preset=cpu", "--", points)
    stage = subprocess.run(
        [sys.executable, "-m", "visionclip.study", "stage", "cpu", "08-diversity"],
        **{"cwd": copy, "env": variables(copy), "capture_output": True, "text": True, "check": False},
    )
    for file, text in texts.items():
        file.write_text(text)
    assert set(jobs) == {*(rule(name) for name in STAGES if name not in left_out), "report"}
    assert refused.returncode != 0
    line = "params/cpu/08-diversity.yaml: no such parameter file, so that cpu leaves 08-diversity out; add it\n"
    assert (stage.returncode, stage.stderr) == (2, line)


def test_seeds_need_the_stage_that_they_repeat(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tiny.study(tmp_path))
    for path in (tmp_path / "params/cpu").glob("*"):
        if path.stem not in ("01-synthesis", "02-captions"):
            path.unlink()
    assert Graph({"preset": "cpu"}).stages == ["01-synthesis", "02-captions"]
    with pytest.raises(ValueError, match=r"^seeds: 1; cpu has no params/cpu/03-pretrain.yaml; add it$"):
        Graph({"preset": "cpu", "seeds": "1"})


def test_a_stage_without_the_file_of_an_earlier_one_is_refused(copy):
    file = copy / "params/cpu/03-pretrain.yaml"
    text = file.read_text()
    file.unlink()
    result = snakemake(copy, "--dry-run", "--config", "preset=cpu")
    file.write_text(text)
    line = "params/cpu/03-pretrain.yaml: no such parameter file; add it, as 04-zero-shot needs it"
    assert (result.returncode, result.stderr.strip()) == (1, line)


def test_stages_that_take_the_settings_of_another_need_not_wait_for_it():
    graph = Graph({"preset": "smoke"})
    for stage in ("05-dataset-size", "08-diversity"):
        assert "runs/smoke/03-pretrain/card.json" not in graph.inputs(stage)["stages"]
        assert graph.paths(stage)["pretrained"] == "params/smoke/03-pretrain.yaml"
        before = repr(graph.reasons(stage))
        graph.parameters["03-pretrain"].batch_size += 1
        assert repr(graph.reasons(stage)) != before


@pytest.mark.parametrize("seeds", ["0", "1,1", "one"])
def test_seeds_that_repeat_or_are_none_are_refused(seeds):
    with pytest.raises(ValueError, match=f"^seeds: {seeds}; give numbers other than that of 03-pretrain, each once$"):
        Graph({"preset": "smoke", "seeds": seeds})


@pytest.mark.parametrize("stage", ["seeds/1/01-synthesis", "seeds/x/03-pretrain", "09-nothing"])
def test_a_stage_that_is_none_is_refused(stage):
    with pytest.raises(ValueError, match=f"^{stage}: no such stage"):
        notebook(stage)
