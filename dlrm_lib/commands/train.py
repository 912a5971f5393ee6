"""The command ``train``: what ``fit`` tells goes to people, to the log and into checkpoints."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlrm_lib.commands.command import Command, configuration, refuse_several_processes
from dlrm_lib.commands.model_inputs import (
    FLAGS,
    SETTINGS,
    checkpoint_path,
    kept,
    minutes_between_states,
    opened_dataset,
    refuse_another_model,
    remark_on_renamed,
)
from dlrm_lib.commands.report import Report
from dlrm_lib.config import Config, as_dict
from dlrm_lib.console import say
from dlrm_lib.errors import InputError
from dlrm_lib.locks import owned
from dlrm_lib.process import prepare

if TYPE_CHECKING:
    from dlrm_lib.dataset import Dataset
    from dlrm_lib.training import Origin, Results, Training


def train(arguments: argparse.Namespace) -> None:
    """Trains a model, keeps the one that is best on the validation split, and tests the last and the best.

    Raises:
        KeyboardInterrupt: Ctrl-C; with ``--save_checkpoint_path`` the training state is written before.
    """
    refuse_several_processes()
    with contextlib.ExitStack() as stack:
        _train(arguments, stack)


def _train(arguments: argparse.Namespace, stack: contextlib.ExitStack) -> None:
    """As ``train``; ``stack`` holds the places that are written to, and the run that is kept."""
    config, path = configuration(arguments), checkpoint_path(arguments)
    minutes = minutes_between_states(arguments)
    prepare(config)
    from dlrm_lib.training import Evaluation, SaveClock, StateDue, fit, stop_on_interrupt

    dataset = opened_dataset(arguments, config)
    _own(stack, path, arguments.log_path)
    training, results, origin = _start(arguments, config, dataset)
    step = training.step
    log = stack.enter_context(_kept(arguments, config, training))
    log(
        {
            "what": "train",
            "device": training.backend.description,
            "step": step.done,
            "negative_rate": training.model.negative_rate,
            **({"origin": dataclasses.asdict(origin)} if origin else {}),
            **{name: dataclasses.asdict(event) for name, event in vars(results).items() if event},
            "config": as_dict(training.config),
        }
    )
    clock = SaveClock(minutes)
    if origin:
        say(str(origin), file=sys.stderr)
    _remark_before(training)
    report = Report(training, results, path, clock, log)
    with stop_on_interrupt() as interrupted:
        for event in fit(training, stop=interrupted.is_set, state_due=clock.due if path else lambda: False):
            if isinstance(event, StateDue):
                report.keep_state_if_possible()
                continue
            log({"what": type(event).__name__.lower(), **dataclasses.asdict(event)})
            if isinstance(event, Evaluation):
                if results.add(event):
                    report.keep_model(dataclasses.asdict(event))
                report.keep_state()
            if not interrupted.is_set():  # else the terminal may be gone, and the state comes first
                report.tell(event)
    if interrupted.is_set():
        report.keep_state()
        if path:
            place = " in the place of --load_checkpoint_path" if arguments.load_checkpoint_path else ""
            say(f"Kept after step {step.done}: the same command with --resume{place} goes on there.", file=sys.stderr)
        raise KeyboardInterrupt
    if results.best is None:
        report.keep_model({"step": step.done})
    report.keep_state()
    log({"what": "result", **report.summary(), **report.test(), "remarks": report.remarks})
    for remark in report.remarks:
        say(f"remark: {remark}")
    if path:
        report.refuse_foreign_model()
        worthless = results.best and results.best.is_no_better_than_the_base_rate
        but = ", though no better than the base rate" if worthless else ""
        say(f"saved: {path} (the {'best' if results.best else 'last'} model{but})")


def _remark_before(training: Training) -> None:
    """Says what of the schedule and of the columns does not fit, before time is spent on it."""
    from dlrm_lib.optim import course, misfits

    done, steps, settings = training.step.done, training.steps, training.settings
    if done:
        say(f"Resumed. {course(settings, steps, done)}", file=sys.stderr)
    if (rate := training.model.negative_rate) < 1:
        say(f"The loss in training is that of all clicks and {rate:g} of the other rows; evaluations are of all rows.")
    about_limits = training.dataset.manifest.about_limits()
    about_steps = list(misfits(settings, steps, done))
    for remark in (*about_steps, *([about_limits] if about_limits else [])):
        say(f"remark: {remark}", file=sys.stderr)
    if about_steps:
        shares = "give these settings as shares of the training, below 1, which fit any number of steps."
        anew = "start a new run from the model with --load_checkpoint_path: it has a schedule of its own."
        say(f"  remedy: {anew if done else shares}", file=sys.stderr)


def _own(stack: contextlib.ExitStack, path: Path | None, log: Path | None) -> None:
    """Keeps other runs from the model's file and its state's; the log's keeps ``kept``.

    Raises:
        InputError: another run writes there, or two of the three are one file.
    """
    from dlrm_lib.training import state_path

    if not path:
        return
    places = [path, state_path(path)]
    if log and log.resolve() in [place.resolve() for place in places]:
        raise InputError(
            "--log_path is the file of the model or of its training state.",
            found=log,
            remedy="Name another file for the log.",
        )
    for place in places:
        stack.enter_context(owned(place, remedy="Wait until it is done, or name another --save_checkpoint_path."))


def _kept(
    arguments: argparse.Namespace, config: Config, training: Training
) -> contextlib.AbstractContextManager[Callable[[dict[str, Any]], None]]:
    given = dataclasses.replace(config, model=training.config.model) if arguments.load_checkpoint_path else config
    return kept(
        arguments,
        "train",
        training.dataset,
        device=training.backend.description,
        given=given,
        resolved=training.config,
        steps=training.steps,
    )


def _start(arguments: argparse.Namespace, config: Config, dataset: Dataset) -> tuple[Training, Results, Origin | None]:
    """A training of a new model or of one from a checkpoint, or all that an interrupted run had."""
    from dlrm_lib.backends import pick
    from dlrm_lib.training import Results, build, further, load_state, state_path

    backend = pick(config.training.device, config.training.execution)
    if arguments.resume:
        path = checkpoint_path(arguments)
        if not path or arguments.load_checkpoint_path:
            raise InputError(
                "--resume goes on from the training state beside --save_checkpoint_path, and from nothing else.",
                found="--load_checkpoint_path" if path else "no --save_checkpoint_path",
                remedy="Repeat the command that was interrupted, with --resume and without --load_checkpoint_path.",
            )
        return *load_state(state_path(path), config, dataset, backend), None
    if arguments.load_checkpoint_path:
        training, origin = further(arguments.load_checkpoint_path, config, dataset, backend)
        remark_on_renamed(arguments.load_checkpoint_path, dataset)
        refuse_another_model(arguments, config.for_rows(len(dataset.train)), training.config)
        return training, Results(), origin
    return build(config, dataset, backend=backend), Results(), None


TRAIN = Command(name="train", run=train, help="train a DLRM on an encoded data set", settings=SETTINGS, flags=FLAGS)
