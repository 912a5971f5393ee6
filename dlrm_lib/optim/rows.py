"""What a rule asks of whatever holds the embedding tables: adding to rows, and summing over equal rows."""

from __future__ import annotations

from typing import Protocol

import torch


class RowUpdates(Protocol):
    """Two operations on rows of a table; a backend may have faster ones than ``TorchRows``."""

    def add_rows(self, weight: torch.Tensor, row_ids: torch.Tensor, gradient: torch.Tensor, scale: float) -> None:
        """``weight[row] += scale * gradient``, in place: row_ids int64 [K], gradient float32 [K, D]."""

    def sum_rows(
        self, weight: torch.Tensor, row_ids: torch.Tensor, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Each row once, int64 [K'], and the sum of its gradients, float32 [K', D]."""


class TorchRows:
    """The two in plain torch, on any device."""

    def add_rows(self, weight: torch.Tensor, row_ids: torch.Tensor, gradient: torch.Tensor, scale: float) -> None:
        """As ``RowUpdates``."""
        # Unlike index_add_, scatter_add_ with an expanded index runs in parallel on the CPU: twice as fast.
        weight.scatter_add_(0, row_ids.unsqueeze(1).expand_as(gradient), gradient * scale)

    def sum_rows(
        self, weight: torch.Tensor, row_ids: torch.Tensor, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As ``RowUpdates``."""
        distinct, place = torch.unique(row_ids, return_inverse=True)
        total = gradient.new_zeros(len(distinct), gradient.shape[1])
        return distinct, total.scatter_add_(0, place.unsqueeze(1).expand_as(gradient), gradient)
