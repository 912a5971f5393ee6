"""The way of a row through the workbook, as one picture."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from dlrm_lib.plots import AMBER, BLUE, GREEN, GREY, INK, ORANGE, PINK, SKY, StyledFigure, style


@style()
def pipeline() -> Figure:
    """Raw rows → Spark → encoded rows → DLRM → click probability, with the chapter of each part."""
    figure = plt.figure(figsize=(10.5, 4.0), layout="none", FigureClass=StyledFigure)
    plt.close(figure)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 105), ylim=(0, 40))
    ax.axis("off")
    _box(ax, 2, 14, 16, 12, GREY, "raw rows", "label, 13 integers,\n26 hashed values", "01")
    _box(ax, 24, 14, 16, 12, AMBER, "Spark", "count values, give ids,\nsplit in time", "02")
    _box(ax, 46, 27, 16, 9, SKY, "bottom MLP", "13 numbers → 1 vector", "03")
    _box(ax, 46, 4, 16, 9, GREEN, "26 embeddings", "26 ids → 26 vectors", "03")
    _box(ax, 68, 14, 14, 12, BLUE, "interaction", "every vector\nmeets every other", "03")
    _box(ax, 87, 14, 16, 12, ORANGE, "top MLP", "one number:\nhow likely is a click?", "03")
    for start, end in (((18, 20), (24, 20)), ((82, 20), (87, 20))):
        _arrow(ax, start, end)
    _arrow(ax, (40, 22), (46, 31))
    _arrow(ax, (40, 18), (46, 9))
    ax.text(44.5, 24.5, "logarithms", fontsize=8.5, color=GREY)
    ax.text(44.5, 14.5, "ids", fontsize=8.5, color=GREY)
    _arrow(ax, (62, 31), (68, 22))
    _arrow(ax, (62, 9), (68, 18))
    ax.plot([95, 95, 54, 54], [13.4, 1.6, 1.6, 2.2], color=PINK, linewidth=1.4)
    _arrow(ax, (54, 1.6), (54, 4), color=PINK)
    ax.text(93.5, 2.6, "training: the error flows back into every weight", color=PINK, fontsize=8.5, ha="right")
    ax.text(96, 6, "04", color=PINK, fontsize=8.5, weight="bold")
    return figure


def _box(ax: Axes, x: float, y: float, width: float, height: float, color: str, name: str, text: str, chapter: str):
    ax.add_patch(
        FancyBboxPatch(
            (x, y), width, height, boxstyle="round,pad=0,rounding_size=1.2", fc=color + "22", ec=color, lw=1.6
        )
    )
    ax.text(x + width / 2, y + height - 2.6, name, ha="center", va="center", fontsize=10.5, weight="bold", color=INK)
    ax.text(x + width / 2, y + (height - 4) / 2, text, ha="center", va="center", fontsize=8.3, color=INK)
    ax.text(x + width - 0.8, y + height + 0.7, chapter, ha="right", fontsize=8.5, color=color, weight="bold")


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str = GREY) -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.4, "shrinkA": 1, "shrinkB": 1})
