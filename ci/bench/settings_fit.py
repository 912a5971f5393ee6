"""Whether the default settings fit the number of rows: `laptop` beside `criteo_kaggle` and logistic regression.

    python ci/bench/settings_fit.py --record figures/records/settings_fit.json

For each number of rows and each seed, synthetic rows of eight days are generated, encoded by each preset's own settings
and trained on with them, as the commands of the README do; logistic regression learns from what the default encodes. A
seed gives a pair its rows, their planted signal, the initial weights, and all of a pair see the same rows.

Of a few thousand rows the last day holds too few to tell two models apart. So it holds at least ``--held_out`` rows,
half of them for the test; the validation rows, which the best model is chosen by, are as few as the rows would give.

What is finished is kept beside the record: the same command goes on where it was interrupted.
"""

from __future__ import annotations

import itertools
import json
import shutil
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.command_line import WORK_DIR, command, count, ended, keep, keep_to, listed, parsed, writable

from dlrm_lib.baselines import logistic_regression
from dlrm_lib.config import Config, as_dict, digest
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.files import write_text
from dlrm_lib.metrics import auc
from dlrm_lib.preprocess import preprocess
from dlrm_lib.records import versions
from dlrm_lib.synthetic import generate
from dlrm_lib.training import Evaluation, build, evaluate, fit

ROWS, SEEDS, DAYS, HELD_OUT = "5000,20000,100000,300000,1000000,4000000", range(1, 6), 8, 40_000
DEFAULT, BESIDE, REGRESSION = "laptop", "criteo_kaggle", "logistic regression"
# What the default must reach, and from how many rows on it must not be below logistic regression.
BELOW, REGRESSION_FROM = 0.002, 50_000


def raw_rows(folder: Path, rows: int, seed: int, held_out: int) -> Path:
    """Synthetic rows in ``folder``, of which the last day has ``held_out`` at least."""
    of_day = max(rows // DAYS, held_out)
    config = Config.from_preset(DEFAULT, {"rows": DAYS * of_day, "days": DAYS, "data_seed": seed})
    generate(folder, config.synthetic)
    for day in range(DAYS - 1):
        with (folder / f"day_{day}").open("r+b") as file:
            file.truncate(sum(map(len, itertools.islice(file, rows // DAYS))))
    return folder


def encoded(raw: Path, preset: str, rows: int) -> EncodedDataset:
    """What a preset makes of raw rows, with validation rows for as many as there would be of so many rows."""
    config = Config.from_preset(preset).preprocess
    settled = config.for_rows(rows // DAYS * (DAYS - 1))
    folder = raw.with_name(f"{raw.name}-{digest(as_dict(settled))}")  # two presets may encode alike
    if not folder.exists():
        preprocess(raw, folder, config)
    dataset = EncodedDataset(folder)
    dataset.validation = dataset.validation.first(rows // DAYS // 2)
    return dataset


def trained(config: Config, dataset: EncodedDataset) -> dict[str, Any]:
    """The test AUC of the model that is best on the validation rows, which is the one that ``train`` keeps."""
    training = build(config, dataset)
    best, tested = None, None
    for event in fit(training):
        if isinstance(event, Evaluation) and (best is None or (event.auc or 0) > best):
            best = event.auc or 0
            tested = evaluate(training.inference, dataset.test, batch_size=32_768, step=event.step)
    return {
        "auc": tested.auc,
        "normalised_entropy": tested.normalised_entropy,
        "step": tested.step,
        "steps": training.steps,
        "model": as_dict(training.config.model),
        "training": as_dict(training.settings),
    }


def one_pair(rows: int, seed: int, held_out: int, work_dir: Path) -> dict[str, Any]:
    """An entry of the record's ``runs``; its data are removed."""
    raw = raw_rows(work_dir / f"settings_fit_{rows}_{seed}", rows, seed, held_out)
    run: dict[str, Any] = {"rows": rows, "seed": seed}
    try:
        for preset in (DEFAULT, BESIDE):
            dataset = encoded(raw, preset, rows)
            config = Config.from_preset(preset, {"seed": seed, "device": "cpu"})
            run[preset] = {**trained(config, dataset), "preprocess": dataset.manifest.config}
            if preset == DEFAULT:
                run[REGRESSION] = {"auc": auc(np.asarray(dataset.test.label), logistic_regression(dataset))}
    finally:
        for folder in (raw, *raw.parent.glob(f"{raw.name}-*")):
            shutil.rmtree(folder)
    return run


def summary(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each number of rows: mean AUCs, the default's mean paired lead, and whether it is as good as it must be."""
    found = []
    for rows in sorted({run["rows"] for run in runs}):
        of = [run for run in runs if run["rows"] == rows]
        leads = {name: [run[DEFAULT]["auc"] - run[name]["auc"] for run in of] for name in (BESIDE, REGRESSION)}
        mean = {name: statistics.fmean(values) for name, values in leads.items()}
        found.append(
            {
                "rows": rows,
                "seeds": [run["seed"] for run in of],
                "auc": {
                    name: statistics.fmean(run[name]["auc"] for run in of) for name in (DEFAULT, BESIDE, REGRESSION)
                },
                "lead": mean,
                "leads": leads,
                "fits": mean[BESIDE] >= -BELOW and (rows < REGRESSION_FROM or mean[REGRESSION] >= 0),
            }
        )
    return found


def report(of: dict[str, Any]) -> str:
    """One number of rows, for people."""
    aucs = ", ".join(f"{name} {value:.4f}" for name, value in of["auc"].items())
    leads = " and ".join(f"{lead:+.4f} over {name}" for name, lead in of["lead"].items())
    return (
        f"{of['rows']:>9,} rows, {len(of['seeds'])} seeds: {aucs}; {leads}: {'fits' if of['fits'] else 'does not fit'}"
    )


def main(flags: Sequence[str] | None = None) -> None:
    """Measures, prints, and writes the record."""
    parser = command(__doc__, record_needed=True)
    parser.add_argument("--rows", type=listed(count), default=ROWS, help="numbers of rows, held-out ones included")
    parser.add_argument("--seeds", nargs="+", type=count, default=list(SEEDS))
    parser.add_argument("--held_out", type=count, default=HELD_OUT, help="rows of the last day, at least")
    parser.add_argument("--work_dir", type=Path, default=WORK_DIR, help="where the data are made")
    arguments = parsed(parser, flags)
    writable("--work_dir", arguments.work_dir, folder=True)
    keep_to(arguments.cores)
    kept = arguments.record.with_suffix(".unfinished")
    presets = {name: as_dict(Config.from_preset(name)) for name in (DEFAULT, BESIDE)}
    finished = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    runs = []
    for rows, seed in itertools.product(arguments.rows, arguments.seeds):
        key = digest([presets, rows, seed, arguments.held_out, versions()])
        if key not in finished:
            finished[key] = one_pair(rows, seed, arguments.held_out, arguments.work_dir)
            write_text(kept, json.dumps(finished))
        runs.append(finished[key])
        if seed == arguments.seeds[-1]:
            print(report(summary([run for run in runs if run["rows"] == rows])[0]), flush=True)
    settings = {
        "repeats": f"{len(arguments.seeds)} seeds of each number of rows",
        "warmup": "nothing is timed",
        "seed_decides": "the rows and their signal, and the initial weights",
        "held_out_rows": arguments.held_out,
        "presets": presets,
    }
    metrics = {"runs": runs, "summary": summary(runs)}
    keep(arguments, what="AUC of the default settings over numbers of rows", config=settings, metrics=metrics)
    kept.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(ended(main))
