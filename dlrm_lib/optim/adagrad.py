"""Adagrad (Duchi, Hazan and Singer 2011), by weight and by row."""

from __future__ import annotations

from typing import Any

import torch

from dlrm_lib.optim.optimizer import Optimizer


class Adagrad(Optimizer):
    """Equal to ``torch.optim.Adagrad`` on a dense gradient.

    It keeps one sum of squares per weight, and so doubles the memory of the tables.
    """

    dense_class = torch.optim.Adagrad
    usual_epsilon = 1e-10
    epsilon: float

    def __init__(self, weight: torch.Tensor, *arguments: Any, **settings: Any) -> None:
        super().__init__(weight, *arguments, **settings)
        self.state["squares"] = torch.zeros_like(weight)

    def update_distinct_rows(self, rows: torch.Tensor, gradient: torch.Tensor, lr: float) -> None:
        squares = self.state["squares"].index_select(0, rows).addcmul_(gradient, gradient)
        self.state["squares"].index_copy_(0, rows, squares)
        self.rows.add_rows(self.weight, rows, gradient.div_(squares.sqrt_().add_(self.epsilon)), -lr)


class RowwiseAdagrad(Optimizer):
    """Adagrad with one number per row: the sum over steps of the mean square of the row's gradient.

    It saves nearly all of Adagrad's memory; the rule is that of FBGEMM's ``EXACT_ROWWISE_ADAGRAD`` and TorchRec. The
    layers have Adagrad itself.
    """

    dense_class = torch.optim.Adagrad
    usual_epsilon = 1e-10
    epsilon: float

    def __init__(self, weight: torch.Tensor, *arguments: Any, **settings: Any) -> None:
        super().__init__(weight, *arguments, **settings)
        self.state["squares"] = torch.zeros(len(weight), 1, device=weight.device)

    def update_distinct_rows(self, rows: torch.Tensor, gradient: torch.Tensor, lr: float) -> None:
        squares = self.state["squares"].index_select(0, rows).add_(gradient.square().mean(1, keepdim=True))
        self.state["squares"].index_copy_(0, rows, squares)
        self.rows.add_rows(self.weight, rows, gradient.div_(squares.sqrt_().add_(self.epsilon)), -lr)
