"""A random order of any number of rows that is computed where it is needed, not stored.

A Feistel network makes a permutation of [0, 2^b) out of any functions of half the bits. Where it leads out of [0, n)
it is applied again until it leads back ("cycle walking"): with 2^b < 2 n that takes less than two rounds on average.
(Black and Rogaway, "Ciphers with arbitrary finite domains", 2002.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlrm_lib.splitmix64 import mix

# Up to here the order is stored: 8 MiB at most, and every order is equally likely.
_STORED = 2**20
_ROUNDS = 3


class Permutation:
    """A permutation of ``range(size)`` decided by a seed; entries are found at any place at once.

    It is the same on every machine. Memory does not grow with ``size``.
    """

    def __init__(self, size: int, seed: Sequence[int]) -> None:
        self.size = size
        rng = np.random.default_rng(list(seed))
        self._stored = rng.permutation(size) if size <= _STORED else None
        bits = max(size - 1, 1).bit_length()
        # Rounds change the lower and the upper bits in turn, each by a function of the others.
        self._low_bits = np.uint64(bits // 2)
        self._low_mask = np.uint64(2 ** (bits // 2) - 1)
        self._high_mask = np.uint64(2 ** (bits - bits // 2) - 1)
        self._keys = rng.integers(2**64, size=2 * _ROUNDS, dtype=np.uint64)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """The entries at ``places``, int64 [k] in [0, size): int64 [k]."""
        if self._stored is not None:
            return self._stored[places]
        entries = self._network(np.asarray(places).astype(np.uint64))
        while len(outside := np.flatnonzero(entries >= self.size)):
            entries[outside] = self._network(entries[outside])
        return entries.view(np.int64)

    def _network(self, entries: np.ndarray) -> np.ndarray:
        low, high = entries & self._low_mask, entries >> self._low_bits
        for key_low, key_high in self._keys.reshape(_ROUNDS, 2):
            low ^= mix(high + key_low) & self._low_mask
            high ^= mix(low + key_high) & self._high_mask
        return high << self._low_bits | low
