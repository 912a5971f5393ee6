"""What a model is worth that was trained in 16 bit: the AUC of many seeds in fp32, bf16 and fp16, paired by seed.

    python ci/bench/stability.py --record figures/records/stability.json

The model of the preset `laptop` learns the preset's synthetic rows on the CPU. All runs see the same rows. A seed gives
a run its initial weights and the order of its batches; runs of one seed in different precisions have both in common.
16 bit is that of the matrix products, with a static loss scale for fp16; weights, embeddings and sums stay fp32. All
models are judged in fp32, on all validation rows some ten times and on the test rows at the end: the last model, and
the one that was best on the validation rows.

Trainings run side by side, each in one thread, which decides about the last bits of a result; their speed is not
looked at. Each that has finished is kept beside the record: the same command goes on where it was interrupted.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import multiprocessing
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.build import processor
from bench.command_line import WORK_DIR, command, count, ended, keep, parsed, processor_on, writable

from dlrm_lib.backends.inference import Inference
from dlrm_lib.config import PRESETS, Config, as_dict, digest
from dlrm_lib.dataset import Dataset, EncodedDataset, Split
from dlrm_lib.errors import InputError
from dlrm_lib.files import write_text
from dlrm_lib.metrics.equivalence import AUC_BOUND, distance, equivalence
from dlrm_lib.process import prepare
from dlrm_lib.records import versions
from dlrm_lib.training import Evaluation, Training, build, evaluate, fit
from dlrm_lib.workspace import Workspace

SEEDS = range(1, 17)
PRECISIONS = ("fp32", "bf16", "fp16")
EVALUATIONS = 12


def configurations(config: Config, seeds: Sequence[int], precisions: Sequence[str]) -> list[Config]:
    """Of all runs, seed by seed, so that an interrupted measurement has whole pairs."""
    return [
        config.override(precision=precision, seed=seed, shuffle_rows=False, shuffle_batch_order=True)
        for seed in seeds
        for precision in precisions
    ]


def settled(config: Config, rows: int) -> Config:
    """What the settings come to on so many training rows."""
    return dataclasses.replace(config.for_rows(rows), preprocess=config.preprocess.for_rows(rows))


def one_run(config: Config, folder: Path) -> dict[str, Any]:
    """Trains one model in one thread and judges it in fp32: an entry of the record's ``runs``."""
    config = config.override(device="cpu")
    prepare(config)
    torch.set_num_threads(1)
    dataset = EncodedDataset(folder)
    training = unjudged(config, dataset)
    model = training.model
    inference = training.backend.inference(model, "fp32", training.settings.execution)
    curve, best, best_weights = [], None, {}
    for progress in fit(training):
        validation = _judged(inference, dataset.validation, progress.step)
        curve.append(
            {
                "step": progress.step,
                "train_loss": progress.loss,
                "validation_auc": validation.auc,
                "validation_log_loss": validation.log_loss,
            }
        )
        if best is None or validation.auc > best.auc:
            best, best_weights = validation, copy.deepcopy(model.state_dict())
    last = _judged(inference, dataset.test, progress.step)
    model.load_state_dict(best_weights)
    of_best = _judged(inference, dataset.test, best.step)
    return {
        "precision": training.settings.precision,
        "seed": training.settings.seed,
        "curve": curve,
        "best_step": best.step,
        "skipped_steps": progress.skipped,
        "test_best": {"auc": of_best.auc, "log_loss": of_best.log_loss},
        "test_last": {"auc": last.auc, "log_loss": last.log_loss},
    }


def unjudged(config: Config, dataset: Dataset) -> Training:
    """A training that yields some ten times, at the end for the last time, when the model is to be judged.

    ``fit`` judges in the precision of the training; without validation rows it judges nothing.
    """
    rows = len(dataset.train)
    steps = config.for_rows(rows).training.steps(rows)
    dataset = copy.copy(dataset)
    dataset.validation = dataset.validation.first(0)
    return build(config.override(print_freq=max(1, -(-steps // EVALUATIONS)), test_freq=steps), dataset)


def _judged(inference: Inference, split: Split, step: int) -> Evaluation:
    return evaluate(inference, split, batch_size=32_768, step=step)


def measure(
    config: Config, folder: Path, *, seeds: Sequence[int], precisions: Sequence[str], processes: int, kept: Path
) -> dict[str, Any]:
    """The record's metrics. Runs that ``kept`` holds of the same configuration, data and versions are not repeated.

    Raises:
        InputError: the CPU lacks a precision, or the splits lack rows or a class.
    """
    dataset = EncodedDataset(folder)
    for split in (dataset.validation, dataset.test):
        if not 0 < dataset.manifest.clicks[split.name] < len(split):
            raise InputError(f"{split.folder} has no clicks, or nothing else: no AUC can be computed of it.")
    for precision in precisions:
        processor().resolved_precision(precision)
    facts = [dataclasses.asdict(dataset.manifest), versions()]
    wanted = {digest([as_dict(one), *facts]): one for one in configurations(config, seeds, precisions)}
    finished = _kept(kept)
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))
    try:
        runs = {pool.submit(one_run, of, folder): key for key, of in wanted.items() if key not in finished}
        for future in as_completed(runs):
            finished[runs[future]] = run = future.result()
            write_text(kept, json.dumps(finished))
            print(
                f"{run['precision']:>5} seed {run['seed']:<3} test AUC: last {run['test_last']['auc']:.5f}, "
                f"best {run['test_best']['auc']:.5f} (step {run['best_step']})",
                flush=True,
            )
    finally:
        pool.shutdown(cancel_futures=True)
    found = [finished[key] for key in wanted]
    return {"runs": found, "summary": summary(found), "equivalence": compared_with_fp32(found)}


def _kept(path: Path) -> dict[str, dict[str, Any]]:
    """Key → a finished run."""
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not what an interrupted run leaves.", found=error, remedy="Remove it.") from None


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of each precision: mean, standard deviation and range over the seeds."""
    found: dict[str, Any] = {}
    for precision in dict.fromkeys(run["precision"] for run in runs):
        found[precision] = {}
        for which in ("last", "best"):
            for metric in ("auc", "log_loss"):
                values = [value for _, value in _by_seed(runs, precision, which, metric)]
                found[precision][f"test_{which}_{metric}"] = {
                    "mean": statistics.fmean(values),
                    "sd": statistics.stdev(values) if len(values) > 1 else None,
                    "low": min(values),
                    "high": max(values),
                    "seeds": len(values),
                }
    return found


def compared_with_fp32(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of each 16-bit precision: whether the last model's AUC is equivalent to that of fp32, and how alike they spread.

    ``sd_ratio`` is that of the standard deviations over seeds; ``ks_distance`` is Kolmogorov's and Smirnov's.
    """
    fp32 = [value for _, value in _by_seed(runs, "fp32", "last", "auc")]
    others = [precision for precision in dict.fromkeys(run["precision"] for run in runs) if precision != "fp32"]
    found = {}
    for precision in others if len(fp32) > 1 else ():
        aucs = [value for _, value in _by_seed(runs, precision, "last", "auc")]
        spread = {"sd_ratio": statistics.stdev(aucs) / statistics.stdev(fp32), "ks_distance": distance(aucs, fp32)}
        found[precision] = {**equivalence(aucs, fp32, bound=AUC_BOUND)._asdict(), **spread}
    return found


def _by_seed(runs: Sequence[dict[str, Any]], precision: str, which: str, metric: str) -> list[tuple[int, float]]:
    return sorted((run["seed"], run[f"test_{which}"][metric]) for run in runs if run["precision"] == precision)


def report(metrics: dict[str, Any]) -> str:
    """The summary for people."""
    lines = [f"{'':>5} {'last: mean':>11} {'sd':>8} {'range':>19}   {'best: mean':>10} {'sd':>8}"]
    for precision, of in metrics["summary"].items():
        last, best = of["test_last_auc"], of["test_best_auc"]
        lines.append(
            f"{precision:>5} {last['mean']:>11.5f} {last['sd'] or 0:>8.5f} {last['low']:.5f} to {last['high']:.5f}"
            f"   {best['mean']:>10.5f} {best['sd'] or 0:>8.5f}"
        )
    for precision, of in metrics["equivalence"].items():
        verdict = "equivalent" if of["equivalent"] else "not shown to be equivalent"
        lines.append(
            f"{precision} less fp32: {of['difference']:+.6f}, 90 % between {of['low']:+.6f} and {of['high']:+.6f}: "
            f"{verdict} within ±{of['bound']} (p = {of['p']:.1g})"
        )
    return "\n".join(lines)


def main(flags: Sequence[str] | None = None) -> None:
    """Measures, prints, and writes the record."""
    parser = command(__doc__, record_needed=True)
    parser.add_argument("--preset", choices=PRESETS, default="laptop")
    parser.add_argument("--work_dir", type=Path, default=WORK_DIR, help="where the data are, or are made")
    parser.add_argument("--seeds", nargs="+", type=count, default=list(SEEDS))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    arguments = parsed(parser, flags)
    writable("--work_dir", arguments.work_dir, folder=True)
    processor_on(arguments.cores)
    config = Config.from_preset(arguments.preset)
    dataset = Workspace(arguments.work_dir, config).encoded()
    kept = arguments.record.with_suffix(".unfinished")
    metrics = measure(
        config,
        dataset.folder,
        seeds=arguments.seeds,
        precisions=arguments.precisions,
        processes=arguments.cores,
        kept=kept,
    )
    print(report(metrics))
    settings = {
        "repeats": f"{len(arguments.seeds)} seeds of each precision",
        "warmup": "nothing is timed",
        "seed_decides": "initial weights and order of the batches; the same in each precision",
        "judged_in": "fp32",
        "threads_per_run": 1,
        **as_dict(settled(config, len(dataset.train))),
    }
    keep(arguments, what="AUC over seeds and precisions", config=settings, metrics=metrics)
    kept.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(ended(main))
