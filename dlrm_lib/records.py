"""A record: one measurement as a JSON file, with everything needed to judge or repeat it."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

from dlrm_lib.files import write_text

_PACKAGES = ("torch", "triton", "numpy", "pyspark", "pyarrow", "numba", "scikit-learn")


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
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (OSError, ValueError):
        memory = None
    found = {"cpu": cpu, "cores": usable_cores(), "memory_gib": memory, "system": platform.system()}
    torch = sys.modules.get("torch")  # not imported for this: what has not used torch has not used a GPU
    if torch and torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(torch.cuda.current_device())
        found |= {"gpu": gpu.name, "gpu_memory_gib": round(gpu.total_memory / 2**30, 1), "cuda": torch.version.cuda}
    return found


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
