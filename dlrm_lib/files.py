"""Files and folders that others see: whole or absent, written beside their place and renamed into it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Writes a text file, in UTF-8, whole or not at all."""
    with new_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yields a path to write to; the file takes the place of ``path`` if the block ends well, else it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(path)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder to fill; it takes the place of ``path`` when the block ends well and is removed otherwise.

    What was at ``path`` is replaced, as ``put_in_place`` does it: ask before, if it could be precious.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(path)
    partial.mkdir()
    try:
        yield partial
        put_in_place(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def put_in_place(folder: Path, path: Path) -> None:
    """Moves a whole folder to ``path``, on the same disk; what was there is removed.

    No call exchanges two folders on every system, so for a moment there is none at ``path``. The old one is then whole
    at ``<path>.replaced``, and who looks for it calls ``put_back`` first: killed in that moment, nothing is lost.
    """
    put_back(path)
    while True:
        _discard(path)  # of one who was killed after the second renaming
        with contextlib.suppress(FileNotFoundError):
            os.replace(path, _replaced(path))
        try:
            os.replace(folder, path)
            break
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                put_back(path)
                raise
            # Somebody who looked between the two renamings has put the old one back.
    _discard(path)


def put_back(path: Path) -> None:
    """Puts back at ``path`` what one who was replacing it had moved away when he was killed; else does nothing."""
    with contextlib.suppress(OSError):  # nothing to put back, another was faster, or the disk is read-only
        if not path.exists():
            os.rename(_replaced(path), path)


def _replaced(path: Path) -> Path:
    return path.with_name(f"{path.name}.replaced")


def _discard(path: Path) -> None:
    """Removes what ``path`` replaced. By another name first: what bears the one that is put back is whole."""
    rest = _beside(path)
    with contextlib.suppress(FileNotFoundError):
        os.replace(_replaced(path), rest)
        shutil.rmtree(rest) if rest.is_dir() and not rest.is_symlink() else rest.unlink()


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, as ``sha256sum`` prints it."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(1 << 18))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def _beside(path: Path) -> Path:
    # The process, for whoever finds it; random too, because writers of one file may be on several machines.
    return path.with_name(f"{path.name}.partial-{os.getpid()}-{secrets.token_hex(4)}")
