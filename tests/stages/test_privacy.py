"""Members and controls, what is trained on members alone, and what the attacks make of generators and models."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

import tiny_images
from visionclip import conditions
from visionclip.data import folders
from visionclip.data.labelled import LabelledImages
from visionclip.evaluation import privacy as measures
from visionclip.evaluation.intervals import Interval
from visionclip.stages import privacy
from visionclip.training.denoising import Settings

SETTINGS = Settings(patch=4, channels=(8, 16), updates=3, batch_size=4, learning_rate=2e-3, precision="fp32")


@pytest.fixture(scope="module")
def halves():
    known = tiny_images.discs(24, 32).without_masks()  # what the study allows: of 16 pixels bf16 makes NaN at times
    return privacy.Halves("clinic", "", *privacy.split(known, 12, 0))


@pytest.fixture(scope="module")
def learnt(halves, tmp_path_factory):
    return privacy.learn(halves.members, SETTINGS, tmp_path_factory.mktemp("generator"))


def names(known: LabelledImages) -> set[str]:
    return set(known.keys)


def test_members_and_controls_are_as_many_and_share_no_patient():
    known = tiny_images.discs(24).without_masks()
    grouped = replace(known, groups=[str(place // 3) for place in range(24)])
    for seed in range(5):
        members, controls = privacy.split(grouped, 100, seed)
        assert len(members) == len(controls) == 12
        assert not set(members.groups) & set(controls.groups)
    few, others = privacy.split(known, 5, 0)
    assert len(few) == len(others) == 5
    assert not names(few) & names(others)
    assert names(privacy.split(known, 5, 1)[0]) != names(few)
    with pytest.raises(ValueError, match="24 labelled images, all of one patient; add photographs of another"):
        privacy.split(replace(known, groups=["one"] * 24), 5, 0)


def test_both_are_members_and_then_controls(halves):
    assert halves.both.keys == halves.members.keys + halves.controls.keys
    assert halves.member.tolist() == [True] * 12 + [False] * 12
    few = halves.few(4)
    assert few.members.keys == halves.members.keys[:4]
    assert few.member.sum() == 4
    assert (halves.shown, replace(halves, credit="by somebody").shown) == (False, True)


def test_a_set_of_photographs_states_what_its_tasks_say(study, monkeypatch):
    external = study.root / "eyes"
    table = external / "clinic" / "labels.csv"
    rows = list(csv.DictReader(table.read_text().splitlines()))
    lines = ["file,split,pm", *(f"{row['file']},{'train' if n < 6 else 'test'},{n % 2}" for n, row in enumerate(rows))]
    table.write_text("\n".join(lines))
    found = privacy.load(external, "clinic", 100, 16, 0)
    assert (found.name, found.credit, found.shown) == ("clinic", "", False)
    assert len(found.members) == len(found.controls) == 3
    assert all(eye == {"pm": int(key[0]) % 2} for eye, key in zip(found.both.conditions, found.both.keys, strict=True))
    train = privacy.published(external, "clinic", 16)
    assert {key[0] for key in train.members.keys} == set("012345")
    assert {key[0] for key in train.controls.keys} == set("67")
    assert privacy.published(external, "elsewhere", 16) is None
    table.write_text("\n".join([lines[0], *lines[4:7]]))
    with pytest.raises(ValueError, match="clinic: 3 labelled photographs; at least 4"):
        privacy.load(external, "clinic", 100, 16, 0)


def test_without_photographs_phantoms_stand_in(tmp_path, monkeypatch):
    drawn = tiny_images.discs(8)
    monkeypatch.setattr(privacy.synthesis, "draw", lambda *_, **__: drawn)
    for photographs in ("", "idrid"):
        found = privacy.load(tmp_path, photographs, 4, 16, 0)
        assert (found.name, found.shown, len(found.members)) == (privacy.PHANTOMS, True, 4)
        assert found.members.masks is None


def test_a_class_with_several_meanings_states_nothing(study):
    dataset = folders.load(study.root / "eyes/clinic", 16)
    (task,) = dataset.tasks
    task.classes[1].facts.append({"gc": 1})
    task.classes[0].facts[:] = [{}]
    known = privacy.stated(dataset)
    assert len(known) == 4
    assert all(eye == dict.fromkeys(conditions.DISEASES, 0) for eye in known.conditions)


def test_a_generator_is_of_its_members_and_taken_up_again(halves, learnt, tmp_path, monkeypatch):
    again = privacy.learn(halves.members, SETTINGS, tmp_path)
    assert tiny_images.same(again.unet, learnt.unet)
    taken = tiny_images.watch(monkeypatch)
    privacy.learn(halves.members, SETTINGS, tmp_path)
    assert taken == []
    privacy.learn(halves.controls, SETTINGS, tmp_path)
    assert taken == [0, 1, 2]


def test_losses_are_the_same_for_the_same_image_and_kept_for_the_same_generator(halves, learnt, tmp_path, monkeypatch):
    twice = privacy.together(halves.members, halves.members)
    first = privacy.denoising_losses(learnt, twice, SETTINGS, tmp_path / "losses.json")
    assert first.shape == (24,)
    np.testing.assert_allclose(first[:12], first[12:])
    assert len(set(first.round(9))) > 1
    monkeypatch.setattr(privacy.denoising, "denoising_loss", lambda *_: torch.tensor(7.0))
    assert (privacy.denoising_losses(learnt, twice, SETTINGS, tmp_path / "losses.json") == first).all()
    with torch.no_grad():
        learnt.unet.label.weight += 1e-3
    assert (privacy.denoising_losses(learnt, twice, SETTINGS, tmp_path / "losses.json") == 7).all()


def test_generated_images_are_of_the_conditions_of_both_in_equal_parts(halves, learnt, monkeypatch):
    seen = []
    monkeypatch.setattr(privacy.sampling, "sample", lambda _, vectors, seed: seen.append(vectors))
    privacy.generate(learnt, halves, 20, 0)
    both = halves.both.vectors
    marked = replace(halves, controls=replace(halves.controls, conditions=[{"pm": 1}] * 12))
    privacy.generate(learnt, marked, 20, 0)
    assert all((row == both).all(1).any() for row in seen[0])
    assert np.isnan(seen[1]).any(1).sum() == 10


def test_a_generator_that_repeats_its_members_is_caught(halves, monkeypatch):
    monkeypatch.setattr(privacy, "features", lambda _, pixels, __: pixels.reshape(len(pixels), -1) / 255.0)
    found = privacy.neighbours(halves.members.pixels, halves, None, 16, 0, 100)
    assert set(found) == {"pixels", "features"}
    for row in found.values():
        assert row["near"].ratio.value < 0.01
        assert row["near"].nearer == 1
        assert row["copies"].value == 1
    table = privacy.neighbour_table({"of few": found})
    assert table["near-copies (chance)"].tolist() == [f"{row['copies']} (0.077)" for row in found.values()]
    rows = privacy.pictures(halves.members.pixels, halves, 3)
    assert (np.stack(rows["generated"]) == np.stack(rows["nearest member"])).all()
    assert [len(row) for row in rows.values()] == [3, 3, 3]


def test_marks_are_burnt_into_a_share_and_counted(halves):
    members = privacy.with_marks(halves.members, 0.5)
    changed = (members.pixels != halves.members.pixels).any((1, 2, 3))
    assert changed.tolist() == [True] * 6 + [False] * 6
    found = privacy.found_marks(np.concatenate([members.pixels[:3], members.pixels[9:]]), members, halves, 0.5)
    assert found["members with it"].value == 1
    assert found["members without"].value <= 1 / 6
    assert found["generated"].value >= 0.5


def test_models_are_of_the_halves_of_their_shadow(halves, tmp_path, monkeypatch):
    trained = []

    def learn(known, updates, seed, folder):
        trained.append((names(known), seed, folder.name))
        return None, None

    monkeypatch.setattr(privacy, "learn_model", learn)
    monkeypatch.setattr(privacy, "caption_losses", lambda *given: np.zeros(24))
    losses, inside = privacy.model_shadows(halves, 4, 2, 0, tmp_path)
    assert losses.shape == inside.shape == (4, 24)
    assert (inside.sum(0) == 2).all(), "each image in half of them"
    assert len({seed for _, seed, _ in trained}) == len({name for _, _, name in trained}) == 4
    assert trained[0][0] | trained[1][0] == names(halves.both)
    for own, (taken, _, _) in zip(inside, trained, strict=True):
        assert taken == {halves.both.keys[place] for place in np.flatnonzero(own)}


def test_generators_are_of_the_halves_of_their_shadow(halves, tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(privacy, "learn", lambda known, settings, folder: trained.append((names(known), settings.seed)))
    monkeypatch.setattr(privacy, "denoising_losses", lambda *given: np.zeros(24))
    losses, inside = privacy.generator_shadows(halves, 2, SETTINGS, tmp_path)
    assert losses.shape == inside.shape == (2, 24)
    (first, one), (second, other) = trained
    assert first | second == names(halves.both)
    assert not first & second
    assert len({one, other, SETTINGS.seed}) == 3


def test_the_loss_of_an_image_is_that_of_its_own_captions(halves, tmp_path):
    network, tokenizer = privacy.learn_model(halves.members, 2, 0, tmp_path)
    losses = privacy.caption_losses(network, tokenizer, halves.both, privacy.LANGUAGES, 0)
    assert losses.shape == (24,)
    assert (losses > 0).all()
    alike = replace(halves.both, conditions=[halves.both.conditions[0]] * 24)
    np.testing.assert_allclose(privacy.caption_losses(network, tokenizer, alike, ("en",), 0).min(), 0, atol=3)


@pytest.mark.parametrize(("away", "words"), [(2.0, "gives away whom"), (0.0, "is not shown to give away whom")])
def test_the_verdict_is_what_the_interval_says(halves, away, words):
    attacks, scores = privacy.Attacks(), np.random.default_rng(3).normal(size=24)
    attacks.add("generator", halves.member, scores + away * halves.member, halves.both.members)
    attacks.add("few", halves.few(4).member, 9.0 * halves.few(4).member, halves.few(4).both.members)
    sentence = privacy.verdict(halves, attacks, "generator", "few", "few")
    assert sentence.startswith(
        f"By losses a generator of 12 photographs of clinic at 32 pixels {words} it learnt from (AUC"
    )
    assert str(attacks.rows["generator"]["auc"]) in sentence
    assert "of 4 learnt by heart 1.000" in sentence
    assert attacks.table()["attack"].tolist() == list(attacks.curves) == ["generator", "few"]


def test_a_few_who_are_surely_found_are_given_away_though_all_others_are_hidden():
    many = tiny_images.discs(400).without_masks()
    halves = privacy.Halves("clinic", "", many.take(range(200)), many.take(range(200, 400)))
    attacks, scores = privacy.Attacks(), np.random.default_rng(0).normal(size=400)
    scores[:200] -= 0.2
    remembered = np.arange(400) < 14
    for name, more in (("generator", 6.0), ("chance", 0.0)):
        attacks.add(name, halves.member, scores + more * remembered, halves.both.members)
    assert attacks.rows["generator"]["auc"].low < 0.5
    said = privacy.verdict(halves, attacks, "generator", "chance", "chance")
    assert said.startswith(
        "By losses a generator of 200 photographs of clinic at 16 pixels gives away whom it learnt from"
    )
    assert "is not shown to give away" in privacy.verdict(halves, attacks, "chance", "chance", "chance")


def test_private_training_needs_no_photograph_for_its_basis(halves, tmp_path, monkeypatch):
    seen = {}

    def train(members, public, settings, folder):
        seen.update(members=members, public=public, settings=settings)
        return "pipeline", []

    monkeypatch.setattr(privacy.private, "train", train)
    monkeypatch.setattr(privacy.private, "LEAST_BATCH", 4)
    monkeypatch.setattr(privacy.synthesis, "draw", lambda *_: tiny_images.discs(6))
    assert privacy.learn_privately(halves.members, SETTINGS, 3.0, tmp_path) == "pipeline"
    assert seen["members"] is halves.members
    assert (seen["settings"].epsilon, seen["settings"].batch_size) == (3.0, 12)
    table = privacy.price({"generator": np.arange(24.0)}, halves.member)
    assert table.iloc[0].tolist() == ["generator", 5.5, 17.5]


def test_what_saw_phantoms_alone_is_at_chance_or_not():
    row = {"members": 100, "controls": 100, "tpr": Interval(0.02, 0.01, 0.07), "auc": Interval(0.52, 0.45, 0.6)}
    said = privacy.of_unseen({"the model": row, "another": row | {"auc": Interval(0.7, 0.6, 0.8)}})
    luck = f"by luck p {measures.by_luck(2, 100, 100):.2f})"
    assert "the model is at chance (AUC 0.520 [0.450, 0.600]; 0.020 [0.010, 0.070] found" in said
    assert luck in said
    assert "another is apart from chance (AUC 0.700" in said
    assert "not attacked" in privacy.of_unseen({})


def test_what_images_teach_is_asked_of_controls(monkeypatch):
    rng = np.random.default_rng(0)
    eyes = [{"dr_grade": 0, "gc": int(place % 2), "amd": int(place == 0)} for place in range(40)]
    noise = rng.integers(0, 50, (40, 4, 4, 3), np.uint8)
    known = LabelledImages(noise, eyes, ["a"] * 40, [str(n) for n in range(40)])
    right = known.vectors[:, conditions.VECTOR_NAMES.index("gc>=1")].astype(np.uint8)[:, None, None, None]
    clear, wrong = noise + 100 * right, noise + 100 * (1 - right)
    learnt = []

    def features(network, pixels, size):
        learnt.append(len(pixels))
        return pixels.reshape(len(pixels), -1).astype(float)

    monkeypatch.setattr(privacy, "features", features)
    controls = replace(known, pixels=clear)
    sets = {"clear": (clear, known.vectors), "wrong": (wrong[:30], known.vectors[:30])}
    found = privacy.utility(sets, controls, None, 32)
    assert found["clear"].value == 1
    assert found["wrong"].value == 0, "of glaucoma alone: one eye with AMD is too few"
    assert learnt == [40, 30, 30], "the controls, and as many of each"
    unknown = {"clear": (clear, known.vectors * np.nan)}
    assert privacy.utility(unknown, controls, None, 32) == {"clear": Interval(None)}


@pytest.mark.parametrize(
    ("p", "words"),
    [(0.004, "by pixels are nearer to members than chance"), (0.3, "by pixels are not shown to be nearer (ratio")],
)
def test_what_losses_do_not_show_is_stated_too(p, words):
    near, by_heart = (
        {"pixels": {"near": measures.Neighbours(Interval(0.95), Interval(1.0, 0.9, 1.1), own, 0.7)}}
        for own in (p, 0.001)
    )
    marks = {"generated": Interval(0.6, 0.5, 0.7)}
    sentence = privacy.beside(near, by_heart, marks, 0.5, 200)
    missed = privacy.beside(near, {"pixels": {"near": replace(by_heart["pixels"]["near"], p=0.4)}}, marks, 0.5, 200)
    assert "by pixels can't be told, as copies of a few learnt by heart are not nearer either (p 0.400);" in missed
    assert words not in missed
    assert words in sentence
    assert f"(ratio 0.950, p {p:.3f})" in sentence
    assert "text in 50%, 0.600 [0.500, 0.700] of the images show it" in sentence
    assert sentence.endswith(f"(chance {3 / 201:.3f}).")
