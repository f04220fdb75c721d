import numpy as np
import pandas
import pytest
import torch

from visionclip import conditions, runs
from visionclip.data import folders
from visionclip.data.folders import ClassOf, Dataset, Task
from visionclip.data.shards import Images
from visionclip.evaluation import metrics, zero_shot
from visionclip.models import visionclip
from visionclip.text import captions


@pytest.fixture(scope="module")
def held_out():
    rng = np.random.default_rng(0)
    eyes = conditions.balanced(80, rng)
    pixels = rng.integers(0, 256, (80, 32, 32, 3), np.uint8)
    return Images(pixels, eyes, ["phantom"] * 80, [f"eye-{index}" for index in range(80)])


@pytest.fixture(scope="module")
def trained(held_out, tmp_path_factory):
    table, _ = captions.table(held_out.conditions, ("zh", "en"), 2, np.random.default_rng(0))
    tokenizer = captions.train_tokenizer([one.text for one in table], tmp_path_factory.mktemp("words"))
    torch.manual_seed(0)
    return visionclip.VisionCLIP(visionclip.sized(8, 1, 64, 16, len(tokenizer))).train(False), tokenizer


def test_a_class_of_several_grades_is_their_union():
    images = torch.eye(3)
    one, other = torch.eye(3)[:1], torch.eye(3)[1:]
    logits = zero_shot.class_logits(images, [one, other], scale=5.0)
    expected = np.exp(5 * np.eye(3))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert np.allclose(probabilities[:, 0], (expected / expected.sum(1, keepdims=True))[:, 0])


def test_the_embedding_of_a_class_is_the_renormalised_mean_of_its_prompts(trained):
    network, tokenizer = trained
    task = Task("dme", False, [ClassOf("no", [{"dme": 0}]), ClassOf("grades", [{"dr_grade": 2}, {"dr_grade": 3}])], [])
    no, grades = zero_shot.alternatives(network, tokenizer, task, ("en",), 3)
    assert no.shape == (1, 16)
    assert grades.shape == (2, 16)
    spoken = zero_shot.encode_texts(network, tokenizer, captions.prompts({"dme": 0}, "en", 3))
    assert torch.allclose(no[0], torch.nn.functional.normalize(spoken.mean(0), dim=0), atol=1e-5)


def test_thresholds_answer_the_median_grade():
    probabilities = np.array([[0.4, 0.1, 0.15, 0.15, 0.2], [0.1, 0.2, 0.6, 0.05, 0.05], [0.3, 0.0, 0.0, 0.25, 0.45]])
    with np.errstate(divide="ignore"):
        logits = np.maximum(np.log(probabilities), -50) + 3
    read = zero_shot.cumulative(logits)
    assert np.isfinite(read).all()
    assert logits.argmax(1).tolist() == [0, 2, 4]
    assert read.argmax(1).tolist() == [1, 2, 3]
    assert ((read > -1e-9).sum(1) >= 1).all()


def test_graded_tasks_are_also_read_by_thresholds(held_out):
    dataset = zero_shot.phantom_tasks(held_out)
    rng = np.random.default_rng(0)
    logits = {task.name: rng.normal(size=(80, len(task.classes))) for task in dataset.tasks}
    results = {result["task"]: result for result in zero_shot.evaluate(dataset, logits, 0, 100)}
    assert set(results["dr_grade"]["by_thresholds"]) == set(zero_shot.ANSWERED)
    assert "by_thresholds" not in results["referable_dr"]
    answers = zero_shot.grade_table(list(results.values()))["answer"].tolist()
    assert answers == ["likeliest grade", "by thresholds"]


def test_phantoms_are_never_called_by_a_real_set_s_name(held_out):
    dataset = zero_shot.phantom_tasks(held_out)
    assert dataset.name == "held-out phantoms"
    real = {one.name.lower() for one in folders.PUBLISHED}
    assert not any(name in dataset.name for name in real)


def test_phantom_tasks_ask_for_every_disease_that_is_shown(held_out):
    dataset = zero_shot.phantom_tasks(held_out)
    named = {task.name for task in dataset.tasks} | set(dataset.unscored)
    assert named == {"dr_grade", "referable_dr", *conditions.DISEASES[1:]}
    for task in dataset.tasks:
        for target, eye in zip(task.targets, held_out.conditions, strict=True):
            facts = task.classes[target].facts
            assert any(conditions.holds(fact, eye) for fact in facts)


def test_results_have_the_published_shape_and_intervals_around_their_values(trained, held_out):
    dataset = zero_shot.phantom_tasks(held_out)
    logits = zero_shot.predict(*trained, dataset, ("zh", "en"), 2)
    results = zero_shot.evaluate(dataset, logits, seed=0, resamples=100)
    assert zero_shot.evaluate(dataset, logits, seed=0, resamples=100) == results
    for result in results:
        expected = {"dataset", "task", "split", "n", "groups", "scaled", *metrics.SCORES}
        graded = {"by_thresholds"} if result["task"] == "dr_grade" else set()
        assert set(result) == expected | {"majority_accuracy", "chance_aca"} | graded
        assert result["auc"]["low"] <= result["auc"]["value"] <= result["auc"]["high"]
    graded = {result["task"] for result in results if result["kappa"] is not None}
    assert graded == {"dr_grade"}
    table = zero_shot.score_table(results)
    assert {"majority", "chance"} <= set(table.columns)


def test_rows_of_no_class_are_not_scored(trained, held_out):
    dataset = zero_shot.phantom_tasks(held_out)
    logits = zero_shot.predict(*trained, dataset, ("en",), 1)
    dataset.tasks[1].targets[:10] = -1
    assert zero_shot.evaluate(dataset, logits, 0, 100)[1]["n"] == 70


def test_the_environment_names_the_folder_only_where_the_parameter_does_not(monkeypatch, tmp_path):
    monkeypatch.setenv("VISIONCLIP_EXTERNAL", str(tmp_path))
    assert folders.external_folder("data/external") == tmp_path
    assert folders.external_folder("my/eyes") == runs.ROOT / "my/eyes"
    monkeypatch.delenv("VISIONCLIP_EXTERNAL")
    assert folders.external_folder("data/external") == runs.ROOT / "data/external"
    assert zero_shot.load_all(tmp_path / "nothing", 32) == []


def test_the_published_numbers_stand_beside_their_majority():
    table = zero_shot.published_table().set_index("dataset")
    assert set(table["VisionCLIP accuracy"]) == {"0.431", "0.739", "0.925"}
    assert table.notna().all().all()


def test_predictions_are_written_one_file_a_task(tmp_path):
    task = Task("gc", False, [ClassOf("no", [{"gc": 0}]), ClassOf("yes", [{"gc": 1}])], np.array([0, 1]))
    dataset = Dataset("my eyes", "all", np.zeros((2, 8, 8, 3), np.uint8), ["a.png", "b.png"], [task], {}, {})
    zero_shot.write_predictions(tmp_path, [dataset], {"my eyes": {"gc": np.array([[0.5, 1], [2, 3]])}})
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
