"""Files and folders that others see: whole or absent, written beside their place and renamed into it.

A place that is a link is the one that the link leads to: who links to a larger disk wants the bytes there. One that
cannot be renamed, as the mount points of containers cannot, is filled from within.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
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
    path = resolved(path)
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

    What was at ``path`` is replaced, as ``put_in_place`` does it: ask before, if it could be precious. A folder that
    cannot be renamed is emptied and filled entry by entry; if that breaks off, the yielded folder stays as a sign.
    """
    path = resolved(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    inside = cannot_be_renamed(path)
    partial = _beside(path / path.name if inside else path)
    partial.mkdir()
    with contextlib.ExitStack() as at_the_end:
        at_the_end.callback(shutil.rmtree, partial, ignore_errors=True)
        yield partial
        if inside:
            at_the_end.pop_all()
            for entry in contents(path):
                if entry != partial:
                    _remove(entry)
            put_into(partial, path)
        else:
            put_in_place(partial, path)


def put_in_place(folder: Path, path: Path) -> None:
    """Moves a whole folder to ``path``, on the same disk; what was there is removed.

    No call exchanges two folders on every system, so for a moment there is none at ``path``. The old one is then whole
    at ``<path>.replaced``, and who looks for it calls ``put_back`` first: killed in that moment, nothing is lost.
    """
    path = resolved(path)
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


def put_into(folder: Path, path: Path, last: str | None = None) -> None:
    """Moves the entries of a folder into the folder ``path``, on the same disk, and removes the emptied one.

    Those of the same names are replaced, others stay. The one named ``last`` is moved last, and what bears its name at
    ``path`` is removed first: without it nobody takes the rest for whole. After a kill the same call goes on.
    """
    path.mkdir(exist_ok=True)
    if last and (folder / last).exists():
        (path / last).unlink(missing_ok=True)
    for entry in sorted(folder.iterdir(), key=lambda entry: (entry.name == last, entry.name)):
        _remove(path / entry.name)
        os.replace(entry, path / entry.name)
    folder.rmdir()


def put_back(path: Path) -> None:
    """Puts back at ``path`` what one who was replacing it had moved away when he was killed; else does nothing."""
    with contextlib.suppress(OSError):  # nothing to put back, another was faster, or the disk is read-only
        path = resolved(path)
        if not path.exists():
            os.rename(_replaced(path), path)


def _replaced(path: Path) -> Path:
    return path.with_name(f"{path.name}.replaced")


def _discard(path: Path) -> None:
    """Removes what ``path`` replaced. By another name first: what bears the one that is put back is whole."""
    rest = _beside(path)
    with contextlib.suppress(FileNotFoundError):
        os.replace(_replaced(path), rest)
        _remove(rest)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def resolved(path: Path) -> Path:
    """The absolute path that a path leads to: links are followed, to what is not there yet as well.

    Raises:
        OSError: links lead in a circle.
    """
    real = Path(os.path.realpath(path))
    if any(part.is_symlink() for part in (real, *real.parents)):  # one that could not be followed
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return real


def contents(folder: Path) -> list[Path]:
    """The entries of a folder in the order of their names, but for what a file system itself puts at its root."""
    return sorted(entry for entry in folder.iterdir() if entry.name != "lost+found")


def cannot_be_renamed(folder: Path) -> bool:
    """Whether a folder is there and has to stay: a mount point, or one in a folder that is not ours to change."""
    return folder.is_dir() and (is_mount(folder) or not os.access(folder.parent, os.W_OK))


def is_mount(path: Path) -> bool:
    """Whether something is mounted at a path, of another disk or of the same one."""
    with contextlib.suppress(OSError):  # a system without such a list
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
        spelled = (re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), line.split()[4]) for line in lines)
        if os.fsencode(path) in spelled:
            return True
    return os.path.ismount(path)


def cache_folder() -> Path:
    """Where this library keeps what it can make anew, of the user and for all checkouts; it may not be there yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dlrm_lib"


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
