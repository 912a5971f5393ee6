"""Parts: what a task leaves on disk for later tasks. Rows stay in files; only counts and names travel through Spark.

Spills live in a working folder, which on a cluster must be on storage that all machines share. A task that is tried
again writes the same bytes again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from dlrm_lib.columns import RawColumns
from dlrm_lib.files import new_file
from dlrm_lib.preprocess.tokens import Tokens
from dlrm_lib.preprocess.vocabulary import Dictionary


@dataclass(frozen=True, kw_only=True)
class Part:
    """Consecutive rows of one file, with dictionaries of their own.

    Attributes:
        name: Of its spill files.
        file: Index of the raw file.
        lines: Raw lines, rejected ones included.
        blocks: Rows of each block.
        sizes: Distinct tokens of each column.
        bad: Rejected lines by reason, in the order of ``rows.REASONS``.
        missing: Rows without a token in each column.
        cut: Rows with more tokens than are kept in each column; none where it does not hold bags.
    """

    name: str
    file: int
    lines: int
    blocks: tuple[int, ...]
    sizes: tuple[int, ...]
    bad: tuple[int, ...]
    missing: tuple[int, ...]
    cut: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Accepted rows."""
        return sum(self.blocks)


class Block(NamedTuple):
    """Some rows.

    Attributes:
        label: bool [rows].
        numerical: float16 [rows, N]; 0 in columns whose rule is learned.
        codes: For each categorical column, uint16 or int32 [rows], or of bags [rows, L]: codes of the part's
            dictionary.
    """

    label: np.ndarray
    numerical: np.ndarray
    codes: list[np.ndarray]

    def take(self, rows: slice | np.ndarray) -> Block:
        """Those of its rows."""
        return Block(self.label[rows], self.numerical[rows], [codes[rows] for codes in self.codes])


@contextlib.contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """Opens a file to write. It is there once it is whole, even if a task of a killed run still writes the same one."""
    with new_file(path) as partial, open(partial, "wb") as file:
        yield file


def write_block(file: BinaryIO, block: Block) -> None:
    """Appends a block to a part's spill; codes take two bytes where the column's codes so far fit."""
    file.write(np.array([codes.itemsize for codes in block.codes], np.uint8).data)
    for array in (block.label, block.numerical, *block.codes):
        file.write(np.ascontiguousarray(array).data)


def read_blocks(folder: Path, part: Part, columns: RawColumns) -> Iterator[Block]:
    """Yields a part's blocks."""
    with open(folder / f"{part.name}.rows", "rb") as file:
        for rows in part.blocks:
            widths = np.fromfile(file, np.uint8, columns.categorical)
            yield Block(
                np.fromfile(file, np.bool_, rows),
                np.fromfile(file, np.float16, rows * columns.numerical).reshape(rows, columns.numerical),
                [
                    _read_codes(file, np.uint16 if width == 2 else np.int32, rows, most)
                    for width, most in zip(widths, columns.bags, strict=True)
                ],
            )


def _read_codes(file: BinaryIO, kind: type, rows: int, most: int) -> np.ndarray:
    codes: np.ndarray = np.fromfile(file, kind, rows * most)
    return codes if most == 1 else codes.reshape(rows, most)


def read_labels(folder: Path, part: Part, columns: RawColumns) -> np.ndarray:
    """A part's labels alone, bool [rows]."""
    labels = [np.empty(0, np.bool_)]
    with open(folder / f"{part.name}.rows", "rb") as file:
        for rows in part.blocks:
            widths = np.fromfile(file, np.uint8, columns.categorical)
            labels.append(np.fromfile(file, np.bool_, rows))
            file.seek(rows * (2 * columns.numerical + int(widths @ np.array(columns.bags, int))), os.SEEK_CUR)
    return np.concatenate(labels)


def read_waiting(folder: Path, part: Part, columns: int) -> np.ndarray:
    """A part's numbers whose rule is learned: float64 [rows, columns], NaN where missing; a map of the file."""
    if part.rows * columns == 0:
        return np.empty((part.rows, columns))
    return np.memmap(folder / f"{part.name}.numbers", np.float64, "r", shape=(part.rows, columns))


def write_dictionaries(path: Path, dictionaries: Sequence[Dictionary]) -> None:
    """Spills tokens and counts, column by column."""
    with written(path) as file:
        for dictionary in dictionaries:
            keys, text, ends = dictionary.tokens.arrays()
            file.write(np.array([len(ends), len(text)], np.int64).data)
            for array in (keys, dictionary.counts, ends, text):
                file.write(array.data)


def read_dictionaries(path: Path, part: Part) -> Iterator[tuple[Tokens, np.ndarray]]:
    """Yields, for each column, a part's tokens in the order of their codes and their counts (int64)."""
    with open(path, "rb") as file:
        for size in part.sizes:
            texts, length = np.fromfile(file, np.int64, 2).tolist()
            keys = np.fromfile(file, np.uint64, size)
            counts = np.fromfile(file, np.int64, size)
            ends = np.fromfile(file, np.int64, texts)
            yield Tokens.of_arrays(keys, np.fromfile(file, np.uint8, length), ends), counts


def write_pieces(path: Path, pieces: Sequence[np.ndarray]) -> None:
    """Writes int32 arrays into one file, from which each can be read alone."""
    with written(path) as file:
        file.write(np.cumsum([0, *map(len, pieces)], dtype=np.int64).data)
        for piece in pieces:
            file.write(np.ascontiguousarray(piece, np.int32).data)


def read_piece(path: Path, pieces: int, index: int) -> np.ndarray:
    """Reads one of the arrays (int32) that ``write_pieces`` wrote."""
    with open(path, "rb") as file:
        file.seek(8 * index)
        first, last = np.fromfile(file, np.int64, 2).tolist()
        file.seek(8 * (pieces + 1) + 4 * first)
        return np.fromfile(file, np.int32, last - first)
