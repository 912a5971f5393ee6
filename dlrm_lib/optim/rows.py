"""Updates of embedding rows in plain torch."""

from __future__ import annotations

import torch


class TorchRows:
    """Adding to rows and summing over equal rows with plain torch, on any device: what ``Kernels`` do faster."""

    def add_rows(self, weight: torch.Tensor, row_ids: torch.Tensor, gradient: torch.Tensor, scale: float) -> None:
        """``weight[row] += scale * gradient``, in place: row_ids int64 [K], gradient float32 [K, D]."""
        # Unlike index_add_, scatter_add_ with an expanded index runs in parallel on the CPU: twice as fast.
        weight.scatter_add_(0, row_ids.unsqueeze(1).expand_as(gradient), gradient * scale)

    def sum_rows(
        self, weight: torch.Tensor, row_ids: torch.Tensor, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Each row once, int64 [K'], and the sum of its gradients, float32 [K', D]."""
        distinct, place = torch.unique(row_ids, return_inverse=True)
        total = gradient.new_zeros(len(distinct), gradient.shape[1])
        return distinct, total.scatter_add_(0, place.unsqueeze(1).expand_as(gradient), gradient)
