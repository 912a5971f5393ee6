"""``kernels.c``, compiled for this machine and one shape of model, and called on torch's tensors.

Plain torch does the same in more passes over memory; it is what runs where there is no compiler, and the oracle that
these kernels are tested against.
"""

from __future__ import annotations

import ctypes
import functools
import platform
from pathlib import Path
from typing import Any

import torch

from dlrm_lib.compiler import library


class CpuKernels:
    """Interaction and row updates for embeddings of one length, with as many threads as torch uses.

    Args:
        dim: Length D of an embedding.
        vectors: F, how many vectors interact.
        self_interaction: Each also with itself.

    Raises:
        CannotCompile: no compiler with OpenMP is here, or it does not manage.
    """

    def __init__(self, dim: int, vectors: int, self_interaction: bool) -> None:
        self._c = _compiled(dim, vectors, self_interaction)
        self._slots = torch.empty(0, dtype=torch.int32)

    def interact(self, bottom: torch.Tensor | None, rows: torch.Tensor, width: int) -> torch.Tensor:
        """[B, D] or None and [B, M, D] → [B, width] in float32, as ``DotInteraction`` has it, with its gradient."""
        first = rows.new_empty(len(rows), 0) if bottom is None else bottom
        with torch.autocast("cpu", enabled=False):
            return _Interact.apply(first.float(), rows.float(), width, self)

    def add_rows(self, weight: torch.Tensor, row_ids: torch.Tensor, gradient: torch.Tensor, scale: float) -> None:
        """``weight[row] += scale * gradient``, in place: row_ids int64 [K], gradient float32 [K, D]."""
        gradient = gradient.contiguous()
        self._c.add_rows(*_at(weight, row_ids, gradient), len(row_ids), scale, torch.get_num_threads())

    def sum_rows(
        self, weight: torch.Tensor, row_ids: torch.Tensor, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Each row once, int64 [K'], and the sum of its gradients, float32 [K', D]."""
        if len(self._slots) != len(weight):
            self._slots = torch.full((len(weight),), -1, dtype=torch.int32)
        distinct, total, gradient = torch.empty_like(row_ids), torch.empty_like(gradient), gradient.contiguous()
        place = torch.empty(len(row_ids), dtype=torch.int32)
        count = self._c.sum_rows(
            *_at(row_ids, gradient), len(row_ids), *_at(distinct, total, self._slots, place), torch.get_num_threads()
        )
        return distinct[:count], total[:count]


class _Interact(torch.autograd.Function):
    @staticmethod
    def forward(ctx, first: torch.Tensor, rows: torch.Tensor, width: int, kernels: CpuKernels) -> torch.Tensor:
        first, rows = first.contiguous(), rows.contiguous()
        ctx.save_for_backward(first, rows)
        ctx.kernels = kernels
        out = rows.new_empty(len(rows), width)
        kernels._c.interact(*_at(first, rows, out), *_sizes(first, width))
        return out

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple:
        first, rows = ctx.saved_tensors
        gradient = gradient.contiguous()
        to_first, to_rows = torch.empty_like(first), torch.empty_like(rows)
        sizes = _sizes(first, gradient.shape[1])
        ctx.kernels._c.interact_backward(*_at(first, rows, gradient, to_first, to_rows), *sizes)
        return to_first, to_rows, None, None


def _sizes(first: torch.Tensor, width: int) -> tuple[int, int, int, int]:
    return len(first), int(first.shape[1] > 0), width, torch.get_num_threads()


def _at(*tensors: torch.Tensor) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


@functools.cache
def _compiled(dim: int, vectors: int, self_interaction: bool) -> ctypes.CDLL:
    wide = ["-mprefer-vector-width=512"] if platform.machine() in ("x86_64", "AMD64") else []
    shape = [f"-DDIM={dim}", f"-DVECTORS={vectors}", f"-DSELF={int(self_interaction)}"]
    return _declared(library(Path(__file__).with_suffix(".c"), "-fopenmp", *wide, *shape))


def _declared(kernels: ctypes.CDLL) -> ctypes.CDLL:
    pointer, number, threads = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    for name, result, arguments in (
        ("interact", number, [pointer] * 3 + [number] * 3 + [threads]),
        ("interact_backward", number, [pointer] * 5 + [number] * 3 + [threads]),
        ("add_rows", None, [pointer] * 3 + [number, ctypes.c_float, threads]),
        ("sum_rows", number, [pointer] * 2 + [number] + [pointer] * 4 + [threads]),
    ):
        function = getattr(kernels, name)
        function.restype, function.argtypes = result, arguments
    kernels.interact.errcheck = kernels.interact_backward.errcheck = _had_memory
    return kernels


def _had_memory(lacking: Any, *_: object) -> Any:
    if lacking:
        raise MemoryError(f"the products of all pairs of vectors need {lacking:,} bytes of memory, which are not there")
    return lacking
