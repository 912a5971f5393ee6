"""Preprocesses in a process of its own: on a cluster, with another Spark, or with workers and executors that die.

    python encode_rows.py '{"cases": [{"source": …, "output": …, "config": {…}, "columns": {…}}, …], "options": {…}}'

``options`` go to ``preprocess``. ``builder`` names the master of a session that exists before. ``victim``, a ``worker``
or an ``executor``, makes the first task of every stage kill it with SIGKILL; marks of that go to the folder ``marks``.
``code`` is run at the end, for ``source``, ``scratch`` and ``config``. Prints the version of Spark and its ANSI mode.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pyspark import TaskContext
from pyspark.rdd import PipelinedRDD
from pyspark.sql import SparkSession

from dlrm_lib.columns import CRITEO, RawColumns
from dlrm_lib.config import PreprocessConfig
from dlrm_lib.preprocess import preprocess, source_files


def kill_first_tasks(victim: str, marks: Path) -> None:
    """The first task of each stage kills its victim 50 ms after it began, once; it does not end before that.

    It leaves a mark that says so, a file, so that the attempts that follow go on.
    """

    def kill() -> None:
        import psutil

        worker = psutil.Process()
        daemon, java = worker.parents()[:2]
        if victim == "worker":
            assert "dlrm_lib.preprocess.worker" in daemon.cmdline()
            worker.send_signal(signal.SIGKILL)
        else:
            assert "org.apache.spark.executor.CoarseGrainedExecutorBackend" in java.cmdline()
            java.send_signal(signal.SIGKILL)

    def deadly(function: Any) -> Any:
        def run(split: int, rows: Any) -> Any:
            if split == 0:
                try:
                    os.close(os.open(marks / f"stage-{TaskContext.get().stageId()}", os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    return function(split, rows)
                threading.Timer(0.05, kill).start()
                list(function(split, rows))
                time.sleep(60)
            return function(split, rows)

        return run

    original = PipelinedRDD.__init__

    def patched(self: PipelinedRDD, prev: Any, func: Any, *rest: Any, **named: Any) -> None:
        original(self, prev, deadly(func), *rest, **named)

    PipelinedRDD.__init__ = patched


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    if "victim" in asked:
        kill_first_tasks(asked["victim"], Path(asked["marks"]))
    if "builder" in asked:
        SparkSession.builder.master(asked["builder"]).getOrCreate()
    for case in asked["cases"]:
        preprocess(
            case["source"],
            case["output"],
            PreprocessConfig(**case["config"]),
            columns=RawColumns.unnamed(**case.get("columns", {})),
            **asked["options"],
        )
    spark = SparkSession.builder.getOrCreate()  # of the context that there is
    if "code" in asked:
        files, scratch = source_files(Path(asked["source"])), Path(asked["scratch"])
        names = {"spark": spark, "files": files, "settings": PreprocessConfig(**asked["config"]), "scratch": scratch}
        names["raw_columns"] = CRITEO
        exec(asked["code"], names)
    print(spark.version, spark.conf.get("spark.sql.ansi.enabled"))
