"""Timing in turn on a machine that is not quiet: a segment in which something else took a core is measured again.

Two threads that wait for each other after every layer are held up both when one of them loses its core, so a busy
neighbour changes a result tenfold. Linux tells how long each thread stood ready without a core: the second number of
``/proc/self/task/<thread>/schedstat``, in nanoseconds (kernel documentation, ``scheduler/sched-stats.rst``). Where
nobody tells, only what the calling thread lost counts.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)
Result = TypeVar("Result")

WAITED = 0.03  # share of a segment that threads may wait for a core, all together
AWAY = 0.05  # share of a segment in which the calling thread may have no core for any reason, the hypervisor's included
TRIES = 10


@dataclass
class Times:
    """One contestant's clean segments.

    Attributes:
        seconds: Per round, seconds per step; None where no try was clean.
        dropped: Segments that were not clean.
    """

    seconds: list[float | None] = field(default_factory=list)
    dropped: int = 0


def in_turn(
    contestants: Mapping[Name, Callable[[int], object]],
    *,
    rounds: int,
    seconds: float = 0.5,
    tries: int = TRIES,
    settle: Callable[[], object] = lambda: None,
) -> dict[Name, Times]:
    """Lets every contestant run a segment in each round, each time another one first.

    Args:
        contestants: Name → ``step(number)``. They are warm: compiled, their memory touched.
        rounds: Segments of each.
        seconds: About how long a segment is; at least one step.
        tries: Segments to run until one is clean. 1 keeps every first one, clean or not: for contestants whose own
            threads wait for cores or for each other, which looks as if something else took them.
        settle: Waits until all steps are done, where they only began.
    """
    steps = {name: _steps_in(seconds, step, settle) for name, step in contestants.items()}
    times = {name: Times() for name in contestants}
    names = list(contestants)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            for _ in range(tries):
                contestants[name](0)  # brings its weights back into the caches
                settle()
                per_step, clean = _segment(contestants[name], steps[name], settle)
                if clean or tries == 1:
                    break
                times[name].dropped += 1
            times[name].seconds.append(per_step if clean or tries == 1 else None)
    return times


def _steps_in(seconds: float, step: Callable[[int], object], settle: Callable[[], object]) -> int:
    """How many steps take about so long: found by doubling, as the first ones may be quick, being prepared already."""
    steps = 1
    while (per_step := _segment(step, steps, settle)[0]) * steps < seconds / 2:
        steps *= 2
    return max(1, round(seconds / per_step))


def laps(work: Iterator[str], settle: Callable[[], object] = lambda: None) -> dict[str, float]:
    """Name of each part of some work → the seconds that it took.

    Args:
        work: Does it, and yields the name of a part when it is done with that.
        settle: Waits until what was begun is done.
    """
    began, seconds = time.perf_counter(), {}
    for name in work:
        settle()
        seconds[name], began = time.perf_counter() - began, time.perf_counter()
    return seconds


def quartiles(values: list[float]) -> tuple[float, float, float] | None:
    """First quartile, median, third quartile; None of fewer than two values, which say nothing about their spread."""
    if len(values) < 2:
        return None
    first, median, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, median, third


def ratios(slow: Times, fast: Times) -> list[float]:
    """How many times as fast the second was, for each round in which both were clean."""
    return [a / b for a, b in zip(slow.seconds, fast.seconds, strict=True) if a and b]


def watched(work: Callable[[], Result]) -> tuple[Result, float, bool]:
    """What the work returns, the seconds it took, and whether nothing else had our cores meanwhile."""
    waited = _waited()
    wall, busy = time.perf_counter(), time.thread_time()
    result = work()
    wall, busy = time.perf_counter() - wall, time.thread_time() - busy
    delay = sum(now - waited.get(thread, 0) for thread, now in _waited().items()) / 1e9
    return result, wall, delay <= WAITED * wall and busy >= (1 - AWAY) * wall


def _segment(
    step: Callable[[int], object], steps: int, settle: Callable[[], object] = lambda: None
) -> tuple[float, bool]:
    """Seconds per step, and whether nothing else had our cores."""

    def work() -> None:
        for number in range(steps):
            step(number)
        settle()

    _, seconds, clean = watched(work)
    return seconds / steps, clean


def _waited() -> dict[str, int]:
    """Nanoseconds that each thread of this process has waited for a core so far."""
    waited = {}
    for task in Path("/proc/self/task").glob("*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ends just now
            waited[task.name] = int((task / "schedstat").read_text(encoding="ascii").split()[1])
    return waited
