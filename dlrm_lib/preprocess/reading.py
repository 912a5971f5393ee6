"""The first pass: a task reads a range of lines once and spills its rows as codes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dlrm_lib.files import sha256
from dlrm_lib.preprocess import quarantine
from dlrm_lib.preprocess.job import Job
from dlrm_lib.preprocess.numbers import encode_numbers
from dlrm_lib.preprocess.rows import REASONS, Parser, Rows
from dlrm_lib.preprocess.source import Range, chunks, lines_before
from dlrm_lib.preprocess.spill import Block, Part, write_block, write_dictionaries, written
from dlrm_lib.preprocess.vocabulary import Dictionary


def hash_or_read(job: Job, item: Path | Range) -> str | list[Part]:
    """The hash of a file, or what ``read_range`` makes of a range: both read it, so both are done at about one time."""
    return read_range(job, item) if isinstance(item, Range) else sha256(item)


def read_range(job: Job, piece: Range) -> list[Part]:
    """Reads a range of lines and spills its rows as codes, its tokens with their counts, and its rejected lines.

    Numbers whose rule is learned are spilled beside the rows as they are.

    Returns:
        The parts it made: one, unless the range has many more rows than usual, as a large gzip file has.

    Raises:
        InputError: the file cannot be read as text, or has a malformed line where ``strict`` allows none.
    """
    parts: list[Part] = []
    lines = chunks(piece)
    more = True
    while more:
        part, more = _read_part(job, piece, parts, lines)
        parts.append(part)
    return parts


def _read_part(
    job: Job, piece: Range, before: list[Part], lines: Iterator[tuple[np.ndarray, int]]
) -> tuple[Part, bool]:
    """One part, and whether there may be another in the same range."""
    name = f"{piece.number}-{len(before)}"
    parser = Parser(job.columns)
    dictionaries = [Dictionary() for _ in range(job.columns.categorical)]
    blocks: list[int] = []
    bad = np.zeros(len(REASONS), np.int64)
    line = 0
    full = False
    with (
        written(job.work / f"{name}.rows") as spill,
        written(job.work / f"{name}.numbers") as waiting,
        written(job.work / f"{name}.bad") as rejected,
    ):
        for data, size in lines:
            rows = parser.parse(data, size)
            if len(rows.bad):
                if job.config.strict:
                    first = lines_before(piece) + sum(part.lines for part in before) + line
                    quarantine.refuse(job, piece, first, data, rows)
                rejected.writelines(_rejected(data, rows, line))
                bad += np.bincount(rows.bad[:, 3], minlength=len(REASONS))
            codes = [dictionary.codes(rows.tokens(j), count=True) for j, dictionary in enumerate(dictionaries)]
            small = [dictionary.size < 1 << 16 for dictionary in dictionaries]
            codes = [of.astype(np.uint16) if fits else of for of, fits in zip(codes, small, strict=True)]
            numerical, numbers = encode_numbers(rows, job.columns, job.config.numeric_rule)
            waiting.write(numbers.data)
            write_block(spill, Block(rows.label, numerical, codes))
            blocks.append(len(rows.label))
            line += rows.lines
            if full := sum(blocks) >= job.part_rows:
                break
    write_dictionaries(job.work / f"{name}.tokens", dictionaries)
    part = Part(
        name=name,
        file=piece.file,
        lines=line,
        blocks=tuple(blocks),
        sizes=tuple(dictionary.size for dictionary in dictionaries),
        bad=tuple(bad.tolist()),
    )
    return part, full


def _rejected(data: np.ndarray, rows: Rows, line: int) -> Iterator[bytes]:
    """Line number within the part (from 0), reason and text of each rejected line."""
    for number, start, stop, reason in rows.bad.tolist():
        yield b"%d\t%s\t%s\n" % (line + number, REASONS[reason].encode(), data[start:stop].tobytes())
