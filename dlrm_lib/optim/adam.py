"""Adam, with a decay of rare embedding rows, and a lasso over what the top MLP makes of dot products."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from dlrm_lib.config import TrainingConfig
from dlrm_lib.model import DLRM
from dlrm_lib.model.cost import linear_layers
from dlrm_lib.optim.optimizer import Optimizer


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015) whose moments move only for the rows of the batch, as in ``torch.optim.SparseAdam``.

    Its steps have the same length however little a row's gradients say. A decay takes that back from rare rows.
    """

    dense_class = torch.optim.Adam
    usual_epsilon = 1e-8
    is_static = False
    betas = (0.9, 0.999)
    epsilon: float

    def __init__(
        self,
        weight: torch.Tensor,
        layers: Iterable[nn.Parameter] = (),
        *,
        decay: float = 0.0,
        lasso: Lasso | None = None,
        **settings: Any,
    ) -> None:
        """As ``Optimizer``.

        Args:
            weight: The tables.
            layers: What the dense twin updates.
            decay: See ``TrainingConfig.embedding_decay``.
            lasso: Applied to the layers after each of their updates.
            settings: As for every rule.
        """
        super().__init__(weight, layers, **settings)
        self.decay, self.lasso = decay, lasso
        self.state["mean"] = torch.zeros_like(weight)
        self.state["square"] = torch.zeros_like(weight)
        self.state["steps"] = torch.zeros((), dtype=torch.int64)
        if decay:
            self.state["seen"] = torch.zeros(len(weight), dtype=torch.int32, device=weight.device)

    @classmethod
    def of(cls, model: DLRM, config: TrainingConfig, **how: Any) -> Optimizer:
        """As ``Optimizer.of``."""
        lasso = (
            Lasso(model, config.interaction_lasso, int(config.lasso_start_step)) if config.interaction_lasso else None
        )
        return super().of(model, config, decay=config.embedding_decay, lasso=lasso, **how)

    def update_layers(self, lr: float, step: int) -> None:
        super().update_layers(lr, step)
        if self.lasso:
            self.lasso.shrink(lr, step)

    def update_distinct_rows(self, rows: torch.Tensor, gradient: torch.Tensor, lr: float) -> None:
        (beta1, beta2), steps = self.betas, int(self.state["steps"].add_(1))
        if self.decay:
            self._shrink(rows, lr, steps)
        mean = self.state["mean"].index_select(0, rows).lerp_(gradient, 1 - beta1)
        square = self.state["square"].index_select(0, rows).lerp_(gradient.square_(), 1 - beta2)
        self.state["mean"].index_copy_(0, rows, mean)
        self.state["square"].index_copy_(0, rows, square)
        size = lr * (1 - beta2**steps) ** 0.5 / (1 - beta1**steps)
        self.rows.add_rows(self.weight, rows, mean.div_(square.sqrt_().add_(self.epsilon)), -size)

    def begin_rows(self, rows: torch.Tensor) -> None:
        super().begin_rows(rows)
        if self.decay:  # else the first gap would reach back to before the row was there
            self.state["seen"].index_fill_(0, rows, int(self.state["steps"]))

    def _shrink(self, rows: torch.Tensor, lr: float, steps: int) -> None:
        # Decoupled weight decay (Loshchilov and Hutter 2019), made up for when a row comes again, so that no step goes
        # through whole tables. That alone would be in proportion to the gap; its square shrinks rows the more, the
        # fewer clicks they rest on.
        gap = (steps - self.state["seen"].index_select(0, rows)).float()
        self.state["seen"].index_fill_(0, rows, steps)
        kept = 1 - (lr * self.decay * gap.square()).clamp_max(0.5)
        self.weight.index_copy_(0, rows, self.weight.index_select(0, rows).mul_(kept.unsqueeze(1)))

    def _dense(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        optimizer = super()._dense(parameters)
        for parameter in parameters:  # torch makes it at the first step
            optimizer.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return optimizer


class Lasso:
    """Pulls all that the top MLP makes of one dot product towards zero: most pairs of features tell nothing.

    The proximal step of the group lasso (Yuan and Lin 2006), one group per product: the length of its weights gets
    shorter by lr * strength * sqrt(outputs), down to zero.
    """

    def __init__(self, model: DLRM, strength: float, start_step: int) -> None:
        """It begins behind ``start_step`` steps."""
        self.layer, self.products = linear_layers(model.top)[0], model.interaction.products
        self.strength, self.start_step = strength, start_step

    @torch.no_grad()
    def shrink(self, lr: float, step: int) -> None:
        """Applies it once, after the training's step of that number, from 1."""
        if step <= self.start_step:
            return
        products = self.layer.weight[:, self.products]
        length = torch.linalg.vector_norm(products, dim=0).clamp_min(torch.finfo(products.dtype).tiny)
        products.mul_((1 - lr * self.strength * len(products) ** 0.5 / length).clamp_min(0.0))
