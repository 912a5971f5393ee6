"""What a command is: its function, the settings it takes, and flags of its own."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlrm_lib.config import Config
from dlrm_lib.errors import InputError
from dlrm_lib.files import contents, put_back

PATH: dict[str, Any] = {"type": Path, "metavar": "PATH"}
OVERWRITE = ("--overwrite", {"action": "store_true", "help": "replace what is there"})

# NVIDIA's flags that say with another word what a setting of ours says: their setting, and its value.
ALIASES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "base_device": ("device", str),
    "fp16": ("precision", lambda on: "fp16" if on else "fp32"),
}


@dataclass(frozen=True, kw_only=True)
class Command:
    """One word behind ``python -m dlrm_lib``.

    Attributes:
        name: The word.
        run: Does it, from the parsed flags.
        help: A sentence for the list of commands.
        settings: Configuration fields that it takes, by name.
        flags: Flags of its own, with what argparse is told about them.
    """

    name: str
    run: Callable[[argparse.Namespace], None]
    help: str
    settings: tuple[str, ...] = ()
    flags: tuple[tuple[str, dict[str, Any]], ...] = ()


def configuration(arguments: argparse.Namespace) -> Config:
    """The preset with what was given on the command line.

    Raises:
        InputError: an unknown preset, a value outside its range, or an alias that contradicts its setting.
    """
    return Config.from_preset(arguments.preset, given_settings(arguments))


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings on the command line, without those of the preset."""
    given = {name: getattr(arguments, name) for name in arguments.settings}
    given = {name: value for name, value in given.items() if value is not None}
    for alias, (name, meaning) in ALIASES.items():
        said = getattr(arguments, alias, None)
        if said is None:
            continue
        value = meaning(said)
        if given.setdefault(name, value) != value:
            spelled = f"--{'' if said else 'no'}{alias}" if isinstance(said, bool) else f"--{alias} {said}"
            raise InputError(
                f"--{alias} and --{name} are two names for one setting, and say different things.",
                found=f"{spelled} (--{name} {value}), --{name} {given[name]}",
                remedy="Give one of the two.",
            )
    return given


def refuse_several_processes() -> None:
    """Raises InputError where a launcher (torchrun, mpirun) has started this process as one of several.

    Each would do the whole work, and write it to the same places.
    """
    for name in ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        processes = os.environ.get(name, "")
        if processes.isdigit() and int(processes) > 1:
            raise InputError(
                "This program runs as one process, and was started as several.",
                found=f"{name}={processes}",
                remedy=f"Start it without torchrun or mpirun (`env -u {name} python -m dlrm_lib …`).",
            )


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raises InputError where something is in the place of an output."""
    put_back(path)
    if path.exists() and not overwrite and (not path.is_dir() or contents(path)):
        raise InputError(f"{path} is there already.", remedy="Choose another --output, or add --overwrite.")
