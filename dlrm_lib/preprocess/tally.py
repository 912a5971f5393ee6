"""What the rows of a split hold, column by column: counted while they are written, so that no row is read again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dlrm_lib.features import FeatureSpec
from dlrm_lib.preprocess.compiled import compiled


class Tally:
    """Counts of some rows, by column.

    Attributes:
        rows: How many rows.
        numbers: float64 [N, 5]: missing ones, sum, sum of squares, least, largest. Encoded numbers are multiples of
            2^-11, so sums are exact in any order, and those of squares to more digits than are kept.
        ids: int64 [M, 4]: missing tokens, tokens without an id of their own, least id, largest id.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self._names = spec.columns.numerical_names + spec.columns.categorical_names
        self._missing_numbers = np.array(spec.missing_numbers, np.float32)
        self.rows = 0
        self.numbers = np.tile([0.0, 0.0, 0.0, np.inf, -np.inf], (spec.numerical, 1))
        self.ids = np.tile([0, 0, np.iinfo(np.int64).max, -1], (len(spec.cardinalities), 1))

    def add(self, numerical: np.ndarray, codes: Sequence[np.ndarray], ids: Sequence[np.ndarray]) -> None:
        """Counts rows.

        Args:
            numerical: float16 [rows, N].
            codes: For each categorical column, whole numbers [rows]: 0 where the token is missing.
            ids: For each categorical column, the ids of the codes.
        """
        self.rows += len(numerical)
        _add_numbers(numerical.astype(np.float32), self._missing_numbers, self.numbers)
        for of_column, id_of, counts in zip(codes, ids, self.ids, strict=True):
            _add_ids(of_column, id_of, counts)

    def merge(self, other: Tally) -> None:
        """Adds what another one has counted."""
        self.rows += other.rows
        for mine, more, sums in ((self.numbers, other.numbers, 3), (self.ids, other.ids, 2)):
            mine[:, :sums] += more[:, :sums]
            mine[:, sums] = np.minimum(mine[:, sums], more[:, sums])
            mine[:, sums + 1] = np.maximum(mine[:, sums + 1], more[:, sums + 1])

    def columns(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each column's name, and what ``Manifest.columns`` says of it in a split; there must be rows."""
        for i, (missing, total, squares, least, largest) in enumerate(self.numbers.tolist()):
            mean = total / self.rows
            deviation = max(0.0, squares / self.rows - mean**2) ** 0.5
            facts = {"missing": missing / self.rows, "mean": mean, "deviation": deviation}
            yield self._names[i], {**_rounded(facts), "constant": least == largest}
        for j, (missing, unknown, least, largest) in enumerate(self.ids.tolist()):
            facts = {"missing": missing / self.rows, "unknown": unknown / self.rows}
            yield self._names[len(self.numbers) + j], {**_rounded(facts), "constant": least == largest}


def described(tallies: dict[str, list[Tally]]) -> dict[str, dict[str, dict[str, Any]]]:
    """From the tallies of all parts, by split, what ``Manifest.columns`` says; of splits without rows, nothing."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for split, parts in tallies.items():
        whole, *others = parts
        for other in others:
            whole.merge(other)
        for name, facts in whole.columns() if whole.rows else ():
            found.setdefault(name, {})[split] = facts
    return found


def _rounded(facts: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in facts.items()}


@compiled
def _add_numbers(numbers, missing_numbers, counts):
    for i in range(numbers.shape[0]):
        for j in range(numbers.shape[1]):
            x = np.float64(numbers[i, j])
            of = counts[j]
            of[0] += x == missing_numbers[j]
            of[1] += x
            of[2] += x * x
            of[3] = min(of[3], x)
            of[4] = max(of[4], x)


@compiled
def _add_ids(codes, id_of, counts):
    missing = unknown = 0
    least, largest = counts[2], counts[3]
    for i in range(codes.size):
        found = np.int64(id_of[codes[i]])
        missing += codes[i] == 0
        unknown += (found == 0) & (codes[i] != 0)
        least = min(least, found)
        largest = max(largest, found)
    counts[0] += missing
    counts[1] += unknown
    counts[2], counts[3] = least, largest
