"""Pictures of tuning: runs beside each other, the noise of seeds, what a search tries and what its choice is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from dlrm_lib.plots import AMBER, BLUE, GREEN, GREY, ORANGE, PINK, SKY, axes, panels, style

_SERIES = (BLUE, ORANGE, GREEN, PINK, AMBER, SKY)


@style()
def compared(runs: Mapping[str, Any], base: float) -> Figure:
    """Losses and validation AUCs of named runs over their steps: training losses thin, validation losses thick.

    A loss far beyond ``base`` runs out of the picture. A run that failed ends in a cross at the top: the loss that
    stopped it is no event.

    Args:
        runs: Name → a ``Run`` or a ``KeptRun``.
        base: Log loss of the click rate alone, in nats.
    """
    figure, (left, right) = panels(["Log loss", "AUC of the validation rows"], size=(10.0, 4.2))
    top = 1.6 * base
    for (name, run), color in zip(runs.items(), _SERIES, strict=False):
        steps, losses = _in_groups([(e.step / run.steps, e.loss) for e in run.progress])
        tested = [e.step / run.steps for e in run.evaluations]
        thick: dict[str, Any] = {"color": color, "marker": "o", "markersize": 3.5}
        left.plot(steps, losses, color=color, linewidth=1.0, alpha=0.6)
        left.plot(tested, [e.log_loss for e in run.evaluations], label=f"{name} ({run.steps:,} steps)", **thick)
        right.plot(tested, [np.nan if e.auc is None else e.auc for e in run.evaluations], **thick)
        if run.state in ("failed", "diverged") and run.progress:
            end = run.step / run.steps
            left.plot([steps[-1], end], [losses[-1], top], color=color, linestyle=":")
            left.plot(end, top, color=color, marker="x", markersize=9, markeredgewidth=2.5, clip_on=False)
    left.axhline(base, color=GREY, linewidth=1.2, linestyle="--", label="the click rate alone")
    left.set(ylabel="log loss (nats)", ylim=(0, top))
    right.axhline(0.5, color=GREY, linewidth=1.2, linestyle="--")
    right.set(ylabel="validation AUC")
    for ax in (left, right):
        ax.set(xlabel="share of the run's steps", xlim=(-0.02, 1.02))
        ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _in_groups(points: Sequence[tuple[float, float]], most: int = 30) -> tuple[list[float], list[float]]:
    """Means of so many groups of neighbouring points, since the losses of small batches jump about."""
    if not points:
        return [], []
    groups = [group.mean(0) for group in np.array_split(np.array(points), min(most, len(points)))]
    return [x for x, _ in groups], [y for _, y in groups]


@style()
def noise_floor(seeds: Sequence[float], others: Mapping[str, float]) -> Figure:
    """AUCs of one configuration with several seeds, two standard deviations about their mean, and others below."""
    figure, ax = axes(
        "The same configuration, other seeds", "best validation AUC", "", size=(8.0, 1.5 + 0.35 * len(others))
    )
    mean, spread = float(np.mean(seeds)), 2 * float(np.std(seeds, ddof=1))
    ax.axvspan(mean - spread, mean + spread, color=SKY, alpha=0.25, linewidth=0)
    ax.axvline(mean, color=BLUE, linewidth=1.2)
    ax.plot(seeds, np.zeros(len(seeds)), "o", color=BLUE, alpha=0.7)
    ax.plot(list(others.values()), range(1, len(others) + 1), "D", color=ORANGE)
    ax.set_yticks(range(len(others) + 1), [f"as it is, {len(seeds)} seeds", *others])
    ax.set_ylim(len(others) + 0.6, -0.6)
    ax.grid(axis="y", visible=False)
    return figure


@style()
def grid_and_random(side: int = 4, seed: int = 7) -> Figure:
    """As many trials on a grid and at random, with the values of the setting that matters below them."""
    count = side**2
    at = (np.arange(side) + 0.5) / side
    grid = np.stack(np.meshgrid(at, at), -1).reshape(-1, 2)
    random = np.random.default_rng(seed).uniform(0.04, 0.96, (count, 2))
    titles = [f"A grid: {count} trials, {side} values", f"At random: {count} trials, {count} values"]
    figure, drawn = panels(titles, size=(8.0, 3.6))
    for ax, points, color in zip(drawn, (grid, random), (GREY, BLUE), strict=True):
        ax.vlines(points[:, 0], -0.11, points[:, 1], color=color, linewidth=0.8, alpha=0.5)
        ax.plot(points[:, 0], points[:, 1], "o", color=color)
        ax.plot(points[:, 0], np.full(count, -0.11), "|", color=ORANGE, markersize=13, markeredgewidth=2.2)
        ax.axhline(-0.03, color=GREY, linewidth=0.8)
        ax.set(xlim=(0, 1), ylim=(-0.2, 1.02), xticks=[], yticks=[])
        ax.set(xlabel="a setting that matters", ylabel="one that does not")
    return figure


@style()
def trials(table: pd.DataFrame, names: Sequence[str]) -> Figure:
    """What a search has tried: the best so far, and the AUC against each setting.

    Args:
        table: As ``lab.search.Search.table`` returns it, with at least one AUC; its first trial is the configuration
            that the search began with.
        names: Settings, columns of it. Positive numbers are drawn on a logarithmic scale.
    """
    titles = ["The best so far", *names]
    figure, (first, *rest) = panels(titles, size=(3.0 * len(titles), 3.5))
    first.step(
        table.index, table["AUC"].where(table["state"] == "finished").cummax().ffill(), where="post", color=GREY, lw=1.2
    )
    _trials(first, table.index, table, labels=True)
    first.set(xlabel="trial", ylabel="best validation AUC")
    first.xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax, name in zip(rest, names, strict=True):
        values = table[name]
        if pd.api.types.is_numeric_dtype(values) and (values.dropna() > 0).all():
            ax.set_xscale("log")
            if pd.api.types.is_integer_dtype(values):
                ax.set_xticks(sorted(values.unique()), sorted(values.unique()))
                ax.set_xticks([], minor=True)
        _trials(ax, values, table, labels=False)
        ax.set(xlabel=name, ylim=first.get_ylim())
        ax.tick_params(labelleft=False)
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def _trials(ax: Axes, x: Sequence, table: pd.DataFrame, *, labels: bool) -> None:
    """One mark per trial; those without an AUC lie on the floor."""
    finished, first = table["state"] == "finished", table.index == table.index[0]
    found = table["AUC"].notna()
    floor = table["AUC"].min() - 0.06 * max(table["AUC"].max() - table["AUC"].min(), 0.01)
    kinds: dict[str, tuple[pd.Series, dict[str, Any]]] = {
        "finished": (finished & ~first, {"marker": "o", "color": BLUE}),
        "not finished": (found & ~finished & ~first, {"marker": "o", "color": BLUE, "markerfacecolor": "white"}),
        "without an AUC": (~found, {"marker": "x", "color": ORANGE, "clip_on": False}),
        "where it began": (first, {"marker": "*", "color": AMBER, "markersize": 15, "zorder": 4}),
    }
    for name, (chosen, look) in kinds.items():
        if chosen.any():
            y = table["AUC"].fillna(floor)[chosen]
            ax.plot(pd.Series(x, index=table.index)[chosen], y, linestyle="", label=name if labels else None, **look)


@style()
def pairs(before: Sequence[float], after: Sequence[float], found: float) -> Figure:
    """AUCs of two configurations, seed by seed, and what the search had found for the second."""
    figure, ax = axes("With fresh seeds", "", "validation AUC", size=(5.6, 3.8))
    for one, other in zip(before, after, strict=True):
        ax.plot([0, 1], [one, other], color=BLUE, marker="o", linewidth=1.2, alpha=0.7)
    ax.plot([0, 1], [np.mean(before), np.mean(after)], "_", color=BLUE, markersize=34, markeredgewidth=3, label="mean")
    ax.plot(1, found, "*", color=ORANGE, markersize=15, linestyle="", label="as the search saw it", zorder=4)
    ax.set_xticks([0, 1], ["as it was", "the search's best"])
    ax.set_xlim(-0.45, 1.45)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=0.6)
    return figure
