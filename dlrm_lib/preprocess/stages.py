"""What Spark did and when: its stages, as its own web page shows them.

A job is cut into *stages*: stretches of work that a task can do on its own piece of the data, without waiting for
others. Between two stages of a job lies a shuffle.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pyspark.sql import SparkSession


class Stage(NamedTuple):
    """A stage that has run.

    Attributes:
        step: What the program said it was doing, with ``setJobDescription`` or ``setJobGroup``; else Spark's name.
        begin, end: Seconds since 1970.
        rows: Records that Spark's own readers gave it; what Python reads from files does not pass through them.
        shuffled_records: Records that it left for the next stage to fetch.
        shuffled_bytes: Their size, compressed.
    """

    step: str
    begin: float
    end: float
    rows: int
    shuffled_records: int
    shuffled_bytes: int


def stages(spark: SparkSession, *, since: float = 0.0) -> list[Stage]:
    """The finished stages that began at ``since`` (seconds since 1970) or later, in the order of their beginnings.

    Spark keeps the last thousand. It offers no public way to ask from Python but its web page, which may be off, so
    this asks the store behind that page; the test of this function is there to tell when that changes.
    """
    store = spark.sparkContext._jsc.sc().statusStore()
    defaults = [getattr(store, f"stageList$default${place}")() for place in range(2, 6)]
    found = store.stageList(None, *defaults)
    every = [_read(found.apply(i)) for i in range(found.size()) if found.apply(i).completionTime().isDefined()]
    return sorted((stage for stage in every if stage.begin >= since), key=lambda stage: stage.begin)


def _read(stage: Any) -> Stage:
    description = stage.description()
    step = description.get() if description.isDefined() else stage.name()
    return Stage(
        step=step.rsplit(": ", 1)[-1],
        begin=stage.submissionTime().get().getTime() / 1000,
        end=stage.completionTime().get().getTime() / 1000,
        rows=stage.inputRecords(),
        shuffled_records=stage.shuffleWriteRecords(),
        shuffled_bytes=stage.shuffleWriteBytes(),
    )
