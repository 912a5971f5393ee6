"""What a person reads while a command runs, and what a program reads from its log."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def progress_line(event: Any, epochs: int) -> str:
    """A ``training.Progress`` in the form of NVIDIA's running line, with its numbers in the same places."""
    left = datetime.timedelta(seconds=round((event.steps - event.step) * event.step_time))
    return (
        f"Epoch:[{event.epoch}/{epochs}] [{event.step}/{event.steps}]  eta: {left}  loss: {event.loss:.4f}  "
        f"step_time: {event.step_time:.6f}  lr: {event.lr:.4f}"
    )


def result_line(result: Any) -> str:
    """A ``training.Evaluation`` in one line."""
    auc = "undefined (one class)" if result.auc is None else f"{result.auc:.5f}"
    return f"{result.split}: AUC {auc}, log loss {result.log_loss:.5f}, rows {result.rows:,}"


def log_lines(path: Path) -> Callable[[dict[str, Any]], None]:
    """Starts a file of JSON lines and returns what appends to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("", encoding="utf-8")

    def append(line: dict[str, Any]) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    return append


def counter(unit: str) -> Callable[[int, int], None] | None:
    """A line on the terminal that counts up; nothing when nobody watches."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        print(f"\r{done:,} of {total:,} {unit}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    return show


def progress_bars(*, quiet: bool = False) -> Callable[[str, int, int], None] | None:
    """One bar after the other, in a notebook or on a terminal: done of total, time taken and left, rate.

    Args:
        quiet: Show nothing; neither is anything shown where the output is neither of the two.

    Returns:
        What to call with (phase, done, in all), or None.
    """
    if quiet or not (_in_notebook() or sys.stderr.isatty()):
        return None
    from tqdm.auto import tqdm

    bars: dict[str, tqdm] = {}

    def show(phase: str, done: int, total: int) -> None:
        bar = bars.get(phase)
        if bar is None or bar.n > done:
            unit = " columns" if phase == "counting" else " rows"
            bar = bars[phase] = tqdm(desc=f"{phase:>10}", total=total, unit=unit, unit_scale=True, mininterval=0)
        bar.update(done - bar.n)
        if done == total:
            bar.close()

    return show


def _in_notebook() -> bool:
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return type(shell).__name__ == "ZMQInteractiveShell"
