"""Raw files: which ones a source has, in time order, and how they are cut into ranges that tasks can read alone."""

from __future__ import annotations

import gzip
import itertools
import re
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import numpy as np

from dlrm_lib.errors import InputError
from dlrm_lib.files import put_back
from dlrm_lib.preprocess.rows import PADDING

_DAY = re.compile(r"day_(0|[1-9][0-9]*)(?:\.gz)?")
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


def source_files(source: Path) -> list[Path]:
    """The raw files of a source, in time order.

    Args:
        source: A folder with ``day_0`` ... ``day_{n-1}``, or ``.gz`` (other files are ignored); or one file.

    Raises:
        InputError: nothing there, no day files, a day missing or there twice, or a file that cannot be read.
    """
    put_back(source)
    if source.is_dir():
        paths = _day_files(source)
    elif source.exists():
        paths = [source]
    else:
        raise InputError(
            f"{source} does not exist.", remedy="Give a folder with day_0, day_1, … or one file of raw rows."
        )
    for path in paths:
        try:
            path.open("rb").close()
        except OSError as error:
            raise InputError(f"{path} cannot be read.", found=error.strerror, remedy="Check its permissions.") from None
    return paths


def _day_files(folder: Path) -> list[Path]:
    try:
        names = sorted(path.name for path in folder.iterdir())
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
    if not days:
        raise InputError(
            f"{folder} has no day files.",
            found=", ".join(names[:5]) + (", …" if len(names) > 5 else "") if names else "an empty folder",
            remedy="Name the files day_0, day_1, … (or day_0.gz, …) in time order, or give one file.",
        )
    missing = [f"day_{day}" for day in range(max(days)) if day not in days]
    if missing:
        raise InputError(
            f"{folder} lacks {', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}.",
            found=f"{len(days)} day files, the last is {days[max(days)].name}",
            remedy="Days are numbered from 0 without gaps: add the missing ones, or rename the others.",
        )
    return [path for _, path in sorted(days.items())]


def cut(files: list[Path], most_bytes: int) -> list[Range]:
    """Cuts the files into ranges of about equal size, at most ``most_bytes`` each; gzip files stay whole."""
    ranges: list[Range] = []
    for file, path in enumerate(files):
        if _compressed(path):
            bounds = [0, sys.maxsize]
        else:
            size = path.stat().st_size
            pieces = max(1, -(-size // most_bytes))
            bounds = [size * piece // pieces for piece in range(pieces + 1)]
        for start, stop in itertools.pairwise(bounds):
            ranges.append(Range(number=len(ranges), file=file, path=path, start=start, stop=stop))
    return ranges


def chunks(piece: Range) -> Iterator[tuple[np.ndarray, int]]:
    """Yields the lines of a range in chunks of whole lines; the file's last line gets a newline if it lacks one.

    Yields:
        uint8: text, then ``PADDING`` bytes or more; and how many bytes of text. The next chunk overwrites it.

    Raises:
        InputError: the gzip data is damaged, or a line is too long to be a row.
    """
    with gzip.open(piece.path, "rb") if _compressed(piece.path) else open(piece.path, "rb") as file:
        try:
            yield from _chunks(file, piece)
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
