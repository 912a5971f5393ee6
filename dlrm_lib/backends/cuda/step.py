"""The step on a GPU: few kernels, and none of them waits for the host, so that all can be one recording.

What changes from step to step lies in device memory: the batch, the learning rate, the loss scale, and whether the
gradients left the range of fp16. NVIDIA's trainer of 2020 skips such a step for the layers alone; here it is skipped
for the embeddings too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from dlrm_lib.backends.backend import PRECISIONS
from dlrm_lib.backends.cuda.kernels import GpuKernels
from dlrm_lib.backends.step import TrainingStep
from dlrm_lib.config import ResolvedTraining, TrainingConfig
from dlrm_lib.dataset import Batch
from dlrm_lib.model import DLRM, Parts
from dlrm_lib.model.interactions.dot import DotInteraction
from dlrm_lib.optim import OPTIMIZERS

if TYPE_CHECKING:
    from dlrm_lib.backends.backend import Backend

Step = Callable[[Batch], torch.Tensor]


class FusedStep(TrainingStep):
    """SGD on a model with dot interaction, one id per feature, on a device that has kernels for all of it.

    It computes what ``TrainingStep`` does, but rounds embedding rows to the layers' precision when it reads them.
    """

    def __init__(
        self,
        model: DLRM,
        config: ResolvedTraining,
        backend: Backend,
        *,
        kernels: GpuKernels,
        parts: Parts,
        record: Callable[[Step], Step] | None,
    ) -> None:
        """As ``TrainingStep``.

        Args:
            model: On the device.
            config: How to train.
            backend: Where.
            kernels: For this model, in the configuration's precision.
            parts: The layers' form here; dot products are left to ``kernels``.
            record: Makes a recording of the step, for batches of ``batch_size`` samples; others run as they are.
        """
        self._lr, self._overflow = torch.zeros(2, device=backend.torch_device).unbind()
        self._one = torch.ones((), device=backend.torch_device)
        self._kernels, self._batch_size = kernels, config.batch_size
        watched = self._overflow if config.precision == "fp16" else None
        parts = with_kernel(parts, model, kernels, config.precision, watched)
        super().__init__(model, config, backend, parts=parts)
        dense: Any = self.optimizer.dense  # torch's GradScaler hands it the last two in this way too
        for group in dense.param_groups:
            group["lr"] = self._lr
        if self.loss_scale:
            dense.found_inf, dense.grad_scale = self._overflow, self.loss_scale.scale
        self._whole = record(self._run) if record else self._run

    def _step(self, batch: Batch, lr: float) -> torch.Tensor:
        self._lr.fill_(lr)
        return (self._whole if len(batch.label) == self._batch_size else self._run)(batch)

    def _run(self, batch: Batch) -> torch.Tensor:
        """All that is recorded."""
        tables = self.model.tables
        ids = tables.table_ids(batch.categorical)
        rows = self._kernels.gather(tables.weight, ids, PRECISIONS[self.precision]).requires_grad_()
        self._overflow.zero_()
        loss = self._backward(batch, rows)  # the interaction's part of it finds overflow in the gradient of the rows
        step = -self._lr
        if self.loss_scale:
            gradients = [layer.grad for layer in self.model.parameters() if layer.grad is not None]
            torch._amp_foreach_non_finite_check_and_unscale_(gradients, self._overflow, self._one)
            step = step / self.loss_scale.scale
        self.optimizer.dense.step()  # divides by the scale, or does nothing, by itself
        gradient: torch.Tensor = rows.grad  # type: ignore[assignment]  # it went backward
        self._kernels.add_rows(tables.weight, ids, gradient, step, self._overflow)
        if self.loss_scale:
            self.loss_scale.update(self._overflow)
        return loss


def with_kernel(
    parts: Parts, model: DLRM, kernels: GpuKernels | None, precision: str, overflow: torch.Tensor | None = None
) -> Parts:
    """The parts with dot products made by a kernel, where there are any and there is one.

    ``overflow``, a float32 scalar, is raised to 1 by backward passes when a gradient leaves the range of fp16.
    """
    if kernels is None or not isinstance(model.interaction, DotInteraction):
        return parts
    dtype, width = PRECISIONS[precision], model.interaction.width

    def interact(bottom: torch.Tensor | None, rows: torch.Tensor) -> torch.Tensor:
        return kernels.interact(None if bottom is None else bottom.to(dtype), rows.to(dtype), width, overflow)

    return parts._replace(interaction=interact)


def obstacle(model: DLRM, config: TrainingConfig) -> str | None:
    """What keeps a model from a ``FusedStep``; None if nothing does."""
    if not OPTIMIZERS[config.optimizer].is_linear:
        return f"optimizer {config.optimizer}"
    if not isinstance(model.interaction, DotInteraction):
        return f"interaction {model.interaction.name}"
    if model.linear or model.numbers:
        return "linear" if model.linear else "embed_numbers"
    if model.tables.indices_per_lookup > 1:
        return f"{model.tables.indices_per_lookup} ids per feature"
    return None if len(model.tables.sizes) else "no categorical column"
