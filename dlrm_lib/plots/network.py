"""Pictures of the network: its blocks, the interaction, its initial weights, and where its parameters are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from dlrm_lib.config import ModelConfig
from dlrm_lib.features import FeatureSpec
from dlrm_lib.plots import AMBER, BLUE, GREEN, GREY, INK, ORANGE, SKY, axes, label_bars, panels


def blocks(spec: FeatureSpec, config: ModelConfig, width: int) -> Figure:
    """The network as boxes and arrows, with the length of what flows between them.

    Args:
        spec: The columns.
        config: The layer sizes.
        width: Length of the interaction's output.
    """
    figure, (ax,) = panels(["DLRM: two kinds of input become vectors of one length, which meet"], size=(10, 3.3))
    ax.set(xlim=(-0.5, 100.5), ylim=(0, 31))
    ax.axis("off")
    columns, dim = len(spec.cardinalities), config.embedding_dim

    def box(x: float, y: float, w: float, color: str, name: str, detail: str) -> None:
        style = {"boxstyle": "round,pad=0,rounding_size=1.2", "linewidth": 1.4}
        ax.add_patch(FancyBboxPatch((x, y), w, 9, facecolor=f"{color}30", edgecolor=color, **style))
        ax.text(x + w / 2, y + 5.9, name, ha="center", va="center", weight="bold")
        ax.text(x + w / 2, y + 2.7, detail, ha="center", va="center", fontsize=8.5)

    def arrow(start: tuple[float, float], end: tuple[float, float], text: str = "", offset=(0, 6)) -> None:
        ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.3})
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        ax.annotate(text, middle, offset, textcoords="offset points", ha="center", fontsize=8.5)

    def sizes(first: int, layers: Sequence[int]) -> str:
        return " → ".join(map(str, (first, *layers)))

    box(0, 21, 12, GREY, f"{spec.numerical} numbers", "one row")
    box(0, 4, 12, GREY, f"{columns} ids", "the same row")
    box(17, 21, 23, BLUE, "bottom MLP", sizes(spec.numerical, config.bottom_mlp_sizes))
    box(17, 4, 23, AMBER, f"{columns} tables", f"{sum(spec.cardinalities):,} rows of {dim}")
    box(49, 12.5, 16, GREEN, "interaction", f"{columns + 1} vectors meet")
    box(72, 12.5, 28, BLUE, "top MLP", sizes(width, config.top_mlp_sizes))
    arrow((12, 25.5), (17, 25.5))
    arrow((12, 8.5), (17, 8.5))
    arrow((40, 25.5), (49, 19), f"1 × {dim}", (20, 6))
    arrow((40, 8.5), (49, 15), f"{columns} × {dim}", (24, -12))
    arrow((65, 17), (72, 17), f"{width}")
    arrow((86, 12.5), (86, 5))
    ax.text(86, 3, "logit → probability of a click", ha="center", va="center")
    return figure


def interaction_matrix(products: np.ndarray) -> Figure:
    """One row's dot products [F, F], the strict lower triangle in colour, what is left out in grey."""
    vectors = len(products)
    kept = vectors * (vectors - 1) // 2
    title = f"Each pair once: the {kept} products below the diagonal"
    figure, ax = axes(title, "vector j", "vector i", size=(7.0, 5.4))
    below = np.tril(np.ones_like(products, bool), -1)
    # A few pairs are far larger than the rest: they get the end of the scale, so that the others can be told apart.
    limit = np.quantile(np.abs(products[below]), 0.95)
    ax.imshow(0.85 - 0.2 * np.eye(vectors), cmap="Greys_r", vmin=0, vmax=1)
    image = ax.imshow(np.where(below, products, np.nan), cmap="PuOr", vmin=-limit, vmax=limit)
    ax.text(vectors * 0.72, vectors * 0.2, "the same products\nagain: j·i = i·j", ha="center", color=INK)
    ax.text(vectors * 0.72, vectors * 0.45, "diagonal: each\nvector with itself", ha="center", color=INK)
    names = ["numbers"] + [f"C{j}" for j in range(1, vectors)]
    ticks = range(0, vectors, 2)
    ax.set_xticks(ticks, [names[i] for i in ticks], rotation=90, fontsize=8)
    ax.set_yticks(ticks, [names[i] for i in ticks], fontsize=8)
    ax.grid(False)
    figure.colorbar(image, ax=ax, label="dot product", shrink=0.8, extend="both")
    return figure


def output_layout(layouts: Mapping[str, Mapping[str, int]]) -> Figure:
    """What each interaction hands to the top MLP: for each name, its parts and their numbers of columns, in order."""
    figure, ax = axes("What the top MLP gets to see", "columns", "", size=(8.5, 2.5))
    names = dict.fromkeys(name for parts in layouts.values() for name in parts)
    colors = dict(zip(names, (BLUE, GREEN, INK, AMBER), strict=False))
    for y, parts in enumerate(layouts.values()):
        left = 0
        for name, columns in parts.items():
            ax.barh(y, columns, left=left, color=colors[name], height=0.55, edgecolor="white")
            left += columns
        ax.text(left, y, f"  {' + '.join(map(str, parts.values()))} = {left}", va="center")
    ax.legend([Rectangle((0, 0), 1, 1, color=color) for color in colors.values()], colors, loc="lower right", ncols=2)
    ax.set_yticks(range(len(layouts)), list(layouts))
    ax.set_ylim(len(layouts) + 0.1, -0.5)
    ax.set_xlim(0, 1.35 * max(sum(parts.values()) for parts in layouts.values()))
    ax.grid(axis="y", visible=False)
    return figure


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


def parameter_bars(models: Mapping[str, Mapping[str, int]], *, largest: int = 6) -> Figure:
    """Where the parameters are.

    Args:
        models: For each panel's title, the number of parameters of each part; MLPs have "MLP" in their name.
        largest: How many tables get a bar of their own.
    """
    figure, grid = panels(list(models), size=(10, 3.6))
    for ax, counts in zip(grid, models.values(), strict=True):
        tables = sorted((name for name in counts if "MLP" not in name), key=counts.__getitem__, reverse=True)
        parts = {f"table {name}": counts[name] for name in tables[:largest]}
        parts[f"{len(tables) - largest} smaller tables"] = sum(counts[name] for name in tables[largest:])
        parts |= {name: count for name, count in counts.items() if "MLP" in name}
        unit, name = (1e6, "million") if max(parts.values()) > 1e6 else (1e3, "thousand")
        colors = [BLUE if "MLP" in part else AMBER for part in parts]
        ax.barh(list(parts), [count / unit for count in parts.values()], color=colors)
        label_bars(ax, [f"{100 * count / sum(parts.values()):.3g} %" for count in parts.values()])
        ax.set(xlabel=f"{name} parameters", xlim=(0, 1.25 * max(parts.values()) / unit))
        ax.invert_yaxis()
        ax.grid(axis="y", visible=False)
    return figure
