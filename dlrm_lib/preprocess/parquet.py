"""Parquet files: read by row groups, only the columns that are needed, without a detour over text."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from dlrm_lib.columns import RawColumns
from dlrm_lib.errors import InputError
from dlrm_lib.preprocess.rows import Rows

_MAGIC = b"PAR1"
_ROWS = 1 << 14  # read at a time: few enough for them and what is made of them to stay in the processor's caches


@dataclass(frozen=True)
class Parquet:
    """The form of a Parquet file (see ``forms.Form``). Places are row groups."""

    unit: ClassVar[str] = "row"
    named: ClassVar[bool] = True

    def bounds(self, path: Path, most_bytes: int) -> list[int]:
        """Cuts a file between row groups, into ranges of at most so many bytes, or of one group."""
        with opened(path) as file:
            sizes = [file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups)]
        found, held = [0], 0
        for group, size in enumerate(sizes):
            if held and held + size > most_bytes:
                found.append(group)
                held = 0
            held += size
        return [*found, len(sizes)]

    def read(self, path: Path, start: int, stop: int, columns: RawColumns) -> Iterator[Rows]:
        """Yields the rows of a range of row groups."""
        from dlrm_lib.preprocess.arrow_rows import rows_of

        for batch in _batches(path, list(range(start, stop)), list(columns.names)):
            yield rows_of(batch, columns)

    def before(self, path: Path, start: int) -> int:
        """Rows before a row group."""
        with opened(path) as file:
            return sum(file.metadata.row_group(group).num_rows for group in range(start))

    def sample(self, path: Path) -> tuple[int, int]:
        """The size of a file, and its rows."""
        with opened(path) as file:
            return path.stat().st_size, file.metadata.num_rows


def is_parquet(path: Path) -> bool:
    """Whether a file begins as Parquet files do."""
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def schema_of(path: Path) -> pa.Schema:
    """A file's columns."""
    with opened(path) as file:
        return file.schema_arrow


def _batches(path: Path, groups: list[int], names: list[str]) -> Iterator[pa.RecordBatch]:
    with opened(path) as file:
        yield from file.iter_batches(_ROWS, groups, names, use_threads=False)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[pa.parquet.ParquetFile]:
    """Opens a Parquet file.

    Raises:
        InputError: now or within the block, it turns out to be damaged, or encrypted.
    """
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        if getattr(error, "errno", None):  # that is the disk's
            raise
        raise InputError(
            f"{path} holds damaged Parquet data.",
            found=" ".join(str(error).split())[:200],
            remedy="Fetch the file again, or write it again.",
        ) from None
