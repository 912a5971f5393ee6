"""How training speed and memory change as one thing grows: training rows, rows of the tables, length of embeddings.

    python ci/bench/cost.py --record figures/records/cost.json

The model of the preset `laptop` trains on the CPU with the preset's optimizer and batch size, each point in a process
of its own:

- rows: whole passes over random rows in files, which are read as they are in any training. The tables are those of the
  preset's data;
- table_rows: 26 equal tables of so many rows in all; batches are in memory, their ids drawn log-uniformly;
- embedding_dim: the same with a million rows of tables, and vectors of so many numbers.

Speed is that of segments of half a second, or of whole passes, after a warm-up. Memory is the most that the process
holds beyond pages of files while it trains, less what it held before there was a model; it is looked at every two
milliseconds in steps that are not timed. It holds tables, what the optimizer remembers, layers and intermediate
results. The largest point takes about 8 GiB; a point that does not fit into the free memory is left out.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.build import new_model, new_step
from bench.command_line import command, count, ended, keep, parsed, positive, processor_on
from bench.reader import own_memory
from bench.workload import LAPTOP, LAPTOP_ROWS, Workload, of_preset

from dlrm_lib.backends.backend import Backend
from dlrm_lib.backends.step import TrainingStep
from dlrm_lib.benchmark import FROZEN, Spread, benchmark_training
from dlrm_lib.clean_timing import TRIES, watched
from dlrm_lib.config import Config, as_dict
from dlrm_lib.dataset import Batch, RandomDataset, read_ahead
from dlrm_lib.dataset.encoded import ColumnSplit
from dlrm_lib.features import FeatureSpec
from dlrm_lib.model import blueprint
from dlrm_lib.optim import OPTIMIZERS

THINGS = {
    "rows": (100_000, 1_000_000, 4_000_000),
    "table_rows": (10_000, 100_000, 1_000_000, 10_000_000, 40_000_000),
    "embedding_dim": (4, 8, 16, 32, 64, 128),
}
TABLE_ROWS = 1_000_000  # in all, where it is the embeddings that grow
COLUMNS = 26
MEMORY_STEPS = 20
_CHUNK = 500_000


def point(thing: str, value: int, cores: int, repeats: int, seconds: float) -> dict[str, Any]:
    """One point of the record, measured in a process of its own."""
    backend, work = processor_on(cores), workload(thing, value)
    imported(work, backend)
    if thing == "rows":
        with tempfile.TemporaryDirectory() as name:
            measured = _in_files(written(Path(name), work.spec, value), work, backend, repeats)
    else:
        measured = _in_memory(work, backend, repeats, seconds)
    return {"value": value, **measured}


def workload(thing: str, value: int) -> Workload:
    """What trains at a point."""
    if thing == "rows":
        return of_preset("laptop")
    if thing == "table_rows":
        return replace(of_preset("laptop"), spec=equal_tables(value))
    *layers, _ = Config.from_preset("laptop").model.bottom_mlp_sizes
    work = of_preset("laptop", embedding_dim=value, bottom_mlp_sizes=(*layers, value))
    return replace(work, spec=equal_tables(TABLE_ROWS))


def imported(work: Workload, backend: Backend) -> None:
    """Trains a tiny model, so that what the first step imports and compiles is there and does not count."""
    spec = equal_tables(COLUMNS)
    step = new_step(replace(work, spec=spec), backend)
    step(step.prepare(RandomDataset(spec).train.read(0, 16)), work.training.lr)


def equal_tables(rows: int) -> FeatureSpec:
    """Criteo's 13 numbers, and its 26 categorical columns with about so many ids in all."""
    return FeatureSpec(numerical=13, cardinalities=(rows // COLUMNS,) * COLUMNS)


def written(folder: Path, spec: FeatureSpec, rows: int) -> ColumnSplit:
    """So many random rows in the files of an encoded split; ids are log-uniform, as where frequent ones come first."""
    names = ["label.bin", "numerical.bin", *(f"cat_{j}.bin" for j in range(len(spec.cardinalities)))]
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context((folder / name).open("wb")) for name in names]
        for first in range(0, rows, _CHUNK):
            count, rng = min(_CHUNK, rows - first), np.random.default_rng(first)
            ids = [
                ((ids + 1.0) ** rng.random(count) - 1).astype(dtype)
                for ids, dtype in zip(spec.cardinalities, spec.category_dtypes, strict=True)
            ]
            numerical = rng.random((count, spec.numerical), np.float32).astype(np.float16)
            for file, column in zip(files, (rng.random(count) < 0.25, numerical, *ids), strict=True):
                file.write(column.data)
    return ColumnSplit.open(folder, spec, rows)


def _in_files(split: ColumnSplit, work: Workload, backend: Backend, repeats: int) -> dict[str, Any]:
    """Of whole passes over the rows."""
    before = settled_memory()
    step = new_step(work, backend)

    def one_pass() -> None:
        for batch in read_ahead(split, work.training.batch_size, put=step.prepare, workers=backend.readers):
            step(batch, FROZEN)

    peak = peak_memory(one_pass) - before
    rates, dropped = [], 0
    while len(rates) < repeats and dropped < TRIES:
        _, seconds, clean = watched(one_pass)
        if clean:
            rates.append(len(split) / seconds)
        else:
            dropped += 1
    rates = rates or [len(split) / seconds]
    speed = {"samples_per_second": asdict(Spread.of(rates)), "dropped": dropped}
    return {**speed, "memory_bytes": peak, **_sizes(step)}


def _in_memory(work: Workload, backend: Backend, repeats: int, seconds: float) -> dict[str, Any]:
    """Of steps on batches in memory."""
    split, batch_size = RandomDataset(work.spec, ids="zipf").train, work.training.batch_size
    batches = list(split.first(MEMORY_STEPS * batch_size).batches(batch_size))
    before = settled_memory()
    model = new_model(work, backend)
    memory = memory_of_steps(new_step(work, backend, model=model), batches, before)
    (speed,) = benchmark_training(
        model,
        split,
        work.training,
        backend,
        batch_sizes=[batch_size],
        precisions=[work.training.precision],
        repeats=repeats,
        seconds=seconds,
        tries=TRIES,
    )
    return {"samples_per_second": asdict(speed.samples_per_second), "dropped": speed.dropped, **memory}


def memory_of_steps(step: TrainingStep, batches: Sequence[Batch], before: int) -> dict[str, int]:
    """Memory while training on the batches, beyond what there was before the model."""

    def steps() -> None:
        for batch in batches:
            step(step.prepare(batch), FROZEN)

    return {"memory_bytes": peak_memory(steps) - before, **_sizes(step)}


def settled_memory() -> int:
    """Bytes that this process holds beyond pages of files, once it has given back what it no longer uses."""
    ctypes.CDLL(None).malloc_trim(0)  # else what was freed before would be used again, and not be seen to be used
    return 1024 * own_memory()


def peak_memory(work: Callable[[], object]) -> int:
    """The most bytes that this process holds beyond pages of files while it does the work."""
    peak, over = own_memory(), threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.002):
            peak = max(peak, own_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        over.set()
        watcher.join()
    return max(peak, own_memory()) * 1024


def _sizes(step: TrainingStep) -> dict[str, int]:
    """Of the tables, and of what the optimizer remembers of their rows."""
    optimizer = step.optimizer
    return {
        "table_bytes": step.model.tables.weight.nbytes,
        "optimizer_bytes": optimizer.bytes_kept() - optimizer.bytes_kept_of_layers(),
    }


def _fits(work: Workload, backend: Backend) -> bool:
    """Whether there is memory for the tables and for what the optimizer remembers."""
    model = blueprint(work.spec, work.model)
    needed = model.tables.weight.nbytes + OPTIMIZERS[work.training.optimizer].of(model, work.training).bytes_kept()
    free = backend.free_memory()
    return free is None or needed < 0.9 * free


def main(flags: Sequence[str] | None = None) -> None:
    """Measures, prints, and writes the record."""
    parser = command(__doc__, record_needed=True)
    for thing, values in THINGS.items():
        parser.add_argument(f"--{thing}", nargs="*", type=count, default=list(values))
    parser.add_argument("--repeats", type=count, default=5, help="segments of each point")
    parser.add_argument("--passes", type=count, default=3, help="timed passes over the rows in files")
    parser.add_argument("--seconds", type=positive, default=0.5, help="length of a segment")
    arguments = parsed(parser, flags)
    backend = processor_on(arguments.cores)
    metrics: dict[str, list[dict[str, Any]]] = {}
    print(f"{'':>14} {'':>12} {'rows/s':>10}   {'memory MiB':>10} {'tables':>8} {'optimizer':>10}")
    for thing in THINGS:
        metrics[thing] = []
        for value in getattr(arguments, thing):
            if not _fits(workload(thing, value), backend):
                print(f"{thing:>14} {value:>12,} does not fit into the free memory and is left out")
                continue
            repeats = arguments.passes if thing == "rows" else arguments.repeats
            found = _in_own_process(thing, value, arguments.cores, repeats, arguments.seconds)
            metrics[thing].append(found)
            memory, tables, optimizer = (
                found[name] / 2**20 for name in ("memory_bytes", "table_bytes", "optimizer_bytes")
            )
            rate = found["samples_per_second"]["median"]
            print(
                f"{thing:>14} {value:>12,} {rate:>10,.0f}   {memory:>10,.0f} {tables:>8,.0f} {optimizer:>10,.0f}",
                flush=True,
            )
    laptop = Config.from_preset("laptop").for_rows(LAPTOP_ROWS)
    config = {
        "repeats": arguments.repeats,
        "segment_seconds": arguments.seconds,
        "passes": arguments.passes,
        "warmup": "the first steps of each point, or a whole pass over rows in files, are not counted",
        "memory": "the most beyond pages of files, less what the process held before there was a model",
        "table_rows_where_others_grow": {"rows": sum(LAPTOP.cardinalities), "embedding_dim": TABLE_ROWS},
        "ids": "zipf",
        "model": as_dict(laptop.model),
        "training": as_dict(laptop.training),
    }
    keep(arguments, what="cost of training as one thing grows", config=config, metrics=metrics)


def _in_own_process(*point_arguments: Any) -> dict[str, Any]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(point, *point_arguments).result()


if __name__ == "__main__":
    sys.exit(ended(main))
