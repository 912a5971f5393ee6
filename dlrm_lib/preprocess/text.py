"""Plain lines, the raw rows without a header: how a file of them, compressed or not, is cut into ranges and read."""

from __future__ import annotations

import contextlib
import gzip
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar, NamedTuple

import numpy as np

from dlrm_lib.columns import RawColumns
from dlrm_lib.errors import InputError
from dlrm_lib.preprocess.rows import BOM, PADDING, Parser, Rows

CHUNK = 2 << 20  # bytes: small enough for a chunk and what is made of it to stay in the processor's caches
LONGEST_LINE = 64 << 20
COMPRESSED = {".gz": "gzip", ".zst": "Zstandard"}


class Opened(NamedTuple):
    """A file's text, and the bytes that it is read from: the same, unless the file is compressed."""

    text: BinaryIO
    stored: BinaryIO


def is_compressed(path: Path) -> bool:
    """Whether a file is text that is unpacked while it is read, by its name."""
    return path.suffix in COMPRESSED


@contextlib.contextmanager
def opened(path: Path, ending: str | None = None) -> Iterator[Opened]:
    """Opens a file of text.

    Args:
        path: The file.
        ending: What is read as if its name had this ending; by default that of the name.

    Raises:
        InputError: within the block, the compressed data turns out to be damaged.
    """
    ending = path.suffix if ending is None else ending
    with open(path, "rb") as stored, contextlib.ExitStack() as stack:
        text: BinaryIO = stored
        if ending == ".gz":
            text = stack.enter_context(gzip.open(stored, "rb"))  # type: ignore[assignment]
        elif ending == ".zst":
            import pyarrow

            text = stack.enter_context(pyarrow.CompressedInputStream(stored, "zstd"))
        try:
            yield Opened(text, stored)
        except (EOFError, gzip.BadGzipFile, zlib.error, OSError) as error:
            if ending not in COMPRESSED or getattr(error, "errno", None):  # that is the disk's
                raise
            raise InputError(
                f"{path} holds damaged {COMPRESSED[ending]} data.",
                found=str(error).split(". Detail:")[0],
                remedy="Fetch the file again, or compress it again.",
            ) from None


@dataclass(frozen=True)
class PlainLines:
    """The form of a file of plain lines (see ``forms.Form``). Places are bytes; a line is read where it starts."""

    unit: ClassVar[str] = "line"
    named: ClassVar[bool] = False

    def bounds(self, path: Path, most_bytes: int) -> list[int]:
        """Cuts a file into ranges of about equal size; a compressed file has one."""
        if is_compressed(path):
            return [0, sys.maxsize]
        size = path.stat().st_size
        pieces = max(1, -(-size // most_bytes))
        return [size * piece // pieces for piece in range(pieces + 1)]

    def read(self, path: Path, start: int, stop: int, columns: RawColumns) -> Iterator[Rows]:
        """Yields the rows of a range; each chunk overwrites the one before."""
        parser = Parser(columns)
        for data, size in chunks(path, start, stop):
            yield parser.parse(data, size)

    def before(self, path: Path, start: int) -> int:
        """Lines that start before a place."""
        if start == 0:
            return 0
        newlines, left = 0, start - 1  # a newline just before the range ends a line that is counted already
        with open(path, "rb") as file:
            while block := file.read(min(left, CHUNK)):
                newlines += block.count(b"\n")
                left -= len(block)
        return newlines + 1

    def sample(self, path: Path) -> tuple[int, int]:
        """Some bytes from a file's start, as they are stored, and how many lines they hold."""
        try:
            with opened(path) as (text, stored):
                start = text.read(_SAMPLE)
                whole = len(start) < _SAMPLE
                read = path.stat().st_size if whole else min(stored.tell(), path.stat().st_size)
        except InputError:
            return path.stat().st_size, 0  # damaged: the task that reads it says so
        return read, start.count(b"\n") + (bool(start) and whole and not start.endswith(b"\n"))


_SAMPLE = 1 << 20  # bytes


def chunks(path: Path, start: int, stop: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yields the lines that start within ``[start, stop)`` of a file in chunks of whole lines.

    The file's last line gets a newline if it lacks one.

    Yields:
        uint8: text, then ``PADDING`` bytes or more; and how many bytes of text. The next chunk overwrites it. A mark of
            UTF-8 (BOM) in front of a file is left out.

    Raises:
        InputError: the compressed data is damaged, or a line is too long to be a row.
    """
    with opened(path) as (file, _):
        for number, (data, size) in enumerate(_chunks(file, path, start, stop)):
            skipped = len(BOM) if start == number == 0 and data[: len(BOM)].tobytes() == BOM else 0
            yield data[skipped:], size - skipped


def _chunks(file: BinaryIO, path: Path, start: int, stop: int) -> Iterator[tuple[np.ndarray, int]]:
    position = start  # of the buffer's first byte in the file
    if position > 0:
        # A line that starts at `start` follows a newline at `start - 1`; the rest of any other line is not ours.
        file.seek(position - 1)
        position += len(file.readline(LONGEST_LINE)) - 1
    buffer, held = bytearray(2 * CHUNK + PADDING), 0
    while position < stop:
        if held + CHUNK + PADDING > len(buffer):
            buffer = buffer[:held] + bytes(len(buffer))
        count = file.readinto(memoryview(buffer)[held : held + CHUNK])  # type: ignore[attr-defined]
        if count == 0 and held:
            buffer[held] = ord("\n")
            yield np.frombuffer(buffer, np.uint8), held + 1
        if count == 0:
            return
        held += count
        end = buffer.find(b"\n", max(0, stop - 1 - position), held) + 1
        if end:
            yield np.frombuffer(buffer, np.uint8), end
            return
        end = buffer.rfind(b"\n", 0, held) + 1
        if end:
            yield np.frombuffer(buffer, np.uint8), end
            buffer[: held - end] = buffer[end:held]
            held -= end
            position += end
        elif held > LONGEST_LINE:
            raise InputError(
                f"{path} is not text: a line has more than {LONGEST_LINE:,} bytes.",
                remedy="Give files of raw rows, or unpack what they are packed in.",
            )
