"""One training step in the shape that is fast everywhere: the rows leaf.

The batch's embedding rows are copied out of the tables into a tensor that is a leaf of the autograd graph. The dense
part runs forward and backward on it, and its gradient goes back into the tables by a sparse update. Autograd never
sees a table.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import torch
from torch.nn import functional

from dlrm_lib.config import ResolvedTraining
from dlrm_lib.dataset import Batch
from dlrm_lib.model import DLRM, Parts
from dlrm_lib.optim import OPTIMIZERS, LossScale, Optimizer

if TYPE_CHECKING:
    from dlrm_lib.backends.backend import Backend


class Prepared(Protocol):
    """What any step needs of a batch, on the device."""

    @property
    def numerical(self) -> torch.Tensor:
        """float32 [B, N]."""

    @property
    def label(self) -> torch.Tensor:
        """float32 [B], 0 or 1."""


PreparedBatch = TypeVar("PreparedBatch", bound=Prepared)


class Step(ABC, Generic[PreparedBatch]):
    """Forward, backward and update of one batch, with all that is remembered from step to step.

    Each step has a form of batch of its own, which ``prepare`` makes.

    Attributes:
        model: What is trained.
        backend: Where.
        optimizer: The update rule.
        done: Steps done: the position in the data and in the schedule.
        precision: fp32, tf32, bf16 or fp16.
        loss_scale: With fp16; None otherwise.
        correct: Samples since it was last set to zero whose logit is on the side of their label: a float32 scalar on
            the device, exact up to 2**24 samples; None where it is not counted.
    """

    correct: torch.Tensor | None = None

    def __init__(
        self,
        model: DLRM,
        config: ResolvedTraining,
        backend: Backend,
        *,
        optimizer: Optimizer | None = None,
        parts: Parts | None = None,
    ) -> None:
        """
        Args:
            model: On the device.
            config: How to train.
            backend: Where.
            optimizer: The rule with code made for the device; by default in plain torch.
            parts: What computes the model's parts in their place.

        Raises:
            TypeError: a configuration with settings left open.
        """
        if not isinstance(config, ResolvedTraining):
            raise TypeError("A step takes resolved settings: build() resolves a configuration for a data set.")
        self.model, self.backend, self._parts = model, backend, parts
        self.precision = config.precision
        self.loss_scale = LossScale(config.loss_scale, backend.torch_device) if self.precision == "fp16" else None
        self.optimizer = optimizer or OPTIMIZERS[config.optimizer].of(model, config)
        self.done = 0

    @property
    def skipped(self) -> int:
        """Steps among those done whose gradients overflowed fp16 and which changed nothing."""
        return int(self.loss_scale.skipped) if self.loss_scale else 0

    @abstractmethod
    def prepare(self, batch: Batch) -> PreparedBatch:
        """What a step takes: the batch as it was read, in the device's memory."""

    @abstractmethod
    def row_ids(self, batch: PreparedBatch) -> torch.Tensor:
        """int64 rows of the tables that a prepared batch stands for, [B, M] or [B, M, L]."""

    def __call__(self, batch: PreparedBatch, lr: float) -> torch.Tensor:
        """Trains on one prepared batch with learning rate ``lr``; returns its mean loss in nats (a float32 scalar)."""
        with self.backend.computing_in(self.precision):
            loss = self._step(batch, lr)
        self.done += 1
        return loss

    @abstractmethod
    def _step(self, batch: PreparedBatch, lr: float) -> torch.Tensor:
        """All of it but the count."""

    def _backward(self, batch: PreparedBatch, rows: torch.Tensor) -> torch.Tensor:
        """Leaves the gradients of the loss, or of the scaled loss, at the parameters and at ``rows``."""
        loss = functional.binary_cross_entropy_with_logits(self._logits(batch, rows), batch.label)
        self.optimizer.dense.zero_grad()
        (loss * self.loss_scale.scale if self.loss_scale else loss).backward()
        return loss.detach()

    def _logits(self, batch: PreparedBatch, rows: torch.Tensor) -> torch.Tensor:
        """float32 [B] with their gradient."""
        with self.backend.autocast(self.precision):
            return self.model.dense(batch.numerical, rows, self._parts).float()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Everything but the model that the next step depends on, by name; the device's tensors are not copied."""
        state = {"done": torch.tensor(self.done)}
        for name, parameter in self.model.named_parameters():
            remembered = self.optimizer.dense.state.get(parameter, {})
            state |= {f"dense.{name}.{key}": value for key, value in remembered.items() if value is not None}
        state |= {f"sparse.{key}": value for key, value in self.optimizer.state.items()}
        if self.loss_scale:
            state |= {f"loss_scale.{key}": value for key, value in self.loss_scale.state_dict().items()}
        return state

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Goes on where ``state_dict`` was taken."""
        for name, tensor in self.state_dict().items():
            tensor.copy_(state[name])
        self.done = int(state["done"])


class TrainingStep(Step[Batch]):
    """The step in plain torch, for every rule and every model; a backend may hand in faster parts and a faster rule."""

    def prepare(self, batch: Batch) -> Batch:
        return self.backend.put(batch)

    def row_ids(self, batch: Batch) -> torch.Tensor:
        return self.model.tables.row_ids(batch.categorical)

    def _step(self, batch: Batch, lr: float) -> torch.Tensor:
        tables, row_ids = self.model.tables, self.row_ids(batch)
        rows = tables.gather(row_ids).requires_grad_()
        loss = self._backward(batch, rows)
        if self.loss_scale and not self._unscale(rows, self.loss_scale):
            return loss
        self.optimizer.update_layers(lr, self.done + 1)
        gradient: torch.Tensor = rows.grad  # type: ignore[assignment]  # it went backward
        self.optimizer.update_rows(*tables.spread(row_ids, gradient), lr)
        return loss

    def _unscale(self, rows: torch.Tensor, scale: LossScale) -> bool:
        """Divides all gradients by the loss scale; tells whether they are finite."""
        gradients = [tensor.grad for tensor in (*self.model.parameters(), rows) if tensor.grad is not None]
        torch._foreach_mul_(gradients, 1 / scale.value)
        overflow = ~torch.stack([gradient.isfinite().all() for gradient in gradients]).all()
        scale.update(overflow)
        return not overflow
