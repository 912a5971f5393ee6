"""The rows of one step."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Batch(NamedTuple):
    """Rows for one step.

    Attributes:
        numerical: float32 [B, N].
        categorical: int32 [B, M], ids within each column; [B, M, L] where a feature has L ids.
        label: float32 [B], 0 or 1.
    """

    numerical: torch.Tensor
    categorical: torch.Tensor
    label: torch.Tensor
