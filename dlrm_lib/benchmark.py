"""How long a trained model takes to answer: the latency of single batches, and what it means in rows per second."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from dlrm_lib.dataset import Batch, Split
from dlrm_lib.devices import Device
from dlrm_lib.errors import InputError
from dlrm_lib.model import DLRM


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Times of single batches of one size, in seconds.

    Attributes:
        batch_size: Rows per batch.
        steps: Batches measured.
        mean: The arithmetic mean.
        p50: The median.
        p95: 95 % of the batches took no longer.
        p99: 99 % of the batches took no longer.
        throughput: Rows per second, one batch after the other: ``batch_size / mean``.
    """

    batch_size: int
    steps: int
    mean: float
    p50: float
    p95: float
    p99: float
    throughput: float

    @classmethod
    def of(cls, batch_size: int, seconds: list[float]) -> Latency:
        """The summary of measured times."""
        p50, p95, p99 = map(float, np.percentile(seconds, (50, 95, 99)))
        mean = float(np.mean(seconds))
        return cls(
            batch_size=batch_size,
            steps=len(seconds),
            mean=mean,
            p50=p50,
            p95=p95,
            p99=p99,
            throughput=batch_size / mean,
        )


def endless_batches(split: Split, batch_size: int) -> Iterator[Batch]:
    """Batches of consecutive rows, all of one size: after the last row comes the first again.

    Raises:
        InputError: the split is empty, or has bad values.
    """
    if not len(split):
        raise InputError(f"{split.folder} has no rows to measure with.", remedy="Use --synthetic_dataset.")
    for first in itertools.count(0, batch_size):
        start = first % len(split)
        if start + batch_size <= len(split):
            yield split.gather(slice(start, start + batch_size))
        else:
            yield split.gather(np.arange(start, start + batch_size) % len(split))


@torch.inference_mode()
def benchmark_inference(
    model: DLRM, batches: Iterable[Batch], *, steps: int, warmup: int, device: Device, precision: str = "auto"
) -> Latency:
    """Times the model batch by batch: the way to the device, the forward pass and the wait for its end.

    Reading a batch is not part of its time, as in NVIDIA's benchmark.

    Args:
        model: On the device.
        batches: Batches of one size, ``warmup + steps`` or more.
        steps: Batches to measure.
        warmup: Batches before those.
        device: Where the model is.
        precision: As in ``TrainingConfig``.
    """
    was_training = model.training
    model.eval()
    seconds = []
    try:
        with device.autocast(device.precision(precision)):
            for batch in itertools.islice(batches, warmup + steps):
                device.synchronize()
                began = time.perf_counter()
                there = device.put(batch)
                model(there.numerical, there.categorical)
                device.synchronize()
                seconds.append(time.perf_counter() - began)
    finally:
        model.train(was_training)
    return Latency.of(len(batch.label), seconds[warmup:])
