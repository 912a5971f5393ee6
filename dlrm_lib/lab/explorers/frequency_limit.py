"""A slider that moves the frequency limit and shows at once what it keeps and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from dlrm_lib.lab.explorers.picture import explorer
from dlrm_lib.plots.preprocessing import limit_cost, mark_limit

if TYPE_CHECKING:
    from ipywidgets import VBox


def frequency_limit(
    limits: Sequence[int], coverage: Sequence[float], rows: Sequence[int], limit: int, *, headless: bool = False
) -> Figure | VBox:
    """The cost of each frequency limit: a picture with a slider over it, or the picture alone.

    Args:
        limits: Frequency limits.
        coverage: Share of the cells that hold a value whose id is kept, for each limit.
        rows: Rows of all embedding tables together, for each limit.
        limit: Where the slider starts, one of ``limits``.
        headless: Return the picture alone.
    """
    figure = limit_cost(limits, coverage, rows, limit)
    if headless:
        return figure
    from ipywidgets import Layout, SelectionSlider

    options = [(f"{at:,}", at) for at in limits]
    slider = SelectionSlider(options=options, value=limit, description="limit", layout=Layout(width="36rem"))

    def draw(limit: int) -> tuple[Figure, list[Artist]]:
        return figure, mark_limit(figure, limits, coverage, rows, limit)

    return explorer([slider], draw)
