"""What could be declared so that a file is read: tried on the beginning of the file before it is advised."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dlrm_lib.columns import NO_AND_YES, CategoricalColumn, LabelColumn, NumericalColumn, RawColumns
from dlrm_lib.errors import InputError
from dlrm_lib.preprocess.formats import CLEAN, LABELS, STRAY

if TYPE_CHECKING:
    from dlrm_lib.preprocess.forms import Form


def label_values(path: Path, form: Form, columns: RawColumns) -> tuple[str, str] | None:
    """The labels that a file turns out to have if they are not those that are declared, and all else is in order."""
    if _holds_rows(path, form, columns):
        return None
    for no, yes in LABELS:
        label = dataclasses.replace(columns.label, values=(no.decode(), yes.decode()))
        if _holds_rows(path, form, dataclasses.replace(columns, label=label)):
            return label.values
    return None


def decimals(path: Path, form: Form, columns: RawColumns) -> tuple[str, ...]:
    """The columns of integers that turn out to hold decimals, not just stray ones, if all else is in order."""
    whole = [column.name for column in columns.numbers if column.type == "integer"]
    if not _holds_rows(path, form, _with_decimals(columns, whole)):
        return ()
    found = tuple(name for name in whole if _bad_share(path, form, _with_decimals(columns, {*whole} - {name})) > STRAY)
    return found if _holds_rows(path, form, _with_decimals(columns, found)) else ()


def _with_decimals(columns: RawColumns, names: Collection[str]) -> RawColumns:
    of = (dataclasses.replace(column, type="decimal") if column.name in names else column for column in columns.numbers)
    return dataclasses.replace(columns, numbers=tuple(of))


def flags(path: Path, form: Form, names: Sequence[str], columns: RawColumns) -> str | None:
    """The flags that declare a file's columns in the order in which a line without names has them, if they are so."""
    names = [name for name in names if name]  # pandas leaves its index without one
    if len(names) != columns.total or any("," in name for name in names):
        return None
    numbers, tokens = names[1 : 1 + columns.numerical], names[1 + columns.numerical :]
    named = RawColumns(
        label=LabelColumn(name=names[0]),
        numbers=tuple(NumericalColumn(name=name) for name in numbers),
        tokens=tuple(CategoricalColumn(name=name) for name in tokens),
    )
    values = NO_AND_YES if _holds_rows(path, form, named) else label_values(path, form, named)
    if values is None:
        return None
    said = {"label": names[:1], "numerical": numbers, "categorical": tokens}
    spelled = [f"--{flag} {','.join(some)}" for flag, some in said.items() if some]
    return " ".join(spelled + ([flag_of(values)] if values != NO_AND_YES else []))


def flag_of(values: tuple[str, str]) -> str:
    """The flag that declares labels."""
    return f"--label_values={values[0]},{values[1]}"


def _holds_rows(path: Path, form: Form, columns: RawColumns) -> bool:
    return _bad_share(path, form, columns) <= CLEAN


def _bad_share(path: Path, form: Form, columns: RawColumns) -> float:
    """The share of a file's first lines that are not rows; 1 where there are none."""
    try:
        first = next(form.read(path, 0, form.bounds(path, sys.maxsize)[-1], columns), None)
    except InputError:
        return 1.0
    return len(first.bad) / first.lines if first is not None and first.lines else 1.0
