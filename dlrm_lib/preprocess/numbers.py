"""Raw numbers to features: each column by its rule, in float64, rounded once to float16.

Most columns are integers that declare no rule: those are encoded together, by look-up. Columns whose rule is learned
from the training rows wait for it in the spill, as float64.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dlrm_lib.columns import RawColumns
from dlrm_lib.numeric_rules import FIXED_RULES, LEARNED, NUMERIC_RULES, LogRule
from dlrm_lib.preprocess.compiled import compiled
from dlrm_lib.preprocess.rows import Rows

_TABLE = 1 << 16  # integers below this are encoded by look-up


def learned(columns: RawColumns) -> list[int]:
    """The numerical columns, W of them, whose rule is learned from the training rows."""
    return [place for place, column in enumerate(columns.numbers) if column.rule == LEARNED]


def encode_numbers(rows: Rows, columns: RawColumns, numeric_rule: str) -> tuple[np.ndarray, np.ndarray]:
    """The numerical features of rows.

    Args:
        rows: The rows.
        columns: Their columns.
        numeric_rule: The rule of integers that declare none.

    Returns:
        float16 [rows, N]; 0 in columns whose rule is learned.
        float64 [rows, W], NaN where missing: the numbers of those.
    """
    encoded = encode_integers(rows.integer, rows.missing, numeric_rule)
    waiting = np.empty((len(encoded), len(learned(columns))))
    waits = iter(waiting.T)
    for place, numbers in _others(rows, columns):
        rule = columns.numbers[place].rule_by(numeric_rule)
        if rule == LEARNED:
            next(waits)[:] = numbers
            encoded[:, place] = 0
        else:
            encoded[:, place] = FIXED_RULES[rule].encode(numbers)
    return encoded, waiting


def _others(rows: Rows, columns: RawColumns) -> Iterator[tuple[int, np.ndarray]]:
    """The columns of decimals and those that declare a rule: their places, and their numbers, float64 [rows]."""
    decimals = iter(rows.decimal.T)
    for place, column in enumerate(columns.numbers):
        if column.type == "decimal":
            yield place, next(decimals)
        elif column.rule:
            yield place, np.where(rows.missing[:, place], np.nan, rows.integer[:, place])


def encode_integers(integer: np.ndarray, missing: np.ndarray, rule: str) -> np.ndarray:
    """The numerical features of integers: a logarithm in float64, rounded once to float16.

    Args:
        integer: int64 [rows, N]; 0 where missing.
        missing: bool [rows, N].
        rule: A key of ``NUMERIC_RULES``.

    Returns:
        float16 [rows, N].
    """
    table = _TABLES[rule]
    encoded = np.empty(integer.shape, np.uint16)
    if _look_up(integer, missing, table.view(np.uint16), encoded):
        large = integer >= _TABLE
        # As unsigned numbers, for the sum of int64 could overflow.
        shifted = integer[large].astype(np.uint64) + np.uint64(NUMERIC_RULES[rule].shift)
        encoded[large] = np.log(shifted.astype(np.float64)).astype(np.float16).view(np.uint16)
    return encoded.view(np.float16)


def _table(rule: LogRule) -> np.ndarray:
    """float16: what missing becomes, then what integers from ``-shift`` to ``_TABLE - 1`` become."""
    logarithms = np.log(np.maximum(np.arange(_TABLE + rule.shift, dtype=np.float64), 1.0))
    return np.concatenate([[rule.missing_number], logarithms]).astype(np.float16)


_TABLES = {name: _table(rule) for name, rule in NUMERIC_RULES.items()}


@compiled
def _look_up(integer, missing, table, encoded):
    """Encodes the integers that the table has; returns whether there are larger ones."""
    shift = len(table) - 1 - _TABLE
    larger = False
    for i in range(integer.shape[0]):
        for j in range(integer.shape[1]):
            x = integer[i, j]
            if missing[i, j]:
                encoded[i, j] = table[0]
            elif x >= _TABLE:
                larger = True
            else:
                encoded[i, j] = table[1 + max(x + shift, 0) if x >= -shift else 1]
    return larger
