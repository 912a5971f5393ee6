"""How fast a GPU trains and answers: the ladder, precisions, kernels, the roofline, with the reader, inference."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from bench.build import new_model
from bench.on_gpu import kernels, roofline
from bench.on_gpu.card import Card
from bench.on_gpu.data import draw, resident, unique_share, workload, write_dataset
from bench.on_gpu.report import Part, Report
from bench.on_gpu.training import LADDER, Step, Trained, compiled, share
from bench.workload import Workload

from dlrm_lib.benchmark import benchmark_inference, endless_batches
from dlrm_lib.config import Config
from dlrm_lib.dataset import Batch, RandomDataset
from dlrm_lib.training import Progress, build, fit

TARGET = 8e6  # samples per second with AMP; the aim is 12 million, and 16 would be more than hoped for
PRECISIONS = ("fp16", "bf16", "tf32", "fp32")
INFERENCE = (1, 64, 4096, 32768)


def ladder(card: Card, report: Report, size: int = 0, part: str = "ladder") -> None:
    """From plain PyTorch to all we have, with AMP (fp16, static loss scale 8192), at one batch size."""
    work = workload(card)
    batch_size = card.batch_sizes[size]
    batches = resident(card, work, batch_size)
    before, first = None, None
    amp = work.trained_with(batch_size=batch_size, precision="fp16")
    for name, make in LADDER.items():
        if report.left() < 120 and not card.rehearsal:
            report.line(f"      {name} is left out: {report.left():.0f} s are left")
            continue
        measured = _train(card, batches, lambda make=make: make(card, amp))
        rate = measured["samples_per_s"]["median"]
        gain = f", {rate / before:.2f} times the one before" if before else ""
        report.line(f"      {name:10} fp16 {batch_size}: {rate / 1e6:6.2f} M samples/s ({measured['spread']}){gain}")
        # All start from the same weights and see the same batches.
        first = measured["first_loss"] if first is None else first
        near = abs(measured["first_loss"] - first) < 0.02 * first
        report.check(f"{name} learns what plain PyTorch does, {batch_size}", near, f"{measured['first_loss']:.4f}")
        _falls(report, f"{name}, {batch_size}", measured)
        report.keep(part, **{name: measured}, batch_size=batch_size, distinct_batches=len(batches))
        before = rate
    if before:
        _target(card, report, f"AMP, batch {batch_size}", before)


def ladder_small(card: Card, report: Report) -> None:
    """The same at NVIDIA's first batch size."""
    ladder(card, report, 1, "ladder at the smaller batch")


def precisions(card: Card, report: Report) -> None:
    """All we have, in each precision, and with ids that all come up equally often; the roofline beside it."""
    work = workload(card)
    batch_size = card.batch_sizes[0]
    rates: dict[str, float] = {}
    batches = resident(card, work, batch_size)
    # Triton's interpreter, which a rehearsal runs in, does not compute in bf16.
    for precision in PRECISIONS if not card.rehearsal else ("fp16", "fp32"):
        if report.left() < 120 and not card.rehearsal:
            report.line(f"      {precision} is left out: {report.left():.0f} s are left")
            continue
        rates[precision] = _named(card, report, work, batches, precision, precision)
    distinct = unique_share(work.spec, batches[0])
    roofline.whole_step(card, report, roofline.ceilings(card, report), distinct, rates)


def variants(card: Card, report: Report) -> None:
    """With AMP: what a fixed order of additions costs, and ids that all come up equally often."""
    work = workload(card)
    for name, ids, settings in (
        ("deterministic", "zipf", {"deterministic": True}),
        ("uniform ids", "uniform", {}),
    ):
        _named(card, report, work, resident(card, work, card.batch_sizes[0], ids=ids), "fp16", name, **settings)


def with_reader(card: Card, report: Report) -> None:
    """Training from a data set on disk, read once before: threads read, check and copy while the GPU computes."""
    batch_size = card.batch_sizes[0]
    work = workload(card).trained_with(batch_size=batch_size, precision="fp16", execution="graph", epochs=3)
    rows = draw(work.spec, batch_size * (6 if card.rehearsal else 32))
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_dataset(Path(folder) / "rows", work.spec, rows, times=1 if card.rehearsal else 5)
        steps = dataset.train.steps(batch_size)
        for batch in dataset.train.batches(batch_size, check=False):  # into the page cache
            del batch
        work = work.trained_with(benchmark_warmup_steps=steps, print_freq=steps)
        config, model = Config(model=work.model, training=work.training), new_model(work, card.backend)
        events = fit(build(config, dataset, backend=card.backend, model=model))
        progress = [event for event in events if isinstance(event, Progress)]
    rate = progress[-1].average_samples_per_second
    report.line(f"      with the reader: {rate / 1e6:.2f} M samples/s over {2 * steps} steps")
    report.keep(
        "with reader",
        samples_per_s=rate,
        per_epoch=[event.samples_per_second for event in progress],
        steps=2 * steps,
        losses=[event.loss for event in progress],
    )


def inference(card: Card, report: Report) -> None:
    """Latency and throughput of single batches, their way to the card included."""
    work = workload(card)
    model = new_model(work, card.backend)
    for precision in ("fp32", "fp16"):
        asked = card.backend.inference(model, precision, work.training.execution)
        for batch_size in (1, 2) if card.rehearsal else INFERENCE:
            dataset = RandomDataset(work.spec, test_rows=batch_size * 64, ids="zipf")
            settings = {"steps": 3, "warmup": 1} if card.rehearsal else {"steps": 200, "warmup": 30}
            latency = benchmark_inference(asked, endless_batches(dataset.test, batch_size), **settings)
            times = f"median {latency.p50 * 1e3:.3f} ms, 99 % in {latency.p99 * 1e3:.3f} ms"
            report.line(f"      {precision} batch {batch_size:5}: {times}, {latency.throughput:,.0f} samples/s")
            report.keep("inference", **{f"{precision} {batch_size}": asdict(latency)})


PARTS = {
    "ladder": Part(90, ladder),
    "precisions": Part(120, precisions),
    "kernels": Part(40, kernels.times),
    "variants": Part(60, variants),
    "with reader": Part(60, with_reader),
    "inference": Part(30, inference),
    "ladder at the smaller batch": Part(120, ladder_small),
    "sweep": Part(40, kernels.sweep),
}


def _named(
    card: Card, report: Report, work: Workload, batches: list[Batch], precision: str, name: str, **settings
) -> float:
    """Measures all we have in a precision; samples per second."""
    batch_size = len(batches[0].label)
    work = work.trained_with(batch_size=batch_size, precision=precision, **settings)
    measured = _train(card, batches, lambda: compiled(card, work))
    rate = measured["samples_per_s"]["median"]
    report.line(f"      {name:14} {precision} {batch_size}: {rate / 1e6:6.2f} M samples/s ({measured['spread']})")
    _falls(report, f"{name}, {batch_size}", measured)
    part = "variants" if settings or name != precision else "precisions"
    report.keep(part, **{name: measured}, batch_size=batch_size)
    return rate


def _train(card: Card, batches: list[Batch], make: Callable[[], Step]) -> dict[str, Any]:
    trained = Trained(make(), batches)
    timing = card.time(trained)
    measured = {**trained.measured(timing), "spread": share(timing)}
    if not card.rehearsal:
        measured["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
        torch.cuda.reset_peak_memory_stats()
    del trained
    card.free()
    return measured


def _falls(report: Report, name: str, measured: dict[str, Any]) -> None:
    first, last = measured["first_loss"], measured["last_loss"]
    report.check(f"the loss falls: {name}", last < first, f"{first:.4f} to {last:.4f}")


def _target(card: Card, report: Report, name: str, rate: float) -> None:
    report.check(
        f"at least {TARGET / 1e6:.0f} M samples/s: {name}",
        card.rehearsal or rate >= TARGET,
        f"{rate / 1e6:.2f} M (aim 12, stretch 16)",
    )
