"""Pictures of Intel Gaudi: the card, its ways to run a program, the shapes it wants, and what was published of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch

from dlrm_lib.backends.gaudi.coalesce import distinct_rows
from dlrm_lib.plots import AMBER, BLUE, GREEN, GREY, INK, ORANGE, PINK, SKY, axes, panels, style

_PALE = "#F3F3F3"
STAGES = ("bags", "rows", "source", "places")


@style()
def card() -> Figure:
    """A drawing of a host and a card, with what each part does for a DLRM."""
    figure, ax = axes("Drawing: a host and a Gaudi card", "", "", size=(10.0, 4.4))
    ax.axis("off")
    ax.set(xlim=(0, 100), ylim=(0, 44))
    _box(ax, (1, 3, 27, 38), "", _PALE)
    ax.text(14.5, 38, "host", ha="center", weight="bold")
    for y, text, color in (
        (27, "Python and torch\nread, coalesce, call operators", "white"),
        (16, "Habana's plugin\ncollects operators", "white"),
        (5, "graph compiler\none program for all engines", AMBER),
    ):
        _box(ax, (3, y, 23, 8), text, color)
    for y in (27, 16):
        ax.annotate("", (14.5, y - 3), (14.5, y), arrowprops={"arrowstyle": "->", "color": INK})
    ax.annotate("", (40, 20), (28, 20), arrowprops={"arrowstyle": "<->", "color": INK, "lw": 1.5})
    ax.text(34, 22, "PCIe\nprograms,\nbatches", ha="center", va="bottom", fontsize=9)
    _box(ax, (40, 3, 59, 38), "", _PALE)
    ax.text(69.5, 38, "card", ha="center", weight="bold")
    _box(ax, (42, 23, 20, 13), "MME\nmatrix engine\n\nlinear layers:\nnearly all arithmetic", SKY)
    for column, row in np.ndindex(8, 3):
        _box(ax, (64.7 + 2.6 * column, 28.2 + 2.7 * row, 2.2, 2.2), "", GREEN)
    ax.text(75, 23.6, "TPCs, tensor processor cores\nReLU, look-ups, sums, Adagrad", ha="center", fontsize=9)
    _box(ax, (42, 15.5, 44, 5.5), "SRAM: what one engine hands to the next", "white")
    _box(ax, (42, 5, 44, 8.5), "HBM, on the package\ntables, weights, batches, optimizer state", "white")
    _box(ax, (89, 5, 8, 31), "Ethernet\nports\n\nto other\ncards", "white")
    return figure


def _box(ax: Axes, place: tuple[float, float, float, float], text: str, color: str) -> None:
    x, y, width, height = place
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.8", fc=color, ec=GREY))
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9)


@style()
def modes() -> Figure:
    """A drawing, not a measurement: three steps of the same training in eager mode, in lazy mode, and compiled."""
    titles = [f"{name} (drawn, not measured)" for name in ("Eager", "Lazy", "Compile")]
    figure, grid = panels(titles, columns=1, size=(10.0, 5.6))
    parts = [_eager(), _lazy(), _compile()]
    for ax, (host, device) in zip(grid, parts, strict=True):
        for y, blocks in ((0.8, host), (0.0, device)):
            for start, width, name in blocks:
                ax.broken_barh([(start, width)], (y, 0.55), color=_MEANINGS[name], edgecolor="white", linewidth=0.6)
        ax.set(xlim=(0, 75), ylim=(-0.1, 1.5), yticks=(0.27, 1.07), xticks=[])
        ax.set_yticklabels(["Gaudi", "host"])
        ax.grid(False)
        end = max(start + width for start, width, _ in device)
        ax.annotate("three steps done", (end, 0.27), (6, 0), textcoords="offset points", va="center", fontsize=9)
    grid[-1].set_xlabel("time →")
    for name, color in _MEANINGS.items():
        grid[0].broken_barh([], (0, 0), color=color, label=name)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=9)
    return figure


_MEANINGS = {
    "start one operator": GREY,
    "record": SKY,
    "mark_step": INK,
    "compile": ORANGE,
    "start a graph": PINK,
    "run": GREEN,
}
_Blocks = list[tuple[float, float, str]]


def _eager() -> tuple[_Blocks, _Blocks]:
    starts = np.arange(21) * 3.0
    return [(s, 2.8, "start one operator") for s in starts], [(s + 3, 1.4, "run") for s in starts]


def _lazy() -> tuple[_Blocks, _Blocks]:
    """Two graphs a step; each is compiled in the first step and known in the others."""
    host, device, now, free = [], [], 0.0, 0.0
    for number, (record, run) in enumerate([(4.0, 5.0), (2.0, 2.0)] * 3):
        compiling = 9.0 if number < 2 else 0.0
        host += [(now, record, "record"), (now + record, 0.5, "mark_step")]
        now += record + 0.5
        if compiling:
            host.append((now, compiling, "compile"))
            now += compiling
        free = max(now, free)
        device.append((free, run, "run"))
        free += run
    return host, device


def _compile() -> tuple[_Blocks, _Blocks]:
    """The layers are graphs, forward and backward; updates of the rows are single operators."""
    host, device, now, free = [(0.0, 18.0, "compile")], [], 18.0, 0.0
    for _ in range(3):
        for kind, width, run in [("start a graph", 1.2, 2.3)] * 2 + [("start one operator", 1.3, 0.9)] * 2:
            host.append((now, width, kind))
            now += width
            free = max(now, free)
            device.append((free, run, "run"))
            free += run
    return host, device


@style()
def compilations(counts: Mapping[str, Sequence[int]]) -> Figure:
    """How many programs were compiled after each batch, for each way to hand over bags."""
    figure, ax = axes("Programs compiled so far", "batch", "", size=(7.0, 2.9))
    for (name, line), color in zip(counts.items(), (ORANGE, GREEN), strict=False):
        ax.plot(range(1, len(line) + 1), line, "o-", color=color, label=name)
    ax.set_xticks(range(1, 1 + max(map(len, counts.values()))))
    ax.set_yticks(range(0, 1 + max(map(max, counts.values()))))
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@style()
def recordings(runs: Mapping[str, Sequence[tuple[int, bool]]]) -> Figure:
    """The graphs that a device which records would run, as long as they have operators; new ones must be compiled.

    Args:
        runs: Name of a run → for each of its graphs, in order, the number of operators and whether it is a new one.
    """
    size = (10.0, 0.6 * len(runs) + 1.5)
    figure, ax = axes("Graphs in the order they run (recorded on a CPU)", "operators recorded so far", "", size=size)
    for y, graphs in enumerate(runs.values()):
        end = 0
        for operators, new in graphs:
            color = ORANGE if new else GREEN
            ax.barh(y, operators, left=end, color=color, edgecolor="white", linewidth=1.2, height=0.6)
            end += operators
        compiled = [operators for operators, new in graphs if new]
        text = f"{len(compiled)} of {len(graphs)} compiled,\nwith {sum(compiled):,} operators"
        ax.annotate(text, (end, y), (5, 0), textcoords="offset points", va="center", fontsize=9)
    for color, name in ((ORANGE, "new: compiled, then run"), (GREEN, "known: run at once")):
        ax.barh(0, 0, color=color, label=name)
    ax.set_yticks(range(len(runs)), list(runs))
    ax.set_xlim(0, 1.2 * max(sum(operators for operators, _ in graphs) for graphs in runs.values()))
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
    return figure


@style()
def coalescing(row_ids: np.ndarray, zero_row: int, chosen: int, stage: str = STAGES[-1]) -> Figure:
    """What the host makes of a batch of bags, in four stages; one bag and its rows are coloured.

    Args:
        row_ids: Integers [B, L], bags filled up with ``zero_row``.
        zero_row: The row that stands for no id.
        chosen: The bag that is coloured.
        stage: The last of ``STAGES`` that is shown.
    """
    rows, source, places = distinct_rows(row_ids)
    shown = STAGES[: STAGES.index(stage) + 1]
    figure, ax = axes("", "", "", size=(10.0, 4.4))
    ax.axis("off")
    bag = places[chosen]
    in_bag = {place for place in bag.tolist() if rows[place] != zero_row}

    def mark(place: int) -> str:
        return AMBER if place in in_bag else "white"

    grey = np.where(row_ids == zero_row, _PALE, "white")
    of_bag = np.where(row_ids == zero_row, _PALE, AMBER)
    here = (np.arange(len(row_ids)) == chosen)[:, None]
    _cells(ax, (0, 4.4), f"1. bags, filled up with {zero_row}", row_ids, np.where(here, of_bag, grey))
    if "rows" in shown:
        distinct = len(set(rows.tolist()))
        colors = [mark(place) if place < distinct else SKY for place in range(len(rows))]
        _cells(ax, (0, 1.6), "2. rows: each once, then the last one again (blue)", rows[None], np.array([colors]))
        for place in range(len(rows)):
            ax.text(place + 0.5, 2.75, str(place), ha="center", va="bottom", fontsize=7.5, color=GREY)
    if "source" in shown:
        colors = [mark(place) if place < distinct else SKY for place in range(len(rows))]
        _cells(ax, (0, -1.0), "3. source: where that row is for the first time", source[None], np.array([colors]))
    if "places" in shown:
        left, right = row_ids.shape[1] + 4, 2 * row_ids.shape[1] + 4
        _cells(ax, (left, 4.4), "4. places: where each id's row is", places, np.where(here, of_bag, grey))
        ax.text(right + 0.6, 4.4 + len(row_ids) / 2, "rows[places] gives\nthe bags back", va="center", fontsize=9.5)
    ax.set(xlim=(-0.3, max(len(rows), 2 * row_ids.shape[1] + 8) + 0.3), ylim=(-1.2, 5.2 + len(row_ids)))
    return figure


def _cells(ax: Axes, corner: tuple[float, float], title: str, values: np.ndarray, colors: np.ndarray) -> None:
    """Integers [R, C] in squares, the lower left one at ``corner``."""
    x, y = corner
    for (row, column), value in np.ndenumerate(values):
        place = (x + column, y + len(values) - 1 - row)
        ax.add_patch(FancyBboxPatch(place, 0.96, 0.9, boxstyle="square,pad=0", fc=colors[row, column], ec=GREY, lw=0.7))
        ax.text(place[0] + 0.48, place[1] + 0.45, value, ha="center", va="center", fontsize=9)
    high = y + len(values) + (0.75 if title.startswith("2") else 0.25)
    ax.text(x, high, title, va="bottom", weight="bold", fontsize=9.5)


@style()
def operators(calls: Sequence[str], bf16: Collection[str], fp32: Collection[str]) -> Figure:
    """The operators of a forward pass in order, coloured by the list that names each."""
    kinds = {"in bf16": (BLUE, bf16), "in fp32": (AMBER, fp32), "on neither list: takes what it gets": (_PALE, calls)}
    figure, ax = axes("A forward pass, operator by operator", "", "", size=(10.0, 2.5))
    ax.axis("off")
    for x, name in enumerate(calls):
        color = next(color for color, names in kinds.values() if name in names)
        ax.add_patch(FancyBboxPatch((x, 0), 0.8, 1, boxstyle="round,pad=0,rounding_size=0.12", fc=color, ec=GREY))
        short = name if len(name) < 15 else name[:13] + "…"
        ax.text(x + 0.4, -0.2, short, rotation=60, rotation_mode="anchor", ha="right", va="center", fontsize=8.5)
    ax.set(xlim=(-0.8, len(calls)), ylim=(-2.4, 1.1))
    keys = [Patch(fc=color, ec=GREY, label=name) for name, (color, _) in kinds.items()]
    figure.legend(handles=keys, loc="outside lower center", ncols=3, fontsize=9)
    return figure


@style()
def speeds(published: Mapping[str, float], measured: Mapping[str, float | str], flops: float) -> Figure:
    """Training speeds of the Medium configuration, published ones above what was measured here.

    Args:
        published: Name → samples/s.
        measured: Name → samples/s, or a few words why there is no number.
        flops: Floating-point operations per sample.
    """
    both = {**published, **measured}
    figure, ax = axes("Training Medium, loading excluded", "samples/s", "", size=(10.0, 0.5 * len(both) + 1.2))
    for y, (name, speed) in enumerate(both.items()):
        value = 0.0 if isinstance(speed, str) else speed
        ax.barh(y, value, color=GREY if name in published else BLUE, height=0.6)
        text = speed if isinstance(speed, str) else f"{speed:,.0f} ({speed * flops / 1e12:.3g} TFLOP/s)"
        ax.annotate(text, (value, y), (5, 0), textcoords="offset points", va="center", fontsize=9)
    ax.set_yticks(range(len(both)), list(both))
    ax.set_xlim(0, 1.35 * max(speed for speed in both.values() if not isinstance(speed, str)))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    return figure
