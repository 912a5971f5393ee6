"""Runs tasks on Spark, and remembers which are done: a run that was killed goes on where it was.

A task's result is written down, in a file of its own, once all that the task leaves is there. Whoever starts the same
run again asks Spark only for the results that are missing. The same files say how far a run is.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark import RDD, SparkContext

from dlrm_lib.errors import InputError
from dlrm_lib.files import new_file
from dlrm_lib.preprocess.unfinished import WorkIsKept, readable_disk_errors
from dlrm_lib.preprocess.watched import run_job

Result = TypeVar("Result")

_TASKS_PER_CORE = 6  # enough for the cores to finish together
_FAILED = ".failed"


class Tasks:
    """The tasks of one run.

    Args:
        spark: Where they run.
        folder: Where results are written down, seen by all workers.
        progress: Called with (phase, amount done, amount in all).
    """

    def __init__(self, spark: SparkContext, folder: Path, progress: Callable[[str, int, int], None] | None) -> None:
        self._spark = spark
        self._folder = folder
        self._progress = progress
        folder.mkdir(exist_ok=True)
        for path in folder.glob(f"*{_FAILED}"):
            path.unlink()

    def run(
        self,
        phase: str,
        call: Callable[..., Result],
        arguments: Sequence[tuple],
        amounts: Callable[[int, Result], int] = lambda index, result: 0,
        total: int = 0,
    ) -> list[Result]:
        """Calls a function once for each tuple of arguments.

        Args:
            phase: A name of its own.
            call: What to call.
            arguments: What to call it with.
            amounts: How much of ``total`` a call (its index and result) stands for.
            total: For progress; 0: not worth showing.

        Returns:
            The results, in the order of the arguments.

        Raises:
            InputError: from a call, or a disk that is full or cannot be written to. Such a call is not tried again.
        """
        attempt = self.attempt(phase)

        def make(missing: list[int]) -> RDD:
            items = [(index, arguments[index]) for index in missing]
            return self.spread(items).map(lambda item: (item[0], attempt(item[0], lambda: call(*item[1]))))

        return self.collect(phase, len(arguments), make, amounts, total)

    def spread(self, items: Sequence[Any], *, per_core: int = _TASKS_PER_CORE) -> RDD:
        """Distributes items over a few tasks per core: starting a task takes as long as some work of ours."""
        return self._spark.parallelize(items, min(len(items), per_core * self._spark.defaultParallelism))

    def collect(
        self,
        phase: str,
        count: int,
        make: Callable[[list[int]], RDD],
        amounts: Callable[[int, Result], int],
        total: int,
    ) -> list[Result]:
        """``run`` for tasks that are more than a call: ``make`` gives, for the missing ones, pairs (index, result).

        Each pair must come from ``attempt``.
        """
        results: dict[int, Result] = {}
        done = 0

        def look() -> None:
            nonlocal done
            failed = []
            for name in os.listdir(self._folder):  # once: on a shared disk, asking file by file would take long
                of_phase, _, number = name.rpartition("-")
                if of_phase == phase and number.isdigit() and int(number) not in results:
                    results[int(number)] = pickle.loads((self._folder / name).read_bytes())
                    done += amounts(int(number), results[int(number)])
                elif of_phase == phase and number.endswith(_FAILED):
                    failed.append(int(number.removesuffix(_FAILED)))
            if failed:
                raise pickle.loads((self._folder / f"{phase}-{min(failed)}{_FAILED}").read_bytes())
            if self._progress and total:
                self._progress(phase, min(done, total), total)

        look()
        missing = [index for index in range(count) if index not in results]
        if missing:
            try:
                found = run_job(self._spark, f"dlrm_lib: {phase}", lambda: make(missing).collect(), lambda _: look())
            except Py4JError as error:
                look()  # which may find a better reason
                raise _explained(error) from error
            look()
            for index, result in found:
                if isinstance(result, _Failure):
                    raise result.error
                results[index] = result
        if self._progress and total:
            self._progress(phase, total, total)
        return [results[index] for index in range(count)]

    def attempt(self, phase: str) -> Callable[[int, Callable[[], Result]], Result | _Failure]:
        """What a task of ``collect`` runs its work with; it may travel to workers."""
        folder = self._folder
        return lambda index, call: _attempt(folder, phase, index, call)


class _Failure(NamedTuple):
    """What a task returns in place of a result that cannot be had. It is also written down, to be seen at once."""

    error: InputError


def _attempt(folder: Path, phase: str, index: int, call: Callable[[], Result]) -> Result | _Failure:
    """Runs a call in a worker and writes its result down, or why it cannot be had."""
    path = folder / f"{phase}-{index}"
    if path.exists():  # by the same task, which Spark runs again because it ended before all its calls were made
        return pickle.loads(path.read_bytes())
    try:
        with readable_disk_errors(folder.parent.parent):
            result = call()
            with new_file(path) as partial:
                partial.write_bytes(pickle.dumps(result))
            return result
    except InputError as error:
        # A full disk may have no room for this either.
        with contextlib.suppress(OSError), new_file(path.with_name(path.name + _FAILED)) as partial:
            partial.write_bytes(pickle.dumps(error))
        return _Failure(error)


# What stands in Java's or Spark's pages, what it means, and what to do. The first that is found counts.
_CAUSES = (
    (
        r"No space left on device|Disk quota exceeded",
        "The disk of Spark's own files is full.",
        "Free some space, or set SPARK_LOCAL_DIRS to a folder on another disk.",
    ),
    (
        r"Failed to create (?:a temp|local) dir[^\n]*|Read-only file system",
        "Spark's own files cannot be written.",
        "Set SPARK_LOCAL_DIRS to a folder that can be written to, and leave it alone while Spark runs.",
    ),
    (
        r"java\.lang\.OutOfMemoryError[^\n]*|insufficient memory",
        "Java has too little memory.",
        "Close other programs, or use fewer --cores.",
    ),
    (
        r"Python worker exited unexpectedly[^\n]*",
        "A Python process of Spark was ended from outside, as the system does when memory runs out.",
        "Use fewer --cores, or close other programs; the same command goes on where it was.",
    ),
)


def _explained(error: Py4JError) -> Exception:
    """What Java or Spark says, as an ``InputError`` where the cause is known."""
    if not isinstance(error, Py4JJavaError):  # there was nobody left to say anything
        return WorkIsKept(
            "Java, in which Spark runs, has ended.",
            found=" ".join(str(error).split())[:300],
            remedy="Start the same command again (in a notebook: restart the kernel): it goes on where it was.",
        )
    text = str(error.java_exception)
    for pattern, what, remedy in _CAUSES:
        if found := re.search(pattern, text):
            return WorkIsKept(what, found=found[0], remedy=remedy)
    return error
