"""One NVIDIA GPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import nn

from dlrm_lib.devices.base import Batch, Device, ModelShape
from dlrm_lib.devices.capture import Captured
from dlrm_lib.errors import InputError
from dlrm_lib.kernels.gpu import GpuKernels, NoTriton, TorchKernels
from dlrm_lib.kernels.torch_rows import TorchRows
from dlrm_lib.records import usable_cores


class Cuda(Device):
    """The current CUDA device.

    Raises:
        InputError: torch finds none.
    """

    fuses = True
    ranks_scores = True

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise InputError(
                "No NVIDIA GPU can be used here.",
                found=f"torch {torch.__version__}, CUDA {torch.version.cuda or 'not built in'}",
                remedy="Use --device cpu, or install a GPU, its driver and a CUDA build of torch.",
            )
        self.torch_device = torch.device("cuda", torch.cuda.current_device())
        self.readers = max(1, min(4, usable_cores() - 1))
        self._copies = torch.cuda.Stream()

    @property
    def description(self) -> str:
        return torch.cuda.get_device_name(self.torch_device)

    def synchronize(self) -> None:
        torch.cuda.synchronize(self.torch_device)

    def free_memory(self) -> int:
        return torch.cuda.mem_get_info(self.torch_device)[0]

    def precision(self, name: str) -> str:
        """As every device's; from now on fp32 products are made from TF32 inputs if, and only if, it is tf32."""
        if name == "auto":
            name = "fp16"
        capability = torch.cuda.get_device_capability(self.torch_device)
        if name in ("tf32", "bf16") and capability < (8, 0):
            raise InputError(
                f"This GPU has no units for {name}: they came with compute capability 8.0.",
                found=f"{self.description}, {capability[0]}.{capability[1]}",
                remedy="Use --precision fp16 or fp32.",
            )
        torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
        return name

    def execution(self, name: str) -> str:
        if name == "lazy":
            raise InputError("Lazy mode needs an Intel Gaudi.", found=self.description, remedy="Use --execution auto.")
        return "graph" if name == "auto" else name

    def kernels(self, execution: str, shape: ModelShape) -> CudaKernels | None:
        return None if self.execution(execution) == "eager" else CudaKernels(shape, self.torch_device)

    def compiled(self, mlp: nn.Module, execution: str) -> Callable[[torch.Tensor], torch.Tensor]:
        return mlp if self.execution(execution) == "eager" else _CompiledLayers(mlp)

    def captured(self, function: Callable[[tuple], torch.Tensor]) -> Captured:
        """The function of a batch as one CUDA graph, recorded at its fourth call."""
        return Captured(function, _CudaGraphs())

    def put(self, batch: Batch) -> Batch:
        """Called by the threads that read: they wait for the copy, the GPU computes meanwhile."""
        compute = torch.cuda.current_stream(self.torch_device)
        pinned = [tensor.pin_memory() for tensor in batch]
        with torch.cuda.stream(self._copies):
            there = type(batch)(*(tensor.to(self.torch_device, non_blocking=True) for tensor in pinned))
        self._copies.synchronize()
        for tensor in there:
            # Its memory belongs to the copies' stream: it must not be given to the next batch while a step reads it.
            tensor.record_stream(compute)
        return there


class CudaKernels(TorchRows):
    """What a model and a training step call on an NVIDIA GPU.

    Attributes:
        fused: Triton kernels of a whole step, or the same in plain torch where Triton is absent.
        overflow: If set, a float32 scalar that backward passes raise to 1 when a gradient leaves the range of fp16.
    """

    def __init__(self, shape: ModelShape, device: torch.device) -> None:
        self._made_from = shape, device
        self.fused = _fused(shape, device)
        self.overflow: torch.Tensor | None = None

    def __reduce__(self) -> tuple:
        return CudaKernels, self._made_from  # A copy of a model must not share the overflow flag of a step.

    def lookup(self, weight: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """int32 [B, M] → rows [B, M, D], rounded to what autocast computes in, if it is on."""
        return self.fused.gather(weight, ids, _dtype(weight))

    def interact(self, bottom: torch.Tensor | None, rows: torch.Tensor, width: int) -> torch.Tensor:
        """[B, D] or None and [B, M, D] → [B, width] as ``DotInteraction`` has it, with its gradient."""
        dtype = _dtype(rows)
        bottom = bottom if bottom is None else bottom.to(dtype)
        return self.fused.interact(bottom, rows.to(dtype), width, self.overflow)


class _CompiledLayers:
    """An MLP whose activations, casts and bias gradients are fused into and around its matrix products.

    Compiled for batches of the size of the first one; others, as the last of a pass, run as they are.
    """

    def __init__(self, mlp: nn.Module) -> None:
        self._mlp, self._rows = mlp, None
        # Without torch's own CUDA graphs: ours holds the whole step.
        self._compiled = torch.compile(mlp, mode="max-autotune-no-cudagraphs", dynamic=False)

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        self._rows = self._rows or len(inputs)
        return (self._compiled if len(inputs) == self._rows else self._mlp)(inputs)


class _CudaGraphs:
    """Records on a stream of its own, as CUDA asks."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()

    def aside(self, function: Callable[[], torch.Tensor]) -> torch.Tensor:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            result = function()
        torch.cuda.current_stream().wait_stream(self._stream)
        return result

    def record(self, function: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        graph = torch.cuda.CUDAGraph()
        # Threads that read go on copying batches meanwhile: only this thread must do nothing but compute.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            result = function()
        return graph.replay, result


def _dtype(tensor: torch.Tensor) -> torch.dtype:
    """What matrix products compute in now, where the tensor is."""
    device = tensor.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32


def _fused(shape: ModelShape, device: torch.device) -> TorchKernels:
    settings = {
        "self_interaction": shape.self_interaction,
        "precision": "tf32" if torch.get_float32_matmul_precision() == "high" else "fp32",
        "deterministic": False,
    }
    try:
        return GpuKernels(shape.sizes, device=device, **settings)
    except NoTriton as error:
        warnings.warn(f"Training runs slower, without fused kernels ({error}).", stacklevel=2)
        return TorchKernels(shape.sizes, device=device, **settings)
