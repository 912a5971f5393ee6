"""The GPU's kernels in plain torch: the oracle that they are tested against, and what a step runs on without a GPU.

It is put together from the model's own parts, so that there is one formula of each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dlrm_lib.config import ModelConfig
from dlrm_lib.model.embedding import TableLayout
from dlrm_lib.model.interactions.dot import DotInteraction


class TorchKernels:
    """As ``GpuKernels``, on any device, in more passes over memory; it waits for the host no more than they do."""

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        self_interaction: bool,
        precision: str,
        deterministic: bool,
        device: torch.device | str,
    ) -> None:
        rows = torch.tensor(sizes, dtype=torch.int64, device=device)
        self._tables = TableLayout(rows, rows, rows.cumsum(0) - rows, zero_row=-1, hash_indices=False)
        self.self_interaction, self.precision, self.deterministic = self_interaction, precision, deterministic

    def gather(self, weight: torch.Tensor, ids: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """int32 [B, M] rows of each table → [B, M, D] in ``dtype``."""
        rows = self._tables.row_ids(ids).flatten()
        return weight.index_select(0, rows).to(dtype).view(*ids.shape, weight.shape[1])

    def interact(
        self, bottom: torch.Tensor | None, rows: torch.Tensor, width: int, overflow: torch.Tensor | None = None
    ) -> torch.Tensor:
        """[B, D] or None and [B, M, D] → [B, width], with its gradient.

        ``overflow``, float32 [1], is set to 1 by the backward pass if a gradient of the inputs is not finite.
        """
        has_bottom, (_, columns, dim) = bottom is not None, rows.shape
        config = ModelConfig(embedding_dim=dim, bottom_mlp_sizes=(dim,), self_interaction=self.self_interaction)
        interaction = DotInteraction(columns + has_bottom, has_bottom, config).to(rows.device)
        assert interaction.width == width
        if overflow is not None:
            rows, bottom = _watched(rows, overflow), _watched(bottom, overflow) if has_bottom else None
        return interaction(bottom, rows)

    def add_rows(
        self,
        weight: torch.Tensor,
        ids: torch.Tensor,
        gradient: torch.Tensor,
        step: torch.Tensor,
        overflow: torch.Tensor,
    ) -> None:
        """Adds ``step`` times [B, M, D] to the rows that ``ids`` name; no bit changes unless ``overflow`` is 0."""
        # Infinity times zero is not a number, so the change is replaced, not multiplied; and by minus zero, because
        # adding plus zero to minus zero changes a bit.
        change = torch.where(overflow == 0, gradient.float() * step, -0.0).flatten(0, 1)
        rows = self._tables.row_ids(ids).flatten()
        if self.deterministic:
            weight.index_put_((rows,), change, accumulate=True)  # sorts on a GPU, where index_add_ has atomics
        else:
            weight.index_add_(0, rows, change)


def _watched(tensor: torch.Tensor, overflow: torch.Tensor) -> torch.Tensor:
    """The tensor; ``overflow`` becomes 1 if its gradient, once known, is infinite or not a number somewhere."""

    def watch(gradient: torch.Tensor) -> None:
        overflow.masked_fill_(~gradient.isfinite().all(), 1.0)

    watched = tensor.view_as(tensor)
    if watched.requires_grad:
        watched.register_hook(watch)
    return watched
