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
from dlrm_lib.preprocess.formats import CLEAN, SIGNS, Lines, field_names, layout, shown
from dlrm_lib.preprocess.packings import GUNZIP, GZIP, SAMPLE, members, packing, sample, shell

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


def explain(path: Path, columns: RawColumns, files: Sequence[Path] = ()) -> Finding | None:
    """What a file is that does not hold rows, or None where its beginning looks like rows.

    Args:
        path: The file.
        columns: The columns of a row.
        files: All raw files; those of a folder that are of the same format are mended by one command.
    """
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
        with open(path, "rb") as file:
            start = file.read(SAMPLE)
        not_gzip = path.suffix == ".gz" and start[:2] != GZIP.magic and bool(start)
        no_lines = len(start) == SAMPLE and b"\n" not in start and path.suffix != ".gz"
        if (not_gzip or no_lines or packing(path)) and (finding := explain(path, columns, files)):
            remedy = finding.remedy or f"Give {layout(columns)}."
            raise InputError(f"{path} does not hold raw rows.", found=finding.facts, remedy=remedy)


def fault(text: bytes, reason: str, columns: RawColumns) -> str:
    """Why a line is rejected, with the field, its value, and the counts found and wanted."""
    fields = text.split(b"\t")
    if reason == "wrong number of fields":
        return f"{reason}: {len(fields)} instead of {columns.total} ({field_names(columns)})"
    if reason == "label is not 0 or 1":
        return f"{reason}: it is {shown(fields[0])}"
    if "integer" in reason or "decimal" in reason:
        limits = digits_of(columns).tolist()
        kind = "number" if any(limits) else "integer"
        for number, (digits, field) in enumerate(zip(limits, fields[1:], strict=False), 1):
            if field and (is_faulty(field, digits) if digits else not _fits(field)):
                most = f", and it takes numbers below 1e{digits}" if reason.endswith("too large") else ""
                return f"{reason}: field {number + 1}, {kind} {number} of {columns.numerical}, is {shown(field)}{most}"
    return reason


def _fits(field: bytes) -> bool:
    """Whether a field is an integer of 64 bits."""
    return bool(_INTEGER.fullmatch(field)) and -(2**63) <= int(field) < 2**63


def _recognised(path: Path, columns: RawColumns) -> _Recognised:
    kind = packing(path)
    if kind is None:
        with open(path, "rb") as file:
            start = file.read(SAMPLE)
        if path.suffix != ".gz":
            return _read(start, [], columns)
        if start[: len(GZIP.magic)] == GZIP.magic:
            return _read(sample(GUNZIP, path), [GUNZIP], columns)
        facts, chain, advice = _read(start, ["cat < {}"], columns)
        return _Recognised(["not gzip, in spite of its name", *facts], chain, advice)
    facts = [kind.name + (" without the ending .gz" if kind is GZIP else "")]
    inside = members(kind, path)
    if len(inside) > 1:
        facts[0] += f" of {len(inside)} files: {', '.join(inside[:5])}{', …' if len(inside) > 5 else ''}"
    if kind.read is None:
        return _Recognised(facts)
    for member in inside[:50] if len(inside) > 1 else [""]:
        read = f"{kind.read} {shlex.quote(member)}" if member else kind.read
        more, chain, _ = _read(sample(read, path), [read], columns)
        if chain:
            return _Recognised(facts + more, chain)
    return _Recognised(facts)


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
