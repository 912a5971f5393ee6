"""The columns of the synthetic log and how a random number becomes a cell.

Every column is a table of equally likely bins: 65,536 of them for a categorical column, 16,384 for an integer one. The
first bins mean "missing". So a cell costs a table look-up or two, and the probability of each value is known exactly.

A categorical value is known by its *rank*: 0 is missing, 1 the most frequent value, and so on. Ranks follow a bounded
Zipf law, P(rank >= x) given by inverting the continuous power law x^-exponent on [1, values + 1). In the large columns
a rank beyond ``settled`` is held by one value for ``LIFETIME`` days only and then by a new one, a different
1/LIFETIME of them every day: so each day brings values never seen before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

RANK_BINS = 2**16
INTEGER_BINS = 2**14
LIFETIME = 6
LARGEST = 9_999_999
MISSING = np.iinfo(np.int32).min


@dataclass(frozen=True)
class Categorical:
    """A column of tokens: how many values are alive at a time, Zipf exponent (not 1), share of missing cells."""

    values: int
    exponent: float
    missing: float = 0.0

    @property
    def settled(self) -> int:
        """Ranks up to this one belong to the same value on every day."""
        return self.values // 200 if self.values >= 50_000 else self.values

    def identifiers(self, days: int) -> int:
        """How many identifiers (rank 0 included) ``identify`` can return for the days 0 … days - 1."""
        generations = (days + LIFETIME - 2) // LIFETIME if self.settled < self.values else 0
        return (self.values + 1) * (1 + generations)

    def bins(self) -> tuple[np.ndarray, np.ndarray]:
        """First rank and number of ranks of each bin, both uint32 [RANK_BINS]."""
        empty = round(self.missing * RANK_BINS)
        share = np.linspace(0.0, 1.0, RANK_BINS - empty + 1)
        power = 1 - self.exponent
        ranks = (1 + share * ((self.values + 1) ** power - 1)) ** (1 / power)
        # The small number keeps the edges the same where another machine's power function rounds differently.
        edges = np.clip(np.floor(ranks + 1e-6), 1, self.values + 1)
        edges[-1] = self.values + 1
        first, width = np.zeros(RANK_BINS), np.ones(RANK_BINS)
        first[empty:], width[empty:] = edges[:-1], np.maximum(np.diff(edges), 1)
        return np.minimum(first, self.values).astype(np.uint32), width.astype(np.uint32)

    def probabilities(self) -> np.ndarray:
        """Exact probability of each rank, float64 [values + 1]."""
        first, width = (table.astype(np.int64) for table in self.bins())
        last = np.cumsum(width)
        within = np.arange(last[-1]) - np.repeat(last - width, width)
        wide = np.repeat(width, width)
        # Numbers f in 0 … 65535 with f * width >> 16 == within.
        hits = -(-(within + 1) * RANK_BINS // wide) - -(-within * RANK_BINS // wide)
        return np.bincount(np.repeat(first, width) + within, hits, self.values + 1) / (RANK_BINS * 65536)

    def identify(self, rank: np.ndarray, day: int) -> np.ndarray:
        """Which value holds each rank on that day: uint32, equal for equal values, 0 for missing."""
        if self.settled == self.values:
            return rank
        generation = (rank % np.uint32(LIFETIME) + np.uint32(day)) // np.uint32(LIFETIME)
        return rank + generation * np.uint32(self.values + 1) * (rank > self.settled)


@dataclass(frozen=True)
class Integer:
    """A column of integers: floor(log-logistic) + offset, a law heavier in the tail than the log-normal.

    Attributes:
        median: of the log-logistic part.
        spread: its scale on the logarithm; the largest of the 16,384 bins is about median * 32768**spread.
        missing: share of missing cells.
        offset: added after rounding down, so the least value.
    """

    median: float
    spread: float
    missing: float = 0.0
    offset: int = 0

    def bins(self, day: int, phase: float) -> np.ndarray:
        """The integer of each bin on that day, int32 [INTEGER_BINS]; ``MISSING`` first, then in ascending order."""
        empty = round(self.missing * INTEGER_BINS)
        filled = INTEGER_BINS - empty
        u = (np.arange(filled) + 0.5) / filled
        drift = 0.1 * math.sin(2 * math.pi * day / 11 + phase)
        x = np.floor(self.median * math.exp(drift) * (u / (1 - u)) ** self.spread + 1e-6) + self.offset
        return np.concatenate([np.full(empty, MISSING), np.minimum(x, LARGEST)]).astype(np.int32)


INTEGERS = (
    Integer(2.5, 1.05, missing=0.45),
    Integer(6, 1.0, offset=-3),
    Integer(7, 0.70, missing=0.21),
    Integer(6, 0.55, missing=0.22),
    Integer(2500, 0.75, missing=0.03),
    Integer(40, 0.80, missing=0.22),
    Integer(4, 0.90, missing=0.04),
    Integer(9, 0.65, offset=-1),
    Integer(40, 0.75, missing=0.04),
    Integer(1.4, 0.30, missing=0.45),
    Integer(2.2, 0.55, missing=0.04),
    Integer(0.7, 0.60, missing=0.76),
    Integer(6, 0.65, missing=0.22),
)

CATEGORICALS = (
    Categorical(1_400, 1.50),
    Categorical(550, 1.30),
    Categorical(1_000_000, 1.20, missing=0.034),
    Categorical(100_000, 1.15, missing=0.034),
    Categorical(300, 1.30),
    Categorical(16, 0.80, missing=0.12),
    Categorical(12_000, 1.40),
    Categorical(600, 1.50),
    Categorical(3, 0.70),
    Categorical(60_000, 1.30),
    Categorical(5_000, 1.50),
    Categorical(200_000, 1.25, missing=0.034),
    Categorical(3_000, 1.40),
    Categorical(26, 0.90),
    Categorical(12_000, 1.35),
    Categorical(80_000, 1.20, missing=0.034),
    Categorical(10, 0.60),
    Categorical(4_500, 1.45),
    Categorical(2_000, 1.40, missing=0.44),
    Categorical(4, 0.80, missing=0.44),
    Categorical(120_000, 1.18, missing=0.034),
    Categorical(17, 1.20, missing=0.76),
    Categorical(15, 0.70),
    Categorical(60_000, 1.25, missing=0.034),
    Categorical(90, 1.15, missing=0.44),
    Categorical(70_000, 1.25, missing=0.44),
)
