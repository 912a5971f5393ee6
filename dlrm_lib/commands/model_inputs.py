"""What train, test and inference_benchmark share: their flags, so that a line can be pasted from one to the other."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlrm_lib.commands.command import PATH, given_settings
from dlrm_lib.config import Config, as_dict, fields
from dlrm_lib.console import say
from dlrm_lib.errors import InputError
from dlrm_lib.files import is_mount
from dlrm_lib.locks import owned
from dlrm_lib.places import destination
from dlrm_lib.runs import Log, new_run
from dlrm_lib.settings import as_text

if TYPE_CHECKING:
    from dlrm_lib.dataset import Dataset
    from dlrm_lib.model import DLRM

SETTINGS = tuple(f.name for section, f in fields() if section in ("data", "model", "training", "inference"))

_SAVE_EVERY = 10.0


def _minutes(text: str) -> float:
    minutes = float(text) if re.fullmatch(r"[0-9]*\.?[0-9]+", text) else 0.0
    if not minutes:
        raise argparse.ArgumentTypeError(f"minutes above 0, such as 10 or 0.5, not {text!r}")
    return minutes


FLAGS = (
    ("--dataset", {**PATH, "default": Path("data/encoded"), "help": "folder of a data set (default: data/encoded)"}),
    ("--load_checkpoint_path", {**PATH, "help": "the trained model to start from, test or measure (default: none)"}),
    (
        "--save_checkpoint_path",
        {**PATH, "help": "where train keeps the model that is best on the validation split (default: none)"},
    ),
    (
        "--save_every",
        {
            "type": _minutes,
            "metavar": "MINUTES",
            "help": "with --save_checkpoint_path, minutes between two writings of the state that --resume takes up, "
            f"besides those after evaluations; they get longer where writing is slow (default: {_SAVE_EVERY:g})",
        },
    ),
    (
        "--resume",
        {
            "action": "store_true",
            "help": "go on with the training that was interrupted, from its state beside --save_checkpoint_path",
        },
    ),
    ("--output_dir", {**PATH, "help": "if given, where a relative --save_checkpoint_path begins (default: /tmp)"}),
    ("--log_path", {**PATH, "help": "JSON lines for programs, to this file instead of a kept run (default: none)"}),
    ("--runs_dir", {**PATH, "default": Path("runs"), "help": "where runs are kept (default: runs)"}),
)


def checkpoint_path(arguments: argparse.Namespace) -> Path | None:
    """Where the best model is to be kept.

    Raises:
        InputError: no file can be written there. It is better known before hours of training than after them.
    """
    path = arguments.save_checkpoint_path
    path = arguments.output_dir / path if path and arguments.output_dir else path
    if path:
        end = destination(writable(path, "--save_checkpoint_path"))
        above = next(above for above in end.parents if above.exists())
        found = f"{above} cannot be written to" if not os.access(above, os.W_OK) else None
        if end.exists() and (is_mount(end) or not end.is_file()):
            found = "a mount point" if is_mount(end) else "no regular file"
        if found:
            raise InputError(
                f"--save_checkpoint_path {path} cannot be replaced by a file that is written beside it.",
                found=found,
                remedy="Name a file in a folder that can be written to.",
            )
    return path


def minutes_between_states(arguments: argparse.Namespace) -> float:
    """How often a training state is kept.

    Raises:
        InputError: it is said, but there is no place for one.
    """
    if arguments.save_every and not arguments.save_checkpoint_path:
        raise InputError(
            "--save_every needs --save_checkpoint_path: there is no place for a training state.",
            found=f"--save_every {arguments.save_every:g}",
            remedy="Add --save_checkpoint_path PATH, or leave --save_every out.",
        )
    return arguments.save_every or _SAVE_EVERY


@contextlib.contextmanager
def kept(
    arguments: argparse.Namespace,
    kind: str,
    dataset: Dataset,
    *,
    device: str,
    given: Config,
    resolved: Config | None = None,
    steps: int | None = None,
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Keeps a run in ``--runs_dir``, or its log alone in ``--log_path``, while the block runs; yields what takes lines.

    Raises:
        InputError: nothing can be kept there, or another run writes to that log.
    """
    if arguments.log_path:
        path = writable(arguments.log_path, "--log_path")
        with owned(path, remedy="Wait until it is done, or name another --log_path."):
            yield Log(path, append=arguments.resume and kind == "train")
        return
    about = {
        "kind": kind,
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "preset": given.preset,
        "dataset": None if given.data.synthetic_dataset else str(arguments.dataset),
        "rows": {split.name: len(split) for split in (dataset.train, dataset.validation, dataset.test)},
        "device": device,
        "steps": steps,
    }
    config = {"given": as_dict(given), "resolved": resolved and as_dict(resolved), "asked": {}}
    with new_run(arguments.runs_dir, config=config, **about) as run:
        yield run.log
    say(f"run: {run.folder}")


def writable(path: Path, flag: str) -> Path:
    """The path, if a file can be written there.

    Raises:
        InputError: it cannot; names the flag.
    """
    end = path if os.path.exists(path) else destination(path)  # a dangling link is written through
    there = next(above for above in (end, *end.absolute().parents) if os.path.exists(above))
    if os.path.isdir(path) or (there != end and not os.path.isdir(there)) or not os.access(there, os.W_OK):
        found = "a folder" if os.path.isdir(path) else f"{there} cannot be written to"
        raise InputError(f"{flag} {path} is no place for a file.", found=found, remedy="Name another file.")
    return path


def opened_dataset(arguments: argparse.Namespace, config: Config) -> Dataset:
    """The data set of the command line, or random rows.

    Raises:
        InputError: no data set, or one that does not fit what the flags say of it.
    """
    from dlrm_lib.dataset import open_dataset, random_dataset, refuse_bags

    data = config.data
    if data.synthetic_dataset:
        return random_dataset(config)
    dataset = open_dataset(
        arguments.dataset,
        num_numerical_features=data.num_numerical_features,
        dataset_subset=data.dataset_subset,
    )
    refuse_bags(config)
    if arguments.num_numerical_features is not None and data.num_numerical_features != dataset.spec.numerical:
        raise InputError(
            f"{arguments.dataset} has another number of numerical columns than --num_numerical_features says.",
            found=f"{dataset.spec.numerical} in the data set, {data.num_numerical_features} on the command line",
            remedy="Leave --num_numerical_features out: the data set says it.",
        )
    return dataset


def loaded_model(arguments: argparse.Namespace, config: Config, dataset: Dataset) -> tuple[DLRM, Config]:
    """The model of ``--load_checkpoint_path``, and ``config`` with what that model is.

    Raises:
        InputError: no checkpoint for this data set, or a flag that describes another model.
    """
    from dlrm_lib.training import load_checkpoint

    path, config = arguments.load_checkpoint_path, config.for_rows(len(dataset.train))
    model, trained = load_checkpoint(path, dataset)
    remark_on_renamed(path, dataset)
    refuse_another_model(arguments, config, trained)
    return model, dataclasses.replace(config, model=trained.model)


def remark_on_renamed(path: Path, dataset: Dataset) -> None:
    """Says which columns of a data set a checkpoint knows by another name."""
    from dlrm_lib.training import renamed_columns

    for name, before in renamed_columns(path, dataset).items():
        say(f"remark: {name} has the values of {before}, as {path} calls it: taken for the same", file=sys.stderr)


def refuse_another_model(arguments: argparse.Namespace, config: Config, trained: Config) -> None:
    """Raises InputError where a flag describes another model than that of ``--load_checkpoint_path``."""
    for name in given_settings(arguments).keys() & as_dict(trained.model).keys():
        there, here = (as_text(getattr(of.model, name)) for of in (trained, config))
        if there != here:
            raise InputError(
                f"{arguments.load_checkpoint_path} has another {name} than --{name} says.",
                found=f"{there} in the checkpoint, {here} on the command line",
                remedy=f"Leave --{name} out: the checkpoint says it.",
            )
