"""A Spark job that is watched while it runs, and ends when the watcher has seen enough."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from pyspark import SparkContext

Result = TypeVar("Result")

_LOOK_SECONDS = 0.2


def run_job(spark: SparkContext, name: str, action: Callable[[], Result], look: Callable[[str], None]) -> Result:
    """Runs an action in another thread, so that this one can look on, and Ctrl-C finds it outside any call to Java.

    pyspark's handler of Ctrl-C calls Java too, which garbles the answer to a call that is under way in the same thread.

    Args:
        spark: Where it runs.
        name: What Spark shows.
        action: Starts one job and returns its result.
        look: Called several times a second with the group that Spark knows the job by. If it raises, the job is ended.
    """
    group = uuid.uuid4().hex

    def grouped() -> Result:
        spark.setJobGroup(group, name, interruptOnCancel=True)
        return action()

    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(grouped)
        try:
            while not wait([running], timeout=_LOOK_SECONDS).done:
                look(group)
        except BaseException:
            spark.cancelJobGroup(group)
            raise
        return running.result()
