"""How fast batches are read from the page cache, in every order, beside what others read them with.

    python ci/bench/reader.py [--rows 4000000] [--rounds 5] [--cores 2] [--seconds 1] [--record PATH]

Random rows with the cardinalities of Criteo's 24 days are written to a temporary folder in both layouts and read once,
so that they are in memory. The contestants, each at batches of 32,768 and of 2,048 rows, for the columns of our own
layout and for the packed rows of NVIDIA's of 2020:

- in order, batches (shuffled by batch), rows (shuffled by row): ``read_ahead``, checked, with a thread per core. The
  caller does nothing but take the batches: what is measured is how many could be fed;
- the same unchecked; and batches inline: in the caller's thread, which a training on the same cores prefers;
- slices: plain NumPy slices of the maps, in order, as float32 and int32, unchecked, in one thread;
- per row: a torch ``DataLoader`` without workers over ``__getitem__`` of one row, as most tutorials have it.

They run segments in turn, and a figure is the median of them: have nothing else run on those cores. (A segment starts
with up to three batches that were read before: a hundredth or two of it.) The memory that reading takes is measured
too: what the process holds beyond files, before and after a pass.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.command_line import command, count, ended, keep, keep_to, parsed, positive

from dlrm_lib.clean_timing import Times, in_turn, ratios
from dlrm_lib.dataset import InOrder, Order, ShuffledBatches, ShuffledRows, Split, read_ahead
from dlrm_lib.dataset.encoded import ColumnSplit
from dlrm_lib.dataset.packed_layout import PackedSplit
from dlrm_lib.features import CRITEO_TERABYTE

BATCH_SIZES = (32_768, 2_048)
_CHUNK = 1_000_000


def write(folder: Path, rows: int) -> dict[str, Split]:
    """The same random rows in both layouts, mapped."""
    spec = CRITEO_TERABYTE
    (folder / "train").mkdir()
    names = ["train/label.bin", "train/numerical.bin", "train_data.bin"]
    names += [f"train/cat_{j}.bin" for j in range(len(spec.cardinalities))]
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(folder / name, "wb")) for name in names]
        for chunk in range(0, rows, _CHUNK):
            count, rng = min(_CHUNK, rows - chunk), np.random.default_rng(chunk)
            label = rng.random(count) < 0.03
            numerical = rng.lognormal(0, 1, (count, spec.numerical)).astype(np.float16)
            # Log-uniform, which is Zipf's law: few ids are most of a column.
            ids = [((c + 1.0) ** rng.random(count) - 1).astype(np.int32) for c in spec.cardinalities]
            records = np.stack([label, *numerical.astype(np.float32).view(np.int32).T, *ids], axis=1)
            columns = [column.astype(dtype) for column, dtype in zip(ids, spec.category_dtypes, strict=True)]
            for file, array in zip(files, [label, numerical, records, *columns], strict=True):
                file.write(array)
    return {
        "columns": ColumnSplit.open(folder / "train", spec, rows),
        "records": PackedSplit.open(folder / "train_data.bin", "train", spec),
    }


def ours(
    split: Split, batch_size: int, order: Callable[[int], Order], workers: int, check: bool = True
) -> Callable[[int], object]:
    """A step that takes the next batch, of pass after pass."""

    def batches() -> Iterator:
        epoch = 0
        while True:
            yield from read_ahead(split, batch_size, order(epoch), workers=workers, check=check)
            epoch += 1

    return _next_of(batches())


def slices(split: Split, batch_size: int) -> Callable[[int], object]:
    """A step that copies the next rows of the maps into float32 and int32, column by column."""

    def batches() -> Iterator:
        while True:
            for first in range(0, len(split), batch_size):
                rows = slice(first, first + batch_size)
                ids = np.empty((len(split.label[rows]), len(split.categorical)), np.int32)
                for j, column in enumerate(split.categorical):
                    ids[:, j] = column[rows]
                yield split.numerical[rows].astype(np.float32), ids, split.label[rows].astype(np.float32)

    return _next_of(batches())


class Rows(Dataset):
    """One row at a time, for torch's ``DataLoader``."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, row: int) -> tuple[np.ndarray, np.ndarray, np.float32]:
        numerical = self.split.numerical[row].astype(np.float32)
        ids = np.array([column[row] for column in self.split.categorical], np.int32)
        return numerical, ids, np.float32(self.split.label[row])


def per_row(split: Split, batch_size: int) -> Callable[[int], object]:
    """A step that takes the next batch of a ``DataLoader`` over rows."""
    loader = DataLoader(Rows(split), batch_size)
    return _next_of(itertools.chain.from_iterable(itertools.repeat(loader)))


def contestants(split: Split, batch_size: int, workers: int) -> dict[str, Callable[[int], object]]:
    """Name → step."""
    orders: dict[str, Callable[[int], Order]] = {
        "in order": lambda epoch: InOrder(),
        "batches": lambda epoch: ShuffledBatches(1, epoch),
        "rows": lambda epoch: ShuffledRows(1, epoch),
    }
    steps = {name: ours(split, batch_size, order, workers) for name, order in orders.items()}
    steps |= {f"{name}, unchecked": ours(split, batch_size, orders[name], workers, check=False) for name in orders}
    steps |= {f"{name}, inline": ours(split, batch_size, orders[name], 0) for name in orders}
    steps["batches, inline, unchecked"] = ours(split, batch_size, orders["batches"], 0, check=False)
    return {**steps, "slices": slices(split, batch_size), "per row": per_row(split, batch_size)}


def own_memory() -> int:
    """KiB that this process holds beyond the pages of files."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def measure(splits: dict[str, Split], rounds: int, seconds: float, workers: int) -> dict[str, dict]:
    """Samples per second of every contestant, printed and returned."""
    metrics: dict[str, dict] = {}
    for layout, split in splits.items():
        for batch_size in BATCH_SIZES:
            times = in_turn(contestants(split, batch_size, workers), rounds=rounds, seconds=seconds, tries=1)
            print(f"\n{layout}, batches of {batch_size:,}: million samples/s (times per row)")
            metrics[f"{layout}, {batch_size}"] = {name: _line(name, t, times, batch_size) for name, t in times.items()}
            for inline in ("", ", inline"):
                share = 1 - statistics.median(ratios(times[f"batches{inline}, unchecked"], times[f"batches{inline}"]))
                metrics[f"{layout}, {batch_size}"][f"share of checks{inline}"] = share
                print(f"  checks take {share:.0%} of reading batches{inline}")
    return metrics


def _line(name: str, own: Times, times: dict[str, Times], batch_size: int) -> dict:
    speed = batch_size / statistics.median(own.seconds)
    factor = statistics.median(ratios(times["per row"], own))
    print(f"  {name:28s} {speed / 1e6:8.3f} ({factor:6.1f})", flush=True)
    return {"samples_per_second": speed, "times_per_row": factor}


def _next_of(batches: Iterator) -> Callable[[int], object]:
    return lambda number: next(batches)


def main(flags: Sequence[str] | None = None) -> None:
    """Measures, prints, and writes a record if asked to."""
    parser = command(__doc__)
    parser.add_argument("--rows", type=count, default=4_000_000)
    parser.add_argument("--rounds", type=count, default=5, help="segments of each contestant")
    parser.add_argument("--seconds", type=positive, default=1.0, help="length of a segment")
    arguments = parsed(parser, flags)
    keep_to(arguments.cores)
    with tempfile.TemporaryDirectory() as name:
        splits = write(Path(name), arguments.rows)
        memory = {}
        for layout, split in splits.items():
            for order in (InOrder(), ShuffledRows(0, 0)):
                before = own_memory()
                held = max(own_memory() for _ in read_ahead(split, BATCH_SIZES[0], order, workers=arguments.cores))
                memory[f"{layout}, {type(order).__name__}"] = round((held - before) / 1024)
        print("MiB held while reading all rows: " + ", ".join(f"{key} {value}" for key, value in memory.items()))
        metrics = measure(splits, arguments.rounds, arguments.seconds, arguments.cores)
    config = {"rows": arguments.rows, "rounds": arguments.rounds, "segment_seconds": arguments.seconds}
    metrics = {"mib_held": memory, **metrics}
    keep(arguments, what="reading batches from the page cache", config=config, metrics=metrics)


if __name__ == "__main__":
    sys.exit(ended(main))
