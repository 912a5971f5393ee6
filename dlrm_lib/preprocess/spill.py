"""Parts: what a task leaves on disk for later tasks. Rows stay in files; only counts and names travel through Spark.

Spills live in a working folder inside the unfinished data set. A task that is tried again writes the same bytes again.
On a cluster the folder must be on storage that all machines share, as the data set itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dlrm_lib.features import RawColumns
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
    """

    name: str
    file: int
    lines: int
    blocks: tuple[int, ...]
    sizes: tuple[int, ...]
    bad: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Accepted rows."""
        return sum(self.blocks)


class Block(NamedTuple):
    """Some rows.

    Attributes:
        label: bool [rows].
        numerical: float16 [rows, N].
        categorical: integers [M, rows]: codes of the part's dictionaries, or ids.
    """

    label: np.ndarray
    numerical: np.ndarray
    categorical: np.ndarray


def write_block(file, block: Block) -> None:
    """Appends a block with codes to a part's spill."""
    for array in block:
        file.write(np.ascontiguousarray(array))


def read_blocks(folder: Path, part: Part, columns: RawColumns) -> Iterator[Block]:
    """Yields a part's blocks, with codes (int32)."""
    with open(folder / f"{part.name}.rows", "rb") as file:
        for rows in part.blocks:
            yield Block(
                np.fromfile(file, np.bool_, rows),
                np.fromfile(file, np.float16, rows * columns.numerical).reshape(rows, columns.numerical),
                np.fromfile(file, np.int32, rows * columns.categorical).reshape(columns.categorical, rows),
            )


def write_tokens(folder: Path, name: str, dictionaries: list[Dictionary]) -> None:
    """Spills the tokens of a part's dictionaries."""
    arrays = {}
    for column, dictionary in enumerate(dictionaries):
        arrays[f"text_{column}"] = dictionary.text
        arrays[f"ends_{column}"] = dictionary.ends
    np.savez(folder / f"{name}.tokens.npz", **arrays)


def read_tokens(folder: Path, part: Part) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields, for each column, the tokens in the order of their codes: text (uint8) and ends (int64 [size + 1])."""
    with np.load(folder / f"{part.name}.tokens.npz") as arrays:
        for column in range(len(part.sizes)):
            yield arrays[f"text_{column}"], arrays[f"ends_{column}"]
