"""NVIDIA's trainer beside ours on one card: the same weights, the same batches, segments in turn.

Its model classes and CUDA kernels are its own; the loop around them follows its trainer of 2024 with ``--amp`` and with
or without ``--cuda_graphs``: the graph holds the forward and backward pass, the updates follow it. What differs from
its own run is in the record: apex's fused MLP and optimizer are replaced by torch's (``--nooptimized_mlp`` and
``torch.optim.SGD(fused=True)``) where apex is not installed, and it reads batches from the card's memory, as ours does,
where its own synthetic data set repeats a single one. Both start with a loss scale of 8192.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from bench.build import new_step
from bench.on_gpu import peer_build
from bench.on_gpu.card import Card
from bench.on_gpu.data import resident, workload
from bench.on_gpu.report import Part, Report
from bench.on_gpu.training import Trained, share
from bench.train_peers import linears
from bench.workload import Workload

from dlrm_lib.dataset import Batch
from dlrm_lib.model import DLRM

TARGET = 1.3
_STEPS_BEFORE_RECORDING = 20  # as in its trainer


class Theirs:
    """A training step of NVIDIA's model: ``step(batch)`` returns the loss."""

    def __init__(self, card: Card, work: Workload, weights: DLRM, *, amp: bool, graph: bool) -> None:
        """Starts from the weights of ours."""
        self._amp, self._backend = amp, card.backend
        self.model = _model(card, work, amp=amp)
        _take_weights(self.model, weights)
        # One group each, as apex's fused optimizer has them; torch's one is the replacement.
        layers = [{"params": list(part.parameters())} for part in (self.model.top_model, self.model.bottom_model.mlp)]
        if _apex_is_here():
            from apex.optimizers import FusedSGD

            self._layers = FusedSGD(layers, lr=work.training.lr)
        else:
            self._layers = torch.optim.SGD(layers, lr=work.training.lr, fused=True)
        self._tables = torch.optim.SGD(self.model.bottom_model.embeddings.parameters(), lr=work.training.lr)
        kind = card.backend.torch_device.type
        self._scaler = torch.amp.GradScaler(kind, init_scale=8192.0, growth_interval=10**9, enabled=amp)
        self._loss = torch.nn.BCEWithLogitsLoss()
        self._static: list[torch.Tensor] | None = None
        self._recording = None
        self._graph, self._done = graph, 0
        self._stream = torch.cuda.Stream() if graph else None

    def __call__(self, batch: Batch) -> torch.Tensor:
        batch = [batch.numerical, batch.categorical, batch.label]
        with self._backend.computing_in("fp16" if self._amp else "tf32"):
            loss = self._recorded(batch) if self._graph else self._forward_backward(batch)
        self._scaler.step(self._layers)
        self._scaler.unscale_(self._tables)
        self._tables.step()  # also where gradients overflowed, as in its trainer
        self._scaler.update()
        return loss.detach().clone()

    def _forward_backward(self, batch: Sequence[torch.Tensor]) -> torch.Tensor:
        for optimizer in (self._layers, self._tables):
            optimizer.zero_grad(set_to_none=True)
        numerical, categorical, label = batch
        with torch.autocast(self._backend.torch_device.type, dtype=torch.float16, enabled=self._amp):
            loss = self._loss(self.model(numerical, categorical).squeeze().float(), label)
        self._scaler.scale(loss).backward()
        return loss

    def _recorded(self, batch: Sequence[torch.Tensor]) -> torch.Tensor:
        self._done += 1
        self._static = self._static or [tensor.clone() for tensor in batch]
        for place, tensor in zip(self._static, batch, strict=True):
            place.copy_(tensor)
        current = torch.cuda.current_stream()
        if self._done <= _STEPS_BEFORE_RECORDING:
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                loss = self._forward_backward(self._static)
            current.wait_stream(self._stream)
            return loss
        if self._recording is None:
            self._recording = torch.cuda.CUDAGraph()
            for optimizer in (self._layers, self._tables):
                optimizer.zero_grad(set_to_none=True)
            with torch.cuda.graph(self._recording, stream=self._stream):
                self._result = self._forward_backward(self._static)
        self._recording.replay()
        return self._result


def parts(checkout: Path | None) -> dict[str, Part]:
    """The stage's parts for a checkout.

    Raises:
        InputError: it is not there.
    """
    theirs = _Original(peer_build.find(checkout))

    def compare(card: Card, report: Report, part: str, size: int, precision: str) -> None:
        report.keep(part, replaced=theirs.imported(card, report))
        _compare(card, report, part, size, precision)

    return {
        part: Part(needs, functools.partial(compare, part=part, size=size, precision=precision))
        for part, needs, size, precision in (
            ("amp", 200, 0, "fp16"),
            ("amp at the smaller batch", 90, 1, "fp16"),
            ("tf32", 90, 0, "tf32"),
        )
    }


class _Original:
    """Its package, built in a temporary folder and imported when it is first wanted."""

    def __init__(self, source: Path) -> None:
        self._source, self._folder, self._changes = source, tempfile.TemporaryDirectory(prefix="nvidia_dlrm_"), None

    def imported(self, card: Card, report: Report) -> list[str]:
        """What is not the original, in words."""
        if self._changes is None:
            self._changes = peer_build.prepare(self._source, Path(self._folder.name), compiled=not card.rehearsal)
            if not _apex_is_here():
                self._changes.append("torch's MLPs (--nooptimized_mlp) and SGD(fused=True) in the place of apex's")
            sys.path.insert(0, self._folder.name)
            # It asks for the card's generation while it is imported.
            capability = (8, 0) if card.rehearsal else torch.cuda.get_device_capability()
            with mock.patch("torch.cuda.get_device_capability", return_value=capability):
                importlib.import_module("dlrm.model.distributed")
            for change in self._changes:
                report.line(f"      theirs: {change}")
        return self._changes


def _compare(card: Card, report: Report, part: str, size: int, precision: str) -> None:
    batch_size, amp = card.batch_sizes[size], precision == "fp16"
    work = workload(card).trained_with(batch_size=batch_size, precision=precision, execution="graph")
    batches = resident(card, work, batch_size)
    longs = [batch._replace(categorical=batch.categorical.long()) for batch in batches]  # as its own reader gives them
    step = new_step(work, card.backend)
    contestants: dict[str, Trained] = {}
    for name, graph in {"theirs": False, "theirs, graph": True}.items():
        if not (graph and card.rehearsal):
            contestants[name] = Trained(Theirs(card, work, step.model, amp=amp, graph=graph), longs)
    contestants["ours"] = Trained(lambda batch: step(batch, work.training.lr), batches)
    first = {name: contestant.first for name, contestant in contestants.items()}
    apart = max(abs(loss - first["ours"]) / first["ours"] for loss in first.values())
    report.check(
        f"the same losses from the same weights, {precision} {batch_size}",
        apart < 0.02,
        ", ".join(f"{name} {loss:.4f}" for name, loss in first.items()),
    )
    timings = card.in_turn(contestants)
    results: dict[str, Any] = {}
    for name, timing in timings.items():
        results[name] = {**contestants[name].measured(timing), "spread": share(timing)}
        rate = results[name]["samples_per_s"]["median"]
        report.line(f"      {name:14} {precision} {batch_size}: {rate / 1e6:6.2f} M samples/s ({share(timing)})")
        last = results[name]["last_loss"]
        report.check(f"the loss falls: {name}, {precision} {batch_size}", last < first[name], f"to {last:.4f}")
    best = min((name for name in timings if name != "ours"), key=lambda name: timings[name].median)
    ratios = [a / b for a, b in zip(timings[best].seconds, timings["ours"].seconds, strict=True)]
    ratio = statistics.median(ratios)
    report.check(
        f"ours at least {TARGET} times as fast as {best}, {precision} {batch_size}",
        card.rehearsal or ratio >= TARGET,
        f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
    )
    report.keep(part, **results, ratio=ratio, ratios=ratios, against=best, batch_size=batch_size, first_losses=first)


def _model(card: Card, work: Workload, *, amp: bool) -> torch.nn.Module:
    """Its model, with its fused embedding and interaction; in a rehearsal with its plain embedding, on the CPU."""
    from dlrm.model.distributed import DistributedDlrm

    settings = {"embedding_type": "joint_fused", "interaction_op": "cuda_dot"}
    if card.rehearsal:
        settings = {"embedding_type": "joint", "interaction_op": "dot"}
    # Its interaction puts its indices on the card without asking.
    on_cpu = mock.patch.object(torch.Tensor, "cuda", lambda tensor: tensor) if card.rehearsal else mock.MagicMock()
    with on_cpu:
        return DistributedDlrm(
            num_numerical_features=work.spec.numerical,
            categorical_feature_sizes=list(work.spec.cardinalities),
            bottom_mlp_sizes=list(work.model.bottom_mlp_sizes),
            top_mlp_sizes=list(work.model.top_mlp_sizes),
            embedding_dim=work.model.embedding_dim,
            use_cpp_mlp=_apex_is_here(),
            fp16=amp,
            device=card.backend.torch_device.type,
            **settings,
        )


@torch.no_grad()
def _take_weights(theirs: torch.nn.Module, ours: DLRM) -> None:
    """Copies our weights: layers and tables are in the same order; its input to the top MLP may be padded by more."""
    theirs.bottom_model.embeddings.load_weights(ours.tables.weight.split(ours.tables.sizes.tolist()))
    bottom, top = theirs.bottom_model.mlp, theirs.top_model
    weights = [*bottom.weights, *top.mlp.weights, top.out.weight]
    biases = [*bottom.biases, *top.mlp.biases, top.out.bias]
    for weight, bias, layer in zip(weights, biases, [*linears(ours.bottom), *linears(ours.top)], strict=True):
        weight.zero_()[:, : layer.in_features] = layer.weight
        bias.copy_(layer.bias)


def _apex_is_here() -> bool:
    """Apex with its compiled fused MLP, not the stub."""
    return importlib.util.find_spec("mlp_cuda") is not None
