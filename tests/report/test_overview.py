"""The pictures of the index, and scores beside cited ones."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from visionclip.report import overview


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def run(tmp_path):
    shard = tmp_path / "run" / "01-synthesis" / "synthetic" / "0.tar"
    shard.parent.mkdir(parents=True)
    with tarfile.open(shard, "w") as file:
        for number, (source, grade) in enumerate([("phantom", 0), ("phantom", 3), ("ddpm", 2), ("ddpm", 4)]):
            labels = json.dumps({"source": source, "conditions": {"dr_grade": grade}}).encode()
            for kind, content in (("json", labels), ("png", png())):
                member = tarfile.TarInfo(f"{number}.{kind}")
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
    return tmp_path / "run"


def external(tmp_path, name):
    folder = tmp_path / "external" / name
    folder.mkdir(parents=True)
    Image.fromarray(np.full((40, 40, 3), 150, np.uint8)).save(folder / "a.png")
    (folder / "labels.csv").write_text("file,dr_grade\nmissing.png,3\na.png,2\n")
    return {"external": str(tmp_path / "external")}


def test_a_photograph_is_shown_only_where_its_licence_lets_it(run, tmp_path):
    assert [eye.kind for eye in overview.strip(run, {"external": str(tmp_path / "none")})] == ["phantom", "generated"]
    assert [eye.kind for eye in overview.strip(run, external(tmp_path, "palm"))] == ["phantom", "generated"]
    eyes = overview.strip(run, external(tmp_path / "other", "idrid"))
    assert [eye.kind for eye in eyes] == ["photograph", "phantom", "generated"]
    assert "CC BY" in eyes[0].credit
    assert all(eye.uri.startswith("data:image/jpeg;base64,") for eye in eyes)


def test_an_empty_run_has_nothing_to_show(tmp_path):
    assert overview.strip(tmp_path, {"external": str(tmp_path)}) == []
    assert overview.comparison([], "AUC") == ""


def test_scores_stand_beside_cited_ones_of_the_same_measure():
    row = {"dataset": "clinic", "split": "test", "task": "gc", "n": 20, "chance_aca": 0.5, "aca": None}
    row |= {"auc": {"value": 0.8, "low": 0.7, "high": 0.9}}
    assert overview.comparison([row | {"split": "development"}], "AUC") == ""
    assert overview.comparison([row], "AUC").rstrip().endswith("</svg>")
    assert overview.comparison([row], "ACA") == ""


def test_cited_figures_say_n_protocol_source_and_where_they_were_read():
    fields = {"model", "learnt", "set", "measure", "value", "chance", "n", "protocol", "source", "read"}
    assert overview.cited()
    for row in overview.cited():
        assert set(row) == fields
        assert row["measure"] in ("AUC", "ACA")
        assert row["chance"] < row["value"] < 1


def test_every_word_of_the_glossary_has_a_meaning():
    assert {"ACA", "AUC", "QWK", "KID", "CFG", "EMA", "NFE", "zero-shot", "phantom"} <= set(overview.glossary())
    assert all(meaning and not meaning.endswith(".") for meaning in overview.glossary().values())


def test_the_conclusion_has_the_ends_over_seeds_of_what_is_reported():
    row = {"dataset": "clinic", "task": "amd", "split": "test", "n": 20, "auc": {"value": 0.8, "low": 0.7, "high": 0.9}}
    names = ("clinic amd (test)", "other gc (val)", "held-out phantoms gc (held out)", "more gc (development)")
    repeated = [
        {"of": of, "measure": measure, "seeds": 3, "mean": {"value": mean, "low": mean - 0.1, "high": mean + 0.1}}
        for mean, of in zip((0.75, 0.625, 0.5, 0.875), names, strict=True)
        for measure in ("ACA", "AUC")
    ]
    ends = "0.625 [0.525, 0.725] (other gc (val)) to 0.750 [0.650, 0.850] (clinic amd (test))"
    said = overview.conclusion({"results": [row]}, repeated)
    assert f"The mean of 3 trainings that differ in their seed: {ends}, intervals over them." in said
    assert "trainings" not in overview.conclusion({"results": [row]})
    assert overview.conclusion({}, repeated) == ""
