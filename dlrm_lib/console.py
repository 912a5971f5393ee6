"""What a person reads while a command runs."""

from __future__ import annotations

import contextlib
import datetime
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TextIO, cast

# What the bar of a phase counts; rows, where nothing else is said.
_UNITS = {"counting": "columns", "training": "steps"}

# What writing to a pipe without a reader, or to a terminal that was closed, ends with.
_GONE = {errno.EPIPE, errno.EIO, errno.EBADF}


def progress_line(event: Any, epochs: int) -> str:
    """A ``training.Progress`` in the form of NVIDIA's running line, with its numbers in the same places."""
    left = datetime.timedelta(seconds=round((event.steps - event.step) * event.step_time))
    return (
        f"Epoch:[{event.epoch}/{epochs}] [{event.step}/{event.steps}]  eta: {left}  loss: {event.loss:.4f}  "
        f"step_time: {event.step_time:.6f}  lr: {event.lr:{'.4f' if event.lr >= 1e-4 else '.4g'}}"
        + ("" if event.accuracy is None else f"  accuracy: {event.accuracy:.4f}")
    )


def auc_text(auc: float | None, interval: tuple[float, float] | None = None) -> str:
    """An AUC of ``metrics`` and, if there is one, its 95 % interval, with four digits."""
    if auc is None:
        return "undefined (it takes rows with a click and without)"
    return f"{auc:.4f}" + (f", 95 % interval {interval[0]:.4f} to {interval[1]:.4f}" if interval else "")


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


@contextlib.contextmanager
def lasting_output() -> Iterator[None]:
    """While the block runs, nothing that becomes of stdout and stderr ends the work, and any text can be written.

    What a closed pipe or a terminal that is gone does not take is lost in silence; what a full disk does not, is told
    once on stderr. A letter that the terminal's encoding lacks is written as ``\\xe9``.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _lasting(sys.stdout, 1), _lasting(sys.stderr, 2)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def _lasting(stream: TextIO | None, descriptor: int) -> TextIO:
    if stream is None:  # closed by whoever started this process; files opened later must not take its place
        _lead_nowhere(descriptor)
        return open(descriptor, "w", encoding="utf-8", closefd=False)
    if stream not in (sys.__stdout__, sys.__stderr__) or not isinstance(stream, io.TextIOWrapper):
        return stream  # a notebook's, or a test's
    stream.flush()
    file = _LastingFile(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        cast(BinaryIO, file if stream.write_through else io.BufferedWriter(file)),
        encoding=stream.encoding,
        errors="backslashreplace" if stream.errors == "strict" else stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _lead_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
    os.set_inheritable(descriptor, True)


class _LastingFile(io.FileIO):
    """Takes all that is written; from the first error on, nobody gets it."""

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[super().write(rest) or 0 :]
        except OSError as error:
            _lead_nowhere(self.fileno())  # also what is written without Python, and what is flushed at the end
            if error.errno not in _GONE and self.fileno() != 2:
                say(f"stdout is lost from here on: {error.strerror}. The work goes on.", file=sys.stderr)
        return len(data)


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
