"""Bad values, found at the speed of reading.

A good batch, which nearly all are, costs a few passes that take a maximum. Only a bad one is searched for its row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Read as an integer without sign, a float32 below this is neither negative nor infinite nor NaN. A negative one is at
# least 0x80000000, and so below zero when it is read with a sign.
_INFINITY = 0x7F80_0000
_MINUS_INFINITY = 0xFF80_0000
_ONE = 0x3F80_0000
_ROWS_AT_ONCE = 32


class Fault(NamedTuple):
    """A value that no model can take.

    Attributes:
        part: ``categorical``, ``numerical`` or ``label``: what the value was to be.
        row: Its row in the batch.
        column: Its column in that part.
        value: The value.
    """

    part: str
    row: int
    column: int
    value: int | float


def first_fault(
    numerical: np.ndarray, categorical: np.ndarray, label: np.ndarray, cardinalities: np.ndarray
) -> Fault | None:
    """The first id outside its column's vocabulary, number that is not finite, or label that is not 0 or 1.

    Args:
        numerical: float32 [B, N], contiguous.
        categorical: int32 [B, M], contiguous.
        label: float32 [B], made from integers.
        cardinalities: uint32 [M].
    """
    # A negative id becomes a large one without sign, so that one comparison finds both faults.
    ids = categorical.view(np.uint32)
    if ids.size and (_column_maxima(ids) >= cardinalities).any():
        row, column = np.argwhere(ids >= cardinalities)[0]
        return Fault("categorical", int(row), int(column), int(categorical[row, column]))
    if numerical.size and not _finite(numerical):
        row, column = np.argwhere(~np.isfinite(numerical))[0]
        return Fault("numerical", int(row), int(column), float(numerical[row, column]))
    if label.size and label.view(np.uint32).max() > _ONE:
        row = int(np.argmax(label.view(np.uint32) > _ONE))
        return Fault("label", row, 0, int(label[row]))
    return None


def _finite(numbers: np.ndarray) -> bool:
    """Whether all are, by their bits: infinities and NaNs are the largest of each sign."""
    return numbers.view(np.int32).max() < _INFINITY and numbers.view(np.uint32).max() < _MINUS_INFINITY


def _column_maxima(values: np.ndarray) -> np.ndarray:
    """The greatest value of each column of [B, M]."""
    rows, columns = values.shape
    # Seen as fewer, wider rows: NumPy's inner loop needs length to be fast, and M alone is short.
    tail = rows % _ROWS_AT_ONCE
    wide = values[: rows - tail].reshape(-1, _ROWS_AT_ONCE * columns)
    if not len(wide):
        return values.max(axis=0)
    maxima = wide.max(axis=0).reshape(_ROWS_AT_ONCE, columns).max(axis=0)
    return np.maximum(maxima, values[-tail:].max(axis=0)) if tail else maxima
