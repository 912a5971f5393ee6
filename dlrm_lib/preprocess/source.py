"""Raw files: which ones a source has, in time order, and how they are cut into ranges that tasks can read alone."""

from __future__ import annotations

import gzip
import itertools
import os
import re
import stat
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import numpy as np

from dlrm_lib.errors import InputError
from dlrm_lib.files import contents, put_back
from dlrm_lib.places import local
from dlrm_lib.preprocess.rows import BOM, PADDING

_DAY = re.compile(r"day_(0|[1-9][0-9]*)(?:\.gz)?")
_ALMOST = re.compile(r"day[^a-z0-9]*[0-9]|^day[_-]|\.partial-", re.IGNORECASE)
_QUIET = re.compile(
    r"^[._]|^(README|LICEN[CS]E)|\.(md5|sha1|sha256|crc)$|^(?!.*day[^a-z0-9]*[0-9]).*\.(md|json|ya?ml)$", re.IGNORECASE
)
_UNFINISHED = re.compile(r"\.(part|partial|download|crdownload|filepart|aria2|te?mp)$", re.IGNORECASE)
_OF_A_PROCESS = re.compile(r"/dev/(stdin$|fd/)|/proc/")  # another process has another one at that path
_CHUNK = 2 << 20  # bytes: small enough for a chunk and what is made of it to stay in the processor's caches
_LONGEST_LINE = 64 << 20


@dataclass(frozen=True, kw_only=True)
class Range:
    """The lines that start within ``[start, stop)`` of a file. A gzip file has one range: it is read whole."""

    number: int
    file: int
    path: Path
    start: int
    stop: int


def source_files(source: Path, *, allow_empty_days: bool = False, later: bool = False) -> list[Path]:
    """The raw files of a source, in time order.

    Beside day files, what is hidden (``.`` or ``_`` in front, as Spark and Hadoop have it) or tells of the data
    (README, LICENSE, ``*.md``, ``*.json``, ``*.yaml``, checksums) is ignored. A name that is almost that of a day is
    refused: nobody means such a file to be left out.

    Args:
        source: A folder with ``day_0`` ... ``day_{n-1}``, or ``.gz``; or one file.
        allow_empty_days: Whether a day may be a file without any text.
        later: Whether the first day may have another number than 0: the days before it were encoded already.

    Raises:
        InputError: nothing there, no day files, a day missing or there twice, almost one, or empty, or what is no file
            or cannot be read.
    """
    local(source)
    put_back(source)
    if source.is_dir():
        paths = _day_files(source, later=later)
    elif os.path.lexists(source):
        paths = [source]
    else:
        raise InputError(
            f"{source} does not exist.", remedy="Give a folder with day_0, day_1, … or one file of raw rows."
        )
    for path in paths:
        _check_file(path)
        if len(paths) > 1 and not allow_empty_days and _is_empty(path):
            raise empty_day(path, f"{path.stat().st_size} bytes", paths)
    return paths


def unread(source: Path) -> list[str]:
    """The names beside the day files of a folder that are neither read nor ignored without a word."""
    if not source.is_dir():
        return []
    return [path.name for path in contents(source) if not _DAY.fullmatch(path.name) and not _QUIET.search(path.name)]


def empty_day(path: Path, found: str, days: Sequence[Path]) -> InputError:
    """The error of a day without rows; what it would mean to go on depends on its place among the days."""
    without, flags = "its rows", "--allow_empty_days"
    if path == days[-1]:
        without, flags = "any rows to validate and test on", f"{flags} --allow_empty_splits"
    return InputError(
        f"{path} holds no rows.", found=found, remedy=f"Fetch that day again, or go on without {without}: {flags}."
    )


def _check_file(path: Path) -> None:
    """Refuses what is no file, or cannot be read by several tasks and again by a run that goes on."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise InputError(
                f"{path} is a folder, and a day is one file.",
                found=", ".join(entry.name for entry in contents(path)[:5]) or "an empty folder",
                remedy="Put one file of rows in its place, such as all of its files joined with cat.",
            )
        if not stat.S_ISREG(mode) or _OF_A_PROCESS.match(str(path.absolute())):
            raise InputError(
                f"{path} is no file on a disk, and rows are read from several places at once.",
                found="a pipe" if stat.S_ISFIFO(mode) else "a device or a handle of a process",
                remedy="Write the rows to a file first (COMMAND > rows.tsv), and give that file.",
            )
        path.open("rb").close()
    except OSError as error:
        remedy = "Mend the link." if path.is_symlink() else "Check its permissions."
        raise InputError(f"{path} cannot be read.", found=error.strerror, remedy=remedy) from None


def _is_empty(path: Path) -> bool:
    if not _compressed(path):
        return path.stat().st_size == 0
    try:
        with gzip.open(path, "rb") as file:
            return not file.read(1)
    except (OSError, EOFError, zlib.error):
        return False  # damaged: the task that reads it says so


def _day_files(folder: Path, *, later: bool) -> list[Path]:
    try:
        names = [path.name for path in contents(folder)]
    except OSError as error:
        raise InputError(f"{folder} cannot be read.", found=error.strerror, remedy="Check its permissions.") from None
    days: dict[int, Path] = {}
    for name in names:
        match = _DAY.fullmatch(name)
        if match:
            day = int(match[1])
            if day in days:
                raise InputError(
                    f"{folder} has day {day} twice.",
                    found=f"{days[day].name} and {name}",
                    remedy="Move one of them away.",
                )
            days[day] = folder / name
    for name in names:
        if not _DAY.fullmatch(name) and not _QUIET.search(name) and _ALMOST.search(name):
            raise _almost_a_day(folder / name, days)
    if not days:
        raise InputError(
            f"{folder} has no day files.",
            found=", ".join(names[:5]) + (", …" if len(names) > 5 else "") if names else "an empty folder",
            remedy="Name the files day_0, day_1, … (or day_0.gz, …) in time order, or give one file.",
        )
    missing = [f"day_{day}" for day in range(min(days) if later else 0, max(days)) if day not in days]
    if missing:
        raise InputError(
            f"{folder} lacks {', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}.",
            found=f"{len(days)} day files, the last is {days[max(days)].name}",
            remedy=f"Days are numbered {'' if later else 'from 0 '}without gaps: add the missing ones, or rename the "
            "others.",
        )
    return [path for _, path in sorted(days.items())]


def _almost_a_day(path: Path, days: Mapping[int, Path]) -> InputError:
    """The error of a name that is almost that of a day, with what can be done about it beside the others."""
    found = f"{len(days)} day files beside it" + (f", the last is {days[max(days)].name}" if days else "")
    number = re.search(r"[0-9]+", path.name)
    day = int(number[0]) if number else -1
    if path.is_dir() or _UNFINISHED.search(path.name):
        found = "what unfinished downloads and runs leave"
        remedy = "Finish what makes it, or move it out of the folder."
    elif day not in days and 0 <= day <= max(days, default=-1) + 1:
        remedy = f"Rename it to day_{day} (with gzip: day_{day}.gz), or move it out of the folder."
    else:
        remedy = "Move it out of the folder, or give it the number of the next day."
    return InputError(f"{path} would not be read: it is not named like a day.", found=found, remedy=remedy)


def cut(files: Sequence[Path], bytes_each: int) -> list[Range]:
    """Cuts the files into ranges of about equal size, about ``bytes_each``; a gzip file stays whole."""
    ranges: list[Range] = []
    for file, path in enumerate(files):
        if _compressed(path):
            bounds = [0, sys.maxsize]
        else:
            size = path.stat().st_size
            pieces = max(1, round(size / bytes_each))
            bounds = [size * piece // pieces for piece in range(pieces + 1)]
        for start, stop in itertools.pairwise(bounds):
            ranges.append(Range(number=len(ranges), file=file, path=path, start=start, stop=stop))
    return ranges


def chunks(piece: Range) -> Iterator[tuple[np.ndarray, int]]:
    """Yields the lines of a range in chunks of whole lines; the file's last line gets a newline if it lacks one.

    Yields:
        uint8: text, then ``PADDING`` bytes or more; and how many bytes of text. The next chunk overwrites it. A mark of
            UTF-8 (BOM) in front of a file is left out.

    Raises:
        InputError: the gzip data is damaged, or a line is too long to be a row.
    """
    with gzip.open(piece.path, "rb") if _compressed(piece.path) else open(piece.path, "rb") as file:
        try:
            for number, (data, size) in enumerate(_chunks(file, piece)):
                start = len(BOM) if piece.start == number == 0 and data[: len(BOM)].tobytes() == BOM else 0
                yield data[start:], size - start
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(
                f"{piece.path} holds damaged gzip data.",
                found=error,
                remedy="Fetch the file again, or compress it again.",
            ) from None


def _compressed(path: Path) -> bool:
    return path.suffix == ".gz"


def _chunks(file: BufferedIOBase, piece: Range) -> Iterator[tuple[np.ndarray, int]]:
    position = piece.start  # of the buffer's first byte in the file
    if position > 0:
        # A line that starts at `start` follows a newline at `start - 1`; the rest of any other line is not ours.
        file.seek(position - 1)
        position += len(file.readline(_LONGEST_LINE)) - 1
    buffer, held = bytearray(2 * _CHUNK + PADDING), 0
    while position < piece.stop:
        if held + _CHUNK + PADDING > len(buffer):
            buffer = buffer[:held] + bytes(len(buffer))
        count = file.readinto(memoryview(buffer)[held : held + _CHUNK])
        if count == 0 and held:
            buffer[held] = ord("\n")
            yield np.frombuffer(buffer, np.uint8), held + 1
        if count == 0:
            return
        held += count
        end = buffer.find(b"\n", max(0, piece.stop - 1 - position), held) + 1
        if end:
            yield np.frombuffer(buffer, np.uint8), end
            return
        end = buffer.rfind(b"\n", 0, held) + 1
        if end:
            yield np.frombuffer(buffer, np.uint8), end
            buffer[: held - end] = buffer[end:held]
            held -= end
            position += end
        elif held > _LONGEST_LINE:
            raise InputError(
                f"{piece.path} is not text: a line has more than {_LONGEST_LINE:,} bytes.",
                remedy="Give files of raw rows, or unpack what they are packed in.",
            )


def lines_before(piece: Range) -> int:
    """Lines that start before a range."""
    if piece.start == 0:
        return 0
    newlines, left = 0, piece.start - 1  # a newline just before the range ends a line that is counted already
    with open(piece.path, "rb") as file:
        while block := file.read(min(left, _CHUNK)):
            newlines += block.count(b"\n")
            left -= len(block)
    return newlines + 1
