"""The command ``runs``: the kept runs as a list, beside each other, or as curves."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dlrm_lib.commands.command import PATH, Command
from dlrm_lib.console import say
from dlrm_lib.errors import InputError
from dlrm_lib.runs import KeptRun, chosen, kept_runs
from dlrm_lib.settings import as_text

_KINDS_OF_TRAINING = ("train", "lab")
_MOST_CURVES = 6  # as many colours as can be told apart


def runs(arguments: argparse.Namespace) -> None:
    """Lists the kept runs, newest last; compares those that are named; or draws their curves."""
    found, unreadable = kept_runs(arguments.runs_dir)
    for sentence in unreadable:
        say(sentence, file=sys.stderr)
    named = chosen(found, arguments.names)
    if arguments.plot:
        path = arguments.runs_dir / "curves.png"
        _draw(named or found, path)
        say(f"curves: {path}")
    elif named:
        say(_compared(named))
    elif found:
        say(_listed(found))
    else:
        say(f"No run is kept in {arguments.runs_dir}.")


def _listed(found: Iterable[KeptRun]) -> str:
    head = ("id", "date (UTC)", "kind", "state", "preset", "rows", "best AUC", "test AUC", "seconds")
    lines = [
        (
            run.id,
            _date(run),
            run.about["kind"],
            run.about["state"],
            run.given["preset"],
            f"{run.about['rows']['train']:,}",
            _auc(run.about["best"]),
            _auc(run.tested),
            _seconds(run),
        )
        for run in found
    ]
    return _table([head, *lines], right=5)


def _compared(named: Sequence[KeptRun]) -> str:
    """What differs between the settings of the runs, and what they reached; of one run, its command too."""
    about = {
        "date (UTC)": _date,
        "kind": lambda run: run.about["kind"],
        "state": lambda run: run.about["state"],
        "data set": lambda run: run.about["dataset"] or "random rows",
        "rows": lambda run: f"{run.about['rows']['train']:,}",
    }
    results = {
        "best AUC": lambda run: _auc(run.about["best"]),
        "at step": lambda run: f"{run.about['best']['step']:,}" if run.about["best"] else "",
        "last AUC": lambda run: _auc(run.about["last"]),
        "last log loss": lambda run: _number(run.about["last"], "log_loss"),
        "normalised entropy": lambda run: _number(run.about["last"], "normalised_entropy"),
        "test AUC": lambda run: _auc(run.tested),
        "test log loss": lambda run: _number(run.tested, "log_loss"),
        "steps": lambda run: f"{run.about['step']:,}",
        "seconds": _seconds,
    }
    settings = [run.settings for run in named]
    differing = [
        name
        for name in dict.fromkeys(name for of in settings for name in of)
        if len({as_text(of.get(name)) for of in settings}) > 1
    ]
    rows = [("", *(run.id for run in named))]
    rows += [(name, *map(text, named)) for name, text in about.items()]
    rows += [(f"--{name}", *(_setting(of, name) for of in settings)) for name in differing]
    rows += [(name, *map(text, named)) for name, text in results.items()]
    remarks = [
        f"{run.id}: {remark}" for run in named for remark in (run.about["failure"], *run.about["remarks"]) if remark
    ]
    command = [named[0].about["command"]] if len(named) == 1 else []
    return "\n".join([_table(rows, right=1), *remarks, *command])


def _draw(found: Iterable[KeptRun], path: Path) -> None:
    """Draws the last few of the trainings that were evaluated.

    Raises:
        InputError: there is none, or nothing to draw with.
    """
    trainings = [run for run in found if run.about["kind"] in _KINDS_OF_TRAINING and run.about["best"]]
    if not trainings:
        raise InputError(
            "There is no curve to draw.",
            found="no training with an evaluation on the validation split",
            remedy="Train on a data set with validation rows first; `python -m dlrm_lib runs` lists what there is.",
        )
    try:
        from dlrm_lib.files import new_file
        from dlrm_lib.plots.tuning import compared
    except ImportError as error:
        raise InputError("Curves need matplotlib.", found=str(error), remedy="pip install -e .[notebook]") from None
    shown = trainings[-_MOST_CURVES:]
    if len(shown) < len(trainings):
        say(f"The last {len(shown)} of {len(trainings)} trainings; name others by their ids.")
    curves = {run.id: _curve(run) for run in shown}
    with new_file(path) as partial:
        compared(curves, shown[0].about["best"]["base_log_loss"]).savefig(partial, format="png", dpi=150)


def _curve(run: KeptRun) -> SimpleNamespace:
    """What ``compared`` draws of a run."""
    evaluations = [SimpleNamespace(**line) for line in run.lines("evaluation") if line["split"] == "validation"]
    progress = [SimpleNamespace(**line) for line in run.lines("progress")]
    about = run.about
    return SimpleNamespace(
        progress=progress, evaluations=evaluations, steps=about["steps"], step=about["step"], state=about["state"]
    )


def _table(rows: Sequence[Sequence[str]], *, right: int) -> str:
    """Columns side by side, those from ``right`` on flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if at >= right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
    return "\n".join(lines)


def _date(run: KeptRun) -> str:
    return run.about["began"][:19].replace("T", " ")


def _seconds(run: KeptRun) -> str:
    seconds = run.about["seconds"]
    return f"{seconds:,.{0 if seconds >= 10 else 1}f}" if math.isfinite(seconds) else ""


def _auc(evaluation: dict[str, Any] | None) -> str:
    return "" if evaluation is None else "one class" if evaluation["auc"] is None else f"{evaluation['auc']:.4f}"


def _number(evaluation: dict[str, Any] | None, name: str) -> str:
    return "" if evaluation is None or evaluation[name] is None else f"{evaluation[name]:.4f}"


def _setting(settings: dict[str, Any], name: str) -> str:
    value = settings.get(name)
    return as_text(tuple(value) if isinstance(value, list) else value)


RUNS = Command(
    name="runs",
    run=runs,
    help="the kept runs: list them, compare the settings and results of some, draw their curves",
    flags=(
        ("names", {"nargs": "*", "metavar": "ID", "help": "runs to compare, by their ids; default: list all"}),
        ("--plot", {"action": "store_true", "help": "draw the curves to curves.png beside the runs"}),
        ("--runs_dir", {**PATH, "default": Path("runs"), "help": "where runs are kept (default: runs)"}),
    ),
)
