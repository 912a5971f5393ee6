"""What a card can do at most, measured, and the time that a training step must take at that."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from bench.on_gpu.card import Card
from bench.on_gpu.data import workload
from bench.on_gpu.report import Report

from dlrm_lib.backends.backend import PRECISIONS
from dlrm_lib.model import DLRM, Cost, blueprint, training_cost

COPIED = 4 * 2**30  # bytes, many times what caches hold
SIDE = 8192  # of the matrices


def ceilings(card: Card, report: Report) -> dict[str, Any]:
    """Measures copies within the card's memory, bytes read plus bytes written, and matrix products of random numbers.

    Returns:
        ``copy`` in bytes per second, and ``fp32`` to ``fp16`` in floating-point operations per second.
    """
    device = card.backend.torch_device
    copied, side = (2**16, 64) if card.rehearsal else (COPIED, SIDE)
    source, target = (torch.rand(copied // 4, device=device) for _ in range(2))
    rates = {"copy": card.time(functools.partial(_copy, source, target)).as_rates(2 * copied)}
    source = target = None
    for name, dtype in PRECISIONS.items():
        if card.rehearsal and dtype == torch.float16:
            dtype = torch.float32
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        with card.backend.computing_in(name):
            torch.matmul(a, b, out=out)
            rates[name] = card.time(lambda _, a=a, b=b, out=out: torch.matmul(a, b, out=out)).as_rates(2 * side**3)
    report.line(
        f"      copy {rates['copy']['median'] / 1e12:.2f} TB/s; products "
        + ", ".join(f"{name} {rates[name]['median'] / 1e12:.0f}" for name in PRECISIONS)
        + " TFLOP/s"
    )
    report.keep("roofline", rates=rates)
    return {name: rate["median"] for name, rate in rates.items()}


def step_ceiling(model: DLRM, *, distinct: float, precision: str, ceilings: dict[str, float]) -> float:
    """Samples per second if each part of a step, one after the other, ran at the card's measured rates."""
    number_bytes = 2 if precision in ("bf16", "fp16") else 4
    parts = training_cost(model, distinct=distinct, number_bytes=number_bytes).values()
    return 1 / math.fsum(part.seconds(ceilings[precision], ceilings["copy"]) for part in parts)


def kernel_costs(model: DLRM, *, distinct: float, number_bytes: int) -> dict[str, Cost]:
    """What the GPU's kernels do per sample, forward and backward of the interaction apart.

    In the order of ``training_cost``, whose parts these add up to: lookup, interaction forward, interaction backward,
    embedding update.
    """
    whole = training_cost(model, distinct=distinct, number_bytes=number_bytes)
    meets = model.interaction
    read = meets.vectors * meets.dim
    forward = Cost(flops=2 * meets.vectors * read, bytes=(read + meets.width) * number_bytes)
    both = whole["interaction"]
    return {
        "lookup": whole["lookup"],
        "interaction forward": forward,
        "interaction backward": Cost(flops=both.flops - forward.flops, bytes=both.bytes - forward.bytes),
        "embedding update": whole["embedding update"],
    }


def whole_step(
    card: Card, report: Report, rates: dict[str, float], distinct: float, measured: dict[str, float]
) -> None:
    """The ceiling of each precision beside what was measured there, samples per second."""
    work = workload(card)
    model, found = blueprint(work.spec, work.model), {}
    for precision, rate in measured.items():
        top = step_ceiling(model, distinct=distinct, precision=precision, ceilings=rates)
        found[precision] = {"samples_per_s": top, "share_reached": rate / top}
        report.line(f"      ceiling {precision}: {top / 1e6:.1f} M samples/s, reached {rate / top:.0%} of it")
    report.keep("roofline", distinct_share=distinct, ceilings=found)


def _copy(source: torch.Tensor, target: torch.Tensor, _: int) -> None:
    target.copy_(source)
