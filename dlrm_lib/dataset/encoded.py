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
from dlrm_lib.dataset.vocabulary import Vocabulary
from dlrm_lib.errors import InputError
from dlrm_lib.features import SPLITS, FeatureSpec
from dlrm_lib.manifest import Manifest
from dlrm_lib.numeric_rules import NUMERIC_RULES


class ColumnSplit(FileSplit):
    """The rows of one split, memory-mapped.

    Attributes:
        label: bool [rows].
        numerical: float16 [rows, N].
        categorical: M arrays of int8, int16 or int32 [rows]; of a column of bags [rows, L].
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
            [
                _map(folder / f"cat_{j}.bin", dtype, (rows,) if most == 1 else (rows, most))
                for j, (dtype, most) in enumerate(zip(spec.category_dtypes, spec.columns.bags, strict=True))
            ],
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
        slots = np.empty(categorical.T.shape, np.int32)
        for j, column in enumerate(self.categorical):
            slots[self._column == j] = _taken(column, rows).T
        categorical[:] = slots.T

    @functools.cached_property
    def _take(self) -> Take | None:
        """Copies scattered rows; where there is no compiler NumPy does, slower."""
        try:
            return Take(self.label.view(np.uint8), self.numerical, self.categorical)
        except CannotCompile:
            return None

    def _place(self, part: str, column: int) -> tuple[Path, str]:
        columns = self.spec.columns
        if part == "categorical":
            # Without names the file's own says it.
            return self.folder / f"cat_{column}.bin", columns.named * f", column {columns.categorical_names[column]}"
        return self.folder / f"{part}.bin", (part == "numerical") * f", column {columns.numerical_names[column]}"


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
            ("missing_id", self.spec.missing_id, self.manifest.missing_id),
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

    def vocabulary(self, column: str | int) -> Vocabulary:
        """The vocabulary of a categorical column: value, count and id, both ways.

        Args:
            column: Its name, or its number from 0.

        Raises:
            InputError: there is no such column, or its vocabulary cannot be read or does not fit the manifest.
        """
        names = self.spec.columns.categorical_names
        number = names.index(column) if column in names else column
        if not isinstance(number, int | np.integer) or not 0 <= number < len(names):
            some = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
            raise InputError(
                f"{self.folder} has no such categorical column.",
                found=repr(column),
                remedy=f"Name one of {some}, or its number from 0." if names else "It has none.",
            )
        path = self.folder / "vocabulary" / f"cat_{number}.parquet"
        vocabulary = Vocabulary.read(path, names[number], missing_id=self.spec.missing_id)
        if len(vocabulary) != self.spec.cardinalities[number]:
            raise InputError(
                f"{path} does not fit the manifest.",
                found=f"{len(vocabulary):,} ids, of {self.spec.cardinalities[number]:,}",
                remedy="Encode the raw rows again.",
            )
        return vocabulary


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
