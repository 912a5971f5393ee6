"""Files that are no text: what they are packed in, by their first bytes, and a command that prints what is in them."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

from dlrm_lib.errors import InputError
from dlrm_lib.preprocess.text import COMPRESSED, opened

SAMPLE = 1 << 20  # bytes: thousands of lines
_LARGE = 64 << 20  # bytes: a tar file beyond that is not searched for its members
_SECONDS = 30
PYTHON = shlex.quote(sys.executable)


class Packing(NamedTuple):
    """What a file is packed in.

    Attributes:
        name: With its article.
        magic: The bytes that give it away.
        read: A shell command that prints the content of the file in place of ``{}``; None where no usual tool does.
        at: Where those bytes are.
    """

    name: str
    magic: bytes
    read: str | None = None
    at: int = 0


GZIP = Packing("a gzip file", b"\x1f\x8b", "gzip -dc < {}")
ZSTD = Packing("a Zstandard file", b"\x28\xb5\x2f\xfd", "zstd -dc < {}")
ZIP = Packing("a zip archive", b"PK\x03\x04", "unzip -p {}")
PARQUET = Packing("a Parquet file", b"PAR1")
TAR = Packing("a tar archive", b"ustar", "tar -xOf {}", 257)

PACKINGS = (
    GZIP,
    ZIP,
    TAR,
    Packing("a bzip2 file", b"BZh", "bzip2 -dc < {}"),
    Packing("an xz file", b"\xfd7zXZ\x00", "xz -dc < {}"),
    ZSTD,
    Packing("an LZ4 file", b"\x04\x22\x4d\x18", "lz4 -dc < {}"),
    PARQUET,
    Packing("an encrypted Parquet file", b"PARE"),
    Packing("an Arrow or Feather file", b"ARROW1"),
    Packing("an ORC file", b"ORC"),
    Packing("an Avro file", b"Obj\x01"),
    Packing("a 7z archive", b"7z\xbc\xaf\x27\x1c"),
    Packing("a RAR archive", b"Rar!\x1a\x07"),
    Packing("an SQLite database", b"SQLite format 3\x00"),
    Packing("an HDF5 file", b"\x89HDF\r\n"),
    Packing("a NumPy array", b"\x93NUMPY"),
    Packing("a Python pickle", b"\x80\x04\x95"),
    Packing("a Python pickle", b"\x80\x05\x95"),
    Packing("a PDF document", b"%PDF-"),
)
NAMED = {".gz": GZIP, ".zst": ZSTD}  # what is unpacked while it is read


def packing(path: Path) -> Packing | None:
    """What a file is packed in; None for text, and for text that is packed with gzip or Zstandard and named so."""
    with open(path, "rb") as file:
        found = _by_magic(file.read(512))
    if found and found is NAMED.get(path.suffix):
        inner = _by_magic(_unpacked(path))
        if inner is TAR:
            return TAR._replace(name="a compressed tar archive")
        if inner is None:
            return None
        filtered = inner.read if inner.read and inner.read.endswith(" < {}") else None
        read = filtered and f"{found.read} | {filtered.removesuffix(' < {}')}"
        return inner._replace(name=f"{inner.name} within {COMPRESSED[path.suffix]}", read=read)
    if found and found.read and found.read.endswith(" < {}") and _by_magic(sample(found.read, path)) is TAR:
        return TAR._replace(name="a compressed tar archive")  # which tar unpacks by itself
    return found


def members(kind: Packing, path: Path) -> list[str]:
    """The files in an archive; none where it is no archive, is damaged, or would take long to search."""
    try:
        if kind.magic == ZIP.magic:
            with zipfile.ZipFile(path) as archive:
                return [entry.filename for entry in archive.infolist() if not entry.is_dir()]
        if kind.magic == TAR.magic and path.stat().st_size < _LARGE:
            with tarfile.open(path) as archive:
                return [entry.name for entry in archive if entry.isfile()]
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError):
        pass
    return []


def sample(command: str, path: Path) -> bytes:
    """The first ``SAMPLE`` bytes that a command prints of a file; none where it fails or its tool is not there."""
    return shell(f"{command.replace('{}', shlex.quote(str(path)), 1)} | head -c {SAMPLE}", b"")


def shell(command: str, text: bytes) -> bytes:
    """What a shell command prints when it is given a text."""
    try:
        return subprocess.run(
            command, shell=True, input=text, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=_SECONDS
        ).stdout
    except subprocess.TimeoutExpired:
        return b""


def _by_magic(start: bytes) -> Packing | None:
    return next((kind for kind in PACKINGS if start[kind.at : kind.at + len(kind.magic)] == kind.magic), None)


def _unpacked(path: Path) -> bytes:
    """The start of a compressed file's content; nothing where it is damaged, which the task that reads it says."""
    try:
        with opened(path) as (file, _):
            return file.read(512)
    except InputError:
        return b""
