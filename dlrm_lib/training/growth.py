"""Tables that have grown: their old rows stay at the beginning of each, and the ids that are new have rows behind them.

So a model opens on a later data set of its lineage, in which every id that was given stands for what it did.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dlrm_lib.model.embedding import EmbeddingTables


class Growth:
    """From the rows of all tables as they were kept to those of tables that have grown since."""

    def __init__(self, tables: EmbeddingTables, cardinalities: Sequence[int]) -> None:
        """
        Args:
            tables: As they are now.
            cardinalities: Ids of each column then, as many as now or fewer. Where ids share rows (``hash_indices``)
                they must be as many: else an old id would stand for another row.
        """
        zero_row = [1] if tables.indices_per_lookup > 1 else []
        sizes = tables.sizes.tolist()
        self._now = [*sizes, *zero_row]
        self._then = [*map(min, cardinalities, sizes), *zero_row]

    def kept_rows(self, tensor: torch.Tensor) -> KeptRows:
        """What takes the rows as they were, for a tensor [rows of all tables now, …]."""
        return KeptRows(tensor, self._then, self._now)

    def new_rows(self) -> torch.Tensor:
        """The rows of all tables that were not there, int64 [K] in ascending order."""
        rows = torch.arange(sum(self._now)).split(self._now)
        none = torch.empty(0, dtype=torch.int64)
        return torch.cat([none, *(table[then:] for table, then in zip(rows, self._then, strict=True))])

    def score_as_id_0(self, weight: torch.Tensor) -> None:
        """Makes new rows copies of their table's first: what the model has learned of rare and unseen values.

        An id that it does not know is one of them to it, so that it scores as if the rows had been encoded with its own
        vocabulary, bit for bit.
        """
        for table, then in zip(weight.split(self._now), self._then, strict=True):
            table[then:] = table[:1]


class KeptRows:
    """The old rows of tables that have grown, as a target for a tensor that holds them alone."""

    def __init__(self, tensor: torch.Tensor, then: Sequence[int], now: Sequence[int]) -> None:
        self._tables, self._then = tensor.split(list(now)), list(then)
        self.shape, self.dtype = torch.Size([sum(then), *tensor.shape[1:]]), tensor.dtype

    def copy_(self, tensor: torch.Tensor) -> None:
        """Each table's rows to its beginning; the others stay as they are."""
        for table, rows in zip(self._tables, tensor.split(self._then), strict=True):
            table[: len(rows)] = rows
