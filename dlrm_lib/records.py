"""A record: one measurement as a JSON file, with everything needed to judge or repeat it."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlrm_lib.errors import InputError
from dlrm_lib.files import write_text

_PACKAGES = ("torch", "triton", "numpy", "pyspark", "pyarrow", "numba", "scikit-learn")


@dataclass(frozen=True, kw_only=True)
class Record:
    """A measurement as it was written by ``write_record``.

    Attributes:
        what: What was measured.
        config: The settings that it depends on.
        hardware: The machine, as ``hardware`` describes it.
        versions: Package → version.
        command: What repeats the measurement.
        date: When, in ISO 8601.
        metrics: The numbers.
    """

    what: str
    config: dict[str, Any]
    hardware: dict[str, Any]
    versions: dict[str, str]
    command: str
    date: str
    metrics: dict[str, Any]

    @property
    def machine(self) -> str:
        """Where it was measured, in a few words: "2 cores, Intel Xeon, 24 GiB"."""
        cores = f"{self.hardware['cores']} core{'s' if self.hardware['cores'] > 1 else ''}"
        if gpu := self.hardware.get("gpu"):
            return f"{gpu}, {cores}"
        trade_marks_and_clocks = r"\((R|TM|tm)\)|\b(CPU|Processor)\b|@.*"
        cpu = " ".join(re.sub(trade_marks_and_clocks, " ", self.hardware["cpu"]).split())
        memory = self.hardware.get("memory_gib")
        return f"{cores}, {cpu}" + (f", {memory:.0f} GiB" if memory else "")

    @property
    def origin(self) -> str:
        """The machine, the version of torch and the day, in a line."""
        torch = self.versions.get("torch", "").partition("+")[0]  # what is behind the + is the kind of machine
        return " · ".join([self.machine, *([f"torch {torch}"] if torch else []), self.date[:10]])

    @property
    def here(self) -> bool:
        """Whether it was measured on a machine like this one, with however many of its cores."""
        this = hardware()
        # One that names no GPU may come from a process that had none in use.
        parts = ["system", "cpu", "memory_gib", *(["gpu"] if "gpu" in self.hardware else [])]
        return all(self.hardware.get(part) == this.get(part) for part in parts)


_PARTS = {
    "what": str,
    "config": dict,
    "hardware": dict,
    "versions": dict,
    "command": str,
    "date": str,
    "metrics": dict,
}


def read_record(path: Path | str) -> Record:
    """The record in a file.

    Raises:
        InputError: there is none, it is not JSON, or a part of it is missing, unknown or not what it should be.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The record {path} cannot be read.", found=error.strerror) from None
    except ValueError as error:
        raise InputError(f"The record {path} is not JSON.", found=error) from None
    remedy = "Measure it again, or take the file from git."
    if not isinstance(found, dict):
        raise InputError(f"The record {path} is no JSON object.", found=type(found).__name__, remedy=remedy)
    if wrong := sorted(_PARTS.keys() ^ found.keys()):
        word = "lacks" if wrong[0] in _PARTS else "has an unknown part,"
        raise InputError(f"The record {path} {word} {wrong[0]}.", found=", ".join(found), remedy=remedy)
    for name, kind in _PARTS.items():
        if not isinstance(found[name], kind):
            what = f"{name} of the record {path} is no {'text' if kind is str else 'JSON object'}."
            raise InputError(what, found=json.dumps(found[name]), remedy=remedy)
    if missing := [name for name in ("cpu", "cores") if name not in found["hardware"]]:
        raise InputError(f"hardware of the record {path} lacks {missing[0]}.", found=found["hardware"], remedy=remedy)
    try:
        datetime.datetime.fromisoformat(found["date"])
    except ValueError:
        what = f"date of the record {path} is not in ISO 8601."
        raise InputError(what, found=found["date"], remedy=remedy) from None
    return Record(**found)


def write_record(
    path: Path, *, what: str, config: dict[str, Any], metrics: dict[str, Any], command: str | None = None
) -> dict[str, Any]:
    """Writes the measurement to ``path``, with the machine, the versions, the command and the date; returns it all.

    Args:
        path: The JSON file to write.
        what: What was measured.
        config: The settings that it depends on.
        metrics: The numbers.
        command: What repeats the measurement; by default this process's own command line.
    """
    record = {
        "what": what,
        "config": config,
        "hardware": hardware(),
        "versions": versions(),
        "command": command or shlex.join(["python", *sys.orig_argv[1:]]),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "metrics": metrics,
    }
    write_text(path, json.dumps(record, indent=1) + "\n")
    return record


def hardware() -> dict[str, Any]:
    """What the measurement ran on: processor name, usable cores, memory in GiB, and the GPU if torch has one."""
    cpu = cpuinfo().get("model name") or platform.processor() or platform.machine()
    try:
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (OSError, ValueError):
        memory = None
    found = {"cpu": cpu, "cores": usable_cores(), "memory_gib": memory, "system": platform.system()}
    torch = sys.modules.get("torch")  # not imported for this: what has not used torch has not used a GPU
    if torch and torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(torch.cuda.current_device())
        found |= {"gpu": gpu.name, "gpu_memory_gib": round(gpu.total_memory / 2**30, 1), "cuda": torch.version.cuda}
    return found


def cpuinfo() -> dict[str, str]:
    """What Linux says of the first processor, such as its ``model name`` and ``flags``; {} elsewhere."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}


def usable_cores() -> int:
    """Cores this process may run on, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
