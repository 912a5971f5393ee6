"""Training and scoring on the host's processor."""

from __future__ import annotations

import contextlib
import functools
import warnings

import torch

from dlrm_lib.backends.backend import Backend
from dlrm_lib.backends.cpu import subnormals
from dlrm_lib.backends.cpu.kernels import CpuKernels
from dlrm_lib.backends.inference import Inference
from dlrm_lib.backends.step import TrainingStep
from dlrm_lib.compiler import CannotCompile
from dlrm_lib.config import ResolvedTraining
from dlrm_lib.errors import InputError
from dlrm_lib.memory import available_memory
from dlrm_lib.model import DLRM, Parts
from dlrm_lib.model.interactions.dot import DotInteraction
from dlrm_lib.optim import OPTIMIZERS
from dlrm_lib.records import cpuinfo, hardware

_BF16 = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512", "bf16": "Arm"}


def bf16_units() -> str | None:
    """What multiplies bf16 numbers here: AMX, AVX-512 or Arm; None: nothing does. ``lab.machine`` measures how fast.

    The answer comes from Linux; elsewhere it is None.
    """
    facts = cpuinfo()
    features = facts.get("flags", facts.get("Features", "")).split()
    return next((unit for feature, unit in _BF16.items() if feature in features), None)


class Cpu(Backend):
    """The host's processor, with as many threads as torch uses (see ``process``)."""

    torch_device = torch.device("cpu")
    readers = 0  # A thread would take a core from the layers: 6 % slower when rows are shuffled, on two cores.

    @property
    def description(self) -> str:
        return f"{hardware()['cpu']}, {torch.get_num_threads()} threads"

    def synchronize(self) -> None:
        """Nothing to wait for: calls return when their work is done."""

    def free_memory(self) -> int | None:
        return available_memory()

    def resolved_precision(self, name: str) -> str:
        if name == "bf16" and not bf16_units():
            raise InputError(
                "This CPU has no instructions for bf16.", found=hardware()["cpu"], remedy="Use --precision fp32."
            )
        if name == "tf32":
            raise InputError(
                "TF32 is a format of NVIDIA's matrix units.", found="the CPU", remedy="Use --precision fp32."
            )
        return "fp32" if name == "auto" else name

    def resolved_execution(self, name: str) -> str:
        if name == "graph":
            raise InputError("CUDA graphs need an NVIDIA GPU.", found="the CPU", remedy="Use --execution auto.")
        # What a Gaudi would collect first runs at once here: Habana's commands train on a processor too.
        return {"auto": "compile", "lazy": "eager"}.get(name, name)

    def computing_in(self, precision: str) -> contextlib.AbstractContextManager:
        """In any precision, subnormal numbers are zero."""
        return subnormals.as_zero()

    def training_step(self, model: DLRM, config: ResolvedTraining) -> TrainingStep:
        kernels = self.kernels(model, config.execution)
        rule = OPTIMIZERS[config.optimizer].of(model, config, rows=kernels)
        return TrainingStep(model, config, self, optimizer=rule, parts=_parts(model, kernels))

    def inference(self, model: DLRM, precision: str = "fp32", execution: str = "eager") -> Inference:
        parts = _parts(model, self.kernels(model, execution))
        return Inference(model, self, self.resolved_precision(precision), parts=parts)

    def kernels(self, model: DLRM, execution: str) -> CpuKernels | None:
        """Code compiled for this machine and the sizes of a model; None where it runs, or must run, without."""
        if self.resolved_execution(execution) == "eager":
            return None
        meets = model.interaction
        dot = meets if isinstance(meets, DotInteraction) else None
        try:
            return CpuKernels(meets.dim, dot.vectors if dot else 1, dot.self_interaction if dot else False)
        except CannotCompile as error:
            warnings.warn(f"Training runs slower, without compiled kernels ({error}).", stacklevel=2)
            return None


def _parts(model: DLRM, kernels: CpuKernels | None) -> Parts:
    """The model's own, with the kernel for dot products where there is one."""
    if kernels is None or not isinstance(model.interaction, DotInteraction):
        return model.parts
    return model.parts._replace(interaction=functools.partial(kernels.interact, width=model.interaction.width))
