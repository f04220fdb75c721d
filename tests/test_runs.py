import json

import pytest

from visionclip import runs


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
    import platform

    card = runs.Stage("x", tmp_path, {}).finish({"headline": []})
    assert platform.node() not in json.dumps(card["machine"])
    assert str(runs.ROOT) not in json.dumps(card)
