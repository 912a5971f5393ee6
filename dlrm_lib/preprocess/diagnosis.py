"""Why a file or a line holds no rows, and a remedy that was tried: on the beginning of the file, before it is given."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dlrm_lib.columns import RawColumns
from dlrm_lib.errors import InputError
from dlrm_lib.preprocess.decimals import digits_of, is_faulty
from dlrm_lib.preprocess.declaring import decimals, flag_of, label_values
from dlrm_lib.preprocess.delimited import Delimited
from dlrm_lib.preprocess.formats import CLEAN, SIGNS, Lines, field_names, layout, shown
from dlrm_lib.preprocess.forms import Form
from dlrm_lib.preprocess.packings import NAMED, PARQUET, SAMPLE, members, packing, sample, shell
from dlrm_lib.preprocess.parquet import is_parquet
from dlrm_lib.preprocess.text import COMPRESSED, opened

_INTEGER = re.compile(rb"-?[0-9]+")


class Finding(NamedTuple):
    """What a file holds instead of rows, and what to do about it, where something that helps is known."""

    facts: str
    remedy: str | None


class _Recognised(NamedTuple):
    """What is to be said of a file; the commands that make rows of it, where they are known; else advice, if any."""

    facts: list[str]
    chain: list[str] | None = None
    advice: str | None = None


def explain(path: Path, form: Form, columns: RawColumns, files: Sequence[Path] = ()) -> Finding | None:
    """What a file is that does not hold rows, or None where its beginning looks like rows.

    Args:
        path: The file.
        form: How it is read.
        columns: The columns of a row.
        files: All raw files; those of a folder that are of the same format are mended by one command.
    """
    if values := label_values(path, form, columns):
        advice = f"Declare them with {flag_of(values)}: first no click, then a click."
        return Finding(f"labels {values[0]} and {values[1]}", advice)
    if not form.named:
        return _recognise(path, columns, files)
    if names := decimals(path, form, columns):
        advice = f"Declare them in a --feature_spec: feature_spec: {{{names[0]}: {{type: decimal}}}}"
        facts = f"decimals in {', '.join(map(repr, names[:5]))}{', …' if len(names) > 5 else ''}"
        return Finding(facts, advice + (" and so for the others." if len(names) > 1 else "."))
    return None


def _recognise(path: Path, columns: RawColumns, files: Sequence[Path]) -> Finding | None:
    facts, chain, advice = _recognised(path, columns)
    if not facts:
        return None
    if chain is not None:
        alike = [file for file in files if file == path or _recognised(file, columns).chain == chain]
        advice = _command(path, chain, alike, len(files))
    return Finding("; ".join(facts), advice)


def refuse_packed(files: Sequence[Path], columns: RawColumns) -> None:
    """Refuses files of which no line can be read, before any work is done.

    Raises:
        InputError: one is packed, or is something else than text.
    """
    for path in files:
        if is_parquet(path):
            continue
        with open(path, "rb") as file:
            start = file.read(SAMPLE)
        kind = NAMED.get(path.suffix)
        other = kind is not None and not start.startswith(kind.magic) and bool(start)
        no_lines = len(start) == SAMPLE and b"\n" not in start and kind is None
        if (other or no_lines or packing(path)) and (finding := _recognise(path, columns, files)):
            remedy = finding.remedy or f"Give {layout(columns)}."
            raise InputError(f"{path} does not hold raw rows.", found=finding.facts, remedy=remedy)


def fault(text: bytes, reason: str, form: Form, columns: RawColumns) -> str:
    """Why a line is rejected, with the field, its value, and the counts found and wanted."""
    fields = text.split(b"\t")
    if reason == "wrong number of fields" and isinstance(form, Delimited):
        return f"{reason}: {len(fields)} instead of the {len(form.header)} of the header"
    if reason == "wrong number of fields":
        return f"{reason}: {len(fields)} instead of {columns.total} ({field_names(columns)})"
    if reason.startswith("label is not"):
        return f"{reason}: it is {shown(fields[0])}"
    if "integer" in reason or "decimal" in reason:
        limits = digits_of(columns).tolist()
        kind = "number" if any(limits) else "integer"
        named = zip(columns.numerical_names, limits, fields[1:], strict=False)
        for number, (name, digits, field) in enumerate(named, 1):
            if field and (is_faulty(field, digits) if digits else not _fits(field)):
                which = name if columns.named else f"{kind} {number} of {columns.numerical}"
                place = f"field {number + 1}, {which},"
                most = f", and it takes numbers below 1e{digits}" if reason.endswith("too large") else ""
                return f"{reason}: {f'column {name!r}' if form.named else place} is {shown(field)}{most}"
    return reason


def _fits(field: bytes) -> bool:
    """Whether a field is an integer of 64 bits."""
    return bool(_INTEGER.fullmatch(field)) and -(2**63) <= int(field) < 2**63


def _recognised(path: Path, columns: RawColumns) -> _Recognised:
    kind = packing(path)
    if kind is None:
        named = NAMED.get(path.suffix)
        with open(path, "rb") as file:
            start = file.read(SAMPLE)
        if named is None:
            return _read(start, [], columns)
        if start.startswith(named.magic):
            return _packed(path, path.suffix, columns)
        facts, chain, advice = _read(start, ["cat < {}"], columns)
        return _Recognised([f"not {COMPRESSED[path.suffix]}, in spite of its name", *facts], chain, advice)
    for ending, named in NAMED.items():
        if kind is named:
            facts, chain, advice = _packed(path, ending, columns)
            if not facts:
                advice = f"Add the ending {ending} to its name."
            return _Recognised([f"{kind.name} without the ending {ending}", *facts], chain, advice)
    facts = [kind.name]
    inside = members(kind, path)
    if len(inside) > 1:
        facts[0] += f" of {len(inside)} files: {', '.join(inside[:5])}{', …' if len(inside) > 5 else ''}"
    if kind.magic == PARQUET.magic:
        return _Recognised(facts, advice="Unpack it: Parquet files are read as they are.")
    if kind.read is None:
        return _Recognised(facts)
    for member in inside[:50] if len(inside) > 1 else [""]:
        read = f"{kind.read} {shlex.quote(member)}" if member else kind.read
        more, chain, _ = _read(sample(read, path), [read], columns)
        if chain:
            return _Recognised(facts + more, chain)
    return _Recognised(facts)


def _packed(path: Path, ending: str, columns: RawColumns) -> _Recognised:
    """Of compressed text. A command is given where its tool is there, and something is left to be done by one."""
    command = NAMED[ending].read or ""
    try:
        with opened(path, ending) as (file, _):
            text = file.read(SAMPLE)
    except InputError:
        return _Recognised([])  # damaged, which the task that reads it says
    facts, chain, advice = _read(text, [command], columns)
    return _Recognised(facts, chain if facts and sample(command, path) else None, advice)


def _read(text: bytes, read: list[str], columns: RawColumns) -> _Recognised:
    """Goes through the table of formats with what the command ``read`` prints of a file."""
    seen = Lines(text, columns, cut=len(text) == SAMPLE)
    facts: list[str] = []
    filters: list[str] = []
    for sign in SIGNS:
        if seen.text and seen.bad() and (step := sign(seen)):
            facts.append(step.fact)
            if step.filter is None:
                return _Recognised(facts, advice=step.advice)
            filters.append(step.filter)
            seen = Lines(shell(step.filter, seen.text), columns, cut=seen.cut)
    clean = bool(seen.lines) and seen.bad() <= CLEAN
    return _Recognised(facts, [*read, *filters] if clean and (read or filters) else None)


def _command(path: Path, chain: list[str], alike: list[Path], files: int) -> str:
    """The shell command that makes rows of a file, or of all those alike in a folder; nothing there is changed."""
    first, *rest = chain or ["cat"]
    before, _, after = " | ".join([first if "{}" in first else f"{first} < {{}}", *rest]).partition("{}")
    if files <= 1:
        target = _unused(path.with_name(f"{path.name.split('.')[0]}.rows.tsv"))
        command = f"{before}{shlex.quote(str(path))}{after} > {shlex.quote(str(target))}"
        return f"`{command}`, then give that file."
    target = _unused(path.parent.with_name(f"{path.parent.name}.rows"))
    days = " ".join(shlex.quote(str(day)) for day in alike)
    into = shlex.quote(str(target))
    command = f'mkdir {into} && for day in {days}; do {before}"$day"{after} > {into}/"$(basename "$day" .gz)"; done'
    return f"`{command}`, {'copy the other days there, ' if len(alike) < files else ''}then give that folder."


def _unused(path: Path) -> Path:
    names = itertools.chain([path], (path.with_name(f"{path.name}.{number}") for number in itertools.count(2)))
    return next(name for name in names if not name.exists())
