"""Preprocessing on a real standalone cluster on this machine, and with workers and executors that die."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyspark
import pytest
from test_preprocess import files_of

from dlrm_lib.config import SyntheticConfig
from dlrm_lib.errors import InputError
from dlrm_lib.preprocess import cluster, java, session
from dlrm_lib.synthetic import generate

TESTS = Path(__file__).parent
SPARK_HOME = Path(pyspark.__file__).parent
CONFIG = {"frequency_limit": 3, "max_bad_fraction": 0.5, "numeric_rule": "log_x_plus_2"}


@dataclass
class Cluster:
    """A Spark master and its workers on 127.0.0.1, each a process of this class; they end with the ``with`` block."""

    folder: Path
    workers: int = 2
    processes: list[subprocess.Popen] = field(default_factory=list)
    master: str = ""

    def __enter__(self) -> Cluster:
        try:
            place = ["--host", "127.0.0.1", "--port", "0", "--webui-port", "0"]
            log = self._start("master", "org.apache.spark.deploy.master.Master", *place)
            self.master = self._wait_for(log, r"Starting Spark master at (spark://127\.0\.0\.1:\d+)")
            for number in range(self.workers):
                room = ["--cores", "1", "--memory", "2g", "--work-dir", str(self.folder / f"worker-{number}")]
                log = self._start(
                    f"worker-{number}", "org.apache.spark.deploy.worker.Worker", *place, *room, self.master
                )
                self._wait_for(log, r"Successfully registered with master")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.ExitStack() as children:
            for process in reversed(self.processes):  # workers end their executors
                with contextlib.suppress(psutil.NoSuchProcess):
                    for child in psutil.Process(process.pid).children(recursive=True):
                        children.callback(_end, child)
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def executor_logs(self) -> list[list[str]]:
        """For each worker, the logs of the executors that it ran."""
        return [
            [log.read_text() for log in sorted((self.folder / f"worker-{number}").glob("app-*/*/stderr"))]
            for number in range(self.workers)
        ]

    def _start(self, name: str, main: str, *arguments: str) -> Path:
        log = self.folder / f"{name}.log"
        environment = {
            **os.environ,
            "JAVA_HOME": str(java.find_java()),
            "SPARK_HOME": str(SPARK_HOME),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_DAEMON_JAVA_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
        }
        with log.open("w") as stderr:  # spark-class becomes Java: the process keeps its number
            command = [str(SPARK_HOME / "bin" / "spark-class"), main, *arguments]
            self.processes.append(subprocess.Popen(command, env=environment, stdout=stderr, stderr=stderr))
        return log

    def _wait_for(self, log: Path, pattern: str) -> str:
        end = time.monotonic() + 60
        while not (found := re.search(pattern, log.read_text())):
            assert self.processes[-1].poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        return found[found.re.groups]


def _end(process: psutil.Process) -> None:
    """psutil compares the time of the start, so that nobody else with the same number is ended."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
        process.wait(10)
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days of synthetic rows, some of them mangled."""
    folder = tmp_path_factory.mktemp("cluster") / "raw"
    generate(folder, SyntheticConfig(rows=9_000, days=3))
    lines = (folder / "day_1").read_bytes().splitlines(keepends=True)
    for number in range(100, len(lines), 300):
        lines[number] = lines[number].replace(b"\t", b" ", 1)
    (folder / "day_1").write_bytes(b"".join(lines))
    return folder


@pytest.fixture(scope="module")
def local(raw: Path) -> dict[str, bytes]:
    """Every file of the data set that local mode makes."""
    return encode(raw, raw.parent / "local", {"cores": 2})


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("two")) as running:
        yield running


def encode(
    source: Path, output: Path, options: dict[str, Any], start: Sequence[str] = (sys.executable,), **more: str
) -> dict[str, bytes]:
    """Every file of the data set that ``encode_rows.py`` makes."""
    cases = [{"source": str(source), "output": str(output), "config": CONFIG}]
    call([*start, str(TESTS / "encode_rows.py"), json.dumps({"cases": cases, "options": options, **more})])
    return files_of(output)


def call(command: list[str]) -> str:
    """What a command prints; it must succeed. Spark finds what a user of it would have set."""
    environment = {
        **os.environ,
        "JAVA_HOME": str(java.find_java()),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_cluster_makes_the_bytes_of_local_mode(raw, local, two_workers, tmp_path):
    command = [sys.executable, "-m", "dlrm_lib", "preprocess", "--master", two_workers.master, "--cores", "2"]
    command += ["--input", str(raw), "--output", str(tmp_path / "out"), "--spill", str(tmp_path)]
    call([*command, *(word for name, value in CONFIG.items() for word in (f"--{name}", str(value)))])
    found = files_of(tmp_path / "out")
    assert [name for name in found.keys() | local.keys() if found.get(name) != local.get(name)] == []
    assert len(local["quarantine/rejected.tsv"].splitlines()) > 5
    for logs in two_workers.executor_logs():
        assert len(logs) == 1
        assert logs[0].count("Running task") > 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "victim"),
    [("here", "worker"), ("cluster", "worker"), ("cluster", "executor")],
    ids=["here, worker", "cluster, worker", "cluster, executor"],
)
def test_what_is_killed_is_done_again(raw, local, two_workers, tmp_path, where, victim):
    (tmp_path / "marks").mkdir()
    options = {"cores": 2} if where == "here" else {"master": two_workers.master}
    marks = tmp_path / "marks"
    assert encode(raw, tmp_path / "out", options, victim=victim, marks=str(marks)) == local
    assert len(list(marks.iterdir())) > 3  # a kill in each stage


@pytest.mark.slow
@pytest.mark.parametrize("whose", ["builder", "spark-submit"])
def test_a_session_that_somebody_else_made_is_used_as_it_is(raw, local, tmp_path, whose):
    if whose == "builder":
        assert encode(raw, tmp_path / "out", {}, builder="local[2]") == local
    else:
        start = [str(SPARK_HOME / "bin" / "spark-submit"), "--master", "local[2]"]
        assert encode(raw, tmp_path / "out", {}, start) == local


WHAT_CLUSTERS_LACK = """
import json, os, sys
from pathlib import Path
from pyspark import SparkContext
from dlrm_lib.errors import InputError
from dlrm_lib.preprocess import cluster, session

def said(function, *arguments, **named):
    try:
        function(*arguments, **named)
    except InputError as error:
        return str(error)

master, folder, bare = sys.argv[1:]
os.chdir(folder)
spark = session.spark_session(2, master).sparkContext
answers = {
    "nothing": said(cluster.check_workers, spark, Path(folder), Path(folder), sources=[Path(folder)]),
    "left": os.listdir(folder),
    "source": said(cluster.check_workers, spark, Path(folder), sources=[Path(folder, "absent")]),
    "folder": said(cluster.check_workers, spark, Path(folder), Path("/proc/self/cwd")),
    "other master": said(session.spark_session, 2, "spark://127.0.0.1:1"),
}
cluster._versions = lambda: "dlrm_lib 0.0.0"  # here: workers import a module of their own
answers["versions"] = said(cluster.check_workers, spark, Path(folder))
spark.stop()
for python in (bare, "/no/such/python"):
    os.environ["PYSPARK_PYTHON"] = python
    spark = session.spark_session(2, master).sparkContext
    answers[python] = said(cluster.check_workers, spark, Path(folder))
    spark.stop()
SparkContext._jvm.java.lang.System.setProperty("spark.executor.memory", "900g")
cluster._START_SECONDS = 1.0
answers["executors"] = said(cluster.check_workers, session.spark_session(2, master).sparkContext, Path(folder))
print(json.dumps(answers))
"""


@pytest.mark.slow
def test_what_a_cluster_lacks_is_said(two_workers, tmp_path):
    (tmp_path / "shared").mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    bare = str(tmp_path / "bare" / "bin" / "python")
    command = [sys.executable, "-c", WHAT_CLUSTERS_LACK, two_workers.master, str(tmp_path / "shared"), bare]
    answers = json.loads(call(command))
    assert (answers["nothing"], answers["left"]) == (None, [])
    assert "absent cannot be read there" in answers["source"]
    assert "No such file or directory: '/proc/self/cwd/" in answers["folder"]
    assert "Mount one file system" in answers["folder"]
    assert two_workers.master in answers["other master"]
    assert "dlrm_lib 0.0.0 here" in answers["versions"]
    assert "found: ModuleNotFoundError: No module named 'dlrm_lib'" in answers[bare]
    assert f"PYSPARK_PYTHON to that Python's path there (now {bare})" in answers[bare]
    assert 'found: Cannot run program "/no/such/python"' in answers["/no/such/python"]
    assert "took a task within 1 seconds" in answers["executors"]
    assert all(len(answer.splitlines()) <= 3 for answer in answers.values() if answer)


@pytest.mark.slow
def test_a_process_that_was_local_does_not_pretend_to_reach_a_cluster(two_workers):
    code = (
        "import sys\n"
        "from dlrm_lib.preprocess.session import spark_session\n"
        "spark_session(1).stop()\n"
        "try: spark_session(master=sys.argv[1])\n"
        "except ValueError as error: print(error)\n"
    )
    assert "Restart Python" in call([sys.executable, "-c", code, two_workers.master])


def test_a_master_that_is_none_or_does_not_answer(monkeypatch):
    for name in ("HADOOP_CONF_DIR", "YARN_CONF_DIR"):
        monkeypatch.delenv(name, raising=False)
    for master in ("", "spark", "spark://host", "spark://host:7077/", "http://host:8080", "k8s:// host", "local[2]"):
        with pytest.raises(InputError, match="not one that Spark knows"):
            cluster.check_master(master)
    with pytest.raises(InputError, match="neither HADOOP_CONF_DIR nor YARN_CONF_DIR"):
        cluster.check_master("yarn")
    monkeypatch.setattr(session.SparkContext, "_jvm", None)  # a test before may have run Spark in local mode
    with pytest.raises(InputError, match="cannot be chosen here on YARN"):
        session._cluster_settings("k8s://https://host:6443", 4)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        cluster.check_master(f"spark://127.0.0.1:1,127.0.0.1:{port}")
    with pytest.raises(InputError, match=rf"No Spark master answers at spark://127.0.0.1:{port}\.\n.*refused"):
        cluster.check_master(f"spark://127.0.0.1:{port}")
    with pytest.raises(InputError, match="No Spark master answers"):
        cluster.check_master("spark://127.0.0.1:99999")
