"""Functions compiled by numba, kept on disk between runs.

numba is imported when the first of them is called. The process that plans the work only names them, and starts half a
second earlier for it.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any


class compiled:
    """``numba.njit`` with an on-disk cache: compiling takes seconds, loading milliseconds.

    numba caches beside the source file or, where that is read-only, in the user's cache folder; set NUMBA_CACHE_DIR to
    choose another. Where none can be written, every process compiles for itself: slower to start, otherwise the same.
    """

    def __init__(self, function: Callable) -> None:
        functools.update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        return self.dispatcher(*arguments)

    @functools.cached_property
    def dispatcher(self) -> Callable:
        """What numba makes of the function."""
        import numba

        _tell_numba()
        function = self.__wrapped__  # type: ignore[attr-defined]  # of update_wrapper
        try:
            return numba.njit(cache=True, nogil=True)(function)
        except RuntimeError:
            warnings.warn("numba finds no writable folder for compiled code: set NUMBA_CACHE_DIR to one.", stacklevel=2)
            return numba.njit(nogil=True)(function)


def load8(data, at):
    """Eight bytes of a uint8 array as one uint64, at any address: one instruction in compiled code, which has it."""
    return int.from_bytes(data[at : at + 8], "little")


@functools.cache
def _tell_numba() -> None:
    """What compiled code is to make of functions of this module, and of other compiled functions that it calls."""
    from llvmlite import ir
    from numba.core import types
    from numba.extending import intrinsic, overload, typeof_impl

    @typeof_impl.register(compiled)
    def type_of(function, context):
        return typeof_impl(function.dispatcher, context)

    @intrinsic
    def load(typing_context, data, at):
        def generate(context, builder, signature, arguments):
            array = context.make_array(signature.args[0])(context, builder, arguments[0])
            address = builder.gep(array.data, [arguments[1]])
            word = builder.load(builder.bitcast(address, ir.IntType(64).as_pointer()))
            word.align = 1
            return word

        return types.uint64(data, types.intp), generate

    @overload(load8, inline="always")
    def compiled_load8(data, at):
        return lambda data, at: load(data, at)
