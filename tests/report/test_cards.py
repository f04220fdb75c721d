import importlib.util
import re
import shutil
from pathlib import Path

import pytest
import yaml

from visionclip import runs, study
from visionclip.report import cards

ITEMS = {"claim-2024": 44, "tripod-ai": 27}


def finished(run: Path, stage: str, parameters: dict, numbers: dict, outputs: dict | None = None) -> None:
    runs.write_json(run / stage / "numbers.json", numbers)
    card = {"parameters": parameters, "commit": "0123456789abcdef", "finished": "2026-01-01 00:00:00 UTC"}
    more = {"versions": {"torch": "2"}, "machine": {"processor": "a processor"}, "outputs": outputs or {}, "seconds": 3}
    runs.write_json(run / stage / "card.json", card | more)


@pytest.fixture
def run(tmp_path):
    interval = {"value": 0.75, "low": 0.7, "high": 0.8}
    results = [{"dataset": "clinic", "task": "glaucoma", "split": "test", "n": 40, "auc": interval}]
    finished(tmp_path, "01-synthesis", {"size": 96, "images": 500, "seeds": ""}, {"sources": {"phantom": 500}})
    weights = {"model/model.safetensors": "abc123"}
    finished(tmp_path, "03-pretrain", {"updates": 777, "image_width": 16}, {"shares": {"phantom": 1.0}}, weights)
    finished(tmp_path, "04-zero-shot", {"resamples": 1000}, {"results": results, "temperature": 0.5, "controls": []})
    return tmp_path


def answers(filled: list[cards.Card], name: str) -> str:
    (card,) = [card for card in filled if card.name == name]
    return "\n".join(item["answer"] for _, items in card.sections for item in items)


def test_answers_of_the_run_are_what_its_stages_wrote(run):
    filled = cards.fill(run, "cpu")
    said = answers(filled, "model-card")
    for fact in (
        "777 updates",
        "ResNet-50 of width 16",
        "abc123",
        "clinic (test) glaucoma AUC 0.750 [0.700, 0.800]",
        "a processor",
    ):
        assert fact in said
    assert "500 to train" in answers(filled, "datasheet")
    assert "clinic (test): glaucoma n=40" in answers(filled, "claim-2024")
    assert "factor 0.5" in answers(filled, "tripod-ai")


def test_a_generator_that_was_given_is_not_called_trained_here(run):
    parameters = {"size": 96, "images": 500, "seeds": "", "updates": 33, "student_updates": 4, "student_steps": 2}
    for given, words in (("", "a conditional DDPM of 33 updates"), ("mine/ddpm", "the conditional DDPM of mine/ddpm")):
        finished(run, "01-synthesis", {**parameters, "generator": given}, {"sources": {"phantom": 500}})
        assert f"Generated: {words}" in answers(cards.fill(run, "cpu"), "datasheet")
    assert "33 updates" not in answers(cards.fill(run, "cpu"), "datasheet")


def test_what_maps_and_controls_reach_is_quoted(run):
    found = {"value": 0.5, "low": 0.4, "high": 0.6}
    rows = [
        {"dataset": name, "finding": "exudate", "split": split, "average_precision": score, "chance": chance}
        for name, split, score, chance in (
            ("phantoms", "held out", found, {"average_precision": 0.02}),
            ("idrid", "train", found, {"average_precision": 0.02}),
            ("idrid", "test", found, {"average_precision": 0.01}),
            ("other", "all", {"value": None}, {}),
        )
    ]
    finished(run, "07-explanation", {}, {"localisation": rows})
    quoted = "idrid exudate 0.500 [0.400, 0.600] (by chance 0.010)"
    assert f"against marks: {quoted}\n" in answers(cards.fill(run, "cpu"), "claim-2024")
    finished(run, "07-explanation", {}, {"localisation": rows[:1]})
    assert "phantoms exudate 0.500 [0.400, 0.600] (by chance 0.020)" in answers(cards.fill(run, "cpu"), "claim-2024")
    controls = {"dataset": "clinic", "task": "glaucoma", "random weights": 0.5, "colour statistics": None}
    numbers = {"results": [], "controls": [controls | {"rank": {"rank": 2, "of": 23}}]}
    finished(run, "04-zero-shot", {}, numbers)
    assert "clinic glaucoma: random weights 0.500, its sentence 2 of 23" in answers(
        cards.fill(run, "cpu"), "model-card"
    )


def test_what_was_not_run_is_said_so(tmp_path):
    filled = cards.fill(tmp_path, "cpu")
    assert [card.name for card in filled] == list(cards.NAMES)
    for card in filled:
        assert cards.UNKNOWN in answers(filled, card.name)


def test_photographs_that_chose_are_no_external_test(run):
    row = {"task": "glaucoma", "n": 40, "auc": {"value": 0.75, "low": 0.7, "high": 0.8}}
    sets = [("held-out phantoms", "held out"), ("eyes_dev", "development"), ("clinic", "test")]
    results = [{**row, "dataset": name, "split": split} for name, split in sets]
    tuned = [{**row, "dataset": "clinic", "split": "train"}]
    finished(run, "04-zero-shot", {}, {"results": results, "tuned": tuned, "controls": []})
    (claim,) = [card for card in cards.fill(run, "cpu") if card.name == "claim-2024"]
    said = {item["n"]: item["answer"] for _, items in claim.sections for item in items}
    assert said["33"] == "clinic (test): glaucoma n=40"
    assert said["37"].endswith("Sets called development chose the drawing, so that their scores flatter")
    assert "clinic (train), eyes_dev (development)" in said["19"]
    assert said["30"].endswith("nothing else in this run")
    finished(run, "05-dataset-size", {}, {})
    finished(run, "04-zero-shot", {}, {"results": results[2:], "controls": []})
    (claim,) = [card for card in cards.fill(run, "cpu") if card.name == "claim-2024"]
    assert {item["n"]: item["answer"] for _, items in claim.sections for item in items}["30"].endswith(
        "sizes and seeds (05)"
    )
    assert "chose the drawing" not in {item["n"]: item["answer"] for _, items in claim.sections for item in items}["37"]


@pytest.mark.parametrize("name", cards.NAMES)
def test_what_a_card_quotes_is_a_parameter_of_its_stage(name):
    source = (cards.FOLDER / f"{name}.yaml").read_text("utf-8")
    for stage, parameter in re.findall(r"of\('([^']+)', '([^']+)'\)", source):
        known = vars(study.check_file(runs.ROOT / f"params/smoke/{stage}.yaml"))
        assert parameter in known, f"{stage} has no {parameter}"


def test_commands_that_cards_name_are_there():
    for name in cards.NAMES:
        for module in re.findall(r"python -m ([\w.]+\w)", (cards.FOLDER / f"{name}.yaml").read_text("utf-8")):
            assert importlib.util.find_spec(module), f"{name}: {module}"


def test_photographs_upstream_are_never_denied(run, tmp_path_factory):
    drawn = shutil.copytree(run, tmp_path_factory.mktemp("drawn") / "cpu")
    assert "None: every image is drawn" in answers(cards.fill(run, "cpu"), "datasheet")
    finished(run, "01-synthesis", {"seeds": "data/mine"}, {"sources": {"mine": 300, "ddpm": 200}})
    said = answers(cards.fill(run, "cpu"), "datasheet")
    assert "None: every image" not in said
    assert "Photographs are upstream (mine)" in said
    for claim in ("nobody took", "every condition of every image is known", "trained on phantoms"):
        assert claim in answers(cards.fill(drawn, "cpu"), "datasheet")
        assert claim not in said, "what a seed folder makes untrue is not said"


@pytest.mark.parametrize(
    ("lock", "words"),
    [("text", "the text tower of wwm, which stayed as it was"), ("none", "random weights but for what comes from wwm")],
)
def test_a_tower_of_elsewhere_is_never_called_random(run, lock, words):
    assert "contrastively from random weights;" in answers(cards.fill(run, "cpu"), "model-card")
    finished(
        run, "03-pretrain", {"updates": 7, "tower": "/home/me/wwm/model", "lock": lock}, {"shares": {"phantom": 1.0}}
    )
    filled = cards.fill(run, "cpu")
    for name in ("model-card", "claim-2024", "tripod-ai"):
        said = answers(filled, name)
        assert words in said
        assert "/home" not in said
        assert "from random weights," not in said
        assert "from random weights;" not in said
    for name in ("model-card", "claim-2024"):
        assert "what trained the tower that comes from wwm is not known here" in answers(filled, name)


@pytest.mark.parametrize("name", ITEMS)
def test_a_checklist_has_every_item_once_and_in_order(name):
    plan = yaml.safe_load((cards.FOLDER / f"{name}.yaml").read_text("utf-8"))
    numbers = [item["n"] for section in plan["sections"] for item in section["items"]]
    assert len(set(numbers)) == len(numbers)
    whole = [int(number.rstrip("abcdefg")) for number in numbers]
    assert whole == sorted(whole)
    assert set(whole) == set(range(1, ITEMS[name] + 1))


def test_every_item_says_who_answers_it():
    for name in cards.NAMES:
        plan = yaml.safe_load((cards.FOLDER / f"{name}.yaml").read_text("utf-8"))
        for section in plan["sections"]:
            for item in section["items"]:
                assert item["by"] in cards.BY
                assert ("{{" in item["answer"]) <= (item["by"] in ("run", "study"))
                assert item["answer"].strip()
