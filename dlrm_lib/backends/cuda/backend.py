"""Training and scoring on one NVIDIA GPU."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import nn

from dlrm_lib.backends.backend import PRECISIONS, AnyBatch, Backend
from dlrm_lib.backends.cuda.capture import Captured
from dlrm_lib.backends.cuda.kernels import GpuKernels, NoTriton
from dlrm_lib.backends.cuda.step import FusedStep, obstacle, with_kernel
from dlrm_lib.backends.inference import Inference
from dlrm_lib.backends.step import TrainingStep
from dlrm_lib.config import ResolvedTraining, TrainingConfig
from dlrm_lib.errors import InputError
from dlrm_lib.model import DLRM, Parts
from dlrm_lib.model.interactions.dot import DotInteraction
from dlrm_lib.records import usable_cores


class Cuda(Backend):
    """The current CUDA device.

    Raises:
        InputError: torch finds none.
    """

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

    def resolved_precision(self, name: str) -> str:
        if name == "auto":
            name = "fp16"
        capability = torch.cuda.get_device_capability(self.torch_device)
        if name in ("tf32", "bf16") and capability < (8, 0):
            raise InputError(
                f"This GPU has no units for {name}: they came with compute capability 8.0.",
                found=f"{self.description}, {capability[0]}.{capability[1]}",
                remedy="Use --precision fp16 or fp32.",
            )
        return name

    def resolved_execution(self, name: str) -> str:
        if name == "lazy":
            raise InputError("Lazy mode needs an Intel Gaudi.", found=self.description, remedy="Use --execution auto.")
        return "graph" if name == "auto" else name

    @contextlib.contextmanager
    def computing_in(self, precision: str) -> Iterator[None]:
        """Within it, fp32 products are made from TF32 inputs if, and only if, it is tf32: torch has one switch."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)

    def resolved(self, config: TrainingConfig, model: DLRM, rows: int) -> ResolvedTraining:
        """As every backend's; ``auto`` is a graph only where the whole step can be recorded.

        Raises:
            InputError: also where ``graph`` is asked for and cannot be.
        """
        reason = obstacle(model, config)
        if config.execution == "graph" and reason:
            raise InputError(
                "--execution graph takes SGD, dot interaction and one id per feature.",
                found=reason,
                remedy="Use --execution auto, which then runs the step without a graph.",
            )
        if config.execution == "auto" and reason:
            config = dataclasses.replace(config, execution="compile")
        return super().resolved(config, model, rows)

    def training_step(self, model: DLRM, config: ResolvedTraining) -> TrainingStep:
        """A fused step where there can be one, recorded as a CUDA graph for ``graph``."""
        kernels = self._kernels(model, config.execution, config.precision, config.deterministic)
        if kernels is None:
            return TrainingStep(model, config, self)
        parts = self._layers(model)
        if obstacle(model, config):
            return TrainingStep(model, config, self, parts=with_kernel(parts, model, kernels, config.precision))
        record = self.captured if config.execution == "graph" else None
        return FusedStep(model, config, self, kernels=kernels, parts=parts, record=record)

    def inference(self, model: DLRM, precision: str = "fp32", execution: str = "eager") -> Inference:
        """Layers are not compiled: batches of any size are asked."""
        precision = self.resolved_precision(precision)
        kernels, tables, lookup = self._kernels(model, execution, precision), model.tables, None
        if kernels and tables.indices_per_lookup == 1:

            def lookup(ids: torch.Tensor) -> torch.Tensor:
                return kernels.gather(tables.weight, tables.table_ids(ids), PRECISIONS[precision])

        parts = with_kernel(model.parts, model, kernels, precision)
        return Inference(model, self, precision, parts=parts, lookup=lookup)

    def _kernels(self, model: DLRM, execution: str, precision: str, deterministic: bool = False) -> GpuKernels | None:
        """Code for a model; None where it is to run, or must run, without."""
        if self.resolved_execution(execution) == "eager":
            return None
        meets = model.interaction
        try:
            return GpuKernels(
                tuple(model.tables.sizes.tolist()),
                self_interaction=isinstance(meets, DotInteraction) and meets.self_interaction,
                precision=precision,
                deterministic=deterministic,
                device=self.torch_device,
            )
        except NoTriton as error:
            warnings.warn(f"This runs slower, without fused kernels and compiled layers ({error}).", stacklevel=3)
            return None

    def _layers(self, model: DLRM) -> Parts:
        """The model's parts with its layers in the form that trains fastest on batches of one size."""
        bottom = model.bottom and _CompiledLayers(model.bottom)
        return model.parts._replace(bottom=bottom, top=_CompiledLayers(model.top))

    def captured(self, function: Callable[[AnyBatch], torch.Tensor]) -> Captured[AnyBatch]:
        """The function of a batch as one CUDA graph, recorded at its fourth call."""
        return Captured(function, _CudaGraphs())

    def put(self, batch: AnyBatch) -> AnyBatch:
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


class _CompiledLayers:
    """An MLP whose activations, casts and bias gradients are fused into and around its matrix products.

    Compiled for batches of the size of the first one; others, as the last of a pass, run as they are.
    """

    def __init__(self, mlp: nn.Module) -> None:
        self._mlp = mlp
        self._rows: int | None = None
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
