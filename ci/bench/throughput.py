"""How many rows per second a model trains on, by batch size and precision.

    python ci/bench/throughput.py --record figures/records/throughput.json

Three models train on the CPU: those of the presets `laptop` and `criteo_kaggle`, with their optimizer, and NVIDIA's,
with SGD on Criteo's cardinalities, each table capped at ``--most_rows``, 500,000. A step is forward, backward and
update, compiled, on batches that are in memory (ids drawn log-uniformly, which is Zipf's law). All kinds run segments
of half a second in turn, at least a step; the first steps of each, and the one before each segment, are not counted. A
segment in which something else took a core is measured again. NVIDIA's model takes about 7 GiB of memory.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.build import new_model
from bench.command_line import command, count, ended, keep, parsed, positive, processor_on, say_what_bf16_runs_on
from bench.workload import MOST_ROWS, Workload, models

from dlrm_lib.backends.backend import Backend
from dlrm_lib.benchmark import WARMUP_STEPS, benchmark_training
from dlrm_lib.clean_timing import TRIES
from dlrm_lib.dataset import RandomDataset

BATCH_SIZES = tuple(128 * 4**power for power in range(5))
# fp16 products are no faster than fp32 ones on a CPU: one model is enough to show it.
PRECISIONS = {"laptop": ("fp32", "bf16", "fp16"), "kaggle": ("fp32", "bf16"), "nvidia": ("fp32", "bf16")}


def measure(
    workload: Workload,
    backend: Backend,
    *,
    batch_sizes: Sequence[int],
    precisions: Sequence[str],
    repeats: int,
    seconds: float,
) -> list[dict[str, Any]]:
    """Speeds of a model in the record's form, printed as a table."""
    speeds = benchmark_training(
        new_model(workload, backend),
        RandomDataset(workload.spec, ids="zipf").train,
        workload.training,
        backend,
        batch_sizes=batch_sizes,
        precisions=precisions,
        repeats=repeats,
        seconds=seconds,
        tries=TRIES,
    )
    print(f"{'precision':>10} {'batch':>8} {'rows/s':>10}   (lowest to highest)  dropped")
    for speed in speeds:
        rate = speed.samples_per_second
        print(
            f"{speed.precision:>10} {speed.batch_size:>8,} {rate.median:>10,.0f}"
            f"   ({rate.low:,.0f} to {rate.high:,.0f})  {speed.dropped}",
            flush=True,
        )
    return [dataclasses.asdict(speed) for speed in speeds]


def main(flags: Sequence[str] | None = None) -> None:
    """Measures, prints, and writes the record."""
    parser = command(__doc__, record_needed=True)
    parser.add_argument("--models", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--batch_sizes", nargs="+", type=count, default=list(BATCH_SIZES))
    parser.add_argument("--most_rows", type=count, default=MOST_ROWS, help="most rows of a table of NVIDIA's model")
    parser.add_argument("--repeats", type=count, default=5)
    parser.add_argument("--seconds", type=positive, default=0.5, help="length of a segment")
    arguments = parsed(parser, flags)
    backend = processor_on(arguments.cores)
    say_what_bf16_runs_on()
    wanted = {name: models(arguments.most_rows)[name] for name in arguments.models}
    metrics = {}
    for name, workload in wanted.items():
        print(f"\n{name}: {workload.training.optimizer}, {sum(workload.spec.cardinalities):,} rows of tables")
        metrics[name] = measure(
            workload,
            backend,
            batch_sizes=arguments.batch_sizes,
            precisions=PRECISIONS[name],
            repeats=arguments.repeats,
            seconds=arguments.seconds,
        )
    config = {
        "repeats": arguments.repeats,
        "segment_seconds": arguments.seconds,
        "warmup": f"{WARMUP_STEPS} steps of each kind, and one before each segment, are not counted",
        "reading": "left out: batches are in memory",
        "ids": "zipf",
        "models": {name: workload.described() for name, workload in wanted.items()},
    }
    keep(
        arguments,
        what="training throughput by batch size and precision",
        config=config,
        metrics={"models": metrics},
    )


if __name__ == "__main__":
    sys.exit(ended(main))
