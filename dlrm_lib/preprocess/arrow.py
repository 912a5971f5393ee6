"""NumPy's arrays and Python's bytes as Arrow's arrays.

``pyarrow.array`` imports pandas before it looks at anything, which takes every worker half a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa


def numbers(values: np.ndarray) -> pa.Array:
    """Numbers [n] of any NumPy type that Arrow has, none of them missing; shares their memory where it can."""
    import pyarrow as pa

    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def texts(words: Sequence[bytes]) -> pa.LargeStringArray:
    """Texts in UTF-8."""
    import pyarrow as pa

    ends = np.fromiter(accumulate(map(len, words), initial=0), np.int64)
    return pa.LargeStringArray.from_buffers(len(words), pa.py_buffer(ends), pa.py_buffer(b"".join(words)))
