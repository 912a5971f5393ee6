"""The processor every machine has."""

from __future__ import annotations

import ctypes
import platform
import warnings
from pathlib import Path

import torch

from dlrm_lib.devices.base import Device, ModelShape
from dlrm_lib.errors import InputError
from dlrm_lib.kernels.compiler import CannotCompile
from dlrm_lib.kernels.cpu import CpuKernels
from dlrm_lib.records import cpuinfo, hardware, usable_cores

_BF16 = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512", "bf16": "Arm"}


def bf16_units() -> str | None:
    """What multiplies bf16 numbers here: AMX (several times faster than fp32), AVX-512 or Arm; None: nothing does.

    The answer comes from Linux; elsewhere it is None.
    """
    facts = cpuinfo()
    features = facts.get("flags", facts.get("Features", "")).split()
    return next((unit for feature, unit in _BF16.items() if feature in features), None)


class Cpu(Device):
    """The host's processor.

    With more than two cores one is left to everything else on the machine, such as the browser that shows the notebook:
    every layer ends by waiting for its slowest thread, and a thread whose core is taken holds up all the others.
    Measured on four cores at the `laptop` preset, medians of three, in rows/s: with one core kept busy 172,000 by three
    threads and 34,000 by four; with nothing else running 181,000 and 219,000.
    A number of threads chosen by hand (``OMP_NUM_THREADS``, ``torch.set_num_threads``) below that of the cores stays.

    Freed memory is kept for the next step, where glibc would give large pieces back to the system and get them again,
    page by page and zeroed: for NVIDIA's model at batch 2,048 that is 2,500 page faults and 8 % of the time of a step.
    """

    torch_device = torch.device("cpu")
    readers = 0  # A thread would take a core from the layers: 6 % slower when rows are shuffled, on two cores.

    def __init__(self) -> None:
        if torch.get_num_threads() >= usable_cores() > 2:
            torch.set_num_threads(usable_cores() - 1)
        _keep_freed_memory()

    @property
    def description(self) -> str:
        return f"{hardware()['cpu']}, {torch.get_num_threads()} threads"

    def synchronize(self) -> None:
        """Nothing to wait for: calls return when their work is done."""

    def free_memory(self) -> int | None:
        """Linux's estimate, without swapping; elsewhere None."""
        try:
            lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        except OSError:
            return None
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)

    def precision(self, name: str) -> str:
        if name == "bf16" and not bf16_units():
            raise InputError(
                "This CPU has no instructions for bf16.", found=hardware()["cpu"], remedy="Use --precision fp32."
            )
        if name == "tf32":
            raise InputError(
                "TF32 is a format of NVIDIA's matrix units.", found="the CPU", remedy="Use --precision fp32."
            )
        return "fp32" if name == "auto" else name

    def execution(self, name: str) -> str:
        if name == "graph":
            raise InputError("CUDA graphs need an NVIDIA GPU.", found="the CPU", remedy="Use --execution auto.")
        # What a Gaudi would collect first runs at once here: Habana's commands train on a processor too.
        return {"auto": "compile", "lazy": "eager"}.get(name, name)

    def kernels(self, execution: str, shape: ModelShape) -> CpuKernels | None:
        if self.execution(execution) == "eager":
            return None
        try:
            return CpuKernels(shape.dim, shape.vectors, shape.self_interaction)
        except CannotCompile as error:
            warnings.warn(f"Training runs slower, without compiled kernels ({error}).", stacklevel=2)
            return None


def _keep_freed_memory() -> None:
    if platform.libc_ver()[0] == "glibc":
        threshold_of_mmap, threshold_of_trim = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h
        libc = ctypes.CDLL(None)
        libc.mallopt(threshold_of_mmap, 2**25)  # the most that glibc takes
        libc.mallopt(threshold_of_trim, 2**31 - 1)
