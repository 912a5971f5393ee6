"""Numbers as vectors."""

from __future__ import annotations

import torch
from torch import nn


class NumberVectors(nn.Module):
    """A vector for each number, as tables give one for each category.

    Encoded numbers are logarithms. Each column has vectors for the whole numbers from 0 on, and a number lies between
    two: its vector is the mean of the two, weighted by nearness. So what a column tells is any function of it that is
    straight from one whole number to the next, where the bottom MLP must find its bends among those of all columns.

    Source: Gorishniy, Rubachev and Babenko 2022, "On Embeddings for Numerical Features in Tabular Deep Learning".

    Attributes:
        weight: float32 parameter [N, ``whole_numbers``, D].
    """

    whole_numbers = 24  # e**23 is beyond the integers of click logs

    def __init__(self, numbers: int, dim: int, init: float | None) -> None:
        """Draws N times as many vectors of D numbers from uniform(±init), by default as for a table of these rows."""
        super().__init__()
        largest = self.whole_numbers**-0.5 if init is None else init
        self.weight = nn.Parameter(torch.empty(numbers, self.whole_numbers, dim).uniform_(-largest, largest))

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Encoded numbers, float32 [B, N] → their vectors, float32 [B, N, D]; beyond the ends, the vectors there."""
        numbers = numbers.clamp(0, self.whole_numbers - 1)
        below = numbers.floor().clamp_max(self.whole_numbers - 2)
        columns = torch.arange(len(self.weight), device=numbers.device) * self.whole_numbers
        rows, table = below.long() + columns, self.weight.flatten(0, 1)
        return nn.functional.embedding(rows, table).lerp(
            nn.functional.embedding(rows + 1, table), (numbers - below).unsqueeze(2)
        )
