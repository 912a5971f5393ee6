"""A GPU as far as training and evaluation can tell, on the processor."""

from __future__ import annotations

from collections.abc import Callable

import torch

from dlrm_lib.backends.backend import Backend
from dlrm_lib.backends.cuda.backend import Cuda
from dlrm_lib.backends.cuda.capture import Captured
from dlrm_lib.model import DLRM, Parts


class StandInGpu(Cuda):
    """What ``Cuda`` decides, decided by its own code; kernels in Triton's interpreter, layers as they are.

    It has every precision; how float32 products are made is the process's switch, as on a GPU.
    """

    torch_device = torch.device("cpu")
    description = "a stand-in for a GPU"

    def __init__(self) -> None:
        """Asks for no GPU."""

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def free_memory(self) -> int | None:
        return None

    def resolved_precision(self, name: str) -> str:
        return "fp16" if name == "auto" else name

    def _layers(self, model: DLRM) -> Parts:
        return model.parts

    def captured(self, function: Callable[[tuple], torch.Tensor]) -> Captured:
        return Captured(function, Recorder())

    put = Backend.put


class Recorder:
    """Records as a CUDA graph does: nothing runs, and a replay works on the tensors of the recording."""

    def aside(self, function: Callable[[], torch.Tensor]) -> torch.Tensor:
        return function()

    def record(self, function: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        result = torch.full((), float("nan"))
        return lambda: result.copy_(function()), result
