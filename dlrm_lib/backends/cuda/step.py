"""The step on a GPU: few kernels, and none of them waits for the host, so that all can be one recording.

What changes from step to step lies in device memory: the batch, the learning rate, the loss scale, and whether the
gradients left the range of fp16. NVIDIA's trainer of 2020 skips such a step for the layers alone; here it is skipped
for the embeddings too.
"""

from __future__ import annotations

import torch

from dlrm_lib.config import TrainingConfig
from dlrm_lib.dataset import Batch
from dlrm_lib.devices import PRECISIONS, Device
from dlrm_lib.model import DLRM
from dlrm_lib.training.step import TrainStep


class FusedStep(TrainStep):
    """SGD on a model with dot interaction, one id per feature, on a device that has kernels for all of it.

    It computes what ``TrainStep`` does, but rounds embedding rows to the layers' precision when it reads them.
    """

    def __init__(self, model: DLRM, config: TrainingConfig, device: Device, *, captured: bool) -> None:
        """``captured``: batches of ``batch_size`` rows are steps of one recording, others run as they are."""
        super().__init__(model, config, device)
        self._batch_size = config.batch_size
        self._lr, self._overflow = torch.zeros(2, device=device.torch_device).unbind()
        self._one = torch.ones((), device=device.torch_device)
        self._fused = self.kernels.fused
        self._fused.deterministic = config.deterministic
        for group in self.dense_optimizer.param_groups:
            group["lr"] = self._lr
        if self.loss_scale:
            self.kernels.overflow = self.dense_optimizer.found_inf = self._overflow
            self.dense_optimizer.grad_scale = self.loss_scale.scale
        self._whole = device.captured(self._step) if captured else self._step

    def __call__(self, batch: Batch, lr: float) -> torch.Tensor:
        """Trains on one batch with learning rate ``lr``; returns its mean loss in nats (a float32 scalar)."""
        self._lr.fill_(lr)
        loss = (self._whole if len(batch.label) == self._batch_size else self._step)(batch)
        self.done += 1
        return loss

    def _step(self, batch: Batch) -> torch.Tensor:
        tables = self.model.tables
        ids = tables.table_ids(batch.categorical)
        rows = self._fused.gather(tables.weight, ids, PRECISIONS[self.precision]).requires_grad_()
        self._overflow.zero_()
        loss = self._backward(batch, rows)  # the interaction's part of it finds overflow in the gradient of the rows
        step = -self._lr
        if self.loss_scale:
            gradients = [parameter.grad for parameter in self.model.parameters()]
            torch._amp_foreach_non_finite_check_and_unscale_(gradients, self._overflow, self._one)
            step = step / self.loss_scale.scale
        self.dense_optimizer.step()  # divides by the scale, or does nothing, by itself
        self._fused.add_rows(tables.weight, ids, rows.grad, step, self._overflow)
        if self.loss_scale:
            self.loss_scale.update(self._overflow)
        return loss
