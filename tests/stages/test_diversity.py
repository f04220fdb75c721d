import numpy as np
import pytest

from visionclip import conditions, phantom
from visionclip.evaluation import zero_shot
from visionclip.stages import diversity
from visionclip.training.contrastive import Settings

SETTINGS = Settings(
    updates=2,
    batch_size=16,
    learning_rate=1e-3,
    text_rate=0.1,
    text_warmup=2,
    weight_decay=0.1,
    warmup=0.1,
    loss="multi_positive",
    augmentation=1.0,
    precision="no",
    seed=0,
)
TOWERS = (8, 1, 64, 16)


@pytest.fixture(scope="module")
def training():
    return diversity.draw(diversity.ARMS[diversity.WHOLE], 48, 32, 0, workers=1)


@pytest.fixture(scope="module")
def asked(training):
    return zero_shot.phantom_tasks(training)


def test_arms_with_the_same_eyes_share_them():
    drawings = {name: arm.drawing for name, arm in diversity.ARMS.items()}
    whole = drawings.pop(diversity.WHOLE)
    different = {name for name, drawing in drawings.items() if drawing != whole}
    assert different == {"one camera", "one anatomy", "one disease an eye"}
    assert len({drawings[name] for name in different}) == 3


@pytest.mark.parametrize("arm", diversity.ARMS.values(), ids=diversity.ARMS)
def test_fixed_factors_exist(arm):
    drawn = phantom.render({"dr_grade": 3}, np.random.default_rng(0), 32, **arm.fixed)
    assert {name: drawn.parameters[name] for name in arm.fixed} == arm.fixed


def test_one_disease_an_eye_leaves_one():
    eyes = diversity.eyes_of(diversity.ARMS["one disease an eye"], 400, 0)
    whole = diversity.eyes_of(diversity.ARMS[diversity.WHOLE], 400, 0)
    counts = [sum(eye[key] > 0 for key in conditions.DISEASES) for eye in eyes]
    assert max(counts) == 1
    assert [conditions.presentation(eye) for eye in eyes] == [conditions.presentation(eye) for eye in whole]
    assert [eye["eye_side"] for eye in eyes] == [eye["eye_side"] for eye in whole]
    assert max(sum(eye[key] > 0 for key in conditions.DISEASES) for eye in whole) > 1


def test_answers_are_kept_until_something_changes(training, asked, tmp_path):
    first = diversity.answers(tmp_path, diversity.WHOLE, training, asked, 2, TOWERS, SETTINGS)
    assert set(first) == {task.name for task in asked.tasks}
    (kept,) = tmp_path.glob("*.json")
    stamp = kept.stat().st_mtime_ns
    assert diversity.answers(tmp_path, diversity.WHOLE, training, asked, 2, TOWERS, SETTINGS) == first
    assert kept.stat().st_mtime_ns == stamp
    diversity.answers(tmp_path, diversity.WHOLE, training, asked, 3, TOWERS, SETTINGS)
    assert kept.stat().st_mtime_ns > stamp
    assert not list(tmp_path.rglob("checkpoint.safetensors"))


def test_an_arm_speaks_its_own_language(training, asked, tmp_path):
    arm = diversity.ARMS["Chinese only"]
    _, tokenizer = diversity.teach(arm, training, 2, TOWERS, SETTINGS, tmp_path)
    written = (tmp_path / "tokenizer" / "tokenizer.json").read_text("utf-8")
    assert "疑" in written
    assert tokenizer.unk_token_id not in tokenizer("疑似青光眼。")["input_ids"]


def test_arms_are_compared_seed_by_seed():
    told = {
        diversity.WHOLE: [{"a": 0.8, "b": 0.6}, {"a": 0.9, "b": 0.7}, {"a": 0.7, "b": 0.5}],
        "worse": [{"a": 0.7, "b": 0.5}, {"a": 0.8, "b": 0.61}, {"a": 0.6, "b": 0.41}],
        "perhaps": [{"a": 0.79, "b": 0.6}, {"a": 0.88, "b": 0.7}, {"a": 0.69, "b": 0.5}],
        "same": [{"a": 0.8, "b": 0.7}, {"a": 0.8, "b": 0.7}, {"a": 0.7, "b": 0.55}],
    }
    rows = {row["arm"]: row for row in diversity.compare(told)}
    assert rows[diversity.WHOLE]["auc"]["value"] == pytest.approx(0.7)
    assert rows["worse"]["difference"]["value"] == pytest.approx(-0.0967, abs=1e-3)
    assert rows["worse"]["difference"]["high"] < 0  # though the seeds vary more than that
    assert rows["worse"]["adjusted_p"] < 0.05 < rows["perhaps"]["adjusted_p"]
    assert rows[diversity.WHOLE]["adjusted_p"] is None
    assert diversity.verdict(list(rows.values())) == "Over 3 seeds, worse than everything: worse."
    assert diversity.table(list(rows.values()))["set"].tolist()[-1] == "worse"
    single = diversity.compare({name: seeds[:1] for name, seeds in told.items()})
    assert "nothing is said" in diversity.verdict(single)


@pytest.mark.parametrize("names", [["one wording"], ["everything", "everything"], ["everything", "French"]])
def test_arms_that_cannot_be_compared_are_refused(names):
    with pytest.raises(ValueError, match="choose from everything"):
        diversity.check_arms(names)
