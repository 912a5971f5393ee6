"""The processor every machine has."""

from __future__ import annotations

import torch

from dlrm_lib.devices.base import Device
from dlrm_lib.records import hardware, usable_cores


class Cpu(Device):
    """The host's processor.

    With more than two cores one is left to everything else on the machine, such as the browser that shows the notebook:
    every layer ends by waiting for its slowest thread, and a thread whose core is taken holds up all the others.
    Measured on four cores at the `laptop` preset, medians of three, in rows/s: with one core kept busy 172,000 by three
    threads and 34,000 by four; with nothing else running 181,000 and 219,000.
    A number of threads chosen by hand (``OMP_NUM_THREADS``, ``torch.set_num_threads``) below that of the cores stays.
    """

    torch_device = torch.device("cpu")

    def __init__(self) -> None:
        if torch.get_num_threads() >= usable_cores() > 2:
            torch.set_num_threads(usable_cores() - 1)

    @property
    def description(self) -> str:
        return f"{hardware()['cpu']}, {torch.get_num_threads()} threads"

    def synchronize(self) -> None:
        """Nothing to wait for: calls return when their work is done."""
