"""What training on all clicks and a share of the other rows costs in quality, and saves in time.

    python ci/bench/negative_rate.py --record figures/records/negative_rate.json

A seed gives synthetic rows with a planted signal, which rows without a click are kept, and the initial weights. Its
rows are encoded once for each ``negative_rate``, from 1 (all rows) down, and trained on in turn with the settings that
the preset gives to so many rows; the last model is judged on the same test rows, none of which is left out. Only the
training steps are timed. Calibration is the clicks predicted for each that happened; it is compared with that of the
model trained on all rows of the same seed: on average over the seeds it must be within 1 % of it.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.command_line import WORK_DIR, command, count, ended, keep, keep_to, listed, parsed, share, writable

from dlrm_lib.benchmark import Spread
from dlrm_lib.config import PRESETS, Config, as_dict
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.preprocess import preprocess
from dlrm_lib.synthetic import generate
from dlrm_lib.training import Progress, build, evaluate, fit

RATES, SEEDS, WITHIN = "0.5,0.25,0.1", range(1, 6), 0.01
ALL = 1.0


def trained(config: Config, dataset: EncodedDataset) -> dict[str, Any]:
    """The last model of a training, judged on the test rows, and the seconds of its steps."""
    training = build(config, dataset)
    began, seconds = time.perf_counter(), 0.0
    for event in fit(training):
        if isinstance(event, Progress):
            seconds = time.perf_counter() - began  # the evaluation comes behind the last one
    found = evaluate(training.inference, dataset.test, batch_size=32_768, step=training.steps)
    return {
        "rows": len(dataset.train),
        "steps": training.steps,
        "batch_size": training.settings.batch_size,
        "seconds": seconds,
        **{name: getattr(found, name) for name in ("auc", "log_loss", "normalised_entropy", "calibration")},
    }


def one_seed(preset: Config, seed: int, rates: Sequence[float], work_dir: Path) -> list[dict[str, Any]]:
    """A run for each rate, ``ALL`` first; its data are removed."""
    folder, runs = work_dir / f"negative_rate_{seed}", []
    of_seed = preset.override(data_seed=seed, shuffle_seed=seed, seed=seed)
    try:
        generate(folder / "raw", of_seed.synthetic)
        for rate in (ALL, *rates):
            config = of_seed.override(negative_rate=rate)
            preprocess(folder / "raw", folder / "encoded", config.preprocess)
            runs.append({"seed": seed, "negative_rate": rate, **trained(config, EncodedDataset(folder / "encoded"))})
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return runs


def summary(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each rate: means over the seeds, its calibration beside that of all rows, and whether that is near enough."""
    calibration = {run["seed"]: run["calibration"] for run in runs if run["negative_rate"] == ALL}
    found = []
    for rate in sorted({run["negative_rate"] for run in runs}, reverse=True):
        of = [run for run in runs if run["negative_rate"] == rate]
        ratio = statistics.fmean(run["calibration"] / calibration[run["seed"]] for run in of)
        names = ("rows", "auc", "log_loss", "normalised_entropy", "calibration")
        found.append(
            {
                "negative_rate": rate,
                **{name: statistics.fmean(run[name] for run in of) for name in names},
                "seconds": vars(Spread.of(run["seconds"] for run in of)),
                "calibration_to_all": ratio,
                "calibrated": abs(ratio - 1) <= WITHIN,
            }
        )
    return found


def report(of: dict[str, Any]) -> str:
    """One rate, for people."""
    return (
        f"rate {of['negative_rate']:<5g} {of['rows']:>11,.0f} rows, {of['seconds']['median']:7.1f} s: AUC "
        f"{of['auc']:.5f}, log loss {of['log_loss']:.5f}, calibration {of['calibration']:.4f}, "
        f"{of['calibration_to_all']:.4f} of that of all rows: {'calibrated' if of['calibrated'] else 'NOT calibrated'}"
    )


def main(flags: Sequence[str] | None = None) -> None:
    """Measures, prints, and writes a record if asked to."""
    parser = command(__doc__)
    parser.add_argument("--preset", choices=list(PRESETS), default="laptop", help="rows and settings")
    parser.add_argument("--rows", type=count, help="synthetic rows, held-out ones included; by default the preset's")
    parser.add_argument("--rates", type=listed(share), default=RATES, help="besides 1")
    parser.add_argument("--seeds", nargs="+", type=count, default=list(SEEDS))
    parser.add_argument("--work_dir", type=Path, default=WORK_DIR, help="where the data are made")
    arguments = parsed(parser, flags)
    writable("--work_dir", arguments.work_dir, folder=True)
    keep_to(arguments.cores)
    config = Config.from_preset(arguments.preset, {"test_freq": 10**9, "print_freq": 10**9, "device": "cpu"})
    if arguments.rows:
        config = config.override(rows=arguments.rows)
    runs = []
    for seed in arguments.seeds:
        runs += one_seed(config, seed, arguments.rates, arguments.work_dir)
        print(f"seed {seed} is done", flush=True)
    metrics = {"runs": runs, "summary": summary(runs)}
    for of_rate in metrics["summary"]:
        print(report(of_rate))
    settings = {
        "repeats": f"{len(arguments.seeds)} seeds of each rate",
        "warmup": "none: whole trainings are timed, reading included, evaluation not",
        "seed_decides": "the rows and their signal, the rows that are kept, and the initial weights",
        "preset": as_dict(config),
    }
    keep(arguments, what="training on a share of the non-clicks", config=settings, metrics=metrics)


if __name__ == "__main__":
    sys.exit(ended(main))
