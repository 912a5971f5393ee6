"""The first pass: a task reads a range of a file once and spills its rows as codes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dlrm_lib.files import sha256
from dlrm_lib.preprocess import bags, quarantine
from dlrm_lib.preprocess.forms import Range
from dlrm_lib.preprocess.job import Job
from dlrm_lib.preprocess.numbers import encode_numbers
from dlrm_lib.preprocess.rows import REASONS, Rows, reasons
from dlrm_lib.preprocess.spill import Block, Part, write_block, write_dictionaries, written
from dlrm_lib.preprocess.vocabulary import Dictionary


def hash_or_read(job: Job, item: Path | Range) -> str | list[Part]:
    """The hash of a file, or what ``read_range`` makes of a range: both read it, so both are done at about one time."""
    return read_range(job, item) if isinstance(item, Range) else sha256(item)


def read_range(job: Job, piece: Range) -> list[Part]:
    """Reads a range of a file and spills its rows as codes, its tokens with their counts, and what is rejected.

    Numbers whose rule is learned are spilled beside the rows as they are.

    Returns:
        The parts it made: one, unless the range has many more rows than usual, as a large compressed file has.

    Raises:
        InputError: the file cannot be read, or has a malformed line where ``strict`` allows none.
    """
    parts: list[Part] = []
    rows = piece.read(job.columns)
    more = True
    while more:
        part, more = _read_part(job, piece, parts, rows)
        parts.append(part)
    return parts


def _read_part(job: Job, piece: Range, before: list[Part], read: Iterator[Rows]) -> tuple[Part, bool]:
    """One part, and whether there may be another in the same range."""
    name = f"{piece.number}-{len(before)}"
    dictionaries = [Dictionary() for _ in range(job.columns.categorical)]
    blocks: list[int] = []
    bad = np.zeros(len(REASONS), np.int64)
    missing, cut = [0] * job.columns.categorical, [0] * job.columns.categorical
    line = 0
    full = False
    with (
        written(job.work / f"{name}.rows") as spill,
        written(job.work / f"{name}.numbers") as waiting,
        written(job.work / f"{name}.bad") as rejected,
    ):
        for rows in read:
            if rows.bad:
                if job.config.strict:
                    quarantine.refuse(job, piece, sum(part.lines for part in before) + line, rows.bad[0])
                rejected.writelines(_rejected(job, rows, line))
                bad += np.bincount([each.reason for each in rows.bad], minlength=len(REASONS))
            codes = []
            for j, (dictionary, column) in enumerate(zip(dictionaries, job.columns.tokens, strict=True)):
                if column.most == 1:
                    of_column = dictionary.codes(rows.tokens(j), count=True)
                else:
                    if j in rows.lists:
                        in_bags = bags.gathered(*rows.lists[j], column.most)
                    else:
                        in_bags = bags.split(rows.tokens(j), column.separator, column.most)
                    of_column = bags.codes(in_bags, dictionary, len(rows.label), column.most)
                    cut[j] += in_bags.cut
                first = of_column if column.most == 1 else of_column[:, 0]
                missing[j] += int(np.count_nonzero(first == 0))
                codes.append(bags.narrowed(of_column, dictionary.size))
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
        missing=tuple(missing),
        cut=tuple(cut),
    )
    return part, full


def _rejected(job: Job, rows: Rows, line: int) -> Iterator[bytes]:
    """Line number within the part (from 0), reason and text of each rejected line."""
    named = [reason.encode() for reason in reasons(job.columns)]
    for each in rows.bad:
        yield b"%d\t%s\t%s\n" % (line + each.line, named[each.reason], each.text)
