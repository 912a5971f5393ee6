"""Numbers on one scale."""

from __future__ import annotations

import torch
from torch import nn


class Standardise(nn.Module):
    """Shifts and scales each number to mean 0 and deviation 1, by rows that were measured once.

    Until then it passes numbers on. Unlike batch normalisation it is the same function in training and in use, whatever
    else is in the batch.

    Attributes:
        rows: Rows measured, int64 scalar.
        mean: Of each number, float32 [N].
        variance: Of each number, float32 [N].
    """

    epsilon = 1e-5  # added to the variance: a constant column becomes zero

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(numbers))
        self.register_buffer("variance", torch.full((numbers,), 1 - self.epsilon))

    def measure(self, numbers: torch.Tensor) -> None:
        """Learns mean and variance from float32 [rows, N], on any device."""
        variance, mean = torch.var_mean(numbers.double(), 0, correction=0)
        self.rows.fill_(len(numbers))
        self.mean.copy_(mean)
        self.variance.copy_(variance)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """float32 [B, N] → float32 [B, N]."""
        return (numbers - self.mean) * (self.variance + self.epsilon).rsqrt()
