"""The order of the training rows: a permutation that depends on the seed and the row numbers alone.

Row ``index`` gets the number ``splitmix64(seed, index)``; rows are sorted by it. Each task deals its rows into buckets
by the number's highest bits; sorting every bucket then sorts the whole. No step needs more than a bucket in memory.
"""

from __future__ import annotations

import numpy as np

from dlrm_lib.preprocess.compiled import compiled

_BUCKET_ROWS = 19  # log2 of the most rows in a bucket, on average: about 60 MB
_MOST_BITS = 11


def bucket_bits(rows: int) -> int:
    """How many of the highest bits choose a row's bucket."""
    return min(_MOST_BITS, max(0, (rows - 1).bit_length() - _BUCKET_ROWS))


def deal(number: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each row goes if rows are sorted by bucket and keep their order within each.

    Args:
        number: uint64 [n]: what ``splitmix64`` gave each row.
        bits: What ``bucket_bits`` says.

    Returns:
        int64 [n]: the place of each row.
        int64 [2**bits]: how many rows each bucket got.
    """
    # Two shifts, because a shift by all 64 bits (one bucket) is undefined.
    bucket = (number >> np.uint64(1) >> np.uint64(63 - bits)).astype(np.uint16)
    rows = np.bincount(bucket, minlength=1 << bits)
    place = np.empty(len(number), np.int64)
    _places(bucket, np.cumsum(rows) - rows, place)
    return place, rows


@compiled
def _places(bucket, free, place):
    for row in range(bucket.size):
        place[row] = free[bucket[row]]
        free[bucket[row]] += 1
