"""The command ``preprocess`` as a person meets it: killed in every phase, watched on a terminal, misused."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dlrm_lib.__main__ import main
from dlrm_lib.columns import RawColumns
from dlrm_lib.config import Config, SyntheticConfig
from dlrm_lib.console import progress_bars
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.errors import InputError
from dlrm_lib.features import FeatureSpec
from dlrm_lib.synthetic import generate

ROWS = 240_000


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough rows for every phase to last a while."""
    folder = tmp_path_factory.mktemp("rows") / "raw"
    generate(folder, SyntheticConfig(rows=ROWS, days=3), workers=2)
    return folder


@pytest.fixture(scope="module")
def expected(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run that nobody disturbed."""
    output = tmp_path_factory.mktemp("undisturbed") / "encoded"
    done = subprocess.run(command(raw, output), capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"about 2(39|40),[0-9]{3} rows", done.stdout)
    assert "rejected: 0 lines" in done.stdout
    assert "held out: day_2, the last of 3 days" in done.stdout
    assert re.search(r" test: 40,000 rows, click rate 0\.[0-9]{4} \(the first half of day_2\)\n", done.stdout)
    assert "remark:" not in done.stdout
    return files_of(output)


def command(raw: Path, output: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "dlrm_lib", "preprocess", f"--input={raw}", f"--output={output}", "--cores=2", *flags]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextlib.contextmanager
def started(arguments: list[str]) -> Iterator[subprocess.Popen]:
    """A process that leads a group of its own; the group does not outlive the block."""
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def kill_when(arguments: list[str], seen: Callable[[], bool], *, group: bool) -> None:
    with started(arguments) as process:
        while not seen():
            assert process.poll() is None, process.communicate()
            time.sleep(0.002)
        if group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        assert process.wait(timeout=30) == -signal.SIGKILL


# The command with a pause before and after it writes the manifest, for a kill to fall into.
SLOW_FINISH = """
import sys, time
from dlrm_lib.__main__ import main
from dlrm_lib.manifest import Manifest

def write(self, folder, write=Manifest.write):
    time.sleep(2)
    write(self, folder)
    time.sleep(2)

Manifest.write = write
sys.exit(main())
"""

# What is to be seen, below the unfinished folder, in the middle of each phase.
MOMENTS = {
    "reading": "work/done/reading-[2-5]",
    "counting": "work/ids-*",
    "encoding": "work/done/encoding-[1-5]",
    "sorting": "work/dealt.npy",
    "finishing": "data/feature_spec.yaml",
    "finished": "data/manifest.json",
}


@pytest.mark.slow
def test_a_run_that_was_killed_in_every_phase_gives_the_same_bytes(
    raw: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """In each phase first the whole group of processes is killed, then, at the same moment of the next run, its first
    one alone; the run after that goes on to the next phase, with what all those before have left."""
    output = tmp_path / "encoded"
    for moment, marks in MOMENTS.items():
        arguments = command(raw, output)
        if moment.startswith("finish"):
            arguments[1:3] = ["-c", SLOW_FINISH]
        for group in (True, False):
            kill_when(arguments, lambda marks=marks: any(tmp_path.glob(f"encoded.partial-*/{marks}")), group=group)
            with pytest.raises(InputError):
                EncodedDataset(output)
            (partial,) = tmp_path.glob("encoded.partial-*")
            if moment != "finished":
                with pytest.raises(InputError):
                    EncodedDataset(partial / "data")
            if group:
                # The next run is to come to this moment again.
                for path in partial.glob(marks):
                    path.unlink()
                for path in (partial / "work" / "done").glob(f"{moment}-*"):
                    path.unlink()
    done = subprocess.run(command(raw, output), capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "going on with what is in" in done.stdout
    assert files_of(output) == expected
    assert [path.name for path in tmp_path.iterdir()] == ["encoded"]
    EncodedDataset(output)


@pytest.mark.slow
def test_a_terminal_sees_bars(raw: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    with subprocess.Popen(command(raw, tmp_path / "encoded"), stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the terminal is gone when the command ends
            while piece := os.read(ours, 65536):
                shown += piece
        assert process.wait(timeout=60) == 0
    os.close(ours)
    lines = shown.decode().replace("\r", "\n").split("\n")
    for phase in ("reading", "counting", "encoding", "sorting"):
        of_phase = [line for line in lines if line.strip().startswith(phase)]
        assert "100%" in of_phase[-1]
        assert re.search(r"[0-9.]+k?/[0-9.]+k? \[[0-9:]+<[0-9:]+, .* (rows|columns)/s\]", of_phase[-1]), of_phase[-1]
    assert any("reading" in line and "100%" not in line for line in lines)


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done(raw: Path, tmp_path: Path) -> None:
    with started(command(raw, tmp_path / "encoded")) as process:
        while not list(tmp_path.glob("encoded.partial-*/work/done/reading-*")):
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 130
    assert stderr.decode().strip().splitlines() == [
        "What is done is kept: the same command goes on there.",
        "Interrupted.",
    ]
    assert len(list(tmp_path.glob("encoded.partial-*/work/done/reading-*"))) > 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--cores=0"], ["--cores", "'0'"]),
        (["--memory=much"], ["--memory", "'much'", "16g"]),
        (["--frequency_limit=15,3"], ["--frequency_limit", "found: 15,3", "15,3:5 in column 3"]),
        (["--frequency_limit=15,3:0"], ["--frequency_limit", "found: 15,3:0"]),
        (["--frequency_limit=15,3:4,3:5"], ["--frequency_limit", "Name each once"]),
        (["--frequency_limit=0"], ["--frequency_limit must be at least 1"]),
        (["--frequency_limit=15,26:1"], ["names column 26", "there are 26 categorical columns", "counted from 0"]),
        (["--frequency_limit=15,cat_02:1"], ["names column cat_02", "Near it are cat_2"]),
        (["--feature_spec=nowhere.yaml"], ["nowhere.yaml cannot be read"]),
        (["--input=nowhere"], ["nowhere does not exist"]),
        (["--vocabulary=nowhere"], ["nowhere does not exist", "found: no manifest.json"]),
        (["--extend"], ["--extend needs a vocabulary", "Add --vocabulary ENCODED"]),
        (["--separate_missing=perhaps"], ["--separate_missing", "true or false, not 'perhaps'"]),
        (["--input=s3://bucket/rows"], ["s3://bucket/rows is not a path on this machine", "mount that storage"]),
        (["--spill=hdfs://name/spill"], ["hdfs://name/spill is not a path on this machine"]),
        (["--input=/dev/zero"], ["/dev/zero is no file on a disk", "Write the rows to a file first"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and value[0].startswith("--") else "",
)
def test_bad_arguments(tmp_path: Path, capsys: pytest.CaptureFixture, flags: list[str], said: list[str]) -> None:
    source = tmp_path / "rows.tsv"
    source.write_text("1" + "\t" * 39 + "\n")
    assert main(["preprocess", f"--input={source}", f"--output={tmp_path / 'out'}", *flags]) == 2
    captured = capsys.readouterr()
    assert all(part in captured.err for part in said), captured.err
    assert len(captured.err.splitlines()) <= 3
    assert [path.name for path in tmp_path.iterdir()] == ["rows.tsv"]


@pytest.mark.parametrize(
    ("channels", "found"),
    [
        ("numerical: [a], categorical: [b, a]", "'a', 2 times"),
        ("numerical: [a], label: [a]", "'a', 2 times"),
        ("categorical: [yes]", "True"),
        ("categorical: ['']", "''"),
    ],
)
def test_every_column_has_a_name_of_its_own(tmp_path: Path, channels: str, found: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(f"channel_spec: {{{channels}}}\n")
    with pytest.raises(InputError, match=f"a name of its own.\n  found: {re.escape(found)}"):
        RawColumns.read(path)


@pytest.mark.parametrize(
    ("setting", "limits"),
    [(15, (15, 15, 15)), ("15", (15, 15, 15)), ("15,2:5", (15, 15, 5)), ("7,0:1,1:2", (1, 2, 7))],
)
def test_frequency_limits(setting: int | str, limits: tuple[int, ...]) -> None:
    config = Config.from_preset("smoke", {"frequency_limit": setting}).preprocess
    assert config.limits(("a", "b", "c")) == limits
    assert isinstance(config.frequency_limit, int) == (":" not in str(setting))


def test_columns_from_a_feature_spec(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("channel_spec: {numerical: [price, age], categorical: [shop, page, user], label: [click]}\n")
    columns = RawColumns.read(path)
    assert columns.names == ("click", "price", "age", "shop", "page", "user")
    assert (columns.numerical, columns.categorical, columns.total) == (2, 3, 6)
    path.write_text("channel_spec: {categorical: [shop]}\n")
    assert RawColumns.read(path).names == ("label", "shop")
    named = FeatureSpec(numerical=2, cardinalities=(7, 8, 9), raw_columns=columns)
    named.write(path)
    assert RawColumns.read(path) == columns
    assert FeatureSpec.read(path) == named
    unnamed = FeatureSpec(numerical=4, cardinalities=(3, 9))
    unnamed.write(path)
    assert RawColumns.read(path) == RawColumns.unnamed(4, 2)
    assert FeatureSpec.read(path) == unnamed
    for text in ("", "channel_spec: 3", "channel_spec: {numerical: 13, categorical: 26}", "{", "channel_spec: {}"):
        path.write_text(text)
        with pytest.raises(InputError) as error:
            RawColumns.read(path)
        assert "spec.yaml is not a feature specification" in str(error.value)
        assert len(str(error.value).splitlines()) == 3


def test_bars_are_for_terminals_and_notebooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    assert progress_bars() is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert progress_bars(quiet=True) is None
    assert progress_bars() is not None
