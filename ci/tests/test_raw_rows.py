"""The sample of raw rows for looking at: right cells, right rows, from days, one file, and compressed ones."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from dlrm_lib.columns import RawColumns
from dlrm_lib.errors import InputError
from dlrm_lib.exercises.chapter_01 import parse_line
from dlrm_lib.raw_rows import read_raw

SMALL = RawColumns.unnamed(2, 2)


def lines(rows: int, *, end: str = "\n", first: int = 0) -> bytes:
    """Lines whose first integer is their number."""
    return "".join(f"{n % 2}\t{first + n}\t\t0{n % 7}e1\t{end}" for n in range(rows)).encode()


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def test_cells_stay_what_they_are(tmp_path):
    text = "1\t-3\t\t0012e455\t\r\n0\t\t0\t\tä\n1\t7\t9223372036854775807\t00000000\tNA\n"
    table = read_raw(write(tmp_path / "log", text.encode()), columns=SMALL)
    assert table.label.tolist() == [True, False, True]
    assert table.I1.fillna(99).tolist() == [-3, 99, 7]
    assert table.I2.isna().tolist() == [True, False, False]
    assert table.C1.tolist() == ["0012e455", "", "00000000"]
    assert table.C2.tolist() == ["", "ä", "NA"]
    assert list(table.columns) == ["part", "label", "I1", "I2", "C1", "C2"]


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_every_day_gives_its_first_rows(tmp_path, ending):
    for day, rows in enumerate((500, 3, 200)):
        write(tmp_path / f"day_{day}{ending}", lines(rows, first=1000 * day))
    table = read_raw(tmp_path, 100, columns=SMALL)
    assert table.part.tolist() == [0] * 100 + [1] * 3 + [2] * 100
    assert table.I1.tolist() == [*range(100), *range(1000, 1003), *range(2000, 2100)]


def test_the_reader_s_chunks_do_not_matter(tmp_path, monkeypatch):
    path = write(tmp_path / "log", lines(1000))
    whole = read_raw(path, 70, columns=SMALL)
    monkeypatch.setattr("dlrm_lib.preprocess.text.CHUNK", 64)
    assert read_raw(path, 70, columns=SMALL).equals(whole)
    assert len(whole) == 700


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("rows", [10, 37, 4000])
def test_a_file_that_fits_is_read_whole_in_tenths(tmp_path, ending, rows):
    table = read_raw(write(tmp_path / f"log{ending}", lines(rows)), columns=SMALL)
    assert table.I1.tolist() == list(range(rows))
    assert table.part.tolist() == [n * 10 // rows for n in range(rows)]


def test_of_a_large_file_each_tenth_gives_its_first_rows(tmp_path):
    table = read_raw(write(tmp_path / "log", lines(100_000)), 50, columns=SMALL)
    assert table.groupby("part").size().tolist() == [50] * 10
    firsts = table.groupby("part").I1.agg(["min", "max"])
    assert ((firsts["max"] - firsts["min"]) == 49).all()
    np.testing.assert_allclose(firsts["min"], np.arange(10) * 10_000, atol=1200)  # Later numbers are longer.


def test_rejected_lines_are_left_out(tmp_path):
    data = lines(3) + b"1\tx\t\ta\tb\n2\t1\t\ta\tb\n1\t2\n\n" + lines(2)
    assert len(read_raw(write(tmp_path / "log", data), columns=SMALL)) == 5


def test_files_without_rows_or_broken_ones_are_named(tmp_path):
    with pytest.raises(InputError, match=r"log holds no row.\n  found: 6 bytes in log: 1 field in a line instead of 5"):
        read_raw(write(tmp_path / "log", b"hello\n"), columns=SMALL)
    with pytest.raises(InputError, match=r"commas instead of tabs\n  remedy: `tr"):
        read_raw(write(tmp_path / "log", lines(9).replace(b"\t", b",")), columns=SMALL)
    with pytest.raises(InputError, match=r"zip does not hold raw rows.\n  found: a zip archive"):
        read_raw(write(tmp_path / "zip", b"PK\x03\x04" + bytes(99)), columns=SMALL)
    with pytest.raises(InputError, match=r"empty holds no row.\n  found: no bytes"):
        read_raw(write(tmp_path / "empty", b""), columns=SMALL)
    broken = tmp_path / "broken.gz"
    broken.write_bytes(gzip.compress(lines(1000))[:-20])
    with pytest.raises(InputError, match=r"broken\.gz holds damaged gzip data"):
        read_raw(broken, columns=SMALL)
    with pytest.raises(InputError, match="does not exist"):
        read_raw(tmp_path / "nothing", columns=SMALL)


def test_real_rows_are_read_as_python_reads_them(real_rows):
    for path in sorted(real_rows.glob("*.tsv")):
        table = read_raw(path)
        with path.open(newline="\n") as file:
            fields = [row for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
        assert table.label.tolist() == [row[0] == "1" for row in fields]
        for i in range(1, 14):
            expected = [np.nan if row[i] == "" else float(row[i]) for row in fields]
            np.testing.assert_array_equal(table[f"I{i}"], expected)
        for j in range(1, 27):
            assert table[f"C{j}"].tolist() == [row[13 + j] for row in fields]


def test_the_exercise_s_solution_agrees(real_rows):
    path = sorted(real_rows.glob("*.tsv"))[0]
    row = read_raw(path).iloc[7]
    with path.open("rb") as file:
        label, integers, tokens = parse_line(file.readlines()[7])
    assert label == row.label
    assert [None if np.isnan(row[f"I{i}"]) else row[f"I{i}"] for i in range(1, 14)] == integers
    assert [row[f"C{j}"] for j in range(1, 27)] == tokens
