"""What the benches share whose records the results are drawn from: two models, their command line, their end."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from bench.train_cpu import LAPTOP, WORKLOADS, Workload, processor

from dlrm_lib.config import Config, as_dict
from dlrm_lib.devices import Device, pick
from dlrm_lib.errors import InputError
from dlrm_lib.records import write_record

WORK_DIR = Path("ci/output/bench")  # data that benches make, for those that come after


def workloads(most_rows: int) -> dict[str, Workload]:
    """Models and trainings of two presets on columns as the laptop's, and NVIDIA's on Criteo's, with capped tables."""
    laptop, kaggle, nvidia = Config.from_preset("laptop"), Config.from_preset("criteo_kaggle"), WORKLOADS["N"]
    capped = tuple(min(ids, most_rows) for ids in nvidia.spec.cardinalities)
    return {
        "laptop": Workload(spec=LAPTOP, model=laptop.model, training=laptop.training),
        "kaggle": Workload(spec=LAPTOP, model=kaggle.model, training=kaggle.training),
        "nvidia": replace(nvidia, spec=replace(nvidia.spec, cardinalities=capped)),
    }


def described(workload: Workload) -> dict[str, Any]:
    """A workload as a record's ``config`` has it."""
    return {
        "cardinalities": list(workload.spec.cardinalities),
        "numerical": workload.spec.numerical,
        "model": as_dict(workload.model),
        "training": as_dict(workload.training),
    }


def count(text: str) -> int:
    """A whole number from 1 on, for ``argparse``."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return int(text)


def command(module_doc: str) -> argparse.ArgumentParser:
    """The command line of a bench, with what all of them take."""
    parser = argparse.ArgumentParser(
        description=module_doc.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--record", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--cores", type=count, default=2, help="cores to use, one thread on each")
    return parser


def device_on(cores: int) -> Device:
    """The processor, with a thread on each of so many of the cores that this process may use, and on no other."""
    usable = sorted(os.sched_getaffinity(0))
    if cores > len(usable):
        raise InputError("--cores is more than this process may use.", found=cores, remedy=f"Use 1 to {len(usable)}.")
    os.sched_setaffinity(0, usable[:cores])
    torch.set_num_threads(cores)
    return pick("cpu")


def say_what_bf16_runs_on() -> None:
    """Speeds in bf16 mean little without it."""
    if not processor()["amx_bf16"]:
        print("This processor has no AMX: bf16 products are not the fast ones here.", flush=True)


def keep(arguments: argparse.Namespace, *, what: str, config: dict[str, Any], metrics: dict[str, Any]) -> None:
    """Writes the record."""
    config = {"cores": arguments.cores, "processor": processor(), **config}
    write_record(arguments.record, what=what, config=config, metrics=metrics)
    print(f"written: {arguments.record}")


def ended(main: Callable[[], None]) -> int:
    """Runs a bench; 2 and the error's sentence if something is wrong with what it was given."""
    try:
        main()
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0
