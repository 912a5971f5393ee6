"""Pictures of time: the parts of a step, the gaps between kernels, the roofline, and published results."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from dlrm_lib.model.cost import Cost
from dlrm_lib.plots import AMBER, BLUE, GREEN, GREY, INK, ORANGE, PINK, SKY, axes, panels, style

_PARTS = (GREY, AMBER, BLUE, SKY, GREEN, PINK, ORANGE)


@style()
def timelines(runs: Mapping[str, Mapping[str, float]], machine: str) -> Figure:
    """The parts of one step, one after the other, for each way to do it.

    Args:
        runs: Name of a run → its parts in order → seconds.
        machine: What it was measured on.
    """
    figure, ax = axes(f"One step on {machine}", "milliseconds", "", size=(10.0, 0.55 * len(runs) + 1.4))
    longest = max(sum(parts.values()) for parts in runs.values())
    for y, parts in enumerate(runs.values()):
        start = 0.0
        for (name, seconds), color in zip(parts.items(), _PARTS, strict=False):
            ax.barh(y, 1000 * seconds, left=1000 * start, color=color, height=0.6, label=None if y else name)
            if seconds > 0.05 * longest:
                middle = 1000 * (start + seconds / 2)
                ax.text(middle, y, f"{1000 * seconds:.3g}", ha="center", va="center", color="white", fontsize=9)
            start += seconds
        ax.annotate(f"{1000 * start:.3g} ms", (1000 * start, y), (5, 0), textcoords="offset points", va="center")
    ax.set_yticks(range(len(runs)), list(runs))
    ax.set_xlim(0, 1120 * longest)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=7, fontsize=9)
    return figure


@style()
def launch_gaps(kernels: int = 7) -> Figure:
    """A drawing, not a measurement: the same kernels started one by one, and as one graph."""
    titles = ["Drawing: each kernel is started by the host", "Drawing: the host starts one graph of all"]
    figure, grid = panels(titles, columns=1, size=(9.0, 3.8))
    work, launch, gap = 3.0, 7.0, 0.4
    eager = [(launch * (i + 1), work) for i in range(kernels)]
    graph = [(launch + (work + gap) * i, work) for i in range(kernels)]
    for ax, starts, on_gpu in zip(grid, (kernels, 1), (eager, graph), strict=True):
        host = [(launch * i, launch - 0.4) for i in range(starts)]
        ax.broken_barh(host, (0.7, 0.5), color=GREY)
        ax.broken_barh(on_gpu, (0, 0.5), color=GREEN)
        end = on_gpu[-1][0] + work
        ax.annotate("step done", (end, 0.25), (6, 0), textcoords="offset points", va="center", color=INK)
        ax.set(xlim=(0, launch * (kernels + 2)), ylim=(-0.15, 1.35), yticks=(0.25, 0.95), xticks=[])
        ax.set_yticklabels(["GPU", "host"])
        ax.grid(False)
    grid[0].annotate("idle", (launch * 2 - 2, 0.25), ha="center", va="center", color=ORANGE, fontsize=9)
    grid[1].set_xlabel("time →")
    return figure


@style()
def roofline(parts: Mapping[str, Cost], flops_per_second: float, bytes_per_second: float, machine: str) -> Figure:
    """How fast each part of a step can be at most: on the slope memory decides, on the level part arithmetic.

    Args:
        parts: Name → its work per sample; parts without arithmetic have no place here.
        flops_per_second: Of matrix products.
        bytes_per_second: Of copying memory.
        machine: What the two rates were measured on.
    """
    figure, ax = axes(f"The roof of {machine}", "FLOP per byte moved", "TFLOP/s at most", size=(7.5, 3.8))
    intensity = np.geomspace(0.05, 5000, 200)
    roof = np.minimum(flops_per_second, intensity * bytes_per_second) / 1e12
    ax.plot(intensity, roof, color=INK)
    for (name, cost), color in zip(parts.items(), _PARTS, strict=False):
        if cost.flops:
            at = cost.flops / cost.bytes
            high = min(flops_per_second, at * bytes_per_second) / 1e12
            ax.plot(at, high, "o", color=color, markersize=8, markeredgecolor=INK)
            ax.annotate(f"{name}: {at:.3g}", (at, high), (8, -12), textcoords="offset points", fontsize=9)
    ax.set(xscale="log", yscale="log")
    ax.set_ylim(roof[0] / 2, 3 * roof[-1])
    return figure


@style()
def published(speeds: Mapping[str, float | str], ceilings: Mapping[str, float]) -> Figure:
    """Training speeds per GPU in million samples/s, our own among them or why there is none, and computed ceilings.

    Args:
        speeds: Name → samples/s, or a few words why there is no number.
        ceilings: What is taken for granted → the most samples/s that there can be, drawn as lines.
    """
    figure, ax = axes("Samples per second and GPU", "million samples/s", "", size=(10.0, 0.3 * len(speeds) + 1.4))
    for y, (name, speed) in enumerate(speeds.items()):
        value = 0.0 if isinstance(speed, str) else speed / 1e6
        ax.barh(y, value, color=BLUE if "this workbook" in name else GREY, height=0.65)
        text = speed if isinstance(speed, str) else f"{value:.3g}"
        ax.annotate(text, (value, y), (5, 0), textcoords="offset points", va="center", fontsize=9)
    for (name, ceiling), color in zip(ceilings.items(), (GREEN, ORANGE), strict=False):
        ax.axvline(
            ceiling / 1e6, color=color, linestyle="--", linewidth=1.5, label=f"at most, {name}: {ceiling / 1e6:.1f}"
        )
    ax.set_yticks(range(len(speeds)), list(speeds), fontsize=9)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
    return figure
