"""Rejected lines: all kept, with file, line number and reason; too many of them stop the run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np

from dlrm_lib.errors import InputError
from dlrm_lib.features import RawColumns
from dlrm_lib.preprocess.job import Job
from dlrm_lib.preprocess.rows import REASONS, Rows, parse
from dlrm_lib.preprocess.source import Range
from dlrm_lib.preprocess.spill import Part

_SHOWN = 120  # bytes of a line in an error


def collect(job: Job, files: list[Path], parts: list[Part]) -> dict[str, int]:
    """Writes ``quarantine/rejected.tsv``: file, line number from 1, reason, and the line as it was, separated by tabs.

    Returns:
        Rejected lines by reason.

    Raises:
        InputError: no lines at all, or a greater share of bad ones than ``max_bad_fraction``.
    """
    lines = sum(part.lines for part in parts)
    by_reason = {reason: sum(part.bad[i] for part in parts) for i, reason in enumerate(REASONS)}
    bad = sum(by_reason.values())
    if lines == 0:
        where = files[0] if len(files) == 1 else files[0].parent
        raise InputError(f"{where} holds no rows.", found="0 bytes of text", remedy="Give files of raw rows.")
    allowed = job.config.max_bad_fraction
    if bad > allowed * lines:
        file, line, reason, text = next(_rejected(job, parts))
        likely = _likely_cause(line, text, job.columns, whole_file=bad > lines / 2)
        raise InputError(
            f"{bad:,} of {lines:,} lines are not rows; the first is {files[file]}, line {line}: {reason}.",
            found=_shown(text) + (f" ({likely[0]})" if likely else ""),
            remedy=likely[1] if likely else f"Mend the lines, or raise --max_bad_fraction ({allowed:g}).",
        )
    with open(job.folder / "quarantine" / "rejected.tsv", "wb") as table:
        table.write(b"file\tline\treason\ttext\n")
        for file, line, reason, text in _rejected(job, parts):
            table.write(b"%s\t%d\t%s\t%s\n" % (files[file].name.encode(), line, reason.encode(), text))
    return {reason: count for reason, count in by_reason.items() if count}


def refuse(job: Job, piece: Range, lines_before: int, data: np.ndarray, rows: Rows) -> NoReturn:
    """Stops at the first rejected line of a chunk.

    Args:
        job: What every task needs to know.
        piece: Where the chunk is from.
        lines_before: Lines of the file before the chunk.
        data: uint8: the chunk.
        rows: What was read of it.
    """
    line, start, stop, reason = rows.bad[0].tolist()
    text = data[start:stop].tobytes()
    line += lines_before + 1
    likely = _likely_cause(line, text, job.columns, whole_file=len(rows.bad) > rows.lines / 2)
    raise InputError(
        f"{piece.path}, line {line}: {REASONS[reason]}.",
        found=_shown(text) + (f" ({likely[0]})" if likely else ""),
        remedy=likely[1] if likely else "Mend the line, or leave out --strict.",
    )


def _rejected(job: Job, parts: list[Part]) -> Iterator[tuple[int, int, str, bytes]]:
    """File index, line number from 1, reason and text of each rejected line, in input order."""
    file, before = 0, 0
    for part in parts:
        if part.file != file:
            file, before = part.file, 0
        with open(job.work / f"{part.name}.bad", "rb") as lines:
            for entry in lines:
                line, reason, text = entry[:-1].split(b"\t", 2)
                yield file, before + int(line) + 1, reason.decode(), text
        before += part.lines


def _likely_cause(line: int, text: bytes, columns: RawColumns, *, whole_file: bool) -> tuple[str, str] | None:
    """What a wrong file looks like and what to do, where one of the usual mistakes explains a rejected line.

    A missing or added first column shows in the whole file: a single line like that has lost or gained another field.
    """
    fields = text.split(b"\t")
    if whole_file and parse(b"0\t" + text, columns).bad.size == 0:
        return "no label: like the test file of the Kaggle challenge", "Give rows with labels, such as train.txt."
    if whole_file and parse(b"\t".join(fields[1:]), columns).bad.size == 0:
        return "one column too many in front, like an Id", "Remove the first column: cut -f2-."
    if line == 1 and not fields[0][:1].isdigit() and any(field[:1].isalpha() for field in fields):
        return "like a header line", "Remove the header line: tail -n +2."
    if len(fields) == 1 and len(text.split(b",")) > 1:
        return "no tabs, but commas", "Separate the fields by tabs."
    return None


def _shown(text: bytes) -> str:
    return repr(text[:_SHOWN])[2:-1] + ("…" if len(text) > _SHOWN else "")
