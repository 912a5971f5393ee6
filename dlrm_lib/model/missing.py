"""Inputs that tell missing numbers from the others."""

from __future__ import annotations

import torch
from torch import nn


class MissingFlags(nn.Module):
    """Marks missing numbers.

    The encoding gives a missing number a place among the others, where a smooth function treats it like its neighbours;
    that it is missing often says more than any value would.
    """

    def __init__(self, missing_number: float) -> None:
        """``missing_number`` is what the encoding wrote for it (see ``FeatureSpec``)."""
        super().__init__()
        self.missing_number = missing_number

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Encoded numbers, float32 [B, N] → float32 [B, N]: 1 where one is missing, else 0."""
        return (numbers == self.missing_number).float()
