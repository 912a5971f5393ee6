"""Numbers unlike those a model was made for: the first suspects when its loss runs away."""

from __future__ import annotations

import math

import torch

from dlrm_lib.model import DLRM
from dlrm_lib.model.layers import Standardise

_FAR = 30.0  # deviations: the heaviest tails of measured columns reach twenty
_LARGEST = math.log(2.0**64)  # no logarithm of an integer of 64 bits is larger
_FEW = 0.01  # share of the rows; where a model bounds its inputs, so few cannot be what is wrong


def strange_numbers(model: DLRM, numerical: torch.Tensor, place: str) -> str | None:
    """Names the column with most numbers that the model was not made for, and the farthest of them.

    A model that standardises its inputs was made for those it measured, and for what lies within its bounds. Any other
    takes logarithms, as ``preprocess`` writes them.

    Args:
        model: On any device.
        numerical: Encoded numbers, float32 [rows, N], finite.
        place: What the rows are: "the last batch".

    Returns:
        A line for a person; None if there is nothing strange.
    """
    numbers = numerical.cpu()
    low, high, bounded = _made_for(model, numbers)
    beyond = torch.maximum(low - numbers, numbers - high)
    counts = (beyond > 0).sum(0)
    if not counts.numel() or counts.max() == 0 or (bounded and counts.max() < _FEW * len(numbers)):
        return None
    column = int(counts.argmax())
    row, name = int(beyond[:, column].argmax()), model.spec.columns.numerical_names[column]
    others = int((counts > 0).sum()) - 1
    more = f", as are some of {others} more column{'s' * (others > 1)}" if others else ""
    return (
        f"numerical column {name} is {numbers[row, column]:.4g} in row {row:,} of {place}, and the "
        f"model was made for {low[column]:.4g} to {high[column]:.4g}: {int(counts[column]):,} of {len(numbers):,} rows "
        f"are outside{more}"
    )


def _made_for(model: DLRM, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """The least and the largest number of each column, and whether the model takes others for these."""
    of = model.standardise
    if not isinstance(of, Standardise) or not of.rows:
        largest = torch.full(numbers.shape[1:], _LARGEST)
        return -largest, largest, False
    far = _FAR * (of.variance + of.epsilon).sqrt()
    bounded = bool((of.high < of.unbounded).all())
    return torch.maximum(of.low, of.mean - far).cpu(), torch.minimum(of.high, of.mean + far).cpu(), bounded
