"""A slider and a menu: gradients move over the range of a number format as the loss scale grows."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from matplotlib.figure import Figure

from dlrm_lib.number_formats import FORMATS, FP16
from dlrm_lib.plots.precision import gradient_ranges

if TYPE_CHECKING:
    from ipywidgets import VBox


def loss_scale(gradients: Mapping[str, torch.Tensor], scale: float = 1.0, *, headless: bool = False) -> Figure | VBox:
    """Gradients in the range of a format: a picture with a slider and a menu over it, or the picture alone, in fp16.

    Args:
        gradients: Name → float32 gradients of any shape.
        scale: Where the slider starts, a power of two from 1 to 2³⁰.
        headless: Return the picture alone.
    """
    if headless:
        return gradient_ranges(gradients, FP16, [scale])
    from ipywidgets import Dropdown, Image, Layout, SelectionSlider, VBox

    options = [(f"{2**power:,}", 2.0**power) for power in range(31)]
    slider = SelectionSlider(options=options, value=scale, description="loss scale", layout=Layout(width="36rem"))
    menu = Dropdown(options=[(f.name, f) for f in FORMATS], value=FP16, description="kept in")
    picture = Image(format="png", layout=Layout(max_width="100%", object_fit="contain"))

    def draw(_: object = None) -> None:
        png = io.BytesIO()
        gradient_ranges(gradients, menu.value, [slider.value]).savefig(png, format="png", dpi="figure")
        picture.value = png.getvalue()

    slider.observe(draw, "value")
    menu.observe(draw, "value")
    draw()
    return VBox([slider, menu, picture])
