"""The GPU that a benchmark runs on: what it is, how its work is timed, and what stands in for it in a rehearsal."""

from __future__ import annotations

import gc
import shutil
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from dlrm_lib import clean_timing
from dlrm_lib.benchmark import Spread
from dlrm_lib.devices import Cuda, Device, ModelShape
from dlrm_lib.devices.capture import Captured
from dlrm_lib.devices.cpu import Cpu
from dlrm_lib.devices.cuda import CudaKernels
from dlrm_lib.errors import InputError

# What nvidia-smi is asked for; reading changes nothing.
_READINGS = (
    *("name", "driver_version", "memory.total", "memory.used", "clocks.sm", "clocks.mem", "clocks.max.sm"),
    *("clocks.max.mem", "power.draw", "power.limit", "temperature.gpu"),
)


@dataclass(frozen=True)
class Timing:
    """How long one call takes, in seconds, from several segments of many calls each, the device waited for behind them.

    Attributes:
        seconds: Of each segment.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Largest minus smallest, as a share of the median."""
        return (max(self.seconds) - min(self.seconds)) / self.median

    def as_rates(self, units: float) -> dict[str, Any]:
        """Units per second, if a call does so many: their spread, for a record."""
        return asdict(Spread.of(units / seconds for seconds in self.seconds))


class Card:
    """One GPU, and timing on it.

    Attributes:
        device: As the library has it.
        rehearsal: It is a stand-in, and no figure means anything.
        repeats: Timed segments.
        segment: Seconds that a segment lasts about.
        batch_sizes: Rows per step, the main size first.
        distinct: Batches that a training rotates through.

    Raises:
        InputError: there is no GPU.
    """

    rehearsal = False
    repeats = 5
    segment = 0.3
    batch_sizes = (65536, 32768)
    distinct = 32

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise InputError(
                "This benchmark needs an NVIDIA GPU, and torch finds none.",
                found=f"torch {torch.__version__}, CUDA {torch.version.cuda or 'not built in'}",
                remedy="--rehearse runs it on the CPU, tiny, without measuring anything.",
            )
        self.device: Device = Cuda()
        self.plain_layers: Device = _PlainLayers()

    def state(self) -> dict[str, Any]:
        """What ``nvidia-smi`` reads now; memory in MiB, clocks in MHz, power in W, temperature in °C."""
        if not shutil.which("nvidia-smi"):
            return {"name": self.device.description}
        index = str(self.device.torch_device.index or 0)
        command = ["nvidia-smi", f"--id={index}", f"--query-gpu={','.join(_READINGS)}", "--format=csv,noheader,nounits"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return dict(zip(_READINGS, map(_number, done.stdout.split(", ")), strict=False))

    def time(self, call: Callable[[int], object]) -> Timing:
        """Times ``call(number)``, which is warm; the number counts up, so that inputs can rotate."""
        return self.in_turn({"": call})[""]

    def in_turn(self, contestants: dict[str, Callable[[int], object]]) -> dict[str, Timing]:
        """The same for several: a segment of each, then another of each. Every first one counts: the card is ours."""
        times = clean_timing.in_turn(
            contestants, rounds=self.repeats, seconds=self.segment, tries=1, settle=self.device.synchronize
        )
        return {name: Timing(tuple(of.seconds)) for name, of in times.items()}

    def free(self) -> None:
        """Gives back the memory of whatever is no longer used, compiled code and recordings too."""
        torch.compiler.reset()
        gc.collect()
        torch.cuda.empty_cache()


class StandIn(Card):
    """A processor in the place of the GPU: kernels in Triton's interpreter, recordings that run again.

    It shows that a benchmark runs to its end. Its times say nothing.
    """

    rehearsal = True
    repeats = 2
    segment = 1e-4
    batch_sizes = (5, 4)
    distinct = 2

    def __init__(self) -> None:
        self.device = self.plain_layers = _StandInDevice()

    def state(self) -> dict[str, Any]:
        return {"name": "none: this is a rehearsal"}

    def free(self) -> None:
        gc.collect()


class _PlainLayers(Cuda):
    """A GPU on which MLPs are not compiled."""

    def compiled(self, mlp: nn.Module, execution: str) -> nn.Module:
        return mlp


class _StandInDevice(Cpu):
    fuses = True
    ranks_scores = True

    def precision(self, name: str) -> str:
        return {"auto": "fp16", "tf32": "fp32"}.get(name, name)

    def execution(self, name: str) -> str:
        return "graph" if name == "auto" else name

    def kernels(self, execution: str, shape: ModelShape) -> CudaKernels | None:
        return None if self.execution(execution) == "eager" else CudaKernels(shape, self.torch_device)

    def captured(self, function: Callable[[tuple], torch.Tensor]) -> Captured:
        return Captured(function, _Rerun())


class _Rerun:
    """Where a GPU would replay, the function runs again."""

    def aside(self, function: Callable[[], torch.Tensor]) -> torch.Tensor:
        return function()

    def record(self, function: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        result = torch.zeros(())
        return lambda: result.copy_(function()), result


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text.strip()
