"""What the explorers share: controls, and below them a picture that is drawn again whenever one of them moves."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave

if TYPE_CHECKING:
    from ipywidgets import ValueWidget, VBox


def explorer(controls: Sequence[ValueWidget], draw: Callable[..., tuple[Figure, Sequence[Artist]]]) -> VBox:
    """Controls over a picture.

    Args:
        controls: In the order in which they are shown.
        draw: Takes the values of the controls, and returns a figure and what moves in it. If it returns that figure
            again, the rest is not drawn again: laying out and drawing axes takes most of the time.
    """
    from ipywidgets import Box, Image, Layout, VBox

    picture = Image(format="png", layout=Layout(max_width="100%", align_self="flex-start"))
    backgrounds: WeakKeyDictionary[Figure, Any] = WeakKeyDictionary()  # figure → what does not move in it, as pixels

    def redraw(_: object = None) -> None:
        figure, moving = draw(*(control.value for control in controls))
        for artist in moving:
            artist.set_animated(True)  # a canvas leaves animated artists out
        if figure not in backgrounds:
            FigureCanvasAgg(figure).draw()  # which becomes the figure's
            backgrounds[figure] = cast(FigureCanvasAgg, figure.canvas).copy_from_bbox(figure.bbox)
        canvas = cast(FigureCanvasAgg, figure.canvas)
        canvas.restore_region(backgrounds[figure])
        for artist in sorted(moving, key=Artist.get_zorder):
            artist.draw(canvas.get_renderer())
        png = io.BytesIO()
        imsave(png, canvas.buffer_rgba(), format="png", pil_kwargs={"compress_level": 1})
        picture.value = png.getvalue()

    for control in controls:
        control.observe(redraw, "value")
    redraw()
    return VBox([Box(controls, layout=Layout(flex_flow="row wrap")), picture])
