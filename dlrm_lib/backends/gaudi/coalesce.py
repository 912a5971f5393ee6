"""Ids prepared on the host for a device that computes fast only where no shape depends on the data.

Which rows a batch needs, and how many they are, differs from batch to batch. Here they are found on the host, where
that costs a sort, and written into arrays of the greatest size there can be. The device then does the same operations
on the same shapes in every step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from dlrm_lib.dataset.batch import Batch


class CoalescedBatch(NamedTuple):
    """Rows for one step, each embedding row named once; all shapes follow from B, N, M and L.

    Attributes:
        numerical: float32 [B, N].
        rows: int32 [U], U = B·M·L: the rows of the tables that occur, ascending, then the last of them again and again.
        source: int32 [U]: where in ``rows`` the same row is for the first time.
        places: int32 [B, M] or, with bags, [B, M, L]: for each id, where in ``rows`` its row is for the first time.
        label: float32 [B], 0 or 1.
    """

    numerical: torch.Tensor
    rows: torch.Tensor
    source: torch.Tensor
    places: torch.Tensor
    label: torch.Tensor


def coalesce(batch: Batch, row_ids: torch.Tensor) -> CoalescedBatch:
    """The batch with its rows coalesced.

    Args:
        batch: In the host's memory.
        row_ids: Rows of the tables that its ids stand for, [B, M] or [B, M, L] of integers below 2**31.
    """
    rows, source, places = map(torch.from_numpy, distinct_rows(row_ids.numpy()))
    return CoalescedBatch(batch.numerical, rows, source, places, batch.label)


def distinct_rows(row_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Integers of any shape → ``rows``, ``source`` and ``places`` of a ``CoalescedBatch``.

    ``rows[places]`` is ``row_ids`` again.
    """
    # In 32 bits sorting is faster. Before NumPy 2 the places came flat, whatever the shape.
    distinct, places = np.unique(row_ids.astype(np.int32).ravel(), return_inverse=True)
    source = np.minimum(np.arange(row_ids.size, dtype=np.int32), np.int32(len(distinct) - 1))
    return distinct[source], source, places.reshape(row_ids.shape).astype(np.int32)
