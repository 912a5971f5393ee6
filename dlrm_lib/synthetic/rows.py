"""Rows of the synthetic log: drawn chunk by chunk, and turned into the text of a Criteo day file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlrm_lib.columns import CRITEO
from dlrm_lib.synthetic.columns import CATEGORICALS, INTEGER_BINS, MISSING
from dlrm_lib.synthetic.signal import DayTables, Signal, probability

_BLOCK = 2_048
CHUNK = 32_768  # Rows drawn from one seed: the unit of work. The bytes depend on it.

# A line with each field at its full width. Zero bytes fill the places not used, and are dropped at the end.
_LINE = np.dtype(
    [
        ("label", "u1"),
        ("integers", "u8", CRITEO.numerical),
        ("tokens", [("tab", "u1"), ("high", "u4"), ("low", "u4")], CRITEO.categorical),
        ("end", "u1"),
    ]
)
_HEX = np.array([f"{number:04x}" for number in range(2**16)], "S4").view(np.uint32)


@dataclass(frozen=True)
class Samples:
    """Some rows of one day.

    Attributes:
        outcomes: For each column, integers first, the bin or the rank drawn: uint16 or uint32 [rows].
        identifiers: For each categorical column, which value it is: uint32 [rows], 0 for missing.
        probability: Of a click, float64 [rows].
        label: Clicks, bool [rows].
    """

    outcomes: list[np.ndarray]
    identifiers: list[np.ndarray]
    probability: np.ndarray
    label: np.ndarray


class Source:
    """Draws the rows of any (day, chunk), which depend on nothing but these two and the seed."""

    def __init__(self, data_seed: int) -> None:
        self.signal = Signal(data_seed)
        self._data_seed = data_seed
        self._bins = [column.bins() for column in CATEGORICALS]
        self._day: int | None = None

    def on(self, day: int) -> DayTables:
        """The tables of a day; those of the latest day are kept."""
        if day != self._day:
            self._day, self._tables = day, self.signal.on(day)
            self._integer_text = [_integer_text(values) for values in self._tables.integers]
        return self._tables

    def draw(self, day: int, chunk: int, rows: int) -> Samples:
        """The first ``rows`` rows (at most CHUNK) of a chunk."""
        rng, outcomes = self._outcomes(day, chunk, rows)
        ranks = outcomes[CRITEO.numerical :]
        identifiers = [column.identify(rank, day) for column, rank in zip(CATEGORICALS, ranks, strict=True)]
        clicks = probability(self.on(day).logit(outcomes))
        return Samples(outcomes, identifiers, clicks, rng.random(CHUNK)[:rows] < clicks)

    def outcomes(self, day: int, chunk: int, rows: int) -> list[np.ndarray]:
        """The ``outcomes`` of ``draw`` alone, which are cheaper to draw once more than to keep."""
        return self._outcomes(day, chunk, rows)[1]

    def _outcomes(self, day: int, chunk: int, rows: int) -> tuple[np.random.Generator, list[np.ndarray]]:
        # Always a whole chunk of random numbers, so that fewer rows are the beginning of more rows.
        rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence([self._data_seed, day, chunk])))
        bins = rng.integers(0, INTEGER_BINS, (CRITEO.numerical, CHUNK), np.uint16)[:, :rows]
        numbers = rng.integers(0, 2**32, (CRITEO.categorical, CHUNK), np.uint32)[:, :rows]
        ranks = []
        for number, (first, width) in zip(numbers, self._bins, strict=True):
            # The upper half of the number picks the bin, the lower half the rank within it.
            index = number >> np.uint32(16)
            ranks.append(first[index] + ((number & np.uint32(0xFFFF)) * width[index] >> np.uint32(16)))
        return rng, [*bins, *ranks]

    def text(self, rows: Samples) -> bytes:
        """The lines of rows of the day drawn last: label, integers, tokens, tab separated."""
        texts = [text[bins] for text, bins in zip(self._integer_text, rows.outcomes, strict=False)]
        for j, identifier in enumerate(rows.identifiers):
            token, present = tokens(identifier, j), (identifier > 0).astype(np.uint32)
            texts.append(_HEX[token >> np.uint32(16)] * present)
            texts.append(_HEX[token & np.uint32(0xFFFF)] * present)
        return b"".join(
            self._lines(rows.label[at : at + _BLOCK], [text[at : at + _BLOCK] for text in texts])
            for at in range(0, len(rows.label), _BLOCK)
        )

    def _lines(self, label: np.ndarray, texts: list[np.ndarray]) -> bytes:
        lines = np.empty(len(label), _LINE)
        lines["label"] = label
        lines["label"] += ord("0")
        for i in range(CRITEO.numerical):
            lines["integers"][:, i] = texts[i]
        lines["tokens"]["tab"] = ord("\t")
        for j in range(CRITEO.categorical):
            lines["tokens"]["high"][:, j] = texts[CRITEO.numerical + 2 * j]
            lines["tokens"]["low"][:, j] = texts[CRITEO.numerical + 2 * j + 1]
        lines["end"] = ord("\n")
        return lines.tobytes().translate(None, b"\0")


def tokens(identifier: np.ndarray, column: int) -> np.ndarray:
    """The 32 bits printed for a value of a column: a bijection, so that values never collide. uint32 [rows].

    The shifts and constants are those of MurmurHash3's finaliser (A. Appleby, public domain).
    """
    x = identifier + np.uint32((column + 1) * 0x9E3779B1 & 0xFFFFFFFF)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x85EBCA6B)
    x ^= x >> np.uint32(13)
    x *= np.uint32(0xC2B2AE35)
    x ^= x >> np.uint32(16)
    return x


def _integer_text(values: np.ndarray) -> np.ndarray:
    """A tab and the decimal digits of each integer (at most 7 characters), zero filled: uint64 [len(values)]."""
    distinct, where = np.unique(values, return_inverse=True)
    text = [b"\t" if value == MISSING else b"\t%d" % value for value in distinct.tolist()]
    return np.array(text, "S8").view(np.uint64)[where]
