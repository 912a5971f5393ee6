"""``subnormals.c``, compiled for this machine: arithmetic in which numbers too small to be normal are zero.

Where there is nothing to learn, gradients and with them what an optimizer remembers sink below 1e-38. On x86 each such
number takes many times as long to compute with, and all of that for nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from dlrm_lib.compiler import CannotCompile, library


@contextlib.contextmanager
def as_zero() -> Iterator[None]:
    """Within it, torch's threads and the calling one read and write subnormal numbers as zero.

    Behind it they do not: elsewhere such numbers are the user's own. Without a compiler nothing is changed.
    """
    switch, threads = _compiled(), torch.get_num_threads()
    if switch is None:
        yield
        return
    switch(1, threads)
    try:
        yield
    finally:
        switch(0, threads)


@functools.cache
def _compiled() -> Callable[[int, int], None] | None:
    try:
        function = library(Path(__file__).with_suffix(".c"), "-fopenmp").as_zero
    except CannotCompile:
        return None
    function.restype, function.argtypes = None, [ctypes.c_int, ctypes.c_int]
    return function
