"""What this process is told once, at its start: how many threads compute, how they wait, and how it keeps memory.

Commands, notebooks and measurements call ``prepare``; nothing else in the library changes such things.
"""

from __future__ import annotations

import ctypes
import os
import platform

from dlrm_lib.backends.gaudi import environment
from dlrm_lib.config import Config
from dlrm_lib.records import usable_cores

# How often a thread of OpenMP looks whether it may go on before it sleeps: a millisecond at 20 ns a look.
SPINS = 50_000


def prepare(config: Config) -> None:
    """Makes the process ready to train by a configuration; a second call changes nothing.

    It comes before torch is imported: OpenMP, and Habana's plugin where there is one, read the environment only then.

    A thread that waits for others looks for their sign for about a millisecond, then sleeps. GNU's OpenMP, which torch
    for Linux brings, has threads look six times as long: beside a busy process on each core they spend their share of
    the cores on waiting, and training is slower than with one thread. Threads that sleep at once are slower where
    nothing else runs. ``figures/records/busy.json`` has the figures. ``GOMP_SPINCOUNT`` and ``OMP_WAIT_POLICY`` of
    the environment stay. No result depends on any of them.

    With more than two cores one is left to everything else on the machine, such as the browser that shows the notebook:
    every layer ends by waiting for its slowest thread, and a thread whose core is taken holds up all the others.
    Measured on four cores at the `laptop` preset, medians of three, in rows/s: with one core kept busy 172,000 by three
    threads and 34,000 by four; with nothing else running 181,000 and 219,000.
    A number of threads chosen by hand (``OMP_NUM_THREADS``, ``torch.set_num_threads``) below that of the cores stays.

    Freed memory is kept for the next step, where glibc would give large pieces back to the system and get them again,
    page by page and zeroed: for NVIDIA's model at batch 2,048 that is 2,500 page faults and 8 % of the time of a step.

    Raises:
        InputError: the process is bound to another mode of Habana's plugin than ``execution`` needs.
    """
    training = config.training
    if training.device in ("auto", "hpu") and environment.plugin_is_installed():
        environment.prepare(training.execution)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
    import torch

    if torch.get_num_threads() >= usable_cores() > 2:
        torch.set_num_threads(usable_cores() - 1)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    if platform.libc_ver()[0] == "glibc":
        threshold_of_mmap, threshold_of_trim = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h
        libc = ctypes.CDLL(None)
        libc.mallopt(threshold_of_mmap, 2**25)  # the most that glibc takes
        libc.mallopt(threshold_of_trim, 2**31 - 1)
