"""What every data set offers, wherever its rows come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dlrm_lib.dataset import order as orders
from dlrm_lib.dataset.batch import Batch
from dlrm_lib.features import FeatureSpec
from dlrm_lib.manifest import Manifest


class Split(ABC):
    """The rows of one split.

    Attributes:
        folder: Where they are, for messages.
        name: ``train``, ``validation`` or ``test``.
        spec: The columns.
        rows: How many rows there are.
    """

    def __init__(self, folder: Path, name: str, spec: FeatureSpec, rows: int) -> None:
        self.folder, self.name, self.spec, self.rows = folder, name, spec, rows

    def __len__(self) -> int:
        return self.rows

    def steps(self, batch_size: int) -> int:
        """Batches in one pass; the last one may be smaller."""
        return orders.steps(self.rows, batch_size)

    def batches(
        self, batch_size: int, order: orders.Order | np.ndarray | None = None, start: int = 0, *, check: bool = True
    ) -> Iterator[Batch]:
        """Yields the batches of one pass.

        Args:
            batch_size: Rows per batch; one batch is smaller where it does not divide the rows.
            order: How the pass goes through the rows, or numbers of batches of consecutive rows; by default in order.
            start: How many batches of that order to leave out at the beginning.
            check: Whether to refuse bad values.

        Raises:
            InputError: an id outside its column's vocabulary, a number that is not finite, or a label that is not 0 or
                1; names file, row, column and value.
        """
        plan = self.plan(batch_size, order)
        for step in range(start, plan.steps):
            yield self.gather(plan.rows(step), check=check)

    def plan(self, batch_size: int, order: orders.Order | np.ndarray | None = None) -> orders.Plan:
        """Which rows each batch of a pass holds; arguments as for ``batches``."""
        if order is None:
            order = orders.InOrder()
        elif not isinstance(order, orders.Order):
            order = orders.ListedBatches(np.asarray(order))
        return order.plan(self.rows, batch_size)

    def read(self, first: int, last: int) -> Batch:
        """The rows ``first`` to ``last`` (exclusive; at most to the end), checked."""
        return self.gather(slice(first, min(last, self.rows)))

    @abstractmethod
    def gather(self, rows: slice | np.ndarray, *, check: bool = True) -> Batch:
        """The rows of a slice with both ends, or those of an integer array [B]; raises as ``batches`` does."""

    @abstractmethod
    def first(self, rows: int) -> Split:
        """The split of its first rows alone."""


class Dataset:
    """Three splits of one kind of rows.

    Attributes:
        folder: Where they are, for messages.
        manifest: What they were made from, which checkpoints compare.
        spec: The columns.
        train: Rows to train on.
        validation: Rows to choose by; may be empty.
        test: Rows to judge by; may be empty.
        held_bytes: Memory that reading keeps. Files take none: the system reads them into what is free.
    """

    held_bytes = 0

    folder: Path
    manifest: Manifest
    spec: FeatureSpec
    train: Split
    validation: Split
    test: Split
