"""Rejected lines: all kept, with file, line number and reason; too many of them stop the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from dlrm_lib.errors import InputError
from dlrm_lib.preprocess.diagnosis import explain, fault
from dlrm_lib.preprocess.formats import layout
from dlrm_lib.preprocess.forms import Form, Range
from dlrm_lib.preprocess.job import Job
from dlrm_lib.preprocess.rows import Rejected, reasons
from dlrm_lib.preprocess.spill import Part

_SHOWN = 120  # bytes of a line in an error


def collect(job: Job, parts: list[Part], say: Callable[[str], None]) -> dict[str, int]:
    """Writes ``quarantine/rejected.tsv``, separated by tabs: file, line number from 1, reason, and the line as it was.

    A file of another form has row numbers where it has no lines, and the row's values separated by tabs.

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
    by_reason = {reason: sum(part.bad[i] for part in parts) for i, reason in enumerate(reasons(job.columns))}
    bad = sum(by_reason.values())
    if lines == 0:
        where = job.files[0] if len(job.files) == 1 else job.files[0].parent
        found = f"no {job.forms[0].unit} in {len(job.files)} {'file' if len(job.files) == 1 else 'files'}"
        raise InputError(f"{where} holds no rows.", found=found, remedy="Give files of raw rows.")
    allowed = job.config.max_bad_fraction
    if bad > allowed * lines:
        of_file = Counter({part.file: 0 for part in parts})
        for part in parts:
            of_file[part.file] += sum(part.bad)
        ((worst, most),) = of_file.most_common(1)
        file, line, reason, text = next(found for found in _rejected(job, parts) if found[0] == worst)
        unit = job.forms[file].unit
        first = "; the first" if most == bad else f", {most:,} of them in one file; its first"
        raise _refusal(
            f"{bad:,} of {lines:,} lines are not rows{first} is {job.files[file]}, {unit} {line}: ",
            *(job, job.files[file], job.forms[file], text, reason),
            f"Mend the {unit}s" + (f", or raise --max_bad_fraction ({allowed:g})." if bad < lines else "."),
        )
    table_path = job.folder / "quarantine" / "rejected.tsv"
    table_path.parent.mkdir(exist_ok=True)
    with open(table_path, "wb") as table:
        table.write(b"file\tline\treason\ttext\n")
        for file, line, reason, text in _rejected(job, parts):
            table.write(b"%s\t%d\t%s\t%s\n" % (job.names[file].encode(), line, reason.encode(), text))
    for file in dict.fromkeys(file for file, *_ in _rejected(job, parts)):
        if finding := explain(job.files[file], job.forms[file], job.columns):
            say(f"rejected {job.forms[file].unit}s of {job.files[file]}: {finding.facts}")
    return {reason: count for reason, count in by_reason.items() if count}


def refuse(job: Job, piece: Range, before: int, bad: Rejected) -> NoReturn:
    """Stops at a rejected line.

    Args:
        job: What every task needs to know.
        piece: Where it is from.
        before: Lines of the piece before the chunk that it is in.
        bad: The line.
    """
    where = f"{piece.path}, {piece.form.unit} {piece.before() + before + bad.line + 1}: "
    remedy = f"Mend the {piece.form.unit}, or leave out --strict."
    raise _refusal(where, job, piece.path, piece.form, bad.text, reasons(job.columns)[bad.reason], remedy)


def _refusal(where: str, job: Job, path: Path, form: Form, text: bytes, reason: str, remedy: str) -> InputError:
    """An error that names a rejected line, and what its whole file is where that is known."""
    found = _shown(text)
    if finding := explain(path, form, job.columns, job.files):
        found = f"{found} ({finding.facts})" if found else finding.facts
        remedy = finding.remedy or f"Give {layout(job.columns)}; other columns are named with --feature_spec."
    return InputError(f"{where}{fault(text, reason, form, job.columns)}.", found=found, remedy=remedy)


def _rejected(job: Job, parts: list[Part]) -> Iterator[tuple[int, int, str, bytes]]:
    """File, line number from 1, reason and text of each rejected line, in input order."""
    file, before = 0, 0
    for part in parts:
        if part.file != file:
            file, before = part.file, 0
        with open(job.work / f"{part.name}.bad", "rb") as lines:
            for entry in lines:
                line, reason, text = entry[:-1].split(b"\t", 2)
                yield file, before + int(line) + 1, reason.decode(), text
        before += part.lines


def _shown(text: bytes) -> str:
    return repr(text[:_SHOWN])[2:-1] + ("…" if len(text) > _SHOWN else "")
