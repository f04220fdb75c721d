"""The page of one eye: what is on it, and that nothing of a file's name becomes markup."""

from dataclasses import replace

import numpy as np
import pandas
import pytest

from visionclip.conditions import FINDINGS
from visionclip.evaluation.intervals import Interval
from visionclip.evaluation.reference import Worth
from visionclip.report import eyes
from visionclip.stages.your_photograph import Examined, Predicted

PICTURE = np.full((32, 32, 3), 80, np.uint8)
MAPS = np.zeros((len(FINDINGS), 8, 8), np.float32)


@pytest.fixture
def eye():
    worth = Worth(Interval(0.9, 0.8, 0.95), 100, 20, 0.0, 0.5, 1.0, 0.0)
    chance = Worth(Interval(0.5, 0.4, 0.6), 100, 20, 0.0, 0.5, 1.0, 0.0)
    predicted = [Predicted("amd>=1", -1.0, 0.27, chance, False), Predicted("gc>=1", 2.0, 0.88, worth, True)]
    nearest = [(PICTURE, "glaucoma", 0.9)]
    return Examined("<b>eye</b>.png", [], ["the picture is dark"], PICTURE, predicted, MAPS, nearest)


def test_a_page_says_what_is_seen_first(eye):
    page = eyes.page(eye, ["clinic"])
    assert page.index("青光眼 · glaucoma") < page.index("<table>")
    assert page.index("<td>glaucoma</td>") < page.index("<td>age-related macular degeneration</td>")
    assert "88 %" in page
    assert "27 %" not in page, "no probability where the model knows nothing"
    assert "Mind that the picture is dark." in page
    assert "Not for clinical use" in page
    assert page.count("data:image/jpeg;base64,") == 3
    assert "&lt;b&gt;eye" in page
    assert "<b>eye" not in page
    assert "http" not in page, "nothing is loaded from elsewhere"


def test_a_refused_picture_has_the_reason_alone():
    page = eyes.page(Examined("kitchen.jpg", ["these are not the colours of a retina"]), [])
    assert "Not read" in page
    assert "these are not the colours" in page
    assert "<table>" not in page
    assert "data:image" not in page


def test_pages_of_one_name_are_numbered_and_a_table_stands_beside_them(eye, tmp_path):
    named = [replace(eye, name=name) for name in ("eye 2.jpg", "eye.jpg", "eye.png")]
    pages = eyes.write(named, ["clinic"], tmp_path)
    assert [page.name for page in pages] == ["eye 2.html", "eye.html", "eye 3.html"]
    assert all(page.is_file() for page in pages)
    assert len(pandas.read_csv(tmp_path / eyes.CSV)) == 6
