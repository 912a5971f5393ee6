"""The first rows of a file of any form as one Arrow table, and how they were read."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from dlrm_lib.errors import InputError
from dlrm_lib.preprocess.formats import LABELS
from dlrm_lib.preprocess.packings import packing
from dlrm_lib.preprocess.rows import BOM

ROWS = 20_000
_CELLS = 4_000_000  # of very wide files fewer rows are enough
_FEWEST = 100

_PARQUET, _GZIP, _ZSTD = b"PAR1", b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_START = 1 << 20  # bytes within which a first line must end
_TRIED = 200  # records to tell the separator and a header by
_MOST = 0.9  # share of the records, or of a column's values, that shows a form
# The first that fits: tokens hold commas more often than semicolons, and these more often than tabs.
_SEPARATORS = {"\t": "tabs", ";": "semicolons", ",": "commas"}
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NO_NAME = re.compile(rf"{_NUMBER.pattern}|(?=.*[0-9])[0-9a-fA-F]{{8}}")  # a hash, as Criteo's tokens are
_REPLACED = "\ufffd"  # what stands for bytes that are not UTF-8


class FirstRows(NamedTuple):
    """The beginning of a file.

    Attributes:
        table: Its columns in their order, under names that may be there twice. Those of text are strings, in which an
            empty field is null.
        form: What kind of file it is, in words.
        named: Whether the file names its columns; else they are called by their numbers, from 1.
        whole: Whether these are all rows.
        other_widths: Records left out, for they have more or fewer fields.
        not_utf8: Rows with bytes that are not UTF-8.
    """

    table: pa.Table
    form: str
    named: bool
    whole: bool
    other_widths: int = 0
    not_utf8: int = 0


def first_rows(path: Path, rows: int = ROWS) -> FirstRows:
    """Reads at most so many rows from the beginning of a file, fewer where there are very many columns.

    Raises:
        InputError: there is no such file, it is packed, damaged or no table, or it holds no row.
    """
    if path.is_dir():
        inside = sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
        raise InputError(
            f"{path} is a folder, and one file is looked at.",
            found=", ".join(inside[:3]) + (", …" if len(inside) > 3 else "") or "no file in it",
            remedy="Name one of its files.",
        )
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no file on a disk.", remedy="Write its rows to a file first, and name that.")
    try:
        with open(path, "rb") as file:
            magic = file.read(4)
        found = _of_parquet(path, rows) if magic == _PARQUET else _of_text(path, magic, rows)
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno:
            raise InputError(f"{path} cannot be read.", found=error.strerror) from None
        found_there = " ".join(str(error).split())
        raise InputError(f"{path} is damaged.", found=found_there, remedy="Fetch the file again.") from None
    if not found.table.num_rows:
        raise InputError(f"{path} holds no row.", found=f"{found.form}: {', '.join(found.table.column_names[:5])}")
    return found


def _of_parquet(path: Path, rows: int) -> FirstRows:
    with pq.ParquetFile(path) as file:
        rows = _fitting(rows, len(file.schema_arrow))
        table = pa.Table.from_batches(itertools.islice(file.iter_batches(rows), 1), file.schema_arrow)
        return FirstRows(table, "Parquet", named=True, whole=table.num_rows == file.metadata.num_rows)


def _of_text(path: Path, magic: bytes, rows: int) -> FirstRows:
    packed = {_GZIP: "gzip", _ZSTD: "zstd"}.get(magic[:2] if magic[:2] == _GZIP else magic)
    if packed is None and (kind := packing(path)):
        unpack = kind.read and kind.read.replace("{}", shlex.quote(str(path)), 1)
        remedy = f"Unpack it: `{unpack} > rows`, then look at that." if unpack else None
        raise InputError(f"{path} does not hold rows as it is.", found=kind.name, remedy=remedy)
    with _opened(path, packed) as file:
        separator, start = _tried(path, file.read(_START))
    named = _is_header(start)
    width = len(start[0]) if named else _width(start)[0]
    rows = _fitting(rows, width)
    with _opened(path, packed) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")
        # In lines without a header a quote is a part of a token.
        records = _records(path, text, separator, quoted=named or separator != "\t")
        names = next(records) if named else [str(number) for number in range(1, width + 1)]
        read = list(itertools.islice(records, rows + 1))
    kept = [record for record in read[:rows] if len(record) == width]
    columns = [pa.array([value or None for value in column], pa.string()) for column in zip(*kept, strict=True)]
    packed_with = f", packed with {packed}" if packed else ""
    return FirstRows(
        pa.Table.from_arrays(columns or [pa.array([], pa.string())] * width, names=names),
        f"text separated by {_SEPARATORS[separator]}, {'with' if named else 'without'} a header{packed_with}",
        named=named,
        whole=len(read) <= rows,
        other_widths=len(read[:rows]) - len(kept),
        not_utf8=sum(any(_REPLACED in value for value in record) for record in kept),
    )


def _fitting(rows: int, columns: int) -> int:
    return min(rows, max(_FEWEST, _CELLS // max(columns, 1)))


@contextlib.contextmanager
def _opened(path: Path, packed: str | None) -> Iterator[IO[bytes]]:
    with open(path, "rb") as file:
        yield pa.CompressedInputStream(file, packed) if packed else file


def _tried(path: Path, start: bytes) -> tuple[str, list[list[str]]]:
    """What separates the fields, and the first records: it gives the first and most others equally many fields."""
    cut, start = len(start) == _START, start.removeprefix(BOM)
    if not start.strip():
        raise InputError(f"{path} is empty.", found=f"{len(start)} bytes of blanks" if start else "0 bytes")
    *lines, last = start.split(b"\n")
    if b"\0" in start or (cut and not lines):
        found = "NUL bytes, as of UTF-16 or of numbers" if b"\0" in start else f"no line ends in {_START:,} bytes"
        raise InputError(f"{path} is not text in UTF-8.", found=found, remedy="Write it as text or as Parquet.")
    text = b"\n".join(lines if cut else [*lines, last]).decode("utf-8", "replace")
    fault: InputError | None = None
    for separator in _SEPARATORS:
        try:
            records = list(itertools.islice(_records(path, io.StringIO(text, newline=""), separator), _TRIED))
            width, count = _width(records)
            if len(records[0]) == width > 1 and count >= _MOST * len(records):
                return separator, records
        except InputError as error:
            fault = error
    first = text.lstrip().splitlines()[0]
    raise fault or InputError(
        f"{path} is no table: neither tabs nor semicolons nor commas part its lines into equally many fields.",
        found=f"the first line is {first[:60]!r}" + ("…" if len(first) > 60 else ""),
    )


def _width(records: Sequence[Sequence[str]]) -> tuple[int, int]:
    """The number of fields that most records have, and how many have it."""
    return Counter(map(len, records)).most_common(1)[0]


def _records(path: Path, text: IO[str], separator: str, *, quoted: bool = True) -> Iterator[list[str]]:
    """All records but blank lines."""
    reader = csv.reader(text, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
    try:
        yield from filter(None, reader)
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: {error}.",
            remedy="A quote at the beginning of a field opens a text that must end with a quote.",
        ) from None


def _is_header(records: Sequence[Sequence[str]]) -> bool:
    """Whether the first record names columns: no value is in it, and below a name are numbers or labels."""
    first, *others = records
    filled = [name for name in first if name]
    if 2 * len(filled) < len(first) or any(map(_NO_NAME.fullmatch, filled)):
        return False
    if not others:
        return True
    for place, name in enumerate(first):
        values = [record[place] for record in others if place < len(record) and record[place]]
        numbers = sum(bool(_NUMBER.fullmatch(value)) for value in values)
        labels = any({*values} <= {no.decode(), yes.decode()} for no, yes in LABELS)
        if values and name not in values and (numbers >= _MOST * len(values) or labels):
            return True
    return False
