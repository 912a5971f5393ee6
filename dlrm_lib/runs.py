"""Kept runs: a folder each, ``UTC-ID``, that the command line and the tuning lab write and read alike.

- ``log.json``: what happened, JSON lines in their order; the first says what was begun.
- ``config.json``: the settings: ``given``, as a person or a preset had them, and ``resolved``, with nothing left open.
- ``summary.json``: what it was, how it ended and what it reached.
- ``curve.csv``: a line per step that was reported or evaluated, for other programs.
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import json
import os
import re
import secrets
import shutil
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlrm_lib.errors import InputError, TrainingDiverged
from dlrm_lib.files import resolved, write_text
from dlrm_lib.locks import is_owned, owned
from dlrm_lib.records import hardware, versions

_LOG, _CONFIG, _SUMMARY, _CURVE = "log.json", "config.json", "summary.json", "curve.csv"
_NAME = re.compile(r"\d{8}-\d{6}-([0-9a-f]{6})")
# What every summary says.
_ALWAYS = ("began", "kind", "command", "dataset", "rows", "device", "steps", "step", "best", "last", "test", "remarks")
# A column of ``curve.csv``: the kind of line that has it, and its name there.
_COLUMNS = {
    "training_loss": ("progress", "loss"),
    "learning_rate": ("progress", "lr"),
    "rows_per_second": ("progress", "samples_per_second"),
    "validation_log_loss": ("evaluation", "log_loss"),
    "validation_auc": ("evaluation", "auc"),
}


class Log:
    """A file of JSON lines. What the disk does not take is lost, which is told once: no training ends for its log."""

    def __init__(self, path: Path, *, append: bool = False) -> None:
        """
        Raises:
            OSError: no such file can be made.
        """
        resolved(path).parent.mkdir(parents=True, exist_ok=True)
        self._path, self._told = path, False
        with path.open("a" if append else "w", encoding="utf-8"):
            pass

    def __call__(self, line: dict[str, Any]) -> None:
        """Writes a line, at once."""
        try:
            with self._path.open("a", encoding="utf-8") as file:
                # Behind a line that the disk took half of, another begins.
                file.write("\n" * self._told + json.dumps(line) + "\n")
        except OSError as error:
            if not self._told:
                self._told = True
                warnings.warn(f"{self._path} lacks lines from here on ({error.strerror}).", stacklevel=2)


class NewRun:
    """A run that is being kept.

    Attributes:
        folder: Where.
        state: How it ended, if whoever keeps it says so; else what the end of the block says.
        failure: Why it failed, for people.
        seconds: How long it took, pauses left out, if whoever keeps it says so.
    """

    def __init__(self, folder: Path, about: dict[str, Any], config: dict[str, Any]) -> None:
        self.folder, self._about = folder, about
        self._lines: list[dict[str, Any]] = []
        self._began = time.monotonic()
        self.state: str | None = None
        self.failure: str | None = None
        self.seconds: float | None = None
        write_text(folder / _CONFIG, _text(config))
        self._log = Log(folder / _LOG)
        self._write_summary("running", None, None)

    def log(self, line: dict[str, Any]) -> None:
        """Takes note of a line, and writes it at once."""
        self._lines.append(line)
        self._log(line)

    def end(self, state: str, failure: str | None) -> None:
        """Writes what became of it."""
        seconds = time.monotonic() - self._began if self.seconds is None else self.seconds
        try:
            write_text(self.folder / _CURVE, _curve(self._lines))
            self._write_summary(self.state or state, self.failure or failure, seconds)
        except OSError as error:
            warnings.warn(f"{self.folder} lacks the end of the run ({error.strerror}).", stacklevel=3)

    def _write_summary(self, state: str, failure: str | None, seconds: float | None) -> None:
        summary = {**self._about, "state": state, "failure": failure, "seconds": seconds, **_reached(self._lines)}
        write_text(self.folder / _SUMMARY, _text(summary))


@contextlib.contextmanager
def new_run(runs: Path, *, config: dict[str, Any], **about: Any) -> Iterator[NewRun]:
    """Keeps a run while the block runs, and how the block ended: finished, interrupted, diverged or failed.

    Args:
        runs: The folder of all runs.
        config: What ``config.json`` says.
        about: What ``summary.json`` says from the start: ``kind``, ``command``, ``preset``, ``dataset``, ``rows`` …

    Raises:
        InputError: nothing can be kept there.
    """
    now = datetime.datetime.now(datetime.timezone.utc)
    about = {"began": now.isoformat(timespec="microseconds"), **about, "hardware": hardware(), "versions": versions()}
    with contextlib.ExitStack() as stack:
        try:
            folder = _new_folder(runs, now)
            stack.enter_context(owned(folder, remedy="It is another run's."))
            try:
                run = NewRun(folder, about, config)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        except OSError as error:
            raise InputError(
                f"The run cannot be kept in {runs}.",
                found=error.strerror,
                remedy="Make room there, or choose another folder (on the command line with --runs_dir).",
            ) from None
        try:
            yield run
        except BaseException as error:
            run.end(*_state_after(error))
            raise
        run.end("finished", None)


@dataclass(frozen=True, kw_only=True)
class KeptRun:
    """A run as its folder tells it.

    Attributes:
        folder: Where it is kept; its name is the run's.
        about: What ``summary.json`` says; of a run that is under way or was killed, with what its log says.
        given: The settings as they were given, by sections, and ``preset``.
        resolved: The same with nothing left open; None if the run did not come so far.
        asked: Of the given ones, those that a person had asked for otherwise.
    """

    folder: Path
    about: dict[str, Any]
    given: dict[str, Any]
    resolved: dict[str, Any] | None
    asked: dict[str, Any]

    @property
    def name(self) -> str:
        """UTC and id."""
        return self.folder.name

    @property
    def id(self) -> str:
        """What people call it."""
        return self.name.rpartition("-")[2]

    @property
    def settings(self) -> dict[str, Any]:
        """All settings by their names, with nothing left open as far as it is known."""
        sections = (self.resolved or self.given).values()
        values = {name: value for section in sections if isinstance(section, dict) for name, value in section.items()}
        return {"preset": self.given["preset"], **values}

    @property
    def tested(self) -> dict[str, Any] | None:
        """The evaluation on the test split, of the best model where several were tested."""
        tested = self.about["test"]
        return next((tested[name] for name in ("best", "best and last", "last") if name in tested), None)

    def lines(self, what: str) -> list[dict[str, Any]]:
        """The lines of one kind in its log, without that word."""
        return [
            {name: value for name, value in line.items() if name != "what"}
            for line in _lines(self.folder)
            if line["what"] == what
        ]


def kept_runs(runs: Path) -> tuple[list[KeptRun], list[str]]:
    """All that can be read, in the order in which they began, and of what cannot a sentence each."""
    found, unreadable = [], []
    for folder in sorted(runs.iterdir()) if runs.is_dir() else ():
        if _NAME.fullmatch(folder.name):
            try:
                found.append(read_run(folder))
            except FileNotFoundError:
                if not is_owned(folder):  # else it is just being made
                    unreadable.append(f"{folder} is no kept run: it was left before it began.")
            except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
                unreadable.append(f"{folder} is no run that this version can read ({error!r}).")
    return sorted(found, key=lambda run: (run.about["began"], run.name)), unreadable


def read_run(folder: Path) -> KeptRun:
    """The run in a folder.

    Raises:
        OSError, ValueError, LookupError, TypeError: it is none, or one of another version.
    """
    about = {**json.loads((folder / _SUMMARY).read_text(encoding="utf-8"))}
    if about["state"] == "running":
        about |= _reached(_lines(folder))
        ends = datetime.datetime.now(datetime.timezone.utc).timestamp()
        if not is_owned(folder):
            about["state"], ends = "killed", (folder / _LOG).stat().st_mtime
        about["seconds"] = ends - datetime.datetime.fromisoformat(about["began"]).timestamp()
    for name in _ALWAYS:
        about[name]
    config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    return KeptRun(
        folder=folder, about=about, given=config["given"], resolved=config["resolved"], asked=config["asked"]
    )


def chosen(runs: Iterable[KeptRun], names: Iterable[str]) -> list[KeptRun]:
    """The runs of these names or ids, in their order.

    Raises:
        InputError: there is none, or several.
    """
    runs, found = list(runs), []
    for name in names:
        matching = [run for run in runs if name in (run.name, run.id)] or [r for r in runs if r.id.startswith(name)]
        if len(matching) != 1:
            raise InputError(
                f"No run is called {name}." if not matching else f"Several runs are called {name}.",
                found=", ".join(run.id for run in (matching or runs)[-8:]) or "no run at all",
                remedy="`python -m dlrm_lib runs` lists them.",
            )
        found += matching
    return found


def _new_folder(runs: Path, now: datetime.datetime) -> Path:
    while True:
        folder = runs / f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder


def _state_after(error: BaseException) -> tuple[str, str | None]:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", None
    if isinstance(error, TrainingDiverged):
        return "diverged", str(error)
    return "failed", str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def _lines(folder: Path) -> list[dict[str, Any]]:
    """What the log says, if it is still there; a line that was not written whole is passed over."""
    try:
        text = (folder / _LOG).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    found = []
    for written in text.splitlines():
        with contextlib.suppress(ValueError):
            line = json.loads(written)
            if isinstance(line, dict) and "what" in line:
                found.append(line)
    return found


def _reached(lines: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What a run reached, from its log."""
    found: dict[str, Any] = {"step": 0, "best": None, "last": None, "test": {}, "remarks": [], "result": None}
    for line in lines:
        facts = {name: value for name, value in line.items() if name != "what"}
        what = line["what"]
        if what == "evaluation" and line["split"] == "test":
            found["test"][facts.pop("model", "best")] = facts
            continue
        found["step"] = facts.get("step", found["step"])
        if what == "train":  # what a run that goes on had reached before
            found |= {name: facts.get(name) for name in ("best", "last")}
        elif what == "evaluation":
            found["last"] = facts
            if found["best"] is None or _quality(facts) > _quality(found["best"]):
                found["best"] = facts
        elif what == "result":
            found |= {"result": facts, "remarks": facts.get("remarks", [])}
    return found


def _quality(evaluation: dict[str, Any]) -> float:
    return -evaluation["log_loss"] if evaluation["auc"] is None else evaluation["auc"]


def _curve(lines: Iterable[dict[str, Any]]) -> str:
    rows: dict[int, dict[str, Any]] = {}
    for line in lines:
        if line["what"] in ("progress", "evaluation") and line.get("split") != "test":
            row = rows.setdefault(line["step"], {})
            row |= {column: line[name] for column, (what, name) in _COLUMNS.items() if what == line["what"]}
    text = io.StringIO()
    writer = csv.DictWriter(text, ("step", *_COLUMNS), lineterminator=os.linesep)
    writer.writeheader()
    writer.writerows({"step": step, **row} for step, row in sorted(rows.items()))
    return text.getvalue()


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1) + "\n"
