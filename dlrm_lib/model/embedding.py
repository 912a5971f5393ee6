"""All embedding tables in one buffer, outside autograd.

A step reads the batch's rows with ``gather``, lets autograd compute the gradient of those rows alone, and hands it to
an update rule (``optim``). Nothing ever has the size of the tables but the tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional


class TableLayout(NamedTuple):
    """Where ids have their rows in the buffer of all tables.

    Attributes:
        cardinalities: int64 [M], ids of each column.
        sizes: int64 [M], rows of each table.
        offsets: int64 [M], the row where each table begins.
        zero_row: With bags, the row of zeros.
        hash_indices: An id stands for the row ``id % rows of its table``.
    """

    cardinalities: torch.Tensor
    sizes: torch.Tensor
    offsets: torch.Tensor
    zero_row: int
    hash_indices: bool

    def to(self, device: torch.device) -> TableLayout:
        """The same for ids that are on another device."""
        cardinalities, sizes, offsets = (part.to(device) for part in (self.cardinalities, self.sizes, self.offsets))
        return self._replace(cardinalities=cardinalities, sizes=sizes, offsets=offsets)

    def table_ids(self, categorical: torch.Tensor) -> torch.Tensor:
        """Ids within each column → rows within each table, in the same shape and type."""
        if not self.hash_indices:
            return categorical
        sizes = self.sizes.to(categorical.dtype)
        return categorical % (sizes.unsqueeze(1) if categorical.dim() == 3 else sizes)

    def row_ids(self, categorical: torch.Tensor) -> torch.Tensor:
        """int32 [B, M] or [B, M, L] ids within each column → int64 rows of the buffer, in the same shape."""
        shape = (-1, 1) if categorical.dim() == 3 else (-1,)
        rows = self.table_ids(categorical) + self.offsets.view(shape)
        if categorical.dim() == 3:
            rows = rows.masked_fill_(categorical == self.cardinalities.view(shape), self.zero_row)
        return rows


class EmbeddingTables(nn.Module):
    """M tables of vectors of length D, one after the other.

    A column may hold one id per row, or a bag of L ids whose vectors are summed. Bags shorter than L are filled up with
    the first id that the column does not have (its cardinality), which stands for a vector of zeros.

    Attributes:
        weight: float32 [sum of the tables' rows, D], a buffer without gradient; with bags one more row, of zeros.
        offsets: int64 [M], the row where each table begins.
        table_rows: How many rows each table has, also of a blueprint, whose tensors hold no numbers.
    """

    weight: torch.Tensor
    cardinalities: torch.Tensor
    sizes: torch.Tensor
    offsets: torch.Tensor

    def __init__(
        self,
        cardinalities: Sequence[int],
        dim: int,
        *,
        indices_per_lookup: int = 1,
        hash_indices: bool = False,
        max_table_size: int | None = None,
        init: float | None = None,
    ) -> None:
        """Draws each table from uniform(±sqrt(1 / its rows)), as NVIDIA does, or from uniform(±init).

        Args:
            cardinalities: Ids of each column.
            dim: D.
            indices_per_lookup: L.
            hash_indices: An id stands for the row ``id % rows of its table``.
            max_table_size: The most rows that a table has; columns with more ids share rows.
            init: Size of the largest initial number.
        """
        super().__init__()
        sizes = [min(ids, max_table_size or ids) for ids in cardinalities]
        self.indices_per_lookup = indices_per_lookup
        self.hash_indices = hash_indices
        self.table_rows = tuple(sizes)
        self.register_buffer("weight", torch.zeros(sum(sizes) + (indices_per_lookup > 1), dim))
        self.register_buffer("cardinalities", torch.tensor(cardinalities, dtype=torch.int64), persistent=False)
        self.register_buffer("sizes", torch.tensor(sizes, dtype=torch.int64), persistent=False)
        self.register_buffer("offsets", self.sizes.cumsum(0) - self.sizes, persistent=False)
        for table, rows in zip(self.weight[: sum(sizes)].split(sizes), sizes, strict=True):
            largest = rows**-0.5 if init is None else init
            table.uniform_(-largest, largest)

    def forward(self, categorical: torch.Tensor) -> torch.Tensor:
        """int32 [B, M] or [B, M, L] ids within each column → their vectors, or the bags' sums, [B, M, D]."""
        return self.gather(self.row_ids(categorical))

    @property
    def layout(self) -> TableLayout:
        """Where ids have their rows in ``weight``."""
        return TableLayout(self.cardinalities, self.sizes, self.offsets, len(self.weight) - 1, self.hash_indices)

    def table_ids(self, categorical: torch.Tensor) -> torch.Tensor:
        """Ids within each column → rows within each table, in the same shape and type."""
        return self.layout.table_ids(categorical)

    def row_ids(self, categorical: torch.Tensor) -> torch.Tensor:
        """int32 [B, M] or [B, M, L] ids within each column → int64 rows of ``weight``, in the same shape."""
        return self.layout.row_ids(categorical)

    def gather(self, row_ids: torch.Tensor) -> torch.Tensor:
        """int64 [B, M] rows of ``weight`` → a float32 copy of them, [B, M, D]; [B, M, L] → their sums, [B, M, D]."""
        if row_ids.dim() == 3:
            bags = functional.embedding_bag(row_ids.flatten(0, 1), self.weight, mode="sum")
            return bags.view(*row_ids.shape[:2], self.weight.shape[1])
        return self.weight.index_select(0, row_ids.flatten()).view(*row_ids.shape, self.weight.shape[1])

    def spread(self, row_ids: torch.Tensor, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """From the gradient of what ``gather`` gave, [B, M, D], to rows int64 [K] and their gradients float32 [K, D].

        Every row of a bag gets the gradient of the sum, and the row of zeros gets none.
        """
        if row_ids.dim() == 3:
            real = (row_ids != len(self.weight) - 1).unsqueeze(-1)
            gradient = gradient.unsqueeze(2) * real
        return row_ids.flatten(), gradient.flatten(0, -2)
