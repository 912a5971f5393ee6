"""Tokens as numbers: a token of up to eight bytes is its own key, which is what makes Criteo's hashes fast.

The key of a token is its bytes as one little-endian integer; the empty token (missing) has key 0. A token that is
longer, or holds a NUL, gets a *tagged* key instead: the tag, which no UTF-8 text can look like, and its number in a
list of texts that goes with the keys.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dlrm_lib.preprocess.compiled import compiled

if TYPE_CHECKING:
    import pyarrow as pa

TAG = np.uint64(0xFF << 56)  # the byte 0xFF occurs in no UTF-8 text, so no short token has it

assert sys.byteorder == "little", "Keys are read from text as little-endian words."


class Texts(NamedTuple):
    """The tokens that have tagged keys.

    Attributes:
        data: uint8: text that holds them.
        start: integer [n]: where each starts in it.
        length: integer [n]: its length in bytes.
    """

    data: np.ndarray
    start: np.ndarray
    length: np.ndarray

    @classmethod
    def of(cls, data: np.ndarray, ends: np.ndarray) -> Texts:
        """Texts that follow each other without gaps; ``ends`` has 0 first, then where each one ends."""
        return cls(data, ends[:-1], np.diff(ends))

    def packed(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Some of the texts without gaps: their bytes, and their ends as ``of`` takes them."""
        ends = np.zeros(len(which) + 1, np.int64)
        np.cumsum(self.length[which], out=ends[1:])
        data = np.empty(int(ends[-1]), np.uint8)
        _copy_texts(self.data, self.start[which], ends, data)
        return data, ends


NO_TEXTS = Texts(np.zeros(0, np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64))


class Tokens(NamedTuple):
    """A list of tokens.

    Attributes:
        keys: uint64 [n].
        texts: What the tagged keys stand for, by number.
    """

    keys: np.ndarray
    texts: Texts = NO_TEXTS

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> Tokens:
        """The tokens with the given UTF-8 bytes."""
        long = [text for text in texts if len(text) > 8 or 0 in text]
        numbers = iter(range(len(long)))
        keys = [int(TAG) | next(numbers) if len(t) > 8 or 0 in t else int.from_bytes(t, "little") for t in texts]
        ends = np.cumsum([0, *map(len, long)])
        return cls(np.array(keys, np.uint64), Texts.of(np.frombuffer(b"".join(long), np.uint8), ends))

    @classmethod
    def of_arrays(cls, keys: np.ndarray, data: np.ndarray, ends: np.ndarray) -> Tokens:
        """What ``arrays`` has taken apart."""
        return cls(keys, Texts.of(data, ends))

    @classmethod
    def of_strings(cls, strings: pa.LargeStringArray) -> Tokens:
        """The tokens with the given texts: what ``strings`` has spelled out."""
        _, offsets, data = strings.buffers()
        ends = np.frombuffer(offsets, np.int64)[strings.offset :][: len(strings) + 1]
        text = np.frombuffer(data or b"", np.uint8)
        keys, long = np.empty(len(strings), np.uint64), np.empty(len(strings), np.int64)
        long = long[: _read_keys(text, ends, keys, long)]
        return cls(keys, Texts(text, ends[long], ends[long + 1] - ends[long]))

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What to store or send: keys (uint64), the long texts without gaps (uint8), their ends (int64)."""
        return self.keys, *self.texts.packed(np.arange(len(self.texts.start)))

    def take(self, which: np.ndarray) -> Tokens:
        """The tokens at the given indices."""
        keys = self.keys[which]
        tagged = keys >= TAG
        if not tagged.any():
            return Tokens(keys)
        data, ends = self.texts.packed((keys[tagged] ^ TAG).astype(np.int64))
        keys[tagged] = TAG | np.arange(len(ends) - 1, dtype=np.uint64)
        return Tokens(keys, Texts.of(data, ends))

    def strings(self) -> pa.LargeStringArray:
        """The tokens as text."""
        import pyarrow as pa

        ends = np.zeros(len(self.keys) + 1, np.int64)
        _measure(self.keys, self.texts.length, ends)
        data = np.empty(int(ends[-1]), np.uint8)
        _spell(self.keys, self.texts.data, self.texts.start, ends, data)
        return pa.LargeStringArray.from_buffers(len(self.keys), pa.py_buffer(ends), pa.py_buffer(data))

    def hashes(self) -> np.ndarray:
        """uint64 [n]: a hash of each token's bytes, the same in every list."""
        hashes = np.empty(len(self.keys), np.uint64)
        _hash_all(self.keys, self.texts.data, self.texts.start, self.texts.length, hashes)
        return hashes


def joined(lists: list[Tokens]) -> Tokens:
    """One list of tokens after the other."""
    keys, data, lengths, tagged = [], [], [], 0
    for tokens in lists:
        keys.append(np.where(tokens.keys >= TAG, tokens.keys + np.uint64(tagged), tokens.keys))
        _, text, ends = tokens.arrays()
        data.append(text)
        lengths.append(np.diff(ends))
        tagged += len(lengths[-1])
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(lengths))])
    return Tokens(np.concatenate(keys), Texts.of(np.concatenate(data), ends))


class LongTokens:
    """Gives texts tagged keys, equal ones the same: an open-addressing hash table with copies of the texts.

    A table of its own beside ``Dictionary``: that one compares keys alone, which are in its slots; here slots hold
    numbers, and equal hashes lead to a comparison of texts.

    Attributes:
        size: Distinct texts so far.
    """

    def __init__(self) -> None:
        self.size = 0
        self._slots = np.zeros(256, np.int32)  # number + 1, 0 = free; always at most half full
        self._hashes = np.zeros(0, np.uint64)
        self._ends = np.zeros(1, np.int64)
        self._data = np.zeros(0, np.uint8)

    @property
    def texts(self) -> Texts:
        """The texts by number."""
        return Texts.of(self._data, self._ends[: self.size + 1])

    def keys(self, texts: Texts, which: np.ndarray) -> np.ndarray:
        """uint64 [n]: the tagged key of each of the texts at the indices ``which``."""
        most = self.size + len(which)
        self._hashes = grown(self._hashes, most)
        self._ends = grown(self._ends, most + 1)
        self._data = grown(self._data, int(self._ends[self.size] + texts.length[which].sum(dtype=np.int64)))
        if 2 * most > len(self._slots):
            self._slots = np.zeros(1 << (2 * most - 1).bit_length(), np.int32)
            _fill_slots(self._slots, self._hashes, self.size)
        keys = np.empty(len(which), np.uint64)
        self.size = _number_texts(
            texts.data,
            texts.start[which],
            texts.length[which],
            keys,
            self._slots,
            self._hashes,
            self._ends,
            self._data,
            self.size,
        )
        return keys


def grown(array: np.ndarray, least: int) -> np.ndarray:
    """The array, or a copy at least twice as long, filled up with zeros."""
    if least <= len(array):
        return array
    larger = np.zeros(max(least, 2 * len(array)), array.dtype)
    larger[: len(array)] = array
    return larger


@compiled
def mixed(key):
    """A 64-bit hash of a key: ``splitmix64.mix`` for one number, as compiled loops need it."""
    z = key
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled
def _hash_text(data, begin, count):
    """FNV-1a, with a last step that brings the high bits down to where slots are chosen."""
    hashed = np.uint64(0xCBF29CE484222325)
    for i in range(begin, begin + count):
        hashed = (hashed ^ np.uint64(data[i])) * np.uint64(0x100000001B3)
    return hashed ^ (hashed >> np.uint64(32))


@compiled
def _hash_all(keys, data, start, length, hashes):
    for i in range(keys.size):
        if keys[i] >= TAG:
            number = np.int64(keys[i] ^ TAG)
            hashes[i] = mixed(_hash_text(data, start[number], length[number]))
        else:
            hashes[i] = mixed(keys[i])


@compiled
def _number_texts(data, start, length, keys, slots, hashes, ends, texts, size):
    mask = np.uint64(slots.size - 1)
    for i in range(start.size):
        begin, count = start[i], length[i]
        hashed = _hash_text(data, begin, count)
        slot = hashed & mask
        while True:
            number = slots[slot] - 1
            if number < 0:
                number = size
                size += 1
                slots[slot] = size
                hashes[number] = hashed
                at = ends[number]
                for k in range(count):
                    texts[at + k] = data[begin + k]
                ends[number + 1] = at + count
                break
            if hashes[number] == hashed and _equal(data, begin, count, texts, ends[number], ends[number + 1]):
                break
            slot = (slot + np.uint64(1)) & mask
        keys[i] = TAG | np.uint64(number)
    return size


@compiled
def _fill_slots(slots, hashes, size):
    mask = np.uint64(slots.size - 1)
    for number in range(size):
        slot = hashes[number] & mask
        while slots[slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = number + 1


@compiled
def _equal(data, begin, count, text, first, last):
    if last - first != count:
        return False
    for k in range(count):  # noqa: SIM110 (numba does not compile all(...))
        if data[begin + k] != text[first + k]:
            return False
    return True


@compiled
def _measure(keys, length, ends):
    for i in range(keys.size):
        key = keys[i]
        if key >= TAG:
            count = length[np.int64(key ^ TAG)]
        else:
            count = 0
            while key != 0:
                key >>= np.uint64(8)
                count += 1
        ends[i + 1] = ends[i] + count


@compiled
def _spell(keys, texts, start, ends, data):
    for i in range(keys.size):
        key = keys[i]
        if key >= TAG:
            begin = start[np.int64(key ^ TAG)]
            for k in range(ends[i + 1] - ends[i]):
                data[ends[i] + k] = texts[begin + k]
        else:
            for at in range(ends[i], ends[i + 1]):
                data[at] = key & np.uint64(255)
                key >>= np.uint64(8)


@compiled
def _read_keys(data, ends, keys, long):
    """Fills ``keys``, and ``long`` with the indices of what gets a tagged one; returns how many those are."""
    texts = 0
    for i in range(keys.size):
        key = np.uint64(0)
        short = ends[i + 1] - ends[i] <= 8
        if short:
            for k in range(ends[i + 1] - 1, ends[i] - 1, -1):
                short &= data[k] != 0
                key = (key << np.uint64(8)) | np.uint64(data[k])
        if not short:
            key = TAG | np.uint64(texts)
            long[texts] = i
            texts += 1
        keys[i] = key
    return texts


@compiled
def _copy_texts(data, start, ends, to):
    for i in range(start.size):
        for k in range(ends[i + 1] - ends[i]):
            to[ends[i] + k] = data[start[i] + k]
