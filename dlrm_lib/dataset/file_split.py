"""Rows read from memory-mapped files, and refused where they cannot be right."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

import numpy as np
import torch

from dlrm_lib.dataset.batch import Batch
from dlrm_lib.dataset.checks import Fault, first_fault
from dlrm_lib.dataset.split import Split
from dlrm_lib.errors import InputError
from dlrm_lib.features import FeatureSpec

# Rows that are read and checked at a time: they stay in a core's cache from the one to the other.
_BLOCK = 4096


class FileSplit(Split):
    """The rows of one split in files of some layout."""

    _remedy = "Encode the raw rows again."

    def __init__(self, folder: Path, name: str, spec: FeatureSpec, rows: int) -> None:
        super().__init__(folder, name, spec, rows)
        bags = np.array(spec.columns.bags, np.int64)
        # A bag of up to L ids takes L slots. The first id that its column does not have fills those that are left over.
        self._column = np.repeat(np.arange(len(bags)), bags)
        self._place_in_bag = np.arange(len(self._column)) - np.repeat(np.cumsum(bags) - bags, bags)
        padding = np.array(spec.cardinalities, np.uint32)
        self._ids = padding[self._column] + (bags > 1)[self._column]
        self._empty_bags = np.repeat(padding.astype(np.int32)[:, None], bags.max(initial=1), axis=1)

    def gather(self, rows: slice | np.ndarray, *, check: bool = True) -> Batch:
        count = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        # Torch's memory begins at a cache line, NumPy's anywhere, and where its input begins can change the last bit of
        # a matrix product.
        batch = Batch(
            torch.empty(count, self.spec.numerical),
            torch.empty(count, len(self._column), dtype=torch.int32),
            torch.empty(count),
        )
        numerical, categorical, label = (part.numpy() for part in batch)
        for first in range(0, count, _BLOCK):
            last = min(first + _BLOCK, count)
            some = slice(rows.start + first, rows.start + last) if isinstance(rows, slice) else rows[first:last]
            block = numerical[first:last], categorical[first:last], label[first:last]
            self._fill(some, *block)
            if check and (fault := first_fault(*block, self._ids)):
                raise self._error(fault, some.start + fault.row if isinstance(some, slice) else int(some[fault.row]))
        return batch if self._empty_bags.shape[1] <= 1 else batch._replace(categorical=self._in_bags(categorical))

    def _in_bags(self, slots: np.ndarray) -> torch.Tensor:
        """int32 [B, slots] → int32 [B, M, L], L being that of the longest bags; shorter ones are filled up."""
        bags = torch.empty(len(slots), *self._empty_bags.shape, dtype=torch.int32)
        bags.numpy()[:] = self._empty_bags
        bags.numpy()[:, self._column, self._place_in_bag] = slots
        return bags

    @abstractmethod
    def _fill(
        self, rows: slice | np.ndarray, numerical: np.ndarray, categorical: np.ndarray, label: np.ndarray
    ) -> None:
        """Copies rows into contiguous float32 [B, N], int32 [B, slots] and float32 [B]: a slot for each id of a row."""

    @abstractmethod
    def _place(self, part: str, column: int) -> tuple[Path, str]:
        """The file of a value, and words for its column within the file."""

    def _error(self, fault: Fault, row: int) -> InputError:
        of = int(self._column[fault.column]) if fault.part == "categorical" else fault.column
        path, column = self._place(fault.part, of)
        what, found = "the number is not finite", str(fault.value)
        if fault.part == "categorical":
            what = "the id is outside the column's vocabulary"
            found = f"{fault.value} (ids go from 0 to {self.spec.cardinalities[of] - 1})"
        elif fault.part == "label":
            what = "the label is not 0 or 1"
        return InputError(f"{path}, row {row:,}{column}: {what}.", found=found, remedy=self._remedy)
