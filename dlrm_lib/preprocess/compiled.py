"""Functions compiled by numba, kept on disk between runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic


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


@intrinsic
def load8(typing_context, data, at):
    """Eight bytes of a uint8 array as one uint64, at any address: one instruction where Python has only bytes."""

    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.gep(array.data, [arguments[1]])
        word = builder.load(builder.bitcast(address, ir.IntType(64).as_pointer()))
        word.align = 1
        return word

    return types.uint64(data, types.intp), generate
