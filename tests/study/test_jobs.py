"""Jobs: one writer a folder, however runs end; what a job was given and what it leaves."""

import os
import subprocess
import sys

import nbformat
import pytest

import tiny
from visionclip import runs
from visionclip.study import jobs

AT_WORK = "is still at work there; wait for it to end, or stop it"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    return tiny.study(tmp_path)


def refusal(call, *arguments) -> str:
    with pytest.raises(ValueError, match=AT_WORK) as caught:
        call(*arguments)
    return str(caught.value)


def test_a_stage_and_a_point_have_one_writer(root):
    with jobs.lock(root / "runs/smoke/01-synthesis/.lock"):
        line = refusal(jobs.stage, "smoke", "01-synthesis", 1)
    assert line == f"runs/smoke/01-synthesis: process {os.getpid()} {AT_WORK}"
    with jobs.lock(root / "runs/smoke/05-dataset-size/points/.n2-s0.lock"):
        line = refusal(jobs.point, "smoke", "n2-s0", 1)
    assert line == f"runs/smoke/05-dataset-size/points/n2-s0: process {os.getpid()} {AT_WORK}"


def test_a_lock_is_held_as_long_as_a_child_that_was_given_it(tmp_path):
    path = tmp_path / "stage" / ".lock"
    with jobs.lock(path) as held:
        child = subprocess.Popen(["sleep", "60"], pass_fds=[held.fileno()])
    with pytest.raises(ValueError, match=AT_WORK), jobs.lock(path):
        pass
    child.kill()
    child.wait()
    with jobs.lock(path):
        assert path.read_text() == str(os.getpid())


@pytest.mark.slow
def test_a_stage_is_given_its_presets_parameters_its_folders_and_its_cores(root, monkeypatch):
    for name in ("OMP_NUM_THREADS", "VISIONCLIP_LOG"):  # put back at the end
        monkeypatch.setenv(name, "before")
    monkeypatch.chdir(root)
    (root / "params/cpu/03-pretrain.yaml").write_text("learning_rate: 1e-4\nimages: 3\n")
    path = root / "notebooks/03-pretrain.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-2:] = []
    notebook.cells[-1].source = "import os\nprint(vars(), os.environ)"
    nbformat.write(notebook, path)
    jobs.stage("cpu", "03-pretrain", 3)
    executed = nbformat.read(root / "runs/cpu/03-pretrain/03-pretrain.ipynb", as_version=4)
    printed = executed.cells[-1].outputs[0].text
    for words in ("'learning_rate': 0.0001", "'images': 3", "'captions_folder': 'runs/cpu/02-captions'"):
        assert words in printed
    assert "'OMP_NUM_THREADS': '3'" in printed
    assert f"'VISIONCLIP_LOG': '{root}/runs/cpu/logs/03-pretrain.log'" in printed
    assert (root / "runs/cpu/logs/03-pretrain.ipynb").is_file()


def test_a_point_that_fails_is_one_line_with_its_log(root, monkeypatch):
    for name in ("OMP_NUM_THREADS", "VISIONCLIP_LOG"):
        monkeypatch.setenv(name, "before")
    with pytest.raises(RuntimeError, match=r"^runs/smoke/logs/05-dataset-size/n2-s0\.log: .*no finished 01-synthesis"):
        jobs.point("smoke", "n2-s0", 1)
    assert not (root / "runs/smoke/05-dataset-size/points/n2-s0.json").exists()


def test_parameters_are_checked_where_there_are_no_locks():
    """As on Windows."""
    program = "import sys; sys.modules['fcntl'] = None; from visionclip.study.__main__ import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", program, "check", str(runs.ROOT / "params/smoke")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("params/smoke: valid\n", "")
