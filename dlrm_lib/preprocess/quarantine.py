"""Rejected lines: all kept, with file, line number and reason; too many of them stop the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np

from dlrm_lib.errors import InputError
from dlrm_lib.preprocess.diagnosis import explain, fault
from dlrm_lib.preprocess.formats import layout
from dlrm_lib.preprocess.job import Job
from dlrm_lib.preprocess.rows import REASONS, Rows
from dlrm_lib.preprocess.source import Range
from dlrm_lib.preprocess.spill import Part

_SHOWN = 120  # bytes of a line in an error


def collect(job: Job, parts: list[Part], say: Callable[[str], None]) -> dict[str, int]:
    """Writes ``quarantine/rejected.tsv``: file, line number from 1, reason, and the line as it was, separated by tabs.

    Args:
        job: What every task needs to know.
        parts: All parts.
        say: Called with what rejected lines look like, where they are few enough and are known, as a header is.

    Returns:
        Rejected lines by reason.

    Raises:
        InputError: no lines at all, or a greater share of bad ones than ``max_bad_fraction``.
    """
    lines = sum(part.lines for part in parts)
    by_reason = {reason: sum(part.bad[i] for part in parts) for i, reason in enumerate(REASONS)}
    bad = sum(by_reason.values())
    if lines == 0:
        where = job.files[0] if len(job.files) == 1 else job.files[0].parent
        raise InputError(f"{where} holds no rows.", found="0 bytes of text", remedy="Give files of raw rows.")
    allowed = job.config.max_bad_fraction
    if bad > allowed * lines:
        of_file = Counter({job.files[part.file]: 0 for part in parts})
        for part in parts:
            of_file[job.files[part.file]] += sum(part.bad)
        ((worst, most),) = of_file.most_common(1)
        path, line, reason, text = next(found for found in _rejected(job, parts) if found[0] == worst)
        first = "; the first" if most == bad else f", {most:,} of them in one file; its first"
        raise _refusal(
            f"{bad:,} of {lines:,} lines are not rows{first} is {path}, line {line}: ",
            *(job, path, text, reason),
            "Mend the lines" + (f", or raise --max_bad_fraction ({allowed:g})." if bad < lines else "."),
        )
    table_path = job.folder / "quarantine" / "rejected.tsv"
    table_path.parent.mkdir(exist_ok=True)
    with open(table_path, "wb") as table:
        table.write(b"file\tline\treason\ttext\n")
        for path, line, reason, text in _rejected(job, parts):
            table.write(b"%s\t%d\t%s\t%s\n" % (path.name.encode(), line, reason.encode(), text))
    for path in dict.fromkeys(path for path, *_ in _rejected(job, parts)):
        if finding := explain(path, job.columns):
            say(f"rejected lines of {path}: {finding.facts}")
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
    where = f"{piece.path}, line {line + lines_before + 1}: "
    raise _refusal(where, job, piece.path, text, REASONS[reason], "Mend the line, or leave out --strict.")


def _refusal(where: str, job: Job, path: Path, text: bytes, reason: str, remedy: str) -> InputError:
    """An error that names a rejected line, and what its whole file is where that is known."""
    found = _shown(text)
    if finding := explain(path, job.columns, job.files):
        found = f"{found} ({finding.facts})" if found else finding.facts
        remedy = finding.remedy or f"Give {layout(job.columns)}; other columns are named with --feature_spec."
    return InputError(f"{where}{fault(text, reason, job.columns)}.", found=found, remedy=remedy)


def _rejected(job: Job, parts: list[Part]) -> Iterator[tuple[Path, int, str, bytes]]:
    """File, line number from 1, reason and text of each rejected line, in input order."""
    file, before = 0, 0
    for part in parts:
        if part.file != file:
            file, before = part.file, 0
        with open(job.work / f"{part.name}.bad", "rb") as lines:
            for entry in lines:
                line, reason, text = entry[:-1].split(b"\t", 2)
                yield job.files[file], before + int(line) + 1, reason.decode(), text
        before += part.lines


def _shown(text: bytes) -> str:
    return repr(text[:_SHOWN])[2:-1] + ("…" if len(text) > _SHOWN else "")
