"""One style for every figure of the workbook, and for figures of your own that are drawn ``with style():``.

A drawing function takes numbers and returns a closed ``Figure``: as the last expression of a notebook cell it is shown
once. Each chapter's drawings are in a module of their own beside this one. Matplotlib's settings are those of the style
while a function draws and while its figure is rendered; importing changes none.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from dlrm_lib.files import new_file, write_text
from dlrm_lib.records import Record

# Okabe and Ito (2008): told apart with every kind of colour vision.
BLUE, ORANGE, GREEN, SKY, AMBER, PINK = "#0072B2", "#D55E00", "#009E73", "#56B4E9", "#E69F00", "#CC79A7"
GREY, INK = "#8C8C8C", "#222222"
_FAINT, _GRID = "#666666", "#E6E6E6"
# The same figure on a dark page: light becomes dark and the other way round, the dark colours of the palette brighter.
_DARK = {
    "#ffffff": "#0d1117",  # the ground of GitHub's dark pages
    INK: "#e6edf3",
    GREY: "#8b949e",
    _FAINT: "#9da7b3",
    _GRID: "#2a313c",
    BLUE: "#3f9be0",
    ORANGE: "#f07f3c",
    GREEN: "#2fbf94",
    SKY: "#8fd0f5",
}
_DARK = {light.lower(): dark for light, dark in _DARK.items()}
_LINE = 0.27  # inches: height of the line that says where numbers come from
_PIXELS = 1660  # width of a PNG: twice that of a column of text on GitHub

_STYLE: dict[Any, Any] = {
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "lines.linewidth": 2.0,
    "legend.frameon": False,
    "svg.hashsalt": "dlrm",
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Matplotlib's settings for the workbook's figures, as a context or as a decorator of a function that draws."""
    with plt.rc_context(_STYLE):
        yield


class StyledFigure(Figure):
    """A figure that is rendered in the style wherever that happens: ticks are only made then."""

    def draw(self, renderer: RendererBase) -> None:
        """As every figure's."""
        with style():
            super().draw(renderer)


@style()
def axes(title: str, x: str, y: str, *, size: tuple[float, float] = (7.0, 3.4)) -> tuple[Figure, Axes]:
    """A figure with one set of axes.

    Args:
        title: What the picture shows, as a claim.
        x: Label of the horizontal axis, with its unit.
        y: Label of the vertical axis, with its unit.
        size: Width and height in inches.
    """
    figure, grid = panels([title], size=size)
    grid[0].set(xlabel=x, ylabel=y)
    return figure, grid[0]


@style()
def panels(
    titles: list[str], *, columns: int | None = None, size: tuple[float, float] = (9.0, 3.4)
) -> tuple[Figure, list[Axes]]:
    """A figure with one set of axes per title, in ``columns`` columns (default: one row)."""
    columns = columns or len(titles)
    rows = -(-len(titles) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, FigureClass=StyledFigure)
    plt.close(figure)
    for ax, title in zip(grid.flat, titles, strict=False):
        ax.set_title(title)
    for ax in grid.flat[len(titles) :]:
        ax.remove()
    return figure, list(grid.flat[: len(titles)])


@style()
def absent(title: str, why: str) -> Figure:
    """A picture without anything to draw: it says why, in a few words."""
    figure, (ax,) = panels([title], size=(7.0, 1.2))
    ax.axis("off")
    ax.text(0, 0.5, why, color=_FAINT, va="center")
    return figure


def column_label(name: str, most: int = 24) -> str:
    """A column's name as a picture can show it: not too long, and without what Matplotlib takes for its own.

    Dollars would begin a formula, and a legend leaves out what begins with an underscore.
    """
    short = name if len(name) <= most else f"{name[: most - 1]}…"
    return (" " if short.startswith("_") else "") + short.replace("$", r"\$")


@style()
def name_columns(ax: Axes, names: Sequence[str]) -> None:
    """Below each place the name of its column; of very many columns, some names."""
    every = 1 + len(names) // 80
    shown = [column_label(name) for name in names[::every]]
    ax.set_xticks(range(0, len(names), every), shown, rotation=90, fontsize=8.5)
    ax.set_xlim(-0.7, len(names) - 0.3)
    ax.grid(axis="x", visible=False)


@style()
def label_bars(ax: Axes, texts: list[str], *, gap: float = 4) -> None:
    """Writes a text ``gap`` points behind the end of each horizontal bar, so that nobody has to read the axis."""
    bars = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    for bar, text in zip(bars, texts, strict=True):
        end = (bar.get_x() + bar.get_width(), bar.get_y() + bar.get_height() / 2)
        ax.annotate(text, end, (gap, 0), textcoords="offset points", va="center")


@style()
def label_lines(ax: Axes, names: Mapping[Line2D, str] | None = None, *, gap: float = 6) -> None:
    """Writes the name of each line behind its end, in its colour: nobody has to look from a legend to a line and back.

    Names that would cover each other are moved apart. Call it last, when the limits of the axes are what they will be.

    Args:
        ax: Where the lines are.
        names: Line → name; by default the labels that they were drawn with.
        gap: Points between the end and the name.
    """
    names = names or {line: label for line in ax.lines if not (label := str(line.get_label())).startswith("_")}
    cast(Figure, ax.figure).draw_without_rendering()  # fixes the layout, and with it where the ends are
    points = 72 / ax.figure.dpi
    ends = {line: _end(line) for line in names}
    heights = {line: ax.transData.transform(ends[line])[1] * points for line in names}
    upwards = sorted(names, key=lambda line: heights[line])
    places = _apart([heights[line] for line in upwards], 1.25 * plt.rcParams["font.size"])
    for line, place in zip(upwards, places, strict=True):
        ax.annotate(
            names[line],
            ends[line],
            (gap, place - heights[line]),
            textcoords="offset points",
            va="center",
            color=line.get_color(),
            annotation_clip=False,
        )


def _end(line: Line2D) -> tuple[float, float]:
    points = np.array(line.get_xydata())
    return tuple(points[np.isfinite(points).all(1)][-1])


def _apart(heights: Sequence[float], least: float) -> list[float]:
    """Ascending heights, moved as little as makes neighbours ``least`` apart; groups stay where they are on average."""
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _spread(groups[-2], least)[-1] + least > _spread(groups[-1], least)[0]:
            last = groups.pop()
            groups[-1] += last
    return [place for group in groups for place in _spread(group, least)]


def _spread(group: Sequence[float], least: float) -> np.ndarray:
    return np.mean(group) + least * (np.arange(len(group)) - (len(group) - 1) / 2)


@style()
def measured_on(figure: Figure, record: Record, *, beside: str = "", kept: bool = False) -> Figure:
    """Writes below a figure where its numbers come from: machine, version of torch, date. Call it last.

    Args:
        figure: Drawn from the record, without a legend below its axes; it grows by a line.
        record: Where its numbers come from.
        beside: What else it shows, and where that comes from.
        kept: The figure goes into a file that is read on other machines. Otherwise it says where the machine that
            draws it is not the one that was measured.

    Returns:
        The same figure.
    """
    text = f"Measured on {record.origin}" + ("" if kept or record.here else ", not on this machine")
    text += f". {beside}" if beside else ""
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + _LINE)
    floor = _LINE / (height + _LINE)
    cast(ConstrainedLayoutEngine, figure.get_layout_engine()).set(rect=(0, floor, 1, 1 - floor))
    figure.text(0.06 / width, 0.4 * floor, text, color=_FAINT, fontsize=8.75, va="center")
    return figure


@style()
def save(figure: Figure, path: Path) -> None:
    """Writes ``path`` with the endings .svg and .png, and -dark.svg for a dark page, the same bytes each time.

    The bytes are those of one version of Matplotlib, which brings the library that draws letters (FreeType) along.
    """
    light = io.StringIO()
    figure.savefig(light, format="svg", metadata={"Date": None})
    dark = re.sub("#[0-9a-f]{6}", lambda color: _DARK.get(color[0], color[0]), light.getvalue())
    write_text(path.with_suffix(".svg"), light.getvalue())
    write_text(path.with_name(f"{path.name}-dark.svg"), dark)
    with new_file(path.with_suffix(".png")) as png:
        figure.savefig(png, format="png", dpi=_PIXELS / figure.get_figwidth(), metadata={"Software": None})
