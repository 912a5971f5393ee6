"""Where training happens. A device is a small object; no other module asks which device it is."""

from __future__ import annotations

import torch

from dlrm_lib.devices.base import PRECISIONS, Device, Kernels, ModelShape
from dlrm_lib.devices.cpu import Cpu
from dlrm_lib.devices.cuda import Cuda
from dlrm_lib.devices.hpu import Hpu, is_available
from dlrm_lib.errors import InputError

__all__ = ["PRECISIONS", "Cuda", "Device", "Hpu", "Kernels", "ModelShape", "pick"]


def pick(name: str, execution: str = "auto") -> Device:
    """The device called ``name``; ``auto`` is the best one here.

    Args:
        name: auto, cpu, cuda or hpu.
        execution: As in ``TrainingConfig``. A Gaudi must know it from the start; other devices are asked later.

    Raises:
        InputError: there is no such device, or this machine does not have it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "hpu" if is_available(execution) else "cpu"
    if name == "cuda":
        return Cuda()
    if name == "hpu":
        return Hpu(execution)
    if name == "cpu":
        return Cpu()
    raise InputError("There is no such device.", found=name, remedy="Use --device auto, cpu, cuda or hpu.")
