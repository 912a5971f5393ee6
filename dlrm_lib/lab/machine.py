"""How fast this machine is, measured in a fraction of a second, and so how long a training step will take."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlrm_lib.errors import InputError
from dlrm_lib.model.cost import Cost

if TYPE_CHECKING:
    from dlrm_lib.devices import Device

# Rows of the batches that are timed, and inputs and outputs of the two layers: one lives off arithmetic, as those of
# large networks do, the other off memory, as those of the laptop preset do.
_ROWS, _WIDE, _NARROW = 2048, (512, 256), (64, 32)


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

        from dlrm_lib.devices import PRECISIONS, pick

        there = pick(device)

        def seconds(work: Callable[..., object], *arguments: str) -> float:
            times = []
            for _ in range(10):
                began = time.perf_counter()
                work(*arguments)
                there.synchronize()
                times.append(time.perf_counter() - began)
            return statistics.median(times[2:])

        wide, narrow = _layer(there, *_WIDE), _layer(there, *_NARROW)
        wide_flops, narrow_bytes = 6 * _ROWS * _WIDE[0] * _WIDE[1], 4 * _ROWS * (5 * _NARROW[0] + 3 * _NARROW[1])
        table = torch.zeros(2**20, 16, device=there.torch_device)
        rows = torch.randint(len(table), (26 * _ROWS,), device=there.torch_device)
        flops = {}
        for precision in PRECISIONS:
            with contextlib.suppress(InputError):
                flops[there.precision(precision)] = wide_flops / seconds(wide, precision)
        return cls(
            name=there.description,
            free_memory=there.free_memory(),
            usual_precision=there.precision("auto"),
            flops=flops,
            layer_bandwidth=narrow_bytes / seconds(narrow, "fp32"),
            table_bandwidth=2 * 4 * len(rows) * table.shape[1] / seconds(lambda: table.index_select(0, rows)),
            step_overhead=seconds(_tiny_step(there)),
        )

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
            parts: What ``model.cost.training_cost`` finds, per sample, with numbers of 4 bytes: autocast copies them.
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


def _layer(device: Device, fan_in: int, fan_out: int) -> Callable[[str], None]:
    """Forward and backward through a layer, in a precision."""
    import torch

    layer = torch.nn.Sequential(torch.nn.Linear(fan_in, fan_out), torch.nn.ReLU()).to(device.torch_device)
    batch = torch.ones(_ROWS, fan_in, device=device.torch_device, requires_grad=True)

    def both_ways(precision: str) -> None:
        with device.autocast(precision):
            out = layer(batch)
        out.backward(torch.ones_like(out))

    return both_ways


def _tiny_step(device: Device) -> Callable[[], object]:
    """A training step of 8 rows, as plain as every device can do it."""
    import torch

    from dlrm_lib.config import ModelConfig, TrainingConfig
    from dlrm_lib.dataset import Batch
    from dlrm_lib.features import FeatureSpec
    from dlrm_lib.model import DLRM
    from dlrm_lib.training import train_step

    rows, spec = 8, FeatureSpec(numerical=13, cardinalities=(8,) * 26)
    numerical, ids = torch.ones(rows, spec.numerical), torch.zeros(rows, len(spec.cardinalities), dtype=torch.int32)
    model = DLRM(spec, ModelConfig()).to(device.torch_device)
    step = train_step(model, TrainingConfig(execution="eager", precision="fp32", warmup_steps=0), device)
    batch = step.prepare(Batch(numerical, ids, torch.ones(rows)))
    return lambda: step(batch, 0.01)
