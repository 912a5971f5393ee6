"""Encoded data sets on disk, and batches read from them.

A data set is a folder in the layout of NVIDIA's later DLRM (see ``features.py``) with a manifest (see ``manifest.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from dlrm_lib.errors import InputError
from dlrm_lib.features import SPLITS, FeatureSpec
from dlrm_lib.manifest import Manifest


class Batch(NamedTuple):
    """Rows for one step.

    Attributes:
        numerical: float32 [B, N].
        categorical: int32 [B, M], ids within each column.
        label: float32 [B], 0 or 1.
    """

    numerical: torch.Tensor
    categorical: torch.Tensor
    label: torch.Tensor


class Split:
    """The rows of one split, memory-mapped.

    Attributes:
        label: bool [rows].
        numerical: float16 [rows, N].
        categorical: M arrays of int8, int16 or int32 [rows].
    """

    def __init__(self, folder: Path, spec: FeatureSpec, rows: int) -> None:
        self.folder = folder
        self.name = folder.name
        self.rows = rows
        self.spec = spec
        self.label = self._map("label.bin", "bool", (rows,))
        self.numerical = self._map("numerical.bin", "float16", (rows, spec.numerical))
        self.categorical = [self._map(f"cat_{j}.bin", dtype, (rows,)) for j, dtype in enumerate(spec.category_dtypes)]

    def __len__(self) -> int:
        return self.rows

    def steps(self, batch_size: int) -> int:
        """Batches in one pass; the last one may be smaller."""
        return -(-self.rows // batch_size)

    def batches(self, batch_size: int, order: np.ndarray | None = None, start: int = 0) -> Iterator[Batch]:
        """Yields batches of consecutive rows, the last one perhaps smaller.

        Args:
            batch_size: Rows per batch.
            order: A permutation of the batch numbers; by default in sequence.
            start: How many batches of that order to leave out at the beginning.

        Raises:
            InputError: an id outside its column's vocabulary or a number that is not finite; names file, row, value.
        """
        for number in (range(self.steps(batch_size)) if order is None else order)[start:]:
            yield self.read(int(number) * batch_size, (int(number) + 1) * batch_size)

    def read(self, first: int, last: int) -> Batch:
        """The rows ``first`` to ``last`` (exclusive; at most to the end), checked."""
        last = min(last, self.rows)
        numerical = self.numerical[first:last].astype(np.float32)
        categorical = np.empty((last - first, len(self.categorical)), np.int32)
        for j, column in enumerate(self.categorical):
            categorical[:, j] = column[first:last]
        self._check(first, numerical, categorical)
        label = self.label[first:last].astype(np.float32)
        return Batch(torch.from_numpy(numerical), torch.from_numpy(categorical), torch.from_numpy(label))

    def _check(self, first: int, numerical: np.ndarray, categorical: np.ndarray) -> None:
        # A negative id becomes a large unsigned one, so that one comparison finds both faults.
        outside = categorical.view(np.uint32) >= np.array(self.spec.cardinalities, np.uint32)
        if outside.any():
            row, j = np.argwhere(outside)[0]
            raise InputError(
                f"{self.folder / f'cat_{j}.bin'}, row {first + row:,}: the id is outside the column's vocabulary.",
                found=f"{categorical[row, j]} (ids go from 0 to {self.spec.cardinalities[j] - 1})",
                remedy="Encode the raw rows again, or use the feature_spec.yaml that belongs to these files.",
            )
        finite = np.isfinite(numerical)
        if not finite.all():
            row, i = np.argwhere(~finite)[0]
            raise InputError(
                f"{self.folder / 'numerical.bin'}, row {first + row:,}, column {i}: the number is not finite.",
                found=numerical[row, i],
                remedy="Encode the raw rows again.",
            )

    def _map(self, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        path = self.folder / name
        expected = int(np.prod(shape)) * np.dtype(dtype).itemsize
        size = path.stat().st_size if path.exists() else None
        if size != expected:
            raise InputError(
                f"{path} does not fit the manifest.",
                found="no such file" if size is None else f"{size:,} bytes instead of {expected:,}",
                remedy="Encode the raw rows again.",
            )
        return np.memmap(path, dtype, "r", shape=shape) if expected else np.empty(shape, dtype)


class EncodedDataset:
    """An encoded data set: ``train``, ``validation`` and ``test`` splits with their manifest."""

    def __init__(self, folder: str | Path) -> None:
        """Opens ``folder``.

        Raises:
            InputError: no finished data set, or files that do not fit its manifest.
        """
        self.folder = Path(folder)
        self.manifest = Manifest.read(self.folder)
        self.spec = FeatureSpec.read(self.folder / "feature_spec.yaml")
        if list(self.spec.cardinalities) != self.manifest.cardinalities:
            raise InputError(
                f"{self.folder / 'feature_spec.yaml'} does not fit the manifest.",
                found=f"cardinalities {list(self.spec.cardinalities)}",
                remedy="Encode the raw rows again.",
            )
        self.train, self.validation, self.test = (
            Split(self.folder / name, self.spec, self.manifest.rows[name]) for name in SPLITS
        )
