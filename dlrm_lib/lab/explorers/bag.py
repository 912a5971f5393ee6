"""Two sliders: what the host makes of a batch of bags, stage by stage, and where the ids of one bag end up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from dlrm_lib.lab.explorers.picture import explorer
from dlrm_lib.plots.gaudi import STAGES, coalescing

if TYPE_CHECKING:
    from ipywidgets import VBox


def bag(row_ids: torch.Tensor, zero_row: int, chosen: int = 0, *, headless: bool = False) -> Figure | VBox:
    """Bags prepared for a device that wants shapes that never change: a picture with two sliders, or it alone.

    Args:
        row_ids: Integers [B, L], a few bags that fit a picture, filled up with ``zero_row``.
        zero_row: The row that stands for no id.
        chosen: The bag that is coloured at first.
        headless: Return the picture alone, with all stages.
    """
    if headless:
        return coalescing(row_ids.numpy(), zero_row, chosen)
    from ipywidgets import IntSlider, SelectionSlider

    of_bag = IntSlider(value=chosen, min=0, max=len(row_ids) - 1, description="bag")
    of_stage = SelectionSlider(options=STAGES, value=STAGES[-1], description="up to")

    def draw(chosen: int, stage: str) -> tuple[Figure, list[Artist]]:
        return coalescing(row_ids.numpy(), zero_row, chosen, stage), []

    return explorer([of_bag, of_stage], draw)
