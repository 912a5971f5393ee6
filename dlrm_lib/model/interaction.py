"""How the vectors of a row meet: pairwise dot products, or plain concatenation.

F = M + 1 vectors of length D take part: the bottom MLP's output and one embedding per categorical column.
"""

from __future__ import annotations

import torch
from torch import nn


class DotInteraction(nn.Module):
    """All pairwise dot products, each pair once and none with itself, behind the bottom MLP's output.

    The output is padded by one zero column, as NVIDIA's is, so that its width suits matrix units.

    Attributes:
        width: Columns of the output: D + F·(F − 1)/2 + 1.
    """

    def __init__(self, vectors: int, dim: int) -> None:
        super().__init__()
        self.width = dim + vectors * (vectors - 1) // 2 + 1
        row, column = torch.tril_indices(vectors, vectors, offset=-1)
        # Positions of the strict lower triangle in a flattened [F, F] matrix, row by row.
        self.register_buffer("pairs", row * vectors + column, persistent=False)

    def forward(self, bottom: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """[B, D] and [B, M, D] → [B, width]."""
        vectors = torch.cat([bottom.unsqueeze(1), rows], dim=1)
        products = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1)
        return torch.cat([bottom, products.index_select(1, self.pairs), bottom.new_zeros(len(bottom), 1)], dim=1)


class CatInteraction(nn.Module):
    """All vectors side by side.

    Attributes:
        width: Columns of the output: F·D.
    """

    def __init__(self, vectors: int, dim: int) -> None:
        super().__init__()
        self.width = vectors * dim

    def forward(self, bottom: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """[B, D] and [B, M, D] → [B, width]."""
        return torch.cat([bottom, rows.flatten(1)], dim=1)


INTERACTIONS = {"dot": DotInteraction, "cat": CatInteraction}
