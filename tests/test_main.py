"""The commands ``python -m visionclip read`` and ``reference``."""

import cv2
import numpy as np
import pytest

from visionclip import __main__ as commands
from visionclip import runs
from visionclip.evaluation import reference
from visionclip.stages import your_photograph


def test_read_prints_what_is_seen_and_writes_pages(tmp_path, capsys):
    drawn = your_photograph.stand_ins(tmp_path / "given", 384, 0)
    cv2.imwrite(str(tmp_path / "given/x grey.png"), np.full((64, 64, 3), 127, np.uint8))
    commands.main(["read", str(tmp_path / "given"), "--out", str(tmp_path / "out")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{drawn[0].name}: ")
    assert "diabetic retinopathy" in lines[0], "severe, and published weights"
    assert any(line.startswith("x grey.png: not read: ") for line in lines)
    assert lines[-1].startswith("Not for clinical use")
    assert len(list((tmp_path / "out").glob("*.html"))) == 4
    assert (tmp_path / "out/predictions.csv").is_file()


def test_a_fault_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        commands.main(["read", "nowhere.jpg"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "nowhere.jpg: no such file or folder; give photographs, or a folder of them\n"


def test_a_model_s_reference_is_made_beside_it(tmp_path, monkeypatch, capsys):
    model = runs.ROOT / "weights/visionclip"
    monkeypatch.setattr(commands.reference, "save", lambda made, folder: found.append((made, folder)))
    monkeypatch.setattr(commands, "write_digests", lambda folder: None)
    found: list = []
    commands.main(["reference", "--phantoms", "40", "--external", str(tmp_path), "--model", str(model)])
    (made, folder), *_ = found
    assert folder == model
    assert made.rules
    assert (made.worth, made.sets) == ({}, [])
    assert "phantoms alone" in capsys.readouterr().out
    assert reference.FOLDER == "reference"
