"""All embedding tables in one buffer, outside autograd.

A step reads the batch's rows with ``gather``, lets autograd compute the gradient of those rows alone, and hands it to
an update rule (``training/sparse.py``). Nothing ever has the size of the tables but the tables.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn


class EmbeddingTables(nn.Module):
    """M tables of vectors of length D, one after the other.

    Attributes:
        weight: float32 [sum of cardinalities, D], a buffer without gradient.
        offsets: int64 [M], the row where each table begins.
    """

    def __init__(self, cardinalities: Sequence[int], dim: int) -> None:
        """Draws each table from uniform(±sqrt(1 / its rows)), as NVIDIA does."""
        super().__init__()
        tables = [torch.empty(rows, dim).uniform_(-(rows**-0.5), rows**-0.5) for rows in cardinalities]
        self.register_buffer("weight", torch.cat(tables))
        starts = np.concatenate([[0], np.cumsum(cardinalities)[:-1]])
        self.register_buffer("offsets", torch.from_numpy(starts.astype(np.int64)), persistent=False)

    def row_ids(self, categorical: torch.Tensor) -> torch.Tensor:
        """int32 [B, M] ids within each column → int64 [B, M] rows of ``weight``."""
        return categorical + self.offsets

    def gather(self, row_ids: torch.Tensor) -> torch.Tensor:
        """int64 [B, M] rows of ``weight`` → a float32 copy of them, [B, M, D]."""
        return self.weight.index_select(0, row_ids.flatten()).view(*row_ids.shape, -1)
