"""What predictions are worth on photographs: cut, probability, AUC, what is kept of it, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from visionclip import conditions, runs
from visionclip.data.tasks import ClassOf, Dataset, Task
from visionclip.evaluation import evidence, reference
from visionclip.evaluation.intervals import Interval
from visionclip.models import saved, visionclip


@pytest.fixture(scope="module")
def network(untrained):
    torch.manual_seed(0)
    return visionclip.VisionCLIP(visionclip.sized(8, 1, 64, 16, len(untrained[1]), pyramid_size=8)).train(False)


@pytest.fixture(scope="module")
def made(network, held_out, untrained):
    words = untrained[1]
    truth = (np.arange(80) % 4 == 0).astype(int)
    task = Task("gc", False, [ClassOf("no", [{"gc": 0}]), ClassOf("yes", [{"gc": 1}])], truth)
    clinic = Dataset("clinic", "development", held_out, [task], {}, {}, [])
    return reference.make(network, words, held_out, [clinic], ["zh", "en"], 2, shown=25)


def test_what_is_known_of_a_photograph_is_what_its_tasks_say(held_out):
    grades = [ClassOf(f"grade {value}", [{"dr_grade": value}]) for value in range(5)]
    referable = [ClassOf("no", [{"dr_grade": 0}, {"dr_grade": 1}]), ClassOf("yes", [{"dr_grade": 2}])]
    healthy = [ClassOf("diseased", [{"amd": 1}, {"gc": 1}]), ClassOf("healthy", [{"amd": 0, "gc": 0}])]
    tasks = [
        Task("grade", True, grades, np.array([0, 3, -1])),
        Task("referable", False, referable, np.array([0, 1, 1])),
        Task("healthy", False, healthy, np.array([1, 0, -1])),
    ]
    clinic = Dataset("clinic", "", held_out.take(range(3)), tasks[:1] + tasks[2:], {}, {}, [])
    assert reference.labels(clinic) == [{"dr_grade": 0, "amd": 0, "gc": 0}, {"dr_grade": 3}, {}]
    myopia = Task("pm", False, [ClassOf("no", [{"pm": 0}]), ClassOf("yes", [{"pm": 1}])], np.array([0, 1, -1]))
    of_myopia = Dataset("clinic", "", held_out.take(range(3)), [myopia], {}, {}, [])
    assert reference.labels(of_myopia) == [{"pm": 0, "dm": 0}, {"pm": 1, "dm": 1}, {}]
    alone = Dataset("clinic", "", held_out.take(range(3)), tasks[1:2], {}, {}, [])
    assert reference.labels(alone) == [{}, {"dr_grade": 2}, {"dr_grade": 2}]


def test_a_set_in_which_nobody_has_a_condition_says_nothing_of_it():
    known = np.array([[0.0, 0, 1, np.nan], [0, 1, 1, 0], [0, np.nan, 1, 1]])
    kept = reference._of_both(known)
    assert np.isnan(kept[:, [0, 2]]).all(), "healthy eyes of one camera against ill ones of another"
    np.testing.assert_array_equal(kept[:, [1, 3]], known[:, [1, 3]])


ONE = np.full(2000, "clinic")  # the set of every photograph


def test_a_separable_condition_is_worth_more_than_noise():
    rng, having = np.random.default_rng(0), np.arange(200) % 4 == 0
    groups = np.arange(200).astype(str)
    good = reference._worth(having * 3.0 + rng.normal(0, 1, 200), having, groups, ONE[:200])
    noise = reference._worth(rng.normal(0, 1, 200), having, groups, ONE[:200])
    assert good.above_chance
    assert not noise.above_chance
    assert (good.n, good.positive) == (200, 50)
    assert good.sensitivity > 0.8 > noise.sensitivity
    near, far = good.probability(np.array([0.0, 3.0]))
    assert 0 < near < 0.25 < 0.75 < far < 1
    assert noise.probability(np.array([0.0])) == pytest.approx(0.25, abs=0.1), "the share of photographs that have it"


def test_what_is_ranked_the_wrong_way_round_has_the_share_that_has_it():
    having = np.arange(400) % 10 == 0
    for level in (4.0, -4.0):
        logits = level - having * 1.0 + np.random.default_rng(0).normal(0, 1, 400)
        worth = reference._worth(logits, having, np.arange(400).astype(str), ONE[:400])
        assert worth.probability(np.array([-9.0, level, 9.0])) == pytest.approx([0.1] * 3)


def test_one_in_ten_without_the_condition_reaches_the_cut():
    having = np.arange(2000) % 2 == 0
    worth = reference._worth(np.random.default_rng(0).normal(0, 1, 2000), having, np.arange(2000).astype(str), ONE)
    assert worth.cut == pytest.approx(1.28, abs=0.15)
    assert worth.sensitivity == pytest.approx(0.1, abs=0.04)


def test_of_few_photographs_nothing_is_said():
    having = np.arange(100) < reference.LEAST - 1
    assert reference._worth(np.zeros(100), having, np.arange(100).astype(str), ONE[:100]) is None


def test_a_reference_is_read_as_it_was_written(made, network, tmp_path):
    reference.save(made, tmp_path)
    read = reference.load(tmp_path, network)
    assert (read.weights, read.languages, read.prompt_count) == (saved.key(network), ["zh", "en"], 2)
    assert (read.rules, read.worth, read.sets, read.eyes) == (made.rules, made.worth, ["clinic"], made.eyes)
    assert made.worth.keys() == {"gc>=1"}, "nothing else is labelled"
    assert read.findings == made.findings
    assert read.thumbnails.shape == made.thumbnails.shape == (25, reference.THUMBNAIL, reference.THUMBNAIL, 3)
    np.testing.assert_allclose(read.embeds, made.embeds, atol=1e-3)
    places, similarity = read.nearest(made.embeds[:3], 2)
    assert places[:, 0].tolist() == [0, 1, 2]
    assert (similarity[:, 0] > 0.99).all()


def test_one_in_ten_healthy_photographs_reaches_the_cut_of_a_lesion(made, network, held_out, untrained):
    healthy = held_out.pixels[np.arange(80) % 4 > 0]
    seen = evidence.find(network, untrained[1], healthy, ["zh", "en"])
    assert made.findings.keys() == {name for name, finding in conditions.FINDINGS.items() if finding.lesion}
    for name, cut in made.findings.items():
        assert (seen[name] > cut).mean() == pytest.approx(0.1, abs=0.02)


def test_the_worst_set_stands_beside_all_of_them_together():
    rng, having = np.random.default_rng(0), np.arange(400) % 2 == 1
    sets = np.repeat(["easy", "hard"], 200)
    logits = np.where(sets == "easy", 4.0, 1.0) * having + rng.normal(0, 1, 400)
    worth = reference._worth(logits, having, np.arange(400).astype(str), sets)
    name, auc = worth.lowest
    assert name == "hard"
    assert auc.value < worth.auc.value < worth.by_set["easy"].value
    assert reference._worth(logits, having, np.arange(400).astype(str), ONE[:400]).lowest is None


def test_without_photographs_there_are_rules_and_no_worth(held_out, untrained):
    alone = reference.make(*untrained, held_out, [], ["en"], 1, shown=5)
    assert alone.rules
    assert not alone.worth
    assert not alone.findings


def test_there_may_be_none_and_one_of_other_conditions_or_weights_is_refused(made, network, tmp_path):
    assert reference.load(tmp_path, network) is None
    reference.save(replace(made, rules={"gout>=1": next(iter(made.rules.values()))}), tmp_path)
    with pytest.raises(ValueError, match="of other conditions than there are now; make it anew"):
        reference.load(tmp_path, network)
    reference.save(replace(made, weights="others"), tmp_path)
    with pytest.raises(ValueError, match="of another model than lies beside it; make it anew"):
        reference.load(tmp_path, network)


def test_the_published_model_has_one():
    folder = runs.ROOT / "weights/visionclip"
    published = reference.load(folder, visionclip.load(folder)[0])
    assert published is not None
    assert "haemorrhage" in published.findings
    assert {"dr_grade>=2", "gc>=1", "amd>=1"} <= {name for name, one in published.worth.items() if one.above_chance}
    assert all(isinstance(one.auc, Interval) for one in published.worth.values())
    assert np.linalg.norm(published.embeds, axis=1) == pytest.approx(1, abs=0.01)
