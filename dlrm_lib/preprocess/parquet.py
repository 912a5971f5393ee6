"""Parquet files: read by row groups, only the columns that are needed, without a detour over text."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dlrm_lib.columns import RawColumns
from dlrm_lib.errors import InputError
from dlrm_lib.preprocess.rows import Rows

if TYPE_CHECKING:
    import pyarrow as pa

_MAGIC = b"PAR1"
_SMALL_DICTIONARY = 1 << 17  # bytes
_ROWS = 1 << 16  # read at a time: with fewer, the dictionaries that come with each batch take more time than the rows


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
        small = [name for name in names if _has_small_dictionaries(file, groups, name)]
    with opened(path, small) as file:
        yield from file.iter_batches(_ROWS, groups, names, use_threads=False)


def _has_small_dictionaries(file: pa.parquet.ParquetFile, groups: list[int], name: str) -> bool:
    """Whether a column of text is better read as indices: its dictionaries come anew with each batch."""
    place = next((at for at in range(len(file.schema)) if file.schema.column(at).path == name), None)
    if place is None or file.schema.column(place).physical_type != "BYTE_ARRAY":  # none is a column of lists
        return False
    chunks = [file.metadata.row_group(group).column(place) for group in groups]
    return all(
        chunk.has_dictionary_page and chunk.data_page_offset - chunk.dictionary_page_offset <= _SMALL_DICTIONARY
        for chunk in chunks
    )


@contextlib.contextmanager
def opened(path: Path, dictionaries: Sequence[str] = ()) -> Iterator[pa.parquet.ParquetFile]:
    """Opens a Parquet file.

    Args:
        path: The file.
        dictionaries: Columns that are read as indices of their values.

    Raises:
        InputError: now or within the block, it turns out to be damaged, or encrypted.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, read_dictionary=list(dictionaries)) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        if getattr(error, "errno", None):  # that is the disk's
            raise
        raise InputError(
            f"{path} holds damaged Parquet data.",
            found=" ".join(str(error).split())[:200],
            remedy="Fetch the file again, or write it again.",
        ) from None
