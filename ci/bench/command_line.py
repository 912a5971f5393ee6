"""The command line of a bench: what all of them take and refuse, the cores they keep to, their record, their end."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from bench.build import processor

from dlrm_lib.backends.backend import Backend
from dlrm_lib.config import Config
from dlrm_lib.errors import InputError
from dlrm_lib.process import prepare
from dlrm_lib.records import write_record

Value = TypeVar("Value")

WORK_DIR = Path("ci/output/bench")  # data that benches make, for those that come after


def count(text: str) -> int:
    """A whole number from 1 on, for ``argparse``."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return int(text)


def positive(text: str) -> float:
    """A number above 0, for ``argparse``."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"a number above 0, not {text!r}")
    return number


def share(text: str) -> float:
    """A number between 0 and 1, neither of them included, for ``argparse``."""
    number = positive(text)
    if number >= 1:
        raise argparse.ArgumentTypeError(f"a number between 0 and 1, not {text!r}")
    return number


def listed(of: Callable[[str], Value]) -> Callable[[str], list[Value]]:
    """Several values in one argument, separated by commas, for ``argparse``."""

    def values(text: str) -> list[Value]:
        return [of(part) for part in text.split(",")]

    return values


def one_of(*names: str) -> Callable[[str], str]:
    """One of these names, for ``argparse``."""

    def name(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"one of {', '.join(names)}, not {text!r}")
        return text

    return name


def command(module_doc: str, *, record_needed: bool = False) -> argparse.ArgumentParser:
    """The command line of a bench, with what all of them take."""
    parser = argparse.ArgumentParser(
        description=module_doc.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--record", type=Path, required=record_needed, help="the JSON file to write")
    parser.add_argument("--cores", type=count, default=2, help="cores to use, one thread on each")
    return parser


def parsed(parser: argparse.ArgumentParser, flags: Sequence[str] | None) -> argparse.Namespace:
    """The arguments, looked at before hours of measuring: the record can be written, and there are so many cores.

    Raises:
        InputError: it cannot, or there are not.
    """
    arguments = parser.parse_args(flags)
    if arguments.record:
        writable("--record", arguments.record, folder=False)
    if arguments.cores > (usable := len(os.sched_getaffinity(0))):
        raise InputError("--cores is more than this process may use.", found=arguments.cores, remedy=f"1 to {usable}.")
    return arguments


def writable(flag: str, path: Path, *, folder: bool) -> None:
    """Makes sure that a file or folder can be made at the path, where there may be one already.

    Raises:
        InputError: it cannot.
    """
    if path.exists() and path.is_dir() != folder:
        wanted, is_there = ("folder", "file") if folder else ("file", "folder")
        raise InputError(f"{flag} must name a {wanted}.", found=f"{path}, a {is_there}", remedy="Name another one.")
    above = path.absolute() if folder else path.absolute().parent
    while not above.exists():
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK):
        what = "is no folder" if not above.is_dir() else "cannot be written to"
        raise InputError(f"{flag} {path} cannot be made.", found=f"{above} {what}", remedy="Name another place.")


def keep_to(cores: int) -> None:
    """This process and those it starts use so many of the cores that they may use, a thread of torch on each.

    It trains as a command's process does (see ``dlrm_lib.process``), but for the core that is left to others there, and
    for how threads wait, which OpenMP has read by now: that matters where something else wants the cores (``busy.py``).
    """
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    prepare(Config().override(device="cpu"))
    torch.set_num_threads(cores)


def processor_on(cores: int) -> Backend:
    """The processor, with a thread on each of so many of the cores that this process may use, and on no other."""
    keep_to(cores)
    return processor()


def units() -> dict[str, bool]:
    """Which units for matrix products in low precision the processor has."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    return {name: name in flags for name in ("avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16")}


def say_what_bf16_runs_on() -> None:
    """Speeds in bf16 mean little without it."""
    if not units()["amx_bf16"]:
        print("This processor has no AMX: bf16 products are not the fast ones here.", flush=True)


def keep(arguments: argparse.Namespace, *, what: str, config: dict[str, Any], metrics: dict[str, Any]) -> None:
    """Writes the record, if one is asked for."""
    if arguments.record:
        config = {"cores": arguments.cores, "processor": units(), **config}
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
