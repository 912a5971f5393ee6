"""The benches' stand-in for a GPU, with kernels in plain torch: Triton's interpreter takes its time."""

from __future__ import annotations

from unittest import mock

from bench.on_gpu.stand_in_gpu import StandInGpu
from torch_kernels import TorchKernels

from dlrm_lib.backends.cuda import backend


class StandIn(StandInGpu):
    """It needs no Triton."""

    def _kernels(self, *args, **settings):
        with mock.patch.object(backend, "GpuKernels", TorchKernels):
            return super()._kernels(*args, **settings)
