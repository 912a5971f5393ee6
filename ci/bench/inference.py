"""How long a trained model takes to answer, and how many rows per second that makes, by batch size and precision.

    python ci/bench/inference.py --record figures/records/inference.json

The models are those of ``throughput.py``, with random weights, which take the same time. One batch is answered after
the other, from the call to the logits; reading is not part of it, nor are the first batches of each measurement. A
measurement lasts some seconds; all kinds are measured in turn, several times, and again where something else took a
core. Each number is the median of its measurements, and their range is in the record.
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
from dlrm_lib.backends.inference import Inference
from dlrm_lib.benchmark import Latency, Spread, benchmark_inference, endless_batches
from dlrm_lib.clean_timing import watched
from dlrm_lib.dataset import RandomDataset, Split

MODELS, PRECISIONS = ("laptop", "kaggle", "nvidia"), ("fp32", "bf16", "fp16")
BATCH_SIZES = tuple(4**power for power in range(8))
WARMUP, FEWEST, MOST = 5, 20, 3000  # batches before a measurement, and in it
TRIES = 3


def measure(
    workload: Workload,
    backend: Backend,
    *,
    batch_sizes: Sequence[int],
    precisions: Sequence[str],
    repeats: int,
    seconds: float,
) -> list[dict[str, Any]]:
    """Latencies of a model in the record's form, printed as a table."""
    model, execution = new_model(workload, backend), workload.training.execution
    asked = {precision: backend.inference(model, precision, execution) for precision in precisions}
    split = RandomDataset(workload.spec, ids="zipf").test
    kinds = [(precision, size) for precision in precisions for size in batch_sizes]
    found: dict[tuple[str, int], list[tuple[Latency, bool]]] = {kind: [] for kind in kinds}
    for _ in range(repeats):
        for precision, size in kinds:
            found[precision, size].append(_latency(asked[precision], split, size, seconds))
    print(f"{'precision':>10} {'batch':>8} {'p50 ms':>10} {'p95 ms':>10} {'p99 ms':>10} {'rows/s':>12}")
    return [_point(precision, size, measured) for (precision, size), measured in found.items()]


def _latency(inference: Inference, split: Split, size: int, seconds: float) -> tuple[Latency, bool]:
    """About so many seconds of it, and whether nothing else had our cores: the first clean try, or the last one."""

    def latency(steps: int) -> Latency:
        return benchmark_inference(inference, endless_batches(split, size), steps=steps, warmup=WARMUP)

    steps = min(max(round(seconds / latency(3).p50), FEWEST), MOST)
    for _ in range(TRIES):
        found, _, clean = watched(lambda: latency(steps))
        if clean:
            break
    return found, clean


def _point(precision: str, size: int, measured: Sequence[tuple[Latency, bool]]) -> dict[str, Any]:
    latencies = [latency for latency, _ in measured]
    spread = {f"{name}_ms": Spread.of(getattr(x, name) * 1e3 for x in latencies) for name in ("p50", "p95", "p99")}
    spread["samples_per_second"] = Spread.of(latency.throughput for latency in latencies)
    p50, p95, p99, rate = (of.median for of in spread.values())
    print(f"{precision:>10} {size:>8,} {p50:>10.3f} {p95:>10.3f} {p99:>10.3f} {rate:>12,.0f}", flush=True)
    return {
        "precision": precision,
        "batch_size": size,
        **{name: of.median for name, of in spread.items()},
        "batches": sum(latency.steps for latency in latencies),
        "disturbed": sum(not clean for _, clean in measured),
        "spread": {name: dataclasses.asdict(of) for name, of in spread.items()},
    }


def main(flags: Sequence[str] | None = None) -> None:
    """Measures, prints, and writes the record."""
    parser = command(__doc__, record_needed=True)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS[:2]))
    parser.add_argument("--batch_sizes", nargs="+", type=count, default=list(BATCH_SIZES))
    parser.add_argument("--most_rows", type=count, default=MOST_ROWS, help="most rows of a table of NVIDIA's model")
    parser.add_argument("--repeats", type=count, default=3)
    parser.add_argument("--seconds", type=positive, default=1.5, help="length of a measurement")
    arguments = parsed(parser, flags)
    backend = processor_on(arguments.cores)
    say_what_bf16_runs_on()
    wanted = {name: models(arguments.most_rows)[name] for name in arguments.models}
    metrics = {}
    for name, workload in wanted.items():
        print(f"\n{name}: {sum(workload.spec.cardinalities):,} rows of tables")
        metrics[name] = measure(
            workload,
            backend,
            batch_sizes=arguments.batch_sizes,
            precisions=arguments.precisions,
            repeats=arguments.repeats,
            seconds=arguments.seconds,
        )
    config = {
        "repeats": arguments.repeats,
        "measurement_seconds": arguments.seconds,
        "batches_of_a_measurement": [FEWEST, MOST],
        "warmup": f"{WARMUP} batches before each measurement are not counted",
        "reading": "left out",
        "ids": "zipf",
        "models": {name: workload.described() for name, workload in wanted.items()},
    }
    keep(
        arguments,
        what="inference latency by batch size and precision",
        config=config,
        metrics={"models": metrics},
    )


if __name__ == "__main__":
    sys.exit(ended(main))
