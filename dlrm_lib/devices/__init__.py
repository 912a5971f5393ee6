"""Where training happens. A device is a small object; no other module asks which device it is."""

from __future__ import annotations

import torch

from dlrm_lib.devices.base import PRECISIONS, Device, Kernels, ModelShape
from dlrm_lib.devices.cpu import Cpu
from dlrm_lib.devices.cuda import Cuda
from dlrm_lib.errors import InputError

__all__ = ["PRECISIONS", "Cuda", "Device", "Kernels", "ModelShape", "pick"]


def pick(name: str) -> Device:
    """The device called ``name``; ``auto`` is the best one here.

    Raises:
        InputError: there is no such device, or this machine does not have it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        return Cuda()
    if name == "cpu":
        return Cpu()
    raise InputError("There is no such device.", found=name, remedy="Use --device auto, cpu or cuda.")
