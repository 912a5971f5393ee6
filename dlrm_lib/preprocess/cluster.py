"""What may be wrong with a cluster, found out and said before hours of work begin."""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from py4j.protocol import Py4JError
from pyspark import SparkContext

import dlrm_lib
from dlrm_lib.errors import InputError
from dlrm_lib.preprocess.watched import run_job

_ANSWER_SECONDS = 5.0  # for a master to accept a connection
_START_SECONDS = 180.0  # for a first executor to take a task: a container may have to fetch its image
_MARK_BYTES = 8


def check_master(master: str) -> None:
    """Refuses a master that is none or does not answer: Spark itself would go on calling it.

    Raises:
        InputError: it is not a master's URL, or nobody listens there, or the settings that lead to it are missing.
    """
    if master == "yarn":
        if not os.environ.get("HADOOP_CONF_DIR") and not os.environ.get("YARN_CONF_DIR"):
            raise InputError(
                "The master is yarn, and neither HADOOP_CONF_DIR nor YARN_CONF_DIR is set.",
                remedy="Set one of them to the folder with the cluster's yarn-site.xml.",
            )
    elif re.fullmatch(r"spark://[^\s:,]+:\d+(,[^\s:,]+:\d+)*", master):
        silent = []
        for address in master.removeprefix("spark://").split(","):
            host, port = address.split(":")
            try:
                socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
                return
            except (OSError, OverflowError) as error:
                silent.append(f"{address}: {error}")
        raise InputError(
            f"No Spark master answers at {master}.",
            found="; ".join(silent),
            remedy="Start it, or copy the URL from the top of its web page (http://HOST:8080).",
        )
    elif not re.fullmatch(r"k8s://\S+", master):
        raise InputError(
            "The master is not one that Spark knows.",
            found=master,
            remedy="Name spark://HOST:PORT, yarn or k8s://HOST:PORT, or none to run on this machine.",
        )


def check_workers(spark: SparkContext, *folders: Path, sources: Sequence[Path] = ()) -> None:
    """Runs a small task on every core: can its Python do the work, and does it share the files?

    Each task writes a few bytes into its own place of one file per folder, as preprocessing will; then this process
    looks whether all of them arrived.

    Args:
        spark: The cluster.
        folders: Existing folders on the storage that preprocessing will write to.
        sources: What preprocessing will read.

    Raises:
        InputError: no executor takes a task in time; a worker's Python is missing, of another version, lacks this
            package or has other versions of what decides the bytes; a worker does not share the files.
    """
    files = [folder / f".shared-{secrets.token_hex(4)}" for folder in folders]
    cores = 0
    while cores < spark.defaultParallelism:  # which grows while executors are still on their way
        cores = spark.defaultParallelism
        marks = [secrets.token_bytes(_MARK_BYTES) for _ in range(cores)]
        try:
            for file in files:
                file.write_bytes(bytes(_MARK_BYTES * cores))
            answers = _run(spark, partial(_write_mark, files, sources), list(enumerate(marks)))
            arrived = [(file, file.read_bytes()) for file in files]
        finally:
            for file in files:
                file.unlink(missing_ok=True)
        for index, (host, versions, failure) in enumerate(answers):
            if versions != _versions():
                raise InputError(
                    f"The worker on {host} has other versions than this process: the bytes could differ.",
                    found=f"{versions} there, {_versions()} here",
                    remedy="Install the same versions on every worker.",
                )
            for file, content in arrived:
                if not failure and content[index * _MARK_BYTES :][:_MARK_BYTES] != marks[index]:
                    failure = f"what it writes in {file.parent} does not arrive here"
            if failure:
                raise InputError(
                    f"The worker on {host} does not share the files of this process.",
                    found=failure,
                    remedy="Mount one file system at one path, writable, on this machine and on every worker.",
                )


def _write_mark(files: list[Path], sources: Sequence[Path], index: int, mark: bytes) -> tuple[str, str, str]:
    """Runs on a worker: its host, its versions, and what keeps it from reading or writing, if anything does."""
    failure = ""
    try:
        for source in sources:
            if not os.access(source, os.R_OK):
                failure = f"{source} cannot be read there"
        for file in files:
            with open(file, "r+b") as shared:
                shared.seek(index * _MARK_BYTES)
                shared.write(mark)
    except OSError as error:
        failure = str(error)
    return socket.gethostname(), _versions(), failure


def _versions() -> str:
    """The versions that decide the bytes; Parquet files name pyarrow's."""
    import pyarrow

    return f"dlrm_lib {dlrm_lib.__version__}, numpy {np.__version__}, pyarrow {pyarrow.__version__}"


def _run(spark: SparkContext, task: Callable, arguments: list[tuple]) -> list[Any]:
    """The results of a job that has to start in bounded time; its failures in words of ours."""
    end = time.monotonic() + _START_SECONDS

    def look(group: str) -> None:
        if time.monotonic() > end and not _has_started(spark, group):
            raise InputError(
                f"No executor of {spark.master} took a task within {_START_SECONDS:.0f} seconds.",
                remedy="See on the cluster's web page whether it has workers with free cores and memory, and "
                "whether they reach this machine (set SPARK_LOCAL_IP to the address that they know it by).",
            )

    def action() -> list[Any]:
        return spark.parallelize(arguments, len(arguments)).map(lambda each: task(*each)).collect()

    try:
        return run_job(spark, "dlrm_lib: checks the workers", action, look)
    except Py4JError as error:
        raise InputError(
            f"The workers of {spark.master} cannot run Python tasks.",
            found=_cause(str(error)),
            remedy=f"Install dlrm-lib[spark] on every worker for Python {spark.pythonVer}, and "
            f"set PYSPARK_PYTHON to that Python's path there (now {spark.pythonExec}).",
        ) from error


def _has_started(spark: SparkContext, group: str) -> bool:
    tracker = spark.statusTracker()
    jobs = [tracker.getJobInfo(number) for number in tracker.getJobIdsForGroup(group)]
    stages = [tracker.getStageInfo(number) for job in jobs if job for number in job.stageIds]
    return any(stage.numActiveTasks + stage.numCompletedTasks + stage.numFailedTasks for stage in stages if stage)


def _cause(text: str) -> str:
    """The line of Spark's long message that says why."""
    for pattern in (
        r"\[PYTHON_VERSION_MISMATCH\].*",
        r"ModuleNotFoundError: .*",
        r'Cannot run program ".*',
        r"\w+Error: .*",
    ):
        if found := re.search(pattern, text):
            return found[0]
    return " ".join(text.split())[:300]
