"""Delimited text with a header, as CSV files are: columns are found by name, fields may stand in quotes.

A record ends with LF or CRLF outside quotes. A quote at the beginning of a field opens a quoted part, in which two
quotes stand for one; anywhere else it is text, as Python's ``csv`` has it too. What fields mean, ``rows.py`` says.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from dlrm_lib.columns import RawColumns
from dlrm_lib.errors import InputError
from dlrm_lib.preprocess.compiled import compiled
from dlrm_lib.preprocess.rows import (
    BLANK,
    BOM,
    DECIMAL,
    ENCODING,
    FIELDS,
    INTEGER,
    LABEL,
    PADDING,
    Parser,
    Rejected,
    Rows,
    is_text,
    is_utf8,
    read_number,
    read_token,
    values_text,
)
from dlrm_lib.preprocess.text import CHUNK, LONGEST_LINE, PlainLines, opened

_QUOTE, _NEWLINE, _RETURN = (ord(c) for c in '"\n\r')
_OUTSIDE, _FIELD, _QUOTED, _CLOSED = range(4)  # at a field's start, in its plain part, in quotes, behind one in quotes


@dataclass(frozen=True, kw_only=True)
class Delimited(PlainLines):
    """The form of a file of delimited text with a header (see ``forms.Form``). Places are bytes where records start.

    Attributes:
        separator: Between fields, one byte.
        header: The names in the file's first record.
    """

    named: ClassVar[bool] = True

    separator: str
    header: tuple[str, ...]

    def bounds(self, path: Path, most_bytes: int) -> list[int]:
        """Cuts a file where records start. A newline may stand in quotes: they are followed from the beginning on."""
        wanted = super().bounds(path, most_bytes)
        if len(wanted) == 2:
            return wanted
        places = np.array(wanted[1:-1], np.int64)
        found, state, position = 0, _OUTSIDE, 0
        with open(path, "rb") as file:
            while found < len(places) and (block := file.read(CHUNK)):
                data = np.frombuffer(block, np.uint8)
                found, state = _find_starts(data, position, state, ord(self.separator), places, found)
                position += len(block)
        return sorted({0, *places[:found].tolist(), wanted[-1]})

    def read(self, path: Path, start: int, stop: int, columns: RawColumns) -> Iterator[Rows]:
        """Yields the rows of a range; each chunk overwrites the one before.

        Raises:
            InputError: a quote is opened and not closed, or the compressed data is damaged.
        """
        records = _Records(columns, self, header=start == 0)
        buffer, held, left, lines = bytearray(2 * CHUNK + PADDING), 0, stop - start, 0
        with opened(path) as (file, _):
            if start:
                file.seek(start)
            while True:
                if held + CHUNK + PADDING > len(buffer):
                    buffer = buffer[:held] + bytes(len(buffer))
                count = file.readinto(memoryview(buffer)[held : held + min(CHUNK, left)])  # type: ignore[attr-defined]
                if start == left - stop == 0 and buffer.startswith(BOM):
                    buffer[:count] = buffer[len(BOM) : count] + bytes(len(BOM))
                    held -= len(BOM)
                held, left = held + count, left - count
                if not held:
                    return
                if not count and held and buffer[held - 1] != _NEWLINE:
                    buffer[held] = _NEWLINE
                    held += 1
                rows, taken = records.parse_some(np.frombuffer(buffer, np.uint8), held)
                yield rows
                buffer[: held - taken] = buffer[taken:held]
                held, lines = held - taken, lines + rows.lines
                if held > LONGEST_LINE or (held and not count):
                    line = self.before(path, start) + lines + 1
                    raise InputError(
                        f"{path}, line {line}: a quote opens a field, and none closes it.",
                        found=repr(bytes(buffer[: min(held, 80)]))[1:],
                        remedy='Close it, or put the field in quotes and write "" for a quote in it.',
                    )
                if not count:
                    return


class _Records(Parser):
    """Reads chunk after chunk, as ``Parser`` does; the first record may be a header."""

    def __init__(self, columns: RawColumns, form: Delimited, *, header: bool) -> None:
        super().__init__(columns)
        self._separator, self._header = form.separator, header
        self._field_of = np.array([form.header.index(name) for name in columns.names], np.int32)
        width = len(form.header)
        self._spans = np.empty(width, np.int32), np.empty(width, np.int32), np.empty(width, np.bool_)

    def parse_some(self, data: np.ndarray, size: int) -> tuple[Rows, int]:
        """Reads the whole records at the beginning of a text; returns also how many bytes they take.

        Args:
            data: uint8: the text, then ``PADDING`` bytes of any content. Fields with quotes in them are changed.
            size: Bytes of text, below 2 GiB.
        """
        self._make_room_for(data, size)
        fields = self._header, ord(self._separator), self._field_of, *self._spans
        rows, rejected, long, taken, lines = _parse(data, size, *fields, self._no, self._yes, *self._room)
        self._header &= not taken
        bad = [
            Rejected(line, reason, self._values(data[start:stop].tobytes(), reason + 1))
            for line, start, stop, reason in self._bad[:rejected].tolist()
        ]
        return self._filled(data, rows, long, lines, bad), taken

    def _values(self, record: bytes, reason: int) -> bytes:
        """What to show of a rejected record: the columns' values; all, where it is not clear which are which."""
        text = record.decode("utf-8", "surrogateescape")
        (fields,) = csv.reader([text], delimiter=self._separator) if text.strip("\r\n") else ([],)
        if reason != FIELDS:
            fields = [fields[at] for at in self._field_of] if fields else []
        return values_text(field.encode("utf-8", "surrogateescape") for field in fields)


@compiled
def _find_starts(data, position, state, separator, places, found):
    """Moves places on to where the next record starts; returns how many are found, and the state behind the block."""
    for at in range(data.size):
        byte = data[at]
        if byte == _QUOTE:
            if state in (_OUTSIDE, _CLOSED):
                state = _QUOTED
            elif state == _QUOTED:
                state = _CLOSED
        elif state != _QUOTED:
            if byte == _NEWLINE:
                state = _OUTSIDE
                while found < places.size and places[found] <= position + at + 1:
                    places[found] = position + at + 1
                    found += 1
            else:
                state = _OUTSIDE if byte == separator else _FIELD
    return found, state


@compiled
def _parse(
    data,
    size,
    header,
    separator,
    field_of,
    starts,
    stops,
    inner,
    no,
    yes,
    label,
    integer,
    missing,
    decimals,
    keys,
    long,
    bad,
):
    """Fills the arrays, which have room for every line, with whole records.

    Returns how many rows, rejected records and long tokens there are, and how many bytes and lines all of it takes.
    """
    row, rejected, texts, line, at = 0, 0, 0, 0, 0
    while at < size:
        fields, after, lines, seen = _record(data, at, size, separator, starts, stops, inner)
        if after == 0:
            break
        if header:
            header = False
        else:
            if fields == 1 and starts[0] == stops[0] and not inner[0]:
                reason = BLANK
            elif fields != starts.size:
                reason = FIELDS
            elif seen >= 128 and not _are_utf8(data, starts, stops, field_of):
                reason = ENCODING
            else:
                reason = _values(data, row, field_of, starts, stops, inner, no, yes, label, integer, missing, decimals)
            if reason == 0:
                texts = _tokens(data, row, field_of[1 + integer.shape[1] :], starts, stops, inner, keys, long, texts)
                row += 1
            else:
                bad[rejected, 0] = line
                bad[rejected, 1] = at
                bad[rejected, 2] = after
                bad[rejected, 3] = reason - 1
                rejected += 1
        line += lines
        at = after
    return row, rejected, texts, at, line


@compiled
def _record(data, at, size, separator, starts, stops, inner):
    """Finds the fields of a record: where each starts and stops, and whether quotes within it remain to be resolved.

    Returns how many fields there are, where the next record starts (0: this one goes on behind the text), how many
    lines it takes, and all bits that are set in it.
    """
    fields, lines = 0, 1
    seen = np.uint8(0)
    while at < size:
        begin, closed, quotes = at, -1, False
        if data[at] == _QUOTE:
            at += 1
            while True:
                while at < size and data[at] != _QUOTE:
                    seen |= data[at]
                    lines += data[at] == _NEWLINE
                    at += 1
                if at + 1 >= size:
                    return 0, 0, 0, seen
                at += 1
                if data[at] != _QUOTE:
                    break
                quotes = True
                at += 1
            closed = at
        while at < size and data[at] != separator and data[at] != _NEWLINE:
            seen |= data[at]
            at += 1
        if at == size:
            break
        stop, last = at, data[at] == _NEWLINE
        if last and data[stop - 1] == _RETURN and stop > max(begin, closed):
            stop -= 1
        if closed == stop and not quotes:
            begin += 1
            stop -= 1
        if fields < starts.size:
            starts[fields], stops[fields], inner[fields] = begin, stop, closed > 0 and (quotes or closed != stop + 1)
        fields += 1
        at += 1
        if last:
            return fields, at, lines, seen
    return 0, 0, 0, seen


@compiled
def _are_utf8(data, starts, stops, which):
    for field in which:  # noqa: SIM110 (numba does not compile all(...))
        if not is_utf8(data, starts[field], stops[field]):
            return False
    return True


@compiled
def _values(data, row, field_of, starts, stops, inner, no, yes, label, integer, missing, decimals):
    """Reads the label and the numbers of a record; returns what is wrong."""
    field = field_of[0]
    label[row] = is_text(data, starts[field], stops[field], yes)
    if inner[field] or not (label[row] or is_text(data, starts[field], stops[field], no)):
        return LABEL
    for i in range(integer.shape[1]):
        field = field_of[1 + i]
        if inner[field]:
            return INTEGER if decimals is None or decimals[0][i] == 0 else DECIMAL
        fault = read_number(data, starts[field], stops[field], row, i, integer, missing, decimals)
        if fault:
            return fault
    return 0


@compiled
def _tokens(data, row, field_of, starts, stops, inner, keys, long, texts):
    """Reads the tokens of a record; returns how many long ones there are with them."""
    for j in range(field_of.size):
        field = field_of[j]
        stop = _resolve_quotes(data, starts[field], stops[field]) if inner[field] else stops[field]
        keys[j, row], texts = read_token(data, starts[field], stop, long, texts)
    return texts


@compiled
def _resolve_quotes(data, start, stop):
    """Writes the text that a field with quotes means over the field; returns where it stops."""
    at, to, quoted = start + 1, start, True
    while at < stop:
        if quoted and data[at] == _QUOTE:
            at += 1
            quoted = at < stop and data[at] == _QUOTE
            if not quoted:
                continue
        data[to] = data[at]
        to += 1
        at += 1
    return to
