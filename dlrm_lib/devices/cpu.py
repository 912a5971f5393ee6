"""The processor every machine has."""

from __future__ import annotations

import torch

from dlrm_lib.devices.base import Device
from dlrm_lib.records import hardware, usable_cores


class Cpu(Device):
    """The host's processor.

    With more than two cores one is left to everything else on the machine, such as the browser that shows the notebook:
    every layer ends by waiting for its slowest thread, and a thread whose core is taken holds up all the others.
    Measured with one of four cores busy, at a batch of 2,048 rows: 145,000 rows/s with three threads, 32,000 with four.
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
