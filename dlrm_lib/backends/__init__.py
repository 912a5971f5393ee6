"""How it runs: a folder for each kind of processor, with its device, its kernels, its training step and its inference.

Nothing here is imported before it is asked for: what Habana's plugin reads from the environment must be there first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dlrm_lib.errors import InputError

if TYPE_CHECKING:
    from dlrm_lib.backends.backend import Backend


def pick(name: str = "auto", execution: str = "auto") -> Backend:
    """The backend called ``name``; ``auto`` is the best one here.

    Args:
        name: auto, cpu, cuda or hpu.
        execution: As in ``TrainingConfig``. A Gaudi must know it from the start; other backends are asked later.

    Raises:
        InputError: there is no such backend, or this machine does not have its device.
    """
    import torch

    from dlrm_lib.backends.cpu.backend import Cpu
    from dlrm_lib.backends.cuda.backend import Cuda
    from dlrm_lib.backends.gaudi.backend import Hpu, is_available

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "hpu" if is_available(execution) else "cpu"
    if name == "cuda":
        return Cuda()
    if name == "hpu":
        return Hpu(execution)
    if name == "cpu":
        return Cpu()
    raise InputError("There is no such device.", found=name, remedy="Use --device auto, cpu, cuda or hpu.")
