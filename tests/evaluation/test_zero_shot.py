import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from visionclip import conditions, runs
from visionclip.data import folders
from visionclip.data.labelled import LabelledImages
from visionclip.data.published import PUBLISHED
from visionclip.data.tasks import ClassOf, Dataset, Task
from visionclip.evaluation import metrics, scoring, tables, zero_shot
from visionclip.evaluation.encoding import encode_texts
from visionclip.text import grammar


def photographs(count, groups=()):
    """Blank photographs of which nothing is known."""
    pixels = np.zeros((count, 8, 8, 3), np.uint8)
    keys = [f"{number}.png" for number in range(count)]
    return LabelledImages(pixels, [{}] * count, ["photograph"] * count, keys, list(groups))


def glaucoma(targets):
    return Task("gc", False, [ClassOf("no", [{"gc": 0}]), ClassOf("yes", [{"gc": 1}])], np.array(targets))


def test_a_class_of_several_grades_is_their_union():
    images = torch.eye(3)
    one, other = torch.eye(3)[:1], torch.eye(3)[1:]
    logits = zero_shot.class_logits(images, [one, other], scale=5.0)
    expected = np.exp(5 * np.eye(3))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert np.allclose(probabilities[:, 0], (expected / expected.sum(1, keepdims=True))[:, 0])


def test_the_embedding_of_a_class_is_the_renormalised_mean_of_its_prompts(untrained):
    task = Task("dme", False, [ClassOf("no", [{"dme": 0}]), ClassOf("grades", [{"dr_grade": 2}, {"dr_grade": 3}])], [])
    alternatives = zero_shot.prompt_embeddings(*untrained, task, ("en",), 3)
    assert [[len(rows) for rows in one] for one in alternatives] == [[3], [3, 3]]
    no, grades = zero_shot.class_embeddings(alternatives)
    assert no.shape == (1, 16)
    assert grades.shape == (2, 16)
    prompts = encode_texts(*untrained, grammar.prompts({"dme": 0}, "en", 3))
    assert torch.allclose(no[0], torch.nn.functional.normalize(prompts.mean(0), dim=0), atol=1e-5)


def test_thresholds_predict_the_median_grade():
    probabilities = np.array([[0.4, 0.1, 0.15, 0.15, 0.2], [0.1, 0.2, 0.6, 0.05, 0.05], [0.3, 0.0, 0.0, 0.25, 0.45]])
    with np.errstate(divide="ignore"):
        logits = np.maximum(np.log(probabilities), -50) + 3
    read = scoring.cumulative(logits)
    assert np.isfinite(read).all()
    assert logits.argmax(1).tolist() == [0, 2, 4]
    assert read.argmax(1).tolist() == [1, 2, 3]
    assert ((read > -1e-9).sum(1) >= 1).all()


def test_graded_tasks_are_also_read_by_thresholds(held_out):
    dataset = scoring.phantom_tasks(held_out)
    rng = np.random.default_rng(0)
    logits = {task.name: rng.normal(size=(80, len(task.classes))) for task in dataset.tasks}
    results = {result["task"]: result for result in scoring.evaluate(dataset, logits, 0, 100)}
    assert set(results["dr_grade"]["by_thresholds"]) == set(scoring.OF_CLASS)
    assert "by_thresholds" not in results["referable_dr"]
    predictions = tables.grade_table(list(results.values()))["prediction"].tolist()
    assert predictions == [scoring.LIKELIEST, scoring.BY_THRESHOLDS]


def test_phantoms_are_never_called_by_a_real_set_s_name(held_out):
    dataset = scoring.phantom_tasks(held_out)
    assert dataset.name == "held-out phantoms"
    real = {one.name.lower() for one in PUBLISHED}
    assert not any(name in dataset.name for name in real)


def test_phantom_tasks_are_of_every_disease_that_is_shown(held_out):
    dataset = scoring.phantom_tasks(held_out)
    named = {task.name for task in dataset.tasks} | set(dataset.unscored)
    assert named == {"dr_grade", "referable_dr", *conditions.DISEASES[1:]}
    for task in dataset.tasks:
        for target, eye in zip(task.targets, held_out.conditions, strict=True):
            facts = task.classes[target].facts
            assert any(conditions.holds(fact, eye) for fact in facts)


def test_results_have_the_published_shape_and_intervals_around_their_values(untrained, held_out):
    dataset = scoring.phantom_tasks(held_out)
    logits = zero_shot.predict(*untrained, dataset, ("zh", "en"), 2)
    results = scoring.evaluate(dataset, logits, seed=0, resamples=100)
    assert scoring.evaluate(dataset, logits, seed=0, resamples=100) == results
    for result in results:
        expected = {"dataset", "task", "split", "n", "groups", "scaled", *metrics.SCORES}
        graded = {"by_thresholds"} if result["task"] == "dr_grade" else set()
        assert set(result) == expected | {"majority_accuracy", "chance_aca"} | graded
        assert result["auc"].low <= result["auc"].value <= result["auc"].high
    graded = {result["task"] for result in results if result["kappa"].value is not None}
    assert graded == {"dr_grade"}
    assert {"accuracy (majority)", "ACA (chance)"} <= set(tables.score_table(results).columns)


def test_rows_of_no_class_are_not_scored(untrained, held_out):
    dataset = scoring.phantom_tasks(held_out)
    logits = zero_shot.predict(*untrained, dataset, ("en",), 1)
    dataset.tasks[1].targets[:10] = -1
    assert scoring.evaluate(dataset, logits, 0, 100)[1]["n"] == 70


@pytest.mark.parametrize(
    ("targets", "groups", "counts"),
    [
        ([0] * 9 + [1], (), "no 9, yes 1"),
        ([1] * 10, (), "no 0, yes 10"),
        ([-1] * 10, (), "no 0, yes 0"),
        ([0] * 8 + [1, 1], [*map(str, range(8)), "one patient", "one patient"], "no 8, yes 1"),
    ],
)
def test_a_task_that_can_not_be_scored_is_left_out_with_its_reason_and_the_others_stay(targets, groups, counts):
    dataset = Dataset("clinic", "test", photographs(10, groups), [glaucoma(targets)], unscored={"pm": "no label"})
    other = Task("amd", False, [ClassOf("no", [{"amd": 0}]), ClassOf("yes", [{"amd": 1}])], np.array([0, 1] * 5))
    dataset.tasks.append(other)
    kept = scoring.scorable(dataset)
    assert [task.name for task in kept.tasks] == ["amd"]
    assert kept.unscored["pm"] == "no label"
    assert kept.unscored["gc"].startswith("clinic, gc: ")
    assert kept.unscored["gc"].endswith(f"({counts})")
    logits = {name: np.random.default_rng(0).normal(size=(10, 2)) for name in ("gc", "amd")}
    assert [result["task"] for result in scoring.evaluate(dataset, logits, 0, 100)] == ["amd"]
    assert set(scoring.roc_curves(dataset, logits)) == {"amd"}
    alone = Dataset("clinic", "test", dataset.images, dataset.tasks[:1])
    assert scoring.evaluate(alone, logits, 0, 100) == []
    assert scoring.fit_temperature(alone, logits) == 1


def test_a_gain_is_the_difference_of_both_scores_and_paired():
    classes = [ClassOf(str(grade), [{"dr_grade": grade}]) for grade in range(3)]
    task = Task("dr_grade", True, classes, np.arange(60) % 3)
    dataset = Dataset("clinic", "test", photographs(60), [task])
    rng = np.random.default_rng(0)
    better = rng.normal(size=(60, 3)) + np.eye(3)[task.targets]
    worse = better + rng.normal(size=(60, 3))
    gain = scoring.gains(dataset, {"dr_grade": better}, {"dr_grade": worse})["dr_grade"]
    one, other = (scoring.evaluate(dataset, {"dr_grade": own}, 0, 100)[0]["auc"] for own in (better, worse))
    assert gain.value == pytest.approx(one.value - other.value)
    assert gain.low < gain.value < gain.high
    assert gain.high - gain.low < (one.high - one.low) + (other.high - other.low)  # paired: surer than two alone
    assert scoring.gains(dataset, {"dr_grade": better}, {"dr_grade": better})["dr_grade"].value == 0


def test_a_probability_that_is_what_it_says_lies_on_the_diagonal():
    rng = np.random.default_rng(0)
    logits = np.stack([np.zeros(4000), rng.normal(0, 1.5, 4000)], 1)
    truth = (rng.random(4000) < 1 / (1 + np.exp(-logits[:, 1]))).astype(int)
    classes = [ClassOf("no", [{"gc": 0}]), ClassOf("yes", [{"gc": 1}])]
    dataset = Dataset("clinic", "test", photographs(4000), [Task("gc", False, classes, truth)])
    rows = scoring.reliability(dataset, {"gc": logits})["gc"]
    assert [row["n"] for row in rows] == [800] * scoring.RELIABLE
    assert all(abs(row["predicted"] - row["observed"].value) < 0.06 for row in rows)
    surer = scoring.reliability(dataset, {"gc": logits}, temperature=0.2)["gc"]
    assert surer[0]["predicted"] < rows[0]["predicted"] - 0.05
    assert surer[0]["observed"] == rows[0]["observed"]


def test_an_image_of_no_class_has_no_say_in_the_temperature():
    classes = [ClassOf("no", [{"gc": 0}]), ClassOf("yes", [{"gc": 1}])]
    task, logits = Task("gc", False, classes, np.array([0, 1] * 5)), np.random.default_rng(0).normal(size=(12, 2))
    unknown = Task("gc", False, classes, np.array([0, 1] * 5 + [-1, -1]))
    fitted = scoring.fit_temperature(Dataset("clinic", "test", photographs(10), [task]), {"gc": logits[:10]})
    assert scoring.fit_temperature(Dataset("clinic", "test", photographs(12), [unknown]), {"gc": logits}) == fitted


def test_a_rare_grade_does_not_drop_its_task():
    grades = Task("dr_grade", True, [ClassOf(str(grade), [{"dr_grade": grade}]) for grade in range(3)], None)
    grades = Task(*list(vars(grades).values())[:3], np.array([0] * 5 + [1] * 4 + [2]))
    dataset = Dataset("clinic", "test", photographs(10), [grades])
    assert scoring.scorable(dataset).tasks == [grades]


def test_images_of_one_patient_widen_the_interval():
    targets, rng = np.array([0, 1] * 60), np.random.default_rng(0)
    logits = {"gc": np.repeat(rng.normal(size=(30, 2)), 4, axis=0)}
    logits["gc"][targets == 1, 1] += 0.8
    width = {}
    for name, groups in (("alone", ()), ("grouped", [f"patient {number // 4}" for number in range(120)])):
        (result,) = scoring.evaluate(
            Dataset("clinic", "test", photographs(120, groups), [glaucoma(targets)]), logits, 0, 400
        )
        width[name] = result["aca"].high - result["aca"].low
        assert result["groups"] == (30 if groups else 120)
    assert width["grouped"] > width["alone"]


def test_the_environment_names_the_folder_only_where_the_parameter_does_not(monkeypatch, tmp_path):
    monkeypatch.setenv("VISIONCLIP_EXTERNAL", str(tmp_path))
    assert folders.external_folder("data/external") == tmp_path
    assert folders.external_folder("my/eyes") == runs.ROOT / "my/eyes"
    monkeypatch.delenv("VISIONCLIP_EXTERNAL")
    assert folders.external_folder("data/external") == runs.ROOT / "data/external"
    assert scoring.load_all(tmp_path / "nothing", 32) == []


def test_the_splits_that_chose_the_settings_are_those_of_the_sets_named(tmp_path):
    classes = "[{name: no, values: [0], conditions: [{pm: 0}]}, {name: yes, values: [1], conditions: [{pm: 1}]}]"
    for name in ("palm", "clinic"):
        (tmp_path / name).mkdir()
        rows = ["0.png,0,train", "1.png,1,train", "2.png,0,test", "3.png,1,test"]
        for row in rows:
            Image.new("RGB", (32, 32), "brown").save(tmp_path / name / row.split(",")[0])
        (tmp_path / name / "labels.csv").write_text("\n".join(("file,pm,split", *rows)))
        (tmp_path / name / "tasks.yaml").write_text(
            f"test: {{split: test}}\ntasks: {{pm: {{column: pm, classes: {classes}}}}}\n"
        )
    (tuned,) = scoring.load_tuned(tmp_path, 32)
    assert (tuned.name, tuned.split, tuned.images.keys) == ("palm", "train", ["0.png", "1.png"])
    assert scoring.load_tuned(tmp_path / "nothing", 32) == []


def test_a_set_without_an_image_of_the_reported_rows_is_left_out_and_named(tmp_path, caplog):
    """A published tree of which one split, or labels alone, are unpacked, and a folder without a test row."""
    for name in ("clinic", "young", "PALM"):
        (tmp_path / name).mkdir()
    for name in ("clinic/0.png", "clinic/1.png", "young/0.png", "PALM/P0001.jpg", "PALM/N0001.jpg"):
        Image.new("RGB", (32, 32), "brown").save(tmp_path / name)
    label = "{gc: {column: gc, classes: [{name: no, values: [0], conditions: [{gc: 0}]}, {name: yes, values: [1], "
    plan = f"test: {{split: test}}\ntasks: {label}conditions: [{{gc: 1}}]}}]}}}}\n"
    for name, rows in (("clinic", "0.png,0,test\n1.png,1,test"), ("young", "0.png,0,train")):
        (tmp_path / name / "tasks.yaml").write_text(plan)
        (tmp_path / name / "labels.csv").write_text(f"file,gc,split\n{rows}\n")
    book = "a. IDRiD_Disease Grading_Training Labels.csv"
    (tmp_path / "idrid").mkdir()
    (tmp_path / "idrid" / book).write_text("Image name,Retinopathy grade,Risk of macular edema\nIDRiD_001,3,2\n")
    assert [dataset.name for dataset in scoring.load_all(tmp_path, 32)] == ["clinic"]
    lines = [record.getMessage() for record in caplog.records]
    assert [line.count("\n") for line in lines] == [0, 0, 0]
    for line, words in zip(
        lines,
        (
            "PALM: no labelled image of split 'val' (there: split: train)",
            "idrid without one",
            "no row is left of split",
        ),
        strict=True,
    ):
        assert line.startswith("left out: ")
        assert words in line
    assert not any("labels.csv" in line for line in lines[:2]), "which a published tree has not"
    assert "found    idrid: not to be used; " in folders.describe(tmp_path)


def test_predictions_are_written_one_file_a_task(tmp_path):
    dataset = Dataset("my eyes", "all", photographs(2), [glaucoma([0, 1])])
    scoring.write_predictions(tmp_path, [dataset], {"my eyes": {"gc": np.array([[0.5, 1], [2, 3]])}})
    written = pandas.read_csv(tmp_path / "my-eyes-gc.csv")
    assert list(written.columns) == ["file", "target", "no", "yes"]
    assert written["yes"].tolist() == [1, 3]


def test_scores_are_those_of_clip_benchmark_on_the_same_embeddings():
    """CLIP_benchmark wants torchvision, which the study lives without; installed alone (--no-deps) it is compared."""
    benchmark = pytest.importorskip("clip_benchmark.metrics.zeroshot_classification", exc_type=ImportError)
    rng = np.random.default_rng(0)
    texts = torch.from_numpy(rng.normal(size=(3, 2, 8)).astype(np.float32))  # two prompts of each of three classes
    pictures = torch.from_numpy(rng.normal(size=(60, 8)).astype(np.float32))
    targets = torch.from_numpy(rng.integers(0, 3, 60))

    class Towers:
        def encode_text(self, numbers):
            return texts.reshape(6, 8)[numbers]

        def encode_image(self, numbers):
            return pictures[numbers]

    number = lambda sentences: torch.tensor([int(sentence) for sentence in sentences])  # noqa: E731
    prompts = {"a": ["0", "1"], "b": ["2", "3"], "c": ["4", "5"]}
    classifier = benchmark.zero_shot_classifier(Towers(), number, list(prompts), prompts, "cpu", amp=False)
    # Not its evaluate(), whose last step NumPy 2.4 refuses: what that scores, by the same functions.
    theirs, _ = benchmark.run_classification(Towers(), classifier, [(torch.arange(60), targets)], "cpu", amp=False)
    unit = torch.nn.functional.normalize(texts, dim=2).mean(1)
    classes = [torch.nn.functional.normalize(row, dim=0)[None] for row in unit]
    logits = zero_shot.class_logits(torch.nn.functional.normalize(pictures, dim=1), classes, 100.0)
    assert np.allclose(logits, theirs.numpy(), atol=1e-3)
    ours = metrics.scores(targets.numpy(), logits, False)
    assert ours["accuracy"] == pytest.approx((theirs.argmax(1) == targets).double().mean().item())
    assert ours["aca"] == pytest.approx(benchmark.balanced_accuracy_score(targets, theirs.argmax(1)))


def test_languages_that_captions_lack_are_refused_in_one_line():
    zero_shot.check_languages(["zh"], ["en", "zh"])
    with pytest.raises(
        ValueError, match=r"^languages: en is in no caption .*\(there: zh\); prompt in those, or run"
    ) as no:
        zero_shot.check_languages(["zh", "en"], ["zh"])
    assert "\n" not in str(no.value)
