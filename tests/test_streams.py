"""Random numbers by purpose: no two purposes, seeds or places share theirs, in all that the library draws."""

import ast
import json
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch

from visionclip import keys, runs, streams
from visionclip.data import phantoms
from visionclip.stages import diversity, robustness, synthesis, transfer

SEEDS = (0, 1, 6, 999_999, 1_000_000)
INDICES = ((), (0,), (1,), (6,), (10**6,))
MAKERS = ("rng", "torch_rng", "integer")
DRAWN = (  # what phantoms are drawn for
    synthesis.TRAINING,
    synthesis.GENERATING,
    synthesis.HELD_OUT,
    transfer.TRAINING,
    diversity.TRAINING,
    robustness.ALONE,
    robustness.TOGETHER,
)


def programs() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the library but ``streams``, and every notebook, by name."""
    for path in sorted(keys.PACKAGE.rglob("*.py")):
        if path.stem != "streams":
            yield path.relative_to(keys.PACKAGE).as_posix(), ast.parse(path.read_text("utf-8"))
    for path in sorted((runs.ROOT / "notebooks").glob("*.ipynb")):
        cells = [cell["source"] for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
        lines = [line for cell in cells for line in "".join(cell).splitlines() if not line.startswith(("%", "!"))]
        yield path.name, ast.parse("\n".join(lines))


def given_purposes(tree: ast.Module) -> Iterator[ast.expr]:
    """What is given as the purpose, wherever a stream is made."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr in MAKERS and isinstance(function.value, ast.Name):
            of_update = function.value.id == "update"
            if of_update or function.value.id == "streams":
                yield node.args[0 if of_update else 1]
        elif isinstance(function, ast.Name) and function.id in MAKERS and len(node.args) > 1:
            yield node.args[1]


def purposes() -> dict[str, set[str]]:
    """Every purpose that is written down, with braces where something is filled in, and the programs that have it."""
    found = defaultdict(set)
    for name, tree in programs():
        for purpose in given_purposes(tree):
            if isinstance(purpose, ast.Constant):
                found[purpose.value].add(name)
            elif isinstance(purpose, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in purpose.values]
                found["".join(parts)].add(name)
    return found


def filled() -> list[str]:
    """The purposes with two values for what is filled in, for the conditions of phantoms all that there are."""
    whole = [*DRAWN, *(f"{purpose}: conditions" for purpose in DRAWN)]
    for purpose in purposes():
        count = purpose.count("{}")
        if purpose != "{}: conditions":
            whole += [purpose.format(*values) for values in product(("synthetic", "validation"), repeat=count)]
    return list(dict.fromkeys(whole))


def test_a_purpose_is_written_down_where_its_stream_is_made():
    assert len(purposes()) > 15
    assert {"noise", "initial noise", "order of an epoch", "bootstrap", "{}: conditions"} <= set(purposes())
    for name, tree in programs():
        for purpose in given_purposes(tree):
            handed_on = isinstance(purpose, ast.Name) and purpose.id == "purpose"
            assert handed_on or isinstance(purpose, ast.Constant | ast.JoinedStr), f"{name}: {ast.unparse(purpose)}"


def test_a_purpose_is_of_one_program():
    assert {purpose: found for purpose, found in purposes().items() if len(found) > 1} == {}


FIRST = {
    "rng": lambda *stream: streams.rng(*stream).integers(2**63, size=2).tolist(),
    "torch_rng": lambda *stream: torch.randint(2**62, (2,), generator=streams.torch_rng(*stream)).tolist(),
    "integer": lambda *stream: [streams.integer(*stream)],
}


@pytest.mark.parametrize("maker", MAKERS)
def test_no_two_streams_share_their_first_numbers(maker):
    combinations = list(product(SEEDS, filled(), INDICES))
    first = {tuple(FIRST[maker](seed, purpose, *index)) for seed, purpose, index in combinations}
    assert len(combinations) > 800
    assert len(first) == len(combinations)


def test_the_same_stream_is_the_same():
    for maker in MAKERS:
        assert FIRST[maker](3, "x", 1) == FIRST[maker](np.int64(3), "x", np.int64(1))


def test_no_index_is_another_stream_than_the_first():
    for maker in MAKERS:
        numbers = [FIRST[maker](7, "x", *index) for index in ((), (0,), (0, 0), (1, 0), (0, 1), (10,), (1,))]
        assert len({tuple(one) for one in numbers}) == len(numbers)


def test_what_is_hashed_can_not_be_read_in_two_ways():
    streams_of = [(1, "x", 12), (1, "x", 1, 2), (11, "x", 2), (1, "x, 1", 2), (1, "x', (1", 2), (1, "1", 1), (-1, "x")]
    assert len({streams.integer(*one) for one in streams_of}) == len(streams_of)


def test_integers_fit_what_libraries_take():
    drawn = [streams.integer(seed, "x") for seed in range(200)]
    assert all(0 <= one < 2**63 for one in drawn)
    assert max(drawn) > 2**62
    torch.manual_seed(max(drawn))


def test_training_and_held_out_phantoms_share_no_stream_whatever_the_seeds(monkeypatch):
    taken = defaultdict(set)

    def noted(eyes, drawn_from, *_, **__):
        for stream in drawn_from:
            taken[stream[1]].add(stream)

    monkeypatch.setattr(phantoms, "draw", noted)
    for seed in SEEDS:
        for purpose in DRAWN[:3]:
            synthesis.draw(30, purpose, seed, 32, 0.1)
        transfer.draw(transfer.ARMS[transfer.REFERENCE], 30, 32, seed)
        diversity.draw(diversity.ARMS[diversity.REFERENCE], 30, 32, seed)
    monkeypatch.setattr(robustness, "draw", lambda *given: noted(*given) or {}["drawn"])
    for seed in SEEDS:
        for drawing in (robustness.alone, partial(robustness.pairs, None, None, languages=["en"], prompts=1)):
            with pytest.raises(KeyError, match="drawn"):
                drawing(count=30, size=32, seed=seed)
    assert len(set(DRAWN)) == len(DRAWN)
    assert set(taken) == set(DRAWN)
    numbers = {purpose: {streams.integer(*stream) for stream in own} for purpose, own in taken.items()}
    for one, other in product(DRAWN, repeat=2):
        assert one == other or not numbers[one] & numbers[other]
    assert all(len(own) >= 20 * len(SEEDS) for own in numbers.values()), "no two seeds share an eye"


def test_all_randomness_is_drawn_from_a_stream():
    """What results are made of, that is: what only measures a machine may draw as it likes."""
    unseeded = ("rand", "randn", "randint", "randperm", "normal", "multinomial", "bernoulli")
    found = []
    for name, tree in programs():
        if name.startswith(("study/", "report/")):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
                found += [f"{name}: import {module}" for module in modules if module in ("random", "secrets")]
            if not isinstance(node, ast.Call):
                continue
            call = ast.unparse(node.func)
            last = call.rpartition(".")[2]
            if last == "manual_seed":
                of_stream = any("streams.integer" in ast.unparse(argument) for argument in node.args)
                found += [] if of_stream else [f"{name}: {ast.unparse(node)}"]
            elif call.startswith(("np.random.", "numpy.random.")) or last in ("default_rng", "RandomState"):
                found.append(f"{name}: {call}")
            elif call.startswith("torch.") and last in unseeded:
                given = {keyword.arg for keyword in node.keywords}
                found += [] if "generator" in given else [f"{name}: {ast.unparse(node)}"]
    of_one_eye = ["phantom/factors.py: np.random.Generator", "phantom/factors.py: np.random.PCG64"]
    assert [one for one in found if one not in of_one_eye] == []
