"""Data sets as ``preprocess`` writes them: one file per categorical column, one for all numbers, one for labels.

A data set is a folder in the layout of NVIDIA's later DLRM (see ``features.py``) with a manifest (see ``manifest.py``).
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from dlrm_lib.compiler import CannotCompile
from dlrm_lib.dataset.file_split import FileSplit
from dlrm_lib.dataset.split import Dataset
from dlrm_lib.dataset.take import Take
from dlrm_lib.errors import InputError
from dlrm_lib.features import SPLITS, FeatureSpec
from dlrm_lib.manifest import Manifest
from dlrm_lib.numeric_rules import NUMERIC_RULES


class ColumnSplit(FileSplit):
    """The rows of one split, memory-mapped.

    Attributes:
        label: bool [rows].
        numerical: float16 [rows, N].
        categorical: M arrays of int8, int16 or int32 [rows].
    """

    _remedy = "Encode the raw rows again, or use the feature_spec.yaml that belongs to these files."

    def __init__(
        self, folder: Path, spec: FeatureSpec, label: np.ndarray, numerical: np.ndarray, categorical: list[np.ndarray]
    ) -> None:
        super().__init__(folder, folder.name, spec, len(label))
        self.label, self.numerical, self.categorical = label, numerical, categorical

    @classmethod
    def open(cls, folder: Path, spec: FeatureSpec, rows: int) -> ColumnSplit:
        """Maps the files of a folder.

        Raises:
            InputError: a file is absent or has another size than so many rows.
        """
        return cls(
            folder,
            spec,
            _map(folder / "label.bin", "bool", (rows,)),
            _map(folder / "numerical.bin", "float16", (rows, spec.numerical)),
            [_map(folder / f"cat_{j}.bin", dtype, (rows,)) for j, dtype in enumerate(spec.category_dtypes)],
        )

    def first(self, rows: int) -> ColumnSplit:
        return type(self)(
            self.folder, self.spec, self.label[:rows], self.numerical[:rows], [ids[:rows] for ids in self.categorical]
        )

    def _fill(
        self, rows: slice | np.ndarray, numerical: np.ndarray, categorical: np.ndarray, label: np.ndarray
    ) -> None:
        if not isinstance(rows, slice) and self._take:
            self._take(rows, numerical, categorical, label)
            return
        # A label is read as a byte: as a bool, a byte of 2 would count as true.
        label[:] = _taken(self.label.view(np.uint8), rows)
        numerical[:] = _taken(self.numerical, rows)
        # Column by column, then turned: writing each column with a stride takes more than twice as long.
        columns = np.empty(categorical.T.shape, np.int32)
        for ids, column in zip(columns, self.categorical, strict=True):
            ids[:] = _taken(column, rows)
        categorical[:] = columns.T

    @functools.cached_property
    def _take(self) -> Take | None:
        """Copies scattered rows; where there is no compiler NumPy does, slower."""
        try:
            return Take(self.label.view(np.uint8), self.numerical, self.categorical)
        except CannotCompile:
            return None

    def _place(self, part: str, column: int) -> tuple[Path, str]:
        if part == "categorical":
            return self.folder / f"cat_{column}.bin", ""
        return self.folder / f"{part}.bin", f", column {column}" if part == "numerical" else ""


class EncodedDataset(Dataset):
    """An encoded data set: ``train``, ``validation`` and ``test`` splits with their manifest."""

    train: ColumnSplit
    validation: ColumnSplit
    test: ColumnSplit

    def __init__(self, folder: str | Path) -> None:
        """Opens ``folder``.

        Raises:
            InputError: no finished data set, or files that do not fit its manifest.
        """
        self.folder = Path(folder)
        self.manifest = Manifest.read(self.folder)
        rule = NUMERIC_RULES[self.manifest.config["numeric_rule"]]
        self.spec = FeatureSpec.read(self.folder / "feature_spec.yaml", rule)
        rules = [of.rule_by(rule.name) for of in self.spec.columns.numbers]
        for what, found, expected in (
            ("cardinalities", list(self.spec.cardinalities), self.manifest.cardinalities),
            ("numeric_rule", [of.name for of in self.spec.numeric_rules], rules),
        ):
            if found != expected:
                raise InputError(
                    f"{self.folder / 'feature_spec.yaml'} does not fit the manifest.",
                    found=f"{what} {found}",
                    remedy="Encode the raw rows again.",
                )
        self.train, self.validation, self.test = (
            ColumnSplit.open(self.folder / name, self.spec, self.manifest.rows[name]) for name in SPLITS
        )


def _taken(column: np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
    return column[rows] if isinstance(rows, slice) else np.take(column, rows, axis=0)


def _map(path: Path, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    expected = int(np.prod(shape)) * np.dtype(dtype).itemsize
    size = path.stat().st_size if path.exists() else None
    if size != expected:
        raise InputError(
            f"{path} does not fit the manifest.",
            found="no such file" if size is None else f"{size:,} bytes instead of {expected:,}",
            remedy="Encode the raw rows again.",
        )
    # As a plain array: NumPy's class for maps takes microseconds more for each slice.
    return np.asarray(np.memmap(path, dtype, "r", shape=shape)) if expected else np.empty(shape, dtype)
