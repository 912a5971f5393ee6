"""Update rules for embedding rows: they touch the rows of the batch and nothing else.

Rows that occur several times in a batch get the sum of their gradients, as if the table had a dense gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Update = Callable[[torch.Tensor, torch.Tensor, float], None]


def sgd(weight: torch.Tensor) -> Update:
    """Returns ``update(row_ids int64 [K], gradient float32 [K, D], lr)`` that does ``weight[row] -= lr * gradient``."""

    def update(row_ids: torch.Tensor, gradient: torch.Tensor, lr: float) -> None:
        # Unlike index_add_, scatter_add_ with an expanded index runs in parallel on the CPU: twice as fast.
        weight.scatter_add_(0, row_ids.unsqueeze(1).expand_as(gradient), gradient * -lr)

    return update


def adagrad(weight: torch.Tensor, epsilon: float = 1e-10) -> Update:
    """Adagrad (Duchi et al. 2011) on the rows of a batch, equal to ``torch.optim.Adagrad`` on a dense gradient.

    Returns the same kind of function as ``sgd``; it keeps one float32 sum of squares per weight.
    """
    squares = torch.zeros_like(weight)

    def update(row_ids: torch.Tensor, gradient: torch.Tensor, lr: float) -> None:
        rows, position = torch.unique(row_ids, return_inverse=True)
        total = gradient.new_zeros(len(rows), gradient.shape[1])
        total.scatter_add_(0, position.unsqueeze(1).expand_as(gradient), gradient)
        seen = squares.index_select(0, rows).addcmul_(total, total)
        squares.index_copy_(0, rows, seen)
        weight.index_add_(0, rows, total.div_(seen.sqrt_().add_(epsilon)), alpha=-lr)

    return update


UPDATES: dict[str, Callable[[torch.Tensor], Update]] = {"sgd": sgd, "adagrad": adagrad}
