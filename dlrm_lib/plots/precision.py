"""Pictures of number formats, and of what they do to gradients, weights, and the loss scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from dlrm_lib.number_formats import NumberFormat
from dlrm_lib.plots import AMBER, BLUE, GREEN, GREY, INK, ORANGE, PINK, SKY, axes, panels, style

COLORS = {"fp32": INK, "TF32": PINK, "bf16": GREEN, "fp16": ORANGE}
_GRADIENTS = (AMBER, BLUE)
_SPAN = (-90, 44)  # log2 of the magnitudes that a histogram of gradients shows


@style()
def formats(shown: Sequence[NumberFormat]) -> Figure:
    """The bits of each format, and the numbers from the smallest to the largest."""
    titles = ["Bits: sign, exponent, fraction", "Range: from the smallest number to the largest"]
    figure, (bits, span) = panels(titles, size=(10.5, 0.5 * len(shown) + 1.2))
    for y, f in enumerate(shown):
        start = 0
        for count, color in ((1, GREY), (f.exponent_bits, ORANGE), (f.fraction_bits, BLUE)):
            bits.barh(y, count, left=start, color=color, edgecolor="white", height=0.6)
            if count > 1:
                bits.text(start + count / 2, y, str(count), ha="center", va="center", color="white", weight="bold")
            start += count
        low, normal, high = np.log2([f.smallest, f.smallest_normal, f.largest])
        span.barh(y, normal - low, left=low, color=SKY, height=0.4, label=None if y else "subnormal: fewer bits")
        span.barh(y, high - normal, left=normal, color=BLUE, height=0.4, label=None if y else "normal: all bits")
        span.text(low - 4, y, f"{f.smallest:.2g}", fontsize=9, va="center", ha="right")
        span.text(high + 4, y, f"{f.largest:.3g}", fontsize=9, va="center")
    for ax in (bits, span):
        ax.set_yticks(range(len(shown)), [f.name for f in shown])
        ax.invert_yaxis()
        ax.grid(axis="y", visible=False)
    bits.set(xlabel="bits", xticks=range(0, 33, 8))
    span.set(xlabel="power of two", xlim=(-200, 180))
    figure.legend(*span.get_legend_handles_labels(), loc="outside lower right", ncols=2, fontsize=9)
    return figure


@style()
def rounding_errors(x: np.ndarray, errors: Mapping[str, np.ndarray]) -> Figure:
    """The largest relative error in each octave of the positive numbers ``x``, for each format by its name."""
    figure, ax = axes("What rounding costs, by the size of the number", "size of the number", "largest relative error")
    octave = np.floor(np.log2(x)).astype(int)
    places = np.unique(octave)
    for name, error in errors.items():
        worst = np.array([error[octave == place].max() for place in places])
        worst[~np.isfinite(worst)] = np.nan
        ax.step(2.0**places, worst, where="post", color=COLORS[name], label=name)
    # Formats that round alike lie on each other: the later one is drawn thinner.
    for line, width in zip(ax.lines, np.linspace(5, 1.5, len(ax.lines)), strict=True):
        line.set_linewidth(width)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@style()
def gradient_ranges(gradients: Mapping[str, torch.Tensor], held_in: NumberFormat, scales: Sequence[float]) -> Figure:
    """Where gradients lie in the range of a format, one panel for each factor that they are multiplied by.

    Args:
        gradients: Name → float32 gradients of any shape; zeros are left out.
        held_in: The format that they are to be kept in.
        scales: The factors.
    """
    titles = [f"Gradients × {scale:,.0f}, kept in {held_in.name}" for scale in scales]
    figure, grid = panels(titles, columns=1, size=(9.0, 2.3 * len(scales) + 0.7))
    nonzero = {name: values[values != 0].float().cpu() for name, values in gradients.items()}
    for ax, scale in zip(grid, scales, strict=True):
        _shade(ax, held_in)
        for (name, values), color in zip(nonzero.items(), _GRADIENTS, strict=False):
            scaled = values.double() * scale
            rounded = held_in.round(scaled.float())
            shares = {
                "zero": rounded == 0,
                "subnormal": (rounded != 0) & (rounded.abs() < held_in.smallest_normal),
                "infinite": ~rounded.isfinite(),
            }
            label = ", ".join(f"{share.double().mean():.1%} {kind}" for kind, share in shares.items())
            edges = np.arange(_SPAN[0], _SPAN[1] + 1)
            counts, _ = np.histogram(scaled.abs().log2().numpy(), edges)
            heights = counts / max(len(values), 1)
            ax.stairs(heights, edges, fill=True, color=color, alpha=0.6, label=f"{name}: {label}")
        ax.set(xlim=_SPAN, ylabel="share")
        ax.legend(loc="upper left", fontsize=8.5)
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.grid(axis="x", visible=False)
    grid[-1].set_xlabel("magnitude, as a power of two")
    return figure


def _shade(ax: Axes, held_in: NumberFormat) -> None:
    """Paints the magnitudes that a format cannot hold, or only with fewer bits."""
    lost, normal, high = np.log2([held_in.smallest / 2, held_in.smallest_normal, held_in.largest])
    for low, up, color, name in (
        (_SPAN[0], lost, ORANGE, "zero"),
        (lost, normal, SKY, "subnormal"),
        (high, _SPAN[1], GREY, "infinite"),
    ):
        low, up = max(low, _SPAN[0]), min(up, _SPAN[1])
        if low < up:
            ax.axvspan(low, up, color=color, alpha=0.25, linewidth=0)
            ax.text((low + up) / 2, 0.03, name, transform=ax.get_xaxis_transform(), ha="center", fontsize=9)


@style()
def swallowed(shares: Mapping[str, float], behind: Mapping[str, Sequence[float]]) -> Figure:
    """Updates that change nothing, and how far the tables that they were added to have come.

    Args:
        shares: Name of a format → share of the updates that left the weight as it was.
        behind: Name of a format → after each step, how far the way of its table is from that of the one in fp32, as
            a share of the latter's length.
    """
    titles = ["Updates that change nothing", "How far the tables have strayed from fp32's way"]
    figure, (left, right) = panels(titles, size=(10.0, 3.2))
    left.barh(list(shares), list(shares.values()), color=[COLORS[name] for name in shares], height=0.6)
    for y, share in enumerate(shares.values()):
        left.annotate(f"{share:.1%}", (share, y), (5, 0), textcoords="offset points", va="center")
    left.set_xlim(0, 1.25 * max(*shares.values(), 0.01))
    left.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    left.xaxis.set_major_locator(MaxNLocator(5))
    left.invert_yaxis()
    left.grid(axis="y", visible=False)
    for name, line in behind.items():
        right.plot(range(1, len(line) + 1), line, color=COLORS[name], label=name)
    right.set(xlabel="training step", ylim=(0, None))
    right.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    right.legend()
    return figure


@style()
def loss_scales(runs: Mapping[str, tuple[Sequence[float], Sequence[int]]]) -> Figure:
    """The loss scale of each step, with crosses where the step was skipped.

    Args:
        runs: Name → the scale that each step was done with; the steps, from 1, that changed nothing.
    """
    figure, ax = axes("The loss scale, step by step", "training step", "loss scale", size=(9.0, 3.6))
    for (name, (trace, skipped)), color in zip(runs.items(), (BLUE, GREEN, PINK), strict=False):
        ax.step(range(1, len(trace) + 1), trace, where="mid", color=color, label=name)
        ax.plot(skipped, [trace[step - 1] for step in skipped], "x", color=ORANGE, markersize=6, linewidth=0)
    ax.plot([], [], "x", color=ORANGE, label="skipped")
    ax.set_yscale("log", base=2)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@style()
def parity(auc: Mapping[str, Sequence[float | None]]) -> Figure:
    """AUCs of trainings that differ in their seed alone: one row of points per precision, its mean as a bar.

    An AUC of None, where the rows hold one class only, is left out.
    """
    figure, ax = axes("One dot for each seed", "validation AUC", "", size=(8.0, 0.5 * len(auc) + 1.2))
    for y, (name, values) in enumerate(auc.items()):
        known = [value for value in values if value is not None]
        ax.plot(known, [y] * len(known), "o", color=COLORS[name], markersize=7, alpha=0.8)
        if known:
            ax.plot([np.mean(known)] * 2, [y - 0.25, y + 0.25], color=COLORS[name])
    ax.set_yticks(range(len(auc)), list(auc))
    ax.set_ylim(len(auc) - 0.5, -0.5)
    ax.margins(x=0.1)
    ax.ticklabel_format(axis="x", useOffset=False)
    ax.grid(axis="y", visible=False)
    return figure
