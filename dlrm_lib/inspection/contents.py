"""What a column of a table holds: its type, how often it is empty, and its values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from dlrm_lib.preprocess.formats import MISSING

# Digits behind a zero in front are a code, such as that of a place, and no quantity.
_INTEGER = r"^-?(0|[1-9][0-9]*)$"
_DECIMAL = r"^-?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}.*)?$"
_ODD = 0.01  # share of the values that may be of no number for a column to be one of numbers: mistakes, to be mended
_WORDS = [word.decode() for word in MISSING]
_SHOWN = 24  # characters of a value


@dataclass(frozen=True, kw_only=True)
class Contents:
    """
    Attributes:
        name: What the column is called.
        kind: ``integer``, ``decimal``, ``text``, ``boolean``, ``time`` or ``empty``; else the name of an Arrow type.
        readable: Whether ``preprocess`` reads such values.
        rows: Rows in all.
        missing: Rows in which it is empty.
        counts: Its values as text, the most frequent first, with how often each occurs.
        least: The least number; None where there are no numbers.
        largest: The largest.
        climbs: Whether each number is larger than the one before.
        words: How many rows say in words that there is no value, such as ``nan``.
        odd: How many values are no numbers, though the others are.
    """

    name: str
    kind: str
    readable: bool = True
    rows: int
    missing: int
    counts: tuple[tuple[str, int], ...] = ()
    least: float | None = None
    largest: float | None = None
    climbs: bool = False
    words: int = 0
    odd: int = 0

    @property
    def distinct(self) -> int:
        """How many different values there are."""
        return len(self.counts)

    @property
    def all_different(self) -> bool:
        """Whether nearly every row that has a value has one of its own, and there are enough to tell."""
        return self.distinct > 0.95 * (self.rows - self.missing) >= 100

    @property
    def shown(self) -> str:
        """Its values in a few words."""
        if self.least is not None and self.largest is not None and self.distinct > 2:
            digits = ",.0f" if self.kind == "integer" else ",.6g"
            return f"{self.least:{digits}} to {self.largest:{digits}}"
        if self.kind == "time":
            return f"{min(self.counts)[0]} to {max(self.counts)[0]}"
        if self.distinct > 2 and self.counts[0][1] == 1:
            return ", ".join(quoted(value) for value, _ in self.counts[:2]) + ", …, each once"
        there = max(self.rows - self.missing, 1)
        return ", ".join(f"{quoted(value)} {count / there:.1%}" for value, count in self.counts[:2])


def quoted(text: str) -> str:
    """A value as it can be shown: quotes and control characters spelled out where there are some, and not too long."""
    plain = text.isprintable() and text == text.strip()
    short = text if plain else json.dumps(text, ensure_ascii=not text.isprintable())
    return short if len(short) <= _SHOWN else f"{short[: _SHOWN - 1]}…"


def contents(table: pa.Table) -> Iterator[Contents]:
    """What each column of ``FirstRows.table`` holds."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        yield _contents(name, pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type))


def _contents(name: str, values: pa.Array) -> Contents:
    if types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
    kind, readable = _kind(values)
    about = {"name": name, "kind": kind, "readable": readable, "rows": len(values), "missing": values.null_count}
    if values.null_count == len(values) or not (readable or kind == "time"):
        return Contents(**about)
    there = values.drop_null()
    counted = pc.value_counts(_as_text(there))
    order = np.argsort(-counted.field("counts").to_numpy(), kind="stable")
    counts = zip(
        counted.field("values").take(order).to_pylist(), counted.field("counts").take(order).to_pylist(), strict=True
    )
    said = pc.is_in(there, pa.array(_WORDS, there.type)) if types.is_string(there.type) else None
    about |= {"counts": tuple(counts), "words": pc.sum(said).as_py() or 0 if said is not None else 0}
    if kind in ("integer", "decimal"):
        numbers = there
        if types.is_string(there.type):
            numbers = there.filter(pc.match_substring_regex(there, _DECIMAL))
            about["odd"] = len(there) - len(numbers) - about["words"]
        numbers = pc.cast(numbers, pa.float64()).to_numpy()
        climbs = len(numbers) > 1 and bool((np.diff(numbers) > 0).all())
        about |= {"least": float(numbers.min()), "largest": float(numbers.max()), "climbs": climbs}
    return Contents(**about)


def _kind(values: pa.Array) -> tuple[str, bool]:
    """The kind of a column's values, and whether they are read."""
    type_ = values.type
    if values.null_count == len(values):
        return "empty", True
    if types.is_integer(type_):
        return "integer", True
    if types.is_floating(type_):  # pandas makes floats of integers where some are missing
        whole = pc.all(pc.equal(pc.floor(values), values)).as_py()
        return ("integer" if whole else "decimal"), True
    if types.is_decimal(type_):
        return "decimal", True
    if types.is_boolean(type_):
        return "boolean", True
    if types.is_large_string(type_) or types.is_binary(type_):
        return "text", True
    if not types.is_string(type_):
        return ("time" if types.is_temporal(type_) else str(type_)), False
    return _kind_of_texts(values.drop_null()), True


def _kind_of_texts(texts: pa.Array) -> str:
    texts = texts.filter(pc.invert(pc.is_in(texts, pa.array(_WORDS, texts.type))))
    least = (1 - _ODD) * len(texts)
    for kind, pattern in (("integer", _INTEGER), ("decimal", _DECIMAL), ("time", _TIME)):
        if len(texts) and pc.sum(pc.match_substring_regex(texts, pattern)).as_py() >= least:
            return kind
    return "text"


def _as_text(values: pa.Array) -> pa.Array:
    if types.is_binary(values.type):
        return pa.array([value.decode("utf-8", "replace") for value in values.to_pylist()], pa.string())
    return pc.cast(values, pa.string())
