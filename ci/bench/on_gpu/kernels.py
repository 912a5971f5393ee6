"""The time of each Triton kernel, the bytes it moves in that time, and which block sizes and warps suit the card."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from bench.build import new_model
from bench.on_gpu.card import Card
from bench.on_gpu.data import resident, unique_share, workload
from bench.on_gpu.report import Report
from bench.on_gpu.roofline import kernel_costs

from dlrm_lib.backends.backend import PRECISIONS
from dlrm_lib.model import blueprint

Calls = dict[str, Callable[[int], object]]


def times(card: Card, report: Report) -> None:
    """Each kernel in 16 bit on batches in rotation: microseconds, and TB/s of what must be moved."""
    calls, distinct = _calls(card, "fp16")
    work = workload(card)
    costs = kernel_costs(blueprint(work.spec, work.model), distinct=distinct, number_bytes=2)
    costs["embedding update, in order"] = costs["embedding update"]
    rows = card.batch_sizes[0]
    for name, cost in costs.items():
        calls[name](0)
        timing = card.time(calls[name])
        moved = rows * cost.bytes / timing.median
        report.line(f"      {name:26} {timing.median * 1e6:8.1f} us  {moved / 1e12:5.2f} TB/s")
        report.keep("kernels", **{name: {"microseconds": [s * 1e6 for s in timing.seconds], "bytes_per_s": moved}})
    report.keep("kernels", rows=rows, distinct_share=distinct, precision="fp16")


def sweep(card: Card, report: Report) -> None:
    """Times of each kernel with other constants of its module: advice for whoever sets them, beside what is set."""
    from dlrm_lib.backends.cuda import gather, interaction, update

    calls, _ = _calls(card, "fp16")
    options: dict[str, tuple[ModuleType, dict[str, tuple[int, ...]]]] = {
        "lookup": (gather, {"LOOKUPS": (8, 16, 32, 64), "WARPS": (2, 4, 8)}),
        "interaction both ways": (interaction, {"VECTORS_PER_WARP": (8, 16, 32), "BLOCK_16_BIT": (32, 64, 128)}),
        "embedding update": (update, {"LOOKUPS": (8, 16, 32, 64), "WARPS": (2, 4, 8)}),
        "embedding update, small tables": (update, {"SAMPLES": (128, 256, 512, 1024), "SMALL_WARPS": (4, 8)}),
        "embedding update, in order": (update, {"ENTRIES": (32, 64), "ORDER_WARPS": (2, 4, 8)}),
    }
    calls["embedding update, small tables"] = calls["embedding update"]
    for name, (module, constants) in options.items():
        found: list[dict[str, Any]] = []
        for values in itertools.product(*constants.values()):
            if report.left() < 20:
                report.line(f"      {name}: the rest is left out, the time is over")
                break
            chosen = dict(zip(constants, values, strict=True))
            with _set(module, chosen):
                found.append({**chosen, "microseconds": _microseconds(card, calls[name])})
            if card.rehearsal and len(found) == 2:
                break
        ran = sorted((case for case in found if case["microseconds"]), key=lambda case: case["microseconds"])
        if ran:
            now = {constant: getattr(module, constant) for constant in constants}
            report.line(f"      {name}: best {ran[0]}, set {now}")
        report.keep("sweep", **{name: found})


def _calls(card: Card, precision: str) -> tuple[Calls, float]:
    """The kernels as functions of a number, and the share of different rows in a batch."""
    from dlrm_lib.backends.cuda import gather, interaction, update

    work, device, dtype = workload(card), card.backend.torch_device, PRECISIONS[precision]
    model = new_model(work, card.backend)
    weight, offsets, width = model.tables.weight, model.tables.offsets, model.interaction.width
    batches = resident(card, work, card.batch_sizes[0])
    ids = [batch.categorical for batch in batches]
    sizes = update.columns_by_size(work.spec.cardinalities, device)
    bottom = torch.randn(len(ids[0]), work.model.embedding_dim, device=device).to(dtype).requires_grad_()
    rows = gather.gather(weight, ids[0], offsets, dtype).requires_grad_()
    gradient = torch.randn(rows.shape, device=device).to(dtype)
    step, none, flag = (torch.tensor(value, device=device) for value in (-1e-6, 0.0, 0.0))

    def forward(_: int) -> torch.Tensor:
        return interaction.interact(bottom, rows, width, self_interaction=False, precision=precision, overflow=flag)

    out = forward(0)
    upstream = torch.randn_like(out)

    calls: Calls = {
        "lookup": lambda number: gather.gather(weight, ids[number % len(ids)], offsets, dtype),
        "interaction forward": forward,
        "interaction backward": lambda _: torch.autograd.grad(out, (bottom, rows), upstream, retain_graph=True),
        "interaction both ways": lambda _: torch.autograd.grad(forward(0), (bottom, rows), upstream),
        "embedding update": lambda number: update.add_rows(
            weight, ids[number % len(ids)], offsets, sizes, gradient, step, none
        ),
        "embedding update, in order": lambda number: update.add_rows_in_order(
            weight, ids[number % len(ids)], offsets, gradient, step, none
        ),
    }
    return calls, unique_share(work.spec, batches[0])


def _microseconds(card: Card, call: Callable[[int], object]) -> float | None:
    """None if the card cannot run it so: too many registers, too much shared memory."""
    try:
        call(0)
        return round(card.time(call).median * 1e6, 1)
    except Exception as error:
        if "out of resource" not in str(error):
            raise
        return None


@contextmanager
def _set(module: ModuleType, constants: dict[str, int]) -> Iterator[None]:
    before = {name: getattr(module, name) for name in constants}
    try:
        for name, value in constants.items():
            setattr(module, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)
