"""A slider that moves the frequency limit and shows at once what it keeps and what it costs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave

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
    from ipywidgets import Image, Layout, SelectionSlider, VBox

    options = [(f"{at:,}", at) for at in limits]
    slider = SelectionSlider(options=options, value=limit, description="limit", layout=Layout(width="36rem"))
    picture = Image(format="png", layout=Layout(max_width="100%", object_fit="contain"))

    # Axes and curves are drawn once. Moving the slider puts that picture back and draws only the marks anew.
    canvas = FigureCanvasAgg(figure)
    for mark in mark_limit(figure, limits, coverage, rows, slider.value):
        mark.set_visible(False)
    canvas.draw()
    background = canvas.copy_from_bbox(figure.bbox)

    def draw(_: object = None) -> None:
        canvas.restore_region(background)
        for mark in mark_limit(figure, limits, coverage, rows, slider.value):
            mark.axes.draw_artist(mark)
        png = io.BytesIO()
        imsave(png, canvas.buffer_rgba(), format="png", pil_kwargs={"compress_level": 1})
        picture.value = png.getvalue()

    slider.observe(draw, "value")
    draw()
    return VBox([slider, picture])
