"""Pictures of results, drawn from records: seeds, precisions, speeds, costs and peers.

Each function takes the ``metrics`` of a record (see ``records``) as the benches in ``ci/bench`` write them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from dlrm_lib.plots import BLUE, GREEN, GREY, INK, ORANGE, PINK, SKY, axes, label_bars, label_lines, panels, style

_COLORS = {"fp32": BLUE, "bf16": ORANGE, "fp16": GREEN, "tf32": PINK, "fp16 (mixed)": GREEN}
_MILLI = 1000  # AUCs are a thousandth apart at most: differences are drawn in thousandths
Metrics = Mapping[str, Any]


@style()
def learning_curves(stability: Metrics) -> Figure:
    """Validation AUC and log loss against the step, for each precision: the mean of all seeds, and their range."""
    figure, (left, right) = panels(["AUC of the validation rows", "Log loss of the validation rows"], size=(9.5, 3.8))
    for precision, runs in _by_precision(stability).items():
        steps = [point["step"] for point in runs[0]["curve"]]
        for ax, name in ((left, "validation_auc"), (right, "validation_log_loss")):
            values = np.array([[point[name] for point in run["curve"]] for run in runs])
            color = _COLORS[precision]
            ax.fill_between(steps, values.min(0), values.max(0), color=color, alpha=0.15, linewidth=0)
            ax.plot(steps, values.mean(0), color=color, linewidth=1.6, label=f"{precision}, mean of {len(runs)} seeds")
    left.set(xlabel="training step", ylabel="AUC")
    right.set(xlabel="training step", ylabel="log loss (nats)")
    left.legend(loc="lower right")
    return figure


@style()
def seeds(systems: Mapping[str, Mapping[str, Sequence[float]]], *, bound: float) -> Figure:
    """Test AUCs of many seeds in each precision, as differences from the mean of fp32, one panel per system.

    Differences can be compared between systems, AUCs of different data cannot.

    Args:
        systems: Name → precision → AUC of each seed.
        bound: What counts as no difference.
    """
    figure, grid = panels(list(systems), size=(9.5, 3.6))
    apart = [np.subtract(of, np.mean(system["fp32"])) for system in systems.values() for of in system.values()]
    edge = 1.25 * _MILLI * max(bound, *(np.abs(of).max() for of in apart))
    for ax, precisions in zip(grid, systems.values(), strict=True):
        zero = float(np.mean(precisions["fp32"]))
        for y, (precision, aucs) in enumerate(precisions.items()):
            differences = _MILLI * (np.sort(aucs) - zero)
            mean, deviation = differences.mean(), differences.std(ddof=1)
            ax.plot(differences, y + _spread(len(differences)), "o", color=_COLORS[precision], markersize=5, alpha=0.75)
            ax.errorbar(mean, y - 0.33, xerr=deviation, color=INK, marker="D", markersize=4, capsize=3, linewidth=1.2)
            ax.annotate(
                f"{np.mean(aucs):.5f} ± {np.std(aucs, ddof=1):.5f}",
                (mean, y - 0.33),
                (0, 5),
                textcoords="offset points",
                ha="center",
                fontsize=9,
            )
        ax.axvspan(-_MILLI * bound, _MILLI * bound, color=GREY, alpha=0.1, linewidth=0)
        ax.set_yticks(range(len(precisions)), list(precisions))
        ax.set(xlabel="test AUC less the mean of fp32 (thousandths)", ylim=(len(precisions) - 0.5, -0.75))
        ax.set_xlim(-edge, edge)
        ax.grid(axis="y", visible=False)
    return figure


@style()
def equivalence(found: Mapping[str, Metrics]) -> Figure:
    """The interval of each precision's mean difference to fp32, between the bounds within which it counts as none.

    Args:
        found: Precision → the record's ``equivalence``.
    """
    figure, ax = axes(
        "Is 16 bit as good as 32?", "test AUC less that of fp32, same seed (thousandths)", "", size=(7.5, 2.2)
    )
    bound = _MILLI * next(iter(found.values()))["bound"]
    for y, (precision, of) in enumerate(found.items()):
        mean, low, high = (_MILLI * of[name] for name in ("difference", "low", "high"))
        ax.errorbar(
            mean, y, xerr=[[mean - low], [high - mean]], color=_COLORS[precision], marker="o", capsize=5, linewidth=2
        )
        verdict = "equivalent" if of["equivalent"] else "not shown to be equivalent"
        ax.annotate(f"{verdict}, p = {of['p']:.1g}", (high, y), (8, 0), textcoords="offset points", va="center")
    for edge in (-bound, bound):
        ax.axvline(edge, color=GREY, linestyle="--", linewidth=1.2)
    ax.axvline(0, color=INK, linewidth=0.8)
    ax.set_yticks(range(len(found)), list(found))
    ax.set(ylim=(len(found) - 0.4, -0.6), xlim=(-1.6 * bound, 1.6 * bound))
    ax.grid(axis="y", visible=False)
    return figure


@style()
def time_to_auc(runs: Sequence[Metrics], target: float) -> Figure:
    """Seconds of training until the validation AUC reached a target: the median, and the range of the repeats.

    Args:
        runs: Each with ``name``, ``precision`` and ``seconds``, which is None where no repeat reached it. Peers, whose
            names begin with "plain", are grey.
        target: The validation AUC.
    """
    title = f"Seconds to a validation AUC of {target:g}"
    figure, ax = axes(title, "seconds of training", "", size=(7.5, 0.5 * len(runs) + 1.1))
    for y, run in enumerate(runs):
        spread = run["seconds"] or {"median": 0.0, "low": 0.0, "high": 0.0}
        color = GREY if run["name"].startswith("plain") else _COLORS[run["precision"]]
        ax.barh(y, spread["median"], color=color, height=0.6)
        if run["seconds"]:
            _range(ax, spread, y)
        text = f"{spread['median']:.1f} s" if run["seconds"] else "did not reach it"
        ax.annotate(text, (spread["high"], y), (6, 0), textcoords="offset points", va="center")
    ax.set_yticks(range(len(runs)), [run["name"] for run in runs])
    ax.invert_yaxis()
    ax.set_xlim(0, 1.15 * max(run["seconds"]["high"] for run in runs if run["seconds"]))
    ax.grid(axis="y", visible=False)
    return figure


@style()
def throughput(models: Mapping[str, Sequence[Metrics]]) -> Figure:
    """Samples per second against the batch size, in each precision; the band is the range of the repeats.

    Args:
        models: Name of a model → its points.
    """
    figure, grid = panels(list(models), size=(10.5, 3.8))
    for ax, points in zip(grid, models.values(), strict=True):
        for precision, of in _by_precision({"runs": points}).items():
            sizes = [point["batch_size"] for point in of]
            _band(ax, sizes, [point["samples_per_second"] for point in of], _COLORS[precision], precision)
        _logarithmic(ax, "rows per batch", "samples per second")
        sizes = sorted({point["batch_size"] for point in points})
        ax.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=8)
        ax.set_xlim(right=5 * sizes[-1])
        label_lines(ax)
    return figure


@style()
def latency(models: Mapping[str, Sequence[Metrics]], precision: str = "fp32") -> Figure:
    """What a larger batch gains in rows per second and costs in waiting: one point per batch size.

    Args:
        models: Name of a model → its points.
        precision: Whose points are drawn.
    """
    figure, grid = panels(list(models), size=(9.5, 3.8))
    for ax, points in zip(grid, models.values(), strict=True):
        of = [point for point in points if point["precision"] == precision]
        rates = [point["samples_per_second"] for point in of]
        for name, color, dash in (("p50", BLUE, "-"), ("p99", SKY, "--")):
            times = [point[f"{name}_ms"] for point in of]
            ax.plot(times, rates, dash, color=color, marker="o", markersize=4, label=f"{name} of the latencies")
        for point, rate in list(zip(of, rates, strict=True))[::2]:  # each second one, or they cover each other
            at = (point["p50_ms"], rate)
            ax.annotate(f"{point['batch_size']:,}", at, (-4, 5), textcoords="offset points", ha="right", fontsize=9)
        _logarithmic(ax, "milliseconds per batch", "rows per second")
        ax.margins(x=0.15, y=0.12)
        ax.legend(loc="lower right", title="labels: rows per batch", fontsize=9, title_fontsize=9)
    return figure


@style()
def cost(growth: Metrics) -> Figure:
    """How speed and memory change as one thing grows and the others stay.

    Args:
        growth: ``rows``, ``table_rows`` and ``embedding_dim`` → points.
    """
    things = {"rows": "training rows", "table_rows": "rows of all tables", "embedding_dim": "embedding width"}
    titles = ["More training rows", "Larger tables", "Wider embeddings", *[""] * 3]
    figure, grid = panels(titles, columns=3, size=(10.0, 5.2))
    for thing, name, speed, memory in zip(things, things.values(), grid[:3], grid[3:], strict=True):
        values = [point["value"] for point in growth[thing]]
        _band(speed, values, [point["samples_per_second"] for point in growth[thing]], BLUE)
        for key, color, label in (("memory_bytes", ORANGE, "whole process"), ("table_bytes", GREY, "tables alone")):
            gibibytes = [point[key] / 2**30 for point in growth[thing]]
            memory.plot(values, gibibytes, color=color, marker="o", markersize=4, label=label)
        for ax in (speed, memory):
            ax.set(xscale="log", ylim=(0, None))
            ax.xaxis.set(major_formatter=FuncFormatter(_short), minor_formatter=NullFormatter())
        if len(values) > 5:
            memory.set_xticks(values, [_short(value) for value in values])
            speed.set_xticks(values, [_short(value) for value in values])
        speed.yaxis.set_major_formatter(FuncFormatter(_short))
        memory.set_xlabel(name)
    grid[0].set_ylabel("samples per second")
    grid[3].set_ylabel("memory (GiB)")
    grid[3].legend(fontsize=9)
    return figure


@style()
def step_speed(models: Mapping[str, Mapping[str, Metrics]], names: Mapping[str, str]) -> Figure:
    """Training speed of each contestant, as multiples of the ordinary PyTorch program.

    Args:
        models: Title → contestant → ``{"times_plain": repeats}``.
        names: Contestant → its name for people; those named here are drawn, in this order.
    """
    figure, grid = panels(list(models), size=(10.0, 0.34 * len(names) + 1.2))
    for first, (ax, contestants) in enumerate(zip(grid, models.values(), strict=True)):
        shown = [name for name in names if name in contestants]
        times = [float(np.median(contestants[name]["times_plain"])) for name in shown]
        colors = [BLUE if name.startswith("ours") else GREY for name in shown]
        ax.barh([names[name] for name in shown], times, color=colors, height=0.62)
        label_bars(ax, [f"{value:.2f}" for value in times])
        ax.axvline(1, color=INK, linewidth=0.8)
        ax.invert_yaxis()
        ax.grid(axis="y", visible=False)
        ax.set(xlabel="times plain PyTorch", xlim=(0, 1.25 * max(times)))
        if first:
            ax.set_yticklabels([])
    return figure


@style()
def preprocessing(seconds: Mapping[str, Sequence[float]], names: Mapping[str, str], rows: int) -> Figure:
    """Seconds that each program takes for the same rows: the median, and the range of the repeats."""
    shown = {text: seconds[name] for name, text in names.items() if name in seconds}
    title = f"{rows / 1e6:g} million rows, raw text to encoded files"
    figure, ax = axes(title, "seconds", "", size=(8.5, 0.42 * len(shown) + 1.1))
    medians = [float(np.median(values)) for values in shown.values()]
    ax.barh(list(shown), medians, color=[BLUE if "dlrm_lib" in name else GREY for name in shown], height=0.62)
    for y, values in enumerate(shown.values()):
        _range(ax, {"median": np.median(values), "low": min(values), "high": max(values)}, y)
        ax.annotate(f"{np.median(values):.1f} s", (max(values), y), (6, 0), textcoords="offset points", va="center")
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set_xlim(0, 1.12 * max(max(values) for values in shown.values()))
    return figure


def _by_precision(metrics: Metrics) -> dict[str, list[Metrics]]:
    found: dict[str, list[Metrics]] = {}
    for run in metrics["runs"]:
        found.setdefault(run["precision"], []).append(run)
    return found


def _spread(count: int) -> np.ndarray:
    """Heights of so many dots, so that neighbours do not cover each other; the same each time."""
    return 0.12 * np.resize([-1.0, 0.0, 1.0], count)


def _range(ax: Axes, spread: Mapping[str, float], y: float) -> None:
    low, median, high = spread["low"], spread["median"], spread["high"]
    ax.errorbar(median, y, xerr=[[median - low], [high - median]], color=INK, capsize=3, linewidth=1.0)


def _band(
    ax: Axes, values: Sequence[float], spread: Sequence[Mapping[str, float]], color: str, name: str = "_"
) -> None:
    """Medians as a line, and ranges as a band."""
    low, high, median = ([of[name] for of in spread] for name in ("low", "high", "median"))
    ax.fill_between(values, low, high, color=color, alpha=0.2, linewidth=0)
    ax.plot(values, median, color=color, marker="o", markersize=4, label=name)


def _logarithmic(ax: Axes, x: str, y: str) -> None:
    ax.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set(major_formatter=FuncFormatter(_short), minor_locator=NullLocator())
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))


def _short(value: float, _: int | None = None) -> str:
    """A count as people write it: 20k, 1.5M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
