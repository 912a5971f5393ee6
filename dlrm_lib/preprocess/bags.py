"""Bags: several tokens in one field, of which the first L are kept.

In files and in spills a bag takes L places. Tokens come first, in their order; what is left over is filled up. A field
without any token is missing, like that of a column of single tokens: code 0 in the first place.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dlrm_lib.preprocess.compiled import compiled
from dlrm_lib.preprocess.tokens import TAG, Texts, Tokens
from dlrm_lib.preprocess.vocabulary import Dictionary

# What fills up a bag of codes.
_WIDE, _NARROW = np.iinfo(np.int32).max, np.iinfo(np.uint16).max


class Bags(NamedTuple):
    """The bags of some rows.

    Attributes:
        tokens: Those that are kept, row by row.
        row: int64 [n]: the row of each.
        place: int64 [n]: its place in the bag.
        cut: Rows that had more tokens than are kept.
    """

    tokens: Tokens
    row: np.ndarray
    place: np.ndarray
    cut: int


def split(fields: Tokens, separator: str, most: int) -> Bags:
    """The tokens between separators; empty ones are none.

    Args:
        fields: The field of each row.
        separator: One ASCII character.
        most: L.
    """
    _, ends, data = fields.strings().buffers()
    text = np.frombuffer(data, np.uint8) if data else np.zeros(0, np.uint8)
    end = np.frombuffer(ends, np.int64)[: len(fields.keys) + 1]
    least = np.count_nonzero(text == ord(separator)) + len(fields.keys)  # pieces, empty ones included
    keys, row, place = np.empty(least, np.uint64), np.empty(least, np.int64), np.empty(least, np.int64)
    start, length = np.empty(least, np.int64), np.empty(least, np.int64)
    kept, long, cut = _split(text, end, ord(separator), most, keys, row, place, start, length)
    return Bags(Tokens(keys[:kept], Texts(text, start[:long], length[:long])), row[:kept], place[:kept], cut)


def gathered(tokens: Tokens, row: np.ndarray, most: int) -> Bags:
    """The bags of tokens that are apart already; empty ones are none.

    Args:
        tokens: Of all rows, row by row.
        row: int64 [n]: the row of each, ascending.
        most: L.
    """
    there = np.flatnonzero(tokens.keys)
    row = row[there]
    first = np.flatnonzero(np.diff(row, prepend=-1))  # of each row that has any
    place = np.arange(len(row)) - np.repeat(first, np.diff(first, append=len(row)))
    kept = place < most
    return Bags(tokens.take(there[kept]), row[kept], place[kept], int(np.count_nonzero(place == most)))


def codes(bags: Bags, dictionary: Dictionary, rows: int, most: int) -> np.ndarray:
    """The codes of the bags' tokens, which are counted: int32 [rows, L]."""
    found = np.full((rows, most), _WIDE, np.int32)
    found[:, 0] = 0
    found[bags.row, bags.place] = dictionary.codes(bags.tokens, count=True)
    return found


def narrowed(codes: np.ndarray, size: int) -> np.ndarray:
    """Codes up to ``size`` in two bytes where they fit: int32 → uint16; what fills up bags stays that."""
    if codes.ndim == 1:
        return codes.astype(np.uint16) if size < 1 << 16 else codes
    return np.where(codes == _WIDE, _NARROW, codes).astype(np.uint16) if size < _NARROW else codes


def filled(codes: np.ndarray) -> np.ndarray:
    """bool, in their shape: which codes only fill up a bag."""
    if codes.ndim == 1:
        return np.zeros(codes.shape, np.bool_)
    return codes == (_NARROW if codes.dtype == np.uint16 else _WIDE)


@compiled
def _split(text, ends, separator, most, keys, row, place, start, length):
    kept = long = cut = 0
    for i in range(ends.size - 1):
        found, begin = 0, ends[i]
        for at in range(ends[i], ends[i + 1] + 1):
            if at < ends[i + 1] and text[at] != separator:
                continue
            count = at - begin
            if count > 0 and found == most:
                cut += 1
                break
            if count > 0:
                key, plain = np.uint64(0), count <= 8
                for k in range(count):
                    plain = plain and text[begin + k] != 0
                    if k < 8:
                        key |= np.uint64(text[begin + k]) << np.uint64(8 * k)
                if not plain:
                    key = TAG | np.uint64(long)
                    start[long], length[long] = begin, count
                    long += 1
                keys[kept], row[kept], place[kept] = key, i, found
                kept += 1
                found += 1
            begin = at + 1
    return kept, long, cut
