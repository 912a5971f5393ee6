"""The dot interaction on a GPU, forward and backward: one program per sample.

A sample's vectors (27 of 128 numbers: 7 KB in 16 bit) fit in one warp's registers, so a program reads them once and
writes a finished row of the top MLP's input. Plain torch writes and reads again the concatenation, all products of
the square and the picked triangle. The vectors come from two tensors, so nothing is concatenated: slot 0 is the bottom
MLP's output.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from dlrm_lib.backends.cuda.gather import padded

# First choices, not yet measured on a card. 16 vectors are the least that matrix units multiply; NVIDIA's model has two
# warps per sample, and an H100 holds 17 samples per multiprocessor. (One warp would pick the products by 512 shuffles.)
VECTORS_PER_WARP = 16
BLOCK_16_BIT = 128  # values of each vector that are multiplied at once
BLOCK_32_BIT = 32  # Without matrix units all factors of a product go through registers.


def interact(
    bottom: torch.Tensor | None,
    rows: torch.Tensor,
    width: int,
    *,
    self_interaction: bool,
    precision: str,
    overflow: torch.Tensor | None = None,
) -> torch.Tensor:
    """Pairwise dot products in the layout of ``model.interaction.DotInteraction``: [B, width], with its gradient.

    Sums are float32. Per sample of NVIDIA's model in 16 bit, 7.9 KB move forward and 14.8 KB backward.

    Args:
        bottom: The bottom MLP's output [B, D], or None.
        rows: Embedding rows [B, M, D], float32, bfloat16 or float16, like ``bottom``.
        width: Columns of the output; those behind the last product are zero.
        self_interaction: Each vector also meets itself.
        precision: ``tf32`` rounds float32 factors to 10 bits of mantissa for the matrix units; else they are exact.
        overflow: float32 [1], set to 1 by the backward pass if a gradient that it writes is infinite or not a number.
            These are the largest gradients of a step, and checking them here costs no pass over memory.
    """
    return _Interact.apply(bottom, rows, width, self_interaction, "tf32" if precision == "tf32" else "ieee", overflow)


class _Interact(torch.autograd.Function):
    @staticmethod
    def forward(ctx, bottom, rows, width, self_interaction, input_precision, overflow):
        bottom, rows = None if bottom is None else bottom.contiguous(), rows.contiguous()
        ctx.save_for_backward(bottom, rows)
        (batch, columns, dim), has_bottom = rows.shape, int(bottom is not None)
        block = min(padded(dim), BLOCK_32_BIT if rows.dtype == torch.float32 else BLOCK_16_BIT)
        ctx.sizes = width, columns, dim, has_bottom, int(self_interaction), block, input_precision
        ctx.overflow, ctx.warps = overflow, padded(columns + has_bottom) // VECTORS_PER_WARP
        out = rows.new_empty(batch, width)
        _forward[(batch,)](bottom, rows, out, *ctx.sizes, num_warps=ctx.warps)
        return out

    @staticmethod
    def backward(ctx, gradient):
        bottom, rows = ctx.saved_tensors
        to_bottom, to_rows = None if bottom is None else torch.empty_like(bottom), torch.empty_like(rows)
        pointers = bottom, rows, gradient.contiguous(), to_bottom, to_rows, ctx.overflow
        _backward[(len(rows),)](*pointers, *ctx.sizes, num_warps=ctx.warps)
        return to_bottom, to_rows, None, None, None, None


@triton.jit
def _places(bottom, rows, sample, f, d, COLUMNS: tl.constexpr, DIM: tl.constexpr, BOTTOM: tl.constexpr):
    # Where the vectors of a sample lie: [f, d]. The same holds for their gradients.
    places = rows + (sample * COLUMNS + f - BOTTOM) * DIM + d
    if BOTTOM:
        places = tl.where(f == 0, bottom + sample * DIM + d, places)
    return places


@triton.jit
def _forward(
    bottom, rows, out,  # [B, D] or None, [B, M, D], [B, width]
    WIDTH: tl.constexpr, COLUMNS: tl.constexpr, DIM: tl.constexpr, BOTTOM: tl.constexpr, SELF: tl.constexpr,
    BLOCK: tl.constexpr, INPUT_PRECISION: tl.constexpr,
):  # fmt: skip
    VECTORS: tl.constexpr = COLUMNS + BOTTOM
    PADDED: tl.constexpr = padded(COLUMNS + BOTTOM)
    sample = tl.program_id(0).to(tl.int64)
    f = tl.arange(0, PADDED)[:, None]
    products = tl.zeros([PADDED, PADDED], tl.float32)
    for start in range(0, padded(DIM), BLOCK):
        d = start + tl.arange(0, BLOCK)[None, :]
        mask = (f < VECTORS) & (d < DIM)
        x = tl.load(_places(bottom, rows, sample, f, d, COLUMNS, DIM, BOTTOM), mask=mask, other=0.0)
        products = tl.dot(x, tl.trans(x), products, input_precision=INPUT_PRECISION)

    # Each column of the output picks its product, so that the row is written in whole lines of memory; storing the
    # triangle from where it is would write every line many times. Row i of the triangle begins at i (i - 1) / 2; solved
    # for i that has the root of 8 pair + 1. The 4 more keep a root rounded down from falling into the row before.
    column = tl.arange(0, padded(WIDTH))
    pair = column - BOTTOM * DIM
    is_pair = (pair >= 0) & (pair < VECTORS * (VECTORS - 1) // 2 + SELF * VECTORS)
    pair = tl.where(is_pair, pair, 0)
    i = ((tl.sqrt(8.0 * pair + 5.0) + 1.0) * 0.5).to(tl.int32) - SELF
    j = pair - i * (i - 1 + 2 * SELF) // 2
    value = tl.gather(tl.reshape(products, [PADDED * PADDED]), i * PADDED + j, 0)
    value = tl.where(is_pair, value, 0.0)
    if BOTTOM:
        value += tl.load(bottom + sample * DIM + column, mask=column < DIM, other=0.0)
    tl.store(out + sample * WIDTH + column, value.to(out.dtype.element_ty), mask=column < WIDTH)


@triton.jit
def _backward(
    bottom, rows, gradient, to_bottom, to_rows, overflow,  # gradient of the output: [B, width]
    WIDTH: tl.constexpr, COLUMNS: tl.constexpr, DIM: tl.constexpr, BOTTOM: tl.constexpr, SELF: tl.constexpr,
    BLOCK: tl.constexpr, INPUT_PRECISION: tl.constexpr,
):  # fmt: skip
    # P = X Xᵀ, so a gradient G of P gives (G + Gᵀ) X. G has the lower triangle only: both halves of the sum are read
    # from it. A vector with itself counts twice.
    VECTORS: tl.constexpr = COLUMNS + BOTTOM
    PADDED: tl.constexpr = padded(COLUMNS + BOTTOM)
    sample = tl.program_id(0).to(tl.int64)
    f, g = tl.arange(0, PADDED)[:, None], tl.arange(0, PADDED)[None, :]
    i, j = tl.maximum(f, g), tl.minimum(f, g)
    pair = i * (i - 1 + 2 * SELF) // 2 + j
    from_ = gradient + sample * WIDTH
    both = tl.load(from_ + BOTTOM * DIM + pair, mask=(i < VECTORS) & (j < i + SELF), other=0.0)  # G + Gᵀ
    if SELF:
        both = tl.where(f == g, both + both, both)
    for start in range(0, padded(DIM), BLOCK):
        d = start + tl.arange(0, BLOCK)[None, :]
        mask = (f < VECTORS) & (d < DIM)
        x = tl.load(_places(bottom, rows, sample, f, d, COLUMNS, DIM, BOTTOM), mask=mask, other=0.0)
        total = tl.dot(both, x, input_precision=INPUT_PRECISION)
        if BOTTOM:
            copied = (f == 0) & (d < DIM)  # The bottom MLP's output was also copied to the output.
            total += tl.load(from_ + f * 0 + d, mask=copied, other=0.0)
        total = total.to(rows.dtype.element_ty)
        tl.store(_places(to_bottom, to_rows, sample, f, d, COLUMNS, DIM, BOTTOM), total, mask=mask)
        if overflow is not None:
            # Checked as rounded: 65520 is finite in float32 and infinite in float16. NaN is not below infinity either.
            finite = tl.abs(total.to(tl.float32)) < float("inf")
            if tl.min(tl.min(finite.to(tl.int32), 1), 0) == 0:
                tl.store(overflow, 1.0)
