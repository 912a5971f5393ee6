"""The highest memory use of this process's children: kernels, and the Java and Python processes that Spark starts."""

from __future__ import annotations

import threading

import psutil


class PeakMemory:
    """Samples the memory of all child processes while its block runs.

    Memory that processes share is counted once (proportional set size) where the system reports it, which Linux does.
    """

    def __init__(self, *, every_seconds: float = 0.5) -> None:
        self.peak_gib = 0.0
        self._every = every_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(self._every):
            processes = psutil.Process().children(recursive=True)
            self.peak_gib = max(self.peak_gib, sum(map(_bytes, processes)) / 2**30)


def _bytes(process: psutil.Process) -> int:
    try:
        memory = process.memory_full_info()
    except psutil.Error:  # It ended between being listed and being asked.
        return 0
    return getattr(memory, "pss", memory.rss)
