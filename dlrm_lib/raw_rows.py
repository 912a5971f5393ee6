"""A sample of raw rows as a pandas table, for looking at them: tokens stay text and an empty field stays empty.

What a row is, ``preprocess.rows`` alone decides: the lines that preprocessing rejects are not here either.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlrm_lib.columns import CRITEO, RawColumns
from dlrm_lib.errors import InputError
from dlrm_lib.preprocess.diagnosis import explain, refuse_packed
from dlrm_lib.preprocess.formats import layout
from dlrm_lib.preprocess.forms import Form, Range, cut, forms_of
from dlrm_lib.preprocess.rows import Rows, parse
from dlrm_lib.preprocess.source import source_days

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
        One line per row, in time order. Columns: ``part`` (int64, day or tenth, from 0), ``label`` (bool), integers
        (float64, NaN where missing) and tokens (str, "" where missing) as ``RawColumns.in_pictures`` calls them; one
        that is itself called ``part`` or ``label`` is ``part (column)``.

    Raises:
        InputError: there is no such source, it cannot be read, is packed or of another format, or holds no row.
    """
    import pandas as pd

    days = list(source_days(source).values())
    files = [path for paths in days for path in paths]
    refuse_packed(files, columns)
    columns, forms = forms_of(files, columns)
    one = len(files) == 1
    pieces = cut(files, forms, max(1, -(-files[0].stat().st_size // STRETCHES)) if one else sys.maxsize)
    if one:
        parts = [[piece] for piece in pieces]
    else:
        of_file = iter(pieces)
        parts = [[next(of_file) for _ in paths] for paths in days]
    table = pd.concat([_first(part, rows, columns).assign(part=n) for n, part in enumerate(parts)], ignore_index=True)
    if table.empty:
        raise _no_row(source, files, forms, columns)
    if len(days) == 1:  # Not every file has tenths to cut: they are counted in rows.
        table["part"] = np.arange(len(table)) * STRETCHES // len(table)
    return table


def _no_row(source: Path, files: list[Path], forms: Sequence[Form], columns: RawColumns) -> InputError:
    """What was looked at, and what it is instead of rows where that is known."""
    finding = explain(files[0], forms[0], columns, files)
    size = sum(path.stat().st_size for path in files)
    looked = "no bytes" if not size else f"{size:,} bytes in {files[0].name}" + (", …" if len(files) > 1 else "")
    return InputError(
        f"{source} holds no row.",
        found=looked + (f": {finding.facts}" if finding else ""),
        remedy=(finding and finding.remedy) or f"Give {layout(columns)}.",
    )


def _first(pieces: Sequence[Range], rows: int, columns: RawColumns) -> pd.DataFrame:
    """The first rows of some consecutive pieces."""
    import pandas as pd

    read, tables = 0, []
    for chunk in itertools.chain.from_iterable(piece.read(columns) for piece in pieces):
        tables.append(_table(chunk, columns))
        read += len(tables[-1])
        if read >= rows:
            break
    return pd.concat(tables or [_table(parse(b"", columns), columns)], ignore_index=True).head(rows)


def _table(rows: Rows, columns: RawColumns) -> pd.DataFrame:
    import pandas as pd

    numbers = np.where(rows.missing, np.nan, rows.integer)
    numbers[:, [column.type == "decimal" for column in columns.numbers]] = rows.decimal
    fields = {"part": 0, "label": rows.label.copy()}
    names, tokens = ([f"{name} (column)" if name in fields else name for name in of] for of in columns.in_pictures)
    texts = (pd.array(rows.tokens(j).strings().to_pylist(), dtype="str") for j in range(columns.categorical))
    return pd.DataFrame(fields | dict(zip(names, numbers.T, strict=True)) | dict(zip(tokens, texts, strict=True)))
