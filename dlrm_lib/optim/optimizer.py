"""Update rules for embedding rows: they touch the rows of the batch and nothing else.

Rows that occur several times in a batch get the sum of their gradients, as if the table had a dense gradient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from dlrm_lib.devices import Kernels
from dlrm_lib.kernels.torch_rows import TorchRows


class SparseOptimizer(ABC):
    """An update rule with what it remembers of each row.

    Attributes:
        state: Tensors by name, on the device of the tables, that a checkpoint must keep.
        epsilon: Added to the root that divides a step.
    """

    epsilon = 0.0

    def __init__(
        self,
        weight: torch.Tensor,
        kernels: Kernels | None = None,
        *,
        epsilon: float | None = None,
        decay: float = 0.0,
    ) -> None:
        """
        Args:
            weight: float32 [rows of all tables, D], updated in place.
            kernels: Code made for the device, if there is any.
            epsilon: Instead of the rule's usual one.
            decay: Adam's; see ``TrainingConfig.embedding_decay``.
        """
        self.weight = weight
        self.epsilon = self.epsilon if epsilon is None else epsilon
        self.rows = kernels or TorchRows()
        self.decay = decay
        self.state: dict[str, torch.Tensor] = {}

    def step(self, row_ids: torch.Tensor, gradient: torch.Tensor, lr: float) -> None:
        """One update of the rows int64 [K] by their gradients float32 [K, D]; rows may repeat."""
        self.update(*self.rows.sum_rows(self.weight, row_ids, gradient), lr)

    @abstractmethod
    def update(self, rows: torch.Tensor, gradient: torch.Tensor, lr: float) -> None:
        """As ``step``, where each row occurs once; it may overwrite the gradient."""


class Sgd(SparseOptimizer):
    """Stochastic gradient descent. It is linear, so that equal rows need not be found: each is added to in turn."""

    def step(self, row_ids: torch.Tensor, gradient: torch.Tensor, lr: float) -> None:
        self.update(row_ids, gradient, lr)

    def update(self, rows: torch.Tensor, gradient: torch.Tensor, lr: float) -> None:
        self.rows.add_rows(self.weight, rows, gradient, -lr)


class Adagrad(SparseOptimizer):
    """Adagrad (Duchi et al. 2011), equal to ``torch.optim.Adagrad`` on a dense gradient.

    It keeps one sum of squares per weight, and so doubles the memory of the tables.
    """

    epsilon = 1e-10

    def __init__(self, weight: torch.Tensor, kernels: Kernels | None = None, **settings: float | None) -> None:
        super().__init__(weight, kernels, **settings)
        self.state["squares"] = torch.zeros_like(weight)

    def update(self, rows: torch.Tensor, gradient: torch.Tensor, lr: float) -> None:
        squares = self.state["squares"].index_select(0, rows).addcmul_(gradient, gradient)
        self.state["squares"].index_copy_(0, rows, squares)
        self.rows.add_rows(self.weight, rows, gradient.div_(squares.sqrt_().add_(self.epsilon)), -lr)


class RowwiseAdagrad(SparseOptimizer):
    """Adagrad with one number per row: the sum over steps of the mean square of the row's gradient.

    It saves nearly all of Adagrad's memory; the rule is that of FBGEMM's ``EXACT_ROWWISE_ADAGRAD`` and TorchRec.
    """

    epsilon = 1e-10

    def __init__(self, weight: torch.Tensor, kernels: Kernels | None = None, **settings: float | None) -> None:
        super().__init__(weight, kernels, **settings)
        self.state["squares"] = torch.zeros(len(weight), 1, device=weight.device)

    def update(self, rows: torch.Tensor, gradient: torch.Tensor, lr: float) -> None:
        squares = self.state["squares"].index_select(0, rows).add_(gradient.square().mean(1, keepdim=True))
        self.state["squares"].index_copy_(0, rows, squares)
        self.rows.add_rows(self.weight, rows, gradient.div_(squares.sqrt_().add_(self.epsilon)), -lr)


class Adam(SparseOptimizer):
    """Adam (Kingma and Ba 2015) whose moments move only for the rows of the batch, as in ``torch.optim.SparseAdam``.

    Its steps have the same length however little a row's gradients say. A decay takes that back from rare rows.
    """

    betas = (0.9, 0.999)
    epsilon = 1e-8

    def __init__(self, weight: torch.Tensor, kernels: Kernels | None = None, **settings: float | None) -> None:
        super().__init__(weight, kernels, **settings)
        self.state["mean"] = torch.zeros_like(weight)
        self.state["square"] = torch.zeros_like(weight)
        self.state["steps"] = torch.zeros((), dtype=torch.int64)
        if self.decay:
            self.state["seen"] = torch.zeros(len(weight), dtype=torch.int32, device=weight.device)

    def update(self, rows: torch.Tensor, gradient: torch.Tensor, lr: float) -> None:
        (beta1, beta2), steps = self.betas, int(self.state["steps"].add_(1))
        if self.decay:
            self._shrink(rows, lr, steps)
        mean = self.state["mean"].index_select(0, rows).lerp_(gradient, 1 - beta1)
        square = self.state["square"].index_select(0, rows).lerp_(gradient.square_(), 1 - beta2)
        self.state["mean"].index_copy_(0, rows, mean)
        self.state["square"].index_copy_(0, rows, square)
        size = lr * (1 - beta2**steps) ** 0.5 / (1 - beta1**steps)
        self.rows.add_rows(self.weight, rows, mean.div_(square.sqrt_().add_(self.epsilon)), -size)

    def _shrink(self, rows: torch.Tensor, lr: float, steps: int) -> None:
        # Decoupled weight decay (Loshchilov and Hutter 2019), made up for when a row comes again, so that no step goes
        # through whole tables. That alone would be in proportion to the gap; its square shrinks rows the more, the
        # fewer clicks they rest on.
        gap = (steps - self.state["seen"].index_select(0, rows)).float()
        self.state["seen"].index_fill_(0, rows, steps)
        kept = 1 - (lr * self.decay * gap.square()).clamp_max(0.5)
        self.weight.index_copy_(0, rows, self.weight.index_select(0, rows).mul_(kept.unsqueeze(1)))


SPARSE_OPTIMIZERS: dict[str, type[SparseOptimizer]] = {
    "sgd": Sgd,
    "adagrad": Adagrad,
    "rowwise_adagrad": RowwiseAdagrad,
    "adam": Adam,
}
