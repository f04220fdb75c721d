"""Which parts are left out, what eyes look like, and predictions that are kept until something changes."""

import shutil

import cv2
import numpy as np
import pandas
import pytest
from scipy import stats

import tiny_images
from visionclip import conditions, phantom
from visionclip.data import folders
from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import ClassOf, Dataset, Task
from visionclip.evaluation import metrics, scoring
from visionclip.stages import pretrain, synthesis, transfer
from visionclip.training import contrastive

PLAN = """\
test: {split: test}
tasks:
  myopia:
    column: pm
    classes:
      - {name: no, values: [0], conditions: [{pm: 0}]}
      - {name: yes, values: [1], conditions: [{pm: 1}]}
  referable:
    column: grade
    classes:
      - {name: no, values: [0, 1], conditions: [{dr_grade: 0}, {dr_grade: 1}]}
      - {name: yes, values: [2, 3, 4], conditions: [{dr_grade: 2}, {dr_grade: 3}, {dr_grade: 4}]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A dataset with a train split, and one without."""
    root = tmp_path_factory.mktemp("external")
    clinic = root / "clinic"
    clinic.mkdir()
    lines = ["file,split,pm,grade"]
    for number in range(12):
        eye = {"pm": number % 2, "dr_grade": 3 * (number % 3 == 0)}
        drawn = phantom.render(eye, np.random.default_rng(number), 64).image
        cv2.imwrite(str(clinic / f"{number}.png"), drawn[..., ::-1])
        lines.append(f"{number}.png,{'test' if number < 2 else 'train'},{eye['pm']},{eye['dr_grade']}")
    (clinic / "labels.csv").write_text("\n".join(lines))
    (clinic / "tasks.yaml").write_text(PLAN)
    other = root / "other"
    other.mkdir()
    cv2.imwrite(str(other / "a.png"), drawn)
    (other / "labels.csv").write_text("file,pm,grade\na.png,0,0\n")
    (other / "tasks.yaml").write_text(PLAN.replace("test: {split: test}\n", ""))
    return root


@pytest.fixture(scope="module")
def real(folder):
    return scoring.load_development(folder, 32)


@pytest.fixture
def trained(monkeypatch):
    """How many phantoms each training took that was not read back."""
    counts, train = [], contrastive.train

    def counted(network, tokenizer, pairs, *given):
        counts.append(len(pairs))
        return train(network, tokenizer, pairs, *given)

    monkeypatch.setattr(contrastive, "train", counted)
    return counts


def predict(folder, datasets, name=transfer.REFERENCE, count=32, updates=2, size=32, seed=0):
    """One arm and seed, its eyes drawn when they are needed."""
    (found,) = transfer.predict_all(folder, [name], [seed], datasets, count, updates, size)[name]
    return found


def test_only_train_splits_are_taken(real, tmp_path):
    (found,) = real
    assert (found.name, found.split, len(found)) == ("clinic", "train", 10)
    assert scoring.load_development(tmp_path / "nothing", 32) == []


def test_a_set_for_development_is_taken_whole(folder, tmp_path):
    shutil.copytree(folder / "clinic", tmp_path / "cameras_dev")
    (found,) = scoring.load_development(tmp_path, 32)
    assert (found.name, found.split, len(found)) == ("cameras_dev", folders.DEVELOPMENT, 12)


def test_a_train_split_that_is_reported_is_not_chosen_by(folder, tmp_path):
    shutil.copytree(folder / "clinic", tmp_path / "clinic")
    (tmp_path / "clinic" / "tasks.yaml").write_text(PLAN.replace("split: test", "split: train"))
    assert scoring.load_development(tmp_path, 32) == []


def test_a_set_that_reports_all_of_its_rows_is_not_chosen_by(folder, tmp_path):
    shutil.copytree(folder / "clinic", tmp_path / "clinic")
    (tmp_path / "clinic" / "tasks.yaml").write_text(PLAN.replace("test: {split: test}\n", ""))
    assert scoring.load_development(tmp_path, 32) == []


def test_a_set_scores_the_mean_of_its_tasks(real):
    truth = {name: task.targets for name, (_, task) in transfer.tasks_of(real).items()}
    wrong = {name: -targets for name, targets in truth.items()}
    mixed = {name: own if "myopia" in name else wrong[name] for name, own in truth.items()}
    scores = transfer.by_set({transfer.REFERENCE: [truth, mixed], "other": [wrong, wrong]}, real)
    assert {arm: own["clinic"].tolist() for arm, own in scores.items()} == {
        transfer.REFERENCE: [1.0, 0.5],
        "other": [0.0, 0.0],
    }


def test_a_broken_dataset_is_not_passed_over(tmp_path):
    (tmp_path / "split").mkdir()
    (tmp_path / "split" / "labels.csv").write_text("nothing,here\n1,2\n")
    with pytest.raises(ValueError, match="no column `file`"):
        scoring.load_development(tmp_path, 32)


@pytest.mark.parametrize("arm", transfer.ARMS.values(), ids=transfer.ARMS)
def test_an_arm_fixes_factors_that_exist_and_keeps_the_scored_lesions(arm):
    drawn = phantom.render({"dr_grade": 3, "dme": 1, "pm": 1}, np.random.default_rng(0), 64, **arm.fixed)
    assert {name: drawn.parameters[name] for name in arm.fixed} == arm.fixed
    assert drawn.parameters["haemorrhages"]
    assert drawn.parameters["macular_exudates"]
    assert drawn.parameters["crescent"]


def test_every_arm_leaves_something_else_out():
    arms = list(transfer.ARMS.values())
    assert arms[0] == transfer.ARMS[transfer.REFERENCE]
    assert all(one != other for place, one in enumerate(arms) for other in arms[:place])


def test_a_strip_changes_more_the_further_its_factor_goes():
    for name, strip in transfer.strips(96, 0).items():
        near, far = (np.abs(strip[place].astype(int) - strip[0]).mean() for place in (1, -1))
        assert 0 < near < far, name


def test_appearance_says_what_is_in_the_picture():
    grey = np.full((1, 96, 96, 3), 120, np.uint8)
    lines = grey.copy()
    lines[:, :, ::12] = 60
    spots = grey.copy()
    for row in range(8, 96, 16):
        spots[0, row : row + 7, ::1][:, 8:15] = 220
    plain, dark, bright = (transfer.appearance(pixels).iloc[0] for pixels in (grey, lines, spots))
    assert plain["green"] == pytest.approx(120)
    assert dark["contrast"] > plain["contrast"] + 5
    assert dark["sharpness"] > plain["sharpness"]
    assert bright["bright width"] == pytest.approx(100 * 3.5 / 96, abs=0.5)  # spots of 7 pixels
    assert plain["bright width"] == plain["dark width"] == 0


def test_equal_sets_cannot_be_told_apart_and_different_ones_can():
    rng = np.random.default_rng(0)
    one, same, darker = (
        pandas.DataFrame(rng.normal(mean, 1, (300, len(transfer.SHOWN))), columns=transfer.SHOWN) for mean in (5, 5, 1)
    )
    table = transfer.distance_table(one, {"same": same, "darker": darker}).set_index("dataset")
    assert table.loc["same", "separability"].max() < 0.6
    assert table.loc["darker", "separability"].min() > 0.95
    assert (table.loc["darker", "phantoms"] > table.loc["darker", "photographs"]).all()


def test_predictions_are_kept_and_of_the_right_tasks(real, tmp_path, trained):
    first, again = predict(tmp_path, real), predict(tmp_path, real)
    assert trained == [32]
    assert set(first) == {"clinic myopia", "clinic referable"}
    assert all(first[name].shape == (10,) and np.array_equal(first[name], again[name]) for name in first)
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_seeds_draw_and_train_anew_and_arms_share_what_they_draw_alike(real, tmp_path, trained, monkeypatch):
    drawn, draw = [], transfer.Sets._rendered

    def noted(self, arm):
        drawn.append((self.count, self.size, self.seed))
        return draw(self, arm)

    monkeypatch.setattr(transfer.Sets, "_rendered", noted)
    names = [transfer.REFERENCE, "no healthy twins", "captions alone", "no augmentation"]
    found = transfer.predict_all(tmp_path, names, [0, 1], real, 32, 2, 32)
    assert list(found) == names
    assert [len(seeds) for seeds in found.values()] == [2] * 4
    assert drawn == [(32, 32, 0)] * 2 + [(32, 32, 1)] * 2, "the reference's eyes and those without twins"
    assert trained == [32] * 8
    logits = [of_seed["clinic myopia"] for seeds in found.values() for of_seed in seeds]
    assert all(not np.array_equal(one, other) for place, one in enumerate(logits) for other in logits[:place])
    again = transfer.predict_all(tmp_path, names[::-1], [1, 0], real, 32, 2, 32)
    assert np.array_equal(again["captions alone"][1]["clinic myopia"], found["captions alone"][0]["clinic myopia"])
    assert (len(drawn), len(trained)) == (4, 8), "what is kept needs no eyes"


def replaced(datasets, images=None, facts=None):
    """The one dataset with other pixels, or with other conditions of the classes of its first task."""
    (one,) = datasets
    pixels = one.images.pixels if images is None else images
    first, *rest = one.tasks
    classes = first.classes if facts is None else [ClassOf("no", [{"amd": 0}]), ClassOf("yes", facts)]
    known = LabelledImages(pixels, one.images.conditions, one.images.sources, one.images.keys, one.images.groups)
    tasks = [Task(first.name, first.ordinal, classes, first.targets), *rest]
    return [Dataset(one.name, one.split, known, tasks)]


CHANGES = {
    "updates": lambda real: {"updates": 3},
    "phantoms": lambda real: {"count": 40},
    "photographs": lambda real: {"datasets": replaced(real, images=255 - real[0].images.pixels)},
    "what a class means": lambda real: {"datasets": replaced(real, facts=[{"amd": 1}])},
    "code": lambda real: {},
}


@pytest.mark.parametrize("what", CHANGES)
def test_predictions_are_made_anew_when_what_made_them_changes(real, tmp_path, trained, monkeypatch, what):
    given = {"folder": tmp_path, "datasets": real}
    before = predict(**given)
    if what == "code":
        monkeypatch.setattr(transfer.keys, "code", lambda *_: "other code")
    after = predict(**{**given, **CHANGES[what](real)})
    assert len(trained) == 2
    assert np.array_equal(before["clinic myopia"], after["clinic myopia"]) == (what == "code")


def test_a_changed_arm_is_trained_anew(real, tmp_path, trained, monkeypatch):
    predict(tmp_path, real, "one anatomy")
    monkeypatch.setitem(transfer.ARMS, "one anatomy", transfer.Arm({"pigment": 0.6}))
    predict(tmp_path, real, "one anatomy")
    assert len(trained) == 2


@pytest.fixture(scope="module")
def generator():
    return tiny_images.pipeline(synthesis.draw(8, synthesis.TRAINING, 0, 32, 0.1), steps=2)


def test_generated_eyes_stand_in_for_the_same_eyes(generator):
    arms = [transfer.REFERENCE, "half generated", "generated alone"]
    drawn, half, whole = (transfer.draw(transfer.ARMS[name], 12, 32, 0, pipeline=generator) for name in arms)
    assert drawn.conditions == half.conditions == whole.conditions
    assert np.array_equal(drawn.masks, half.masks)
    others = (half.pixels != drawn.pixels).any((1, 2, 3))
    assert others.sum() == 6
    assert [source == synthesis.GENERATED for source in half.sources] == others.tolist()
    assert np.abs(half.pixels[others].astype(int) - whole.pixels[others]).max() <= 1, "but for the batch"
    assert set(whole.sources) == {synthesis.GENERATED}
    with pytest.raises(ValueError, match="needs a generator; give the pipeline of 01-synthesis"):
        transfer.draw(transfer.ARMS["half generated"], 12, 32, 0)


def test_an_arm_s_eyes_are_the_same_alone_and_in_company(generator, monkeypatch):
    def drawn_again(judge, first, pipeline, plan, tries, seed, bf16):
        return 255 - first, np.arange(len(first)) % 3 == 0

    monkeypatch.setattr(transfer.referees, "drawn_again", drawn_again)
    sampled, sample = [], transfer.sampling.sample
    monkeypatch.setattr(
        transfer.sampling, "sample", lambda *given, **named: sampled.append(1) or sample(*given, **named)
    )
    names = ["half generated", "half generated, judged", "generated alone", "generated alone, judged", "as published"]
    arms = [transfer.ARMS[name] for name in names]
    sets = transfer.Sets(arms, 12, 32, 0, generator, "judge")
    together = [sets.of(arm) for arm in arms]
    assert len(sampled) == 2, "the eyes of all, and those without twins"
    for arm, own in zip(arms, together, strict=True):
        alone = transfer.draw(arm, 12, 32, 0, pipeline=generator, judge="judge")
        assert alone.sources == own.sources
        assert np.abs(alone.pixels.astype(int) - own.pixels).max() <= 1, "but for the batch"


def test_steps_change_how_an_eye_is_generated_and_not_which(generator, monkeypatch):
    taken, sample = [], transfer.sampling.sample

    def noted(pipeline, vectors, layouts, steps=None, **named):
        taken.append(steps)
        return sample(pipeline, vectors, layouts, steps, **named)

    monkeypatch.setattr(transfer.sampling, "sample", noted)
    arms = [transfer.ARMS[name] for name in ("generated alone", "generated alone, 1 step", "generated alone, 8 steps")]
    sets = transfer.Sets(arms, 8, 32, 0, generator)
    own, one, many = (sets.of(arm) for arm in arms)
    assert taken == [None, 1, 8]
    assert own.conditions == one.conditions == many.conditions
    assert not np.array_equal(one.pixels, many.pixels)
    assert np.array_equal(own.pixels, sets.of(arms[0]).pixels)
    assert len(taken) == 3, "kept"


def test_what_the_referee_doubts_still_is_left_to_the_renderer(generator, monkeypatch):
    tried = []

    def drawn_again(judge, first, pipeline, plan, tries, seed, bf16):
        tried.append((judge, pipeline, tries, len(plan)))
        return first, np.arange(len(first)) % 3 == 0

    monkeypatch.setattr(transfer.referees, "drawn_again", drawn_again)
    drawn = transfer.draw(transfer.ARMS[transfer.REFERENCE], 12, 32, 0)
    judged = transfer.draw(transfer.ARMS["generated alone, judged"], 12, 32, 0, pipeline=generator, judge="judge")
    assert tried == [("judge", generator, transfer.TRIES, 12)]
    kept = (judged.pixels == drawn.pixels).all((1, 2, 3))
    assert kept.sum() == 4
    assert [source == synthesis.GENERATED for source in judged.sources] == (~kept).tolist()
    with pytest.raises(ValueError, match="needs a referee; give that of 01-synthesis"):
        transfer.draw(transfer.ARMS["half generated, judged"], 12, 32, 0, pipeline=generator)


def test_another_generator_changes_what_learns_from_it_and_nothing_else(real, tmp_path, trained, generator):
    arms = [transfer.REFERENCE, "generated alone"]
    for _ in range(2):
        transfer.predict_all(tmp_path, arms, [0], real, 32, 2, 32, generator)
        generator.unet.gains.weight.data += 0.01
    generator.unet.gains.weight.data -= 0.02
    assert trained == [32] * 3


def test_an_arm_s_phantoms_and_losses_are_as_it_says(real, tmp_path, monkeypatch, generator):
    taken = {}

    def noted(images, sizes, settings, folder, *_):
        taken[folder.name] = images, settings
        return None, None

    monkeypatch.setattr(pretrain, "learn", noted)
    monkeypatch.setattr(transfer, "rank", lambda *_: {})
    arms = [name for name, arm in transfer.ARMS.items() if not arm.rejection]
    transfer.predict_all(tmp_path, arms, [0], real, 16, 2, 32, generator)
    images, settings = ({name: one[place] for name, one in taken.items()} for place in (0, 1))
    healthy = {name: sum(map(conditions.is_normal, own.conditions)) for name, own in images.items()}
    assert healthy["no-healthy-twins-32-0"] < healthy["everything-32-0"]
    weights = {name: (one.condition_weight > 0, one.map_weight > 0) for name, one in settings.items()}
    assert {name: both for name, both in weights.items() if not all(both)} == {
        "no-condition-loss-32-0": (False, True),
        "no-finding-maps-32-0": (True, False),
        "captions-alone-32-0": (False, False),
        "as-published-32-0": (False, False),
    }
    assert [name for name, one in settings.items() if not one.augmentation] == ["no-augmentation-32-0"]
    one_hot = [name for name, one in settings.items() if one.loss == "clip"]
    assert one_hot == ["one-hot-loss-32-0", "as-published-32-0"]
    cold = [name for name, one in settings.items() if not one.text_warmup]
    assert cold == ["no-text-warm-up-32-0", "as-published-32-0"]
    assert images["captions-alone-32-0"] is images["everything-32-0"]
    assert not np.array_equal(images["no-camera-32-0"].pixels, images["everything-32-0"].pixels)
    assert images["everything-32-0"].mask_names


def test_arms_are_compared_with_everything_seed_by_seed():
    targets = np.array([0, 1] * 40)
    classes = {key: [ClassOf("no", [{key: 0}]), ClassOf("yes", [{key: 1}])] for key in ("pm", "gc")}
    tasks = [Task(key, False, own, np.append(targets, -1)) for key, own in classes.items()]
    keys = [str(number) for number in range(81)]
    images = LabelledImages(np.zeros((81, 8, 8, 3), np.uint8), [{}] * 81, ["photograph"] * 81, keys)
    rng = np.random.default_rng(0)
    shared = [rng.normal(size=80) for _ in range(3)]  # a good seed is good for all arms

    def seeds(*strengths):
        given = [
            dict(
                zip(
                    ("clinic pm", "clinic gc"),
                    (targets * strength * luck + noise for strength in strengths),
                    strict=True,
                )
            )
            for noise, luck in zip(shared, (0.5, 1, 2), strict=True)
        ]
        return [{name: np.append(logits, 0) for name, logits in one.items()} for one in given]

    arms = {transfer.REFERENCE: seeds(1.5, 1.5), "no camera": seeds(0.1, 1.4), "one anatomy": seeds(1.5, 1.5)}
    rows = transfer.compare(arms, [Dataset("clinic", "train", images, tasks)])
    assert [row["task"] for row in rows] == [transfer.ALL] * 3 + ["clinic pm"] * 3 + ["clinic gc"] * 3
    found = {(row["arm"], row["task"]): row for row in rows}
    whole = found[transfer.REFERENCE, "clinic pm"]
    both = np.stack([-arms[transfer.REFERENCE][0]["clinic pm"], arms[transfer.REFERENCE][0]["clinic pm"]], 1)[:80]
    assert whole["seeds"][0] == pytest.approx(metrics.scores(targets, both, False)["auc"])
    assert whole["auc"].value == pytest.approx(np.mean(whole["seeds"]))
    assert whole["auc"].low < whole["auc"].value < whole["auc"].high
    assert whole["against"] is None
    without = found["no camera", "clinic pm"]
    differences = np.array(without["seeds"]) - whole["seeds"]
    assert without["against"].difference.value == pytest.approx(differences.mean())
    assert without["against"].adjusted_p == pytest.approx(2 * stats.ttest_1samp(differences, 0).pvalue), "of two arms"
    assert found["one anatomy", "clinic pm"]["against"].adjusted_p == 1
    mean = found["no camera", transfer.ALL]["seeds"]
    assert mean == pytest.approx(
        np.mean([found["no camera", f"clinic {key}"]["seeds"] for key in ("pm", "gc")], axis=0)
    )
    (cells,) = transfer.tables(rows)
    assert list(cells.index) == [transfer.ALL, "clinic pm", "clinic gc"]
    assert list(cells.columns) == [transfer.REFERENCE, "no camera", "one anatomy"]
    assert cells.loc["clinic pm", transfer.REFERENCE] == str(whole["auc"])
    assert cells.loc["clinic pm", "no camera"].startswith("-0.")
    assert transfer.compare(arms, []) == []
    assert transfer.tables([]) == []
    many = {transfer.REFERENCE: arms[transfer.REFERENCE]} | {f"arm {place}": arms["no camera"] for place in range(8)}
    first, second = transfer.tables(transfer.compare(many, [Dataset("clinic", "train", images, tasks)]))
    assert list(first.columns) == [transfer.REFERENCE, *(f"arm {place}" for place in range(6))]
    assert list(second.columns) == [transfer.REFERENCE, "arm 6", "arm 7"]


def test_phantoms_have_a_mean_and_take_no_part_in_that_of_photographs():
    images = LabelledImages(np.zeros((8, 8, 8, 3), np.uint8), [{}] * 8, ["photograph"] * 8, [*"abcdefgh"])
    task = Task("pm", False, [ClassOf("no", [{"pm": 0}]), ClassOf("yes", [{"pm": 1}])], np.array([0, 1] * 4))
    sets = [Dataset(name, "", images, [task]) for name in (scoring.PHANTOMS, "clinic")]
    right = np.array([0.0, 1.0] * 4)
    arms = {transfer.REFERENCE: [{f"{scoring.PHANTOMS} pm": -right, "clinic pm": right}]}
    rows = {row["task"]: row["seeds"] for row in transfer.compare(arms, sets)}
    assert rows == {transfer.ALL: [1.0], scoring.PHANTOMS: [0.0], "clinic pm": [1.0]}
    assert set(row["task"] for row in transfer.compare(arms, sets[:1])) == {scoring.PHANTOMS}


def test_one_seed_has_no_interval_and_is_untested():
    logits = {"clinic pm": np.arange(8.0)}
    images = LabelledImages(np.zeros((8, 8, 8, 3), np.uint8), [{}] * 8, ["photograph"] * 8, [*"abcdefgh"])
    task = Task("pm", False, [ClassOf("no", [{"pm": 0}]), ClassOf("yes", [{"pm": 1}])], np.array([0, 1] * 4))
    arms = {transfer.REFERENCE: [logits], "no camera": [{"clinic pm": -np.arange(8.0)}]}
    rows = transfer.compare(arms, [Dataset("clinic", "train", images, [task])])
    assert all(row["auc"].low is None for row in rows)
    assert [row["against"].p for row in rows if row["against"]] == [None, None]
    assert "*" not in transfer.tables(rows)[0].to_string()


def test_an_arm_sees_and_reads_as_it_says(real, tmp_path, monkeypatch):
    seen = {}

    def noted(network, tokenizer, pairs, settings, folder):
        seen[folder.name] = network.config.plain_colours, {caption.language for caption in pairs.captions}
        return []

    monkeypatch.setattr(contrastive, "train", noted)
    asked = []
    predict = transfer.zero_shot.predict
    monkeypatch.setattr(
        transfer.zero_shot, "predict", lambda *given: asked.append((given[3], given[5])) or predict(*given)
    )
    transfer.predict_all(tmp_path, [transfer.REFERENCE, "plain RGB", "Chinese in one wording"], [0], real, 32, 2, 32)
    assert seen == {
        "everything-32-0": (False, {"en"}),
        "plain-RGB-32-0": (True, {"en"}),
        "Chinese-in-one-wording-32-0": (False, {"zh"}),
    }
    assert asked[-1] == (("zh",), transfer.Style(variety=1))
