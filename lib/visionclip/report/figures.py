"""One function a figure; each returns a matplotlib figure and computes nothing that a report quotes."""

import html
import io
import itertools
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas
import seaborn
from IPython.core.getipython import get_ipython
from IPython.display import display
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font

from visionclip.conditions import plain

# Fonts with Chinese characters; the first that is installed is used, without one of them any that has the characters.
CHINESE = ["Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei"]
CHINESE += ["PingFang SC", "Microsoft YaHei", "SimHei"]
DPI = 200  # of pictures; what is drawn in lines has none
MANY = 1000  # marks of one line, above which they are a picture within a figure
ACROSS = 9  # pictures beside each other in a gallery
CHANCE = {"color": "0.5", "linestyle": ":", "linewidth": 1}  # the line of it in every figure
OUTSIDE = {"loc": "upper left", "bbox_to_anchor": (1, 1)}  # a legend to the right of its axes
STEP_SCORES = ("mean AUC", "mean Dice", "KID", "AUC downstream")  # of what is generated in so many steps
TAKEAWAY = '<p class="takeaway">{}</p>'  # what ``captioned`` displays beneath a figure
ERRORS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)  # ticks of a logarithmic axis


def font_families() -> list[str]:
    """Where the characters of a figure's text are looked for, in this order."""
    installed = font_manager.get_font_names()
    known = [name for name in CHINESE if name in installed]
    others = [] if known else [font.name for font in font_manager.fontManager.ttflist if _has_chinese(font)]
    return ["sans-serif", *(known + others)[:1]]


def _has_chinese(font: font_manager.FontEntry) -> bool:
    """Whether a font shows a character of the captions; matplotlib's own of last resort has boxes for all."""
    try:
        return ord("眼") in FT2Font(font.fname).get_charmap() and not font.name.startswith("Last Resort")
    except (OSError, RuntimeError, ValueError):  # gone since matplotlib listed it, or damaged
        return False


seaborn.set_theme(
    context="notebook",
    style="ticks",
    palette="colorblind",
    rc={
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.constrained_layout.use": True,
        "figure.dpi": 80,
        "legend.frameon": False,
        "font.family": font_families(),
        "svg.hashsalt": "visionclip",  # the same figure has the same names inside
    },
)


def _subplots(*shape: int, **given) -> tuple[Figure, Any]:
    """``plt.subplots``, forgotten by pyplot at once: a notebook shows the returned figure, and shows it one time."""
    figure, axes = plt.subplots(*shape, **given)
    plt.close(figure)
    shell = get_ipython()
    if shell and shell.display_formatter:  # each time, as what pyplot loads with its first figure sets its own
        formatters = shell.display_formatter.formatters
        formatters["image/png"].pop(Figure, None)
        formatters["image/svg+xml"].for_type(Figure, as_svg)
        formatters["image/jpeg"].for_type(Figure, as_jpeg)
        formatters["image/svg+xml"].enabled = formatters["image/jpeg"].enabled = True
    return figure, axes


def as_svg(figure: Figure) -> str | None:
    """A figure of lines and text as SVG, sharp at any size; None of one that shows pictures."""
    return None if _has_pictures(figure) else _saved(figure, "svg", metadata={"Date": None}).decode()


def as_jpeg(figure: Figure) -> bytes | None:
    """A figure that shows pictures as JPEG of ``DPI``; None of any other."""
    return _saved(figure, "jpeg", pil_kwargs={"quality": 85}) if _has_pictures(figure) else None


def _has_pictures(figure: Figure) -> bool:
    return any(axes.images for axes in figure.axes)


def _saved(figure: Figure, kind: str, **options) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=DPI, bbox_inches="tight", **options)
    return file.getvalue()


def captioned(figure: Figure, takeaway: str) -> None:
    """Display a figure, and beneath it what it shows in a sentence (of ``takeaways``), with which its caption on a page
    begins; nothing where that is empty.

    As HTML, since what a figure shows may differ from machine to machine as the figure does, and nbval compares text.
    """
    display(figure)
    if takeaway:
        display({"text/html": TAKEAWAY.format(html.escape(takeaway))}, raw=True)


def takeaway(output: Mapping) -> str:
    """The sentence that ``captioned`` displayed as this output of a notebook's cell; empty of any other output."""
    before, after = TAKEAWAY.split("{}")
    found = re.fullmatch(f"{before}(.+){after}", output.get("data", {}).get("text/html", ""))
    return html.unescape(found[1]) if found else ""


def colours(names: Iterable[str]) -> list[str]:
    """Of each series by its name: phantoms are the first of the palette in every figure, generated eyes the second, and
    whatever else there is takes the others in order."""
    fixed = {"phantom": "C0", "generat": "C1", "ddpm": "C1"}
    others = (f"C{number % 8 + 2}" for number in itertools.count())
    return [next((own for word, own in fixed.items() if word in name.lower()), "") or next(others) for name in names]


def gallery(
    rows: Mapping[str, Sequence[np.ndarray]], titles: Sequence[str], width: float = 1.0, credit: str = ""
) -> Figure:
    """A table of pictures: one row a key, one column a title, in blocks of ``ACROSS`` columns; uint8 S×S×3 each,
    ``width`` inches a picture, and below them the ``credit`` that their owner asks for."""
    across, blocks = min(len(titles), ACROSS), -(-len(titles) // ACROSS)
    heading = 0.5 if max(map(len, map(_title, titles)), default=0) > 12 else 0.2
    size = (width * across + 0.6, blocks * (len(rows) * (width + 0.04) + heading))
    spaces = {"wspace": 0.03, "hspace": 0.03}
    figure, axes = _subplots(blocks * len(rows), across, figsize=size, squeeze=False, gridspec_kw=spaces)
    for place in axes.flat:
        place.set(xticks=[], yticks=[])
        seaborn.despine(ax=place, left=True, bottom=True)
    for line, (name, pictures) in enumerate(rows.items()):
        for number, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
            block, column = divmod(number, ACROSS)
            place = axes[block * len(rows) + line, column]
            place.imshow(picture)
            if not column:
                place.set_ylabel(plain(name), fontsize=8)
            if not line:
                place.set_title(_title(title), fontsize=7)
    if credit:
        figure.supxlabel(credit, fontsize=7)
    return figure


def _title(name: str) -> str:
    """The title of a picture, in lines short enough to stay above it."""
    return textwrap.fill(plain(name), 16)


def atlas(pictures: Mapping[str, np.ndarray], columns: int = 8, width: float = 1.25) -> Figure:
    """Pictures by name (S×S×3, uint8 or 0 to 1) in a grid, in the order given."""
    lines = -(-len(pictures) // columns)
    figure, axes = _subplots(lines, columns, figsize=(width * columns, (width + 0.4) * lines), squeeze=False)
    for place in axes.flat:
        place.axis("off")
    for place, (name, picture) in zip(axes.flat, pictures.items(), strict=False):
        place.imshow(picture)
        place.set_title(_title(name), fontsize=8, pad=3)
    return figure


def layouts(pixels: np.ndarray, masks: np.ndarray, shown: Mapping[str, int], channels: Sequence[str]) -> Figure:
    """The layout of chosen eyes, a colour a channel over a dark picture; pixels N×S×S×3, masks N×C×S×S."""
    painted = {name: paint(pixels[index], masks[index], channels) for name, index in shown.items()}
    figure = atlas(painted)
    handles = [
        matplotlib.patches.Patch(color=colour, label=plain(channels[place]))
        for place, colour in _layout_colours(channels).items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=8)
    return figure


def paint(picture: np.ndarray, masks: np.ndarray, channels: Sequence[str]) -> np.ndarray:
    """A layout C×S×S, a colour a channel over a dark picture S×S×3: float S×S×3, 0 to 1."""
    painted = picture / 255 * 0.35
    for place, colour in _layout_colours(channels).items():
        painted[masks[place] > 0] = matplotlib.colors.to_rgb(colour)
    return painted


def _layout_colours(channels: Sequence[str]) -> dict[int, str]:
    """Of each channel by its place; the field has none, as all else lies in it."""
    palette = matplotlib.colormaps["tab20"]
    return {
        place: matplotlib.colors.to_hex(palette(place % 20)) for place, one in enumerate(channels) if one != "field"
    }


def smoothed(values: Sequence[float]) -> np.ndarray:
    """A running mean of N values over a fiftieth of them: float N."""
    window = max(len(values) // 50, 1)
    return pandas.Series(values).rolling(window, min_periods=1).mean().to_numpy()


def loss_curve(losses: Sequence[float], floors: Sequence[float] | None = None) -> Figure:
    """Loss by update, with the lowest value that the objective allows where it is known."""
    figure, axes = _subplots(figsize=(7, 3))
    axes.plot(losses, linewidth=0.5, alpha=0.3, color="C0", rasterized=len(losses) > MANY)
    axes.plot(smoothed(losses), color="C0", label="loss")
    axes.set(xlabel="update", ylabel="loss", xlim=(0, len(losses)))
    if floors is None:
        axes.set_yscale("log")
    else:
        axes.plot(smoothed(floors), color="C3", linestyle="--", label="theoretical floor")
        axes.legend()
    return figure


def loss_curves(losses: Mapping[str, Sequence[float]]) -> Figure:
    """Several losses by update, each by its name."""
    figure, axes = _subplots(figsize=(7, 2.8))
    for name, values in losses.items():
        axes.plot(smoothed(values), label=name)
    axes.set(xlabel="update", ylabel="loss", ylim=(0, None))
    if losses:
        axes.legend()
    return figure


def temperature_curve(temperatures: Sequence[float]) -> Figure:
    """The learnt temperature by update, with its lowest allowed value."""
    figure, axes = _subplots(figsize=(7, 2.4))
    axes.plot(temperatures)
    axes.axhline(0.01, color="C3", linestyle="--", linewidth=1, label="clamp")
    axes.set(xlabel="update", ylabel="temperature", ylim=(0, None))
    axes.legend()
    return figure


def fidelity_bars(fidelity: pandas.DataFrame) -> Figure:
    """AUC of the referee on held-out phantoms and on generated images (columns of the frame), by condition."""
    figure, axes = _subplots(figsize=(8, 0.28 * len(fidelity) + 1))
    named = fidelity.rename(index=plain)
    named.plot.barh(ax=axes, width=0.75, color=colours(map(str, fidelity.columns)))
    axes.axvline(0.5, **CHANCE)
    axes.invert_yaxis()
    axes.set(xlabel="referee's AUC (0.5: chance)", ylabel="", xlim=(0, 1))
    axes.legend(**OUTSIDE)
    return figure


def step_curves(table: pandas.DataFrame) -> Figure:
    """What fewer evaluations cost, from ``referee.by_steps`` or ``generated_share.by_steps``: each of ``STEP_SCORES``
    that the table has, with its limits where it has them, by NFE, a line a generator (the part of a row's name before
    the comma)."""
    named = table.assign(generator=[str(name).rpartition(", ")[0] for name in table.index]).sort_values("NFE")
    scores = [score for score in STEP_SCORES if score in table]
    figure, panels = _subplots(1, len(scores), figsize=(2.7 * len(scores), 2.6), squeeze=False)
    for axes, score in zip(panels[0], scores, strict=True):
        for generator, own in named.groupby("generator", sort=False):
            axes.plot(own["NFE"], own[score], "o-", label=str(generator))
            if f"{score} low" in own:
                limits = (own[f"{score} {end}"].astype(float) for end in ("low", "high"))
                axes.fill_between(own["NFE"], *limits, alpha=0.2)
        axes.set_xscale("log", base=2)
        axes.set(xlabel="evaluations an image (NFE)", title=score)
    panels[0][0].legend()
    return figure


def histogram(values: Sequence[int], label: str) -> Figure:
    """Counts of integers, one bar each."""
    figure, axes = _subplots(figsize=(6, 2.6))
    seaborn.histplot(x=np.asarray(values), discrete=True, ax=axes)
    axes.set(xlabel=label, ylabel="captions")
    return figure


def rank_frequency(counts: Sequence[int]) -> Figure:
    """How many images each distinct caption belongs to, the commonest first, both axes logarithmic."""
    figure, axes = _subplots(figsize=(6, 2.8))
    axes.loglog(np.arange(1, len(counts) + 1), sorted(counts, reverse=True), ".", rasterized=len(counts) > MANY)
    axes.set(xlabel="rank of the caption", ylabel="its images")
    return figure


def recall_bars(table: pandas.DataFrame) -> Figure:
    """Recall at k by direction, with chance; columns direction, k, recall, chance."""
    figure, axes = _subplots(figsize=(6, 3))
    seaborn.barplot(table, x="k", y="recall", hue="direction", ax=axes)
    dashes = {"dodge": 0.4, "linestyle": "none", "marker": "_", "legend": False}
    seaborn.pointplot(table, x="k", y="chance", hue="direction", palette=["black"] * 2, ax=axes, **dashes)
    axes.set(ylim=(0, 1), xlabel="", ylabel="recall (dash: chance)")
    axes.legend(title="", loc="upper left")
    return figure


def confusions(matrices: Mapping[str, tuple[np.ndarray, Sequence[str]]], title: str) -> Figure:
    """A panel a task, by its name: counts K×K (rows: truth) of its K classes, coloured by the share of each row."""
    columns = min(3, len(matrices))
    lines = -(-len(matrices) // columns)
    largest = max(len(classes) for _, classes in matrices.values())
    side = 0.42 * largest + 1.9
    figure, panels = _subplots(lines, columns, figsize=(side * columns, side * lines), squeeze=False)
    look = {"cmap": "Blues", "vmin": 0, "vmax": 1, "cbar": False, "fmt": "d", "annot_kws": {"fontsize": 8}}
    for axes in panels.flat[len(matrices) :]:
        axes.set_axis_off()
    for axes, (name, (counts, classes)) in zip(panels.flat, matrices.items(), strict=False):
        seaborn.heatmap(counts / np.maximum(counts.sum(1, keepdims=True), 1), annot=counts, ax=axes, **look)
        words = [textwrap.fill(one, 16) for one in classes]
        axes.set_xticklabels(words, rotation=40, ha="right", fontsize=7)
        axes.set_yticklabels(words, rotation=0, fontsize=7)
        axes.set_title(textwrap.fill(name, 26), fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.supxlabel("predicted", fontsize=9)
    figure.supylabel("truth", fontsize=9)
    return figure


def prompt_matrix(
    grid: np.ndarray, tasks: Sequence[str], sentences: Sequence[str], right: Sequence[Sequence[str]]
) -> Figure:
    """AUC T×S of every sentence put to every task, around chance in the middle; the ``right`` ones of a task framed."""
    figure, axes = _subplots(figsize=(0.4 * len(sentences) + 3.2, 0.3 * len(tasks) + 1.6))
    annotated = {"annot": np.round(100 * grid).astype(int), "fmt": "d", "annot_kws": {"fontsize": 6}}
    seaborn.heatmap(grid, cmap="RdBu_r", vmin=0, vmax=1, cbar_kws={"label": "AUC", "shrink": 0.7}, ax=axes, **annotated)
    for row, keys in enumerate(right):
        for key in keys:
            frame = (sentences.index(key), row), 1, 1
            axes.add_patch(matplotlib.patches.Rectangle(*frame, fill=False, edgecolor="black", linewidth=1.6))
    axes.set_xticks(np.arange(len(sentences)) + 0.5, [plain(one) for one in sentences], fontsize=7)
    axes.tick_params(axis="x", rotation=60)
    axes.set_yticks(np.arange(len(tasks)) + 0.5, [_of_set(one) for one in tasks], fontsize=7, rotation=0)
    axes.set(xlabel="sentence, present against absent", ylabel="")
    return figure


def change_grids(grids: Mapping[str, pandas.DataFrame]) -> Figure:
    """The change of a score by what was done (rows) and how strongly (columns), a heat map for each set by its name."""
    rows = max(len(grid) for grid in grids.values())
    figure, axes = _subplots(
        1, len(grids), figsize=(1.6 + 3.1 * len(grids), 1 + 0.3 * rows), squeeze=False, sharey=True
    )
    lowest = min(-0.05, *(float(np.nanmin(grid.to_numpy(float))) for grid in grids.values()))
    for place, (name, grid) in zip(axes[0], grids.items(), strict=True):
        values = grid.to_numpy(float)
        place.imshow(values, cmap="RdBu", vmin=lowest, vmax=-lowest, aspect="auto")
        for row, column in np.ndindex(*values.shape):
            dark = abs(values[row, column]) > -0.6 * lowest
            style = {"ha": "center", "va": "center", "fontsize": 7, "color": "white" if dark else "black"}
            place.text(column, row, f"{values[row, column]:+.2f}", **style)
        place.set(title=name, xlabel="strength", xticks=range(len(grid.columns)), xticklabels=grid.columns)
        place.set_yticks(range(len(grid)), grid.index)
    return figure


def roc(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str) -> Figure:
    """Receiver operating characteristics, (false, true) positive rates by name, with chance as the diagonal."""
    figure, axes = _subplots(figsize=(4.6, 3.6))
    for name, (false, true) in curves.items():
        axes.plot(false, true, label=plain(name))
    axes.plot([0, 1], [0, 1], **CHANCE)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", aspect="equal")
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=7, **OUTSIDE)
    return figure


def reliability(diagrams: Mapping[str, Mapping[str, Sequence[Mapping]]]) -> Figure:
    """A panel a task, by its name; in it a line a way to read probabilities, by its name, of rows ``predicted``,
    ``observed`` (an Interval), as ``scoring.reliability`` has them. On the diagonal a probability is what it says."""
    columns = min(4, len(diagrams))
    lines = -(-len(diagrams) // columns)
    figure, panels = _subplots(lines, columns, figsize=(2.1 * columns, 2.1 * lines + 0.3), squeeze=False)
    for axes in panels.flat[len(diagrams) :]:
        axes.set_axis_off()
    for axes, (name, ways) in zip(panels.flat, diagrams.items(), strict=False):
        axes.plot([0, 1], [0, 1], **CHANCE)
        for way, rows in ways.items():
            values = np.array([[row["predicted"], row["observed"].value] for row in rows])
            limits = np.array([[row["observed"].low, row["observed"].high] for row in rows])
            axes.errorbar(*values.T, np.abs(limits - values[:, 1:]).T, fmt="o-", markersize=3, capsize=2, label=way)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.set_title(textwrap.fill(name, 24), fontsize=8)
    panels.flat[0].legend(fontsize=7)
    figure.supxlabel("probability predicted", fontsize=9)
    figure.supylabel("share observed", fontsize=9)
    return figure


def attack_roc(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], rate: float = 0.01) -> Figure:
    """Receiver operating characteristics of membership attacks, (false, true) positive rates by name, on logarithmic
    axes: what matters is who is found while hardly anybody is accused wrongly, at ``rate`` (dashed), and chance is the
    dotted diagonal. Thresholds at which nobody is found have no place here."""
    figure, axes = _subplots(figsize=(6.4, 3.8))
    lowest = min([rate / 2, *(false[false > 0].min() for false, _ in curves.values())])
    for (name, (false, true)), colour in zip(curves.items(), colours(curves), strict=True):
        axes.step(np.maximum(false, lowest), np.maximum(true, lowest), where="post", label=name, color=colour)
    axes.plot([lowest, 1], [lowest, 1], **CHANCE)
    axes.axvline(rate, color="0.6", linestyle="--", linewidth=1)
    axes.set(xscale="log", yscale="log", xlim=(lowest, 1), ylim=(lowest, 1.1))
    axes.set(xlabel="controls taken for members", ylabel="members found")
    axes.legend(fontsize=7, **OUTSIDE)
    return figure


def distributions(tables: Mapping[str, pandas.DataFrame]) -> Figure:
    """Box plots of each column, side by side for each named table."""
    columns = list(next(iter(tables.values())).columns)
    figure, axes = _subplots(1, len(columns), figsize=(1.5 * len(columns), 2.8), squeeze=False)
    for place, column in zip(axes[0], columns, strict=True):
        values = [table[column] for table in tables.values()]
        boxes = place.boxplot(values, tick_labels=list(tables), widths=0.6, patch_artist=True, sym="")
        for box, colour in zip(boxes["boxes"], colours(tables), strict=True):
            box.set(facecolor=colour, alpha=0.7)
        place.set(title=column)
        place.tick_params(labelsize=7)
        place.tick_params(axis="x", rotation=60)
    return figure


def scatter(points: pandas.DataFrame) -> Figure:
    """Points of several sets in a plane; columns set, first, second."""
    figure, axes = _subplots(figsize=(6.5, 4))
    sets = points.groupby("set", sort=False)
    for (name, own), colour in zip(sets, colours(str(name) for name, _ in sets), strict=True):
        axes.scatter(own["first"], own["second"], s=9, alpha=0.6, linewidths=0, color=colour, label=name)
    axes.set(xlabel="first principal component", ylabel="second")
    axes.legend(**OUTSIDE)
    return figure


def forest(table: pandas.DataFrame, chance: float = 0.5, label: str = "AUC with 95 % interval") -> Figure:
    """A score with its interval, one line a task or arm; columns name ("dataset: task", or any), value, low, high."""
    figure, axes = _subplots(figsize=(7.5, 0.26 * len(table) + 0.9))
    places = np.arange(len(table))
    errors = np.abs(table[["low", "high"]].to_numpy(float).T - table["value"].to_numpy(float))
    sets = [name.partition(": ")[0] for name in table["name"]]
    of_set = dict(zip(dict.fromkeys(sets), colours(dict.fromkeys(sets)), strict=True)) if len(set(sets)) < 9 else {}
    marks = [of_set.get(name, "C0") for name in sets] if len(of_set) < len(sets) else ["C0"] * len(sets)
    for place, value, error, colour in zip(places, table["value"].to_numpy(float), errors.T, marks, strict=True):
        axes.errorbar(value, place, xerr=error[:, None], fmt="o", markersize=4, capsize=2, color=colour)
    axes.axvline(chance, **CHANCE)
    axes.set_yticks(places, [_of_set(name) for name in table["name"]], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel=f"{label} (dotted: chance)", xlim=(0, 1))
    return figure


def differences(table: pandas.DataFrame) -> Figure:
    """Differences of AUC with their intervals, one line each; columns name, value, low, high, the last two None where
    there are none."""
    figure, axes = _subplots(figsize=(7.5, 0.26 * len(table) + 0.9))
    places, values = np.arange(len(table)), table["value"].to_numpy(float)
    errors = np.nan_to_num(np.abs(table[["low", "high"]].to_numpy(float).T - values))
    axes.errorbar(values, places, xerr=errors, fmt="o", markersize=4, capsize=2)
    axes.axvline(0, color="0.5", linestyle=":", linewidth=1)
    axes.set_yticks(places, table["name"], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="difference of AUC with 95 % interval")
    return figure


def beside_cited(table: pandas.DataFrame, measure: str) -> Figure:
    """Scores of a run with their intervals, filled, above cited ones, hollow, each with its chance as a grey bar;
    columns name ("dataset: task", or "model: set"), n, value, low, high, chance, cited."""
    figure, axes = _subplots(figsize=(7.5, 0.27 * len(table) + 1.0))
    sets = list(dict.fromkeys(name.partition(": ")[0] for name in table.loc[~table["cited"], "name"]))
    of_set = dict(zip(sets, colours(sets), strict=True))
    for place, row in enumerate(table.itertuples(index=False)):
        colour = "0.35" if row.cited else of_set[row.name.partition(": ")[0]]
        face = "none" if row.cited else colour
        axes.plot(row.chance, place, "|", color="0.6", markersize=9, markeredgewidth=2)
        if not np.isnan(row.low):
            axes.plot([row.low, row.high], [place, place], color=colour, linewidth=1.5)
        axes.plot(row.value, place, "o", color=colour, markerfacecolor=face, markersize=5)
    axes.set_yticks(
        np.arange(len(table)), [f"{_of_set(one.name)} (n {one.n})" for one in table.itertuples()], fontsize=8
    )
    if table["cited"].any():
        axes.axhline((~table["cited"]).sum() - 0.5, color="0.8", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel(f"{measure}, 95 % interval (hollow: cited, not rerun; grey bar: chance)", fontsize=9)
    axes.set_xlim(0, 1)
    return figure


def _of_set(name: str) -> str:
    """A set's task ("clinic: gc") as people read it."""
    before, mark, task = name.partition(": ")
    return f"{before.replace('_', ' ')}{mark}{plain(task)}" if mark else plain(name)


def learning_curves(points: pandas.DataFrame) -> Figure:
    """AUC against the number of labels, one axes a task and one line a method and start, with intervals over seeds;
    columns task, method, start, labels, value, low, high. What needs no labels is a dashed line across."""
    tasks = list(points["task"].unique())
    columns = min(len(tasks), 3)
    lines = -(-len(tasks) // columns)
    figure, axes = _subplots(lines, columns, figsize=(3.6 * columns + 1.8, 3.2 * lines), squeeze=False)
    curves = list(points.groupby(["method", "start"], sort=False).groups)
    for place, task in zip(axes.flat, tasks, strict=False):
        for number, (method, start) in enumerate(curves):
            own = points.query("task == @task and method == @method and start == @start").sort_values("labels")
            named = {"color": f"C{number % 10}", "label": f"{method} ({start})"}
            without = own[own["labels"] == 0]
            if len(without):
                place.axhline(without["value"].item(), linestyle="--", linewidth=1, **named)
            else:
                ends = [own["value"] - own["low"], own["high"] - own["value"]]
                spread = np.nan_to_num(np.array(ends, float))
                place.errorbar(own["labels"], own["value"], yerr=spread, marker="o", markersize=3, capsize=2, **named)
        place.axhline(0.5, **CHANCE)
        place.set(xscale="log", xlabel="labelled photographs", ylabel="AUC", ylim=(0.2, 1))
        place.set_title(plain(task), fontsize=9)
    for place in axes.flat[len(tasks) :]:
        place.axis("off")
    axes[0, -1].legend(fontsize=7, **OUTSIDE)
    return figure


def size_curve(curves: pandas.DataFrame, fits: Mapping[str, Mapping | None]) -> Figure:
    """Error (1 - AUC) against the number of training images with intervals over seeds and the fitted laws, each with
    its ``floor``, ``coefficient`` and ``exponent``, up to twice the largest size."""
    figure, axes = _subplots(figsize=(8, 4))
    sets = [(str(dataset), rows) for dataset, rows in curves.groupby("dataset")]
    for (dataset, rows), color in zip(sets, colours(dataset for dataset, _ in sets), strict=True):
        error = 1 - rows["value"]
        spread = [rows["high"] - rows["value"], rows["value"] - rows["low"]]
        spread = np.nan_to_num(np.array(spread, float)).clip(max=0.999 * np.maximum(error.to_numpy(), 1e-6))
        axes.errorbar(rows["images"], error, yerr=spread, fmt="o", capsize=3, color=color, label=dataset)
        if fit := fits.get(str(dataset)):
            sizes = np.geomspace(rows["images"].min(), 2 * rows["images"].max(), 50)
            fall = fit["coefficient"] * sizes ** -fit["exponent"]
            axes.plot(sizes, fit["floor"] + fall, color=color, linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="synthetic training images", ylabel="1 - AUC, mean over tasks")
    ticks = sorted(curves["images"].unique())
    axes.set_xticks(ticks, [f"{size:.0f}" for size in ticks])
    axes.set_ylim(bottom=0.4 * max(1 - curves["value"].max(), 1e-3))  # an interval may reach 0, which has no place here
    axes.minorticks_off()
    bottom, top = axes.get_ylim()
    shown = [error for error in ERRORS if bottom <= error <= top]
    axes.set_yticks(shown, [f"{error:g}" for error in shown])
    axes.legend(**OUTSIDE)
    return figure
