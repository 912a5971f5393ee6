"""A Spark session, on this machine or on a cluster, that starts quietly."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from py4j.protocol import Py4JError
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from dlrm_lib.errors import InputError
from dlrm_lib.preprocess import start
from dlrm_lib.preprocess.cluster import check_master
from dlrm_lib.preprocess.java import find_java, spark_home
from dlrm_lib.preprocess.warm import DAEMON
from dlrm_lib.records import usable_cores

_DRIVER_MEMORY = "2g"  # the most that Java may take; encoding keeps rows out of Java and needs a fraction of it


def spark_session(cores: int | None = None, master: str | None = None) -> SparkSession:
    """The running Spark session, or a new one, for rows in DataFrames; see ``spark_context``."""
    spark_context(cores, master)
    return SparkSession.builder.getOrCreate()


def spark_context(cores: int | None = None, master: str | None = None, *, rows_in_java: bool = True) -> SparkContext:
    """What runs Spark's tasks: the running one, or a new one.

    It is left running for the next call: starting one takes seconds. It ends with the process, or with
    ``spark_session().stop()``. One that somebody else started, with a builder or ``spark-submit``, is used as it is.

    On a cluster, whatever is not set here comes from the usual places: ``spark-defaults.conf`` in SPARK_CONF_DIR or in
    SPARK_HOME, SPARK_LOCAL_IP, and PYSPARK_PYTHON for the workers' Python (by default the path of this one).

    Args:
        cores: Tasks at a time; by default one per usable core of this machine, or all that a standalone cluster has.
            One that runs already keeps its own number.
        master: ``spark://HOST:PORT``, ``yarn`` or ``k8s://...``; by default this process and its children do the work.
        rows_in_java: Whether rows will pass through Java, as those of DataFrames do. If not, Java compiles itself fast
            rather than well: a second or two less on two cores, which its compiler would share with the tasks. This
            is decided by the first call of a process.

    Raises:
        InputError: no Java that Spark can run on; no folder for Spark's own files; a master that does not answer, or on
            which the number of cores cannot be chosen here; Spark runs already on another master.
    """
    running = _running(master)
    if running is not None:
        return running
    _check_local_folders()
    recorded = None
    if master is None:
        cores = cores or usable_cores()
        settings = {
            "spark.driver.memory": _DRIVER_MEMORY,
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.local.dir": tempfile.gettempdir(),
            "spark.sql.shuffle.partitions": str(cores),
            "spark.ui.enabled": "false",
        }
        # The second number lets Spark try a failed task again, which local mode otherwise does not.
        master = f"local[{cores},4]"
        start.begin(rows_in_java=rows_in_java)
        environment = start.environment(rows_in_java=rows_in_java) | (start.connection() or {})
        recorded = start.Kept.here() if not rows_in_java else None
    else:
        settings = _cluster_settings(master, cores)
        environment = {"SPARK_HOME": str(spark_home()), "PYSPARK_PYTHON": sys.executable}
        environment |= {name: os.environ[name] for name in environment if os.environ.get(name)}
    settings |= {"spark.python.daemon.module": DAEMON, "spark.ui.showConsoleProgress": "false"}
    conf = SparkConf().setAppName("dlrm_lib").setMaster(master).setAll(list(settings.items()))
    with tempfile.TemporaryDirectory(prefix="dlrm-spark-") as folder:
        if "PYSPARK_GATEWAY_PORT" in environment or SparkContext._gateway:
            recorded = None
        else:
            home = find_java()
            options = [start.log_settings(Path(folder)), os.environ.get("SPARK_SUBMIT_OPTS", "")]
            options += [] if rows_in_java else [start.FEW_ROWS]
            recording = recorded.recording(home) if recorded else ""
            recorded = recorded if recording else None
            options.append(recording)
            environment |= {"JAVA_HOME": str(home), "SPARK_SUBMIT_OPTS": " ".join(options)}
        with _environment(environment):
            try:
                spark = SparkContext.getOrCreate(conf)
                if not (master.startswith("spark://") and _is_unregistered(spark)):
                    if recorded:
                        recorded.record(SparkContext._gateway)
                    return spark
                cause = "no answer to the application's registration within a minute"
            except (Py4JError, PySparkException) as error:
                cause = re.sub(r"\s+", " ", str(error))[:300]
    if SparkContext._active_spark_context is not None:  # Java gave up when Python had its half
        SparkContext._active_spark_context.stop()
    raise InputError(
        f"Spark does not start on {master}.",
        found=cause,
        remedy="Java's own lines above say more; on a cluster, so does the master's log.",
    )


def _check_local_folders() -> None:
    """Refuses folders for Spark's own files that it cannot write to: Java says so in pages, and late."""
    named = os.environ.get("SPARK_LOCAL_DIRS")
    for folder in (named or tempfile.gettempdir()).split(","):
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise InputError(
                f"{folder} cannot hold Spark's own files.",
                found=error.strerror,
                remedy=f"Set SPARK_LOCAL_DIRS{'' if named else ', or TMPDIR,'} to a folder that can be written to.",
            ) from None


def _is_unregistered(spark: SparkContext) -> bool:
    """Whether a standalone master never gave the application a name of its own; Java then stops by and by."""
    return spark.applicationId.startswith("spark-application-")


def _running(master: str | None) -> SparkContext | None:
    """The context that runs, or the one that ``spark-submit``, under which this process may run, has prepared."""
    if SparkContext._active_spark_context is None and "PYSPARK_GATEWAY_PORT" not in os.environ:
        return None
    spark = SparkContext.getOrCreate(SparkConf().set("spark.python.daemon.module", DAEMON))
    if master not in (None, spark.master):
        raise InputError(
            f"Spark runs already, and not on {master}.",
            found=spark.master,
            remedy="Name no master to use the running session, or stop it first: spark_session().stop().",
        )
    return spark


def _cluster_settings(master: str, cores: int | None) -> dict[str, str]:
    """What only clusters need, after a look whether this one can be reached."""
    check_master(master)
    if SparkContext._jvm and SparkContext._jvm.java.lang.System.getProperty("spark.driver.host") == "127.0.0.1":
        raise InputError(
            f"This process ran Spark in local mode, so the workers of {master} could not reach it.",
            remedy="Restart Python (in a notebook: the kernel), and name the master the first time.",
        )
    if cores is None:
        return {}
    if master.startswith("spark://"):
        return {"spark.cores.max": str(cores)}
    raise InputError(
        "The number of cores cannot be chosen here on YARN and Kubernetes.",
        found=cores,
        remedy="Set spark.executor.instances and spark.executor.cores in spark-defaults.conf.",
    )


@contextlib.contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    """Sets environment variables while Spark starts, which reads them then, and puts the old ones back."""
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        for name in changes:
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]
