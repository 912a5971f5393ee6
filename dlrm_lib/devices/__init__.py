"""Where training happens. A device is a small object; no other module asks which device it is."""

from __future__ import annotations

from dlrm_lib.devices.base import Device, Kernels
from dlrm_lib.devices.cpu import Cpu
from dlrm_lib.errors import InputError

__all__ = ["Device", "Kernels", "pick"]


def pick(name: str) -> Device:
    """The device called ``name``; ``auto`` is the best one here.

    Raises:
        InputError: there is no such device.
    """
    if name in ("auto", "cpu"):
        return Cpu()
    raise InputError("There is no such device.", found=name, remedy="Use --device auto or --device cpu.")
