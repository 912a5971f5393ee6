"""How fast a model trains, and how long it takes to answer: rows per second, and the latency of single batches."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from dlrm_lib.backends.backend import Backend
from dlrm_lib.backends.inference import Inference
from dlrm_lib.backends.step import Step
from dlrm_lib.clean_timing import in_turn
from dlrm_lib.config import TrainingConfig
from dlrm_lib.dataset import Batch, Split
from dlrm_lib.errors import InputError
from dlrm_lib.model import DLRM

# Different batches that a measurement cycles through, and rows that they hold together where the batches are not too
# large for that: embedding rows must not be found in a cache only because a step just before had them too.
_FEWEST, _MOST, _HELD_ROWS = 8, 64, 2**17
# The learning rate of timed steps. A model that knows its few batches by heart, or finds no signal in random ones, soon
# has gradients, and so optimizer states, below the normal numbers: on a CPU each of them takes a hundred times as long.
FROZEN = 0.0
# Steps of each kind before the clock starts: the first ones compile, allocate memory and find nothing in the caches.
WARMUP_STEPS = 3


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A number that was measured several times.

    Attributes:
        median: The middle one.
        low: The smallest.
        high: The largest.
        repeats: How many times.
    """

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The summary of one value or more."""
        values = list(values)
        return cls(median=statistics.median(values), low=min(values), high=max(values), repeats=len(values))


@dataclass(frozen=True, kw_only=True)
class TrainingSpeed:
    """How fast batches of one size are trained on in one precision.

    Attributes:
        precision: fp32, tf32, bf16 or fp16.
        batch_size: Rows per step.
        samples_per_second: Over the repeats that counted.
        dropped: Repeats that did not, since something else had a core.
    """

    precision: str
    batch_size: int
    samples_per_second: Spread
    dropped: int


def benchmark_training(
    model: DLRM,
    split: Split,
    config: TrainingConfig,
    backend: Backend,
    *,
    batch_sizes: Sequence[int],
    precisions: Sequence[str],
    repeats: int = 5,
    seconds: float = 0.5,
    tries: int = 3,
) -> list[TrainingSpeed]:
    """Times whole training steps, forward, backward and update, of each precision and batch size in turn.

    Reading is not part of the times: each kind cycles through a few batches that are held on the device. Nor are the
    first steps of each kind, and the one before each repeat.

    Args:
        model: On the device. Its weights stay as they are: the learning rate is 0.
        split: Its first rows are trained on, again and again.
        config: How to train, apart from batch size and precision.
        backend: Where the model is.
        batch_sizes: Rows per step.
        precisions: As in ``TrainingConfig``.
        repeats: Segments of each kind, never two of one kind after the other.
        seconds: About how long a segment is; at least one step.
        tries: Segments to run until one is clean; 1 counts them all (see ``clean_timing``).

    Raises:
        InputError: the device lacks a precision, the split is empty, or no segment of a kind was clean.
    """
    was_training = model.training
    model.train()
    steps = {}
    for precision, size in itertools.product(precisions, batch_sizes):
        how = replace(config, precision=precision, batch_size=size)
        steps[precision, size] = backend.training_step(model, backend.resolved(how, model, len(split)))
    try:
        held = {kind: _held(step, split, kind[1]) for kind, step in steps.items()}
        for step in held.values():
            for number in range(WARMUP_STEPS):
                step(number)
        times = in_turn(held, rounds=repeats, seconds=seconds, tries=tries, settle=backend.synchronize)
    finally:
        model.train(was_training)
    speeds = []
    for (precision, size), of in times.items():
        rates = [size / step_seconds for step_seconds in of.seconds if step_seconds]
        if not rates:
            raise InputError(
                "The machine is too busy to be measured.",
                found=f"{precision}, batches of {size:,}: none of {of.dropped} segments had the cores to itself",
                remedy="End what else runs, or use fewer threads.",
            )
        name = steps[precision, size].precision
        speeds.append(
            TrainingSpeed(precision=name, batch_size=size, samples_per_second=Spread.of(rates), dropped=of.dropped)
        )
    return speeds


def _held(step: Step[Any], split: Split, batch_size: int) -> Callable[[int], torch.Tensor]:
    """The step on the batch with a number, of those that are held on the device."""
    count = min(max(_HELD_ROWS // batch_size, _FEWEST), _MOST)
    batches = [step.prepare(batch) for batch in itertools.islice(endless_batches(split, batch_size), count)]
    return lambda number: step(batches[number % count], FROZEN)


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


def benchmark_inference(inference: Inference, batches: Iterable[Batch], *, steps: int, warmup: int) -> Latency:
    """Times a model batch by batch: the way to the device, the forward pass and the wait for its end.

    Reading a batch is not part of its time, as in NVIDIA's benchmark.

    Args:
        inference: The model as a function of a batch.
        batches: Batches of one size, ``warmup + steps`` or more, in the host's memory.
        steps: Batches to measure.
        warmup: Batches before those.
    """
    model, backend, seconds = inference.model, inference.backend, []
    was_training = model.training
    model.eval()
    try:
        for batch in itertools.islice(batches, warmup + steps):
            backend.synchronize()
            began = time.perf_counter()
            inference(backend.put(batch))
            backend.synchronize()
            seconds.append(time.perf_counter() - began)
    finally:
        model.train(was_training)
    return Latency.of(len(batch.label), seconds[warmup:])
