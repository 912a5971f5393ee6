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
from dlrm_lib.training.sparse import SPARSE_OPTIMIZERS

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
    """

    def __init__(self, model: DLRM, config: TrainingConfig, device: Device) -> None:
        self.model = model
        self.device = device
        self.precision = device.precision(config.precision)
        fp16 = self.precision == "fp16"
        self.loss_scale = LossScale(config.loss_scale, device.torch_device) if fp16 else None
        self.kernels = model.use_kernels(device, config.execution)
        self.dense_optimizer = _dense_optimizer(config.optimizer, list(model.parameters()))
        self.sparse_optimizer = SPARSE_OPTIMIZERS[config.optimizer](
            model.tables.weight, self.kernels, epsilon=config.embedding_epsilon, decay=config.embedding_decay
        )
        self.done = 0

    @property
    def skipped(self) -> int:
        """Steps among those done whose gradients overflowed fp16 and which changed nothing."""
        return int(self.loss_scale.skipped) if self.loss_scale else 0

    def __call__(self, batch: Batch, lr: float) -> torch.Tensor:
        """Trains on one batch with learning rate ``lr``; returns its mean loss in nats (a float32 scalar)."""
        tables = self.model.tables
        row_ids = tables.row_ids(batch.categorical)
        rows = tables.gather(row_ids).requires_grad_()
        loss = self._backward(batch, rows)
        self.done += 1
        if self.loss_scale and not self._unscale(rows):
            return loss
        for group in self.dense_optimizer.param_groups:
            group["lr"] = lr
        self.dense_optimizer.step()
        self.sparse_optimizer.step(*tables.spread(row_ids, rows.grad), lr)
        return loss

    def _backward(self, batch: Batch, rows: torch.Tensor) -> torch.Tensor:
        """Leaves the gradients of the loss, or of the scaled loss, at the parameters and at ``rows``."""
        with self.device.autocast(self.precision):
            logits = self.model.dense(batch.numerical, rows)
        loss = functional.binary_cross_entropy_with_logits(logits.float(), batch.label)
        self.dense_optimizer.zero_grad()
        (loss * self.loss_scale.scale if self.loss_scale else loss).backward()
        return loss.detach()

    def _unscale(self, rows: torch.Tensor) -> bool:
        """Divides all gradients by the loss scale; tells whether they are finite."""
        gradients = [tensor.grad for tensor in (*self.model.parameters(), rows)]
        torch._foreach_mul_(gradients, 1 / self.loss_scale.value)
        overflow = ~torch.stack([gradient.isfinite().all() for gradient in gradients]).all()
        self.loss_scale.update(overflow)
        return not overflow

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


def _dense_optimizer(name: str, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """The MLPs' optimizer, its state there from the start, so that it can be read from a file before the first step."""
    optimizer = _DENSE_OPTIMIZERS[name](parameters, lr=0.0, fused=True)
    if name == "adam":
        for parameter in parameters:
            optimizer.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
    return optimizer
