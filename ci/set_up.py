"""Makes the checkout's Python environments, unless they are already what the project asks for.

Runs before anything is installed, so it uses the standard library alone. Two small files in an environment say what is
there: ``made-for`` (the interpreter and the place, both baked into a virtual environment) once it exists, and
``installed`` (a hash of what the project asks for) once everything is in it. Set-up that was interrupted is therefore
done again.
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
Run = Callable[[list[str], str], None]


def set_up(root: Path, *, run: Run | None = None) -> bool:
    """Brings ``root/.venv``, where everything runs, up to date; returns whether there was anything to do.

    Args:
        root: The checkout.
        run: Runs a command, given with the sentence to say if it fails; tests put their own here.
    """
    pins = root / "ci" / "constraints.txt"
    asked_for = _hash(EXTRAS, root / "pyproject.toml", pins)
    return _bring_up_to_date(root / ".venv", asked_for, ["-c", str(pins), "-e", f"{root}[{EXTRAS}]"], run or _run)


def set_up_spark_4(root: Path, *, run: Run | None = None) -> bool:
    """The same for ``root/.venv-spark4``, where preprocessing meets Spark 4: no torch, no notebooks, no tests."""
    pins = root / "ci" / "spark4.txt"
    asked_for = _hash("", root / "pyproject.toml", pins)
    wanted = ["--no-deps", "-r", str(pins), "-e", str(root)]
    return _bring_up_to_date(root / ".venv-spark4", asked_for, wanted, run or _run)


def set_up_peers(root: Path, *, run: Run | None = None) -> bool:
    """The same for ``root/.venv-peers``, which only adds to ``.venv`` what ci/bench/train_cpu.py compares with."""
    pins = root / "ci" / "peers.txt"
    wanted = ["--no-deps", "-r", str(pins)]
    return _bring_up_to_date(root / ".venv-peers", _hash("", pins), wanted, run or _run)


def _bring_up_to_date(venv: Path, asked_for: str, wanted: list[str], run: Run) -> bool:
    """Makes the environment if it is not there, and lets pip install what is ``wanted``, if ``asked_for`` is new."""
    root = venv.parent
    made_for = f"{platform.python_implementation()} {platform.python_version()} in {root}\n"

    def is_current() -> bool:
        in_place = _read(venv / "made-for") == made_for and _read(venv / "installed") == asked_for
        return in_place and os.access(venv / "bin" / "python", os.X_OK)

    if is_current():
        return False
    with _only_one(root / "pyproject.toml"):
        if is_current():  # Another process did it while this one waited.
            return False
        if _read(venv / "made-for") != made_for:
            _say(f"Making a Python {platform.python_version()} environment in {venv.name}.")
            # One that this file made for another interpreter or place is of no use; one that a person made is kept.
            clear = ["--clear"] if (venv / "made-for").exists() else []
            run(
                [sys.executable, "-m", "venv", *clear, str(venv)],
                f"{sys.executable} cannot make a virtual environment in {venv} (on Debian: apt install python3-venv).",
            )
            (venv / "made-for").write_text(made_for, encoding="utf-8")
        _say(f"Installing what the workbook needs into {venv.name}: minutes the first time.")
        (venv / "installed").unlink(missing_ok=True)
        log = venv / "set-up.log"
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--progress-bar=off"]
        run(
            [*pip, "--log", str(log), *wanted],
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


def _hash(extras: str, *paths: Path) -> str:
    digest = hashlib.sha256(extras.encode())
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
