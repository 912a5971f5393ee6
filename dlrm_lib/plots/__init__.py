"""One style for every figure of the workbook; importing this module sets it, also for figures of your own.

A drawing function takes numbers and returns a closed ``Figure``: as the last expression of a notebook cell it is shown
once. Each chapter's drawings are in a module of their own beside this one.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito (2008): told apart with every kind of colour vision.
BLUE, ORANGE, GREEN, SKY, AMBER, PINK = "#0072B2", "#D55E00", "#009E73", "#56B4E9", "#E69F00", "#CC79A7"
GREY, INK = "#8C8C8C", "#222222"

plt.rcParams.update(
    {
        "figure.dpi": 110,
        "figure.facecolor": "white",
        "figure.constrained_layout.use": True,
        "font.size": 10,
        "font.family": "DejaVu Sans",
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#E6E6E6",
        "grid.linewidth": 0.8,
        "lines.linewidth": 2.0,
        "legend.frameon": False,
        "svg.hashsalt": "dlrm",
    }
)


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


def panels(
    titles: list[str], *, columns: int | None = None, size: tuple[float, float] = (9.0, 3.4)
) -> tuple[Figure, list[Axes]]:
    """A figure with one set of axes per title, in ``columns`` columns (default: one row)."""
    columns = columns or len(titles)
    figure, grid = plt.subplots(-(-len(titles) // columns), columns, figsize=size, squeeze=False)
    plt.close(figure)
    for ax, title in zip(grid.flat, titles, strict=False):
        ax.set_title(title)
    for ax in grid.flat[len(titles) :]:
        ax.remove()
    return figure, list(grid.flat[: len(titles)])


def label_bars(ax: Axes, texts: list[str], *, gap: float = 4) -> None:
    """Writes a text ``gap`` points behind the end of each horizontal bar, so that nobody has to read the axis."""
    for bar, text in zip(ax.patches, texts, strict=True):
        end = (bar.get_x() + bar.get_width(), bar.get_y() + bar.get_height() / 2)
        ax.annotate(text, end, (gap, 0), textcoords="offset points", va="center")


def save(figure: Figure, path: Path) -> None:
    """Writes ``path`` with the endings .svg and .png, the same bytes each time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=160, metadata={"Software": None})
