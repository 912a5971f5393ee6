"""Is a file what it should be? Digests of its bytes, and of the text inside when it is compressed."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path

from dlrm_lib.download import report

_CHUNK = 1 << 20


class Damaged(Exception):
    """Compressed data that ends early or fails its own check."""


def digests(path: Path, *algorithms: str) -> tuple[str, ...]:
    """Digests of a file's bytes, in hexadecimal, one per algorithm (``"md5"``, ``"sha256"``)."""
    found = [hashlib.new(name, usedforsecurity=False) for name in algorithms]
    with path.open("rb") as file, report.bar(f"checking {path.name}", path.stat().st_size) as bar:
        for chunk in _chunks(file):
            for one in found:
                one.update(chunk)
            bar.update(len(chunk))
    return tuple(one.hexdigest() for one in found)


def text_md5(path: Path) -> str:
    """MD5 of the text inside a gzip file, which passes gzip's own check (length and CRC-32) on the way.

    Raises:
        Damaged: it does not.
    """
    found = hashlib.md5(usedforsecurity=False)
    with gzip.open(path, "rb") as file, report.bar(f"unpacking {path.name} to check it", None) as bar:
        try:
            for chunk in _chunks(file):
                found.update(chunk)
                bar.update(len(chunk))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise Damaged(f"{path.name} is damaged: {error}") from None
    return found.hexdigest()


def _chunks(file: BufferedIOBase) -> Iterator[bytes]:
    return iter(lambda: file.read(_CHUNK), b"")
