"""What is left of the speed of training while something else keeps every core busy, by the environment of the process.

    python ci/bench/busy.py --record figures/records/busy.json --with OMP_WAIT_POLICY=passive
                            [--with GOMP_SPINCOUNT=1000,OMP_NUM_THREADS=2]

The models are those of presets, with their optimizer, execution and batch size (`criteo_kaggle`: that for 100,000
rows), on random rows in memory. The contestants train in processes of their own, as such settings are read when a
process starts:

- ours: what ``dlrm_lib.process`` sets;
- as OpenMP waits: ``GOMP_SPINCOUNT=300000``, its own default;
- one thread: ``OMP_NUM_THREADS=1``;
- any ``--with``: variables of the environment, separated by commas.

In each round each contestant runs a segment while nothing else runs, and right after it one while a process per core
does nothing but count. The others are stopped meanwhile. Rates are training samples per second, and ratios are taken
within a round: busy to quiet; quiet to that of OpenMP; busy to that of one thread. A quiet segment during which
something else took a core counts, and is counted as disturbed: where there are many, the machine was not quiet.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.build import ROWS, new_step, processor
from bench.command_line import command, count, ended, keep, parsed, positive
from bench.workload import LAPTOP_ROWS, Workload, of_preset, random_batches

from dlrm_lib.benchmark import FROZEN, WARMUP_STEPS, Spread
from dlrm_lib.clean_timing import watched

CI = Path(__file__).resolve().parents[1]
MODELS = ("smoke", "laptop", "criteo_kaggle")
OWN_ROWS = {"smoke": 45_000, "laptop": LAPTOP_ROWS}
BATCHES = 32
OURS, OPENMP, ONE_THREAD = "ours", "as OpenMP waits", "one thread"
# What decides about threads, and is not to come from the environment that the bench happens to have.
_ABOUT_THREADS = ("OMP_", "GOMP_", "KMP_", "MKL_")


def workload(model: str) -> Workload:
    """A preset's model, trained as the preset says."""
    return of_preset(model, rows=OWN_ROWS.get(model, ROWS))


def train(model: str, seconds: float) -> None:
    """A contestant's process: says that it is warm, then trains for so long for each line that it is given."""
    work = workload(model)
    step = new_step(work, processor())
    batches = [step.prepare(batch) for batch in random_batches(work, BATCHES)]

    def steps() -> int:
        end = time.perf_counter() + seconds
        for done in itertools.count(1):
            step(batches[done % BATCHES], FROZEN)
            if time.perf_counter() >= end:
                return done

    for number in range(WARMUP_STEPS):
        step(batches[number], FROZEN)
    print(json.dumps({"threads": torch.get_num_threads()}), flush=True)
    for _ in sys.stdin:
        done, took, clean = watched(steps)
        rate = done * work.training.batch_size / took
        print(json.dumps({"samples_per_second": rate, "disturbed": not clean}), flush=True)


class Contestant:
    """A process that trains when it is asked to, and is stopped otherwise: threads that wait may spin.

    Attributes:
        threads: That torch uses in it.
    """

    def __init__(self, model: str, variables: dict[str, str], seconds: float, cores: Sequence[int]) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_ABOUT_THREADS)}
        prepared = f"prepare(Config.from_preset({model!r}, {{'device': 'cpu'}}))"  # before the bench imports torch
        code = (
            f"{_begin(cores)}; from dlrm_lib.config import Config; from dlrm_lib.process import prepare; {prepared}; "
            f"from bench.busy import train; train({model!r}, {seconds!r})"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=CI,
            env=inherited | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Contestant:
        self.threads = self._answer()["threads"]
        self._process.send_signal(signal.SIGSTOP)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def segment(self) -> dict[str, Any]:
        """Samples per second of one, and whether it was disturbed."""
        self._process.send_signal(signal.SIGCONT)
        print(file=self._process.stdin, flush=True)
        answer = self._answer()
        self._process.send_signal(signal.SIGSTOP)
        return answer

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("A contestant's process failed: see above.")
        return json.loads(line)


def _begin(cores: Sequence[int]) -> str:
    """A process's first lines: it keeps to the cores, which OpenMP counts later, and does not outlive the bench."""
    die_with_parent = "ctypes.CDLL(None).prctl(1, 9)"  # PR_SET_PDEATHSIG, SIGKILL
    return f"import ctypes, os; {die_with_parent}; os.sched_setaffinity(0, {list(cores)})"


@contextlib.contextmanager
def all_busy(cores: Sequence[int]) -> Iterator[None]:
    """On each of the cores a process does nothing but count."""
    with contextlib.ExitStack() as stack:
        for core in cores:
            code = f"{_begin([core])}; print(flush=True)\nwhile True: pass"
            spinning = stack.enter_context(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE))
            stack.callback(spinning.kill)  # before it is waited for
            spinning.stdout.readline()
        yield


def measure(
    model: str, contestants: dict[str, dict[str, str]], *, rounds: int, seconds: float, cores: Sequence[int]
) -> dict[str, Any]:
    """A model's part of the record, printed as a table."""
    quiet: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
    busy: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
    with contextlib.ExitStack() as stack:
        found = {
            name: stack.enter_context(Contestant(model, variables, seconds, cores))
            for name, variables in contestants.items()
        }
        for number in range(rounds):
            first = number % len(found)
            for name in [*found][first:] + [*found][:first]:
                quiet[name].append(found[name].segment())
                with all_busy(cores):
                    busy[name].append(found[name].segment())
    print(f"{'':40} {'threads':>7} {'quiet':>10} {'busy':>10}  busy/quiet  /OpenMP quiet  /one thread busy")
    return {name: _result(name, found[name].threads, quiet, busy) for name in found}


def _result(name: str, threads: int, quiet: dict[str, list], busy: dict[str, list]) -> dict[str, Any]:
    def rates(segments: Sequence[dict[str, Any]]) -> list[float]:
        return [segment["samples_per_second"] for segment in segments]

    def ratio(above: Sequence[dict[str, Any]], below: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return dataclasses.asdict(Spread.of(a / b for a, b in zip(rates(above), rates(below), strict=True)))

    result = {
        "threads": threads,
        "quiet": dataclasses.asdict(Spread.of(rates(quiet[name]))),
        "busy": dataclasses.asdict(Spread.of(rates(busy[name]))),
        "busy_to_quiet": ratio(busy[name], quiet[name]),
        "quiet_to_openmp": ratio(quiet[name], quiet[OPENMP]),
        "busy_to_one_thread": ratio(busy[name], busy[ONE_THREAD]),
        "disturbed": sum(segment["disturbed"] for segment in quiet[name]),
    }
    medians = [result[key]["median"] for key in ("busy_to_quiet", "quiet_to_openmp", "busy_to_one_thread")]
    print(
        f"{name:40} {threads:>7} {result['quiet']['median']:>10,.0f} {result['busy']['median']:>10,.0f}"
        f"  {medians[0]:>10.2f}  {medians[1]:>13.2f}  {medians[2]:>16.2f}",
        flush=True,
    )
    return result


def variables(text: str) -> dict[str, str]:
    """``NAME=VALUE,NAME=VALUE``, for ``argparse``."""
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name and value for name, _, value in pairs):
        raise argparse.ArgumentTypeError(f"NAME=VALUE or several, separated by commas, not {text!r}")
    return {name: value for name, _, value in pairs}


def main(flags: Sequence[str] | None = None) -> None:
    """Measures, prints, and writes a record if asked to."""
    parser = command(__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--with", dest="given", type=variables, action="append", default=[], metavar="NAME=VALUE,…")
    parser.add_argument("--repeats", type=count, default=5, help="rounds")
    parser.add_argument("--seconds", type=positive, default=2.0, help="length of a segment")
    arguments = parsed(parser, flags)
    cores = sorted(os.sched_getaffinity(0))[: arguments.cores]
    named = {",".join(f"{name}={value}" for name, value in of.items()): of for of in arguments.given}
    contestants = {OURS: {}, OPENMP: {"GOMP_SPINCOUNT": "300000"}, ONE_THREAD: {"OMP_NUM_THREADS": "1"}, **named}
    metrics, models = {}, {}
    for name in arguments.models:
        models[name] = {"batch_size": workload(name).training.batch_size, **workload(name).described()}
        print(f"\n{name}: batch {models[name]['batch_size']}", flush=True)
        metrics[name] = measure(name, contestants, rounds=arguments.repeats, seconds=arguments.seconds, cores=cores)
    config = {
        "repeats": arguments.repeats,
        "segment_seconds": arguments.seconds,
        "warmup": f"{WARMUP_STEPS} steps of each contestant are not counted",
        "load": "one process per core that only counts",
        "environment": contestants,
        "models": models,
    }
    keep(arguments, what="training while every core is busy", config=config, metrics={"models": metrics})


if __name__ == "__main__":
    sys.exit(ended(main))
