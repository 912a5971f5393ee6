"""A column's vocabulary: which value has which id, and how often it was seen."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dlrm_lib.errors import InputError


class Vocabulary:
    """The ids of a categorical column, as ``preprocess`` has given them.

    Attributes:
        name: The column's name.
        missing_id: The id of a missing token, the empty text.
        values: object [cardinality]: the value of each id as text; None at 0, which all values without an id share.
        counts: int64 [cardinality]: how often each was seen in the rows that were counted, over the whole lineage; 0 at
            0. Both are read-only.

    Example:
        ``vocabulary.values[ids]`` are the values of an array of ids; ``vocabulary.ids(values)`` goes the other way.
    """

    def __init__(self, name: str, values: Iterable[str], counts: np.ndarray, *, missing_id: int = 0) -> None:
        """
        Args:
            name: The column's name.
            values: The values of the ids from 1 on.
            counts: int64: how often each of these was seen.
            missing_id: The id of a missing token.
        """
        self.name = name
        self.missing_id = missing_id
        self.values = np.array([None, *values], object)
        self.counts = np.concatenate([np.zeros(1, np.int64), counts])
        for array in (self.values, self.counts):
            array.flags.writeable = False

    @classmethod
    def read(cls, path: Path, name: str, *, missing_id: int = 0) -> Vocabulary:
        """Reads a Parquet file with the columns ``value`` and ``count``, in the order of the ids from 1 on.

        Raises:
            InputError: it is absent or is no such file, or PyArrow is not installed.
        """
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ModuleNotFoundError:
            remedy = "Install it with `pip install 'dlrm-lib[spark]'`, or `pip install -e '.[spark]'` in a checkout."
            raise InputError("Vocabularies are Parquet files.", found="no pyarrow", remedy=remedy) from None
        try:
            table = pq.read_table(path, columns=["value", "count"])
            return cls(name, table["value"].to_pylist(), table["count"].to_numpy(), missing_id=missing_id)
        except (OSError, KeyError, pa.ArrowException) as error:
            found = "no such file" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
            raise InputError(f"{path} cannot be read.", found=found, remedy="Encode the raw rows again.") from None

    def __len__(self) -> int:
        """The column's cardinality: its ids, id 0 included."""
        return len(self.values)

    def __repr__(self) -> str:
        return f"Vocabulary of {self.name}: {len(self):,} ids"

    def id(self, value: str) -> int:
        """The id of a value; 0 if it has none, ``missing_id`` for the empty text.

        Raises:
            InputError: it is not text.
        """
        return int(self.ids([value])[0])

    def ids(self, values: Iterable[str]) -> np.ndarray:
        """int32 [n]: the id of each of n values; 0 where it has none, ``missing_id`` for the empty text.

        Raises:
            InputError: one is not text.
        """
        id_of = self._id_of
        found = []
        for value in values:
            if not isinstance(value, str):  # it would have no id, and nobody would notice
                raise InputError(
                    f"{self.name} has texts for values.",
                    found=f"{value!r}, {type(value).__name__}",
                    remedy='A number is looked up by its decimal text ("17"), a missing token as "".',
                )
            found.append(id_of.get(value, 0))
        return np.array(found, np.int32)

    def value(self, id: int) -> str | None:
        """The value of an id; None of id 0.

        Raises:
            InputError: there is no such id.
        """
        if not 0 <= id < len(self):
            raise InputError(f"{self.name} has ids from 0 to {len(self) - 1:,}.", found=f"{id}")
        return self.values[id]

    def count(self, value: str) -> int:
        """How often a value was seen; 0 if it has no id.

        Raises:
            InputError: it is not text.
        """
        return int(self.counts[self.id(value)])

    @functools.cached_property
    def _id_of(self) -> dict[str, int]:
        return {value: number for number, value in enumerate(self.values.tolist()) if number}
