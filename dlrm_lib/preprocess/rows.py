"""What a raw line means: the one place that decides which lines are rows, and what their fields are.

A line is ``label TAB integers TAB tokens``, UTF-8, ended by LF or CRLF (or by the end of the file). An empty field is a
missing value. Label: ``0`` or ``1``. Integer: ``-?[0-9]+`` within 64 bits. Token: any text without tab or newline; a CR
that does not end the line belongs to the token. Everything else is rejected, with one of ``REASONS``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from dlrm_lib.features import RawColumns
from dlrm_lib.preprocess.compiled import compiled

# If a line has several faults, the first of this list is given; among its integers, the first faulty one.
REASONS = (
    "blank line",
    "not UTF-8",
    "wrong number of fields",
    "label is not 0 or 1",
    "not an integer",
    "integer beyond 64 bits",
)
_BLANK, _ENCODING, _FIELDS, _LABEL, _INTEGER, _RANGE = range(1, len(REASONS) + 1)

_TAB, _NEWLINE, _RETURN, _MINUS, _ZERO, _NINE = (ord(c) for c in "\t\n\r-09")
_LEAST = -(2**63)


class Rows(NamedTuple):
    """The rows of a chunk of text, still with tokens instead of ids.

    Attributes:
        label: bool [rows].
        integer: int64 [rows, N]; 0 where missing.
        missing: bool [rows, N].
        start: int32 [M, rows], where each token starts in the chunk.
        length: int32 [M, rows], its length in bytes; 0 where missing.
        lines: Lines in the chunk.
        bad: int32 [rejected lines, 4]: line number from 0, start, stop, index of the reason.
    """

    label: np.ndarray
    integer: np.ndarray
    missing: np.ndarray
    start: np.ndarray
    length: np.ndarray
    lines: int
    bad: np.ndarray


def parse(chunk: bytes, columns: RawColumns) -> Rows:
    """Reads a chunk of whole lines (the last one may lack its newline).

    Args:
        chunk: Less than 2 GiB of text.
        columns: The columns of a row.
    """
    if not chunk.endswith(b"\n"):
        chunk += b"\n"
    most = chunk.count(b"\n")
    label = np.empty(most, np.bool_)
    integer = np.empty((most, columns.numerical), np.int64)
    missing = np.empty((most, columns.numerical), np.bool_)
    start = np.empty((columns.categorical, most), np.int32)
    length = np.empty((columns.categorical, most), np.int32)
    bad = np.empty((most, 4), np.int32)
    data = np.frombuffer(chunk, np.uint8)
    rows, rejected = _parse(data, label, integer, missing, start, length, bad)
    return Rows(
        label[:rows], integer[:rows], missing[:rows], start[:, :rows], length[:, :rows], most, bad[:rejected].copy()
    )


def encode_integers(integer: np.ndarray, missing: np.ndarray, rule: str) -> np.ndarray:
    """The numerical features: a logarithm in float64, rounded once to float16.

    Args:
        integer: int64 [rows, N].
        missing: bool [rows, N].
        rule: ``log_x_plus_2``: log(max(x + 2, 1)), missing counts as 0. ``log_x_plus_3``: log(x + 3), and 0.0 for
            missing and for x <= -3, as NVIDIA's released script computes it.

    Returns:
        float16 [rows, N].
    """
    logarithm = np.empty(integer.shape)
    if rule == "log_x_plus_2":
        _logarithms(integer, missing, 2, math.log(2.0), logarithm)
    else:
        _logarithms(integer, missing, 3, 0.0, logarithm)
    return logarithm.astype(np.float16)


@compiled
def _parse(data, label, integer, missing, start, length, bad):
    """Fills the arrays, which have room for every line; returns how many rows and rejected lines there are."""
    n, m = integer.shape[1], start.shape[0]
    row, rejected, line, at = 0, 0, 0, 0
    while at < data.size:
        first = begin = at
        field = reason = 0
        seen = np.uint8(0)
        while True:
            byte = data[at]
            seen |= byte
            if byte != _TAB and byte != _NEWLINE:
                at += 1
                continue
            stop = at
            if byte == _NEWLINE and at > first and data[at - 1] == _RETURN:
                stop -= 1
            if field == 0:
                label[row] = data[begin] == _ZERO + 1
                if stop - begin != 1 or data[begin] < _ZERO or data[begin] > _ZERO + 1:
                    reason = _LABEL
            elif field <= n:
                value, fault = _integer(data, begin, stop)
                integer[row, field - 1] = value
                missing[row, field - 1] = stop == begin
                if reason == 0:
                    reason = fault
            elif field <= n + m:
                start[field - 1 - n, row] = begin
                length[field - 1 - n, row] = stop - begin
            field += 1
            at += 1
            begin = at
            if byte == _NEWLINE:
                break
        if stop == first:
            reason = _BLANK
        elif seen >= 128 and not _is_utf8(data, first, stop):
            reason = _ENCODING
        elif field != 1 + n + m:
            reason = _FIELDS
        if reason == 0:
            row += 1
        else:
            bad[rejected, 0] = line
            bad[rejected, 1] = first
            bad[rejected, 2] = stop
            bad[rejected, 3] = reason - 1
            rejected += 1
        line += 1
    return row, rejected


@compiled
def _integer(data, begin, stop):
    """The integer in a field and what is wrong with it (0: nothing). An empty field is 0."""
    if begin == stop:
        return 0, 0
    negative = data[begin] == _MINUS
    if negative:
        begin += 1
    if begin == stop:
        return 0, _INTEGER
    fault = 0
    value = 0  # minus the magnitude: the negative side has room for one more
    for i in range(begin, stop):
        if data[i] < _ZERO or data[i] > _NINE:
            return 0, _INTEGER
        digit = np.int64(data[i]) - _ZERO
        if value < (_LEAST + digit + 9) // 10:  # value * 10 - digit would be below the least integer
            fault = _RANGE
            value = 0
        value = value * 10 - digit
    if negative:
        return value, fault
    if value == _LEAST:
        return 0, _RANGE
    return -value, fault


@compiled
def _is_utf8(data, begin, stop):
    """Whether the bytes are well-formed UTF-8 (Unicode standard, table 3-7): no overlong form, no surrogate."""
    at = begin
    while at < stop:
        lead = data[at]
        at += 1
        if lead < 0x80:
            continue
        low, high = 0x80, 0xBF  # the range of the second byte
        if 0xC2 <= lead <= 0xDF:
            more = 1
        elif 0xE0 <= lead <= 0xEF:
            more = 2
            if lead == 0xE0:
                low = 0xA0
            elif lead == 0xED:
                high = 0x9F
        elif 0xF0 <= lead <= 0xF4:
            more = 3
            if lead == 0xF0:
                low = 0x90
            elif lead == 0xF4:
                high = 0x8F
        else:
            return False
        if at + more > stop:
            return False
        for _ in range(more):
            if data[at] < low or data[at] > high:
                return False
            low, high = 0x80, 0xBF
            at += 1
    return True


@compiled
def _logarithms(integer, missing, shift, when_missing, out):
    for i in range(integer.shape[0]):
        for j in range(integer.shape[1]):
            x = integer[i, j]
            if missing[i, j]:
                out[i, j] = when_missing
            elif x + shift <= 1 and x < 0:  # the second condition: the sum overflows for the greatest integers
                out[i, j] = 0.0
            elif x < 0:
                out[i, j] = math.log(np.float64(x + shift))
            else:
                out[i, j] = math.log(np.float64(np.uint64(x) + np.uint64(shift)))
