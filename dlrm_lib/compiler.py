"""C, compiled for this machine on first use and kept."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from dlrm_lib.files import cache_folder, new_file
from dlrm_lib.records import cpuinfo

_FLAGS = ("-O3", "-fPIC", "-shared")


class CannotCompile(RuntimeError):
    """There is no C compiler that manages here; the message says what was tried."""


def library(source: Path, *options: str) -> ctypes.CDLL:
    """``source`` as a library, compiled with ``$CC`` or the system's C compiler unless it has been before.

    Raises:
        CannotCompile: no compiler is here, or it does not manage.
    """
    compiler = shlex.split(os.environ.get("CC", "")) or [shutil.which("cc") or shutil.which("gcc") or "clang"]
    native = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
    command = [*compiler, *_FLAGS, native, *options, str(source)]
    # A home folder may be shared by machines that differ: the processor is part of the name.
    processor = [cpuinfo().get(fact) for fact in ("model name", "flags", "Features")] + [platform.processor()]
    name = hashlib.sha256(repr((command[:-1], source.read_text(), processor)).encode()).hexdigest()[:20]
    try:
        return _loaded(cache_folder() / f"{name}.so", command)
    except OSError:  # no folder of one's own to keep it in: a private one will do for this process
        with tempfile.TemporaryDirectory() as folder:
            return _loaded(Path(folder) / f"{name}.so", command)


def _loaded(library: Path, command: list[str]) -> ctypes.CDLL:
    if not library.exists():
        with new_file(library) as partial:
            _run([*command, "-o", str(partial)])
    return ctypes.CDLL(str(library))


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except (FileNotFoundError, PermissionError, subprocess.TimeoutExpired) as error:
        raise CannotCompile(f"{command[0]}: {error}") from None
    if done.returncode:
        raise CannotCompile(f"{command[0]}: {(done.stderr.strip().splitlines() or ['failed'])[0]}")
