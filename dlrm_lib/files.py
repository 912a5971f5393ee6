"""Files and folders that are whole or absent: written beside their place, then renamed into it."""

from __future__ import annotations

import contextlib
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

    What was at ``path`` is replaced: ask before, if it could be precious.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(path)
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            old = path.with_name(f"{partial.name}-old")
            os.replace(path, old)
            os.replace(partial, path)
            shutil.rmtree(old)
        else:
            os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _beside(path: Path) -> Path:
    # Random, because writers of one file may be on several machines.
    return path.with_name(f"{path.name}.partial-{secrets.token_hex(4)}")
