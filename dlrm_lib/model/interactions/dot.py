"""How the vectors of a row meet: pairwise dot products, or plain concatenation.

F vectors of length D take part: one per categorical column, and before them the bottom MLP's output, if the data have
numbers at all.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


class DotInteraction(nn.Module):
    """All pairwise dot products, each pair once, behind the bottom MLP's output.

    The output is padded by one zero column, as NVIDIA's is, so that its width suits matrix units.

    Attributes:
        width: Columns of the output: D + F·(F − 1)/2 + 1, without the D if there is no bottom MLP, and with F more if
            each vector meets itself too.
        products: Where in the output the dot products are.
        kernel: Takes over ``forward`` where code made for the machine does the same faster: (bottom, rows, width) →
            output.
    """

    def __init__(self, vectors: int, dim: int, *, has_bottom: bool = True, self_interaction: bool = False) -> None:
        """
        Args:
            vectors: F.
            dim: D.
            has_bottom: The first of them is the bottom MLP's output.
            self_interaction: Each vector also meets itself.
        """
        super().__init__()
        self.vectors, self.self_interaction = vectors, self_interaction
        row, column = torch.tril_indices(vectors, vectors, offset=0 if self_interaction else -1)
        # Positions of the lower triangle in a flattened [F, F] matrix, row by row.
        self.register_buffer("pairs", row * vectors + column, persistent=False)
        self.width = has_bottom * dim + len(self.pairs) + 1
        self.products = slice(has_bottom * dim, self.width - 1)
        self.kernel: Callable[[torch.Tensor | None, torch.Tensor, int], torch.Tensor] | None = None

    def forward(self, bottom: torch.Tensor | None, rows: torch.Tensor) -> torch.Tensor:
        """[B, D] or None and [B, M, D] → [B, width]."""
        if self.kernel is not None:
            return self.kernel(bottom, rows, self.width)
        vectors = rows if bottom is None else torch.cat([bottom.unsqueeze(1), rows], dim=1)
        products = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1).index_select(1, self.pairs)
        parts = [products, products.new_zeros(len(rows), 1)]
        return torch.cat(parts if bottom is None else [bottom, *parts], dim=1)


class CatInteraction(nn.Module):
    """All vectors side by side.

    Attributes:
        width: Columns of the output: F·D.
        products: Where in the output there are dot products: nowhere.
    """

    products = slice(0, 0)

    def __init__(self, vectors: int, dim: int) -> None:
        super().__init__()
        self.width = vectors * dim

    def forward(self, bottom: torch.Tensor | None, rows: torch.Tensor) -> torch.Tensor:
        """[B, D] or None and [B, M, D] → [B, width]."""
        return rows.flatten(1) if bottom is None else torch.cat([bottom, rows.flatten(1)], dim=1)
