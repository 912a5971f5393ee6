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
from bench.on_gpu.stand_in_gpu import StandInGpu

from dlrm_lib import clean_timing
from dlrm_lib.backends.cuda.backend import Cuda
from dlrm_lib.benchmark import Spread
from dlrm_lib.errors import InputError
from dlrm_lib.model import DLRM, Parts

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
        backend: As the library has it.
        plain_layers: The same with layers as they are, not compiled.
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
        self.backend, self.plain_layers = Cuda(), _PlainLayers()

    def state(self) -> dict[str, Any]:
        """What ``nvidia-smi`` reads now; memory in MiB, clocks in MHz, power in W, temperature in °C."""
        if not shutil.which("nvidia-smi"):
            return {"name": self.backend.description}
        index = str(self.backend.torch_device.index or 0)
        command = ["nvidia-smi", f"--id={index}", f"--query-gpu={','.join(_READINGS)}", "--format=csv,noheader,nounits"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return dict(zip(_READINGS, map(_number, done.stdout.split(", ")), strict=False))

    def time(self, call: Callable[[int], object]) -> Timing:
        """Times ``call(number)``, which is warm; the number counts up, so that inputs can rotate."""
        return self.in_turn({"": call})[""]

    def in_turn(self, contestants: dict[str, Callable[[int], object]]) -> dict[str, Timing]:
        """The same for several: a segment of each, then another of each. Every first one counts: the card is ours."""
        times = clean_timing.in_turn(
            contestants, rounds=self.repeats, seconds=self.segment, tries=1, settle=self.backend.synchronize
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
        self.backend = self.plain_layers = StandInGpu()

    def state(self) -> dict[str, Any]:
        return {"name": "none: this is a rehearsal"}

    def free(self) -> None:
        gc.collect()


class _PlainLayers(Cuda):
    """A GPU on which MLPs are not compiled."""

    def _layers(self, model: DLRM) -> Parts:
        return model.parts


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text.strip()
