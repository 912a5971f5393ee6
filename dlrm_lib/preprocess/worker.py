"""What Spark starts as its Python daemon: pyspark's own, with three costs taken away that would recur at every task.

- Java sends a task in two writes, and holds the second back until the first is acknowledged (Nagle's algorithm), which
  Linux delays by 40 ms in the hope of an answer to send along. A worker asks for acknowledgement at once.
- Between tasks a worker calls ``importlib.invalidate_caches``, which reads the directory of ``pyspark.zip`` again, and
  ``gc.collect``, which walks all that was ever imported.

Together they take 0.1 s and more, often longer than the task. The daemon forks one worker per core; what it imports and
wakes before, numba above all with the first call of a compiled function, no worker has to. It does so while Java
starts, in a process of its own (``warm.py``).
"""

from __future__ import annotations

import gc
import os
import runpy
import socket
from typing import BinaryIO

from dlrm_lib.preprocess import warm


def get_ready() -> None:
    """Imports what tasks need, loads compiled code, and takes the costs away."""
    import zipimport

    import pyspark.worker

    from dlrm_lib.columns import CRITEO
    from dlrm_lib.preprocess import counting, reading, writing  # noqa: F401 — for the tasks
    from dlrm_lib.preprocess.rows import parse

    main = pyspark.worker.main

    def main_without_delay(infile: BinaryIO, outfile: BinaryIO) -> None:
        if hasattr(socket, "TCP_QUICKACK"):
            with socket.socket(fileno=os.dup(infile.fileno())) as connection:
                if connection.family in (socket.AF_INET, socket.AF_INET6):
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        main(infile, outfile)

    pyspark.worker.main = main_without_delay
    zipimport.zipimporter.invalidate_caches = lambda self: None  # type: ignore[method-assign]  # that is the aim
    parse(b"", CRITEO)
    gc.freeze()


if __name__ == "__main__" and not warm.hand_over():
    get_ready()
    warm.take_over()
    runpy.run_module("pyspark.daemon", run_name="__main__", alter_sys=True)
