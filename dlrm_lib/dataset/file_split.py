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
        self._cardinalities = np.array(spec.cardinalities, np.uint32)

    def gather(self, rows: slice | np.ndarray, *, check: bool = True) -> Batch:
        count = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        # Torch's memory begins at a cache line, NumPy's anywhere, and where its input begins can change the last bit of
        # a matrix product.
        batch = Batch(
            torch.empty(count, self.spec.numerical),
            torch.empty(count, len(self.spec.cardinalities), dtype=torch.int32),
            torch.empty(count),
        )
        numerical, categorical, label = (part.numpy() for part in batch)
        for first in range(0, count, _BLOCK):
            last = min(first + _BLOCK, count)
            some = slice(rows.start + first, rows.start + last) if isinstance(rows, slice) else rows[first:last]
            block = numerical[first:last], categorical[first:last], label[first:last]
            self._fill(some, *block)
            if check and (fault := first_fault(*block, self._cardinalities)):
                raise self._error(fault, some.start + fault.row if isinstance(some, slice) else int(some[fault.row]))
        return batch

    @abstractmethod
    def _fill(
        self, rows: slice | np.ndarray, numerical: np.ndarray, categorical: np.ndarray, label: np.ndarray
    ) -> None:
        """Copies rows into contiguous float32 [B, N], int32 [B, M] and float32 [B]."""

    @abstractmethod
    def _place(self, part: str, column: int) -> tuple[Path, str]:
        """The file of a value, and words for its column within the file."""

    def _error(self, fault: Fault, row: int) -> InputError:
        path, column = self._place(fault.part, fault.column)
        what, found = "the number is not finite", str(fault.value)
        if fault.part == "categorical":
            what = "the id is outside the column's vocabulary"
            found = f"{fault.value} (ids go from 0 to {self.spec.cardinalities[fault.column] - 1})"
        elif fault.part == "label":
            what = "the label is not 0 or 1"
        return InputError(f"{path}, row {row:,}{column}: {what}.", found=found, remedy=self._remedy)
