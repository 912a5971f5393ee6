"""Runs one notebook with papermill, within its time budget, and says what became of it."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellTimeoutError
from papermill.exceptions import PapermillExecutionError

from runner.memory import PeakMemory
from runner.plan import Notebook

# Settings of a person's own Jupyter, matplotlib and Python, which would make a run differ from machine to machine.
_PERSONAL = (
    "JUPYTER_PATH",
    "JUPYTER_CONFIG_PATH",
    "MPLBACKEND",
    "MATPLOTLIBRC",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONWARNINGS",
)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Where and why a notebook stopped. ``cell`` counts all cells of the notebook in git, from 1; None: in none."""

    cell: int | None
    line: int | None
    source: str
    error: str

    def __str__(self) -> str:
        if self.cell is None:
            return self.error
        where = f"cell {self.cell}" + (f", line {self.line}" if self.line else "")
        return f"{where}: {self.source}\n  {self.error}"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one notebook.

    Attributes:
        notebook: The notebook as it stands in the workbook.
        executed: The executed copy; a partial one if the notebook failed.
        seconds: Wall time, the start of the kernel included.
        peak_gib: Highest memory use of the kernel and its children, in GiB.
        stderr: For each cell that wrote to stderr: its number and the first line.
        failure: None if every cell ran.
    """

    notebook: Notebook
    executed: Path
    seconds: float
    peak_gib: float
    stderr: tuple[tuple[int, str], ...]
    failure: Failure | None


@contextlib.contextmanager
def clean_environment() -> Iterator[None]:
    """Hides a person's own Jupyter, IPython and matplotlib settings from the kernels started inside."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="workbook-run-") as folder:
        for name in _PERSONAL:
            os.environ.pop(name, None)
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
            os.environ[name] = os.path.join(folder, name.lower())
        # Kept between runs, because finding the fonts takes seconds.
        os.environ["MPLCONFIGDIR"] = os.path.join(sys.prefix, "var", "matplotlib")
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def execute(notebook: Notebook, *, parameters: Mapping[str, Any], executed: Path, budget: float) -> Result:
    """Runs a copy of the notebook in the notebook's folder and keeps what it produced, also when it failed.

    Args:
        notebook: What to run.
        parameters: Values to put in place of the defaults of its parameters cell.
        executed: Where the executed copy goes.
        budget: Seconds it may take in all.
    """
    started = time.monotonic()
    running: list[str] = []

    def seconds_left(cell: nbformat.NotebookNode) -> float:
        running[:] = [cell.id]
        return max(0.1, started + budget - time.monotonic())

    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    error: Exception | None = None
    with PeakMemory() as memory:
        try:
            papermill.execute_notebook(
                notebook.path,
                executed,
                parameters=dict(parameters),
                kernel_name="python3",
                language="python",
                cwd=notebook.path.parent,
                progress_bar=False,
                timeout_func=seconds_left,
                kernel_manager_class=_kernels_that_log_to(executed.with_suffix(".log")),
            )
        except (PapermillExecutionError, CellTimeoutError, RuntimeError) as caught:  # RuntimeError: the kernel died
            error = caught
    seconds = time.monotonic() - started

    nb = nbformat.read(executed, as_version=4)
    # Positions in the notebook in git: papermill adds cells of its own to the executed copy.
    original = [cell for cell in nb.cells if not _added_by_papermill(cell)]
    failure = None
    if isinstance(error, PapermillExecutionError):
        failure = _cell_failure(error, original)
    elif error is not None:
        timed_out = isinstance(error, CellTimeoutError)
        reason = f"over its budget of {budget:g} s" if timed_out else str(error).splitlines()[0]
        failure = _stopped(reason, running, original)
        nb.cells.insert(0, nbformat.v4.new_markdown_cell(f"**This run was stopped: {reason}.**"))
        nbformat.write(nb, executed)
    elif not any(cell.get("execution_count") for i, cell in enumerate(original) if i != notebook.parameters_cell):
        failure = Failure(cell=None, line=None, source="", error="it ran no code cell besides its parameters")
    return Result(
        notebook=notebook,
        executed=executed,
        seconds=seconds,
        peak_gib=memory.peak_gib,
        stderr=tuple(_stderr(original)),
        failure=failure,
    )


def _kernels_that_log_to(path: Path) -> type[AsyncKernelManager]:
    """Kernels whose own words, and their Spark's, go to a file: what a cell prints is in the notebook anyway."""

    class Kernels(AsyncKernelManager):
        async def start_kernel(self, **options: Any) -> None:
            with path.open("w") as log:
                await super().start_kernel(stdout=log, stderr=log, **options)

    return Kernels


def _added_by_papermill(cell: nbformat.NotebookNode) -> bool:
    return bool({"injected-parameters", "papermill-error-cell-tag"} & set(cell.metadata.get("tags", [])))


def _cell_failure(error: PapermillExecutionError, cells: list[nbformat.NotebookNode]) -> Failure:
    ran = [i for i, cell in enumerate(cells, 1) if cell.get("execution_count") == error.exec_count is not None]
    plain = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback or []))
    lines = re.findall(rf"Cell In\[{error.exec_count}\], line (\d+)", plain)
    line = int(lines[-1]) if lines else None
    source = error.source.splitlines()
    # The first line of an InputError says what, the others add the value found and the remedy.
    message = "\n  ".join(str(error.evalue).splitlines()[:3])
    return Failure(
        cell=ran[0] if ran else None,
        line=line,
        source=source[line - 1].strip() if line and line <= len(source) else "",
        error=f"{error.ename}: {message}"[:600],
    )


def _stopped(reason: str, running: list[str], cells: list[nbformat.NotebookNode]) -> Failure:
    for number, cell in enumerate(cells, 1):
        if [cell.get("id")] == running:
            return Failure(cell=number, line=None, source=cell.source.strip().split("\n")[0], error=reason)
    return Failure(cell=None, line=None, source="", error=reason)


def _stderr(cells: list[nbformat.NotebookNode]) -> Iterator[tuple[int, str]]:
    for number, cell in enumerate(cells, 1):
        text = "".join(o.text for o in cell.get("outputs", []) if o.get("name") == "stderr")
        if text.strip():
            yield number, text.strip().splitlines()[0][:200]
