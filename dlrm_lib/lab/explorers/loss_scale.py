"""A slider and a menu: gradients move over the range of a number format as the loss scale grows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from dlrm_lib.lab.explorers.picture import explorer
from dlrm_lib.number_formats import FORMATS, FP16, NumberFormat
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
    from ipywidgets import Dropdown, Layout, SelectionSlider

    options = [(f"{2**power:,}", 2.0**power) for power in range(31)]
    slider = SelectionSlider(options=options, value=scale, description="loss scale", layout=Layout(width="36rem"))
    menu = Dropdown(options=[(f.name, f) for f in FORMATS], value=FP16, description="kept in")

    def draw(scale: float, held_in: NumberFormat) -> tuple[Figure, list[Artist]]:
        return gradient_ranges(gradients, held_in, [scale]), []

    return explorer([slider, menu], draw)
