"""What this machine has, what the workbook needs, and what to do about the difference.

It must run where packages are missing or broken: each is imported where it is looked at.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dlrm_lib.compiler import CannotCompile
from dlrm_lib.errors import InputError
from dlrm_lib.memory import available_memory
from dlrm_lib.records import hardware, usable_cores, versions

_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing looked at.

    Attributes:
        name: What was looked at.
        fine: Whether it is as wanted.
        found: What was found.
        needed: Whether the workbook cannot run without it.
        remedy: What to do where it is not fine.
    """

    name: str
    fine: bool
    found: str
    needed: bool = True
    remedy: str = ""


def examine(folder: Path = Path()) -> list[Finding]:
    """Looks at the interpreter, the processor, memory, the disk that holds ``folder``, packages, Java, accelerators."""
    machine = hardware()
    free = shutil.disk_usage(folder).free / _GIB
    memory = available_memory()
    return [
        Finding(
            name="Python",
            fine=sys.version_info >= (3, 10),
            found=versions()["python"],
            remedy="Install Python 3.10 or newer.",
        ),
        Finding(name="processor", fine=True, found=f"{machine['cpu']}, {usable_cores()} cores"),
        Finding(
            name="memory",
            fine=memory is None or memory >= 4 * _GIB,
            found="unknown" if memory is None else f"{memory / _GIB:.1f} GiB free of {machine['memory_gib']} GiB",
            needed=False,
            remedy="The presets want 4 GiB: close other programs, or raise the limit of this process or container.",
        ),
        Finding(
            name="free disk",
            fine=free >= 2,
            found=f"{free:.0f} GiB",
            remedy="The laptop preset writes less than 1 GiB: free some space, or set another work_dir.",
        ),
        _looked("torch", _torch, needed=True, remedy="pip install torch"),
        _package("numpy", "pip install numpy"),
        _package("safetensors", "pip install safetensors"),
        _package("pyspark", "pip install -e .[spark]"),
        _package("jupyterlab", "pip install -e .[notebook]"),
        _looked("Java", _java, needed=True, remedy="pip install -e .[spark]"),
        _looked("C compiler", _compiler),
        _looked("bf16", _bf16),
        _looked("NVIDIA GPU", _gpu),
        _looked("Intel Gaudi", _gaudi),
    ]


def report(findings: list[Finding]) -> str:
    """The findings as lines of text, with remedies where something is not fine."""
    width = max(len(f.name) for f in findings)
    lines = []
    for f in findings:
        mark = "ok" if f.fine else ("MISSING" if f.needed else "-")
        lines.append(f"{f.name:<{width}}  {mark:<7}  {f.found}" + ("" if f.fine else f"  ({f.remedy})"))
    return "\n".join(lines)


def _looked(
    name: str, look: Callable[[], Finding], *, needed: bool = False, remedy: str = "Mend what is missing above."
) -> Finding:
    """What ``look`` finds, or which package kept it from looking."""
    try:
        return look()
    except ModuleNotFoundError as error:
        found = "not installed" if error.name == name else f"cannot be told without {error.name}"
    except (ImportError, OSError, InputError) as error:  # an OSError is a library that torch cannot load
        found = str(error).partition("\n")[0]
    return Finding(name=name, fine=False, found=found, needed=needed, remedy=remedy)


def _package(name: str, remedy: str) -> Finding:
    there = importlib.util.find_spec(name) is not None
    version = versions().get(name, "installed") if there else "not installed"
    return Finding(name=name, fine=there, found=version, remedy=remedy)


def _torch() -> Finding:
    import torch

    return Finding(name="torch", fine=True, found=torch.__version__)


def _java() -> Finding:
    from dlrm_lib.preprocess.java import find_java

    try:
        return Finding(name="Java", fine=True, found=str(find_java()))
    except InputError as error:
        return Finding(name="Java", fine=False, found="none of version 17 or 21", remedy=str(error).splitlines()[-1])


def _compiler() -> Finding:
    from dlrm_lib.backends.cpu.kernels import CpuKernels

    remedy = "Training is slower without: install gcc or clang, with OpenMP."
    try:
        CpuKernels(16, 27, False)
        return Finding(name="C compiler", fine=True, found="compiles the kernels for training")
    except CannotCompile as error:
        return Finding(name="C compiler", fine=False, found=str(error), needed=False, remedy=remedy)


def _bf16() -> Finding:
    from dlrm_lib.backends.cpu.backend import bf16_units
    from dlrm_lib.lab.machine import WORTH_TRYING, Machine

    units, needless = (
        bf16_units(),
        "Not needed: training on the processor is in fp32 unless --precision says otherwise.",
    )
    if not units:
        return Finding(name="bf16", fine=False, found="no instructions", needed=False, remedy=needless)
    times = Machine.measure("cpu").times_fp32("bf16")
    advice = ": worth trying for large layers (--precision bf16)" if times > WORTH_TRYING else ""
    return Finding(name="bf16", fine=True, found=f"{units}, products {times:.1f} times as fast as in fp32{advice}")


def _gpu() -> Finding:
    import torch

    return Finding(
        name="NVIDIA GPU",
        fine=torch.cuda.is_available(),
        found=torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        needed=False,
        remedy="Not needed: everything here runs on the processor.",
    )


def _gaudi() -> Finding:
    from dlrm_lib.backends.gaudi import backend as gaudi
    from dlrm_lib.backends.gaudi.environment import plugin_is_installed

    there = gaudi.is_available()
    return Finding(
        name="Intel Gaudi",
        fine=there,
        found="can be used" if there else "plugin without a card" if plugin_is_installed() else "none",
        needed=False,
        remedy="Not needed: everything here runs on the processor.",
    )
