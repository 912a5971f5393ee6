"""What a configuration costs, known before anything is trained: memory, arithmetic, steps, time."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dlrm_lib.config import Config, TrainingConfig
from dlrm_lib.features import FeatureSpec
from dlrm_lib.lab.machine import WORTH_TRYING, Machine
from dlrm_lib.lab.style import TILES
from dlrm_lib.memory import in_bytes
from dlrm_lib.model import Cost, blueprint, training_cost
from dlrm_lib.optim import OPTIMIZERS, misfits
from dlrm_lib.training.needs import Needs, training_needs


@dataclass(frozen=True, kw_only=True)
class Consequences:
    """
    Attributes:
        mlp_parameters: Weights and biases of both MLPs.
        table_parameters: Numbers in all embedding tables.
        table_bytes: What they take.
        optimizer_bytes: What the optimizer remembers of them and of the MLPs.
        flops: Floating-point operations per sample, forward and backward.
        steps_per_epoch: Batches in one pass.
        steps: Steps in all.
        epoch_seconds: Estimated time of one pass, evaluation left out. On a CPU with 2 threads it was within a factor
            of two of the real time: embeddings of 4 to 64, layers up to 1,024, batches of 256 to 16,384 rows, all
            optimizers, fp32, bf16 and fp16. It has not been compared on a GPU or a Gaudi.
        warnings: One sentence each.
        advice: What is worth trying, one sentence each.
    """

    mlp_parameters: int
    table_parameters: int
    table_bytes: int
    optimizer_bytes: int
    flops: float
    steps_per_epoch: int
    steps: int
    epoch_seconds: float
    warnings: tuple[str, ...]
    advice: tuple[str, ...]


def consequences(config: Config, spec: FeatureSpec, rows: int, machine: Machine) -> Consequences:
    """What training with ``config`` on so many rows of such columns will take."""
    training = config.training.for_rows(rows)
    model = blueprint(spec, config.model.for_rows(rows))
    optimizer = OPTIMIZERS[training.optimizer].of(model, training)
    mlp_parameters = sum(parameter.numel() for parameter in model.parameters())
    table_parameters = model.tables.weight.numel()

    per_epoch, steps = training.steps_per_epoch(rows), training.steps(rows)
    parts = training_cost(model, number_bytes=4)
    # Each weight is read forward and backward and written, and so is what the dense twin remembers of it, read and
    # written.
    weight_bytes = 4 * 3 * mlp_parameters + 2 * optimizer.bytes_kept_of_layers()
    step = machine.step_seconds(
        parts,
        rows / max(per_epoch, 1),  # the last batch may be smaller
        training.precision,
        eager=training.execution == "eager",
        weight_bytes=weight_bytes,
    )
    needs = training_needs(model, training, rows=rows, scored=0)
    return Consequences(
        mlp_parameters=mlp_parameters,
        table_parameters=table_parameters,
        table_bytes=4 * table_parameters,
        optimizer_bytes=optimizer.bytes_kept(),
        flops=sum(parts.values(), Cost()).flops,
        steps_per_epoch=per_epoch,
        steps=steps,
        epoch_seconds=per_epoch * step,
        warnings=(
            *_about_memory(needs, machine),
            *_about_steps(training, rows, steps),
            *_about_precision(training.precision, machine),
            *_about_columns(spec),
        ),
        advice=tuple(_what_is_worth_trying(training.precision, parts, machine)),
    )


def _about_memory(needs: Needs, machine: Machine) -> Iterator[str]:
    if machine.free_memory is not None and needs.total > machine.free_memory:
        free = in_bytes(machine.free_memory)
        yield f"Training takes about {in_bytes(needs.total)} of memory, but only {free} are free: {needs}."


def _about_steps(training: TrainingConfig, rows: int, steps: int) -> Iterator[str]:
    if (batch_size := training.batch_size_for(rows)) > rows:
        yield f"A batch of {batch_size:,} is larger than the data: each epoch is one step of {rows:,} rows."
    yield from misfits(training, steps)


def _about_precision(name: str, machine: Machine) -> Iterator[str]:
    precision = machine.precision(name)
    if precision not in machine.flops:
        yield f"This machine has no {precision}; the time is that of fp32."
    elif (share := machine.times_fp32(precision)) < 0.95:
        yield f"{precision} is slower than fp32 on this machine: its products run at {share:.1f} times the speed."


def _about_columns(spec: FeatureSpec) -> Iterator[str]:
    columns = zip(spec.columns.categorical_names, spec.cardinalities, strict=True)
    if empty := [name for name, ids in columns if ids <= 1]:
        named = ", ".join(empty[:3]) + (", …" if len(empty) > 3 else "")
        yield (
            f"{len(empty)} of {len(spec.cardinalities)} categorical columns ({named}) have one id alone: they tell the "
            "model nothing."
        )


def _what_is_worth_trying(name: str, parts: Mapping[str, Cost], machine: Machine) -> Iterator[str]:
    """bf16, where products in it are fast here and products are what the time goes into."""
    times, seconds = machine.times_fp32("bf16"), parts["MLPs"].seconds(machine.flops["fp32"], machine.layer_bandwidth)
    by_arithmetic = seconds == parts["MLPs"].flops / machine.flops["fp32"]
    if machine.precision(name) == "fp32" and times > WORTH_TRYING and by_arithmetic:
        yield f"bf16 is worth trying: on this machine its products run at {times:.1f} times the speed of fp32."


def tiles(found: Consequences) -> str:
    """HTML: a small tile for each figure, and the warnings below."""
    per_epoch = f"{found.steps_per_epoch:,} per epoch"
    shown = (
        ("MLP parameters", in_short(found.mlp_parameters), ""),
        ("table parameters", in_short(found.table_parameters), ""),
        ("tables", in_bytes(found.table_bytes), ""),
        ("optimizer keeps", in_bytes(found.optimizer_bytes), ""),
        ("FLOPs per sample", in_short(found.flops), "forward and backward"),
        ("steps", f"{found.steps:,}", per_epoch),
        ("one epoch, about", in_time(found.epoch_seconds), "without evaluation"),
    )
    parts = [
        f'<div class="dlrm-tile" title="{note}"><div>{label}</div><b>{value}</b></div>' for label, value, note in shown
    ]
    warnings = [f'<div class="dlrm-warning">{html.escape(warning)}</div>' for warning in found.warnings]
    advice = [f'<div class="dlrm-advice">{html.escape(sentence)}</div>' for sentence in found.advice]
    return f'<style>{TILES}</style><div class="dlrm-tiles">{"".join(parts)}</div>{"".join(warnings + advice)}'


def in_short(number: float) -> str:
    """15.9 M"""
    for unit in ("", " k", " M", " G"):
        if number < 999.5:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:,.3g} T"


def in_time(seconds: float) -> str:
    """4.1 s, 6 min, 2.3 h"""
    if seconds < 90:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.2g} min" if seconds < 90 * 60 else f"{seconds / 3600:,.2g} h"
