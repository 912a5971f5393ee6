"""Pictures of preprocessing: skew, the frequency limit, numericals, time per stage, and the share of id 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from dlrm_lib.plots import AMBER, BLUE, GREEN, GREY, INK, ORANGE, PINK, SKY, axes, panels

_SERIES = (BLUE, ORANGE, GREEN, PINK, AMBER, SKY)


def skew(counts: Mapping[str, np.ndarray], limit: int) -> Figure:
    """How often each value of a few columns occurs, and what share of a column its most frequent values make up.

    Args:
        counts: Column name → how often each of its values occurs, in any order.
        limit: The frequency limit, drawn as a line.
    """
    titles = ["Seen often, seen once", "What the most frequent values make up"]
    figure, (left, right) = panels(titles, size=(9.5, 3.8))
    for (name, values), color in zip(counts.items(), _SERIES, strict=False):
        ordered = np.sort(values)[::-1]
        rank = np.arange(1, len(ordered) + 1)
        marker = "o" if len(ordered) < 10 else None
        label = f"{name}, {len(ordered):,} values"
        left.plot(rank, ordered, color=color, marker=marker, markersize=3, label=label)
        right.plot(rank, ordered.cumsum() / ordered.sum(), color=color, marker=marker, markersize=3)
    left.axhline(limit, color=GREY, linewidth=1.2, linestyle="--")
    left.annotate(
        f"limit {limit}",
        (1, limit),
        (0, 3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        color=GREY,
    )
    left.set(xscale="log", yscale="log", xlabel="rank of the value", ylabel="times seen in the training rows")
    right.set(xscale="log", ylim=(0, 1.03), xlabel="the k most frequent values", ylabel="share of the cells")
    right.yaxis.set_major_formatter(PercentFormatter(1))
    figure.legend(loc="outside lower center", ncols=len(counts), fontsize=9)
    return figure


def limit_cost(limits: Sequence[int], coverage: Sequence[float], rows: Sequence[int], limit: int) -> Figure:
    """What a frequency limit keeps and what it costs.

    Args:
        limits: Frequency limits.
        coverage: Share of the cells that hold a value whose id is kept, for each limit.
        rows: Rows of all embedding tables together, for each limit.
        limit: The limit in use, one of ``limits``; it is marked.
    """
    figure, (left, right) = panels(["Cells that keep an id of their own", "Rows of all embedding tables"])
    at = list(limits).index(limit)
    for ax, values, text in ((left, coverage, f"{coverage[at]:.1%}"), (right, rows, f"{rows[at]:,}")):
        ax.plot(limits, values, color=BLUE)
        ax.plot(limit, values[at], "o", color=ORANGE, markersize=8)
        ax.annotate(f"limit {limit}: {text}", (limit, values[at]), (8, 8), color=ORANGE, textcoords="offset points")
        ax.set(xscale="log", xlabel="frequency limit")
    left.set(ylim=(0, 1.12), ylabel="share of the cells not missing")
    left.yaxis.set_major_formatter(PercentFormatter(1))
    right.set(yscale="log", ylabel="rows")
    return figure


def seconds(runs: Mapping[str, Mapping[str, float]]) -> Figure:
    """One horizontal bar per run, cut into its stages; ``runs`` is run → stage → seconds."""
    stages = list(dict.fromkeys(stage for run in runs.values() for stage in run))
    figure, ax = axes("Seconds to the encoded rows", "seconds", "", size=(8.5, 0.6 * len(runs) + 1.5))
    for stage, color in zip(stages, (SKY, BLUE, AMBER, ORANGE, GREEN), strict=False):
        before = [sum(run.get(s, 0) for s in stages[: stages.index(stage)]) for run in runs.values()]
        width = [run.get(stage, 0) for run in runs.values()]
        ax.barh(list(runs), width, left=before, height=0.6, color=color, label=stage)
    for at, total in enumerate(sum(run.values()) for run in runs.values()):
        ax.annotate(f"{total:.1f} s", (total, at), (5, 0), textcoords="offset points", va="center")
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.margins(x=0.1)
    figure.legend(loc="outside lower center", ncols=len(stages), fontsize=9)
    return figure


def numericals(names: Sequence[str], before: np.ndarray, after: np.ndarray) -> Figure:
    """The spread of each numerical column before and after the logarithm.

    Args:
        names: The columns.
        before: [columns, 5]: quantiles 1, 25, 50, 75 and 99 % of the integers; NaN in a column without any.
        after: [columns, 5]: the same of the encoded values.
    """
    figure, grid = panels(["Before: integers", "After: logarithms"], size=(9.5, 0.24 * len(names) + 1.4))
    at = np.arange(len(names))
    for ax, quantiles in zip(grid, (before, after), strict=True):
        ax.hlines(at, quantiles[:, 0], quantiles[:, 4], color=SKY, linewidth=2.5, label="1 to 99 %")
        ax.hlines(at, quantiles[:, 1], quantiles[:, 3], color=BLUE, linewidth=6, label="25 to 75 %")
        ax.plot(quantiles[:, 2], at, "o", color=INK, markersize=3.5, label="median")
        ax.set_yticks(at, names)
        ax.invert_yaxis()
        ax.grid(axis="y", visible=False)
    grid[0].set_xlabel("value")
    grid[0].xaxis.set_major_locator(MaxNLocator(4))
    grid[0].xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    grid[1].set_xlabel("encoded value")
    grid[1].legend(loc="best", fontsize=9)
    return figure


def id_zero(names: Sequence[str], missing: np.ndarray, train: np.ndarray, test: np.ndarray) -> Figure:
    """Share of cells with id 0 in each column: ``missing`` and all in the training rows, and all in the test rows."""
    figure, ax = axes("How much of each column is id 0?", "", "share of the cells", size=(9.5, 3.6))
    at = np.arange(len(names))
    ax.bar(at - 0.2, missing, 0.4, color=SKY, label="training: missing")
    ax.bar(at - 0.2, train - missing, 0.4, bottom=missing, color=BLUE, label="training: rare")
    ax.bar(at + 0.2, test, 0.4, color=ORANGE, label="test: missing, rare or never seen")
    ax.set_xticks(at, names, fontsize=8)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.grid(axis="x", visible=False)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure
