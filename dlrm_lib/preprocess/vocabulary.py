"""Vocabularies: from tokens to codes within a task, and from the counts of all tasks to ids.

A task numbers the tokens of each column as it meets them (``Dictionary``); those codes mean something to it alone.
The counts of all tasks, merged by the same table, decide the ids (``rank``).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlrm_lib.files import new_file
from dlrm_lib.preprocess.arrow import numbers
from dlrm_lib.preprocess.compiled import compiled
from dlrm_lib.preprocess.tokens import TAG, LongTokens, Tokens, grown

if TYPE_CHECKING:
    import pyarrow as pa

_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: the highest bits of the product choose the slot


class Dictionary:
    """Numbers distinct tokens from 1 in the order of their first appearance, and counts them; missing is 0.

    An open-addressing hash table whose slots hold key and code side by side: most look-ups touch one cache line.

    Attributes:
        size: Distinct tokens so far.
    """

    def __init__(self) -> None:
        self.size = 0
        self._slots = np.zeros((256, 2), np.uint64)  # key (0 = free), code; always at most half full
        self._keys = np.zeros(1, np.uint64)  # by code; code 0 is not a token
        self._counts = np.zeros(1, np.int64)
        self._long = LongTokens()

    @property
    def tokens(self) -> Tokens:
        """The tokens in the order of their codes, from 1."""
        return Tokens(self._keys[1 : self.size + 1], self._long.texts)

    @property
    def counts(self) -> np.ndarray:
        """int64 [size]: how often each was seen, in the same order; a view."""
        return self._counts[1 : self.size + 1]

    def codes(self, tokens: Tokens, *, count: bool) -> np.ndarray:
        """The code of each token, numbering new ones.

        Args:
            tokens: The tokens.
            count: Whether to count each as seen once more.

        Returns:
            int32 [n].
        """
        keys = tokens.keys
        if len(tokens.texts.start):
            tagged = np.flatnonzero(keys >= TAG)
            keys = keys.copy()
            which = (keys[tagged] ^ TAG).astype(np.int64)
            if len(which) > len(tokens.texts.start):  # texts that several tokens share are looked up once
                keys[tagged] = self._long.keys(tokens.texts, np.arange(len(tokens.texts.start)))[which]
            else:
                keys[tagged] = self._long.keys(tokens.texts, which)
        most = self.size + len(keys)
        self._keys = grown(self._keys, most + 1)
        self._counts = grown(self._counts, most + 1)
        codes = np.empty(len(keys), np.int32)
        done = 0
        while True:
            done, self.size = _number(keys, codes, self._slots, self._keys, self._counts, done, self.size, count)
            if done == len(keys):
                return codes
            self._slots = np.zeros((4 * len(self._slots), 2), np.uint64)
            _fill_slots(self._slots, self._keys, self.size)


def rank(
    tokens: Tokens, counts: np.ndarray, limit: float, given: np.ndarray | None = None, taken: int = 0
) -> tuple[np.ndarray, pa.Table]:
    """Ids by descending count, ties in the order of the UTF-8 bytes; values seen fewer than ``limit`` times get 0.

    Args:
        tokens: Distinct tokens.
        counts: int64 [n]: how often each was seen.
        limit: The frequency limit, at least 1.
        given: int32 [n]: the ids that tokens had before, and keep, however often they were seen; 0: none.
        taken: New ids follow this one.

    Returns:
        int32 [n]: the id of each token.
        The kept values: value (string), count (int64), id (int32), in the order of the ids.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    id_of = np.zeros(len(counts), np.int32) if given is None else given.copy()
    old = np.flatnonzero(id_of)
    new = np.flatnonzero((id_of == 0) & (counts >= limit))
    frequent, often = tokens.take(new), counts[new]
    if len(frequent.texts.start):
        table = pa.table({"count": numbers(often), "value": frequent.strings()})
        order = pc.sort_indices(table, [("count", "descending"), ("value", "ascending")]).to_numpy()
    else:  # without NUL, short tokens compare like big-endian numbers
        order = np.lexsort((frequent.keys.byteswap(), -often))
    id_of[new[order]] = np.arange(taken + 1, taken + len(new) + 1, dtype=np.int32)
    kept = np.concatenate([old[np.argsort(id_of[old])], new[order]])
    values = tokens.take(kept).strings()
    return id_of, pa.table({"value": values, "count": numbers(counts[kept]), "id": numbers(id_of[kept])})


def write_vocabulary(path: Path, kept: pa.Table) -> None:
    """Writes a column's kept values as Parquet, in the order of their ids."""
    import pyarrow.parquet as pq

    with new_file(path) as partial:
        # Without the Arrow schema the file holds plain Parquet types, the same for every reader. A dictionary of values
        # that are all different would only make it larger.
        pq.write_table(kept, partial, store_schema=False, use_dictionary=["count"])


def digest_of(kept: pa.Table) -> str:
    """The SHA-256 of the bytes of the values, each ended by a newline."""
    digest = hashlib.sha256()
    for batch in kept.to_batches(max_chunksize=1 << 16):
        digest.update("".join(f"{value}\n" for value in batch["value"].to_pylist()).encode())
    return digest.hexdigest()


@compiled
def _number(keys, codes, slots, of_code, counts, start, size, count):
    """Numbers keys from ``start`` on until all are done or the slots get half full; returns how many, and the size."""
    mask = np.uint64(len(slots) - 1)
    shift = np.uint64(64 - _log2(len(slots)))
    for i in range(start, len(keys)):
        key = keys[i]
        if key == 0:
            codes[i] = 0
            continue
        slot = (key * _SPREAD) >> shift
        while slots[slot, 0] != key:
            if slots[slot, 0] == 0:
                if 2 * size >= len(slots):
                    return i, size
                size += 1
                slots[slot, 0] = key
                slots[slot, 1] = size
                of_code[size] = key
            else:
                slot = (slot + np.uint64(1)) & mask
        code = slots[slot, 1]
        if count:
            counts[code] += 1
        codes[i] = code
    return len(keys), size


@compiled
def _fill_slots(slots, of_code, size):
    mask = np.uint64(len(slots) - 1)
    shift = np.uint64(64 - _log2(len(slots)))
    for code in range(1, size + 1):
        slot = (of_code[code] * _SPREAD) >> shift
        while slots[slot, 0] != 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot, 0] = of_code[code]
        slots[slot, 1] = code


@compiled
def _log2(power):
    bits = 0
    while power > 1:
        power >>= 1
        bits += 1
    return bits
