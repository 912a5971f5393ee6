"""Records in the shapes that the benches write, with made-up numbers: what is drawn from records is tested on them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from dlrm_lib.metrics.equivalence import equivalence
from dlrm_lib.records import write_record

_SEEDS = range(1, 17)


def write_records(checkout: Path, folder: Path) -> None:
    """The checkout's own records, and made-up ones in the place of those that the results are drawn from."""
    shutil.copytree(checkout / "figures" / "records", folder, dirs_exist_ok=True)
    for name, found in made_up().items():
        path = folder / f"{name}.json"
        write_record(
            path,
            what=name,
            config={"repeats": 3, "processor": {"amx_bf16": False}},
            metrics=found,
            command=f"python ci/bench/{name}.py",
        )


def made_up() -> dict[str, dict[str, Any]]:
    """Name of a record → its metrics."""
    return {
        "stability": _stability(),
        "day_by_day": _days(),
        "time_to_auc": {
            "target": 0.79,
            "runs": [
                {"name": f"laptop, {name}", "precision": name, "seconds": _spread(value), "steps": _spread(900)}
                | {"reached": 3}
                for name, value in (("fp32", 6.1), ("bf16", 8.9))
            ],
        },
        "throughput": {
            "models": {
                "laptop": _speeds(90e3, ("fp32", "bf16", "fp16")),
                "kaggle": _speeds(50e3, ("fp32", "bf16")),
                "nvidia": _speeds(9e3, ("fp32", "bf16")),
            }
        },
        "inference": {"models": {"laptop": _latencies(2e-6), "kaggle": _latencies(4e-6), "nvidia": _latencies(3e-5)}},
        "cost": {
            "rows": [_cost(10**power, 4e5, 5e7) for power in (4, 5, 6, 7)],
            "table_rows": [_cost(10**power, 4e5 - 3e4 * power, 64.0 * 10**power) for power in (4, 5, 6, 7)],
            "embedding_dim": [_cost(2**power, 4e5 / power, 2e6 * 2**power) for power in (3, 4, 5, 6, 7)],
        },
    }


def _stability() -> dict[str, Any]:
    runs = []
    for precision, worse in (("fp32", 0.0), ("bf16", 0.0001), ("fp16", 0.0)):
        for seed in _SEEDS:
            luck = np.random.default_rng((seed, len(precision), int(worse * 1e4))).normal(0, 0.0003)
            auc = 0.7892 + luck - worse
            curve = [
                {"step": step, "train_loss": 0.46, "validation_auc": auc - 30 / step, "validation_log_loss": 0.45}
                for step in (300, 600, 900, 1200)
            ]
            last = {"auc": auc, "log_loss": 0.458}
            runs.append(
                {"precision": precision, "seed": seed, "curve": curve, "best_step": 1200, "test_best": last}
                | {"test_last": last}
            )
    of = {name: [r["test_last"]["auc"] for r in runs if r["precision"] == name] for name in ("fp32", "bf16", "fp16")}
    summary = {
        name: {
            kind: {"mean": np.mean(a), "sd": np.std(a, ddof=1), "low": min(a), "high": max(a), "seeds": len(a)}
            for kind in ("test_last_auc", "test_best_auc")
        }
        for name, a in of.items()
    }
    found = {name: equivalence(of[name], of["fp32"], bound=0.001)._asdict() for name in ("bf16", "fp16")}
    return {"runs": runs, "summary": summary, "equivalence": found}


def _days() -> dict[str, Any]:
    names = {"trained further": 0.004, "trained anew": 0.005, "left as it was": -0.001}
    return {
        "first_days": 2,
        "days": [
            {"day": day, "tested_rows": 1000}
            | {
                "models": {
                    name: {
                        "rows": 2000,
                        "encode_seconds": 0.0 if gain < 0 else 1.5 * at,
                        "train_seconds": [0.0] * 3 if gain < 0 else [2.0 * at, 2.5 * at, 4.0 * at],
                        "auc": [0.75 + gain * at, 0.751 + gain * at, 0.753 + gain * at],
                        "log_loss": [0.5, 0.5, 0.5],
                    }
                    for name, gain in names.items()
                }
            }
            for at, day in enumerate((2, 3, 4))
        ],
    }


def _speeds(rate: float, precisions: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {"precision": precision, "batch_size": size, "dropped": 0}
        | {"samples_per_second": _spread(rate * (1 - 0.2 * at) * size / (size + 300))}
        for at, precision in enumerate(precisions)
        for size in (128, 512, 2048, 8192, 32768)
    ]


def _latencies(per_row: float) -> list[dict[str, Any]]:
    points = []
    for precision, slower in (("fp32", 1.0), ("bf16", 1.3)):
        for size in (4**power for power in range(8)):
            p50 = 1e3 * slower * (2e-4 + per_row * size)
            points.append(
                {"precision": precision, "batch_size": size, "p50_ms": p50, "p95_ms": 1.1 * p50, "p99_ms": 1.3 * p50}
                | {"samples_per_second": size / p50 * 1e3}
            )
    return points


def _cost(value: float, rate: float, table: float) -> dict[str, Any]:
    return {"value": value, "samples_per_second": _spread(rate), "memory_bytes": 3 * table + 2e8} | {
        "table_bytes": table,
        "optimizer_bytes": 2 * table,
    }


def _spread(median: float) -> dict[str, float]:
    return {"median": median, "low": 0.95 * median, "high": 1.04 * median, "repeats": 3}
