"""What a training step on a GPU does besides matrix products: embedding rows, their update and the interaction.

Three kernels in Triton, each in as few passes over memory as there can be. None waits for the host, and all shapes
follow from the batch's: a step of them can be captured in a CUDA graph once each has run before.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


class NoTriton(RuntimeError):
    """Triton is not installed, or does not load; the message says why."""


class GpuKernels:
    """The three for one model.

    Raises:
        NoTriton: Triton is not here.
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
        """
        Args:
            sizes: Rows of each of the M tables, which lie one after the other in one float32 buffer [R, D].
            self_interaction: Each vector also meets itself.
            precision: fp32, tf32, bf16 or fp16: how float32 factors of dot products are read. The type of the MLPs is
                that of the tensors.
            deterministic: Row updates give the same bits at every run, more slowly.
            device: Where all tensors lie.
        """
        try:
            from dlrm_lib.backends.cuda import gather, interaction, update
        except ImportError as error:
            raise NoTriton(str(error)) from None
        rows = torch.tensor(sizes, dtype=torch.int64)
        self.offsets = (rows.cumsum(0) - rows).to(device)
        self.self_interaction, self.precision, self.deterministic = self_interaction, precision, deterministic
        self._gather, self._interaction, self._update = gather, interaction, update
        self.columns = update.columns_by_size(sizes, device)

    def gather(self, weight: torch.Tensor, ids: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """int32 [B, M] rows of each table → [B, M, D] in ``dtype``."""
        return self._gather.gather(weight, ids, self.offsets, dtype)

    def interact(
        self, bottom: torch.Tensor | None, rows: torch.Tensor, width: int, overflow: torch.Tensor | None = None
    ) -> torch.Tensor:
        """[B, D] or None and [B, M, D] → [B, width], laid out as in ``DotInteraction``, with its gradient.

        ``overflow``, float32 [1], is set to 1 by the backward pass if a gradient of the inputs is not finite.
        """
        return self._interaction.interact(
            bottom,
            rows,
            width,
            overflow=overflow,
            self_interaction=self.self_interaction,
            precision=self.precision,
        )

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
        if self.deterministic:
            self._update.add_rows_in_order(weight, ids, self.offsets, gradient, step, overflow)
        else:
            self._update.add_rows(weight, ids, self.offsets, self.columns, gradient, step, overflow)
