"""Pictures of preprocessing: skew, the frequency limit, numericals, where time and bytes go, and the share of id 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from dlrm_lib.plots import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PINK,
    SKY,
    absent,
    axes,
    column_label,
    name_columns,
    panels,
    style,
)

if TYPE_CHECKING:
    from dlrm_lib.preprocess.stages import Stage

_SERIES = (BLUE, ORANGE, GREEN, PINK, AMBER, SKY)
_MARK = "limit"  # the id of what marks a limit in a figure
_SHUFFLE = 3  # the arrow of ``flows`` that is the shuffle, as the number of the box it ends in


@style()
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
        label = f"{column_label(name)}, {len(ordered):,} values"
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
    left.set(xscale="log", yscale="log", xlabel="rank of the value", ylabel="times seen in the rows counted")
    right.set(xscale="log", ylim=(0, 1.03), xlabel="the k most frequent values", ylabel="share of the cells")
    right.yaxis.set_major_formatter(PercentFormatter(1))
    figure.legend(loc="outside lower center", ncols=len(counts), fontsize=9)
    return figure


@style()
def limit_cost(limits: Sequence[int], coverage: Sequence[float], rows: Sequence[int], limit: int) -> Figure:
    """What a frequency limit keeps and what it costs.

    Args:
        limits: Frequency limits.
        coverage: Share of the cells that hold a value whose id is kept, for each limit.
        rows: Rows of all embedding tables together, for each limit.
        limit: The limit in use, one of ``limits``; it is marked.
    """
    figure, (left, right) = panels(["Cells that keep an id of their own", "Rows of all embedding tables"])
    for ax, values in ((left, coverage), (right, rows)):
        ax.plot(limits, values, color=BLUE)
        ax.set(xscale="log", xlabel="frequency limit")
    left.set(ylim=(0, 1.12), ylabel="share of the cells not missing")
    left.yaxis.set_major_formatter(PercentFormatter(1))
    right.set(yscale="log", ylabel="rows")
    mark_limit(figure, limits, coverage, rows, limit)
    return figure


@style()
def mark_limit(
    figure: Figure, limits: Sequence[int], coverage: Sequence[float], rows: Sequence[int], limit: int
) -> list[Artist]:
    """Marks a limit in a figure of ``limit_cost``, in place of the one marked before; returns the marks."""
    for mark in figure.findobj(lambda artist: artist.get_gid() == _MARK):
        mark.remove()
    at = list(limits).index(limit)
    marks: list[Artist] = []
    values, texts = (coverage[at], rows[at]), (f"{coverage[at]:.1%}", f"{rows[at]:,}")
    for ax, value, text in zip(figure.axes, values, texts, strict=True):
        says = f"limit {limit:,}: {text}"
        marks += ax.plot(limit, value, "o", color=ORANGE, markersize=8, gid=_MARK)
        # Both curves fall, so this corner is free.
        marks.append(ax.text(0.98, 0.94, says, color=ORANGE, ha="right", transform=ax.transAxes, gid=_MARK))
    return marks


@style()
def timeline(runs: Mapping[str, Sequence[Stage]]) -> Figure:
    """When the stages of each step of each run were at work. The time between two steps of a run is left out.

    Args:
        runs: Name of the run → its stages. A step's span, from its first stage to its last, is shaded: what no stage
            fills is the driver's time, in which it plans, compiles, lists files and starts tasks.
    """
    lanes, spans = [], []
    for run, (name, stages) in enumerate(runs.items()):
        clock = 0.0
        for step in dict.fromkeys(stage.step for stage in stages):
            bars = [(stage.begin, stage.end) for stage in stages if stage.step == step]
            begin, end = min(b for b, _ in bars), max(e for _, e in bars)
            spans.append((run, name, step, clock, end - begin, [(clock + b - begin, e - b) for b, e in bars]))
            clock += end - begin
        lanes.append(clock)
    title = "Where the time goes: " + ", ".join(f"{n} {t:.1f} s" for n, t in zip(runs, lanes, strict=True))
    figure, ax = axes(title, "seconds, without the pauses between steps", "", size=(9.0, 0.36 * len(spans) + 1.3))
    for lane, (run, _, _, begin, length, bars) in enumerate(spans):
        color = _SERIES[run]
        ax.barh(lane, length, left=begin, height=0.7, color=color, alpha=0.18)
        ax.broken_barh(bars, (lane - 0.25, 0.5), facecolors=color, edgecolor="white", linewidth=0.6)
        ax.annotate(f"{length:.1f} s", (begin + length, lane), (4, 0), textcoords="offset points", va="center")
    labels = [step if len(runs) == 1 else f"{name}: {step}" for _, name, step, *_ in spans]
    ax.set_yticks(range(len(spans)), labels)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.margins(x=0.08)
    return figure


@style()
def flows(dataframes: Sequence[Stage], library: Sequence[Stage]) -> Figure:
    """The way of the rows through both pipelines, with what their shuffles really moved.

    Args:
        dataframes: Stages of the DataFrame pipeline.
        library: Stages of the library's.
    """
    figure, (ax,) = panels(["The same bytes on two ways"], size=(10.0, 4.4))
    ax.set(xlim=(-0.5, 99.5), ylim=(0, 44))
    ax.axis("off")
    java, python, disk = "#FBE3C8", "#D6EAF7", "#F2F2F2"
    rows = (
        (
            "DataFrames",
            30,
            (
                (disk, "raw files,\nread three\ntimes"),
                (java, "split each line\ninto 40 strings"),
                (java, "26 records\nper row; count\nper task"),
                (java, "add up,\nrank"),
                (java, "split each line\nagain; send rows\nto Python"),
                (python, "look up,\nsend rows back"),
                (disk, "Parquet"),
            ),
            dataframes,
        ),
        (
            "the library",
            8,
            (
                (disk, "raw files,\nread once"),
                (python, "one compiled\nloop: tokens\nbecome codes"),
                (python, "count codes:\none array\nper column"),
                (python, "add up,\nrank"),
                (disk, "codes, kept\non disk by\nthe first pass"),
                (python, "id = array[code]"),
                (disk, "binary files"),
            ),
            library,
        ),
    )
    for name, y, boxes, stages in rows:
        records, size = sum(s.shuffled_records for s in stages), sum(s.shuffled_bytes for s in stages)
        ax.text(0, y + 9.2, name, weight="bold")
        for i, (color, text) in enumerate(boxes):
            x = 14.5 * i
            patch = FancyBboxPatch((x, y - 4.5), 11.6, 10, boxstyle="round,pad=0,rounding_size=1", fc=color, ec=GREY)
            ax.add_patch(patch)
            ax.text(x + 5.8, y + 0.5, text, ha="center", va="center", fontsize=7.5)
            if i:
                color, width = (ORANGE, 2.5) if i == _SHUFFLE else (GREY, 1.2)
                arrow = {"arrowstyle": "-|>", "color": color, "linewidth": width, "shrinkA": 0, "shrinkB": 0}
                ax.annotate("", (x, y + 0.5), (x - 2.9, y + 0.5), arrowprops=arrow)
        what = f"shuffled: {records:,} records, {size / 1e6:,.2f} MB"
        ax.text(14.5 * _SHUFFLE - 1.45, y - 8.2, what, ha="center", color=ORANGE, fontsize=9)
    for x, color, text in ((40, java, "in Java"), (56, python, "in Python"), (72, disk, "on disk")):
        ax.add_patch(FancyBboxPatch((x, 39.5), 2, 2, boxstyle="round,pad=0", fc=color, ec=GREY))
        ax.text(x + 3, 40.5, text, va="center", fontsize=9)
    return figure


@style()
def numericals(names: Sequence[str], missing: np.ndarray, before: np.ndarray, after: np.ndarray) -> Figure:
    """The spread of each numerical column before and after the logarithm.

    Args:
        names: The columns.
        missing: bool [rows, columns]; such values are left out.
        before: [rows, columns]: the integers.
        after: [rows, columns]: the encoded values.
    """
    if not names:
        return absent("Integers and their logarithms", "These rows have no integers.")
    figure, grid = panels(["Before: integers", "After: logarithms"], size=(9.5, 0.24 * len(names) + 1.4))
    at = np.arange(len(names))
    for ax, values in zip(grid, (before, after), strict=True):
        present = [values[~missing[:, i], i] for i in range(len(names))]
        quantiles = np.array(
            [np.quantile(v, (0.01, 0.25, 0.5, 0.75, 0.99)) if v.size else [np.nan] * 5 for v in present]
        )
        ax.hlines(at, quantiles[:, 0], quantiles[:, 4], color=SKY, linewidth=2.5, label="1 to 99 %")
        ax.hlines(at, quantiles[:, 1], quantiles[:, 3], color=BLUE, linewidth=6, label="25 to 75 %")
        ax.plot(quantiles[:, 2], at, "o", color=INK, markersize=3.5, label="median")
        ax.set_yticks(at, [column_label(name) for name in names])
        ax.invert_yaxis()
        ax.grid(axis="y", visible=False)
    grid[0].set_xlabel("value")
    grid[0].xaxis.set_major_locator(MaxNLocator(4))
    grid[0].xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    grid[1].set_xlabel("encoded value")
    grid[1].legend(loc="best", fontsize=9)
    return figure


@style()
def id_zero(names: Sequence[str], missing: np.ndarray, train: np.ndarray, test: np.ndarray) -> Figure:
    """Share of cells with id 0 in each column: ``missing`` and all in the training rows, and all in the test rows."""
    figure, ax = axes("How much of each column is id 0?", "", "share of the cells", size=(9.5, 3.6))
    at = np.arange(len(names))
    ax.bar(at - 0.2, missing, 0.4, color=SKY, label="training: missing")
    ax.bar(at - 0.2, train - missing, 0.4, bottom=missing, color=BLUE, label="training: rare")
    ax.bar(at + 0.2, test, 0.4, color=ORANGE, label="test: missing, rare or never seen")
    name_columns(ax, names)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure
