"""Adding gradients to embedding rows on a GPU: row += step · gradient, where a batch has many rows many times.

The MLPs' gradients are summed by the matrix products; those of embedding rows are scattered over gigabytes. Two ways:
by atomic additions, in whatever order they arrive, or in a fixed order, which gives the same bits at every run. Both
read the step size and the overflow flag on the GPU, so that a captured graph sees new values and nothing waits for the
host. If the flag is not zero, no bit of the tables changes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from dlrm_lib.backends.cuda.gather import padded

# Tables of at most so many rows are summed before they are added to.
SMALL = 128

# First choices, not yet measured on a card.
LOOKUPS, WARPS = 16, 4  # as in gather.py
SAMPLES, STEP_16_BIT, STEP_32_BIT, SMALL_WARPS = 256, 64, 16, 8  # of a small table per program, and per product
ENTRIES, ORDER_WARPS = 64, 4  # sorted lookups per block
PARTS = 16  # blocks of a long run that are read at once
BLOCK_16_BIT, BLOCK_32_BIT = 128, 32  # values of a row in one product


def columns_by_size(sizes: Sequence[int], device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
    """The columns with large and those with small tables, int32: what ``add_rows`` must know of the tables' sizes."""
    large = [column for column, rows in enumerate(sizes) if rows > SMALL]
    small = [column for column, rows in enumerate(sizes) if rows <= SMALL]
    first, second = (torch.tensor(columns, dtype=torch.int32, device=device) for columns in (large, small))
    return first, second


def add_rows(
    weight: torch.Tensor,
    ids: torch.Tensor,
    offsets: torch.Tensor,
    columns: tuple[torch.Tensor, torch.Tensor],
    gradient: torch.Tensor,
    step: torch.Tensor,
    overflow: torch.Tensor,
) -> None:
    """``weight[offsets[m] + ids[b, m]] += step * gradient[b, m]`` by atomic additions, in place.

    Args:
        weight: float32 [R, D].
        ids: int32 [B, M], rows within each table.
        offsets: int64 [M], the row of ``weight`` where each table begins.
        columns: From ``columns_by_size``.
        gradient: [B, M, D], float32, bfloat16 or float16.
        step: float32 [1], the factor: minus the learning rate, over the loss scale.
        overflow: float32 [1]; unless it is 0 nothing happens.
    """
    batch, dim = len(ids), weight.shape[1]
    pointers = weight, ids.contiguous(), offsets, gradient.contiguous(), step, overflow
    sizes = {"COLUMNS": ids.shape[1], "DIM": dim}
    large, small = columns
    grid: tuple[int, ...]
    if batch and len(large):
        grid = (triton.cdiv(batch * len(large), LOOKUPS),)
        _add[grid](*pointers, large, batch * len(large), len(large), **sizes, LOOKUPS=LOOKUPS, num_warps=WARPS)
    if batch and len(small):
        grid = (triton.cdiv(batch, SAMPLES), len(small))
        sizes |= {"SAMPLES": SAMPLES, "SMALL": SMALL, "BLOCK": _block(gradient)}
        samples = STEP_32_BIT if gradient.dtype == torch.float32 else STEP_16_BIT
        _add_small[grid](*pointers, small, batch, **sizes, STEP=samples, num_warps=SMALL_WARPS)


def add_rows_in_order(
    weight: torch.Tensor,
    ids: torch.Tensor,
    offsets: torch.Tensor,
    gradient: torch.Tensor,
    step: torch.Tensor,
    overflow: torch.Tensor,
) -> None:
    """``add_rows`` in an order that the batch alone decides, so that every run gives the same bits.

    Lookups are sorted by row and cut into blocks. The block where a run of equal rows begins adds what it has of it;
    what later blocks have of it is kept aside, and a second kernel adds that up. No row has two writers at a time.
    """
    if not ids.numel():
        return
    dim, count = weight.shape[1], ids.numel()
    # Half the bytes to sort, where the rows can be counted in 32 bits.
    rows = (ids + offsets).flatten().to(torch.int32 if len(weight) < 2**31 else torch.int64)
    rows, order = torch.sort(rows, stable=True)
    blocks = triton.cdiv(count, ENTRIES)
    parts = weight.new_empty(blocks, dim)
    sizes = {"DIM": dim, "ENTRIES": ENTRIES, "num_warps": ORDER_WARPS}
    pointers = weight, rows, order, gradient.contiguous(), parts, step, overflow
    _add_blocks[(blocks,)](*pointers, count, **sizes, BLOCK=_block(gradient))
    _add_parts[(blocks,)](weight, rows, parts, step, overflow, count, **sizes, PARTS=PARTS)


def _block(gradient: torch.Tensor) -> int:
    return min(padded(gradient.shape[-1]), BLOCK_32_BIT if gradient.dtype == torch.float32 else BLOCK_16_BIT)


@triton.jit
def _add(
    weight, ids, offsets, gradient, step, overflow,
    columns, lookups, count,  # int32 [L], those with large tables; B·L; L
    COLUMNS: tl.constexpr, DIM: tl.constexpr, LOOKUPS: tl.constexpr,
):  # fmt: skip
    if tl.load(overflow) == 0.0:
        lookup = tl.program_id(0) * LOOKUPS + tl.arange(0, LOOKUPS)
        real = lookup < lookups
        column = tl.load(columns + lookup % count)
        at = (lookup // count).to(tl.int64) * COLUMNS + column  # in ids, int64 as batch · M · D may need it
        row = tl.load(ids + at, mask=real, other=0) + tl.load(offsets + column)
        d = tl.arange(0, padded(DIM))[None, :]
        mask = real[:, None] & (d < DIM)
        change = tl.load(gradient + at[:, None] * DIM + d, mask=mask).to(tl.float32) * tl.load(step)
        # The order among atomics is nobody's concern here: relaxed, and four neighbours go in one instruction.
        tl.atomic_add(weight + row[:, None] * DIM + d, change, mask=mask, sem="relaxed")


@triton.jit
def _add_small(
    weight, ids, offsets, gradient, step, overflow,
    columns, batch,  # int32 [S], those with small tables; B
    COLUMNS: tl.constexpr, DIM: tl.constexpr, SAMPLES: tl.constexpr, SMALL: tl.constexpr,
    BLOCK: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    # Atomic additions to one address queue, and a batch of 65,536 has tens of thousands for each row of a table of
    # four. A program sums a few hundred samples first: row r of the sum is the product of a one-hot matrix, 1 where a
    # sample has row r, with the gradients. One and zero are exact in any type, so the matrix units do it exactly. (Zero
    # times infinity is not a number: an infinite gradient that no flag holds back spreads to other rows. So it does to
    # everything at the next step.)
    if tl.load(overflow) == 0.0:
        column = tl.load(columns + tl.program_id(1))
        r = tl.arange(0, SMALL)[:, None]
        to = weight + (tl.load(offsets + column) + r) * DIM
        for start in range(0, padded(DIM), BLOCK):
            d = start + tl.arange(0, BLOCK)[None, :]
            total = tl.zeros([SMALL, BLOCK], tl.float32)
            hits = tl.zeros([SMALL, 1], tl.int32)
            for first in range(0, SAMPLES, STEP):
                sample = tl.program_id(0) * SAMPLES + first + tl.arange(0, STEP)
                at = sample.to(tl.int64) * COLUMNS + column
                row = tl.load(ids + at, mask=sample < batch, other=-1)  # -1 is no row's number
                mask = (sample < batch)[:, None] & (d < DIM)
                vectors = tl.load(gradient + at[:, None] * DIM + d, mask=mask, other=0.0)  # [STEP, BLOCK]
                one_hot = r == row[None, :]  # [SMALL, STEP]
                total = tl.dot(one_hot.to(vectors.dtype), vectors, total, input_precision="ieee")
                hits += tl.sum(one_hot.to(tl.int32), 1, keep_dims=True)
            tl.atomic_add(to + d, total * tl.load(step), mask=(hits > 0) & (d < DIM), sem="relaxed")


@triton.jit
def _add_blocks(
    weight, rows, order, gradient,  # int32 or int64 [N], sorted; int64 [N], the lookup that each comes from
    parts,  # float32 [blocks, D]: of each block, the sum that belongs to a run which an earlier block began
    step, overflow, count,  # count: N, lookups
    DIM: tl.constexpr, ENTRIES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    if tl.load(overflow) == 0.0:
        start = tl.program_id(0) * ENTRIES
        k = tl.arange(0, ENTRIES)
        entry = start + k
        real = entry < count
        row = tl.load(rows + entry, mask=real, other=-1)
        before = tl.load(rows + entry - 1, mask=real & (entry > 0), other=-1)
        # Runs of this block are numbered 0, 1, ...; row r of the sums is a one-hot product, as in _add_small.
        run = tl.cumsum(((row != before) & (k > 0)).to(tl.int32), 0)
        one_hot = (k[:, None] == run[None, :]) & real[None, :]  # [run, entry]
        row_of_run = tl.max(tl.where(one_hot, row[None, :], -1), 1)[:, None]  # -1: no such run
        r = k[:, None]
        goes_on = tl.load(rows + start) == tl.load(rows + start - 1, mask=start > 0, other=-1)
        began_earlier = (r == 0) & goes_on
        lookup = tl.load(order + entry, mask=real, other=0)
        for first in range(0, padded(DIM), BLOCK):
            d = first + tl.arange(0, BLOCK)[None, :]
            vectors = tl.load(gradient + lookup[:, None] * DIM + d, mask=real[:, None] & (d < DIM), other=0.0)
            total = tl.dot(one_hot.to(vectors.dtype), vectors, input_precision="ieee")  # [run, BLOCK]
            tl.store(parts + tl.program_id(0).to(tl.int64) * DIM + d + r * 0, total, mask=began_earlier & (d < DIM))
            to = weight + row_of_run.to(tl.int64) * DIM + d
            mask = (row_of_run >= 0) & (~began_earlier) & (d < DIM)
            tl.store(to, tl.load(to, mask=mask) + tl.load(step) * total, mask=mask)


@triton.jit
def _add_parts(
    weight, rows, parts, step, overflow, count,  # as in _add_blocks
    DIM: tl.constexpr, ENTRIES: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    # A program per block, with work to do only if a run begins in the block and goes on behind it.
    start = tl.program_id(0) * ENTRIES
    end = start + ENTRIES
    if (end < count) & (tl.load(overflow) == 0.0):
        row = tl.load(rows + end - 1)
        before = tl.load(rows + start - 1, mask=start > 0, other=-1)
        if (row == tl.load(rows + end)) & (row != before):
            d = tl.arange(0, padded(DIM))[None, :]
            total = tl.zeros([1, padded(DIM)], tl.float32)
            block = tl.program_id(0) + 1 + tl.arange(0, PARTS)
            more = True
            while more:
                # The run's later blocks are those whose first entry is its row.
                inside = tl.load(rows + block.to(tl.int64) * ENTRIES, mask=block * ENTRIES < count, other=-1) == row
                places = parts + block.to(tl.int64)[:, None] * DIM + d
                total += tl.sum(tl.load(places, mask=inside[:, None] & (d < DIM), other=0.0), 0, keep_dims=True)
                block += PARTS
                more = tl.min(inside.to(tl.int32), 0) > 0
            to = weight + row.to(tl.int64) * DIM + d
            tl.store(to, tl.load(to, mask=d < DIM) + tl.load(step) * total, mask=d < DIM)
