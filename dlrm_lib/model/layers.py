"""The plain layers of the network, and what it makes of encoded numbers before them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import nn


def mlp(inputs: int, sizes: tuple[int, ...], *, last_is_linear: bool) -> nn.Sequential:
    """Linear layers with ReLU between them: [B, inputs] → [B, sizes[-1]].

    Weights are drawn from normal(0, sqrt(2 / (in + out))), biases from normal(0, sqrt(1 / out)), as in NVIDIA's DLRM.

    Args:
        inputs: Width of the input.
        sizes: Width of each layer's output.
        last_is_linear: Leave out the last ReLU, for layers that end in a logit.
    """
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise((inputs, *sizes)):
        linear = nn.Linear(fan_in, fan_out)
        nn.init.normal_(linear.weight, 0.0, math.sqrt(2.0 / (fan_in + fan_out)))
        nn.init.normal_(linear.bias, 0.0, math.sqrt(1.0 / fan_out))
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*(layers[:-1] if last_is_linear else layers))


class Standardise(nn.Module):
    """Shifts and scales each number to mean 0 and deviation 1, by rows that were measured once, within bounds.

    Until then it passes numbers on. Unlike batch normalisation it is the same function in training and in use, whatever
    else is in the batch.

    What was never measured must not shout down what was. A column is steady if it has one value in all measured rows
    but one in a thousand; nothing was learned from it, and to divide by its deviation would make any later change of it
    thousands of times as large as all other inputs. It counts by one at most, and other numbers by at most ``reach``
    deviations more than those measured, which are left as they are.

    Attributes:
        rows: Rows measured, int64 scalar.
        mean: Of each number, float32 [N].
        variance: Of each number, float32 [N]; 1 for a steady column.
        low, high: Smaller and larger numbers are taken for these, float32 [N].
    """

    epsilon = 1e-5  # added to the variance
    least_deviation = 0.1  # encoded numbers are logarithms: a spread of ten per cent
    steady = 0.999  # share of rows with one value
    reach = 4.0
    unbounded = 1e30  # beyond any number, while a sum of such is still finite

    rows: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(numbers))
        self.register_buffer("variance", torch.full((numbers,), 1 - self.epsilon))
        self.register_buffer("low", torch.full((numbers,), -self.unbounded))
        self.register_buffer("high", torch.full((numbers,), self.unbounded))

    def measure(self, numbers: torch.Tensor) -> None:
        """Learns what it needs from float32 [rows, N], on any device."""
        variance, mean = torch.var_mean(numbers.double(), 0, correction=0)
        # The value of most rows, where there is one, is their median.
        is_steady = (numbers == numbers.median(0).values).double().mean(0) >= self.steady
        variance = torch.where(is_steady, 1.0, variance.clamp_min(self.least_deviation**2))
        lowest, highest = torch.aminmax(numbers, dim=0)
        margin = self.reach * variance.sqrt()
        self.rows.fill_(len(numbers))
        self.mean.copy_(mean)
        self.variance.copy_(variance)
        self.low.copy_(torch.where(is_steady, mean - 1, lowest - margin))
        self.high.copy_(torch.where(is_steady, mean + 1, highest + margin))

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """float32 [B, N] → float32 [B, N]."""
        return (numbers.clamp(self.low, self.high) - self.mean) * (self.variance + self.epsilon).rsqrt()


class MissingFlags(nn.Module):
    """Inputs that tell missing numbers from the others.

    The encoding gives a missing number a place among the others, where a smooth function treats it like its neighbours;
    that it is missing often says more than any value would.
    """

    missing_numbers: torch.Tensor

    def __init__(self, missing_numbers: Sequence[float]) -> None:
        """``missing_numbers`` is what the encoding wrote for one in each column (see ``FeatureSpec``)."""
        super().__init__()
        self.register_buffer("missing_numbers", torch.tensor(missing_numbers), persistent=False)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Encoded numbers, float32 [B, N] → float32 [B, N]: 1 where one is missing, else 0."""
        return (numbers == self.missing_numbers).float()


class NumberEmbedding(nn.Module):
    """A vector for each number, as tables give one for each category.

    Each column has vectors for evenly spaced numbers: for the whole numbers from 0 on, where encoded numbers are
    logarithms of integers. A number lies between two: its vector is the mean of the two, weighted by nearness. So what
    a column tells is any function of it that is straight from one such number to the next, where the bottom MLP must
    find its bends among those of all columns.

    Source: Gorishniy, Rubachev and Babenko 2022, "On Embeddings for Numerical Features in Tabular Deep Learning".

    Attributes:
        weight: float32 parameter [N, ``whole_numbers``, D].
    """

    whole_numbers = 24  # e**23 is beyond the integers of click logs
    low: torch.Tensor
    per_unit: torch.Tensor

    def __init__(self, spans: Sequence[tuple[float, float]], dim: int, init: float | None) -> None:
        """Draws N times as many vectors of D numbers from uniform(±init), by default as for a table of these rows.

        ``spans`` are the ends of the N columns: the numbers of their first and of their last vector.
        """
        super().__init__()
        numbers = len(spans)
        low, high = torch.tensor(spans, dtype=torch.float32).reshape(numbers, 2).T
        self.register_buffer("low", low.clone(), persistent=False)
        self.register_buffer("per_unit", (self.whole_numbers - 1) / (high - low), persistent=False)
        largest = self.whole_numbers**-0.5 if init is None else init
        self.weight = nn.Parameter(torch.empty(numbers, self.whole_numbers, dim).uniform_(-largest, largest))

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Encoded numbers, float32 [B, N] → their vectors, float32 [B, N, D]; beyond the ends, the vectors there."""
        numbers = ((numbers - self.low) * self.per_unit).clamp(0, self.whole_numbers - 1)
        below = numbers.floor().clamp_max(self.whole_numbers - 2)
        columns = torch.arange(len(self.weight), device=numbers.device) * self.whole_numbers
        rows, table = below.long() + columns, self.weight.flatten(0, 1)
        return nn.functional.embedding(rows, table).lerp(
            nn.functional.embedding(rows + 1, table), (numbers - below).unsqueeze(2)
        )
