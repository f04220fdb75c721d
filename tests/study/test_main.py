"""The command line: what it prints, and that a mistake is one line."""

import os
import shutil

import pytest
from snakemake.cli import parse_config

import tiny
from visionclip import runs
from visionclip.study import jobs
from visionclip.study.__main__ import main


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)  # where `run` goes, to be left again
    return tiny.study(tmp_path)


def refused(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line


def test_check_says_valid_or_exits_with_2_and_one_line(root, capsys):
    main(["check", str(root / "params/cpu"), str(root / "params/smoke/03-pretrain.yaml")])
    assert capsys.readouterr().out == "params/cpu: valid\nparams/smoke/03-pretrain.yaml: valid\n"
    (root / "params/cpu/03-pretrain.yaml").write_text("image: 3")
    assert "unknown parameter 'image'" in refused(capsys, "check", str(root / "params/cpu"))


def test_two_studies_do_not_run_in_one_folder(root, capsys):
    with jobs.lock(root / "runs/.lock"):
        assert refused(capsys, "run", "smoke").startswith("runs: process ")


def test_a_home_that_cannot_be_written_is_replaced_by_one_in_the_study(root, monkeypatch):
    started = []
    monkeypatch.setattr(os, "execv", lambda program, arguments: started.append(os.environ["HOME"]))
    for home, expected in ((root / "nowhere", root / ".snakemake/home"), (root, root)):
        monkeypatch.setenv("HOME", str(home))
        main(["run", "smoke"])
        assert started.pop() == str(expected)
    assert (root / ".snakemake/home").is_dir()


@pytest.mark.parametrize("preset", ["smoke", "2024_11", "no", "1e3", "my preset 眼"])
def test_snakemake_is_told_the_name_of_the_preset_whatever_it_looks_like(root, monkeypatch, preset):
    started = []
    monkeypatch.setattr(os, "execv", lambda program, arguments: started.append(arguments))
    if preset != "smoke":
        shutil.copytree(root / "params/smoke", root / "params" / preset)
    main(["run", preset])
    config = started[0][started[0].index("--config") + 1 :]
    assert parse_config(config) == {"preset": preset}


def test_a_study_does_not_start_while_a_stage_of_a_killed_one_is_at_work(root, capsys):
    with jobs.lock(root / "runs/smoke/03-pretrain/.lock"):
        assert refused(capsys, "run", "smoke").startswith("runs/smoke/03-pretrain: process ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "smok"], "params/smok: no such preset; did you mean smoke?"),
        (["stage", "smoke", "09-none"], "09-none: no such stage"),
        (["point", "smoke", "n9-s9"], "n9-s9: no such point (there are n2-s0)"),
    ],
)
def test_a_name_that_is_not_known_is_refused_in_one_line(root, capsys, arguments, words):
    assert words in refused(capsys, *arguments)
