"""One training step in the shape that is fast everywhere: the rows leaf.

The batch's embedding rows are copied out of the tables into a tensor that is a leaf of the autograd graph. The dense
part runs forward and backward on it, and its gradient goes back into the tables by a sparse update. Autograd never
sees a table.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from dlrm_lib.config import TrainingConfig
from dlrm_lib.dataset import Batch
from dlrm_lib.devices import Device
from dlrm_lib.model import DLRM
from dlrm_lib.training.loss_scale import LossScale
from dlrm_lib.training.sparse import SPARSE_OPTIMIZERS, SparseOptimizer

_DENSE_OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "rowwise_adagrad": torch.optim.Adagrad,
    "adam": torch.optim.Adam,
}


class TrainStep:
    """Forward, backward and update of one batch, with all that is remembered from step to step.

    Attributes:
        done: Steps done: the position in the data and in the schedule.
        precision: fp32, tf32, bf16 or fp16.
        loss_scale: With fp16; None otherwise.
        correct: See ``CoalescedStep``; None where it is not counted.
    """

    correct: torch.Tensor | None = None

    def __init__(self, model: DLRM, config: TrainingConfig, device: Device) -> None:
        self.model = model
        self.device = device
        self.precision = device.precision(config.precision)
        fp16 = self.precision == "fp16"
        self.loss_scale = LossScale(config.loss_scale, device.torch_device) if fp16 else None
        self.kernels = model.use_kernels(device, config.execution)
        self.dense_optimizer = self._dense_optimizer(config)
        self.sparse_optimizer = self._rule(config)(
            model.tables.weight, self.kernels, epsilon=config.embedding_epsilon, decay=config.embedding_decay
        )
        self.lasso = config.interaction_lasso if config.optimizer == "adam" else 0.0
        self.lasso_start = config.lasso_start_step
        self.done = 0

    @property
    def skipped(self) -> int:
        """Steps among those done whose gradients overflowed fp16 and which changed nothing."""
        return int(self.loss_scale.skipped) if self.loss_scale else 0

    def prepare(self, batch: Batch) -> tuple:
        """What a step takes: the batch as it was read, in the device's memory."""
        return self.device.put(batch)

    def row_ids(self, batch: Batch) -> torch.Tensor:
        """int64 rows of the tables that a prepared batch stands for, [B, M] or [B, M, L]."""
        return self.model.tables.row_ids(batch.categorical)

    def __call__(self, batch: Batch, lr: float) -> torch.Tensor:
        """Trains on one batch with learning rate ``lr``; returns its mean loss in nats (a float32 scalar)."""
        tables = self.model.tables
        row_ids = self.row_ids(batch)
        rows = tables.gather(row_ids).requires_grad_()
        loss = self._backward(batch, rows)
        self.done += 1
        if self.loss_scale and not self._unscale(rows):
            return loss
        for group in self.dense_optimizer.param_groups:
            group["lr"] = lr
        self.dense_optimizer.step()
        if self.lasso and self.done > self.lasso_start:
            self._shrink_products(lr)
        self.sparse_optimizer.step(*tables.spread(row_ids, rows.grad), lr)
        return loss

    def _backward(self, batch: Batch, rows: torch.Tensor) -> torch.Tensor:
        """Leaves the gradients of the loss, or of the scaled loss, at the parameters and at ``rows``."""
        loss = functional.binary_cross_entropy_with_logits(self._logits(batch, rows), batch.label)
        self.dense_optimizer.zero_grad()
        (loss * self.loss_scale.scale if self.loss_scale else loss).backward()
        return loss.detach()

    def _logits(self, batch: Batch, rows: torch.Tensor) -> torch.Tensor:
        """float32 [B] with their gradient."""
        with self.device.autocast(self.precision):
            return self.model.dense(batch.numerical, rows).float()

    def _unscale(self, rows: torch.Tensor) -> bool:
        """Divides all gradients by the loss scale; tells whether they are finite."""
        gradients = [tensor.grad for tensor in (*self.model.parameters(), rows)]
        torch._foreach_mul_(gradients, 1 / self.loss_scale.value)
        overflow = ~torch.stack([gradient.isfinite().all() for gradient in gradients]).all()
        self.loss_scale.update(overflow)
        return not overflow

    @torch.no_grad()
    def _shrink_products(self, lr: float) -> None:
        """Pulls all that the top MLP makes of one dot product towards zero: most pairs of features tell nothing.

        The proximal step of the group lasso (Yuan and Lin 2006), one group per product: the length of its weights gets
        shorter by lr * interaction_lasso * sqrt(outputs), down to zero.
        """
        products = self.model.top[0].weight[:, self.model.interaction.products]
        length = torch.linalg.vector_norm(products, dim=0).clamp_min(torch.finfo(products.dtype).tiny)
        products.mul_((1 - lr * self.lasso * len(products) ** 0.5 / length).clamp_min(0.0))

    def _rule(self, config: TrainingConfig) -> type[SparseOptimizer]:
        """The update rule of the embeddings."""
        return SPARSE_OPTIMIZERS[config.optimizer]

    def _dense_optimizer(self, config: TrainingConfig) -> torch.optim.Optimizer:
        """The layers' optimizer, its state there from the start, so that it can be read before the first step."""
        parameters = list(self.model.parameters())
        optimizer = _DENSE_OPTIMIZERS[config.optimizer](parameters, lr=0.0, fused=True)
        if config.optimizer == "adam":
            for parameter in parameters:
                optimizer.state[parameter] = {
                    "step": torch.zeros((), device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        return optimizer

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Everything but the model that the next step depends on, by name; the device's tensors are not copied."""
        state = {"done": torch.tensor(self.done)}
        for name, parameter in self.model.named_parameters():
            remembered = self.dense_optimizer.state.get(parameter, {})
            state |= {f"dense.{name}.{key}": value for key, value in remembered.items() if value is not None}
        state |= {f"sparse.{key}": value for key, value in self.sparse_optimizer.state.items()}
        if self.loss_scale:
            state |= {f"loss_scale.{key}": value for key, value in self.loss_scale.state_dict().items()}
        return state

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Goes on where ``state_dict`` was taken."""
        for name, tensor in self.state_dict().items():
            tensor.copy_(state[name])
        self.done = int(state["done"])
