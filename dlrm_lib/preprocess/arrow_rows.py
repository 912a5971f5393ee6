"""Arrow tables to rows: columns are found by name, and a value means what its decimal text means in a line.

Missing are null, an empty text and NaN. In columns of integers, floats are what pandas makes of integers where some are
missing: they are read where they are whole. Of decimals a float32 is read as the float64 that it equals. What rows are,
and why something is none, ``rows.py`` says.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from dlrm_lib.columns import NO_AND_YES, RawColumns
from dlrm_lib.errors import InputError
from dlrm_lib.preprocess.compiled import compiled, load8
from dlrm_lib.preprocess.decimals import digits_of, read_decimals
from dlrm_lib.preprocess.rows import (
    DECIMAL,
    ENCODING,
    INTEGER,
    LABEL,
    LARGE,
    RANGE,
    Rejected,
    Rows,
    is_utf8,
    read_integer,
    read_token,
    values_text,
)
from dlrm_lib.preprocess.tokens import NO_TEXTS, Texts, Tokens

_TEXT = pa.large_binary()
_WHOLE = 2.0**53  # up to here a float64 stands for one whole number
_ONES, _HIGH_BITS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)


def check_schema(path: Path, schema: pa.Schema, columns: RawColumns) -> None:
    """Refuses a table whose columns cannot be rows, whatever their values.

    Raises:
        InputError: one is there twice, or its type is no text, integer, float or truth value.
    """
    decimals = {column.name for column in columns.numbers if column.type == "decimal"}
    bags = {column.name for column in columns.tokens if column.most > 1}
    for name in columns.names:
        places = schema.get_all_field_indices(name)
        if len(places) > 1:
            raise InputError(f"{path} has {len(places)} columns named {name!r}.", remedy="Give each its own name.")
        kind = schema.field(places[0]).type
        kind = kind.value_type if types.is_dictionary(kind) else kind
        if types.is_decimal(kind) and name in decimals:
            continue
        if name in bags and _is_list(kind):
            kind = kind.value_type
        if not _is_readable(kind):
            remedy = "Write it as text, integers, floats or truth values, or name other columns."
            if types.is_decimal(kind) and name in columns.numerical_names:
                remedy = f"Declare it in a --feature_spec: feature_spec: {{{name}: {{type: decimal}}}}."
            if _is_list(kind) and name in columns.categorical_names:
                remedy = f"Declare bags in a --feature_spec: feature_spec: {{{name}: {{most: 5}}}}."
            raise InputError(
                f"{path}: column {name!r} has values of a type that is not read.", found=kind, remedy=remedy
            )


def _is_readable(kind: pa.DataType) -> bool:
    return _is_text(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)


def _is_list(kind: pa.DataType) -> bool:
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _is_text(kind: pa.DataType) -> bool:
    views = getattr(types, "is_string_view", types.is_string), getattr(types, "is_binary_view", types.is_binary)
    plain = types.is_string, types.is_large_string, types.is_binary, types.is_large_binary, types.is_null
    return any(is_kind(kind) for is_kind in (*plain, *views))


def rows_of(table: pa.RecordBatch, columns: RawColumns) -> Rows:
    """The rows of a table that ``check_schema`` let pass."""
    count = table.num_rows
    arrays = [_plain(table.column(table.schema.get_field_index(name))) for name in columns.names]
    label, fault = _labels(_decoded(arrays[0]), columns.label.values)
    integer, missing = np.zeros((count, columns.numerical), np.int64), np.empty((count, columns.numerical), np.bool_)
    digits = digits_of(columns)
    decimal = np.empty((count, np.count_nonzero(digits)))
    decimals = iter(decimal.T)
    for i, array in enumerate(arrays[1 : 1 + columns.numerical]):
        if digits[i]:
            numbers, faulty = _decimals(_decoded(array), digits[i])
            next(decimals)[:], missing[:, i] = numbers, np.isnan(numbers)
        else:
            integer[:, i], missing[:, i], faulty = _integers(_decoded(array))
        fault = np.where(fault, fault, faulty)
    keys = np.empty((columns.categorical, count), np.uint64)
    texts, lists = [], {}
    for j, array in enumerate(arrays[1 + columns.numerical :]):
        if _is_list(array.type):
            lists[j], faulty = _lists(array)
            of_column = NO_TEXTS
        else:
            of_column, faulty = _tokens(array, keys[j])
        texts.append(of_column)
        fault = np.where(fault, fault, faulty)
    for array in arrays:
        if (not_text := _not_utf8(array)) is not None:
            fault[not_text] = ENCODING  # which counts before any other fault
    bad = np.flatnonzero(fault)
    if len(bad):
        good = np.flatnonzero(fault == 0)
        label, integer, missing, decimal, keys = label[good], integer[good], missing[good], decimal[good], keys[:, good]
        lists = {j: _of_rows(*of_column, fault == 0) for j, of_column in lists.items()}
    return Rows(label, integer, missing, decimal, keys, tuple(texts), count, _rejected(arrays, bad, fault), lists)


def _lists(array: pa.Array) -> tuple[tuple[Tokens, np.ndarray], np.ndarray]:
    """All tokens of a column of lists, the row of each, and what is wrong in each row."""
    values = _plain(array.flatten())
    row = pc.list_parent_indices(array).to_numpy()
    keys = np.empty(len(values), np.uint64)
    texts, faulty = _tokens(values, keys)
    if (not_text := _not_utf8(values)) is not None:
        faulty = np.where(not_text, ENCODING, faulty)
    fault = np.zeros(len(array), np.uint8)
    np.maximum.at(fault, row[faulty > 0], faulty[faulty > 0])
    return (Tokens(keys, texts), row), fault


def _of_rows(tokens: Tokens, row: np.ndarray, good: np.ndarray) -> tuple[Tokens, np.ndarray]:
    """Those of good rows alone, numbered anew."""
    kept = np.flatnonzero(good[row])
    return tokens.take(kept), (np.cumsum(good) - 1)[row[kept]]


def _plain(array: pa.Array) -> pa.Array:
    """The values as large_binary, int64, uint64, double or bool, or as indices of such values.

    Arrow's decimals become their text, which holds them exactly.
    """
    if types.is_dictionary(array.type):
        return pa.DictionaryArray.from_arrays(array.indices, _plain(array.dictionary))
    if types.is_decimal(array.type):
        return array.cast(pa.string()).cast(_TEXT)
    if _is_text(array.type):
        return array if array.type == _TEXT else array.cast(_TEXT)
    if _is_list(array.type):
        return array
    if types.is_integer(array.type):
        return array if array.type == pa.uint64() else array.cast(pa.int64())
    return array.cast(pa.float64()) if types.is_floating(array.type) else array


def _decoded(array: pa.Array) -> pa.Array:
    return array.dictionary_decode() if types.is_dictionary(array.type) else array


def _labels(array: pa.Array, values: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Whether each value is the second of ``values``; and what is wrong where it is neither."""
    fault = np.zeros(len(array), np.uint8)
    if array.type != _TEXT and not (types.is_boolean(array.type) and values != NO_AND_YES):
        whole, missing, fault = _integers(array)
        array = pa.array(whole, mask=missing).cast(pa.string()).cast(_TEXT)
    elif array.type != _TEXT:
        array = array.cast(pa.string()).cast(_TEXT)
    no, yes = (pc.fill_null(pc.equal(array, pa.scalar(value.encode(), _TEXT)), False) for value in values)
    label = yes.to_numpy(zero_copy_only=False)
    return label, np.where(label | no.to_numpy(zero_copy_only=False) & (fault == 0), 0, LABEL).astype(np.uint8)


def _integers(array: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """int64: the values, 0 where they are missing or wrong; bool: missing; uint8: what is wrong."""
    fault = np.zeros(len(array), np.uint8)
    if array.type == _TEXT:
        integer, missing = np.zeros(len(array), np.int64), np.zeros(len(array), np.bool_)
        _read_integers(*_buffers(array), integer, missing, fault)
        return integer, missing, fault
    missing = array.is_null().to_numpy(zero_copy_only=False)
    values = (array.cast(pa.int8()) if types.is_boolean(array.type) else array).fill_null(0).to_numpy()
    if array.type == pa.float64():
        missing = missing | np.isnan(values)
        values = np.where(missing, 0.0, values)
        fault[(values != np.trunc(values)) | (np.abs(values) > _WHOLE)] = INTEGER
    elif array.type == pa.uint64():
        fault[values > np.uint64(2**63 - 1)] = RANGE
    return np.where(fault, 0, values).astype(np.int64), missing, fault


def _decimals(array: pa.Array, digits: int) -> tuple[np.ndarray, np.ndarray]:
    """float64: the values, NaN where they are missing or wrong; uint8: what is wrong."""
    if array.type == _TEXT:
        ends, data, valid = _buffers(array)
        length = np.where(valid, np.diff(ends), 0) if len(valid) else np.diff(ends)
        numbers, found = read_decimals(Texts(data, ends[:-1], length), digits)
        return numbers, np.array([0, DECIMAL, LARGE], np.uint8)[found]
    missing = array.is_null().to_numpy(zero_copy_only=False)
    values = (array.cast(pa.int8()) if types.is_boolean(array.type) else array).fill_null(0).to_numpy()
    numbers = np.where(missing, np.nan, values.astype(np.float64))
    fault = np.where(np.isinf(numbers), DECIMAL, np.where(np.abs(numbers) >= 10.0**digits, LARGE, 0)).astype(np.uint8)
    return np.where(fault, np.nan, numbers), fault


def _tokens(array: pa.Array, keys: np.ndarray) -> tuple[Texts, np.ndarray]:
    """Writes the tokens' keys; returns the texts of tagged ones, and what is wrong."""
    fault = np.zeros(len(array), np.uint8)
    if types.is_dictionary(array.type):
        of_values = np.zeros(len(array.dictionary) + 1, np.uint64)  # the last one is that of null
        texts, wrong = _tokens(array.dictionary, of_values[:-1])
        keys[:] = of_values[_indices(array)]
        return texts, np.append(wrong, np.uint8(0))[_indices(array)] if wrong.any() else fault
    if array.type == pa.float64():
        whole, missing, fault = _integers(array)
        array = pa.array(whole, mask=missing)
    if types.is_integer(array.type):  # spelled once for each value
        of_values = array.dictionary_encode()
        spelled = of_values.dictionary.cast(pa.string()).cast(_TEXT)
        texts, _ = _tokens(pa.DictionaryArray.from_arrays(of_values.indices, spelled), keys)
        return texts, fault
    if array.type != _TEXT:
        array = array.cast(pa.string()).cast(_TEXT)
    ends, data, valid = _buffers(array)
    long = np.empty((len(array), 2), np.int64)
    count = _read_tokens(ends, data, valid, keys, long)
    return Texts(data, long[:count, 0], long[:count, 1]), fault


def _buffers(array: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of texts: int64 [n + 1], where each starts and stops; uint8, the bytes; bool [n], or empty if none is null."""
    _, offsets, data = array.buffers()
    ends = (
        np.zeros(1, np.int64) if not len(array) else np.frombuffer(offsets, np.int64, len(array) + 1, 8 * array.offset)
    )
    text = np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    valid = array.is_valid().to_numpy(zero_copy_only=False) if array.null_count else np.zeros(0, np.bool_)
    return ends, text, valid


def _not_utf8(array: pa.Array) -> np.ndarray | None:
    """bool: where a text is not UTF-8; None where all are."""
    if types.is_dictionary(array.type):
        of_values = _not_utf8(array.dictionary)
        return None if of_values is None else np.append(of_values, False)[_indices(array)]
    if array.type != _TEXT:
        return None
    ends, text, valid = _buffers(array)
    if text[ends[0] : ends[-1]].max(initial=0) < 128:
        return None
    wrong = np.zeros(len(array), np.bool_)
    _find_not_utf8(ends, text, valid, wrong)
    return wrong


def _indices(array: pa.DictionaryArray) -> np.ndarray:
    """Of each value in the dictionary; one beyond it for null."""
    return array.indices.fill_null(len(array.dictionary)).to_numpy()


def _rejected(arrays: list[pa.Array], bad: np.ndarray, fault: np.ndarray) -> list[Rejected]:
    if not len(bad):
        return []
    rows = zip(*(array.take(pa.array(bad)).to_pylist() for array in arrays), strict=True)
    return [
        Rejected(row, int(fault[row]) - 1, values_text(map(_shown, values)))
        for row, values in zip(bad.tolist(), rows, strict=True)
    ]


def _shown(value: object) -> bytes:
    return b"" if value is None else value if isinstance(value, bytes) else str(value).encode()


@compiled
def _read_integers(ends, data, valid, integer, missing, fault):
    for i in range(integer.size):
        if valid.size and not valid[i]:
            missing[i] = True
        else:
            integer[i], fault[i] = read_integer(data, ends[i], ends[i + 1])
            missing[i] = ends[i] == ends[i + 1]


@compiled
def _read_tokens(ends, data, valid, keys, long):
    """Writes keys and where the long tokens are; returns how many of these there are."""
    texts = 0
    for i in range(keys.size):
        begin, stop = ends[i], ends[i + 1]
        if begin == stop or (valid.size and not valid[i]):
            keys[i] = 0
            continue
        if stop - begin <= 8 and begin + 8 <= data.size:
            beyond = np.uint64(8 * (8 - (stop - begin)))
            word = (load8(data, begin) << beyond) >> beyond
            # A zero byte among those of the token sets a high bit here. A borrow can set further ones, never clear it.
            filled = word if beyond == 0 else word | (~np.uint64(0) << (np.uint64(64) - beyond))
            if (filled - _ONES) & ~filled & _HIGH_BITS == 0:
                keys[i] = word
                continue
        keys[i], texts = read_token(data, begin, stop, long, texts)
    return texts


@compiled
def _find_not_utf8(ends, data, valid, wrong):
    for i in range(wrong.size):
        wrong[i] = (not valid.size or valid[i]) and not is_utf8(data, ends[i], ends[i + 1])
