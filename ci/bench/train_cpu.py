"""How fast DLRM trains on the CPU, beside the ordinary PyTorch program and beside TorchRec with FBGEMM.

    python ci/bench/train_cpu.py [--models N,S,H] [--contestants torchrec,ours-bf16-compiled] [--rounds 9] [--cores 2]
                                 [--set_up_peers] [--record PATH]

The models are those of presets, with what is changed about them in ``WORKLOADS``:

- N: `criteo_terabyte`, NVIDIA's, on the cardinalities of Criteo's 24 days capped at 500,000 rows per table, at batch
  2,048;
- S: `laptop` on the cardinalities of its data set, with SGD;
- H: `gaudi_medium`, Habana's Medium: bags of 38 ids from one table of 3,000,000 rows, batch 512, Adagrad.

The contestants:

- plain: a module per table with sparse gradients, one torch optimizer over all (see ``train_peers.py``); every ratio is
  to this one;
- dense: the same with gradients as large as the tables, which shows what sparse ones save (not for H);
- torchrec: TorchRec's DLRM with FBGEMM's tables and fused optimizer. ``--set_up_peers`` installs both into .venv-peers;
- ours-fp32, ours-bf16, and both compiled: the library's step, in the precisions that this processor has.

All train in one process, on the same batches in memory (ids drawn log-uniformly, which is Zipf's law), from the same
weights, and their first losses are compared. They run segments of half a second in turn, at least a step; a segment in
which something else took a core is measured again (see ``dlrm_lib.clean_timing``). A figure is the median of the clean
segments; a ratio is the median of the ratios within a round. The library keeps freed memory for the next step, and as
that holds for a whole process, its peers here gain from it too: alone they are a little slower. N takes about 16 GiB of
memory with all contestants, H about 19.

The start is measured too, in fresh processes, ``--starts`` of each kind: what importing the library takes beyond torch,
and the first training step of model S, compiled, with an empty and with a filled cache of compiled code.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.build import new_model, new_step, processor
from bench.command_line import (
    command,
    count,
    ended,
    keep,
    keep_to,
    listed,
    one_of,
    parsed,
    positive,
    say_what_bf16_runs_on,
)
from bench.train_peers import Contestant, plain, torchrec, torchrec_is_installed
from bench.workload import LR, MOST_ROWS, SGD, Workload, of_preset, random_batches
from set_up import set_up_peers

from dlrm_lib.clean_timing import Times, in_turn, quartiles, ratios
from dlrm_lib.config import as_dict
from dlrm_lib.dataset import Batch
from dlrm_lib.errors import InputError

CI = Path(__file__).resolve().parents[1]
WORKLOADS = {
    "N": of_preset("criteo_terabyte", batch_size=2048, lr=LR).capped(MOST_ROWS),
    "S": of_preset("laptop", lr=LR, **SGD),
    "H": of_preset("gaudi_medium"),
}
MOST_ROUNDS = {"H": 5}  # a step of it takes seconds
PEERS = ("plain", "dense", "torchrec")
# How the library can be asked to train.
OURS = {
    "ours-fp32": {"precision": "fp32", "execution": "eager"},
    "ours-fp32-compiled": {"precision": "fp32", "execution": "compile"},
    "ours-bf16": {"precision": "bf16", "execution": "eager"},
    "ours-bf16-compiled": {"precision": "bf16", "execution": "compile"},
}


def ours(workload: Workload, batches: Sequence[Batch], *, seed: int = 0) -> Contestant:
    """The library as its users get it, with a model of its own.

    Raises:
        InputError: this CPU lacks the precision.
    """
    step = new_step(workload, processor(), seed=seed)
    return lambda number: step(batches[number % len(batches)], workload.training.lr)


def contestants(
    workload: Workload, batches: Sequence[Batch], wanted: Sequence[str] | None = None
) -> dict[str, Contestant]:
    """All that can be had here, or plain and the ``wanted``, warm; says what is left out and why."""

    def peer(train: Callable[..., Contestant], **how: bool) -> Callable[[], Contestant]:
        of = workload.model, workload.training, batches
        return lambda: train(new_model(workload, processor()), *of, **how)

    builders = {"plain": peer(plain)}
    if workload.model.num_indices_per_lookup == 1:
        builders["dense"] = peer(plain, sparse=False)
    if torchrec_is_installed():
        builders["torchrec"] = peer(torchrec)
    builders |= {name: lambda how=how: ours(workload.trained_with(**how), batches) for name, how in OURS.items()}

    expected, found = None, {}
    for name, made in builders.items():
        if wanted and name not in ("plain", *wanted):
            continue
        try:
            step = made()
            first = step(0).item()
        except InputError as error:
            print(f"{name} is left out: {' '.join(str(error).split())}", flush=True)
            continue
        expected = first if expected is None else expected
        tolerance = 2e-2 if "bf16" in name else 1e-3
        if not abs(first - expected) <= tolerance * expected:
            raise SystemExit(f"{name} begins at a loss of {first}, plain at {expected}: the comparison means nothing.")
        step(1)
        found[name] = step
    return found


def compare(
    workload: Workload, *, rounds: int, seconds: float = 0.5, wanted: Sequence[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Samples per second of every contestant and its ratios to plain and TorchRec, as quartiles; printed as a table."""
    times = in_turn(contestants(workload, random_batches(workload), wanted), rounds=rounds, seconds=seconds)
    batch_size = workload.training.batch_size
    print(f"{'':20} samples/s  times plain (quartiles)  times torchrec  dropped")
    results = {}
    for name, own in times.items():
        result = {
            "samples_per_s": quartiles([batch_size / seconds for seconds in own.seconds if seconds]),
            "times_plain": quartiles(ratios(times["plain"], own)),
            "times_torchrec": quartiles(ratios(times.get("torchrec", Times([None] * rounds)), own)),
            "clean_segments": sum(seconds is not None for seconds in own.seconds),
            "dropped_segments": own.dropped,
        }
        results[name] = result
        rate, to_plain, to_torchrec = (result[key] for key in ("samples_per_s", "times_plain", "times_torchrec"))
        print(
            f"{name:20} {f'{rate[1]:,.0f}' if rate else '-':>9}"
            f"  {'{1:6.2f}  ({0:.2f} to {2:.2f})'.format(*to_plain) if to_plain else '-':>23}"
            f"  {f'{to_torchrec[1]:.2f}' if to_torchrec else '-':>14}  {own.dropped:7}",
            flush=True,
        )
    return results


def first_step() -> dict[str, float]:
    """Seconds of the first training step of model S, compiled, and of the second."""
    workload = WORKLOADS["S"]
    batches = random_batches(workload)
    begin = time.perf_counter()
    step = ours(workload.trained_with(**OURS["ours-fp32-compiled"]), batches)
    step(0)
    first = time.perf_counter()
    step(1)
    return {"first": first - begin, "second": time.perf_counter() - first}


def start_up(repeats: int, threads: int) -> dict[str, Any]:
    """Medians over fresh processes: the import beyond torch; the first step with an empty and with a filled cache."""
    code = (
        "import time, torch; begin = time.perf_counter(); import dlrm_lib.training, dlrm_lib.model, dlrm_lib.dataset; "
        "import json; print(json.dumps(time.perf_counter() - begin))"
    )
    result: dict[str, Any] = {"import_beyond_torch_s": statistics.median(_fresh(code) for _ in range(3 * repeats))}
    code = (
        f"import json; from bench.command_line import keep_to; keep_to({threads}); "
        "from bench.train_cpu import first_step; print(json.dumps(first_step()))"
    )
    runs: dict[str, list[tuple[float, ...]]] = {"empty": [], "filled": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            for seconds in runs.values():
                begin = time.perf_counter()
                steps = _fresh(code, XDG_CACHE_HOME=cache)
                seconds.append((steps["first"], steps["second"], time.perf_counter() - begin))
    print(f"\nimporting dlrm_lib takes {result['import_beyond_torch_s']:.3f} s beyond torch")
    for state, seconds in runs.items():
        first, second, process = map(statistics.median, zip(*seconds, strict=True))
        result[f"{state}_cache"] = {"first_step_s": first, "second_step_s": second, "process_s": process}
        print(f"{state} cache: first step of S {first:.2f} s, second {second:.3f} s, whole process {process:.2f} s")
    return result


def _fresh(code: str, **environment: str) -> Any:
    """What the code prints as JSON in its last line, in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CI,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"A fresh process failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main(flags: Sequence[str] | None = None) -> None:
    """Measures, prints, and writes a record if asked to."""
    parser = command(__doc__)
    parser.add_argument("--models", type=listed(one_of(*WORKLOADS)), default="N,S,H")
    parser.add_argument(
        "--contestants", type=listed(one_of(*PEERS, *OURS)), help="plain and these; by default all there are"
    )
    parser.add_argument("--rounds", type=count, default=9, help="segments of each contestant; at most 5 for H")
    parser.add_argument("--seconds", type=positive, default=0.5, help="length of a segment")
    parser.add_argument("--most_rows", type=count, help="rows of the largest tables, where fewer are wanted")
    parser.add_argument("--starts", type=int, choices=range(10), default=3, help="fresh processes of each kind")
    parser.add_argument(
        "--set_up_peers", action="store_true", help="install TorchRec and FBGEMM into .venv-peers first"
    )
    arguments = parsed(parser, flags)
    if arguments.set_up_peers:
        set_up_peers(CI.parent)
    keep_to(arguments.cores)
    say_what_bf16_runs_on()
    if not torchrec_is_installed():
        print("TorchRec is not installed and left out; --set_up_peers installs it.")
    metrics: dict[str, Any] = {}
    models: dict[str, dict[str, Any]] = {}
    for name in arguments.models:
        workload, rounds = WORKLOADS[name], min(arguments.rounds, MOST_ROUNDS.get(name, arguments.rounds))
        if arguments.most_rows:
            workload = workload.capped(arguments.most_rows)
        training = {key: getattr(workload.training, key) for key in ("batch_size", "optimizer", "lr")}
        columns = {"cardinalities": workload.spec.cardinalities, "numerical": workload.spec.numerical}
        models[name] = {"rounds": rounds, **columns, **as_dict(workload.model), **training}
        print(f"\n{name}: batch {training['batch_size']}, {training['optimizer']}", flush=True)
        metrics[name] = compare(workload, rounds=rounds, seconds=arguments.seconds, wanted=arguments.contestants)
    if arguments.starts:
        metrics["start_up"] = start_up(arguments.starts, arguments.cores)
    config = {"segment_seconds": arguments.seconds, "models": models}
    if torchrec_is_installed():
        config |= {name: importlib.metadata.version(name) for name in ("torchrec", "fbgemm-gpu-cpu")}
    keep(arguments, what="training steps on the CPU beside their peers", config=config, metrics=metrics)


if __name__ == "__main__":
    sys.exit(ended(main))
