"""A sample of raw rows as a pandas table, for looking at them: tokens stay text and an empty field stays empty.

What a row is, ``preprocess.rows`` alone decides: the lines that preprocessing rejects are not here either.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlrm_lib.columns import CRITEO, RawColumns
from dlrm_lib.errors import InputError
from dlrm_lib.preprocess.diagnosis import explain, refuse_packed
from dlrm_lib.preprocess.formats import layout
from dlrm_lib.preprocess.rows import Parser, Rows, parse
from dlrm_lib.preprocess.source import Range, chunks, cut, source_files

if TYPE_CHECKING:
    import pandas as pd

STRETCHES = 10


def read_raw(source: Path, rows: int = 20_000, *, columns: RawColumns = CRITEO) -> pd.DataFrame:
    """The first rows of every day; of a single file, the first rows of each tenth of it.

    Args:
        source: A folder of day files or one file, as ``preprocess.source_files`` takes it.
        rows: At most so many per day or tenth.
        columns: The columns of a row.

    Returns:
        One line per row, in time order. Columns: ``part`` (int64, day or tenth, from 0), ``label`` (bool), ``I1`` …
        (float64, NaN where missing), ``C1`` … (str, "" where missing).

    Raises:
        InputError: there is no such source, it cannot be read, is packed or of another format, or holds no row.
    """
    import pandas as pd

    files = source_files(source)
    refuse_packed(files, columns)
    one = len(files) == 1
    pieces = cut(files, max(1, -(-files[0].stat().st_size // STRETCHES)) if one else sys.maxsize)
    table = pd.concat([_first(piece, rows, columns) for piece in pieces], ignore_index=True)
    if table.empty:
        raise _no_row(source, files, columns)
    if one:  # A compressed file is one piece: its tenths are counted in rows.
        table["part"] = np.arange(len(table)) * STRETCHES // len(table)
    return table


def _no_row(source: Path, files: list[Path], columns: RawColumns) -> InputError:
    """What was looked at, and what it is instead of rows where that is known."""
    finding = explain(files[0], columns, files)
    size = sum(path.stat().st_size for path in files)
    looked = "no bytes" if not size else f"{size:,} bytes in {files[0].name}" + (", …" if len(files) > 1 else "")
    return InputError(
        f"{source} holds no row.",
        found=looked + (f": {finding.facts}" if finding else ""),
        remedy=(finding and finding.remedy) or f"Give {layout(columns)}.",
    )


def _first(piece: Range, rows: int, columns: RawColumns) -> pd.DataFrame:
    import pandas as pd

    read, tables, parser = 0, [], Parser(columns)
    for data, size in chunks(piece):
        tables.append(_table(parser.parse(data, size), columns).assign(part=piece.number))
        read += len(tables[-1])
        if read >= rows:
            break
    return pd.concat(tables or [_table(parse(b"", columns), columns)], ignore_index=True).head(rows)


def _table(rows: Rows, columns: RawColumns) -> pd.DataFrame:
    import pandas as pd

    numbers = np.where(rows.missing, np.nan, rows.integer)
    numbers[:, [column.type == "decimal" for column in columns.numbers]] = rows.decimal
    fields = {"part": 0, "label": rows.label.copy()}
    fields |= {f"I{i}": values for i, values in enumerate(numbers.T, 1)}
    fields |= {f"C{j + 1}": pd.array(rows.tokens(j).strings().to_pylist(), dtype="str") for j in range(len(rows.keys))}
    return pd.DataFrame(fields)
