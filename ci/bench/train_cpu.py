"""How fast DLRM trains on the CPU, beside the ordinary PyTorch program and beside TorchRec with FBGEMM.

    python ci/bench/train_cpu.py [--models N,S,H] [--contestants torchrec,ours-bf16-compiled] [--rounds 9] [--cores 2]
                                 [--set_up_peers] [--record PATH]

The models:

- N: NVIDIA's, on the cardinalities of Criteo's 24 days capped at 500,000 rows per table, batch 2,048, SGD;
- S: that of the preset `laptop` on the cardinalities of its data set, batch 2,048, SGD; numbers are not standardised,
  which the peers do not do either;
- H: Habana's Medium: bags of 38 ids from one table of 3,000,000 rows, batch 512, Adagrad.

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
that holds for a whole process, its peers here gain from it too: alone they are a little slower. N takes about 14 GiB of
memory with all contestants, H about 18.

The start is measured too, in fresh processes: what importing the library takes beyond torch, and the first training
step of model S, compiled, with an empty and with a filled cache of compiled code.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.train_peers import Contestant, Weights, linears, plain, torchrec, torchrec_is_installed
from set_up import set_up_peers

from dlrm_lib.clean_timing import Times, in_turn, quartiles, ratios
from dlrm_lib.config import Config, ModelConfig, TrainingConfig, as_dict
from dlrm_lib.dataset import Batch
from dlrm_lib.devices import pick
from dlrm_lib.errors import InputError
from dlrm_lib.features import CRITEO_TERABYTE, FeatureSpec
from dlrm_lib.model import DLRM
from dlrm_lib.records import write_record
from dlrm_lib.training import TrainStep

CI = Path(__file__).resolve().parents[1]
BATCHES = 8  # different ones that a segment cycles through


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A model and what it is trained on."""

    spec: FeatureSpec
    model: ModelConfig
    training: TrainingConfig


# What the preset `laptop` gives: its million synthetic rows, preprocessed with its settings.
LAPTOP = FeatureSpec(
    numerical=13,
    cardinalities=(
        *(982, 551, 2626, 2999, 301, 17, 1378, 601, 4, 1988, 966, 1838, 1379),
        *(27, 1640, 2689, 11, 1171, 945, 5, 2671, 18, 16, 2325, 91, 1380),
    ),
)
SGD = TrainingConfig(batch_size=2048, optimizer="sgd", lr=0.01)
WORKLOADS = {
    "N": Workload(
        spec=FeatureSpec(
            numerical=13, cardinalities=tuple(min(rows, 500_000) for rows in CRITEO_TERABYTE.cardinalities)
        ),
        model=Config.from_preset("criteo_terabyte").model,
        training=SGD,
    ),
    "S": Workload(spec=LAPTOP, model=Config.from_preset("laptop", {"standardise": False}).model, training=SGD),
    "H": Workload(
        spec=FeatureSpec(numerical=1024, cardinalities=(3_000_000,)),
        model=ModelConfig(
            embedding_dim=64,
            bottom_mlp_sizes=(1024, 1024, 64),
            top_mlp_sizes=(*[4096] * 7, 1),
            interaction_op="cat",
            num_indices_per_lookup=38,
        ),
        training=TrainingConfig(batch_size=512, optimizer="adagrad", lr=1e-5),
    ),
}
# How the library can be asked to train.
OURS = {
    "ours-fp32": {"precision": "fp32", "execution": "eager"},
    "ours-fp32-compiled": {"precision": "fp32", "execution": "compile"},
    "ours-bf16": {"precision": "bf16", "execution": "eager"},
    "ours-bf16-compiled": {"precision": "bf16", "execution": "compile"},
}


def ours(spec: FeatureSpec, model: ModelConfig, training: TrainingConfig) -> Callable[[Batch, float], torch.Tensor]:
    """The library as its users get it: a fresh model's ``step(batch, lr)``, which returns the loss.

    Raises:
        InputError: this CPU has no bf16.
    """
    return TrainStep(DLRM(spec, model), training, pick("cpu"))


def weights_of(network: DLRM, spec: FeatureSpec, model: ModelConfig) -> Weights:
    """The library's weights, without a copy of the tables and without what pads the top MLP's input."""
    vectors = len(spec.cardinalities) + 1
    pairs = vectors * (vectors - 1) // 2
    width = model.embedding_dim + pairs if model.interaction_op == "dot" else vectors * model.embedding_dim
    first, *others = linears(network.top)
    unpadded = torch.nn.Linear(width, first.out_features)
    with torch.no_grad():
        unpadded.weight.copy_(first.weight[:, :width])
        unpadded.bias.copy_(first.bias)
    tables = network.tables.weight[: sum(spec.cardinalities)].split(spec.cardinalities)
    return Weights(tables, linears(network.bottom), (unpadded, *others))


def random_batches(workload: Workload) -> list[Batch]:
    """Batches of random numbers, labels, and ids of which few are frequent, as where ids are ordered by frequency."""
    draw = torch.Generator().manual_seed(1)
    rows, cardinalities = workload.training.batch_size, torch.tensor(workload.spec.cardinalities).unsqueeze(1)
    bag = workload.model.num_indices_per_lookup
    batches = []
    for _ in range(BATCHES):
        uniform = torch.rand(rows, len(cardinalities), bag, generator=draw, dtype=torch.float64)
        ids = (cardinalities**uniform - 1).to(torch.int32)  # P(id) falls as 1 / (id + 1)
        numerical = torch.rand(rows, workload.spec.numerical, generator=draw)
        label = (torch.rand(rows, generator=draw) < 0.25).float()
        batches.append(Batch(numerical, ids if bag > 1 else ids.squeeze(2), label))
    return batches


def contestants(
    workload: Workload, batches: Sequence[Batch], wanted: Sequence[str] | None = None
) -> dict[str, Contestant]:
    """All that can be had here, or plain and the ``wanted``, warm; says what is left out and why."""
    spec, model, training = workload.spec, workload.model, workload.training
    torch.manual_seed(0)
    weights = weights_of(DLRM(spec, model), spec, model)
    builders: dict[str, Callable[[], Contestant]] = {"plain": lambda: plain(weights, batches, model, training)}
    if model.num_indices_per_lookup == 1:
        builders["dense"] = lambda: plain(weights, batches, model, training, sparse=False)
    if torchrec_is_installed():
        builders["torchrec"] = lambda: torchrec(weights, batches, model, training)
    builders |= {name: lambda how=how: _ours_from_seed_0(workload, batches, how) for name, how in OURS.items()}

    expected, found = None, {}
    for name, build in builders.items():
        if wanted and name not in ("plain", *wanted):
            continue
        try:
            step = build()
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


def _ours_from_seed_0(workload: Workload, batches: Sequence[Batch], how: dict[str, str]) -> Contestant:
    torch.manual_seed(0)
    step = ours(workload.spec, workload.model, replace(workload.training, **how))
    lr = workload.training.lr
    return lambda number: step(batches[number % len(batches)], lr)


def compare(workload: Workload, *, rounds: int, wanted: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """Samples per second of every contestant and its ratios to plain and TorchRec, as quartiles; printed as a table."""
    times = in_turn(contestants(workload, random_batches(workload), wanted), rounds=rounds)
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
    step = _ours_from_seed_0(workload, batches, OURS["ours-fp32-compiled"])
    step(0)
    first = time.perf_counter()
    step(1)
    return {"first": first - begin, "second": time.perf_counter() - first}


def start_up(repeats: int = 3) -> dict[str, Any]:
    """Medians over fresh processes: the import beyond torch; the first step with an empty and with a filled cache."""
    code = (
        "import time, torch; begin = time.perf_counter(); import dlrm_lib.training, dlrm_lib.model, dlrm_lib.dataset; "
        "import json; print(json.dumps(time.perf_counter() - begin))"
    )
    result: dict[str, Any] = {"import_beyond_torch_s": statistics.median(_fresh(code) for _ in range(3 * repeats))}
    code = (
        f"import json, torch; torch.set_num_threads({torch.get_num_threads()}); "
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


def processor() -> dict[str, bool]:
    """Which units for matrix products in low precision the processor has."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    flags = next(line for line in text.splitlines() if line.startswith("flags")).split()
    return {name: name in flags for name in ("avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16")}


def main() -> None:
    """Measures, prints, and writes a record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=lambda text: text.split(","), default="N,S,H")
    parser.add_argument("--contestants", type=lambda text: text.split(","), help="plain and these; by default all")
    parser.add_argument("--rounds", type=int, default=9, help="segments of each contestant; at most 5 for H")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument(
        "--set_up_peers", action="store_true", help="install TorchRec and FBGEMM into .venv-peers first"
    )
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    if arguments.set_up_peers:
        set_up_peers(CI.parent)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    torch.set_num_threads(arguments.cores)
    units = processor()
    print(f"{arguments.cores} threads on {', '.join(name for name, there in units.items() if there) or 'no AVX-512'}")
    if not units["amx_bf16"]:
        print("This processor has no AMX: bf16 products are not the fast ones here.")
    if not torchrec_is_installed():
        print("TorchRec is not installed and left out; --set_up_peers installs it.")
    metrics: dict[str, Any] = {}
    for name in arguments.models:
        workload = WORKLOADS[name]
        print(f"\n{name}: batch {workload.training.batch_size}, {workload.training.optimizer}", flush=True)
        rounds = min(arguments.rounds, 5) if name == "H" else arguments.rounds
        metrics[name] = compare(workload, rounds=rounds, wanted=arguments.contestants)
    metrics["start_up"] = start_up()
    if arguments.record:
        config = {
            "rounds": arguments.rounds,
            "threads": arguments.cores,
            "processor": units,
            "models": {
                name: {
                    "cardinalities": WORKLOADS[name].spec.cardinalities,
                    "numerical": WORKLOADS[name].spec.numerical,
                    **as_dict(WORKLOADS[name].model),
                    **{key: getattr(WORKLOADS[name].training, key) for key in ("batch_size", "optimizer", "lr")},
                }
                for name in arguments.models
            },
        }
        if torchrec_is_installed():
            config |= {name: importlib.metadata.version(name) for name in ("torchrec", "fbgemm-gpu-cpu")}
        write_record(
            arguments.record, what="training steps on the CPU beside their peers", config=config, metrics=metrics
        )


if __name__ == "__main__":
    main()
