"""Functions compiled by numba, kept on disk between runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numba


def compiled(function: Callable) -> Callable:
    """``numba.njit`` with an on-disk cache: compiling takes seconds, loading milliseconds.

    numba caches beside the source file or, where that is read-only, in the user's cache folder; set NUMBA_CACHE_DIR to
    choose another. Where none can be written, every process compiles for itself: slower to start, otherwise the same.
    """
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        warnings.warn("numba finds no writable folder for compiled code: set NUMBA_CACHE_DIR to one.", stacklevel=2)
        return numba.njit(nogil=True)(function)
