"""How fast this machine is, measured in a fraction of a second, and so how long a training step will take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dlrm_lib.backends.backend import Backend
    from dlrm_lib.model import Cost

# Rows of the batches that are timed, and inputs and outputs of the two layers: one lives off arithmetic, as those of
# large networks do, the other off memory, as those of the laptop preset do.
_ROWS, _WIDE, _NARROW = 2048, (512, 256), (64, 32)
# From how many times the speed of fp32 on another precision is recommended: converting numbers takes some of it.
WORTH_TRYING = 1.5
# Each thing is timed so often, or for so many seconds where the device is slow at it: a processor without a unit for
# fp16 takes a hundred times as long as in fp32. The first time, in which memory is found, does not count.
_REPEATS, _SECONDS = 9, 0.1


@dataclass(frozen=True, kw_only=True)
class Machine:
    """
    Attributes:
        name: What a person calls it.
        free_memory: Bytes that new tensors can take; None: unknown.
        usual_precision: What ``auto`` means.
        flops: Precision → floating-point operations per second in a wide layer; those that the device has.
        layer_bandwidth: Bytes per second in a narrow layer.
        table_bandwidth: Bytes per second where embedding rows are gathered.
        step_overhead: Seconds that a training step takes however small it is.
    """

    name: str
    free_memory: int | None
    usual_precision: str
    flops: Mapping[str, float]
    layer_bandwidth: float
    table_bandwidth: float
    step_overhead: float

    @classmethod
    def measure(cls, device: str = "auto") -> Machine:
        """Times two layers, a gather and a tiny training step on a device of that name.

        It takes about half a second, more where torch is not loaded yet, and wants the device to itself.

        Raises:
            InputError: this machine does not have that device.
        """
        import torch

        from dlrm_lib.backends import pick

        there = pick(device)

        def seconds(work: Callable[..., object], *arguments: str) -> float:
            work(*arguments)
            there.synchronize()
            times: list[float] = []
            while len(times) < _REPEATS and sum(times) < _SECONDS:
                began = time.perf_counter()
                work(*arguments)
                there.synchronize()
                times.append(time.perf_counter() - began)
            return statistics.median(times)

        wide, narrow = _layer(there, *_WIDE), _layer(there, *_NARROW)
        wide_flops, narrow_bytes = 6 * _ROWS * _WIDE[0] * _WIDE[1], 4 * _ROWS * (5 * _NARROW[0] + 3 * _NARROW[1])
        table = torch.zeros(2**20, 16, device=there.torch_device)
        rows = torch.randint(len(table), (26 * _ROWS,), device=there.torch_device)
        flops = {precision: wide_flops / seconds(wide, precision) for precision in there.precisions}
        return cls(
            name=there.description,
            free_memory=there.free_memory(),
            usual_precision=there.resolved_precision("auto"),
            flops=flops,
            layer_bandwidth=narrow_bytes / seconds(narrow, "fp32"),
            table_bandwidth=2 * 4 * len(rows) * table.shape[1] / seconds(lambda: table.index_select(0, rows)),
            step_overhead=seconds(_tiny_step(there)),
        )

    def times_fp32(self, precision: str) -> float:
        """The speed of a wide layer in a precision, in times that of fp32; 0 where the device does not have it."""
        return self.flops.get(precision, 0.0) / self.flops["fp32"]

    def precision(self, name: str) -> str:
        """What ``name`` means here."""
        return self.usual_precision if name == "auto" else name

    def step_seconds(
        self,
        parts: Mapping[str, Cost],
        batch_size: float,
        precision: str,
        *,
        eager: bool = False,
        weight_bytes: float = 0.0,
    ) -> float:
        """How long a training step may take.

        Args:
            parts: What ``model.training_cost`` finds, per sample, with numbers of 4 bytes: autocast copies them.
            batch_size: Samples, on average.
            precision: Of the layers; one that the machine does not have takes as long as fp32.
            eager: Without kernels compiled for the machine.
            weight_bytes: Read and written once per step, where the layers' weights are updated.
        """
        flops = self.flops.get(self.precision(precision), self.flops["fp32"])
        # Many products as small as those of the interaction reach about half of the speed of a layer.
        rates = {"MLPs": (flops, self.layer_bandwidth), "interaction": (flops / 2, self.table_bandwidth)}
        seconds = {name: part.seconds(*rates.get(name, (flops, self.table_bandwidth))) for name, part in parts.items()}
        if eager:  # all but the layers takes about three times as long in plain torch
            seconds = {name: part if name == "MLPs" else 3 * part for name, part in seconds.items()}
        per_sample = sum(seconds.values())
        return self.step_overhead + batch_size * per_sample + weight_bytes / self.table_bandwidth


def _layer(backend: Backend, fan_in: int, fan_out: int) -> Callable[[str], None]:
    """Forward and backward through a layer, in a precision."""
    import torch

    layer = torch.nn.Sequential(torch.nn.Linear(fan_in, fan_out), torch.nn.ReLU()).to(backend.torch_device)
    batch = torch.ones(_ROWS, fan_in, device=backend.torch_device, requires_grad=True)

    def both_ways(precision: str) -> None:
        with backend.computing_in(precision):
            with backend.autocast(precision):
                out = layer(batch)
            out.backward(torch.ones_like(out))

    return both_ways


def _tiny_step(backend: Backend) -> Callable[[], object]:
    """A training step of 8 rows, as plain as every device can do it."""
    from dlrm_lib.config import Config
    from dlrm_lib.dataset import random_dataset
    from dlrm_lib.training import build

    plain = {"execution": "eager", "precision": "fp32", "optimizer": "sgd", "warmup_steps": 0, "batch_size": 8}
    config = Config().override(**plain, synthetic_dataset=True, synthetic_dataset_table_sizes=(8,) * 26)
    training = build(config, random_dataset(config), backend=backend)
    batch = training.step.prepare(training.train.read(0, 8))
    return lambda: training.step(batch, 0.01)
