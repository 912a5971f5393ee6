"""What Spark starts as its Python daemon: pyspark's own, with two costs taken away that would recur at every task.

The daemon forks one worker per core. Loading the compiled kernels before it forks saves each worker from doing so.
Between tasks a worker calls ``importlib.invalidate_caches``, which reads the directory of ``pyspark.zip`` again, and
``gc.collect``, which walks all that was ever imported: together 0.1 s and more per task, often longer than the task.
"""

from __future__ import annotations

import gc
import runpy
import zipimport

import dlrm_lib.preprocess.tasks  # noqa: F401

if __name__ == "__main__":
    zipimport.zipimporter.invalidate_caches = lambda self: None
    gc.freeze()
    runpy.run_module("pyspark.daemon", run_name="__main__", alter_sys=True)
