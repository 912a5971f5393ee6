"""Pictures of raw click logs: rates that drift, heavy tails, missing fields, skewed and growing vocabularies."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from dlrm_lib.plots import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    SKY,
    absent,
    axes,
    column_label,
    name_columns,
    panels,
    style,
)

_PERCENT = PercentFormatter(1, decimals=None)
_COUNT = StrMethodFormatter("{x:,.0f}")


@style()
def click_rate(rate: pd.Series, rows: pd.Series, *, part: str, overall: float) -> Figure:
    """The click rate of each part of the log in time order, with two standard errors.

    Args:
        rate: Clicks per row, by number of the part.
        rows: Rows, likewise.
        part: What a part is: "day", or "tenth of the file".
        overall: Clicks per row of all parts together.
    """
    figure, ax = axes("Does the click rate move with time?", part, "click rate", size=(7.0, 3.0))
    ax.axhline(overall, color=GREY, linewidth=1, linestyle="--")
    ax.errorbar(rate.index, rate, 2 * standard_error(rate, rows), color=BLUE, marker="o", markersize=5, capsize=3)
    ax.annotate(
        "all", (1, overall), (4, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center"
    )
    ax.set_xticks(rate.index)
    ax.yaxis.set_major_formatter(_PERCENT)
    return figure


def standard_error(rate: pd.Series, rows: pd.Series) -> pd.Series:
    """Of a click rate measured on so many rows."""
    return np.sqrt(rate * (1 - rate) / rows)


@style()
def heavy_tails(integers: pd.DataFrame, logarithms: pd.DataFrame) -> Figure:
    """Histograms of some integer columns as they are, above those of their logarithms; empty fields are left out."""
    names = list(integers)
    if not names:
        return absent("Long tails", "These rows have no integers.")
    labels = [column_label(name) for name in names]
    titles = [f"{label} as it is" for label in labels] + [f"log({label} + 2)" for label in labels]
    figure, grid = panels(titles, columns=len(names), size=(3.3 * len(names), 5.0))
    for top, bottom, name in zip(grid, grid[len(names) :], names, strict=False):
        top.hist(integers[name].dropna(), bins=50, color=GREY)
        bottom.hist(logarithms[name].dropna(), bins=30, color=BLUE)
        top.locator_params(axis="x", nbins=3)
        top.xaxis.set_major_formatter(_COUNT)
    for ax in grid:
        ax.yaxis.set_major_formatter(_COUNT)
    for ax in (grid[0], grid[len(names)]):
        ax.set_ylabel("rows")
    return figure


@style()
def missing_share(share: pd.Series, integers: Collection[str]) -> Figure:
    """The share of rows in which each column is empty.

    Args:
        share: By name of the column, in file order.
        integers: The names of those that hold integers; they have another colour.
    """
    figure, ax = axes("How often is a field empty?", "", "share of rows", size=(9.5, 3.0))
    colors = [AMBER if name in integers else BLUE for name in share.index]
    ax.bar(range(len(share)), share, color=colors, width=0.75)
    name_columns(ax, list(share.index))
    ax.set_ylim(0, 1)
    ax.yaxis.set_major_formatter(_PERCENT)
    return figure


@style()
def missing_tells(present: pd.DataFrame, empty: pd.DataFrame) -> Figure:
    """The click rate of the rows with a field and of those without it, with two standard errors.

    Args:
        present: Columns ``rate`` and ``rows``, by name of the log's column.
        empty: Likewise, for rows in which that column is empty.
    """
    figure, ax = axes("Click rate with the field, and without it", "", "click rate", size=(9.5, 3.2))
    at = np.arange(len(present))
    for shift, table, color, name in ((-0.14, present, BLUE, "field there"), (0.14, empty, ORANGE, "field empty")):
        error = 2 * standard_error(table["rate"], table["rows"])
        ax.errorbar(at + shift, table["rate"], error, color=color, fmt="o", markersize=4.5, linewidth=1.5, label=name)
    name_columns(ax, list(present.index))
    ax.yaxis.set_major_formatter(_PERCENT)
    ax.legend(ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


@style()
def vocabulary_sizes(sample: pd.Series, full: Sequence[int], rows: int) -> Figure:
    """Distinct values per column in this sample, beside those of Criteo's 24 days.

    Args:
        sample: Distinct values in the sample, by name of the column, in descending order.
        full: Values kept in the columns of Criteo's 1TB logs, likewise.
        rows: Rows of the sample.
    """
    figure, ax = axes("From a handful of values to millions", "", "distinct values", size=(9.5, 3.4))
    ax.bar(np.arange(len(sample)) - 0.19, sample, width=0.38, color=BLUE, label=f"these {rows:,} rows")
    label = "Criteo 1TB, 24 days, values seen 15 times or more"
    ax.bar(np.arange(len(full)) + 0.19, full, width=0.38, color=SKY, label=label)
    ax.set_yscale("log")
    name_columns(ax, [*sample.index, *[""] * (len(full) - len(sample))])
    ax.set_ylim(1, 30 * max(*sample, *full))
    ax.legend(ncols=2, loc="upper right")
    return figure


@style()
def rank_frequency(counts: Mapping[str, np.ndarray], limit: int) -> Figure:
    """How often the most frequent value occurs, the second, and so on, for some columns.

    Args:
        counts: Column → occurrences of its values, in descending order.
        limit: A line is drawn at this number of occurrences: rarer values get no id of their own.
    """
    figure, ax = axes("A few values are everywhere, most are nearly nowhere", "rank of the value", "rows with it")
    for (name, count), color in zip(counts.items(), (BLUE, GREEN, AMBER, SKY), strict=False):
        ax.plot(
            np.arange(1, len(count) + 1),
            count,
            color=color,
            marker=".",
            markersize=3.5,
            linewidth=1.2,
            label=column_label(name),
        )
    ax.axhline(limit, color=GREY, linewidth=1, linestyle="--")
    note = f"seen {limit} times"
    ax.annotate(note, (1, limit), (-2, 4), xycoords=("axes fraction", "data"), textcoords="offset points", ha="right")
    ax.set(xscale="log", yscale="log")
    ax.legend()
    return figure


@style()
def new_values(share: pd.Series) -> Figure:
    """Share of the later rows' cells whose value never occurred in the earlier rows, per column."""
    figure, ax = axes("Values nobody had seen before", "", "share of the later cells", size=(9.5, 3.0))
    ax.bar(range(len(share)), share, color=ORANGE, width=0.7)
    name_columns(ax, list(share.index))
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter(_PERCENT)
    return figure


@style()
def single_columns(aucs: pd.Series, noise: float, together: float | None, integers: Collection[str]) -> Figure:
    """The AUC of each column alone, in descending order, and of all of them added up.

    Args:
        aucs: By name of the column.
        noise: Standard deviation of the AUC of a column that tells nothing.
        together: AUC of all columns' scores added up; None, where the rows hold one class only, leaves nothing to draw.
        integers: The names of the columns that hold integers; they have another colour.
    """
    title = "How much does one column tell alone?"
    if together is None:
        return absent(title, "Undefined: an AUC takes later rows with a click and without.")
    aucs = aucs.sort_values(ascending=False)
    figure, ax = axes(title, "", "AUC of the later rows", size=(9.5, 3.4))
    ax.axhspan(0.5 - 2 * noise, 0.5 + 2 * noise, color="#EFEFEF")
    ax.axhline(0.5, color=GREY, linewidth=1)
    ax.axhline(together, color=GREEN, linewidth=1.5, linestyle="--")
    place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    text = f"all columns added up: {together:.3f}"
    ax.annotate(text, (1, together), (-2, 4), color=GREEN, ha="right", **place)
    text = "grey: guessing, give or take two standard errors"
    ax.annotate(text, (0, 0.5), (6, -4), color=GREY, va="top", **place)
    colors = [AMBER if name in integers else BLUE for name in aucs.index]
    ax.scatter(range(len(aucs)), aucs, color=colors, s=28, zorder=3)
    ax.vlines(range(len(aucs)), 0.5, aucs, color=colors, linewidth=2)
    name_columns(ax, list(aucs.index))
    ax.set_ylim(bottom=min(0.5 - 2 * noise, aucs.min()) - 0.02)
    return figure


@style()
def joint_effect(observed: pd.DataFrame, predicted: pd.DataFrame, deviation: pd.DataFrame) -> Figure:
    """Click rates for each combination of two columns' values, what single columns predict, and how far that is off.

    Args:
        observed: Click rate, one row per value of one column, one column per value of the other.
        predicted: Likewise, from both margins.
        deviation: Their difference in standard errors.
    """
    figure, grid = panels(["clicked", "predicted by single columns", "difference"], size=(11, 3.6))
    low, high = min(observed.min().min(), predicted.min().min()), max(observed.max().max(), predicted.max().max())
    limit = np.nanmax(np.abs(deviation.to_numpy()))
    shared = {"cmap": "cividis", "aspect": "auto", "vmin": low, "vmax": high}
    rates = [ax.imshow(table, **shared) for ax, table in zip(grid, (observed, predicted), strict=False)]
    off = grid[2].imshow(deviation, cmap="PuOr", aspect="auto", vmin=-limit, vmax=limit)
    for ax in grid:
        ax.set_xticks(range(observed.shape[1]), [name or "empty" for name in observed.columns], rotation=90, fontsize=7)
        ax.set_yticks(range(observed.shape[0]), [name or "empty" for name in observed.index], fontsize=7)
        ax.tick_params(labelleft=ax is grid[0])
        ax.grid(False)
        ax.set_xlabel(observed.columns.name)
    grid[0].set_ylabel(observed.index.name)
    figure.colorbar(rates[1], ax=grid[1], label="click rate", format=_PERCENT)
    figure.colorbar(off, ax=grid[2], label="standard errors")
    return figure
