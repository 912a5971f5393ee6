"""Names in the first line of a file of text, and what to say where they are not those that are declared."""

from __future__ import annotations

import csv
import dataclasses
import difflib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dlrm_lib.columns import RawColumns
from dlrm_lib.errors import InputError
from dlrm_lib.preprocess.declaring import flags
from dlrm_lib.preprocess.formats import LABELS
from dlrm_lib.preprocess.rows import BOM, parse
from dlrm_lib.preprocess.text import opened

if TYPE_CHECKING:
    from dlrm_lib.preprocess.forms import Form

_SEPARATORS = ",;\t"
_START = 1 << 20  # bytes of a file within which its header must end
_VALUE = re.compile(r"[0-9a-fA-F]{8}|[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")  # a hash like Criteo's, or a number
_SHOWN = 12  # names in an error


def header_of(path: Path, columns: RawColumns) -> tuple[str, tuple[str, ...]] | None:
    """The separator and the names in the first line of a file of text, or None where it names no columns.

    It does where all of the declared names are in it, or where it looks like names and is no row.
    """
    try:
        with opened(path) as (file, _):
            text = file.read(_START).removeprefix(BOM)
    except InputError:  # damaged: the task that reads it says so
        return None
    found = {separator: _first_record(text, separator) for separator in _SEPARATORS}
    separator = max(found, key=lambda by: (len(set(columns.names) & set(found[by])), len(found[by])))
    names = found[separator]
    if set(columns.names) <= set(names):
        return separator, names
    line = text.partition(b"\n")[0].removesuffix(b"\r")
    filled = names[1:] if names[:1] == ("",) else names  # pandas leaves its index without a name
    looks = len(filled) > 1 and all(map(_is_name, filled))
    return (separator, names) if looks and not _is_row(line, columns) else None


def _is_name(text: str) -> bool:
    return bool(text) and text.isprintable() and "\ufffd" not in text and not _VALUE.fullmatch(text)


def _is_row(line: bytes, columns: RawColumns) -> bool:
    """Whether a line is a row, perhaps with labels of another kind."""
    pairs = [columns.label.values, *((no.decode(), yes.decode()) for no, yes in LABELS)]
    labels = (dataclasses.replace(columns.label, values=pair) for pair in pairs)
    return not all(parse(line, dataclasses.replace(columns, label=label)).bad for label in labels)


def _first_record(text: bytes, separator: str) -> tuple[str, ...]:
    try:
        reader = csv.reader(io.StringIO(text.decode("utf-8", "replace"), newline=""), delimiter=separator)
        return tuple(next(reader, ()))
    except csv.Error:  # NUL, or a field without end
        return ()


def refuse_absent(path: Path, form: Form, names: Sequence[str], columns: RawColumns) -> None:
    """Refuses a file that names columns where some of those that are declared are absent or there twice.

    Raises:
        InputError: so it is. It lists the names that are there, and the nearest.
    """
    absent = [name for name in columns.names if name not in names]
    twice = [name for name in columns.names if list(names).count(name) > 1]
    if twice:
        raise InputError(f"{path} has several columns named {twice[0]!r}.", remedy="Give each a name of its own.")
    if not absent:
        return
    listed = ", ".join(map(repr, names[:_SHOWN])) + (f", … ({len(names)} in all)" if len(names) > _SHOWN else "")
    remedy = "Declare them: --label NAME --numerical NAME,… --categorical NAME,…, or --feature_spec FILE."
    if columns == RawColumns.unnamed(columns.numerical, columns.categorical):
        what = f"{path} names its columns, and which of them to read is not declared."
        if said := flags(path, form, names, columns):
            remedy = f"Declare them: {said}, or with --feature_spec."
    else:
        what = f"{path} has no column {_listed(absent)}."
        near = {name: difflib.get_close_matches(name, names, 1) for name in absent}
        listed += "".join(f"; {match[0]!r} is near {name!r}" for name, match in near.items() if match)
    raise InputError(what, found=listed, remedy=remedy)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (", …" if len(names) > 5 else "")
