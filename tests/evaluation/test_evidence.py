"""What maps say beside sentences: how evidence is measured, and the rule that combines both."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from visionclip import conditions
from visionclip.conditions import FINDINGS
from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import ClassOf, Dataset, Task
from visionclip.evaluation import evidence, scoring, statements
from visionclip.evaluation.evidence import Measured, Rule
from visionclip.models import visionclip

NAMES = list(FINDINGS)


def maps(**shown):
    """Logits 1×C×24×24, -5 but for a square of 5: of each finding (top, left, height, width)."""
    logits = torch.full((1, len(NAMES), 24, 24), -5.0)
    for name, (top, left, height, width) in shown.items():
        logits[0, NAMES.index(name), top : top + height, left : left + width] = 5
    return logits


def of_maps(logits):
    return evidence.of_findings(evidence.seen(logits, NAMES))


def test_what_shows_a_finding_of_a_disease_is_evidence_of_it():
    nothing, spot = of_maps(maps()), of_maps(maps(exudate=(3, 4, 2, 2)))
    assert nothing.keys() == evidence.FOUND.keys() <= set(conditions.DISEASES)
    raised = {key for key in spot if spot[key][0] > nothing[key][0]}
    assert raised == {key for key in evidence.FOUND if "exudate" in evidence.FOUND[key]}


def test_the_cup_to_disc_ratio_is_of_areas():
    disc = maps(disc=(4, 4, 10, 10))
    for width, ratio in ((2, 0.2), (5, 0.5), (9, 0.9)):
        both = maps(disc=(4, 4, 10, 10), cup=(5, 5, width, width))
        assert of_maps(both)["gc"][0] == pytest.approx(ratio, abs=0.06)
    elsewhere = maps(disc=(4, 4, 10, 10), cup=(18, 18, 5, 5))
    assert of_maps(elsewhere)["gc"][0] == pytest.approx(of_maps(disc)["gc"][0])
    assert of_maps(maps(cup=(4, 4, 3, 3)))["gc"][0] == evidence.NO_DISC


def measured(eyes, rng, noise=0.5, disagreeing=False):
    """Sentences and evidence that say the truth, with noise; or sentences that say nothing."""
    truth = np.nan_to_num(statements.targets(eyes))
    stated = 7 + 3 * (0 * truth if disagreeing else truth) + rng.normal(0, noise, truth.shape)
    of = {key: truth[:, statements.CONDITIONS.index(f"{key}>=1")] for key in ("dr_grade", "gc")}
    return Measured(stated, {key: 40 * own + rng.normal(0, 40 * noise, len(own)) for key, own in of.items()})


def test_a_rule_is_above_zero_where_a_condition_is_likelier_than_not(held_out):
    rng = np.random.default_rng(0)
    rules = evidence.fit(measured(held_out.conditions, rng), held_out)
    assert {"dr_grade>=1", "dr_grade>=2"} <= rules.keys()
    truth, fresh = statements.targets(held_out.conditions), measured(held_out.conditions, rng)
    for name, rule in rules.items():
        place = statements.CONDITIONS.index(name)
        known = ~np.isnan(truth[:, place])
        own = fresh.evidence.get(name.split(">=")[0])
        logits = rule.logits(fresh.stated[:, place], own)[known]
        agree = (logits > 0) == (truth[known, place] == 1)
        assert agree.mean() > 0.8
        assert min(rule.sensitivity, rule.specificity) > 0.8
    assert (rules["dr_grade>=1"].evidence is None, rules["dr_grade>=1"].slope > 0) == (False, True)


def test_evidence_speaks_where_sentences_say_nothing(held_out):
    rng = np.random.default_rng(1)
    seen = measured(held_out.conditions, rng, 0.2, disagreeing=True)
    rules, tasks = evidence.fit(seen, held_out), scoring.phantom_tasks(held_out)
    aucs = {
        row["task"]: row["auc"].value for row in scoring.evaluate(tasks, evidence.predict(rules, seen, tasks), 0, 100)
    }
    assert aucs["referable_dr"] > 0.75
    alone = Measured(seen.stated, {})
    blind = evidence.predict(evidence.fit(alone, held_out), alone, tasks)
    assert scoring.evaluate(tasks, blind, 0, 100)[1]["auc"].value < 0.7


def test_classes_are_of_one_condition_or_of_none(held_out):
    """Where one is a union of several nothing is predicted: the sentences answer."""
    seen = measured(held_out.conditions, np.random.default_rng(2))
    fitted = evidence.fit(seen, held_out)["dr_grade>=1"]
    intercepts = {"dr_grade>=1": 1.0, "dr_grade>=2": 0.0, "dr_grade>=3": 0.5, "dr_grade>=4": -2.0}
    rules = {name: replace(fitted, evidence=None, slope=1.0, intercept=x) for name, x in intercepts.items()}
    stated = np.full((len(held_out), len(statements.CONDITIONS)), fitted.stated[0])

    def predicted(*classes, known=rules):
        task = Task("t", False, [ClassOf(str(place), facts) for place, facts in enumerate(classes)], np.array([], int))
        dataset = Dataset("d", "all", held_out, [task], {}, {}, [])
        return evidence.predict(known, Measured(stated, {}), dataset)

    at_least = 1 / (1 + np.exp([-1.0, 0.0, 0.0, 2.0]))  # a grade of 3 or more is no likelier than one of 2 or more
    (logits,) = predicted(
        [{"dr_grade": 0}], [{"dr_grade": 1}, {"dr_grade": 2}], [{"dr_grade": 3}, {"dr_grade": 4}]
    ).values()
    assert np.exp(logits[0]) == pytest.approx([1 - at_least[0], at_least[0] - at_least[2], at_least[2]])
    (none,) = predicted([{"dr_grade": 2}], [{"dr_grade": 3}]).values()
    assert np.exp(none[0]) == pytest.approx([evidence.CERTAIN, at_least[2] - at_least[3]])
    (normal,) = predicted([{}], [{"dr_grade": 4}]).values()
    assert np.exp(normal[0]) == pytest.approx([1 - at_least[0], at_least[3]])
    assert predicted([{"dr_grade": 0}], [{"gc": 1}]) == {}
    both = rules | {"gc>=1": replace(fitted, evidence=None, slope=1.0, intercept=1.5)}
    any_grade, glaucoma = at_least[0], 1 / (1 + np.exp(-1.5))
    (several,) = predicted([{}], [{"dr_grade": value} for value in (1, 2, 3, 4)], [{"gc": 1}], known=both).values()
    each = [(1 - any_grade) * (1 - glaucoma), any_grade * (1 - glaucoma), glaucoma * (1 - any_grade)]
    assert np.exp(several[0]) == pytest.approx(each)
    assert predicted([{}], [{"dr_grade": 1}, {"gc": 1}], known=both) == {}
    assert predicted([{"gc": 0}], [{"gc": 1}]) == {}
    assert predicted([{"dr_grade": 0}], [{"dr_grade": 1}], known={"dr_grade>=1": fitted}) == {}


def clinic(*classes, targets=(0, 0, 1, 1, -1)):
    """Blank photographs with one task of these classes."""
    count = len(targets)
    keys = [str(place) for place in range(count)]
    images = LabelledImages(np.zeros((count, 4, 4, 3), np.uint8), [{}] * count, keys, keys)
    task = Task("t", False, [ClassOf(str(place), facts) for place, facts in enumerate(classes)], np.array(targets))
    return Dataset("clinic", "test", images, [task])


NONE, MILD, REST = [{"dr_grade": 0}], [{"dr_grade": 1}], [{"dr_grade": grade} for grade in (2, 3, 4)]
RULE = Rule((0.0, 1.0), None, 2.0, -1.0, 0.8, 0.9)
RULES = dict.fromkeys(statements.CONDITIONS, RULE)


def test_a_threshold_of_phantoms_is_tried_on_other_eyes():
    rules, logits = RULES, {"t": np.eye(2)[[0, 1, 1, 1, 0]]}
    (row,) = evidence.at_thresholds(rules, logits, clinic(NONE + MILD, REST))
    assert (row["condition"], row["threshold"], row["n"], row["positive"]) == ("dr_grade>=2", 0.5, 4, 2)
    assert (row["sensitivity"].value, row["specificity"].value) == (1, 0.5)
    assert row["sensitivity"].low < 1
    (turned,) = evidence.at_thresholds(rules, {"t": -logits["t"]}, clinic(REST, MILD + NONE, targets=[1, 1, 0, 0, -1]))
    assert turned == row, "whichever class comes first"


@pytest.mark.parametrize("classes", [(NONE, REST), ([{}], [{"gc": 1}, {"amd": 1}]), (NONE, MILD, REST)], ids=str)
def test_a_task_that_no_rule_parts_has_no_threshold(classes):
    assert evidence.at_thresholds(RULES, {"t": np.zeros((5, len(classes)))}, clinic(*classes)) == []


def test_a_task_that_the_sentences_alone_answer_has_no_threshold():
    some = {name: rule for name, rule in RULES.items() if name != "dr_grade>=4"}
    assert evidence.at_thresholds(some, {"t": np.zeros((5, 2))}, clinic(NONE + MILD, REST)) == []


@pytest.mark.parametrize(
    ("classes", "condition"),
    [(([{}], [{"amd": 1}]), "amd>=1"), (([{"dm": 0}], [{"dm": 1}]), "pm>=1"), ((NONE, MILD + REST), "dr_grade>=1")],
    ids=str,
)
def test_any_two_classes_of_one_condition_have_its_rule(classes, condition):
    (row,) = evidence.at_thresholds(RULES, {"t": np.zeros((5, 2))}, clinic(*classes))
    assert row["condition"] == condition
    lacking = clinic(*classes, targets=[0, 0, 0])
    assert evidence.at_thresholds(RULES, {"t": np.zeros((3, 2))}, lacking) == []


def test_what_has_a_pyramid_finds_evidence(untrained, held_out):
    network, words = untrained
    without = evidence.measure(network, words, held_out.pixels[:5], ["zh"], 2)
    assert (without.stated.shape, without.evidence) == ((5, len(statements.CONDITIONS)), {})
    torch.manual_seed(0)
    finding = visionclip.VisionCLIP(visionclip.sized(8, 1, 64, 16, len(words), pyramid_size=8))
    seen = evidence.measure(finding, words, held_out.pixels[:5], ["zh"], 2)
    assert seen.evidence.keys() == evidence.FOUND.keys()
    assert {own.shape for own in seen.evidence.values()} == {(5,)}
