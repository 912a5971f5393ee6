"""Places that one run at a time writes to: whoever writes holds a lock, which goes with its process however it ends."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shlex
import socket
import sys
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path

from dlrm_lib.errors import InputError
from dlrm_lib.files import is_mount


class PlaceIsTaken(InputError):
    """Somebody else is writing there."""


@contextlib.contextmanager
def owned(place: Path, *, remedy: str) -> Iterator[None]:
    """Keeps other runs from a file or folder, there already or not, while the block runs.

    The lock is a file beside it, ``.NAME.lock``, which says who holds it. What cannot have a neighbour, such as a
    volume's mount point, is locked itself. Where the file system locks nothing, a warning says so.

    Args:
        place: Links are followed, so that two names of one place are one place.
        remedy: What another run is told to do.

    Raises:
        PlaceIsTaken: another run, or another part of this process, has it; says which process, and since when.
    """
    path = Path(os.path.realpath(place))
    with contextlib.ExitStack() as stack:
        lock = _lock_of(path, stack)
        if lock:
            try:
                held = stack.enter_context(locked(lock, make=lock != path))
            except OSError:  # a name that is too long, say
                held = None
            if held is False:
                holder = _holder(lock) if lock != path else None
                raise PlaceIsTaken(f"Another run is writing to {place}.", found=holder, remedy=remedy)
            if held is None:
                warnings.warn(f"{place} is where nothing can be locked: let no other run write there.", stacklevel=3)
            if lock != path:
                stack.callback(_remove, lock)
                with contextlib.suppress(OSError):  # on a full disk the lock holds without its text
                    lock.write_text(json.dumps(_about_this_process()), encoding="utf-8")
        yield


def is_owned(place: Path) -> bool:
    """Whether somebody is writing there; where nothing can be locked, whether somebody was and did not end well."""
    try:
        with locked(_beside(Path(os.path.realpath(place)))) as held:
            return not held
    except OSError:
        return False


@contextlib.contextmanager
def locked(path: Path, *, make: bool = False) -> Iterator[bool | None]:
    """Tries to lock a file or folder against others while the block runs.

    Args:
        path: What to lock.
        make: Make an empty file if nothing is there.

    Yields:
        Whether it could be locked; None where the file system locks nothing.

    Raises:
        OSError: it cannot be opened.
    """
    import fcntl  # which Unix alone has

    while True:
        descriptor = _opened(path, make)
        try:
            held: bool | None = True
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held = False
            except OSError:
                held = None
            if held and not _is_at(descriptor, path):
                continue  # whoever held it has removed it: what is there now counts
            yield held
            return
        finally:
            os.close(descriptor)


def _lock_of(path: Path, stack: contextlib.ExitStack) -> Path | None:
    """What to lock for a place; None if nobody owns it, or nothing can be written there anyway."""
    if path.exists() and not path.is_file() and not path.is_dir():  # /dev/null, say
        return None
    try:
        for folder in reversed([folder for folder in path.parents if not folder.exists()]):
            folder.mkdir(exist_ok=True)
            stack.callback(_remove_if_empty, folder)
    except OSError:
        return None
    if not is_mount(path) and os.access(path.parent, os.W_OK):
        return _beside(path)
    return path if path.exists() and os.access(path, os.R_OK) else None


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _opened(path: Path, make: bool) -> int:
    # To be locked on a network file system, a file has to be opened for writing; a folder or another's file cannot.
    with contextlib.suppress(PermissionError, IsADirectoryError):
        return os.open(path, os.O_RDWR | (os.O_CREAT if make else 0), 0o666)
    return os.open(path, os.O_RDONLY)


def _remove(lock: Path) -> None:
    with contextlib.suppress(OSError):
        lock.unlink()


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _about_this_process() -> dict[str, str | int]:
    now = datetime.datetime.now(datetime.timezone.utc)
    command = textwrap.shorten(shlex.join(["python", *sys.orig_argv[1:]]), 160, placeholder=" …")
    return {"process": os.getpid(), "host": socket.gethostname(), "since": f"{now:%F %T} UTC", "command": command}


def _holder(lock: Path) -> str | None:
    """Who holds a lock, in a few words; None if it does not say."""
    try:
        about = json.loads(lock.read_text(encoding="utf-8"))
        host = "" if about["host"] == socket.gethostname() else f" on {about['host']}"
        who = "this process" if not host and about["process"] == os.getpid() else f"process {about['process']}{host}"
        return f"{who}, since {about['since']}: {about['command']}"
    except (OSError, ValueError, LookupError, TypeError):
        return None
