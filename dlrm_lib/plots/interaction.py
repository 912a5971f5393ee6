"""The picture of the interaction: one row's dot products, and the way of one of them into the top MLP's input."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dlrm_lib.plots import AMBER, BLUE, GREEN, GREY, INK, column_label, panels, style

_MARK = "pair"  # the id of what shows a pair in a figure
# Left edge, bottom, width and height of each set of axes, as shares of the figure: nothing moves with a text's length.
_PLACES = {
    "matrix": (0.085, 0.265, 0.43, 0.68),
    "one vector": (0.665, 0.745, 0.315, 0.18),
    "the other": (0.665, 0.505, 0.315, 0.18),
    "product": (0.665, 0.265, 0.315, 0.18),
    "input": (0.085, 0.085, 0.895, 0.05),
    "scale": (0.53, 0.34, 0.018, 0.53),
}


def vector_names(vectors: int, columns: Sequence[str] = ()) -> list[str]:
    """What the vectors that meet are called: the bottom MLP's output, then the columns of ids, C1 … without names."""
    return ["numbers", *(columns or [f"C{j}" for j in range(1, vectors)])]


def place_in_input(dim: int, i: int, j: int, *, self_interaction: bool = False) -> int:
    """The column of the interaction's output, counted from 0, that holds vector i times vector j, i ≥ j.

    The bottom MLP's vector is in front. The triangle follows row by row: above row i there are i · (i − 1) / 2
    products, and i more if each of those rows ends in the diagonal.
    """
    return dim + i * (i - 1) // 2 + self_interaction * i + j


@style()
def interaction_matrix(
    vectors: np.ndarray, pair: tuple[int, int], *, self_interaction: bool = False, columns: Sequence[str] = ()
) -> Figure:
    """One row's dot products, those that are kept in colour; one of them with its vectors and its place in the input.

    Args:
        vectors: [F, D], the bottom MLP's output first.
        pair: The two that meet; ``mark_pair`` shows another pair.
        self_interaction: The diagonal is kept too.
        columns: The names of the columns of ids.
    """
    figure, grid = panels([""] * len(_PLACES), size=(10, 6.4))
    figure.set_layout_engine("none")
    for ax, place in zip(grid, _PLACES.values(), strict=True):
        ax.set_position(place)
        ax.grid(False)
    matrix, *bars, row, scale = grid

    count, names = len(vectors), vector_names(len(vectors), columns)
    products = vectors @ vectors.T
    kept = np.tril(np.ones_like(products, bool), 0 if self_interaction else -1)
    # A few pairs are far larger than the rest: they get the end of the scale, so that the others can be told apart.
    limit = np.quantile(np.abs(products[kept]), 0.95)
    matrix.imshow(0.85 - 0.2 * np.eye(count), cmap="Greys_r", vmin=0, vmax=1)
    image = matrix.imshow(np.where(kept, products, np.nan), cmap="PuOr", vmin=-limit, vmax=limit)
    below = "on and below" if self_interaction else "below"
    matrix.set_title(f"Each pair once: {kept.sum()} products {below} the diagonal")
    matrix.text(count * 0.72, count * 0.2, "the same products\nagain: j·i = i·j", ha="center")
    if not self_interaction:
        matrix.text(count * 0.72, count * 0.45, "diagonal: each\nvector with itself", ha="center")
    short = [column_label(name, 9) for name in names]  # the places are fixed
    matrix.set_xticks(range(0, count, 2), short[::2], rotation=90, fontsize=8)
    matrix.set_yticks(range(0, count, 2), short[::2], fontsize=8)
    figure.colorbar(image, cax=scale, label="dot product", extend="both")

    for ax in bars:
        ax.set(ylim=(-1.1, 1.1), xlim=(-0.7, vectors.shape[1] - 0.3), xticks=[], yticks=[])
        ax.axhline(0, color=GREY, linewidth=0.8)
        ax.spines[:].set_visible(False)

    starts = [place_in_input(vectors.shape[1], i, 0, self_interaction=self_interaction) for i in range(count + 1)]
    row.axvspan(0, starts[0], color=BLUE, alpha=0.35, linewidth=0)
    for i in range(count):
        row.axvspan(starts[i], starts[i + 1], color=GREEN, alpha=0.12 + 0.1 * (i % 2), linewidth=0)
    row.set(xlim=(0, starts[-1] + 1), ylim=(0, 1), yticks=[])
    wide = range(count // 4, count, 2)  # rows of the triangle with room for a name
    middle = [(starts[i] + starts[i + 1]) / 2 for i in wide]
    row.set_xticks([starts[0] / 2, *middle], ["bottom MLP", *(short[i] for i in wide)], fontsize=8)
    row.set_xlabel(
        "columns of the top MLP's input, counted from 0: the bottom MLP's vector, the triangle row by row, a zero"
    )
    row.tick_params(length=0)
    row.spines[:].set_visible(False)
    mark_pair(figure, vectors, pair, self_interaction=self_interaction, columns=columns)
    return figure


@style()
def mark_pair(
    figure: Figure,
    vectors: np.ndarray,
    pair: tuple[int, int],
    *,
    self_interaction: bool = False,
    columns: Sequence[str] = (),
) -> list[Artist]:
    """Shows a pair in a figure of ``interaction_matrix``, in place of the one shown before; returns what it drew."""
    for mark in figure.findobj(lambda artist: artist.get_gid() == _MARK):
        mark.remove()
    matrix, one, other, together, row, _ = figure.axes
    j, i = sorted(pair)
    dim, names = vectors.shape[1], [column_label(name, 18) for name in vector_names(len(vectors), columns)]
    product = vectors[i] * vectors[j]
    span = [_number(end) for at in (i, j) for end in (vectors[at].min(), vectors[at].max())]
    marks: list[Artist] = [
        *matrix.plot([-0.5, j - 0.5], [i, i], [j, j], [i + 0.5, len(vectors) - 0.5], color=INK, linewidth=1, gid=_MARK),
        matrix.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, linewidth=2.2, edgecolor=INK, gid=_MARK)),
        *_bars(one, vectors[i], AMBER if i else BLUE, f"{names[i]}, from {span[0]} to {span[1]}"),
        *_bars(other, vectors[j], AMBER if j else BLUE, f"{names[j]}, from {span[2]} to {span[3]}"),
        *_bars(together, product, GREEN, f"multiplied; the sum is {_number(product.sum())}"),
    ]
    if i == j and not self_interaction:
        marks.append(_headline(row, f"{names[i]} with itself is left out: self_interaction keeps it"))
    else:
        at = place_in_input(dim, i, j, self_interaction=self_interaction)
        start = at - j
        behind = f"behind {dim} of the bottom MLP, {start - dim} of the rows above, {j} to the left"
        marks += [
            row.axvspan(start, start + i + self_interaction, color=GREEN, alpha=0.6, linewidth=0, gid=_MARK),
            row.add_patch(Rectangle((at, -0.15), 1, 1.3, color=INK, clip_on=False, gid=_MARK)),
            _headline(row, f"Column {at} of the top MLP's input, {behind}"),
        ]
    for mark in marks:
        mark.set_zorder(5)  # over everything that stays, which may be drawn long before
    return marks


def _bars(ax: Axes, values: np.ndarray, color: str, says: str) -> list[Artist]:
    """Bars on a scale of their own: the vectors of small tables are many times as long as those of large ones."""
    heights = values / (np.abs(values).max() or 1)
    return [*ax.bar(range(len(values)), heights, color=color, gid=_MARK), _headline(ax, says)]


def _headline(ax: Axes, text: str) -> Artist:
    """A title that moves."""
    return ax.annotate(
        text, (0, 1), (0, 6), xycoords="axes fraction", textcoords="offset points", weight="bold", gid=_MARK
    )


def _number(value: float) -> str:
    return f"{value:.2g}".replace("-", "−")
