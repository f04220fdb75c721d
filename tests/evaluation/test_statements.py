"""Conditions read from the sentences that state them, and which of them are known of an eye."""

import numpy as np
import pytest
import torch

from visionclip import conditions
from visionclip.evaluation import statements
from visionclip.evaluation.encoding import encode_images
from visionclip.evaluation.statements import CONDITIONS, targets
from visionclip.models import supervision


@pytest.fixture
def meant(untrained, monkeypatch):
    """Towers whose texts are the facts they were written from, each fact of a direction of its own."""
    network, words = untrained
    directions: dict[tuple, torch.Tensor] = {}

    def encode(_, tokenizer, texts, warned):
        assert not warned
        for text in texts:
            directions.setdefault(text, torch.nn.functional.normalize(torch.randn(16, generator=rng), dim=0))
        return torch.stack([directions[text] for text in texts])

    rng = torch.Generator().manual_seed(0)
    monkeypatch.setattr(statements, "all_prompts", lambda facts, *_: [repr(facts)])
    monkeypatch.setattr(statements, "encode_texts", encode)
    return network, words, directions


def test_logits_are_those_that_the_condition_loss_is_of(meant, held_out):
    network, words, directions = meant
    names = [f"dr_grade>={value}" for value in range(1, 5)] + ["gc>=1"]
    found = statements.predict(network, words, held_out.pixels, names, ("en",), 1)
    assert found.shape == (80, 5)
    assert np.isfinite(found).all()
    texts = [repr({"dr_grade": value}) for value in range(5)] + [repr({"gc": value}) for value in range(2)]
    stated = network.scale * encode_images(network, held_out.pixels) @ torch.stack([directions[one] for one in texts]).T
    truth = torch.tensor([[eye["dr_grade"], eye["gc"]] for eye in held_out.conditions])
    asked = np.stack([truth[:, 0] >= value for value in range(1, 5)] + [truth[:, 1] >= 1], axis=1)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor(found), torch.tensor(asked).double())
    assert float(supervision.condition_loss(stated.detach(), [5, 2], truth)) == pytest.approx(float(expected), rel=1e-5)


def test_either_kind_of_myopia_is_myopia(meant, held_out):
    network, words, directions = meant
    statements.predict(network, words, held_out.pixels[:2], ["pm>=1"], ("en",), 1)
    embeds = encode_images(network, held_out.pixels[:2])
    assert set(directions) == {repr({key: value}) for key in ("pm", "dm") for value in (0, 1)}
    (found,) = statements.predict(network, words, held_out.pixels[:1], ["pm>=1"], ("en",), 1)
    likely = {text: float(torch.exp(network.scale.detach() * embeds[0] @ one)) for text, one in directions.items()}
    ratio = (likely["{'pm': 1}"] + likely["{'dm': 1}"]) / (likely["{'pm': 0}"] + likely["{'dm': 0}"])
    assert found[0] == pytest.approx(np.log(ratio), abs=1e-5)


def test_names_come_in_the_order_they_are_given(untrained, held_out):
    given = *untrained, held_out.pixels[:6]
    every = statements.predict(*given, CONDITIONS, ("zh", "en"), 2)
    assert every.shape == (6, len(CONDITIONS))
    chosen = ["gc>=1", "dr_grade>=2", "eye_side>=1"]
    places = [CONDITIONS.index(name) for name in chosen]
    np.testing.assert_allclose(statements.predict(*given, chosen, ("zh", "en"), 2), every[:, places])


def test_words_of_no_caption_are_not_warned_of(untrained, held_out, caplog):
    statements.predict(*untrained, held_out.pixels[:2], CONDITIONS, ("zh", "en"), 20)
    assert not caplog.records


def test_targets_are_of_every_condition_and_unknown_where_nothing_is_known():
    assert "dm>=1" not in CONDITIONS
    assert {name.split(">=")[0] for name in CONDITIONS} == {*conditions.DISEASES, "eye_side"} - {"dm"}
    eyes = [{"dr_grade": 2, "dm": 1}, {"pm": 0}, {"pm": 0, "dm": 0}, {"gc": 0, "eye_side": 1}]
    known = dict(zip(CONDITIONS, targets(eyes).T.tolist(), strict=True))
    nan = pytest.approx(np.nan, nan_ok=True)
    assert known["pm>=1"] == [1, nan, 0, nan]
    assert known["dr_grade>=2"] == [1, nan, nan, nan]
    assert known["dr_grade>=3"] == [0, nan, nan, nan]
    assert known["eye_side>=1"] == [nan, nan, nan, 1]


def test_a_threshold_lies_between_the_eyes_that_have_it_and_those_that_do_not():
    eyes = [{"gc": 1}] * 2 + [{"gc": 0}] * 3 + [{"amd": 0}]
    logits = np.full((6, len(CONDITIONS)), 7.0)
    logits[:, CONDITIONS.index("gc>=1")] = [-1, -3, -7, -8, -9, 50]
    found = dict(zip(CONDITIONS, statements.thresholds(logits, eyes), strict=True))
    assert found.pop("gc>=1") == -5
    assert set(found.values()) == {0}
