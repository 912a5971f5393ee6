"""Plain concatenation."""

from __future__ import annotations

import torch

from dlrm_lib.config import ModelConfig
from dlrm_lib.model.cost import Cost
from dlrm_lib.model.interactions import Interaction


class CatInteraction(Interaction):
    """All vectors side by side.

    Attributes:
        width: F·D.
    """

    name = "cat"

    def __init__(self, vectors: int, has_bottom: bool, config: ModelConfig) -> None:
        super().__init__(vectors, has_bottom, config)
        self.width = vectors * self.dim

    def forward(self, bottom: torch.Tensor | None, rows: torch.Tensor) -> torch.Tensor:
        return rows.flatten(1) if bottom is None else torch.cat([bottom, rows.flatten(1)], dim=1)

    def cost(self, number_bytes: int) -> Cost:
        return Cost()  # the layers around it read and write the vectors where they are


INTERACTION = CatInteraction
