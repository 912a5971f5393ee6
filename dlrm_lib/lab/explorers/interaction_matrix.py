"""Two sliders and a switch: which vectors meet, where their product is in the matrix, and where the top MLP gets it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from dlrm_lib.lab.explorers.picture import explorer
from dlrm_lib.plots import interaction as plots

if TYPE_CHECKING:
    from ipywidgets import VBox


def interaction_matrix(vectors: torch.Tensor, *, columns: Sequence[str] = (), headless: bool = False) -> Figure | VBox:
    """The dot products of a row's vectors: a picture of one pair with controls over it, or the picture alone.

    The two columns of ids whose product is the largest come first.

    Args:
        vectors: [F, D] float, the bottom MLP's output first.
        columns: The names of the columns of ids; by default C1 ….
        headless: Return the picture alone.
    """
    own = vectors.numpy()
    products = np.tril(np.abs(own[1:] @ own[1:].T), -1)
    i, j = (int(at) + 1 for at in np.unravel_index(products.argmax(), products.shape))
    figures = {False: plots.interaction_matrix(own, (i, j), columns=columns)}
    if headless:
        return figures[False]
    from ipywidgets import Checkbox, Layout, SelectionSlider

    names = [(name, at) for at, name in enumerate(plots.vector_names(len(own), columns))]
    first, second = (
        SelectionSlider(options=names, value=at, description=f"vector {letter}", layout=Layout(width="24rem"))
        for letter, at in (("i", i), ("j", j))
    )
    switch = Checkbox(description="self_interaction", indent=False, layout=Layout(width="11rem"))

    def draw(i: int, j: int, self_interaction: bool) -> tuple[Figure, list[Artist]]:
        how: dict[str, Any] = {"self_interaction": self_interaction, "columns": columns}
        if self_interaction not in figures:
            figures[self_interaction] = plots.interaction_matrix(own, (i, j), **how)
        figure = figures[self_interaction]
        return figure, plots.mark_pair(figure, own, (i, j), **how)

    return explorer([first, second, switch], draw)
