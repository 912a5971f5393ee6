"""What a training step on a GPU does besides matrix products: embedding rows, their update and the interaction.

``GpuKernels`` does it in Triton; ``TorchKernels`` does the same in plain torch, in more passes over memory. That is
what runs where there is no Triton, and the oracle that the kernels are tested against. Neither waits for the host, and
all shapes follow from the batch's: a step of them can be captured in a CUDA graph once each method has run before.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


class NoTriton(RuntimeError):
    """Triton is not installed, or does not load; the message says why."""


class TorchKernels:
    """The three in plain torch, for one model.

    Args:
        sizes: Rows of each of the M tables, which lie one after the other in one float32 buffer [R, D].
        self_interaction: Each vector also meets itself.
        precision: fp32, tf32, bf16 or fp16: how float32 factors of dot products are read. The type of the MLPs is that
            of the tensors; plain torch leaves tf32 to ``torch.backends.cuda.matmul``.
        deterministic: Row updates give the same bits at every run, more slowly.
        device: Where all tensors lie.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        self_interaction: bool,
        precision: str,
        deterministic: bool,
        device: torch.device | str,
    ) -> None:
        rows = torch.tensor(sizes, dtype=torch.int64)
        self.offsets = (rows.cumsum(0) - rows).to(device)
        self.self_interaction, self.precision, self.deterministic = self_interaction, precision, deterministic

    def gather(self, weight: torch.Tensor, ids: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """int32 [B, M] rows of each table → [B, M, D] in ``dtype``."""
        return weight.index_select(0, (ids + self.offsets).flatten()).to(dtype).view(*ids.shape, weight.shape[1])

    def interact(
        self, bottom: torch.Tensor | None, rows: torch.Tensor, width: int, overflow: torch.Tensor | None = None
    ) -> torch.Tensor:
        """[B, D] or None and [B, M, D] → [B, width], laid out as in ``DotInteraction``, with its gradient.

        ``overflow``, float32 [1], is set to 1 by the backward pass if a gradient of the inputs is not finite.
        """
        if overflow is not None:
            rows, bottom = _watched(rows, overflow), bottom if bottom is None else _watched(bottom, overflow)
        vectors = rows if bottom is None else torch.cat([bottom.unsqueeze(1), rows], dim=1)
        count = vectors.shape[1]
        i, j = torch.tril_indices(count, count, offset=0 if self.self_interaction else -1, device=rows.device)
        products = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1).index_select(1, i * count + j)
        parts = [products] if bottom is None else [bottom, products]
        zeros = rows.new_zeros(len(rows), width - sum(part.shape[1] for part in parts))
        return torch.cat([*parts, zeros], dim=1)

    def add_rows(
        self,
        weight: torch.Tensor,
        ids: torch.Tensor,
        gradient: torch.Tensor,
        step: torch.Tensor,
        overflow: torch.Tensor,
    ) -> None:
        """Adds ``step`` times [B, M, D] to the rows that ``ids`` name; no bit changes unless ``overflow`` is 0.

        ``step`` and ``overflow``, float32 [1], are read when the GPU gets there.
        """
        # Infinity times zero is not a number, so the change is replaced, not multiplied; and by minus zero, because
        # adding plus zero to minus zero changes a bit.
        change = torch.where(overflow == 0, gradient.float() * step, -0.0).flatten(0, 1)
        rows = (ids + self.offsets).flatten()
        if self.deterministic:
            weight.index_put_((rows,), change, accumulate=True)  # sorts on a GPU, where index_add_ has atomics
        else:
            weight.index_add_(0, rows, change)


class GpuKernels(TorchKernels):
    """The same three, each in as few passes over memory as there can be, in Triton.

    Raises:
        NoTriton: Triton is not here.
    """

    def __init__(self, sizes: Sequence[int], *, device: torch.device | str, **settings) -> None:
        try:
            from dlrm_lib.kernels import gather, interaction, update
        except ImportError as error:
            raise NoTriton(str(error)) from None
        super().__init__(sizes, device=device, **settings)
        self._gather, self._interaction, self._update = gather, interaction, update
        self.columns = update.columns_by_size(sizes, device)

    def gather(self, weight, ids, dtype):
        return self._gather.gather(weight, ids, self.offsets, dtype)

    def interact(self, bottom, rows, width, overflow=None):
        settings = {"self_interaction": self.self_interaction, "precision": self.precision}
        return self._interaction.interact(bottom, rows, width, overflow=overflow, **settings)

    def add_rows(self, weight, ids, gradient, step, overflow):
        if self.deterministic:
            self._update.add_rows_in_order(weight, ids, self.offsets, gradient, step, overflow)
        else:
            self._update.add_rows(weight, ids, self.offsets, self.columns, gradient, step, overflow)


def _watched(tensor: torch.Tensor, overflow: torch.Tensor) -> torch.Tensor:
    """The tensor; ``overflow`` becomes 1 if its gradient, once known, is infinite or not a number somewhere."""

    def watch(gradient: torch.Tensor) -> None:
        overflow.masked_fill_(~gradient.isfinite().all(), 1.0)

    watched = tensor.view_as(tensor)
    if watched.requires_grad:
        watched.register_hook(watch)
    return watched
