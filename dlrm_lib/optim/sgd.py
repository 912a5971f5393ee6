"""Stochastic gradient descent."""

from __future__ import annotations

import torch

from dlrm_lib.optim.optimizer import Optimizer


class Sgd(Optimizer):
    """Each weight moves against its gradient. Nothing is remembered."""

    dense_class = torch.optim.SGD
    is_linear = True

    def update_rows(self, row_ids: torch.Tensor, gradient: torch.Tensor, lr: float) -> None:
        """Equal rows are added to in turn."""
        self.update_distinct_rows(row_ids, gradient, lr)

    def update_distinct_rows(self, rows: torch.Tensor, gradient: torch.Tensor, lr: float) -> None:
        self.rows.add_rows(self.weight, rows, gradient, -lr)
