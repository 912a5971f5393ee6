"""The step on a device that wants the same operations on the same shapes every time: Intel Gaudi.

There a new shape is a new compilation, and torch's bags and sparse gradients run on the host. So the host finds out
which rows a batch needs (``dataset.coalesce``) and the device gathers each of them once. That copy is the leaf of the
autograd graph: summing bags is gathering from it again and adding up, and its gradient comes back with duplicates
summed.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from dlrm_lib.config import TrainingConfig
from dlrm_lib.dataset import Batch
from dlrm_lib.dataset.coalesce import CoalescedBatch, coalesce
from dlrm_lib.devices import Device
from dlrm_lib.errors import InputError
from dlrm_lib.kernels.torch_rows import TorchRows
from dlrm_lib.model import DLRM
from dlrm_lib.training.sparse import Adagrad, RowwiseAdagrad, Sgd, SparseOptimizer
from dlrm_lib.training.step import TrainStep


class CoalescedStep(TrainStep):
    """Forward, backward and update without a shape that depends on the data and without a wait for the device.

    SGD, Adagrad and row-wise Adagrad; they compute what ``TrainStep`` does.

    Attributes:
        correct: Rows since it was last set to zero whose logit is on the side of their label: a float32 scalar on the
            device, exact up to 2**24 rows.
    """

    def __init__(self, model: DLRM, config: TrainingConfig, device: Device) -> None:
        """
        Raises:
            InputError: another optimizer, or a schedule where the optimizer keeps its first rate.
        """
        _refuse_what_is_not_there(config, device)
        super().__init__(model, config, device)
        self.correct = torch.zeros((), device=device.torch_device)
        self._layout = model.tables.layout.to(torch.device("cpu"))
        self._has_zeros = model.tables.indices_per_lookup > 1
        self.sparse_optimizer.rows = _CopiedRows()

    def prepare(self, batch: Batch) -> CoalescedBatch:
        """From the host's memory into the device's."""
        return self.device.put(coalesce(batch, self._layout.row_ids(batch.categorical)))

    def row_ids(self, batch: CoalescedBatch) -> torch.Tensor:
        """int64 rows of the tables, [B, M] or [B, M, L]."""
        return batch.rows.index_select(0, batch.places.flatten()).view(batch.places.shape).long()

    def __call__(self, batch: CoalescedBatch, lr: float) -> torch.Tensor:
        """Trains on one batch with learning rate ``lr``; returns its mean loss in nats (a float32 scalar)."""
        leaf = self.model.tables.weight.index_select(0, batch.rows).requires_grad_()
        loss = self._backward(batch, _sums(leaf, batch.places))
        # What has been recorded runs now, while the host goes on: these two places are those that the vendor documents.
        # The script of 2021 has the second alone; the first is within its FusedAdagrad.
        self.device.mark_step()
        for group in self.dense_optimizer.param_groups:
            group["lr"] = lr
        self.dense_optimizer.step()
        self.sparse_optimizer.update(batch.rows.long(), self._gradient(leaf, batch), lr)
        self.device.mark_step()
        self.done += 1
        return loss

    def _logits(self, batch: CoalescedBatch, vectors: torch.Tensor) -> torch.Tensor:
        logits = super()._logits(batch, vectors)
        self.correct += ((logits.detach() > 0) == (batch.label > 0.5)).sum()
        return logits

    def _gradient(self, leaf: torch.Tensor, batch: CoalescedBatch) -> torch.Tensor:
        """float32 [U, D], the same for all mentions of a row."""
        gradient = leaf.grad.index_select(0, batch.source)
        if self._has_zeros:
            # Bags shorter than L point at the row of zeros, which must stay that.
            gradient.mul_((batch.rows != self._layout.zero_row).unsqueeze(1))
        return gradient

    def _rule(self, config: TrainingConfig) -> type[SparseOptimizer]:
        return _RULES[config.optimizer]

    def _dense_optimizer(self, config: TrainingConfig) -> torch.optim.Optimizer:
        parameters = list(self.model.parameters())
        if config.optimizer == "sgd":
            return torch.optim.SGD(parameters, lr=config.lr, foreach=False)
        return self.device.adagrad(parameters, config.lr)


def _sums(leaf: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """float32 [U, D] and places [B, M] or [B, M, L] → vectors of the columns, [B, M, D]."""
    # The plugin sums the gradient of an embedding on the device. That of index_select would be index_add_, which it
    # leaves to the host, or in lazy mode builds so that of several additions to one row only one may count.
    vectors = functional.embedding(places, leaf)
    return vectors.sum(2) if places.dim() == 3 else vectors


class _CopiedRows(TorchRows):
    """Adding to rows by writing them anew: mentions of the same row write the same."""

    def add_rows(self, weight: torch.Tensor, row_ids: torch.Tensor, gradient: torch.Tensor, scale: float) -> None:
        weight.index_copy_(0, row_ids, weight.index_select(0, row_ids).add_(gradient, alpha=scale))


_RULES: dict[str, type[SparseOptimizer]] = {"sgd": Sgd, "adagrad": Adagrad, "rowwise_adagrad": RowwiseAdagrad}


def _refuse_what_is_not_there(config: TrainingConfig, device: Device) -> None:
    if config.optimizer not in _RULES:
        raise InputError(
            f"--optimizer {config.optimizer} is not there on {device.description}.",
            found=config.optimizer,
            remedy=f"Use one of: {', '.join(_RULES)}.",
        )
    constant = config.warmup_steps <= 1 and config.decay_steps == 0
    if device.adagrad_keeps_lr and config.optimizer != "sgd" and not constant:
        raise InputError(
            "In lazy mode Adagrad keeps the learning rate it was made with: --warmup_steps and --decay_steps would do "
            "nothing.",
            found=f"warmup_steps {config.warmup_steps}, decay_steps {config.decay_steps}",
            remedy="Add --warmup_steps 0 --decay_steps 0, or use --execution compile or eager.",
        )
