"""The ways to train that the speed of a GPU is measured for: from the ordinary PyTorch program to all that we have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from bench.build import new_model, new_step
from bench.on_gpu.card import Card, Timing
from bench.train_peers import Plain
from bench.workload import Workload
from torch.nn import functional

from dlrm_lib.backends.backend import Backend
from dlrm_lib.dataset import Batch

Step = Callable[[Batch], torch.Tensor]


def plain(card: Card, work: Workload) -> Step:
    """A module per table with sparse gradients, autocast, a gradient scaler and one optimizer, all torch's own."""
    precision = work.training.precision
    network = Plain(new_model(work, card.backend), work.model, sparse=True).to(card.backend.torch_device)
    optimizer = torch.optim.SGD(network.parameters(), lr=work.training.lr)
    scaler = torch.amp.GradScaler(
        card.backend.torch_device.type, init_scale=8192.0, growth_interval=2**31 - 1, enabled=precision == "fp16"
    )

    def step(batch: Batch) -> torch.Tensor:
        optimizer.zero_grad()
        with card.backend.computing_in(precision):
            with card.backend.autocast(precision):
                logits = network(batch.numerical, batch.categorical.long().unbind(1))
            loss = functional.binary_cross_entropy_with_logits(logits.float(), batch.label)
            scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    return step


def rows_leaf(card: Card, work: Workload) -> Step:
    """The library's ordinary step: plain torch, tables outside autograd."""
    return _ours(work.trained_with(execution="eager"), card.backend)


def fused(card: Card, work: Workload) -> Step:
    """Fused kernels, one started after the other."""
    return _ours(work.trained_with(execution="compile"), card.plain_layers)


def graph(card: Card, work: Workload) -> Step:
    """The same, recorded as one CUDA graph."""
    return _ours(work.trained_with(execution="graph"), card.plain_layers)


def compiled(card: Card, work: Workload) -> Step:
    """The same with compiled MLPs: what ``--execution graph`` does."""
    return _ours(work.trained_with(execution="graph"), card.backend)


def _ours(work: Workload, backend: Backend) -> Step:
    step = new_step(work, backend)
    return lambda batch: step(batch, work.training.lr)


LADDER = {"plain": plain, "rows leaf": rows_leaf, "fused": fused, "graph": graph, "compiled": compiled}


class Trained:
    """A way to train on batches in rotation, warm, with the mean loss of the first pass over them.

    Attributes:
        first: That loss, in nats.
    """

    def __init__(self, step: Step, batches: Sequence[Batch]) -> None:
        self._step, self._batches = step, batches
        self.first = self.a_pass()

    def __call__(self, number: int) -> torch.Tensor:
        return self._step(self._batches[number % len(self._batches)])

    def a_pass(self) -> float:
        """The mean loss of one more pass."""
        return torch.stack([self(number) for number in range(len(self._batches))]).mean().item()

    def measured(self, timing: Timing) -> dict[str, Any]:
        """For a record: samples per second, and the losses at both ends."""
        rates = timing.as_rates(len(self._batches[0].label))
        return {"samples_per_s": rates, "first_loss": self.first, "last_loss": self.a_pass()}


def share(timing: Timing) -> str:
    """The spread of a timing as text."""
    return f"±{50 * timing.spread:.1f} %"
