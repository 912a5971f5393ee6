"""A new day every night: a model that is trained further, beside one trained anew on all days, and one left alone.

    python ci/bench/day_by_day.py --record figures/records/day_by_day.json

The synthetic rows of `laptop` come day by day. A first model learns the first days, by the preset. From then on, at the
end of each day, there are three models, and all of them predict the first half of the next day, which none has seen:

- the first one, **trained further** on the day alone, in one pass: its vocabulary was extended by what is frequent now;
- one **trained anew** on all days so far, encoded anew, by the preset;
- the first one, **left as it was**: ids that came later are unseen values to it.

A day's values are new in part: rare ones live for six days. What they tell about clicks does not change, so the gain of
training further is that of more rows and of ids that are known. Seconds are those of encoding (once for all seeds; the
next day, held out, is in it) and of training, without evaluation and without the start of Spark.
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

from bench.build import processor
from bench.command_line import WORK_DIR, command, count, ended, keep, keep_to, parsed, writable

from dlrm_lib.backends.inference import Inference
from dlrm_lib.config import Config, as_dict
from dlrm_lib.dataset import Dataset, EncodedDataset
from dlrm_lib.errors import InputError
from dlrm_lib.preprocess import preprocess
from dlrm_lib.synthetic import generate
from dlrm_lib.training import (
    Results,
    Training,
    build,
    evaluate,
    fit,
    further,
    load_checkpoint,
    save_checkpoint,
    save_state,
    state_path,
)

PRESET, FIRST_DAYS, SEEDS = "laptop", 2, (1, 2, 3)
FURTHER, ANEW, LEFT = "trained further", "trained anew", "left as it was"
# Chosen on the second halves of days 3 to 5, with seed 1, where the first model, left as it was, has a mean AUC of
# 0.8001. These give 0.8022, batch_factor 0.5 gives 0.8020; with the preset's decay of embeddings it is 0.7992, and with
# its lr of 0.01 as well, 0.7899.
ONE_PASS: dict[str, Any] = {
    "epochs": 1,
    "lr": 0.001,
    "batch_factor": 1.0,
    "embedding_decay": 0.0,
    "interaction_lasso": 0.0,
}


def encoded(raw: Path, days: range, folder: Path, config: Config, **vocabulary: Any) -> tuple[EncodedDataset, float]:
    """Some days of the raw rows, of which the last is held out, and the seconds it took to encode them."""
    of_days = folder.with_name(f"{folder.name}_raw")
    of_days.mkdir(parents=True)
    for number, day in enumerate(days):
        (of_days / f"day_{number}").symlink_to((raw / f"day_{day}").resolve())
    began = time.perf_counter()
    preprocess(of_days, folder, config.preprocess, **vocabulary)
    seconds = time.perf_counter() - began
    dataset = EncodedDataset(folder)
    dataset.validation = dataset.validation.first(0)  # so that training evaluates nothing
    return dataset, seconds


def trained(training: Training) -> float:
    """Trains to the end; the seconds that took."""
    began = time.perf_counter()
    list(fit(training))
    return time.perf_counter() - began


def left_at(path: Path, training: Training) -> None:
    """Keeps a model and the state beside it, as the command ``train`` does."""
    save_checkpoint(path, training, metrics={"step": training.step.done})
    save_state(state_path(path), training, Results())


def judged(inference: Inference, dataset: Dataset) -> dict[str, Any]:
    """What a model is worth on the next day."""
    found = evaluate(inference, dataset.test, batch_size=32_768)
    return {"auc": found.auc, "log_loss": found.log_loss}


def as_it_was(path: Path, dataset: Dataset, config: Config) -> dict[str, Any]:
    """What the model of a checkpoint is worth on the next day of its lineage."""
    model, _ = load_checkpoint(path, dataset)
    return judged(processor().inference(model, "fp32", config.training.execution), dataset)


def measure(raw: Path, work: Path, config: Config, *, first_days: int, seeds: Sequence[int]) -> dict[str, Any]:
    """The record's metrics, printed day by day."""
    configs = {seed: config.override(seed=seed) for seed in seeds}
    first, today = ({seed: work / f"{name}_{seed}.safetensors" for seed in seeds} for name in ("first", "today"))
    dataset, encoding = encoded(raw, range(first_days + 1), work / f"day_{first_days}", config)
    found = []
    for seed in seeds:
        training = build(configs[seed], dataset)
        seconds = trained(training)
        for place in (first[seed], today[seed]):
            left_at(place, training)
        found.append({"seconds": seconds, **judged(training.inference, dataset)})
    one = _model(dataset, encoding, found)
    days = [_day(first_days, dataset, dict.fromkeys((FURTHER, ANEW, LEFT), one))]
    for day in range(first_days + 1, config.synthetic.days):
        dataset, encoding = encoded(
            raw, range(day - 1, day + 1), work / f"day_{day}", config, vocabulary=dataset.folder, extend=True
        )
        all_days, encoding_all = encoded(raw, range(day + 1), work / "all_days", config)
        models: dict[str, list[dict[str, Any]]] = {FURTHER: [], ANEW: [], LEFT: []}
        for seed, one_config in configs.items():
            training, origin = further(today[seed], one_config.override(**ONE_PASS), dataset)
            seconds = trained(training)
            left_at(today[seed], training)
            models[FURTHER].append({"seconds": seconds, **judged(training.inference, dataset)})
            training = build(one_config, all_days)
            seconds = trained(training)
            models[ANEW].append({"seconds": seconds, **judged(training.inference, all_days)})
            models[LEFT].append({"seconds": 0.0, **as_it_was(first[seed], dataset, one_config)})
        facts = {
            FURTHER: _model(dataset, encoding, models[FURTHER]) | {"new_ids": sum(origin.new_ids.values())},
            ANEW: _model(all_days, encoding_all, models[ANEW]),
            LEFT: _model(dataset, 0.0, models[LEFT]) | {"rows": 0},
        }
        days.append(_day(day, dataset, facts))
        for folder in (all_days.folder, *work.glob("*_raw")):
            shutil.rmtree(folder)
    return {"first_days": first_days, "days": days}


def _model(dataset: Dataset, encoding: float, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of one model on one day: rows it was trained on for it, and for each seed its AUC, log loss and seconds."""
    return {
        "rows": len(dataset.train),
        "encode_seconds": encoding,
        "train_seconds": [of["seconds"] for of in found],
        "auc": [of["auc"] for of in found],
        "log_loss": [of["log_loss"] for of in found],
    }


def _day(day: int, dataset: Dataset, models: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """An entry of ``days``, and a line of the table."""
    said = []
    for name, of in models.items():
        seconds = of["encode_seconds"] + statistics.median(of["train_seconds"])
        said.append(f"{name} {statistics.fmean(of['auc']):.4f} ({seconds:.1f} s)")
    print(f"day {day}: {', '.join(said)}", flush=True)
    return {"day": day, "tested_rows": len(dataset.test), "models": models}


def main(flags: Sequence[str] | None = None) -> None:
    """Measures, prints, and writes the record."""
    parser = command(__doc__)
    usual = Config.from_preset(PRESET).synthetic
    parser.add_argument("--rows", type=count, default=usual.rows, help="rows of all days together")
    parser.add_argument("--days", type=count, default=usual.days, help="days, the last only to be predicted")
    parser.add_argument("--first_days", type=count, default=FIRST_DAYS, help="days that the first model learns from")
    parser.add_argument("--seeds", nargs="+", type=count, default=list(SEEDS))
    parser.add_argument("--work_dir", type=Path, default=WORK_DIR, help="where the data are made")
    arguments = parsed(parser, flags)
    writable("--work_dir", arguments.work_dir, folder=True)
    if arguments.days <= arguments.first_days:
        raise InputError(
            "--first_days leaves no day to be predicted.",
            found=f"{arguments.first_days} of {arguments.days} days",
            remedy="Give more --days, or fewer --first_days.",
        )
    keep_to(arguments.cores)
    config = Config.from_preset(PRESET, {"rows": arguments.rows, "days": arguments.days, "device": "cpu"})
    work = arguments.work_dir / "day_by_day"
    try:
        generate(work / "raw", config.synthetic, workers=arguments.cores)
        encoded(work / "raw", range(2), work / "warmup", config)  # starts Spark and its workers, and compiles
        metrics = measure(work / "raw", work, config, first_days=arguments.first_days, seeds=arguments.seeds)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    settings = {
        "repeats": f"{len(arguments.seeds)} seeds",
        "seed_decides": "initial weights and order of the rows",
        "warmup": "two days encoded",
        "further": ONE_PASS,
        **as_dict(config),
    }
    keep(arguments, what="AUC on the next day of models trained day by day", config=settings, metrics=metrics)


if __name__ == "__main__":
    sys.exit(ended(main))
