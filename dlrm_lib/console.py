"""What a person reads while a command runs, and what a program reads from its log."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

# What the bar of a phase counts; rows, where nothing else is said.
_UNITS = {"counting": "columns", "training": "steps"}


def progress_line(event: Any, epochs: int) -> str:
    """A ``training.Progress`` in the form of NVIDIA's running line, with its numbers in the same places."""
    left = datetime.timedelta(seconds=round((event.steps - event.step) * event.step_time))
    return (
        f"Epoch:[{event.epoch}/{epochs}] [{event.step}/{event.steps}]  eta: {left}  loss: {event.loss:.4f}  "
        f"step_time: {event.step_time:.6f}  lr: {event.lr:{'.4f' if event.lr >= 1e-4 else '.4g'}}"
        + ("" if event.accuracy is None else f"  accuracy: {event.accuracy:.4f}")
    )


def result_line(result: Any) -> str:
    """A ``training.Evaluation`` in one line."""
    auc = "undefined (one class)" if result.auc is None else f"{result.auc:.5f}"
    error = f" ± {result.auc_error:.1g}" if result.auc_error else ""
    more = {"normalised entropy": result.normalised_entropy, "calibration": result.calibration}
    rest = "".join(f", {name} {value:.4f}" for name, value in more.items() if value is not None)
    return f"{result.split}: AUC {auc}{error}, log loss {result.log_loss:.5f}{rest}, rows {result.rows:,}"


def latency_table(latencies: list[Any]) -> str:
    """A ``benchmark.Latency`` per line, in milliseconds and rows per second."""
    head = f"{'batch':>10}{'mean ms':>12}{'p50 ms':>12}{'p95 ms':>12}{'p99 ms':>12}{'rows/s':>16}"
    lines = (
        f"{one.batch_size:>10,}"
        + "".join(f"{seconds * 1e3:>12.3f}" for seconds in (one.mean, one.p50, one.p95, one.p99))
        + f"{one.throughput:>16,.0f}"
        for one in latencies
    )
    return "\n".join((head, *lines))


def log_lines(path: Path, *, append: bool = False) -> Callable[[dict[str, Any]], None]:
    """Starts a file of JSON lines, or goes on with it, and returns what writes a line to it at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not append:
        path.write_text("", encoding="utf-8")

    def write(line: dict[str, Any]) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    return write


def say(text: str, *, file: TextIO | None = None) -> None:
    """Prints a line for people, above the progress bar where there is one; by default to stdout."""
    tqdm = sys.modules.get("tqdm")
    (tqdm.tqdm.write if tqdm else print)(text, file=file)


def progress_bars(*, quiet: bool = False) -> Callable[[str, int, int], None] | None:
    """One bar after the other, in a notebook or on a terminal: done of total, time taken and left, rate.

    Args:
        quiet: Show nothing; neither is anything shown where the output is neither of the two, or tqdm is not there.

    Returns:
        What to call with (phase, done, in all), or None.
    """
    if quiet or not (_in_notebook() or sys.stderr.isatty()):
        return None
    try:
        from tqdm.auto import tqdm
    except ImportError:  # training needs no more than the core
        return None

    bars: dict[str, tqdm] = {}

    def show(phase: str, done: int, total: int) -> None:
        bar = bars.get(phase)
        if bar is None or bar.n > done:
            unit = f" {_UNITS.get(phase, 'rows')}"
            bar = bars[phase] = tqdm(desc=f"{phase:>10}", total=total, unit=unit, unit_scale=True, mininterval=0)
        bar.update(done - bar.n)
        if done == total:
            bar.close()

    return show


def _in_notebook() -> bool:
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return type(shell).__name__ == "ZMQInteractiveShell"
