"""The published model: a finished run's, with a card of nothing but what the run wrote."""

import hashlib

import pytest

from visionclip import keys, runs
from visionclip.study import release

AUC = {"value": 0.8, "low": 0.7, "high": 0.9}
CARD = {
    "commit": "c0ffee1234",
    "seconds": 121,
    "code": "same",
    "outputs": {"model/model.safetensors": "a digest"},
    "machine": {"processor": "a processor", "cores": 2},
    "parameters": {"seed": 3, "sizes": [32, 64], "updates": [5, 2], "batch_size": 8},
}


def scored(dataset, task="glaucoma", auc=AUC, **more):
    return {"dataset": dataset, "task": task, "split": "test", "n": 20, "auc": auc, "aca": {"value": None}, **more}


def marked(dataset, value):
    precision = {"value": value, "low": None, "high": None}
    return {"dataset": dataset, "finding": "disc", "split": "all", "average_precision": precision}


@pytest.fixture
def run(tmp_path):
    """What the stages of a finished run wrote, as far as the card quotes it."""
    results = [scored("held-out phantoms"), scored("clinic"), scored("clinic", "dr_grade", by_thresholds={"aca": AUC})]
    results += [scored("other", "amd", {"value": 0.6, "low": 0.4, "high": 0.8}), scored("none", auc={"value": None})]
    sure = {"dataset": "clinic", "split": "test", "task": "glaucoma", "sensitivity": AUC, "specificity": {"value": 1.0}}
    retrieval = {"image to text": {"R@1": {"value": 0.2}}}
    numbers = {
        "01-synthesis": {"sources": {"phantom": 90, "ddpm": 10}},
        "03-pretrain": {"retrieval": retrieval, "loss_above_floor": 1.0},
        "04-zero-shot": {"results": results, "at_thresholds": [sure]},
        "07-explanation": {"localisation": [marked("phantoms", 0.9), marked("clinic", 0.5), marked("other", None)]},
    }
    for stage, found in numbers.items():
        runs.write_json(tmp_path / "big" / stage / "numbers.json", found)
        before = {} if stage == "01-synthesis" else {"the stage before": keys.digest(CARD["outputs"])}
        runs.write_json(tmp_path / "big" / stage / "card.json", {**CARD, "inputs": before})
    (tmp_path / "big/03-pretrain/model").mkdir()
    (tmp_path / "big/03-pretrain/model/model.safetensors").write_bytes(b"weights")
    return tmp_path / "big"


def test_the_model_is_copied_with_its_card_and_digests(run, tmp_path):
    out = tmp_path / "published"
    out.mkdir()
    (out / "old").touch()
    release.main([str(run), "--out", str(out)])
    assert {path.name for path in out.iterdir()} == {"model.safetensors", "README.md", "SHA256SUMS"}
    digests = dict(reversed(line.split("  ")) for line in (out / "SHA256SUMS").read_text().splitlines())
    assert digests["model.safetensors"] == hashlib.sha256(b"weights").hexdigest()
    assert set(digests) == {"model.safetensors", "README.md"}


def test_the_card_quotes_the_run_and_nothing_else(run, tmp_path):
    text = release.card(run, tmp_path / "published")
    assert "trained from random weights on 100 images (90 phantom, 10 ddpm)" in text
    assert "| clinic (test) | glaucoma | 20 | 0.800 [0.700, 0.900] |" in text
    assert "0.600 [0.400, 0.800], not surely above chance" in text
    assert "phantoms" not in text.partition("| set |")[2].partition("Average")[0], "they are no result"
    assert "grade" not in text.partition("| set |")[2].partition("Average")[0], "two classes alone"
    assert "marks: clinic (all) optic disc 0.500." in text
    assert "clinic (test) glaucoma 80% and 100%" in text
    assert "`make study PRESET=big` at commit c0ffee1: 03 at 32, 64 pixels (5, 2 updates of\n8 images)" in text
    assert "in 2 minutes on 2 cores" in text
    assert "differ in their seed" not in text


def test_further_seeds_stand_beside_it(run, tmp_path):
    for stage in ("03-pretrain", "04-zero-shot", "07-explanation"):
        for file in ("card.json", "numbers.json"):
            content = runs.read_json(run / stage / file)
            runs.write_json(run / "seeds/1" / stage / file, content)
    text = release.card(run, tmp_path / "published")
    assert "2 trainings that differ in their seed, mean with t-interval: clinic glaucoma (test) AUC 0.800" in text
    assert "phantoms" not in text.partition("differ in their seed")[2].partition("Average")[0]


def test_without_photographs_the_card_says_so(run, tmp_path):
    runs.write_json(run / "04-zero-shot/numbers.json", {"results": [scored("held-out phantoms")], "at_thresholds": []})
    runs.write_json(run / "07-explanation/numbers.json", {"localisation": []})
    text = release.card(run, tmp_path / "published")
    assert "No photographs were there when it was scored." in text
    assert "| set |" not in text
    assert "Average precision" not in text


def test_a_run_that_is_not_finished_leaves_what_was_published(run, tmp_path, capsys):
    (run / "07-explanation/card.json").unlink()
    out = tmp_path / "published"
    out.mkdir()
    (out / "old").touch()
    with pytest.raises(SystemExit):
        release.main([str(run), "--out", str(out)])
    assert "no finished 07-explanation there" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["old"]


@pytest.mark.parametrize(
    ("stage", "changed", "words"),
    [
        ("07-explanation", {"inputs": {"03": "another"}}, "07-explanation read another 03-pretrain than is there"),
        ("03-pretrain", {"inputs": {"01": "another"}}, "03-pretrain read another 01-synthesis than is there"),
        ("01-synthesis", {"parameters": {"seeds": "clinic"}}, "seeds is 'clinic', which the card does not tell"),
        ("03-pretrain", {"parameters": {"tower": "RN50"}}, "tower is 'RN50'"),
    ],
)
def test_what_the_card_would_not_tell_is_not_published(run, tmp_path, stage, changed, words):
    card = run / stage / "card.json"
    runs.write_json(card, runs.read_json(card) | changed)
    with pytest.raises(ValueError, match=words):
        release.publish(run, tmp_path / "published")
    assert not (tmp_path / "published").exists()
