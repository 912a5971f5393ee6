"""Makes the checkout's Python environment, .venv, unless it is already what the project asks for.

Runs before anything is installed, so it uses the standard library alone. Two small files in .venv say what is there:
``made-for`` (the interpreter and the place, both baked into a virtual environment) once it exists, and ``installed``
(a hash of what the project asks for) once everything is in it. Set-up that was interrupted is therefore done again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = "spark,notebook,develop"


def set_up(root: Path, *, run: Callable[[list[str], str], None] | None = None) -> bool:
    """Brings ``root/.venv`` up to date; returns whether there was anything to do.

    Args:
        root: The checkout.
        run: Runs a command, given with the sentence to say if it fails; tests put their own here.
    """
    venv = root / ".venv"
    made_for = f"{platform.python_implementation()} {platform.python_version()} in {root}\n"
    asked_for = _hash(root / "pyproject.toml", root / "ci" / "constraints.txt")

    def is_current() -> bool:
        in_place = _read(venv / "made-for") == made_for and _read(venv / "installed") == asked_for
        return in_place and os.access(venv / "bin" / "python", os.X_OK)

    if is_current():
        return False
    with _only_one(root / "pyproject.toml"):
        if is_current():  # Another process did it while this one waited.
            return False
        run = run or _run
        if _read(venv / "made-for") != made_for:
            _say(f"Making a Python {platform.python_version()} environment in .venv.")
            # One that this file made for another interpreter or place is of no use; one that a person made is kept.
            clear = ["--clear"] if (venv / "made-for").exists() else []
            run(
                [sys.executable, "-m", "venv", *clear, str(venv)],
                f"{sys.executable} cannot make a virtual environment in {venv} (on Debian: apt install python3-venv).",
            )
            (venv / "made-for").write_text(made_for, encoding="utf-8")
        _say("Installing what the workbook needs into .venv: minutes the first time.")
        (venv / "installed").unlink(missing_ok=True)
        log = venv / "set-up.log"
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--progress-bar=off"]
        run(
            [*pip, "--log", str(log), "-c", str(root / "ci" / "constraints.txt"), "-e", f"{root}[{EXTRAS}]"],
            f"pip could not install everything. Details: {log}. The same command starts again where it stopped.",
        )
        (venv / "installed").write_text(asked_for, encoding="utf-8")
        _say("Set-up is complete.")
        return True


def _run(command: list[str], sentence: str) -> None:
    # PIP_USER would send the packages to the home folder; a newer pip is nobody's concern here.
    environment = {**os.environ, "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False).returncode:
        raise SystemExit(sentence)


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Holds a lock on an existing file of the checkout; the system frees it however this process ends."""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("Another set-up of this checkout is under way: waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _hash(*paths: Path) -> str:
    digest = hashlib.sha256(EXTRAS.encode())
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest() + "\n"


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        set_up(ROOT)
    except KeyboardInterrupt:
        _say("Interrupted; the same command starts set-up again.")
        sys.exit(130)
    except SystemExit as failure:
        _say(str(failure))
        sys.exit(2)
