"""Whether another version of the library trains as fast on this machine: whole trainings of both, in turn.

    python ci/bench/same_speed.py --code OLD_CHECKOUT

Like ``same_bits.py`` it goes through the command line alone. Batches are held in memory, the learning rate is 0, and
the first steps do not count. A pair is one training of each version, one after the other; the median of their ratios
is printed. Two threads; about twelve minutes for seven pairs of the four models.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from dlrm_lib.features import CRITEO_TERABYTE

RANDOM = ["--synthetic_dataset", "--preload_batches=8", "--lr=0", "--device=cpu"]
SIZES = ",".join(str(min(rows, 500_000)) for rows in CRITEO_TERABYTE.cardinalities)
SMALL = ",".join(str(min(rows, 3_000)) for rows in CRITEO_TERABYTE.cardinalities)
# Steps in all, steps that do not count, and the flags of each model.
MODELS = {
    "N": (14, 4, ["--preset=criteo_terabyte", "--batch_size=2048", f"--synthetic_dataset_table_sizes={SIZES}"]),
    "S": (600, 50, ["--preset=laptop", f"--synthetic_dataset_table_sizes={SMALL}"]),
    "H": (5, 1, ["--preset=gaudi_medium", "--precision=fp32"]),
    "criteo_kaggle": (
        600,
        50,
        ["--preset=criteo_kaggle", "--batch_size=256", f"--synthetic_dataset_table_sizes={SMALL}"],
    ),
    "smoke": (40, 10, ["--preset=smoke", "--synthetic_dataset_table_sizes=100,100"]),
}


def samples_per_second(code: Path, model: str) -> float:
    """The average of one training by the library in a checkout, in a process of its own."""
    steps, warmup, flags = MODELS[model]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.json")
        how = [f"--max_steps={steps}", f"--benchmark_warmup_steps={warmup}", "--print_freq=100000", f"--log_path={log}"]
        command = [sys.executable, "-m", "dlrm_lib", "train", *flags, *RANDOM, *how]
        environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "2"}
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        return json.loads(log.read_text(encoding="utf-8").splitlines()[-1])["average_train_throughput"]


def main(argv: list[str] | None = None) -> None:
    here = Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--code", type=Path, required=True, help="the other checkout")
    parser.add_argument("--pairs", type=int, default=7, help="of trainings of each model (default: 7)")
    parser.add_argument(
        "--models", nargs="+", choices=MODELS, default=["N", "S", "H", "criteo_kaggle"], help="which (default: four)"
    )
    arguments = parser.parse_args(argv)
    print(f"{'model':14} {'other':>10} {'this':>10}   this / other, median (all)")
    for model in arguments.models:
        pairs = [
            (samples_per_second(arguments.code.resolve(), model), samples_per_second(here, model))
            for _ in range(arguments.pairs)
        ]
        ratios = sorted(new / old for old, new in pairs)
        old, new = (statistics.median(speeds) for speeds in zip(*pairs, strict=True))
        listed = " ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"{model:14} {old:10,.0f} {new:10,.0f}   {statistics.median(ratios):.3f} ({listed})", flush=True)


if __name__ == "__main__":
    main()
