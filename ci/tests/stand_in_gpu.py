"""A GPU as far as training and evaluation can tell, on the processor."""

from __future__ import annotations

from unittest import mock

import torch
from torch_kernels import TorchKernels

from dlrm_lib.backends.backend import Backend
from dlrm_lib.backends.cuda import backend
from dlrm_lib.backends.cuda.capture import Captured


class StandIn(backend.Cuda):
    """What ``Cuda`` decides, decided by its own code; kernels in plain torch, layers as they are, a stand-in to record.

    It has every precision; how float32 products are made is the process's switch, as on a GPU.
    """

    torch_device = torch.device("cpu")
    description = "a stand-in for a GPU"

    def __init__(self):
        """Asks for no GPU."""

    def synchronize(self):
        """Nothing to wait for."""

    def free_memory(self):
        return None

    def resolved_precision(self, name):
        return "fp16" if name == "auto" else name

    def _kernels(self, *args, **settings):
        with mock.patch.object(backend, "GpuKernels", TorchKernels):
            return super()._kernels(*args, **settings)

    def _layers(self, model):
        return model.parts

    def captured(self, function):
        return Captured(function, Recorder())

    put = Backend.put


class Recorder:
    """Records as a CUDA graph does: nothing runs, and a replay works on the tensors of the recording."""

    def aside(self, function):
        return function()

    def record(self, function):
        result = torch.full((), float("nan"))
        return lambda: result.copy_(function()), result
