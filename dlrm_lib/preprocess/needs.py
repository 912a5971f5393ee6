"""Before the work starts: how many rows there are, what they need of disk, memory and time, and whether it is there.

Rows, and clicks among them, are estimated from the start of the first and of the last file. What disk and memory they
need is bounded from above (with ids of four bytes, which most are not); the time is that of the machine where it was
measured.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlrm_lib.columns import RawColumns
from dlrm_lib.config import PreprocessConfig
from dlrm_lib.errors import InputError
from dlrm_lib.memory import available_memory
from dlrm_lib.preprocess.forms import Form
from dlrm_lib.preprocess.numbers import learned

_GB = 10**9
_SAMPLE = 1 << 20  # bytes
_MORE_CLICKS = 1.5  # than at the starts of the files: a click rate changes in the course of a day
_START_SECONDS = 10
_ROWS_PER_CORE_SECOND = 350_000  # of Criteo's 40 fields
_JAVA_BYTES = 700_000_000
_TASK_BYTES = 450_000_000  # at most: a full part, or a full bin of counts


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a run will need.

    Attributes:
        files: Raw files.
        bytes: Their size.
        rows: Rows, about.
        output_bytes: Of the data set.
        spill_bytes: Of the intermediate files.
        memory_bytes: Of all processes together, about.
        seconds: About.
    """

    files: int
    bytes: int
    rows: int
    output_bytes: int
    spill_bytes: int
    memory_bytes: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.files} {'file' if self.files == 1 else 'files'}, {self.bytes / _GB:,.2f} GB, about {self.rows:,} "
            f"rows; this needs about {self.seconds:,.0f} s, {self.memory_bytes / _GB:.1f} GB of memory and "
            f"{(self.output_bytes + self.spill_bytes) / _GB:,.2f} GB of disk"
        )


def estimate_needs(
    files: Sequence[Path], forms: Sequence[Form], columns: RawColumns, cores: int, config: PreprocessConfig
) -> Needs:
    """Estimates what a run needs.

    Args:
        files: Raw files in time order.
        forms: How each is read.
        columns: The columns of a raw row.
        cores: Tasks at a time.
        config: How to encode.
    """
    size = sum(path.stat().st_size for path in files)
    ends = sorted({0, len(files) - 1})
    sampled = [forms[at].sample(files[at]) for at in ends]
    read, lines = (sum(column) for column in zip(*sampled, strict=True))
    rows = round(size * lines / read) if read else 0
    held_out = files[-1].stat().st_size / max(size, 1) if len(files) > 1 else config.holdout_fraction
    kept = 1.0  # of the training rows
    if config.negative_rate < 1:
        starts = [_clicks(files[at], forms[at], columns) for at in ends]
        clicks, of = (sum(column) for column in zip(*starts, strict=True))
        click_rate = min(1.0, _MORE_CLICKS * clicks / of) if of else 1.0
        kept = click_rate + (1 - click_rate) * config.negative_rate
    output, spill = disk_needs(rows, columns, kept=held_out + (1 - held_out) * kept)
    return Needs(
        files=len(files),
        bytes=size,
        rows=rows,
        output_bytes=output,
        spill_bytes=spill,
        memory_bytes=memory_needs(cores),
        seconds=_START_SECONDS + rows * columns.total / 40 / (_ROWS_PER_CORE_SECOND * cores),
    )


def disk_needs(rows: int, columns: RawColumns, *, kept: float = 1.0) -> tuple[int, int]:
    """Bytes of the data set and of the intermediate files that so many rows take at most, a share of them kept."""
    row = 1 + 2 * columns.numerical + 4 * sum(columns.bags)
    stay = round(rows * kept)
    # Codes and dealt rows, at the moment when both are there; the dictionaries are small beside them.
    return stay * row, rows * (row + 8 * len(learned(columns))) + stay * (row + 8)


def memory_needs(cores: int) -> int:
    """Bytes that all processes take together with so many tasks at a time, about."""
    return _JAVA_BYTES + cores * _TASK_BYTES


def check_needs(needs: Needs, data: Path, work: Path, *, cores: int, here: bool, memory: int | None = None) -> None:
    """Checks that disk and memory suffice.

    Args:
        needs: What the run needs.
        data: Folder of the data set.
        work: Folder of the intermediate files.
        cores: Tasks at a time.
        here: Whether the tasks run on this machine.
        memory: Bytes that all processes may take together; by default what is available.

    Raises:
        InputError: there is too little of one of them.
    """
    disks: dict[int, list[tuple[Path, int]]] = {}
    for folder, needed in ((data, needs.output_bytes), (work, needs.spill_bytes)):
        held = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())  # by an earlier run
        disks.setdefault(folder.stat().st_dev, []).append((folder, needed - held))
    for on_disk in disks.values():
        folder, needed = on_disk[0][0], sum(needed for _, needed in on_disk)
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise InputError(
                f"The disk of {folder.parent.parent} has too little space: up to {needed / _GB:,.2f} GB are needed.",
                found=f"{free / _GB:,.2f} GB free",
                remedy="Free some space, or choose other places with --output and --spill.",
            )
    memory = available_memory() if memory is None else memory
    if here and memory is not None and needs.memory_bytes > memory:
        possible = (memory - _JAVA_BYTES) // _TASK_BYTES
        raise InputError(
            f"{cores} tasks at a time need about {needs.memory_bytes / _GB:.1f} GB of memory.",
            found=f"{memory / _GB:.1f} GB available",
            remedy=f"Use --cores {possible}." if possible >= 1 else "Close other programs, or raise --memory.",
        )


def fitting_tasks(memory: int | None, cores: int) -> int:
    """How many tasks at a time fit into so much memory (by default what is free): from 1 to ``cores``."""
    memory = available_memory() if memory is None else memory
    return cores if memory is None else max(1, min(cores, (memory - _JAVA_BYTES) // _TASK_BYTES))


def _clicks(path: Path, form: Form, columns: RawColumns) -> tuple[int, int]:
    """Clicks and rows at the start of a file."""
    with contextlib.suppress(InputError):  # the task that reads it says so
        start, stop = form.bounds(path, _SAMPLE)[:2]
        for rows in form.read(path, start, stop, columns):
            return int(rows.label.sum()), len(rows.label)
    return 0, 0
