"""Ablation arms of captions and eyes: what they draw, scores kept until something changes, and the comparison."""

from dataclasses import replace

import numpy as np
import pytest

import tiny_images
from visionclip import conditions, phantom
from visionclip.data import phantoms
from visionclip.evaluation import scoring
from visionclip.stages import diversity
from visionclip.training import contrastive, loop

TOWERS = {
    "image_width": 8,
    "text_layers": 1,
    "text_width": 64,
    "projection_size": 16,
    "pyramid_size": 8,
    "loss": "multi_positive",
    "sizes": [16, 32],
    "updates": [100, 50],
    "scales": [1.0],
    "condition_weight": 1.0,
    "map_weight": 1.0,
    "batch_size": 16,
    "learning_rate": 1e-3,
    "precision": "fp32",
}
REFERENCE = diversity.ARMS[diversity.REFERENCE]


@pytest.fixture(scope="module")
def training():
    return diversity.draw(REFERENCE, 48, 32, 0, workers=1)


@pytest.fixture(scope="module")
def held_out(training):
    return scoring.phantom_tasks(training)


@pytest.fixture
def trained(monkeypatch):
    """How many images and captions each training took that was not read back."""
    counts, train = [], contrastive.train

    def counted(network, tokenizer, pairs, *given):
        counts.append((len(pairs), len(pairs.captions)))
        return train(network, tokenizer, pairs, *given)

    monkeypatch.setattr(contrastive, "train", counted)
    return counts


def evaluate(folder, training, held_out, name=diversity.REFERENCE, per_image=2, towers=TOWERS, **changed):
    return diversity.evaluate(
        folder, name, training, [held_out], per_image, towers, **{"updates": 2, "text_warmup": 2, "seed": 0, **changed}
    )


def test_arms_with_the_same_eyes_share_them():
    drawings = {name: arm.drawing for name, arm in diversity.ARMS.items()}
    reference = drawings.pop(diversity.REFERENCE)
    different = {name for name, drawing in drawings.items() if drawing != reference}
    assert different == {"one camera", "one anatomy", "one disease an eye", diversity.UNSEEN}
    assert len({drawings[name] for name in different}) == 4


def test_captions_without_findings_know_the_diseases_and_keep_the_maps(training):
    unsaid = diversity.unsaid(training)
    assert set().union(*unsaid.conditions) <= conditions.VOCABULARY.keys()
    assert any(set(eye) & set(conditions.OBSERVED) for eye in training.conditions)
    assert unsaid.masks is training.masks
    assert [eye["dr_grade"] for eye in unsaid.conditions] == [eye["dr_grade"] for eye in training.conditions]


def test_each_set_is_drawn_once(monkeypatch):
    drawn = []
    monkeypatch.setattr(diversity, "draw", lambda arm, count, size, seed: drawn.append((arm.drawing, seed)))
    sets = diversity.draw_all(list(diversity.ARMS), [0, 1], 8, 32)
    assert len(sets) == len(drawn) == len(set(drawn)) == 10
    assert all((arm.drawing, seed) in sets for arm in diversity.ARMS.values() for seed in (0, 1))


@pytest.mark.parametrize("arm", diversity.ARMS.values(), ids=diversity.ARMS)
def test_fixed_factors_exist(arm):
    drawn = phantom.render({"dr_grade": 3}, np.random.default_rng(0), 32, **arm.fixed)
    assert {name: drawn.parameters[name] for name in arm.fixed} == arm.fixed


def test_one_disease_an_eye_leaves_one(monkeypatch):
    monkeypatch.setattr(diversity.phantoms, "draw", lambda eyes, *_, **__: eyes)
    eyes = diversity.draw(diversity.ARMS["one disease an eye"], 400, 32, 0)
    whole = diversity.draw(REFERENCE, 400, 32, 0)
    counts = [sum(eye[key] > 0 for key in conditions.DISEASES) for eye in eyes]
    assert max(counts) == 1
    assert [conditions.presentation(eye) for eye in eyes] == [conditions.presentation(eye) for eye in whole]
    assert [eye["eye_side"] for eye in eyes] == [eye["eye_side"] for eye in whole]
    assert max(sum(eye[key] > 0 for key in conditions.DISEASES) for eye in whole) > 1


def test_phantoms_that_train_are_prepared_as_the_held_out_ones_are():
    """The same eyes drawn as stage 01 draws a set: the same pixels, maps and facts."""
    (eyes, drawn_from), size = drawn_as(6), 48
    of_set = phantoms.draw(eyes, drawn_from, size, "a set", 1, masks="findings")
    trains = diversity.draw(REFERENCE, 6, size, 0, workers=1)
    assert np.array_equal(trains.pixels, of_set.pixels)
    assert np.array_equal(trains.masks, of_set.masks)
    assert trains.conditions == of_set.conditions
    assert trains.mask_names == of_set.mask_names
    rendered = phantoms.draw(eyes, drawn_from, size, "rendered", 1)
    assert not np.array_equal(trains.pixels, rendered.pixels)


def drawn_as(count):
    """Conditions and streams of the reference arm's eyes."""
    eyes = phantoms.balanced_eyes(count, 0, diversity.TRAINING, 0.1)
    return eyes, [(0, diversity.TRAINING, place) for place in range(count)]


def test_held_out_phantoms_are_brought_to_the_size(training):
    assert diversity.held_out_tasks(training, 32).images.pixels is training.pixels, "they are prepared once"
    tasks = diversity.held_out_tasks(training, 24)
    assert tasks.images.pixels.shape == (48, 24, 24, 3)
    assert tasks.images.conditions == training.conditions
    assert "dr_grade" in {task.name for task in tasks.tasks}


def test_scores_are_kept(training, held_out, tmp_path, trained):
    first = evaluate(tmp_path, training, held_out)
    assert set(first["tasks"]) == {scoring.PHANTOMS}
    assert set(first["tasks"][scoring.PHANTOMS]) == {task.name for task in held_out.tasks}
    assert all(0 <= value <= 1 for value in first["tasks"][scoring.PHANTOMS].values())
    assert evaluate(tmp_path, training, held_out) == first
    assert len(trained) == 1


CHANGES = {
    "captions": lambda training, held_out: {"per_image": 3},
    "updates": lambda training, held_out: {"updates": 3},
    "width": lambda training, held_out: {"towers": {**TOWERS, "projection_size": 8}},
    "pixels": lambda training, held_out: {"training": replace(training, pixels=255 - training.pixels)},
    "maps": lambda training, held_out: {"training": replace(training, masks=255 - training.masks)},
    "facts of findings": lambda training, held_out: {
        "training": replace(training, conditions=[{**eye, "membrane": 1} for eye in training.conditions])
    },
    "tower": lambda training, held_out: {},
    "conditions": lambda training, held_out: {"training": replace(training, conditions=training.conditions[::-1])},
    "held-out pixels": lambda training, held_out: {
        "held_out": replace(held_out, images=replace(held_out.images, pixels=255 - held_out.images.pixels))
    },
    "targets": lambda training, held_out: {
        "held_out": replace(held_out, tasks=[replace(one, targets=one.targets[::-1]) for one in held_out.tasks])
    },
    "code": lambda training, held_out: {},
}


@pytest.mark.parametrize("what", CHANGES)
def test_scores_are_made_anew_when_what_made_them_changes(training, held_out, tmp_path, trained, monkeypatch, what):
    evaluate(tmp_path, training, held_out)
    if what == "code":
        monkeypatch.setattr(diversity.keys, "code", lambda *_: "other code")
    if what == "tower":  # another one in the same folder
        monkeypatch.setattr(diversity.pretrain, "tower_key", lambda _: "another")
    given = {"training": training, "held_out": held_out}
    evaluate(tmp_path, **{**given, **CHANGES[what](training, held_out)})
    assert len(trained) == 2


def test_a_stopped_arm_equals_an_uninterrupted_one(training, held_out, tmp_path, monkeypatch):
    expected = evaluate(tmp_path / "whole", training, held_out, updates=4)

    def interrupted(items, label, total=None):
        for done, item in enumerate(items):
            if label == "pretrain" and done == 2:
                raise KeyboardInterrupt
            yield item

    tiny_images.save_every_update(monkeypatch)
    monkeypatch.setattr(loop, "progress", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path / "stopped", training, held_out, updates=4)
    assert not list(tmp_path.rglob("stopped/*.json"))
    taken = tiny_images.watch(monkeypatch)
    assert evaluate(tmp_path / "stopped", training, held_out, updates=4) == expected
    assert taken == [2, 3], "the text warm-up was finished"


def test_seeds_and_arms_keep_their_own_scores(training, held_out, tmp_path, trained):
    for given in ({}, {"seed": 1}, {"name": "one wording"}, {}):
        evaluate(tmp_path, training, held_out, **given)
    assert len(trained) == 3
    assert {path.name for path in tmp_path.glob("*.json")} == {
        "everything-0.json",
        "everything-1.json",
        "one-wording-0.json",
    }
    assert trained[2][1] < trained[0][1], "one wording has fewer texts"


def test_an_arm_is_trained_and_prompted_in_its_own_words(training, held_out, tmp_path, monkeypatch):
    seen, predict = {}, diversity.zero_shot.predict

    def noted(network, tokenizer, dataset, languages, prompts, style):
        seen["prompts"] = languages, style
        return predict(network, tokenizer, dataset, languages, 1, style)

    def untrained(network, tokenizer, pairs, *_):
        seen["captions"] = {caption.language for caption in pairs.captions}

    monkeypatch.setattr(diversity.zero_shot, "predict", noted)
    monkeypatch.setattr(contrastive, "train", untrained)
    for name, languages in (("English only", ("en",)), ("one wording", ("zh", "en"))):
        evaluate(tmp_path, training, held_out, name)
        assert seen["captions"] == set(languages)
        assert seen["prompts"] == (languages, diversity.ARMS[name].style)


def scored(**arms):
    """What ``evaluate`` gives of two sets, the photographs with nothing in them, of AUCs for each seed."""
    return {
        name: [{scoring.PHANTOMS: {"a": auc + 0.1, "b": auc - 0.1}, "clinic_dev": {"a": 0.5}} for auc in seeds]
        for name, seeds in arms.items()
    }


SCORES = scored(
    everything=[0.7, 0.8, 0.6, 0.7],
    worse=[0.6, 0.705, 0.505, 0.595],
    perhaps=[0.69, 0.82, 0.57, 0.70],
)


def test_arms_are_compared_seed_by_seed_on_each_set():
    rows = diversity.compare(SCORES)
    assert [row["dataset"] for row in rows] == [scoring.PHANTOMS] * 3 + ["clinic_dev"] * 3
    reference, worse, perhaps = rows[:3]
    assert reference["auc"].value == pytest.approx(0.7)
    assert reference["against"] is reference["detectable"] is None
    assert worse["against"].difference.value == pytest.approx(-0.09875)
    assert worse["against"].difference.high < 0  # though the seeds vary more than that
    assert worse["against"].adjusted_p < 0.05 < perhaps["against"].adjusted_p
    assert worse["detectable"] < 0.02 < perhaps["detectable"] < 0.1
    table = diversity.table(rows)
    assert table["difference to everything"][1].startswith("-0.099 [")
    assert len(diversity.forest(rows)) == 4


def test_the_verdict_says_what_is_resolved_and_what_could_hide():
    rows = diversity.compare(SCORES)
    verdict = diversity.verdict(rows)
    assert verdict.startswith("On held-out phantoms, over 4 seeds, worse changes AUC by -0.099 [")
    assert "nothing else is resolved: the widest is perhaps, -0.005 [" in verdict
    assert verdict.endswith(f"where up to {rows[2]['detectable']:.3f} could hide.")
    assert "nothing is said" in diversity.verdict(rows, "clinic_dev")
    weak = diversity.compare(scored(everything=[0.52, 0.5, 0.51], worse=[0.5, 0.51, 0.5]))
    assert "no arm learns enough in these trainings" in diversity.verdict(weak)
    single = diversity.compare({name: seeds[:1] for name, seeds in SCORES.items()})
    assert "nothing is said" in diversity.verdict(single)
    assert diversity.table(single)["could hide"].tolist() == [""] * 6


def test_of_the_unseen_arm_no_eye_has_the_disease(monkeypatch):
    monkeypatch.setattr(diversity.phantoms, "draw", lambda eyes, *_, **__: eyes)
    unseen, whole = (diversity.draw(diversity.ARMS[name], 200, 32, 0) for name in (diversity.UNSEEN, "everything"))
    having = [place for place, eye in enumerate(whole) if eye["rvo"]]
    assert having
    assert not any(eye["rvo"] for eye in unseen)
    assert unseen == [{**eye, "rvo": 0} for eye in whole]


def test_a_withheld_disease_is_asked_for_in_three_ways(training, held_out, tmp_path, monkeypatch):
    texts, encode = [], diversity.zero_shot.prompt_embeddings

    def noted(network, tokenizer, task, *given):
        texts.append([one.facts for one in task.classes])
        return encode(network, tokenizer, task, *given)

    monkeypatch.setattr(diversity.zero_shot, "prompt_embeddings", noted)
    eyes = [{**eye, "rvo": int(place % 3 == 0)} for place, eye in enumerate(training.conditions)]
    held_out = scoring.phantom_tasks(replace(training, conditions=eyes))
    found = {
        name: [evaluate(tmp_path, training, held_out, name, seed=seed) for seed in (0, 1)]
        for name in ("everything", diversity.UNSEEN)
    }
    assert [[{"haemorrhage": 0}], [{"haemorrhage_amount": 2}]] in texts
    rows = diversity.by_words(found)
    assert [row["way"] for row in rows] == [*diversity.WAYS]
    assert {row["dataset"] for row in rows} == {scoring.PHANTOMS}
    of_task = [seed["tasks"][scoring.PHANTOMS]["rvo"] for seed in found[diversity.UNSEEN]]
    assert rows[0]["unseen"].value == pytest.approx(np.mean(of_task)), "by its name, as the task asks"
    assert "withheld" not in evaluate(tmp_path, training, held_out, "one wording")
    assert diversity.by_words({"everything": found["everything"]}) == []


def test_the_sentence_says_by_which_words_an_unseen_disease_is_found():
    scores = {
        "everything": [{"withheld": {"eyes": dict.fromkeys(diversity.WAYS, 0.8)}}] * 3,
        diversity.UNSEEN: [
            {"withheld": {"eyes": {"its name": 0.5, "its definition": 0.4 + change, "its findings": 0.7 + change}}}
            for change in (0.0, 0.01, 0.02)
        ],
    }
    said = diversity.says_of_unseen(diversity.by_words(scores))
    assert said.startswith("eyes: retinal vein occlusion that no eye had is found best by its findings, AUC 0.710 [")
    assert "not surely" not in said
    scores[diversity.UNSEEN][0]["withheld"]["eyes"]["its findings"] = 0.3
    assert "not surely above chance" in diversity.says_of_unseen(diversity.by_words(scores))
    assert "takes the arm" in diversity.says_of_unseen([])


def test_photographs_for_development_are_scored_beside_the_phantoms(study, training):
    assert len(diversity.held_out_sets(training, str(study.root / "eyes"), 24)) == 1, "a test split is reported"
    (study.root / "eyes" / "clinic").rename(study.root / "eyes" / "clinic_dev")
    phantoms_, clinic = diversity.held_out_sets(training, str(study.root / "eyes"), 24)
    assert phantoms_.name == scoring.PHANTOMS
    assert (clinic.name, len(clinic)) == ("clinic_dev (development)", 8)
