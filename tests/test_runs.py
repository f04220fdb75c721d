"""How stage folders are written: as a whole or not at all, under keys, and with a card that says what made them."""

import errno
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from visionclip import runs
from visionclip.evaluation.intervals import Comparison, Interval


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "numbers.json"
    runs.write_json(path, {"old": 1})

    def interrupted():
        with runs.atomic(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert runs.read_json(path) == {"old": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["numbers.json"]


def test_json_refuses_nan_and_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        runs.write_json(tmp_path / "numbers.json", {"auc": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_fresh_folder_has_nothing_of_an_earlier_run(tmp_path):
    stage = runs.Stage("12-your-photograph", tmp_path / "run", {})
    (stage.fresh("pages") / "eye.html").write_text("of before")
    beside = tmp_path / "run/kept.txt"
    beside.write_text("stays")
    assert list(stage.fresh("pages").iterdir()) == []
    assert beside.is_file()


def test_a_stage_has_no_card_until_it_is_finished(tmp_path):
    stage = runs.Stage("03-pretrain", tmp_path / "run", {"seed": 5})
    with pytest.raises(FileNotFoundError, match=r"notebooks/03-pretrain\.ipynb"):
        runs.require(tmp_path / "run", "03-pretrain")
    (stage.folder / "weights.safetensors").write_bytes(b"w")
    stage.finish({"headline": []})
    card = runs.require(tmp_path / "run", "03-pretrain")
    assert card["seed"] == 5
    assert set(card["outputs"]) == {"numbers.json", "weights.safetensors"}
    runs.Stage("03-pretrain", tmp_path / "run", {"seed": 6})
    assert not (tmp_path / "run" / "card.json").exists(), "an opened stage is no finished one"


def test_a_card_tells_its_inputs_by_the_content_of_their_outputs(tmp_path):
    for content in ("a", "b"):
        first = runs.Stage("01-synthesis", tmp_path / content, {})
        (first.folder / "data.txt").write_text(content)
        first.finish({"headline": []})
    digests = {
        next(iter(runs.Stage("x", tmp_path / "x", {}, inputs=[tmp_path / content]).inputs.values()))
        for content in ("a", "b")
    }
    assert len(digests) == 2


def test_the_card_names_no_host_and_no_absolute_path(tmp_path):
    card = runs.Stage("x", tmp_path, {}).finish({"headline": []})
    assert platform.node() not in json.dumps(card["machine"])
    assert str(runs.ROOT) not in json.dumps(card)


def test_a_result_is_computed_once_under_a_key_and_anew_under_another(tmp_path):
    path, computed = tmp_path / "points" / "n8.json", []

    def compute():
        computed.append(1)
        return {"auc": 0.5 + len(computed)}

    first = runs.cached(path, "one", compute)
    assert runs.cached(path, "one", compute) == first == {"auc": 1.5}
    assert runs.cached(path, "two", compute) == {"auc": 2.5}
    assert runs.cached(path, "one", compute) == {"auc": 3.5}, "one result is kept, the last"
    assert len(computed) == 3


def test_what_is_returned_is_what_was_read_back(tmp_path):
    """So that a result is the same whether it was computed now or before."""
    result = {"interval": Interval(0.5, 0.4, 0.6), "logits": np.arange(3.0), "pair": (1, 2), 3: None}
    first = runs.cached(tmp_path / "a.json", "key", lambda: result)
    assert first == {
        "interval": {"value": 0.5, "low": 0.4, "high": 0.6},
        "logits": [0.0, 1.0, 2.0],
        "pair": [1, 2],
        "3": None,
    }
    assert runs.cached(tmp_path / "a.json", "key", lambda: pytest.fail("computed again")) == first


@pytest.mark.parametrize("content", [{"told": "a", "odds": [1]}, {}])
def test_a_file_that_an_earlier_version_kept_there_is_replaced(tmp_path, content):
    runs.write_json(tmp_path / "a.json", content)
    assert runs.cached(tmp_path / "a.json", "key", lambda: 1) == 1


def test_a_computation_that_fails_leaves_what_was_kept(tmp_path):
    path = tmp_path / "a.json"
    runs.cached(path, "one", lambda: 1)
    with pytest.raises(ZeroDivisionError):
        runs.cached(path, "two", lambda: 1 / 0)
    assert runs.cached(path, "one", lambda: 2) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


@dataclass(frozen=True)
class Row:
    name: str
    against: Comparison | None = None


def test_dataclasses_are_written_as_mappings_and_numpy_as_numbers(tmp_path):
    rows = [Row("a", Comparison(Interval(0.1), 0.5)), Row("视网膜")]
    content = {
        "rows": rows,
        "n": np.int64(3),
        "auc": np.float32(0.5),
        "known": np.bool_(True),
        "all": np.eye(2, dtype=int),
    }
    runs.write_json(tmp_path / "numbers.json", content)
    assert runs.read_json(tmp_path / "numbers.json") == {
        "rows": [
            {
                "name": "a",
                "against": {"difference": {"value": 0.1, "low": None, "high": None}, "p": 0.5, "adjusted_p": None},
            },
            {"name": "视网膜", "against": None},
        ],
        "n": 3,
        "auc": 0.5,
        "known": True,
        "all": [[1.0, 0.0], [0.0, 1.0]],
    }
    assert "视网膜" in (tmp_path / "numbers.json").read_text("utf-8"), "people read it"


def test_what_json_has_no_word_for_is_refused(tmp_path):
    for content in ({"path": Path("a")}, {"set": {1}}, {"auc": np.float64("inf")}):
        with pytest.raises((TypeError, ValueError), match="JSON") as refusal:
            runs.write_json(tmp_path / "numbers.json", content)
    assert "numbers.json: Out of range" in str(refusal.value), "of a number without value the file is named"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_mode_of_the_process_whoever_wrote_them(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        with runs.atomic(tmp_path / "weights.safetensors") as temporary:
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))  # as safetensors does
        runs.write_json(tmp_path / "numbers.json", {})
        assert os.umask(mask) == mask, "the mask is as it was"
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {mode}


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("write failed: no space left on device")]
)
def test_a_full_disk_is_named_in_one_line_with_the_file_which_stays_as_it_was(tmp_path, error):
    path = tmp_path / "checkpoint.safetensors"
    path.write_text("old")

    def fill() -> None:
        with runs.atomic(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(OSError, match=r"checkpoint\.safetensors: the disk is full; free some space") as refusal:
        fill()
    assert "\n" not in str(refusal.value)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_paths_are_below_the_repository_and_read_as_such():
    assert runs.resolve("runs/cpu") == runs.ROOT / "runs" / "cpu"
    assert runs.relative(runs.ROOT / "runs" / "cpu") == "runs/cpu"
    assert runs.resolve("/elsewhere") == Path("/elsewhere")
    assert runs.relative("/elsewhere") == "/elsewhere"


def test_cores_are_those_that_may_be_used(monkeypatch):
    assert 1 <= runs.cores() <= os.cpu_count()
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS
    assert runs.cores() == os.cpu_count()
