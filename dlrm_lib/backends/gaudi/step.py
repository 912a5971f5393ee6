"""The step on a device that wants the same operations on the same shapes every time: Intel Gaudi.

There a new shape is a new compilation, and torch's bags and sparse gradients run on the host. So the host finds out
which rows a batch needs (``coalesce``) and the device gathers each of them once. That copy is the leaf of the
autograd graph: summing bags is gathering from it again and adding up, and its gradient comes back with duplicates
summed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from dlrm_lib.backends.gaudi.coalesce import CoalescedBatch, coalesce
from dlrm_lib.backends.step import Step
from dlrm_lib.config import ResolvedTraining
from dlrm_lib.dataset import Batch
from dlrm_lib.model import DLRM, Parts
from dlrm_lib.optim import OPTIMIZERS, TorchRows
from dlrm_lib.optim.optimizer import Dense

if TYPE_CHECKING:
    from dlrm_lib.backends.backend import Backend


class CoalescedStep(Step[CoalescedBatch]):
    """Forward, backward and update without a shape that depends on the data and without a wait for the device.

    It computes what ``TrainingStep`` does, by every rule that is static; ``correct`` is counted.
    """

    correct: torch.Tensor

    def __init__(
        self,
        model: DLRM,
        config: ResolvedTraining,
        backend: Backend,
        *,
        dense: Dense,
        parts: Parts,
        mark_step: Callable[[], None] = lambda: None,
    ) -> None:
        """As ``Step``.

        Args:
            model: On the device.
            config: How to train.
            backend: Where.
            dense: Makes the layers' optimizer.
            parts: The layers' form here.
            mark_step: Where operations are recorded first, has those up to here compiled and run.
        """
        rule = OPTIMIZERS[config.optimizer].of(model, config, rows=_CopiedRows(), dense=dense)
        super().__init__(model, config, backend, optimizer=rule, parts=parts)
        self.correct = torch.zeros((), device=backend.torch_device)
        self._mark_step = mark_step
        self._layout = model.tables.layout.to(torch.device("cpu"))
        self._has_zeros = model.tables.indices_per_lookup > 1

    def prepare(self, batch: Batch) -> CoalescedBatch:
        """From the host's memory into the device's."""
        return self.backend.put(coalesce(batch, self._layout.row_ids(batch.categorical)))

    def row_ids(self, batch: CoalescedBatch) -> torch.Tensor:
        """int64 rows of the tables, [B, M] or [B, M, L]."""
        return batch.rows.index_select(0, batch.places.flatten()).view(batch.places.shape).long()

    def _step(self, batch: CoalescedBatch, lr: float) -> torch.Tensor:
        leaf = self.model.tables.weight.index_select(0, batch.rows).requires_grad_()
        loss = self._backward(batch, sums(leaf, batch.places))
        # What has been recorded runs now, while the host goes on: these two places are those that the vendor documents.
        # The script of 2021 has the second alone; the first is within its FusedAdagrad.
        self._mark_step()
        self.optimizer.update_layers(lr, self.done + 1)
        self.optimizer.update_distinct_rows(batch.rows.long(), self._gradient(leaf, batch), lr)
        self._mark_step()
        return loss

    def _logits(self, batch: CoalescedBatch, vectors: torch.Tensor) -> torch.Tensor:
        logits = super()._logits(batch, vectors)
        self.correct += ((logits.detach() > 0) == (batch.label > 0.5)).sum()
        return logits

    def _gradient(self, leaf: torch.Tensor, batch: CoalescedBatch) -> torch.Tensor:
        """float32 [U, D], the same for all mentions of a row."""
        of_rows: torch.Tensor = leaf.grad  # type: ignore[assignment]  # it went backward
        gradient = of_rows.index_select(0, batch.source)
        if self._has_zeros:
            # Bags shorter than L point at the row of zeros, which must stay that.
            gradient.mul_((batch.rows != self._layout.zero_row).unsqueeze(1))
        return gradient


def sums(leaf: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """float32 [U, D] and places [B, M] or [B, M, L] → vectors of the columns, [B, M, D]."""
    # The plugin sums the gradient of an embedding on the device. That of index_select would be index_add_, which it
    # leaves to the host, or in lazy mode builds so that of several additions to one row only one may count.
    vectors = functional.embedding(places, leaf)
    return vectors.sum(2) if places.dim() == 3 else vectors


class _CopiedRows(TorchRows):
    """Adding to rows by writing them anew: mentions of the same row write the same."""

    def add_rows(self, weight: torch.Tensor, row_ids: torch.Tensor, gradient: torch.Tensor, scale: float) -> None:
        weight.index_copy_(0, row_ids, weight.index_select(0, row_ids).add_(gradient, alpha=scale))
