"""How fast raw rows are encoded, beside Polars, DuckDB and the DataFrame pipeline of chapter 02.

    python ci/bench/preprocess.py [--rows 4000000] [--days 24] [--peers duckdb,dataframe]
    python ci/bench/preprocess.py --scaling 4,16,32 [--days 24]

    Both also take [--cores 2] [--repeats 3] [--data FOLDER] [--record PATH]; --data keeps the rows for the next time,
    in a folder that is made where there is none.

The contestants encode the same synthetic day files in turn, ``--repeats`` times, held to the same cores. Each is a
whole command in a fresh process: the start of Python and Spark and the writing of the result are included.

- ours: ``python -m dlrm_lib preprocess``. It checks every line, hashes the files and shuffles the training rows.
- polars: all rows in memory, read file by file, tokens replaced with ``replace_strict``; polars_tuned: the fastest of
  several ways that were tried. They write one array per column, check and hash nothing, and keep the rows in order.
- duckdb: all rows in a table in memory, tokens joined with their ids; the same arrays, and nothing checked or hashed.
- dataframe: the cells of chapter 02 that are tagged ``dataframe``, up to encoded Parquet; rows in their order.

After the first round the results are compared: every label and id of a peer must be ours, and every number within one
float16 of ours.

Memory is the most that a contestant's processes take together (proportional set size, sampled every half second; the
page cache does not count). ``--scaling`` measures ours alone at several sizes, in millions of rows: seconds and memory.
A size twice the one before it is the same data twice: each training day two times, then the last day, two times as
long. The frequency limit is doubled too, so the vocabularies stay the same, which is checked.

Not included: reading from disk, as every file is read once just before, when what ran earlier has also been written to
disk; and what only the first run of a new checkout does, compiling with numba and keeping Java's classes, as ours
encodes a few rows before anything is timed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.command_line import command as command_line
from bench.command_line import count, ended, keep, keep_to, listed, one_of, parsed, positive, writable
from bench.preprocess_peers import INTEGERS, PEERS, SETTINGS, TOKENS, day_files

from dlrm_lib.config import SyntheticConfig
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.errors import InputError
from dlrm_lib.files import new_folder
from dlrm_lib.records import usable_cores
from dlrm_lib.synthetic import generate
from runner.memory import PeakMemory

CI = Path(__file__).resolve().parents[1]


def raw_rows(folder: Path, rows: int, days: int) -> Path:
    """The folder of synthetic day files, generated unless it is there."""
    raw = folder.absolute() / f"{rows}_rows_{days}_days"
    if not raw.exists():
        print(f"generating {rows:,} rows", flush=True)
        generate(raw, SyntheticConfig(rows=rows, days=days), workers=usable_cores())
    return raw


def twice(raw: Path) -> Path:
    """The same rows two times: links to all training days, to all training days again, and a last day twice as long."""
    doubled = raw.with_name(f"{raw.name}_twice")
    if not doubled.exists():
        *training, last = (path.resolve() for path in day_files(raw))
        with new_folder(doubled) as folder:
            for day, path in enumerate(2 * training):
                (folder / f"day_{day}").symlink_to(path)
            with open(folder / f"day_{2 * len(training)}", "wb") as file:
                file.writelines(2 * [last.read_bytes()])
    return doubled


def encode(contestant: str, raw: Path, output: Path, cores: int, limit: int = SETTINGS.frequency_limit) -> float:
    """Seconds that a contestant takes in a process of its own, its input being in the page cache."""
    command = [sys.executable, "-m", "bench.preprocess_peers", contestant, str(raw), str(output)]
    if contestant == "ours":
        command = [sys.executable, "-m", "dlrm_lib", "preprocess", "--input", str(raw), "--output", str(output)]
        command += ["--frequency_limit", str(limit), "--numeric_rule", SETTINGS.numeric_rule]
    command += ["--cores", str(cores)]
    os.sync()
    for path in day_files(raw):
        with open(path, "rb") as file:
            while file.read(16 << 20):
                pass
    begin = time.perf_counter()
    run(command)
    return time.perf_counter() - begin


def run(command: Sequence[str]) -> None:
    """Runs a contestant's command in a process of its own, to its end."""
    done = subprocess.run(command, cwd=CI, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def rows_in_input_order(contestant: str, output: Path) -> Iterator[np.ndarray]:
    """From a contestant's result: labels [rows], numbers [rows, 13], then the ids of each column [rows]."""
    if contestant == "ours":
        from dlrm_lib.splitmix64 import splitmix64

        dataset = EncodedDataset(output)
        train, *rest = (
            [s.label, s.numerical, *s.categorical] for s in (dataset.train, dataset.test, dataset.validation)
        )
        shuffled = np.argsort(splitmix64(SETTINGS.shuffle_seed, np.arange(len(dataset.train))))
        for of_train, *of_rest in zip(train, *rest, strict=True):
            unshuffled = np.empty_like(of_train)
            unshuffled[shuffled] = of_train
            yield np.concatenate([unshuffled, *of_rest])
    elif contestant != "dataframe":
        for name in ("label", "numerical", *(f"cat_{j}" for j in range(len(TOKENS)))):
            yield np.load(output / f"{name}.npy")
    else:
        import pyarrow.parquet as pq

        table = pq.read_table(output / "encoded").sort_by("row")
        yield table["label"].to_numpy()
        yield np.stack([table[name].to_numpy() for name in INTEGERS], axis=1).astype(np.float16)
        for j in range(len(TOKENS)):
            yield table[f"cat_{j}"].to_numpy()


def check_equal(peer: str, outputs: dict[str, Path]) -> None:
    """Compares a peer's result with ours, row by row."""
    ours, theirs = (rows_in_input_order(name, outputs[name]) for name in ("ours", peer))
    for what, mine, other in zip(["labels", "numbers", *TOKENS], ours, theirs, strict=True):
        if what == "numbers":  # Polars rounds through float32, which moves one in a million by one float16.
            mine, other = mine.view(np.int16), other.view(np.int16)
            same = mine.shape == other.shape and np.abs(mine - other).max() <= 1
        else:
            same = np.array_equal(mine, other)
        if not same:
            raise SystemExit(f"{peer} encodes {what} otherwise than ours: the comparison means nothing.")


def compare(raw: Path, scratch: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Ours and its peers in turn: seconds of each run, medians, how many times ours they take, the most memory."""
    runs: dict[str, list[float]] = {name: [] for name in ("ours", *arguments.peers)}
    peaks = dict.fromkeys(runs, 0.0)
    for repeat in range(arguments.repeats):
        outputs = {name: scratch / name for name in runs}
        for name, output in outputs.items():
            with PeakMemory() as memory:
                runs[name].append(encode(name, raw, output, arguments.cores))
            peaks[name] = max(peaks[name], memory.peak_gib)
            print(f"{name}: {runs[name][-1]:.1f} s, {memory.peak_gib:.2f} GiB", flush=True)
        if repeat == 0:
            for peer in arguments.peers:
                check_equal(peer, outputs)
        for output in outputs.values():
            shutil.rmtree(output)
    medians = {name: statistics.median(seconds) for name, seconds in runs.items()}
    times = {name: median / medians["ours"] for name, median in medians.items()}
    print(f"\n{'':12}  seconds       rows/s  times ours  ours / this  peak GiB")
    for name, median in medians.items():
        print(
            f"{name:12} {median:8.1f} {arguments.rows / median:12,.0f} {times[name]:11.2f} {1 / times[name]:12.2f} "
            f"{peaks[name]:9.2f}"
        )
    return {"runs_s": runs, "median_s": medians, "times_ours": times, "peak_gib": peaks}


def scale(sets: dict[int, tuple[Path, int]], scratch: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Ours at each size, given as rows: (folder, frequency limit). Seconds, rate between the first two, peak memory."""
    runs: dict[int, list[tuple[float, float]]] = {rows: [] for rows in sets}
    vocabulary: dict[int, str] = {}
    for _ in range(arguments.repeats):
        for rows, (raw, limit) in sets.items():
            with PeakMemory() as memory:
                seconds = encode("ours", raw, scratch / "ours", arguments.cores, limit)
            runs[rows].append((seconds, memory.peak_gib))
            print(f"{rows:,} rows: {seconds:.1f} s, {memory.peak_gib:.2f} GiB", flush=True)
            vocabulary[rows] = json.loads((scratch / "ours" / "manifest.json").read_text())["vocabulary"]
            if rows // 2 in sets and vocabulary[rows] != vocabulary[rows // 2]:
                raise SystemExit(f"{raw} has another vocabulary than the rows that it holds twice.")
            shutil.rmtree(scratch / "ours")
    median = {rows: tuple(map(statistics.median, zip(*of_size, strict=True))) for rows, of_size in runs.items()}
    print(f"\n{'rows':>12}  seconds       rows/s  peak GiB")
    for rows, (seconds, peak) in median.items():
        print(f"{rows:12,} {seconds:8.1f} {rows / seconds:12,.0f} {peak:9.2f}")
    result: dict[str, Any] = {"runs_s_gib": runs, "median_s_gib": median}
    if len(median) > 1:
        (fewer, (short, _)), (more, (long, _)) = list(median.items())[:2]
        result["marginal_rows_per_s"] = (more - fewer) / (long - short)
        print(f"from {fewer:,} to {more:,} rows: {result['marginal_rows_per_s']:,.0f} rows/s")
    return result


def check_installed(peers: Sequence[str]) -> None:
    """
    Raises:
        InputError: a peer is not installed.
    """
    for peer in peers:
        if not importlib.util.find_spec(PEERS[peer]):
            raise InputError(
                f"--peers names {peer}, and {PEERS[peer]} is not installed.",
                found=",".join(peers),
                remedy="pip install -e '.[develop]', or leave it out.",
            )


def main(flags: Sequence[str] | None = None) -> None:
    """Measures, prints, and writes a record if asked to."""
    parser = command_line(__doc__)
    parser.add_argument("--rows", type=count, default=4_000_000)
    parser.add_argument("--days", type=count, default=24, help="day files; the last one is not trained on")
    parser.add_argument("--repeats", type=count, default=3)
    parser.add_argument("--peers", type=listed(one_of(*PEERS)), default=",".join(PEERS))
    parser.add_argument("--scaling", type=listed(positive), help="million rows; ours alone at these sizes")
    parser.add_argument("--data", type=Path, help="folder for raw rows, kept; by default they are removed at the end")
    arguments = parsed(parser, flags)
    config = {name: getattr(arguments, name) for name in ("days", "repeats")}
    if arguments.data:
        writable("--data", arguments.data, folder=True)
        arguments.data.mkdir(parents=True, exist_ok=True)
    if not arguments.scaling:
        check_installed(arguments.peers)
    with tempfile.TemporaryDirectory(dir=arguments.data) as name:
        scratch = Path(name).absolute()  # a contestant starts in another folder
        data = arguments.data or scratch
        sizes = [round(1e6 * millions) for millions in arguments.scaling or ()] or [arguments.rows]
        sets: dict[int, tuple[Path, int]] = {}
        for rows in sizes:
            if rows // 2 in sets:
                before, limit = sets[rows // 2]
                sets[rows] = twice(before), 2 * limit
            else:
                sets[rows] = raw_rows(data, rows, arguments.days), SETTINGS.frequency_limit
        few = raw_rows(scratch, min(1000 * arguments.days, *sizes), arguments.days)
        keep_to(arguments.cores)
        encode("ours", few, scratch / "few", arguments.cores)
        if arguments.scaling:
            what, metrics = "preprocessing at several sizes", scale(sets, scratch, arguments)
            config["rows"] = sizes
        else:
            what, metrics = "preprocessing beside its peers", compare(sets[arguments.rows][0], scratch, arguments)
            libraries = {PEERS[peer] for peer in arguments.peers}
            config |= {"rows": arguments.rows, **{name: importlib.metadata.version(name) for name in sorted(libraries)}}
    keep(arguments, what=what, config=config, metrics=metrics)


if __name__ == "__main__":
    sys.exit(ended(main))
