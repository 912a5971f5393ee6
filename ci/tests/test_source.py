"""Which files are raw rows: none is left out without a word, and what cannot be read is refused at once."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from dlrm_lib.errors import InputError
from dlrm_lib.preprocess.source import file_names, source_days, source_files, unread

ROW = b"1\t5\t-3\ta\tb\tc\n"


def two_days(folder: Path) -> Path:
    folder.mkdir()
    for day in range(2):
        (folder / f"day_{day}").write_bytes(ROW)
    return folder


@pytest.mark.parametrize(
    "name",
    [
        *("day_02", "day_2.txt", "Day_2", "DAY_2.gz", "day-2", "day2", "day_2.bak", "day_2.csv.bz2"),
        *("day_2~", "day_2.json", "day_", "my_day_2.txt", "day 2", "day_002.gz"),
    ],
)
def test_a_name_that_is_almost_a_days_is_never_left_out(tmp_path: Path, name: str) -> None:
    source = two_days(tmp_path / "raw")
    (source / name).write_bytes(ROW)
    with pytest.raises(InputError) as error:
        source_files(source)
    what, found, remedy = str(error.value).splitlines()
    assert what == f"{source / name} would not be read: it is not named like a day."
    assert found == "  found: 2 day files beside it, the last is day_1"
    if renamed := re.search("Rename it to (day_2)", remedy):
        (source / name).rename(source / renamed[1])
    else:
        (source / name).rename(tmp_path / name)
    assert [path.name for path in source_files(source)] == ["day_0", "day_1", "day_2"][: 3 if renamed else 2]
    assert bool(renamed) == ("2" in name)


def test_what_is_beside_the_days_is_named_or_harmless(tmp_path: Path) -> None:
    source = two_days(tmp_path / "raw")
    harmless = [".day_1.crc", "._day_1", "_SUCCESS", "LICENSE", "README", "terabyte.json", "day_0.md5", "lost+found"]
    for name in harmless:
        (source / name).write_bytes(b"x")
    assert unread(source) == []
    for name in ("part-0", "train.txt"):
        (source / name).write_bytes(ROW)
    assert [path.name for path in source_files(source)] == ["day_0", "day_1"]
    assert unread(source) == ["part-0", "train.txt"]
    for name in ("day_2.gz.download", "raw.partial-0a1b2c3d", "day_2.gz.part", "day_2.crdownload"):
        (source / name).write_bytes(ROW) if "gz.p" in name else (source / name).mkdir()
        with pytest.raises(InputError, match=rf"{name} would not be read.*\n  found: what unfinished"):
            source_files(source)
        (source / name).unlink() if "gz.p" in name else (source / name).rmdir()
    (source / "day_7.txt").write_bytes(ROW)  # renaming it would leave a gap
    with pytest.raises(InputError, match="the number of the next day"):
        source_files(source)


def test_what_only_one_process_can_read_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows")
    ours, theirs = os.pipe()
    for path in (tmp_path / "rows", Path(f"/dev/fd/{ours}"), Path(f"/proc/self/fd/{ours}"), Path("/dev/null")):
        with pytest.raises(InputError, match=rf"{path} is no file on a disk"):
            source_files(path)
    os.close(ours)
    os.close(theirs)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"gone cannot be read.\n  found: No such file"):
        source_files(tmp_path / "gone")
    with pytest.raises(InputError, match="s3://bucket/rows is not a path on this machine"):
        source_files(Path("s3://bucket/rows"))


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(ROW)
    return folder


def test_days_may_have_any_ending_that_is_read(tmp_path: Path) -> None:
    names = ["day_0", "day_1.csv", "day_2.csv.gz", "day_3.tsv.zst", "day_4.parquet", "day_5.zst", "day_6.gz"]
    assert file_names(source_days(touch(tmp_path, *names))) == names
    (tmp_path / "day_7.parquet.gz").write_bytes(ROW)
    with pytest.raises(InputError, match=r"Rename it to day_7.gz, or move"):
        source_files(tmp_path)


def test_days_may_be_folders_by_date_with_several_files(tmp_path: Path) -> None:
    files = ["day=2015-02-15/part-2.parquet", "day=2015-02-15/part-10.parquet", "day=2015-03-01/0.csv.gz"]
    source = touch(tmp_path / "raw", *reversed(files), "day=2015-02-15/_SUCCESS", "notes.txt")
    assert list(source_days(source)) == ["day=2015-02-15", "day=2015-03-01"]
    assert file_names(source_days(source)) == files
    assert source_files(source) == [source / name for name in files]
    assert unread(source) == ["notes.txt"]
    (source / "day=2015-03-02").mkdir()
    with pytest.raises(InputError, match="day=2015-03-02 holds no files"):
        source_days(source)
    (source / "day=2015-03-02").rmdir()
    for name, said in {
        "day=2015-3-2/0.csv": "Name a folder of a day like day=2015-02-15",
        "day_0.csv": "raw has days of two kinds.\n  found: day=2015-0",
        "dt=2015-03-02/0.csv": "raw has days of two kinds",
        "day=2015-03-01/1.parquet.part": "what unfinished downloads",
    }.items():
        touch(source, name)
        with pytest.raises(InputError, match=said):
            source_days(source)
        (source / name).unlink()
        if name.partition("/")[0] not in ("day=2015-03-01", "day_0.csv"):
            (source / name).parent.rmdir()


def test_the_parts_of_a_parquet_table_are_one_log(tmp_path: Path) -> None:
    parts = ["part-00000-1f.snappy.parquet", "part-00001-0a.snappy.parquet"]
    source = touch(tmp_path / "table", *parts, "_SUCCESS")
    assert source_days(source) == {"table": [source / name for name in parts]}
    assert file_names(source_days(source)) == [f"table/{name}" for name in parts]
    for name in parts:
        (source / name).unlink()
    touch(source, "train.parquet", "test.parquet")  # nobody means these to be read as one
    with pytest.raises(InputError, match="table has no day files"):
        source_days(source)
