"""Vocabularies: from tokens to codes within a task, and from the counts of all tasks to ids.

A task numbers the tokens of each column as it meets them (``Dictionary``); those codes mean something to it alone.
The counts of all tasks, merged by the same table, decide the ids (``rank``).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dlrm_lib.preprocess.compiled import compiled


class Dictionary:
    """Numbers distinct tokens from 1 in the order of their first appearance; the empty token (missing) is 0.

    An open-addressing hash table with copies of the tokens, so that it outlives the text they came from.

    Attributes:
        size: Distinct tokens so far.
    """

    def __init__(self) -> None:
        self.size = 0
        self._slots = np.zeros(256, np.int32)  # code, 0 = free; always at most half full
        self._hashes = np.zeros(1, np.uint64)  # by code; code 0 is not a token
        self._ends = np.zeros(1, np.int64)  # by code: where the token ends in the text
        self._text = np.zeros(0, np.uint8)

    @property
    def text(self) -> np.ndarray:
        """uint8: the tokens in the order of their codes, one after the other."""
        return self._text[: self._ends[self.size]]

    @property
    def ends(self) -> np.ndarray:
        """int64 [size + 1]: 0, then where each token ends in ``text``."""
        return self._ends[: self.size + 1]

    def codes(self, data: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
        """The code of each token, numbering new ones.

        Args:
            data: uint8: text that holds the tokens.
            start: integer [n]: where each token starts in it.
            length: integer [n]: its length in bytes.

        Returns:
            int32 [n].
        """
        self._make_room(len(start), int(length.sum(dtype=np.int64)))
        codes = np.empty(len(start), np.int32)
        self.size = _number_tokens(
            data, start, length, codes, self._slots, self._hashes, self._ends, self._text, self.size
        )
        return codes

    def _make_room(self, tokens: int, text: int) -> None:
        """Grows the arrays so that even if all tokens are new they fit."""
        most = self.size + tokens
        if most + 1 > len(self._ends):
            self._hashes = _grown(self._hashes, most + 1)
            self._ends = _grown(self._ends, most + 1)
        if self._ends[self.size] + text > len(self._text):
            self._text = _grown(self._text, int(self._ends[self.size]) + text)
        if 2 * most > len(self._slots):
            self._slots = np.zeros(1 << (2 * most - 1).bit_length(), np.int32)
            _fill_slots(self._slots, self._hashes, self.size)


def rank(dictionary: Dictionary, counts: np.ndarray, limit: int) -> tuple[np.ndarray, pa.Table]:
    """Ids by descending count, ties in the order of the UTF-8 bytes; values seen fewer than ``limit`` times get 0.

    Args:
        dictionary: All tokens of a column.
        counts: int64 [size + 1]: how often each code was seen; the entry of code 0 is not used.
        limit: The frequency limit, at least 1.

    Returns:
        int32 [size + 1]: the id of each code.
        The kept values: value (string), count (int64), id (int32), in the order of the ids.
    """
    offsets, text = pa.py_buffer(dictionary.ends), pa.py_buffer(dictionary.text)
    value = pa.LargeStringArray.from_buffers(dictionary.size, offsets, text)
    code = np.flatnonzero(counts[1:] >= limit)  # from 0, as in `value`
    kept = pa.table({"value": value.take(pa.array(code)), "count": counts[1:][code]})
    order = pc.sort_indices(kept, [("count", "descending"), ("value", "ascending")])
    id_of = np.zeros(dictionary.size + 1, np.int32)
    id_of[1 + code[order.to_numpy()]] = np.arange(1, len(code) + 1)
    kept = kept.take(order).append_column("id", pa.array(np.arange(1, len(code) + 1, dtype=np.int32)))
    return id_of, kept


def write_vocabulary(path: Path, kept: pa.Table) -> str:
    """Writes a column's kept values as Parquet; returns the SHA-256 of their bytes, each ended by a newline, by id."""
    # Without the Arrow schema the file holds plain Parquet types, the same for every reader.
    pq.write_table(kept, path, store_schema=False)
    digest = hashlib.sha256()
    for batch in kept.to_batches(max_chunksize=65536):
        digest.update("".join(f"{value}\n" for value in batch["value"].to_pylist()).encode())
    return digest.hexdigest()


def _grown(array: np.ndarray, least: int) -> np.ndarray:
    larger = np.zeros(max(least, 2 * len(array)), array.dtype)
    larger[: len(array)] = array
    return larger


@compiled
def _number_tokens(data, start, length, codes, slots, hashes, ends, text, size):
    mask = np.uint64(slots.size - 1)
    for i in range(start.size):
        count = length[i]
        if count == 0:
            codes[i] = 0
            continue
        begin = start[i]
        hashed = _hash(data, begin, count)
        slot = hashed & mask
        while True:
            code = slots[slot]
            if code == 0:
                size += 1
                code = size
                slots[slot] = code
                hashes[code] = hashed
                at = ends[code - 1]
                for k in range(count):
                    text[at + k] = data[begin + k]
                ends[code] = at + count
                break
            if hashes[code] == hashed and _equal(data, begin, count, text, ends[code - 1], ends[code]):
                break
            slot = (slot + np.uint64(1)) & mask
        codes[i] = code
    return size


@compiled
def _fill_slots(slots, hashes, size):
    mask = np.uint64(slots.size - 1)
    for code in range(1, size + 1):
        slot = hashes[code] & mask
        while slots[slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = code


@compiled
def _hash(data, begin, count):
    """FNV-1a, with a last step that brings the high bits down to where the slots are chosen."""
    hashed = np.uint64(0xCBF29CE484222325)
    for i in range(begin, begin + count):
        hashed = (hashed ^ np.uint64(data[i])) * np.uint64(0x100000001B3)
    return hashed ^ (hashed >> np.uint64(32))


@compiled
def _equal(data, begin, count, text, first, last):
    if last - first != count:
        return False
    for k in range(count):  # noqa: SIM110 (numba does not compile all(...))
        if data[begin + k] != text[first + k]:
            return False
    return True
