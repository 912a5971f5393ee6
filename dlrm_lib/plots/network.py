"""Pictures of the network: its blocks, the interaction, its initial weights, and where its parameters are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from dlrm_lib.model.cost import linear_layers
from dlrm_lib.plots import AMBER, BLUE, GREEN, GREY, INK, ORANGE, SKY, axes, column_label, label_bars, panels, style

if TYPE_CHECKING:
    from torch import nn

    from dlrm_lib.model import DLRM

# Each block: left edge, bottom, width and colour; all are _BLOCK_HEIGHT high, in a field of 100 by 31.
_BLOCKS = {
    "numbers": (0, 21, 15, GREY),
    "ids": (0, 4, 15, GREY),
    "bottom MLP": (23, 21, 23, BLUE),
    "tables": (23, 4, 23, AMBER),
    "interaction": (53, 12.5, 15, GREEN),
    "top MLP": (74, 12.5, 26, BLUE),
}
_BLOCK_HEIGHT = 9
# Where the arrows between them begin and end.
_ARROWS = {
    ("numbers", "bottom MLP"): ((15, 25.5), (23, 25.5)),
    ("ids", "tables"): ((15, 8.5), (23, 8.5)),
    ("bottom MLP", "interaction"): ((46, 25.5), (53, 19)),
    ("tables", "interaction"): ((46, 8.5), (53, 15)),
    ("interaction", "top MLP"): ((68, 17), (74, 17)),
}


@style()
def blocks(model: DLRM) -> Figure:
    """The network as boxes and arrows, with the shape of what flows between them.

    B rows of the log have N numbers and M ids each; they become F vectors of length D, and those W columns. The model
    has numbers, and may be a blueprint.
    """
    figure, (ax,) = panels(["DLRM: two kinds of input become vectors of one length, which meet"], size=(10, 3.3))
    columns, (rows, dim) = len(model.spec.cardinalities), model.tables.weight.shape

    def sizes(mlp: nn.Module | None) -> str:
        layers = linear_layers(mlp)
        return " → ".join(str(size) for size in [*(layer.in_features for layer in layers), layers[-1].out_features])

    details = {
        "numbers": f"N = {model.spec.numerical}",
        "ids": f"M = {columns}",
        "bottom MLP": sizes(model.bottom),
        "tables": f"{rows:,} rows, D = {dim}",
        "interaction": f"F = M + 1 = {columns + 1}",
        "top MLP": sizes(model.top),
    }
    flows = ("[B, N]", (0, 6)), ("[B, M]", (0, 6)), ("[B, D]", (18, 5)), ("[B, M, D]", (25, -11)), ("[B, W]", (0, 6))
    _draw_blocks(ax)
    for name, (left, bottom, width_, _) in _BLOCKS.items():
        ax.text(left + width_ / 2, bottom + 5.9, name, ha="center", va="center", weight="bold")
        ax.text(left + width_ / 2, bottom + 2.7, details[name], ha="center", va="center", fontsize=8.5)
    for (start, end), (text, offset) in zip(_ARROWS.values(), flows, strict=True):
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        ax.annotate(text, middle, offset, textcoords="offset points", ha="center", fontsize=8.5)
    ax.annotate("", (87, 5), (87, 12.5), arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.3})
    ax.text(87, 3, "logits [B] → probabilities of a click", ha="center", va="center")
    return figure


def _draw_blocks(ax: Axes, highlight: str | None = None) -> None:
    """Boxes and arrows without words; with ``highlight`` all boxes but one are pale."""
    ax.set(xlim=(-0.5, 100.5), ylim=(0, 31))
    ax.axis("off")
    for name, (left, bottom, width, color) in _BLOCKS.items():
        shape = FancyBboxPatch((left, bottom), width, _BLOCK_HEIGHT, boxstyle="round,pad=0,rounding_size=1.2")
        filled = name == highlight
        edge = color if filled or highlight is None else "#C8C8C8"
        shape.set(facecolor=color if filled else f"{edge}30", edgecolor=edge, linewidth=1.4)
        ax.add_patch(shape)
    for start, end in _ARROWS.values():
        style = {"color": INK, "linewidth": 1.3} if highlight is None else {"color": "#C8C8C8", "linewidth": 1.0}
        ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, **style})


@style()
def shapes(block: str, tensors: Mapping[str, tuple[str, Sequence[int]]]) -> Figure:
    """One block: where it is in the network, and what goes in and comes out of it, drawn to scale.

    One row of the batch is in front, the others stand behind it. Lengths are drawn as their square roots, or one row of
    the interaction's output would fill the page.

    Args:
        block: A name from the drawing of all blocks.
        tensors: In the order of the computation, name → (names of the axes, "B M D"; their sizes).
    """
    figure, (map_, ax) = panels(["", ""], size=(10, 2.1))
    map_.set_position((0.01, 0.2, 0.2, 0.6))
    ax.set_position((0.24, 0.0, 0.76, 1.0))
    figure.set_layout_engine("none")
    _draw_blocks(map_, block)
    color = _BLOCKS[block][3]
    left = 0.0
    for number, (name, (names, sizes)) in enumerate(tensors.items()):
        axes_of = list(zip(names.split(), sizes, strict=True))
        rows, columns = [("", 1), ("", 1), *axes_of[1:]][-2:]
        height, width = rows[1] ** 0.5, columns[1] ** 0.5
        if number:
            ax.annotate(
                "", (left + 3.0, 0), (left, 0), arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.3}
            )
            left += 4.6
        for behind in (3, 2, 1, 0):
            place = (left + 0.45 * behind, -height / 2 + 0.45 * behind)
            ax.add_patch(Rectangle(place, width, height, facecolor="white", edgecolor=color, linewidth=1))
        ax.add_patch(
            Rectangle((left, -height / 2), width, height, facecolor=f"{color}50", edgecolor=color, linewidth=1.4)
        )
        middle = left + width / 2
        ax.text(middle + 0.7, height / 2 + 3.2, name, ha="center", weight="bold")
        ax.text(middle + 0.7, height / 2 + 1.9, f"B = {sizes[0]:,} of them", ha="center", fontsize=8.5)
        if columns[0]:
            ax.text(middle, -height / 2 - 0.5, f"{columns[0]} = {columns[1]}", ha="center", va="top", fontsize=8.5)
        if rows[0]:
            ax.text(left - 0.4, 0, f"{rows[0]} = {rows[1]}", ha="right", va="center", rotation=90, fontsize=8.5)
        left += width + 2.4
    ax.set(xlim=(-2.5, max(left, 40)), ylim=(-4.5, 7.5), aspect="equal", anchor="W")
    ax.axis("off")
    return figure


@style()
def spread_through_layers(layers: Sequence[str], spread: Mapping[str, Sequence[float]]) -> Figure:
    """How much the rows of a batch differ after each layer, for several scales of the weights.

    Args:
        layers: Names of the layers in order.
        spread: Name of a scale → standard deviation over the batch's rows, per layer.
    """
    figure, ax = axes("How much two rows differ, layer by layer", "", "standard deviation over rows", size=(9.5, 3.6))
    for (name, values), color in zip(spread.items(), (ORANGE, BLUE, SKY), strict=True):
        ax.plot(values, marker="o", markersize=4, color=color)
        ax.annotate(name, (len(values) - 1, values[-1]), (8, 0), textcoords="offset points", color=color, va="center")
    ax.set_yscale("log")
    ax.set_xticks(range(len(layers)), layers, fontsize=9)
    ax.set_xlim(-0.3, len(layers) - 1 + 1.6)
    return figure


@style()
def table_spread(rows: Sequence[int], spread: Sequence[float]) -> Figure:
    """The spread of each table's initial values against its number of rows, on the curve it is drawn from."""
    figure, ax = axes("Large tables start small", "rows of the table", "standard deviation of its values")
    size = np.geomspace(1, max(rows) * 1.5, 50)
    curve = (3 * size) ** -0.5
    ax.plot(size, curve, color=GREY, linewidth=1.2, label="of uniform(±sqrt(1 / rows))")
    ax.scatter(rows, spread, color=AMBER, edgecolor=INK, linewidth=0.6, zorder=3, label="one table")
    ax.set(xscale="log", yscale="log")
    ticks = [tick for tick in (0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 3e-4, 1e-4) if tick > curve[-1]]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.legend()
    return figure


@style()
def parameter_bars(models: Mapping[str, Mapping[str, int]], *, largest: int = 6) -> Figure:
    """Where the parameters are.

    Args:
        models: For each panel's title, the number of parameters of each part; MLPs have "MLP" in their name.
        largest: How many tables get a bar of their own.
    """
    figure, grid = panels(list(models), size=(10, 3.6))
    for ax, counts in zip(grid, models.values(), strict=True):
        tables = sorted((name for name in counts if "MLP" not in name), key=counts.__getitem__, reverse=True)
        parts = {f"table {column_label(name)}": counts[name] for name in tables[:largest]}
        if smaller := tables[largest:]:
            parts[f"{len(smaller)} smaller tables"] = sum(counts[name] for name in smaller)
        parts |= {name: count for name, count in counts.items() if "MLP" in name}
        unit, name = (1e6, "million") if max(parts.values()) > 1e6 else (1e3, "thousand")
        colors = [BLUE if "MLP" in part else AMBER for part in parts]
        ax.barh(list(parts), [count / unit for count in parts.values()], color=colors)
        label_bars(ax, [f"{100 * count / sum(parts.values()):.3g} %" for count in parts.values()])
        ax.set(xlabel=f"{name} parameters", xlim=(0, 1.25 * max(parts.values()) / unit))
        ax.invert_yaxis()
        ax.grid(axis="y", visible=False)
    return figure


@style()
def speed_ladder(speeds: Mapping[str, tuple[float, float, float] | str], machine: str, *, base: str) -> Figure:
    """Ways to train as horizontal bars, each with how many times as fast as ``base`` it is.

    Args:
        speeds: Name → lower quartile, median and upper quartile in samples/s, or a few words why there are none.
        machine: What it was measured on.
        base: The name that the others are compared with.
    """
    figure, ax = axes(f"Samples per second on {machine}", "thousand samples/s", "", size=(9.5, 0.7 + 0.5 * len(speeds)))
    quartiles = [(0.0, 0.0, 0.0) if isinstance(speed, str) else speed for speed in speeds.values()]
    low, middle, high = np.array(quartiles).T / 1000
    ax.barh(list(speeds), middle, color=[GREY if name == base else BLUE for name in speeds], height=0.6)
    measured = middle > 0
    ax.hlines(np.flatnonzero(measured), low[measured], high[measured], color=INK, linewidth=1.5)
    for y, (name, speed) in enumerate(speeds.items()):
        times = "" if name == base else f", {1000 * middle[y] / speeds[base][1]:.2f} times"
        text = speed if isinstance(speed, str) else f"{1000 * middle[y]:,.0f}{times}"
        ax.annotate(text, (high[y], y), (6, 0), textcoords="offset points", va="center")
    ax.set_xlim(0, 1.35 * max(high))
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    return figure
