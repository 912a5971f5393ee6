"""``take.c``, compiled for this machine and called on NumPy's arrays. NumPy's own ``take`` does the same, slower."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dlrm_lib.compiler import library


class Take:
    """Copies scattered rows of a data set that is stored column by column; any number of threads may at once.

    Args:
        label: uint8 [rows].
        numerical: float16 [rows, N].
        categorical: M arrays of int8, int16 or int32, [rows] or, with up to L ids in a row, [rows, L]; all contiguous.

    Raises:
        CannotCompile: no compiler is here, or it does not manage: float16 takes gcc 12 or clang 15.
    """

    def __init__(self, label: np.ndarray, numerical: np.ndarray, categorical: list[np.ndarray]) -> None:
        self._take = _compiled()
        # One slot for each id of a row: where the first row's is, its bytes, and how far the next row's lies behind it.
        slots = [
            (ids.ctypes.data + place * ids.itemsize, ids.itemsize, bag * ids.itemsize)
            for ids in categorical
            for bag in [ids.shape[1] if ids.ndim == 2 else 1]
            for place in range(bag)
        ]
        self._rows, count = len(label), len(slots)
        self._arrays = label, numerical, categorical  # what the addresses point to stays
        self._from = (
            (ctypes.c_void_p * count)(*[address for address, _, _ in slots]),
            (ctypes.c_int64 * count)(*[size for _, size, _ in slots]),
            (ctypes.c_int64 * count)(*[step for _, _, step in slots]),
            count,
            numerical.ctypes.data,
            numerical.shape[1],
            label.ctypes.data,
        )

    def __call__(self, rows: np.ndarray, numerical: np.ndarray, categorical: np.ndarray, label: np.ndarray) -> None:
        """Copies ``rows``, int64 [B], into contiguous float32 [B, N], int32 [B, slots] and float32 [B].

        Raises:
            IndexError: a row that does not exist.
        """
        rows = np.ascontiguousarray(rows, np.int64)
        if rows.view(np.uint64).max(initial=0) >= self._rows:  # a negative one becomes a large one
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {self._rows}")
        to = (array.ctypes.data for array in (categorical, numerical, label))
        self._take(*self._from, rows.ctypes.data, len(rows), *to)


@functools.cache
def _compiled() -> Callable[..., None]:
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    function = library(Path(__file__).with_suffix(".c")).take
    function.restype = None
    function.argtypes = [*[pointer] * 3, number, pointer, number, pointer, pointer, number, *[pointer] * 3]
    return function
