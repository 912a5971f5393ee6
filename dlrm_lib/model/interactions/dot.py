"""Pairwise dot products."""

from __future__ import annotations

import torch

from dlrm_lib.config import ModelConfig
from dlrm_lib.model.cost import Cost
from dlrm_lib.model.interactions import Interaction


class DotInteraction(Interaction):
    """All pairwise dot products, each pair once, behind the bottom MLP's output.

    The output is padded by one zero column, as NVIDIA's is, so that its width suits matrix units.

    Attributes:
        self_interaction: Each vector also meets itself.
        width: D + F·(F − 1)/2 + 1, without the D if there is no bottom MLP, and with F more if each vector meets itself
            too.
    """

    name = "dot"
    padding = 1
    pairs: torch.Tensor

    def __init__(self, vectors: int, has_bottom: bool, config: ModelConfig) -> None:
        super().__init__(vectors, has_bottom, config)
        self.self_interaction = config.self_interaction
        row, column = torch.tril_indices(vectors, vectors, offset=0 if config.self_interaction else -1)
        # Positions of the lower triangle in a flattened [F, F] matrix, row by row.
        self.register_buffer("pairs", row * vectors + column, persistent=False)
        self.width = has_bottom * self.dim + len(self.pairs) + self.padding
        self.products = slice(has_bottom * self.dim, self.width - self.padding)

    def forward(self, bottom: torch.Tensor | None, rows: torch.Tensor) -> torch.Tensor:
        vectors = rows if bottom is None else torch.cat([bottom.unsqueeze(1), rows], dim=1)
        products = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1).index_select(1, self.pairs)
        parts = [products, products.new_zeros(len(rows), self.padding)]
        return torch.cat(parts if bottom is None else [bottom, *parts], dim=1)

    def cost(self, number_bytes: int) -> Cost:
        # Forward the square of products X·Xᵀ, backward (G + Gᵀ)·X. The vectors are read both times, their gradients
        # written; the output is written, and its gradient read.
        numbers = 3 * self.vectors * self.dim + 2 * self.width
        return Cost(flops=4 * self.vectors**2 * self.dim, bytes=numbers * number_bytes)


INTERACTION = DotInteraction
