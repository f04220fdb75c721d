"""Many phantoms at once."""

import operator
import subprocess
import sys

import numpy as np
import pytest

from visionclip import streams
from visionclip.phantom import render, render_each, sets

EYES = [{"dr_grade": index % 5} for index in range(20)]
STREAMS = [(1, "sets", index) for index in range(20)]
picture = operator.attrgetter("image")  # workers find it by its name


def test_phantoms_come_in_order_each_from_its_stream():
    drawn = list(render_each(EYES, STREAMS, 32, picture, "phantoms", workers=2))
    expected = [render(eye, streams.rng(*stream), 32).image for eye, stream in zip(EYES, STREAMS, strict=True)]
    assert np.array_equal(drawn, expected)


def test_a_few_are_drawn_here_and_are_the_same(monkeypatch):
    alone = list(render_each(EYES[:3], STREAMS[:3], 32, picture, "phantoms", workers=1))
    monkeypatch.setattr(sets, "ProcessPoolExecutor", None)
    assert np.array_equal(list(render_each(EYES[:3], STREAMS[:3], 32, picture, "phantoms")), alone)


def test_fixed_factors_are_shared_by_all_eyes():
    fixed = {"exposure": 0.3}
    (drawn,) = render_each(EYES[:1], STREAMS[:1], 32, picture, "phantoms", 1, fixed)
    assert np.array_equal(drawn, render(EYES[0], streams.rng(*STREAMS[0]), 32, **fixed).image)


def test_what_workers_can_not_be_given_is_refused_before_they_start():
    with pytest.raises(ValueError, match=r"phantoms: .*lambda.*; workers take functions of a module") as refusal:
        next(render_each(EYES, STREAMS, 32, lambda drawn: drawn.image, "phantoms"))
    assert "\n" not in str(refusal.value)


def test_a_script_without_a_guard_is_told_what_to_write(tmp_path):
    call = "phantoms.draw([{}], [(0, 'test', 0)], 32, workers=1)"
    for name, body in (("bare", call), ("guarded", f'if __name__ == "__main__":\n    print({call}.pixels.shape)')):
        (tmp_path / f"{name}.py").write_text(f"from visionclip.data import phantoms\n{body}\n")
    bare, guarded = (
        subprocess.run(
            [sys.executable, tmp_path / f"{name}.py"], capture_output=True, text=True, timeout=120, check=False
        )
        for name in ("bare", "guarded")
    )
    assert bare.returncode == 1
    assert bare.stderr.count("Traceback") == 1
    last = bare.stderr.splitlines()[-1]
    assert last.startswith("RuntimeError: phantoms: ")
    assert 'put the call under if __name__ == "__main__":' in last
    assert guarded.stdout.strip() == "(1, 32, 32, 3)", guarded.stderr
