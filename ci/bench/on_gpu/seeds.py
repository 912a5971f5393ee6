"""What a model is worth that was trained in 16 bit: its AUC beside fp32's, over seeds.

NVIDIA's model on tables of at most 500 rows learns a planted signal in one pass, and nearly all of it: where much is
left to learn, the AUC of two trainings that differ in their last bits alone is thousandths apart. Each seed starts from
its own weights and sees the batches in its own order, the same in every precision, and is judged on the same rows. With
SGD and a static loss scale, recorded as one graph.
"""

from __future__ import annotations

import statistics

import torch
from bench.build import new_step
from bench.on_gpu.card import Card
from bench.on_gpu.data import HeldRows, draw, workload
from bench.on_gpu.report import Report
from bench.workload import Workload

from dlrm_lib.dataset import Batch
from dlrm_lib.metrics.equivalence import AUC_BOUND, paired
from dlrm_lib.optim import learning_rate
from dlrm_lib.training import evaluate

SEEDS, BATCH_SIZE, STEPS, TEST_ROWS, LR, MOST_ROWS = 10, 2048, 3000, 500_000, 3.0, 500


def parity(card: Card, report: Report) -> None:
    """The 95 % interval of the difference to fp32, paired by seed, lies within the bound for bf16 and fp16."""
    work = workload(card).capped(MOST_ROWS).trained_with(lr=LR)
    count, batch_size, steps, test_rows = (2, 4, 5, 20) if card.rehearsal else (SEEDS, BATCH_SIZE, STEPS, TEST_ROWS)
    rows = draw(work.spec, steps * batch_size + test_rows, seed=10)
    train, test = (Batch(*part) for part in zip(*(x.split([steps * batch_size, test_rows]) for x in rows), strict=True))
    train = Batch(*(x.to(card.backend.torch_device) for x in train))
    test = HeldRows(work.spec, test)
    found = {
        precision: _trained(card, work, train, test, precision, count, batch_size)
        for precision in (("fp32", "fp16") if card.rehearsal else ("fp32", "bf16", "fp16"))
    }
    for precision, aucs in found.items():
        report.line(
            f"      AUC {precision}: mean {statistics.fmean(aucs):.5f}, over seeds ±{statistics.stdev(aucs):.5f}"
        )
        if precision == "fp32":
            continue
        interval = paired(aucs, found["fp32"])
        report.check(
            f"AUC {precision} less fp32, {count} seeds, 95 % within ±{AUC_BOUND}",
            card.rehearsal or interval.within(AUC_BOUND),
            f"{interval.low:+.5f} to {interval.high:+.5f}",
        )
        report.keep("auc", **{f"{precision}_less_fp32": interval._asdict()})
    settings = {"batch_size": batch_size, "steps": steps, "test_rows": test_rows, "lr": LR, "most_rows": MOST_ROWS}
    report.keep("auc", aucs=found, bound=AUC_BOUND, **settings)


def _trained(
    card: Card, work: Workload, train: Batch, test: HeldRows, precision: str, count: int, batch_size: int
) -> list[float]:
    """The AUC of each seed."""
    steps = len(train.label) // batch_size
    work = work.trained_with(batch_size=batch_size, precision=precision, execution="graph")
    work = work.trained_with(warmup_steps=steps // 10, decay_start_step=steps // 2, decay_steps=steps // 2)
    aucs = []
    for seed in range(count):
        step = new_step(work, card.plain_layers, seed=seed)
        for number in torch.randperm(steps, generator=torch.Generator().manual_seed(seed)).tolist():
            batch = Batch(*(x[number * batch_size : (number + 1) * batch_size] for x in train))
            step(batch, learning_rate(step.done, work.training))
        inference = card.backend.inference(step.model, step.precision, work.training.execution)
        aucs.append(evaluate(inference, test, batch_size=32_768, step=step.done).auc)
    return aucs
