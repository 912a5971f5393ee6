"""What a raw line means: the one place that decides which lines are rows, and what their fields are.

A line is ``label TAB numbers TAB tokens``, UTF-8, ended by LF or CRLF (or by the end of the file). An empty field is a
missing value. Label: ``0`` or ``1``, or the two texts that the label's column declares. Integer: ``-?[0-9]+`` within 64
bits. Decimal number: see ``decimals.py``. Token: any text without tab or newline; a CR that does not end the line
belongs to the token. Everything else is rejected, with one of ``REASONS``.

Two loops read lines. The first knows plain lines alone: short integers, and tokens of eight ASCII bytes, as Criteo's
are. Whatever else it meets, it leaves to the second, which knows every rule. No line reads differently by the one and
by the other, which tests hold them to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from dlrm_lib.columns import NO_AND_YES, RawColumns
from dlrm_lib.preprocess.compiled import compiled, load8
from dlrm_lib.preprocess.decimals import MALFORMED, TOO_LARGE, digits_of, read_decimal, settle
from dlrm_lib.preprocess.tokens import TAG, Texts, Tokens

# If a line has several faults, the first of this list is given; among its numbers, the first faulty one.
REASONS = (
    "blank line",
    "not UTF-8",
    "wrong number of fields",
    "label is not 0 or 1",
    "not an integer",
    "integer beyond 64 bits",
    "not a decimal number",
    "decimal number too large",
)
BLANK, ENCODING, FIELDS, LABEL, INTEGER, RANGE, DECIMAL, LARGE = range(1, len(REASONS) + 1)

BOM = b"\xef\xbb\xbf"  # in front of a file's first line it says that the text is UTF-8: no part of the label
PADDING = 16  # bytes after the text that may be read, never used: a word is read before it is known where a token ends

_TAB, _NEWLINE, _RETURN, _MINUS, _ZERO, _NINE = (ord(c) for c in "\t\n\r-09")
_LEAST = -(2**63)
_SPACES = np.uint64(0x2020202020202020)
_HIGH_BITS = np.uint64(0x8080808080808080)


class Rejected(NamedTuple):
    """What is no row.

    Attributes:
        line: The number of its line in the chunk, from 0; of its row, where there are no lines.
        reason: Index of the reason.
        text: The line, or the values of the row separated by tabs.
    """

    line: int
    reason: int
    text: bytes


class Rows(NamedTuple):
    """The rows of a chunk of a file, whatever its format, still with tokens instead of ids.

    Attributes:
        label: bool [rows].
        integer: int64 [rows, N]; 0 where missing, and in columns of decimals.
        missing: bool [rows, N].
        decimal: float64 [rows, D], of the columns of decimals alone; NaN where missing.
        keys: uint64 [M, rows]: the tokens, see ``tokens.py``; 0 where missing.
        texts: For each categorical column, the texts of tagged keys.
        lines: Lines in the chunk; rows, rejected ones included, where there are no lines.
        bad: What was rejected, in the order of the file.
        lists: For categorical columns of lists, by their number, all tokens and the row of each, ascending (int64 [n]);
            their ``keys`` mean nothing.
    """

    label: np.ndarray
    integer: np.ndarray
    missing: np.ndarray
    decimal: np.ndarray
    keys: np.ndarray
    texts: tuple[Texts, ...]
    lines: int
    bad: list[Rejected]
    lists: Mapping[int, tuple[Tokens, np.ndarray]] = MappingProxyType({})

    def tokens(self, column: int) -> Tokens:
        """A column's tokens."""
        return Tokens(self.keys[column], self.texts[column])


def reasons(columns: RawColumns) -> tuple[str, ...]:
    """``REASONS``, with the labels that these columns have."""
    named = f"label is not {columns.label.values[0]} or {columns.label.values[1]}"
    return tuple(named if index == LABEL - 1 else reason for index, reason in enumerate(REASONS))


def values_text(values: Iterable[bytes]) -> bytes:
    """Values as the text of what is rejected: separated by tabs, on one line."""
    return b"\t".join(value.replace(b"\t", rb"\t").replace(b"\n", rb"\n") for value in values)


def spelled(text: str) -> np.ndarray:
    """uint8: a text as compiled loops compare it."""
    return np.frombuffer(text.encode(), np.uint8)


class Parser:
    """Reads chunk after chunk into the same memory: fresh memory costs more time than the reading."""

    def __init__(self, columns: RawColumns) -> None:
        self._columns = columns
        self._no, self._yes = map(spelled, columns.label.values)
        self._plain = columns.label.values == NO_AND_YES
        self._digits = digits_of(columns)
        self._make_room(1 << 12)

    def _make_room(self, lines: int) -> None:
        n, m = self._columns.numerical, self._columns.categorical
        self._lines = lines
        self._label = np.empty(lines, np.bool_)
        self._integer = np.empty((lines, n), np.int64)
        self._missing = np.empty((lines, n), np.bool_)
        decimals = np.count_nonzero(self._digits)
        self._decimal = np.empty((lines, decimals))
        self._spelled = np.empty((lines, decimals, 2), np.int32)
        # For None the loops are compiled without what decimals need: logs that have none pay nothing for them.
        places = np.cumsum(self._digits > 0) - 1
        self._decimals = (self._digits, places, self._decimal, self._spelled) if decimals else None
        self._keys = np.empty((m, lines), np.uint64)
        self._long = np.empty((m * lines, 2), np.int32)
        self._bad = np.empty((lines, 4), np.int32)

    def _make_room_for(self, data: np.ndarray, size: int) -> int:
        """Makes room for the lines of a text, and returns how many there are."""
        lines = _count_newlines(data, size)
        if lines > self._lines:
            self._make_room(max(lines, 2 * self._lines))
        return lines

    def parse(self, data: np.ndarray, size: int) -> Rows:
        """Reads whole lines.

        Args:
            data: uint8: the text, then ``PADDING`` bytes of any content.
            size: Bytes of text, below 2 GiB; the last one is a newline.

        Returns:
            Its arrays are views, which the next call overwrites.
        """
        lines = self._make_room_for(data, size)
        rows, rejected, long = _parse(data, size, self._no, self._yes, self._plain, *self._room)
        bad = self._bad[:rejected].tolist()
        rejects = [Rejected(line, reason, data[start:stop].tobytes()) for line, start, stop, reason in bad]
        return self._filled(data, rows, long, lines, rejects)

    @property
    def _room(self) -> tuple[Any, ...]:
        return self._label, self._integer, self._missing, self._decimals, self._keys, self._long, self._bad

    def _filled(self, data: np.ndarray, rows: int, long: int, lines: int, bad: list[Rejected]) -> Rows:
        """What has been read of ``data`` into the room."""
        if self._decimals:
            settle(data, self._spelled[:rows], self._decimal[:rows])
        return Rows(
            self._label[:rows],
            self._integer[:rows],
            self._missing[:rows],
            self._decimal[:rows],
            self._keys[:, :rows],
            (Texts(data, self._long[:long, 0], self._long[:long, 1]),) * len(self._keys),
            lines,
            bad,
        )


def parse(text: bytes, columns: RawColumns) -> Rows:
    """Reads a text of whole lines, less than 2 GiB; the last line may lack its newline."""
    if text and not text.endswith(b"\n"):
        text += b"\n"
    return Parser(columns).parse(np.frombuffer(text + bytes(PADDING), np.uint8), len(text))


@compiled
def _count_newlines(data, size):
    lines = 0
    for at in range(size):
        lines += data[at] == _NEWLINE
    return lines


@compiled
def _parse(data, size, no, yes, plain, label, integer, missing, decimals, keys, long, bad):
    """Fills the arrays, which have room for every line; returns how many rows, rejected lines and long tokens."""
    row, rejected, texts, line, at = 0, 0, 0, 0, 0
    while at < size:
        after = _plain_line(data, at, row, label, integer, missing, decimals, keys) if plain else 0
        if after > 0:
            row += 1
        else:
            reason, stop, after, more = _any_line(
                data, at, row, no, yes, label, integer, missing, decimals, keys, long, texts
            )
            if reason == 0:
                row += 1
                texts = more
            else:
                bad[rejected, 0] = line
                bad[rejected, 1] = at
                bad[rejected, 2] = stop
                bad[rejected, 3] = reason - 1
                rejected += 1
        line += 1
        at = after
    return row, rejected, texts


@compiled
def _plain_line(data, at, row, label, integer, missing, decimals, keys):
    """Reads a line; returns where the next one starts, or 0 if this line needs more care."""
    n, m = integer.shape[1], keys.shape[0]
    digit = np.uint8(data[at] - _ZERO)
    if digit > 1 or data[at + 1] != _TAB or m == 0:
        return 0
    label[row] = digit == 1
    at += 2
    for i in range(n):
        first = at
        if decimals is not None and decimals[0][i] > 0:
            while data[at] != _TAB and data[at] != _NEWLINE:
                at += 1
            if data[at] != _TAB or read_number(data, first, at, row, i, integer, missing, decimals):
                return 0
            at += 1
            continue
        negative = data[at] == _MINUS
        at += negative
        value = np.int64(0)
        while True:
            digit = np.uint8(data[at] - _ZERO)
            if digit > 9:
                break
            value = value * 10 + np.int64(digit)
            at += 1
        if data[at] != _TAB or at - first > 18 or (negative and at - first == 1):
            return 0
        integer[row, i] = -value if negative else value
        missing[row, i] = at == first
        at += 1
    for j in range(m):
        word = load8(data, at)
        # A byte below 32 or above 127 sets a high bit here. A borrow can set further ones, never clear this one.
        if ((word - _SPACES) | word) & _HIGH_BITS == 0:
            keys[j, row] = word
            at += 8
        else:
            keys[j, row] = 0
        if j == m - 1:
            break
        if data[at] != _TAB:
            return 0
        at += 1
    if data[at] == _RETURN:
        at += 1
    return at + 1 if data[at] == _NEWLINE else 0


@compiled
def _any_line(data, first, row, no, yes, label, integer, missing, decimals, keys, long, texts):
    """Reads a line by every rule; returns what is wrong, where it ends, where the next starts, how many long tokens."""
    n, m = integer.shape[1], keys.shape[0]
    begin = at = first
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
            label[row] = is_text(data, begin, stop, yes)
            if not label[row] and not is_text(data, begin, stop, no):
                reason = LABEL
        elif field <= n:
            fault = read_number(data, begin, stop, row, field - 1, integer, missing, decimals)
            if reason == 0:
                reason = fault
        elif field <= n + m:
            keys[field - 1 - n, row], texts = read_token(data, begin, stop, long, texts)
        field += 1
        at += 1
        begin = at
        if byte == _NEWLINE:
            break
    if stop == first:
        reason = BLANK
    elif seen >= 128 and not is_utf8(data, first, stop):
        reason = ENCODING
    elif field != 1 + n + m:
        reason = FIELDS
    return reason, stop, at, texts


@compiled
def is_text(data, begin, stop, text):
    """Whether a field is exactly this text."""
    if stop - begin != text.size:
        return False
    for k in range(text.size):  # noqa: SIM110 (numba does not compile all(...))
        if data[begin + k] != text[k]:
            return False
    return True


@compiled
def read_token(data, begin, stop, long, texts):
    """The key of a token, and how many long ones there are with it: it is added to them if it is one."""
    key = np.uint64(0)
    short = stop - begin <= 8
    if short:
        for k in range(stop - 1, begin - 1, -1):
            short &= data[k] != 0
            key = (key << np.uint64(8)) | np.uint64(data[k])
    if not short:
        key = TAG | np.uint64(texts)
        long[texts, 0] = begin
        long[texts, 1] = stop - begin
        texts += 1
    return key, texts


@compiled
def read_number(data, begin, stop, row, column, integer, missing, decimals):
    """Reads a numerical field into its place; returns what is wrong with it (0: nothing)."""
    missing[row, column] = begin == stop
    if decimals is not None:
        digits, places, decimal, spelled = decimals
        if digits[column] > 0:
            place = places[column]
            integer[row, column] = 0
            spelled[row, place, 0] = spelled[row, place, 1] = 0
            decimal[row, place] = np.nan
            if begin == stop:
                return 0
            value, end, exact, fault = read_decimal(data, begin, stop, digits[column])
            decimal[row, place] = value
            if not exact:
                spelled[row, place, 0], spelled[row, place, 1] = begin, stop - begin
            if end < stop or fault == MALFORMED:
                return DECIMAL
            return LARGE if fault == TOO_LARGE else 0
    value, fault = read_integer(data, begin, stop)
    integer[row, column] = value
    return fault


@compiled
def read_integer(data, begin, stop):
    """The integer in a field and what is wrong with it (0: nothing). An empty field is 0."""
    if begin == stop:
        return 0, 0
    negative = data[begin] == _MINUS
    if negative:
        begin += 1
    if begin == stop:
        return 0, INTEGER
    fault = 0
    value = 0  # minus the magnitude: the negative side has room for one more
    for i in range(begin, stop):
        if data[i] < _ZERO or data[i] > _NINE:
            return 0, INTEGER
        digit = np.int64(data[i]) - _ZERO
        if value < (_LEAST + digit + 9) // 10:  # value * 10 - digit would be below the least integer
            fault = RANGE
            value = 0
        value = value * 10 - digit
    if negative:
        return value, fault
    if value == _LEAST:
        return 0, RANGE
    return -value, fault


@compiled
def is_utf8(data, begin, stop):
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
