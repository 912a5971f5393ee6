"""How Java and workers start: what is kept between runs, that it is only ever faster, and that all of it ends."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dlrm_lib.config import SyntheticConfig
from dlrm_lib.preprocess import start, warm
from dlrm_lib.synthetic import generate

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few rows."""
    folder = tmp_path_factory.mktemp("start") / "raw"
    generate(folder, SyntheticConfig(rows=2000, days=2))
    return folder


def command(raw: Path, folder: Path, output: str, **environment: str) -> subprocess.Popen:
    """``preprocess`` in a process of its own, with a cache folder of its own, as if no Spark had run in this one."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "dlrm_lib", "preprocess", "--input", raw, "--output", folder / output, "--cores", "1"],
        env={**plain, "XDG_CACHE_HOME": str(folder / "cache"), "TMPDIR": str(folder), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def encoded(raw: Path, folder: Path, output: str, **environment: str) -> dict[str, bytes]:
    """What a run that ends well and says nothing on stderr makes: the content of each file."""
    process = command(raw, folder, output, **environment)
    _, errors = process.communicate(timeout=600)
    assert (process.returncode, errors) == (0, "")
    return {str(path.relative_to(folder / output)): path.read_bytes() for path in files(folder / output)}


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def processes(folder: Path) -> dict[str, str]:
    """The command lines of all processes that have a folder in their environment, by number."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (path / "environ").read_bytes():
                found[path.name] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_first_run_leaves_what_later_ones_start_from(raw: Path, tmp_path: Path) -> None:
    first = encoded(raw, tmp_path, "first")
    kept = files(tmp_path / "cache")
    assert {path.suffix for path in kept if path.name.startswith("java-")} == {".json", ".jsa"}
    archive = next(path for path in kept if path.suffix == ".jsa" and ".base" not in path.suffixes)
    made = archive.stat().st_ctime_ns, archive.read_bytes()

    seen: set[str] = set()
    mapped = b""
    process = command(raw, tmp_path, "second")
    while process.poll() is None:
        for pid, line in processes(tmp_path).items():
            seen.add(line)
            if warm.DAEMON in line:
                with contextlib.suppress(OSError):
                    mapped = (Path("/proc") / pid / "maps").read_bytes() or mapped
        time.sleep(0.1)
    assert process.communicate()[1] == ""
    assert any(str(archive) in line and start._SERVER in line for line in seen)
    assert not any("spark-submit" in line or "SparkSubmit" in line for line in seen)
    assert b"numba" in mapped
    assert b"pandas" not in mapped, "half a second for each worker"
    assert files(tmp_path / "second") == [tmp_path / "second" / name for name in first]
    assert all((tmp_path / "second" / name).read_bytes() == content for name, content in first.items())
    assert files(tmp_path / "cache") == kept
    assert archive.read_bytes() == made[1]

    archive.chmod(0o600)
    archive.write_bytes(b"no archive" + made[1][10 : len(made[1]) // 2])
    assert encoded(raw, tmp_path, "damaged") == first

    next(path for path in kept if path.suffix == ".json").write_text('["/no/such/java"]')
    assert encoded(raw, tmp_path, "gone") == first
    wait_for(lambda: not processes(tmp_path))
    assert not list(tmp_path.glob("dlrm-*"))
    assert not list(tmp_path.glob("cache/**/*.partial*"))


def test_a_run_that_is_killed_leaves_no_process(raw: Path, tmp_path: Path) -> None:
    process = command(raw, tmp_path, "out")
    wait_for(lambda: any(warm.DAEMON in line for line in processes(tmp_path).values()))
    process.kill()
    process.communicate()
    wait_for(lambda: not processes(tmp_path))


def test_java_that_is_not_needed_ends_with_its_process(raw: Path, tmp_path: Path) -> None:
    program = (
        "from dlrm_lib.preprocess import start\nstart.begin(rows_in_java=False)\nassert start.warm._waiting\n"
        "raise SystemExit"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", ""), "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60)
    wait_for(lambda: not processes(tmp_path))
    assert not list(tmp_path.iterdir())


def test_spark_that_is_set_up_by_hand_is_started_by_its_own_script(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SPARK_", "PYSPARK_", "HADOOP_", "YARN_"))]:
        monkeypatch.delenv(name)
    assert start.Kept.here()
    monkeypatch.setenv("SPARK_LOCAL_DIRS", "/tmp")
    assert start.Kept.here()
    monkeypatch.setenv("SPARK_CONF_DIR", "/etc/spark")
    assert start.Kept.here() is None


def test_what_plans_the_work_needs_no_compiler_and_no_spark_to_be_imported() -> None:
    program = (
        "import sys\nfrom dlrm_lib.preprocess import preprocess\n"
        "print(sorted({'numba', 'pandas', 'pyarrow', 'pyspark', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
