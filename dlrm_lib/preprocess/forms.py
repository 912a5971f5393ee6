"""The forms that raw files come in, behind one interface: a piece of a file gives rows."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dlrm_lib.columns import CRITEO, CRITEO_ON_THE_HUB, RawColumns
from dlrm_lib.errors import InputError
from dlrm_lib.preprocess.delimited import Delimited
from dlrm_lib.preprocess.header import header_of, refuse_absent
from dlrm_lib.preprocess.parquet import Parquet, is_parquet, schema_of
from dlrm_lib.preprocess.rows import Rows
from dlrm_lib.preprocess.text import PlainLines


class Form(Protocol):
    """How a file is read. A place in it is a number that only its form understands.

    Attributes:
        unit: What is counted in it: ``line`` or ``row``.
        named: Whether the columns have their names in it.
    """

    @property
    def unit(self) -> str: ...

    @property
    def named(self) -> bool: ...

    def bounds(self, path: Path, most_bytes: int) -> list[int]:
        """Places to cut a file at, first and last included, for ranges of about so many bytes."""

    def read(self, path: Path, start: int, stop: int, columns: RawColumns) -> Iterator[Rows]:
        """Yields what is between two places, chunk by chunk; a chunk may be overwritten by the next."""

    def before(self, path: Path, start: int) -> int:
        """Units before a place."""

    def sample(self, path: Path) -> tuple[int, int]:
        """Some bytes of a file as it is stored, and how many units they hold, about."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """What is between two places of a file."""

    number: int
    file: int
    path: Path
    form: Form
    start: int
    stop: int

    def read(self, columns: RawColumns) -> Iterator[Rows]:
        """Yields its rows, chunk by chunk; a chunk may be overwritten by the next."""
        return self.form.read(self.path, self.start, self.stop, columns)

    def before(self) -> int:
        """PlainLines or rows of the file before it."""
        return self.form.before(self.path, self.start)


def cut(files: Sequence[Path], forms: Sequence[Form], most_bytes: int) -> list[Range]:
    """Cuts files into ranges of about equal size, about ``most_bytes`` each."""
    ranges: list[Range] = []
    for file, (path, form) in enumerate(zip(files, forms, strict=True)):
        for start, stop in itertools.pairwise(form.bounds(path, most_bytes)):
            ranges.append(Range(number=len(ranges), file=file, path=path, form=form, start=start, stop=stop))
    return ranges


def forms_of(files: Sequence[Path], columns: RawColumns) -> tuple[RawColumns, tuple[Form, ...]]:
    """What the columns are, and the form of each file.

    Where no columns are declared and the first file has those of Criteo's logs on the hub, they are these.

    Raises:
        InputError: a file names its columns, and lacks one that is declared; or has it twice, or with values of a type
            that is not read; or some files name their columns and others do not.
    """
    on_the_hub = dataclasses.replace(CRITEO_ON_THE_HUB, label=columns.label)
    undeclared = columns == dataclasses.replace(CRITEO, label=columns.label)
    if undeclared and set(on_the_hub.names) <= set(_names_in(files[0], on_the_hub)):
        columns = on_the_hub
    forms = tuple(form_of(path, columns) for path in files)
    for path, form in zip(files, forms, strict=True):
        if form.named != forms[0].named:
            named, unnamed = (path, files[0]) if form.named else (files[0], path)
            raise InputError(
                f"{unnamed} does not name its columns, and another file does: their order may differ.",
                found=f"a header in {named}" if named.suffix != ".parquet" else f"a Parquet file, {named}",
                remedy="Put one kind into the folder.",
            )
    return columns, forms


def form_of(path: Path, columns: RawColumns) -> Form:
    """The form of a file, by what is in it; errors are those of ``forms_of``."""
    if is_parquet(path):
        from dlrm_lib.preprocess.arrow_rows import check_schema

        schema = schema_of(path)
        refuse_absent(path, Parquet(), schema.names, columns)
        check_schema(path, schema, columns)
        return Parquet()
    header = header_of(path, columns)
    if header is None:
        return PlainLines()
    separator, names = header
    form = Delimited(separator=separator, header=names)
    refuse_absent(path, form, names, columns)
    return form


def _names_in(path: Path, columns: RawColumns) -> Sequence[str]:
    if is_parquet(path):
        return schema_of(path).names
    _, names = header_of(path, columns) or ("", ())
    return names
