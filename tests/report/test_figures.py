import glob
import io
import warnings

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas
import pytest
from matplotlib import font_manager
from PIL import Image

from visionclip.evaluation.intervals import Interval
from visionclip.report import figures

PICTURE = np.full((16, 16, 3), 120, np.uint8)
CURVES = pandas.DataFrame(
    {
        "dataset": ["a"] * 3,
        "images": [10, 100, 1000],
        "value": [0.7, 0.8, 0.9],
        "low": [0.6, 0.75, np.nan],
        "high": [0.75, 0.85, np.nan],
    }
)
POINTS = pandas.DataFrame(
    [
        {"task": task, "method": method, "start": "phantoms", "labels": labels, "value": 0.7, "low": low, "high": 0.8}
        for task in ("a", "b", "c", "d")
        for method, labels, low in (("zero-shot", 0, None), ("probe", 2, 0.6), ("probe", 20, None))
    ]
)
DRAWN = {
    "gallery": lambda: figures.gallery(
        {"phantom": [PICTURE] * 2, "DDPM": [PICTURE] * 2}, ["normal", "dr_grade 1"], credit="by somebody"
    ),
    "atlas": lambda: figures.atlas({"normal": PICTURE, "amd": PICTURE}),
    "layouts": lambda: figures.layouts(
        PICTURE[None], np.ones((1, 2, 16, 16), np.uint8), {"normal": 0}, ["field", "disc"]
    ),
    "distributions": lambda: figures.distributions(
        {"a": CURVES[["value", "images"]], "b": CURVES[["value", "images"]]}
    ),
    "scatter": lambda: figures.scatter(
        pandas.DataFrame({"set": ["phantoms", "a", "a"], "first": [0.0, 1.0, 2.0], "second": [1.0, 0.0, 2.0]})
    ),
    "loss_curve": lambda: figures.loss_curve([3.0, 2.0, 1.5], [1.0, 1.0, 1.0]),
    "loss_curves": lambda: figures.loss_curves({"conditions": [0.7, 0.4], "maps": [1.0, 0.2]}),
    "temperature_curve": lambda: figures.temperature_curve([0.07, 0.05]),
    "fidelity_bars": lambda: figures.fidelity_bars(pandas.DataFrame({"phantoms": [0.9], "generated": [None]}, ["gc"])),
    "step_curves": lambda: figures.step_curves(
        pandas.DataFrame(
            {"NFE": [1, 4], "mean AUC": [0.7, 0.8], "mean Dice": [0.4, 0.5]}
            | {"KID": [0.9, 0.4], "KID low": [0.8, 0.3], "KID high": [1.0, 0.5]},
            ["student, 1", "student, 4"],
        )
    ),
    "reliability": lambda: figures.reliability(
        {"clinic: glaucoma": {"as it is": [{"predicted": 0.2, "observed": Interval(0.3, 0.1, 0.5), "n": 9}]}}
    ),
    "histogram": lambda: figures.histogram([3, 4, 4], "characters"),
    "rank_frequency": lambda: figures.rank_frequency([5, 1, 2]),
    "recall_bars": lambda: figures.recall_bars(
        pandas.DataFrame({"direction": ["a", "b"], "k": ["R@1"] * 2, "recall": [0.3, 0.4], "chance": [0.1, 0.1]})
    ),
    "confusions": lambda: figures.confusions(
        {"glaucoma": (np.array([[5, 1], [0, 0]]), ["no", "yes"]), "grade": (np.eye(3, dtype=int), list("abc"))}, "eyes"
    ),
    "prompt_matrix": lambda: figures.prompt_matrix(
        np.array([[0.9, 0.5], [0.4, 0.6]]), ["clinic: gc", "clinic: amd"], ["gc", "amd"], [["gc"], []]
    ),
    "change_grids": lambda: figures.change_grids(
        {"eyes": pandas.DataFrame({1: [-0.1, 0.02], 5: [-0.3, 0]}, ["a", "b"])}
    ),
    "roc": lambda: figures.roc({"gc": (np.array([0, 0.5, 1]), np.array([0, 0.8, 1]))}, "eyes"),
    "attack_roc": lambda: figures.attack_roc({"loss": (np.array([0, 0, 0.5, 1]), np.array([0, 0.1, 0.8, 1]))}),
    "forest": lambda: figures.forest(pandas.DataFrame({"name": ["a"], "value": [0.7], "low": [0.6], "high": [0.8]})),
    "differences": lambda: figures.differences(
        pandas.DataFrame({"name": ["a", "b"], "value": [0.1, -0.1], "low": [0.0, None], "high": [0.2, None]})
    ),
    "beside_cited": lambda: figures.beside_cited(
        pandas.DataFrame(
            {
                "name": ["clinic: gc", "FLAIR: REFUGE"],
                "n": [20, "not given"],
                "value": [0.7, 0.9],
                "low": [0.6, np.nan],
                "high": [0.8, np.nan],
                "chance": [0.5, 0.5],
                "cited": [False, True],
            }
        ),
        "AUC",
    ),
    "learning_curves": lambda: figures.learning_curves(POINTS),
    "size_curve": lambda: figures.size_curve(CURVES, {"a": {"floor": 0.1, "coefficient": 1.0, "exponent": 0.3}}),
}


@pytest.mark.parametrize("name", DRAWN)
def test_every_figure_draws_without_a_warning(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = DRAWN[name]()
        figure.canvas.draw()
    assert figure.axes
    plt.close(figure)


def test_without_losses_there_is_an_empty_figure_and_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = figures.loss_curves({})
    assert not figure.axes[0].lines
    plt.close(figure)


def test_every_public_figure_is_drawn_here():
    made = {
        name
        for name, value in vars(figures).items()
        if callable(value) and getattr(value, "__annotations__", {}).get("return") is figures.Figure
    }
    assert made == set(DRAWN)


def test_a_figure_is_displayed_above_its_takeaway_which_is_read_back(monkeypatch):
    displayed = []
    monkeypatch.setattr(figures, "display", lambda shown, raw=False: displayed.append(shown))
    figure = DRAWN["forest"]()
    for sentence in ("1 < 2 & “3”.", ""):
        figures.captioned(figure, sentence)
    shown = displayed.pop(1)
    assert displayed == [figure, figure]
    assert shown == {"text/html": '<p class="takeaway">1 &lt; 2 &amp; “3”.</p>'}
    assert figures.takeaway({"data": shown}) == "1 < 2 & “3”."
    for other in ({"text": "1 < 2"}, {"data": {"text/html": "<p>1</p>"}}, {"data": {"text/plain": "1"}}):
        assert figures.takeaway(other) == ""


@pytest.mark.parametrize("auc", [0.5, 0.9, 0.995])
def test_a_curve_of_errors_has_ticks_whatever_their_size(auc):
    curve = pandas.DataFrame({"dataset": "a", "images": [10, 100], "value": auc, "low": auc - 0.01, "high": auc})
    axes = figures.size_curve(curve, {}).axes[0]
    bottom, top = axes.get_ylim()
    assert any(bottom <= tick <= top for tick in axes.get_yticks())


def test_chinese_is_set_in_the_first_font_that_has_it(monkeypatch):
    entries = [font_manager.FontEntry(name=name) for name in ("SimHei", "Arial", "WenQuanYi Zen Hei")]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", entries)
    assert figures.font_families() == ["sans-serif", "WenQuanYi Zen Hei"]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", entries[1:2])
    assert figures.font_families() == ["sans-serif"]


def test_a_font_that_nobody_named_is_found_by_its_characters(monkeypatch):
    latin, everything = (matplotlib.get_data_path() + f"/fonts/ttf/{name}" for name in ("DejaVuSans.ttf", "Last*"))
    (everything,) = glob.glob(everything)  # has every character, and stands for a font of Chinese ones
    entries = [font_manager.FontEntry(fname=latin), font_manager.FontEntry(fname=everything, name="AR PL UMing CN")]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", entries)
    assert figures.font_families() == ["sans-serif", "AR PL UMing CN"]


def test_the_theme_looks_for_chinese_after_all_else():
    assert matplotlib.rcParams["font.family"] == figures.font_families()


@pytest.mark.skipif(len(figures.font_families()) == 1, reason="no font with Chinese characters is installed")
def test_a_chinese_title_is_no_row_of_boxes():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.atlas({"青光眼": PICTURE}).canvas.draw()


def test_lines_are_svg_and_pictures_are_fine_jpeg():
    lines, pictures = DRAWN["forest"](), DRAWN["gallery"]()
    assert figures.as_svg(lines).rstrip().endswith("</svg>")
    assert figures.as_svg(lines) == figures.as_svg(lines)
    assert figures.as_jpeg(lines) is None
    assert figures.as_svg(pictures) is None
    image = Image.open(io.BytesIO(figures.as_jpeg(pictures)))
    assert image.info["dpi"][0] >= 200
    assert image.format == "JPEG"


def test_phantoms_and_generated_eyes_have_their_colour_everywhere():
    assert figures.colours(["generated", "held-out phantoms", "idrid", "odir"]) == ["C1", "C0", "C2", "C3"]
    assert figures.colours(["phantoms", "palm"]) == ["C0", "C2"]


def test_steps_have_a_panel_for_each_score_there_is():
    table = pandas.DataFrame({"NFE": [1, 4], "mean AUC": [0.7, 0.8], "AUC downstream": [0.6, 0.7]}, ["a, 1", "a, 4"])
    drawn = figures.step_curves(table)
    assert [axes.get_title() for axes in drawn.axes] == ["mean AUC", "AUC downstream"]
    assert not any(axes.collections for axes in drawn.axes), "no limits, no band"
    table[["AUC downstream low", "AUC downstream high"]] = [[0.5, 0.7], [0.6, 0.8]]
    assert [len(axes.collections) for axes in figures.step_curves(table).axes] == [0, 1]
