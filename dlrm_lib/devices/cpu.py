"""The processor every machine has."""

from __future__ import annotations

import torch

from dlrm_lib.devices.base import Device
from dlrm_lib.records import hardware


class Cpu(Device):
    """The host's processor, with as many threads as torch was given."""

    torch_device = torch.device("cpu")

    @property
    def description(self) -> str:
        return f"{hardware()['cpu']}, {torch.get_num_threads()} threads"

    def synchronize(self) -> None:
        """Nothing to wait for: calls return when their work is done."""
