"""One training step in the shape that is fast everywhere: the rows leaf.

The batch's embedding rows are copied out of the tables into a tensor that is a leaf of the autograd graph. The dense
part runs forward and backward on it, and its gradient goes back into the tables by a sparse update. Autograd never
sees a table.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from dlrm_lib.dataset import Batch
from dlrm_lib.model import DLRM
from dlrm_lib.training.sparse import UPDATES

_DENSE_OPTIMIZERS = {"sgd": torch.optim.SGD, "adagrad": torch.optim.Adagrad}


class RowsLeafStep:
    """Forward, backward and update of one batch."""

    def __init__(self, model: DLRM, optimizer: str) -> None:
        self.model = model
        self.dense_optimizer = _DENSE_OPTIMIZERS[optimizer](model.parameters(), lr=0.0)
        self.sparse_update = UPDATES[optimizer](model.tables.weight)

    def __call__(self, batch: Batch, lr: float) -> torch.Tensor:
        """Trains on one batch with learning rate ``lr``; returns its mean loss in nats (a float32 scalar)."""
        row_ids = self.model.tables.row_ids(batch.categorical)
        rows = self.model.tables.gather(row_ids).requires_grad_()
        logits = self.model.dense(batch.numerical, rows)
        loss = functional.binary_cross_entropy_with_logits(logits, batch.label)
        self.dense_optimizer.zero_grad()
        loss.backward()
        for group in self.dense_optimizer.param_groups:
            group["lr"] = lr
        self.dense_optimizer.step()
        self.sparse_update(row_ids.flatten(), rows.grad.flatten(0, 1), lr)
        return loss.detach()
