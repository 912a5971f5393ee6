"""The GPU that a benchmark runs on: what it is, how its work is timed, and what stands in for it in a rehearsal."""

from __future__ import annotations

import contextlib
import gc
import itertools
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

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
    """How long one call takes on the device, in seconds, from several segments of many calls each.

    Attributes:
        seconds: Per segment, between two events on the device.
        wall: Per segment, by the host's clock, the device waited for before and after.
        calls: In each segment.
    """

    seconds: tuple[float, ...]
    wall: tuple[float, ...]
    calls: int

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Largest minus smallest, as a share of the median."""
        return (max(self.seconds) - min(self.seconds)) / self.median

    def as_rates(self, units: float) -> dict[str, Any]:
        """Units per second, if a call does so many: median, extremes and the host's median, for a record."""
        rates = [units / seconds for seconds in self.seconds]
        return {
            "median": statistics.median(rates),
            "lowest": min(rates),
            "highest": max(rates),
            "by_wall_clock": statistics.median(units / seconds for seconds in self.wall),
            "repeats": len(rates),
            "calls_per_repeat": self.calls,
        }


class Card:
    """One GPU, and timing on it.

    Attributes:
        device: As the library has it.
        rehearsal: It is a stand-in, and no figure means anything.
        repeats: Timed segments.
        segment: Seconds that a segment lasts about.

    Raises:
        InputError: there is no GPU.
    """

    rehearsal = False
    repeats = 5
    segment = 0.3

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

    @contextlib.contextmanager
    def events(self) -> Iterator[Callable[[], float]]:
        """Within it, work is given to the device; behind it, the function tells its seconds on the device."""
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        yield lambda: began.elapsed_time(ended) / 1e3
        ended.record()
        ended.synchronize()

    def time(self, call: Callable[[int], object]) -> Timing:
        """Times ``call(number)``, which is warm; the number counts up, so that inputs can rotate."""
        return self.in_turn({"": call})[""]

    def in_turn(self, contestants: dict[str, Callable[[int], object]]) -> dict[str, Timing]:
        """The same for several: a segment of each, then another of each."""
        numbers = {name: itertools.count() for name in contestants}

        def segment(name: str, calls: int) -> tuple[float, float]:
            self.device.synchronize()
            began = time.perf_counter()
            with self.events() as elapsed:
                for number in itertools.islice(numbers[name], calls):
                    contestants[name](number)
            self.device.synchronize()
            return elapsed() / calls, (time.perf_counter() - began) / calls

        calls, segments = dict.fromkeys(contestants, 1), {name: [] for name in contestants}
        for name in contestants:
            while (one := segment(name, calls[name])[1]) * calls[name] < self.segment / 4:
                calls[name] *= 2
            calls[name] = max(1, round(self.segment / one))
        for _ in range(self.repeats):
            for name in contestants:
                segments[name].append(segment(name, calls[name]))
        return {name: Timing(*zip(*segments[name], strict=True), calls[name]) for name in contestants}

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

    def __init__(self) -> None:
        self.device = self.plain_layers = _StandInDevice()

    def state(self) -> dict[str, Any]:
        return {"name": "none: this is a rehearsal"}

    @contextlib.contextmanager
    def events(self) -> Iterator[Callable[[], float]]:
        began = time.perf_counter()
        yield lambda: time.perf_counter() - began

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
