"""Files that do not hold raw rows: what they are said to be, and whether the command that is advised makes rows.

Every command is run as it is printed. What it leaves is compared with the rows that the file was made from.
"""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import io
import itertools
import lzma
import random
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import oracle_preprocess as oracle
import pyarrow as pa
import pytest

from dlrm_lib.columns import CRITEO, NumericalColumn, RawColumns
from dlrm_lib.commands.data import columns_of
from dlrm_lib.commands.parser import parse_arguments
from dlrm_lib.errors import InputError
from dlrm_lib.preprocess.diagnosis import Finding, explain, fault, refuse_packed
from dlrm_lib.preprocess.forms import form_of
from dlrm_lib.preprocess.rows import REASONS, parse
from dlrm_lib.preprocess.source import source_files
from dlrm_lib.preprocess.text import PlainLines, chunks

COLUMNS = RawColumns.unnamed(3, 4)
Fields = list[list[str]]


def rows(count: int = 200, seed: int = 0, columns: RawColumns = COLUMNS) -> Fields:
    """Rows whose first ones have every kind of empty field."""
    rng = random.Random(seed)
    return [
        [
            rng.choice("0001"),
            *(rng.choice(["", "0", "-1", str(rng.randrange(9999))]) for _ in range(columns.numerical)),
            *(rng.choice(["", f"{rng.randrange(2**32):08x}"]) for _ in range(columns.categorical)),
        ]
        for _ in range(count)
    ]


def text(fields: Fields, separator: str = "\t", end: str = "\n") -> bytes:
    return "".join(separator.join(row) + end for row in fields).encode()


HEADER = ["label", "I1", "I2", "I3", "C1", "C2", "C3", "C4"]


def with_numbers(change: Callable[[str], str]) -> Callable[[Fields], bytes]:
    return lambda of: text([[row[0], *map(change, row[1:4]), *row[4:]] for row in of])


def zipped(of: Fields, *names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, b"Read me.\n" if "read" in name else text(of))
    return out.getvalue()


def tarred(of: Fields, mode: str, *names: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name in names:
            content = b"Read me.\n" if "read" in name else text(of)
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def found_in(path: Path, columns: RawColumns = COLUMNS, files: Sequence[Path] = ()) -> Finding | None:
    return explain(path, form_of(path, columns), columns, files)


# What a file is made of: its name, its bytes, and a word of what is said of it.
FORMATS: dict[str, tuple[str, Callable[[Fields], bytes], str]] = {
    "commas": ("rows.csv", lambda of: text(of, ","), "commas"),
    "commas, CRLF": ("rows.csv", lambda of: text(of, ",", "\r\n"), "commas"),
    "semicolons": ("rows.csv", lambda of: text(of, ";"), "semicolons"),
    "pipes": ("rows.txt", lambda of: text(of, "|"), "pipes"),
    "colons": ("rows.txt", lambda of: text(of, ":"), "colons"),
    "as Hive writes it": ("000000_0", lambda of: text(of, "\x01"), "the byte 01, as of Hive, instead of tabs"),
    "spaces": ("rows.txt", lambda of: text(of, " "), "spaces"),
    "quotes": ("rows.csv", lambda of: text([[f'"{x}"' for x in row] for row in of], ","), "in quotes"),
    "quotes and tabs": ("rows.tsv", lambda of: text([[f'"{x}"' for x in row] for row in of]), "quotes"),
    "BOM and commas": ("rows.csv", lambda of: "\ufeff".encode() + text(of, ","), "commas"),
    "an Id": ("rows.tsv", lambda of: text([[str(10 + i), *row] for i, row in enumerate(of)]), "like an Id"),
    "two Ids": ("rows.tsv", lambda of: text([["a1", str(9 + i), *row] for i, row in enumerate(of)]), "2 columns"),
    "a tab at the end": ("rows.tsv", lambda of: text([[*row, ""] for row in of]), "the last empty"),
    "label last": ("rows.tsv", lambda of: text([[*row[1:], row[0]] for row in of], "\t", "\r\n"), "last column"),
    "whole decimals": ("rows.tsv", with_numbers(lambda x: x and x + ".0"), "decimals such as"),
    "NULL": ("rows.tsv", with_numbers(lambda x: x or "NULL"), "NULL for a missing integer"),
    "\\N and nan": ("rows.tsv", with_numbers(lambda x: x or random.choice(["\\N", "nan"])), "\\N, nan for a missing"),
    "blank lines": ("rows.tsv", lambda of: text(of, end="\n\n"), "blank lines"),
    "UTF-16": ("rows.tsv", lambda of: text(of).decode().encode("utf-16"), "UTF-16"),
    "UTF-16, no BOM": ("rows.tsv", lambda of: text(of, end="\r\n").decode().encode("utf-16-be"), "UTF-16"),
    "old Mac": ("rows.tsv", lambda of: text(of, end="\r"), "CR alone"),
    "zip": ("rows.zip", lambda of: zipped(of, "rows.tsv"), "a zip archive"),
    "zip with more": ("rows.zip", lambda of: zipped(of, "read me.txt", "the rows.tsv"), "of 2 files: read me.txt, the"),
    "bz2": ("rows.bz2", lambda of: bz2.compress(text(of)), "a bzip2 file"),
    "xz": ("rows.xz", lambda of: lzma.compress(text(of)), "an xz file"),
    "gzip twice": ("rows.gz", lambda of: gzip.compress(gzip.compress(text(of))), "gzip file within gzip"),
    "not gzip": ("rows.gz", text, "not gzip, in spite of its name"),
    "tar": ("rows.tar", lambda of: tarred(of, "w", "rows.tsv"), "a tar archive"),
    "tar.gz": ("rows.tar.gz", lambda of: tarred(of, "w:gz", "rows.tsv"), "a compressed tar archive"),
    "tar.xz with more": ("rows.txz", lambda of: tarred(of, "w:xz", "readme", "rows.tsv"), "of 2 files: readme, rows"),
    "a CSV in gzip without .gz": ("it", lambda of: gzip.compress(text(of, ",")), "without the ending .gz; fields sep"),
    "a CSV in bz2": ("it.csv.bz2", lambda of: bz2.compress(text([HEADER, *of], ";")), "semicolons instead of tabs; a"),
    "a CSV in gzip": ("it.csv.gz", lambda of: gzip.compress(text(of, ",")), "commas"),
    "a CSV in UTF-16": ("it.csv", lambda of: text(of, ";", "\r\n").decode().encode("utf-16"), "UTF-16; fields sep"),
}


def run(remedy: str, folder: Path) -> Path:
    """Runs the command that a remedy prints, from another folder; what it made."""
    before = {path for path in folder.rglob("*") if path.is_file()}
    (command,) = re.findall(r"`(.*)`", remedy)
    done = subprocess.run(["sh", "-c", command], cwd="/", capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), command
    (made,) = {path for path in folder.rglob("*") if path.is_file()} - before
    return made


@pytest.mark.parametrize("kind", FORMATS)
def test_the_command_that_is_advised_makes_the_rows(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    folder.mkdir()
    name, make, word = FORMATS[kind]
    of = rows()
    (folder / name).write_bytes(make(of))
    before = (folder / name).read_bytes()
    finding = found_in(folder / name)
    assert finding
    assert word in finding.facts
    assert finding.remedy
    assert run(finding.remedy, folder).read_bytes().replace(b"\r\n", b"\n").removeprefix(b"\xef\xbb\xbf") == text(of)
    assert (folder / name).read_bytes() == before


def labelled(of: Fields, no: str, yes: str) -> Fields:
    return [[yes if row[0] == "1" else no, *row[1:]] for row in of]


# What is read once it is declared: its name, its bytes, and what is advised.
DECLARED: dict[str, tuple[str, Callable[[Fields], bytes], str]] = {
    "commas, header": ("rows.csv", lambda of: text([HEADER, *of], ","), "--label label --numerical I1,I2,I3 --cat"),
    "header": ("rows.tsv", lambda of: text([HEADER, *of]), "--categorical C1,C2,C3,C4, or"),
    "as pandas writes it": (
        "rows.csv",
        lambda of: text([["", *HEADER], *([str(i), *row] for i, row in enumerate(of))], ","),
        "--label label --numerical I1,I2,I3",
    ),
    "header and labels": (
        "rows.csv.gz",
        lambda of: gzip.compress(text([HEADER, *labelled(of, "f", "t")], ";")),
        "--categorical C1,C2,C3,C4 --label_values=f,t",
    ),
    "labels -1 and 1": ("rows.tsv", lambda of: text(labelled(of, "-1", "1")), "--label_values=-1,1"),
    "labels of Python": ("rows", lambda of: text(labelled(of, "False", "True")), "--label_values=False,True"),
    "labels as decimals": ("rows", lambda of: text(labelled(of, "0.0", "1.0")), "--label_values=0.0,1.0"),
    "Zstandard": ("rows.zst", lambda of: pa.compress(text(labelled(of, "no", "yes")), "zstd", asbytes=True), "=no,yes"),
}


@pytest.mark.parametrize("kind", DECLARED)
def test_the_flags_that_are_advised_read_the_rows(kind: str, tmp_path: Path) -> None:
    name, make, word = DECLARED[kind]
    of, path = rows(), tmp_path / name
    path.write_bytes(make(of))
    columns = RawColumns.unnamed(3, 4)
    try:
        finding = found_in(path)
        remedy = (finding and finding.remedy) or ""
    except InputError as error:
        remedy = str(error)
    assert word in remedy
    flags = re.findall(r"--(?:label|numerical|categorical|label_values)[ =][^ ]*[^ ,:]", remedy)
    arguments = parse_arguments(["preprocess", *itertools.chain.from_iterable(flag.split(" ") for flag in flags)])
    declared = columns_of(arguments)
    if declared.numbers == CRITEO.numbers:
        declared = dataclasses.replace(columns, label=declared.label)
    (found,) = form_of(path, declared).read(path, 0, sys.maxsize, declared)
    assert (found.bad, found.label.tolist()) == ([], [row[0] == "1" for row in of])
    assert found.tokens(3).strings().to_pylist() == [row[7] for row in of]
    assert np.where(found.missing, 0, found.integer).tolist() == [[int(x or 0) for x in row[1:4]] for row in of]


def test_compressed_text_without_its_ending_is_given_one(tmp_path: Path) -> None:
    for name, ending, content in (
        ("gz", ".gz", gzip.compress(text(rows()))),
        ("zst", ".zst", pa.compress(text(rows()), "zstd", asbytes=True)),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"without the ending {ending}\n  remedy: Add the ending {ending} to its"):
            refuse_packed([tmp_path / name], COLUMNS)
        (tmp_path / name).rename(tmp_path / f"{name}{ending}")
        refuse_packed([tmp_path / f"{name}{ending}"], COLUMNS)
        assert found_in(tmp_path / f"{name}{ending}") is None


def test_decimals_that_are_no_whole_numbers_are_to_be_declared(tmp_path: Path) -> None:
    path = tmp_path / "prices.tsv"
    prices = ["0.33", "", "12", "7.5", "-1.25e-3"]
    path.write_bytes(b"".join(b"1\t%s\t4\t5.0\ta\tb\tc\td\n" % price.encode() for price in prices))
    finding = found_in(path)
    assert finding
    assert finding.facts == "decimals such as 0.33 in 2 of the integer columns, the first in field 2"
    assert finding.remedy == (
        "Declare them in a --feature_spec: feature_spec: {num_0: {type: decimal}} and so for the others."
    )
    one, two, three = COLUMNS.numbers
    decimal = [dataclasses.replace(column, type="decimal") for column in (one, three)]
    assert found_in(path, dataclasses.replace(COLUMNS, numbers=(decimal[0], two, decimal[1]))) is None
    path.write_bytes(path.read_bytes().replace(b"\t4\t", b"\tx\t"))
    other = found_in(path)
    assert other
    assert "type: decimal" not in (other.remedy or "")  # for that would not do


# Files of which no command makes rows: what is said, and what must not be.
NO_REMEDY: dict[str, tuple[bytes, str]] = {
    "NUL bytes": (bytes(5000), "only NUL bytes"),
    "blank lines": (b"\n" * 500, "only blank lines"),
    "a page": (b"<!DOCTYPE html>\n<html>404</html>\n" * 3, "a page of HTML or XML"),
    "JSON": (b'{"label": 1}\n' * 9, "JSON"),
    "Feather": (b"ARROW1\0\0" + bytes(99), "an Arrow or Feather file"),
    "LibSVM": (b"1 3:1 5:7\n" * 99, "3 fields in a line instead of 8"),
    "Latin-1": (
        text([[*row[:7], "\xe9t\xe9"] for row in rows()]).decode().encode("latin-1"),
        "not UTF-8 in many lines",
    ),
    "one column": (b"words\n" * 99, "1 field in a line instead of 8"),
    "no label": (text([row[1:] for row in rows()]), "no label, like the test file"),
    "decimals without end": (with_numbers(lambda x: x and str(int(x) / 7))(rows()), "decimals such as"),
    "a damaged zip": (zipped(rows(), "rows.tsv")[:200], "a zip archive"),
    "a damaged comma file": (
        b"".join(line if i % 20 else b"\xff\n" for i, line in enumerate(text(rows(), ",").splitlines(keepends=True))),
        "fields separated by commas",
    ),
    "tokens early": (text([[row[0], row[1], *row[4:], "x", "y"] for row in rows()]), "tokens from field 3 on, such"),
}


@pytest.mark.parametrize("kind", NO_REMEDY)
def test_where_no_command_makes_rows_none_is_given(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "it"
    path.write_bytes(NO_REMEDY[kind][0])
    finding = found_in(path)
    if NO_REMEDY[kind][1]:
        assert finding
        assert NO_REMEDY[kind][1] in finding.facts
    assert not finding or "`" not in (finding.remedy or "")


def test_lines_that_only_look_like_a_format_are_left_alone(tmp_path: Path) -> None:
    good = rows(seed=1)
    broken = [["x", "5", "6", "7", *"abcd"], *good[1:]]  # a row with a lost label is not a header
    tokens = [["label", "a", "b", "c", "d", "68fd1e64", "e", "f"], *good[1:]]  # nor is one with a hash
    odd = [[*row[:4], 'a,b;c|d "e"', "{", "\ufeff", "NULL"] for row in good]  # all of this may be in a token
    stray = [[*good[0][:2], "0.5", *good[0][3:]], *good[1:]]  # and one decimal does not make a column of prices
    for lines in (good, broken, tokens, odd, stray):
        (tmp_path / "rows").write_bytes(text(lines))
        assert found_in(tmp_path / "rows") is None
    (tmp_path / "rows").write_bytes(text([[f"{i:08x}", *row[1:]] for i, row in enumerate(good)]))
    finding = found_in(tmp_path / "rows")
    assert not finding or "header" not in finding.facts


def test_a_cut_takes_no_label_for_an_id(tmp_path: Path) -> None:
    """With a column too many at the end, the first one is the label, and what comes second may look like one too."""
    of = [[row[0], "1", *row[2:], "more"] for row in rows()]
    (tmp_path / "rows").write_bytes(text(of))
    finding = found_in(tmp_path / "rows")
    assert finding
    assert "9 fields in a line instead of 8" in finding.facts
    assert "`" not in (finding.remedy or "")


@pytest.mark.parametrize("packed", [False, True])
def test_days_of_one_format_are_mended_by_one_command(tmp_path: Path, packed: bool) -> None:
    folder = tmp_path / "my days"
    folder.mkdir()
    days = [rows(60, seed) for seed in range(3)]
    for day, of in enumerate(days):
        content = text(of) if day == 1 else text(of, ",")
        (folder / f"day_{day}{'.gz' * packed}").write_bytes(gzip.compress(content) if packed else content)
    files = source_files(folder)
    finding = found_in(files[0], COLUMNS, files)
    assert finding
    assert "copy the other days there, then give that folder" in (finding.remedy or "")
    (command,) = re.findall(r"`(.*)`", finding.remedy or "")
    subprocess.run(["sh", "-c", command], cwd="/", check=True)
    (made,) = (path for path in tmp_path.iterdir() if path != folder)
    assert {path.name: path.read_bytes() for path in made.iterdir()} == {f"day_{d}": text(days[d]) for d in (0, 2)}
    assert source_files(folder) == files
    again = found_in(files[0], COLUMNS, files)
    assert again
    assert f"{made}.2" in (again.remedy or "")  # what is there is not written over


def test_packed_files_are_refused_before_any_work(tmp_path: Path) -> None:
    for kind in ("zip", "not gzip", "gzip twice"):
        name, make, _ = FORMATS[kind]
        (tmp_path / name).write_bytes(make(rows()))
        with pytest.raises(InputError, match=f"{name} does not hold raw rows"):
            refuse_packed([tmp_path / name], COLUMNS)
    (tmp_path / "mac").write_bytes(text(rows(40_000), end="\r"))
    with pytest.raises(InputError, match=r"lines that end with CR alone\n  remedy: `tr"):
        refuse_packed([tmp_path / "mac"], COLUMNS)
    for name, content in {
        "good": text(rows()),
        "good.gz": gzip.compress(text(rows())),
        "empty": b"",
        "e.gz": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
        refuse_packed([tmp_path / name], COLUMNS)


def test_a_remedy_whose_tool_is_not_there_is_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows").write_bytes(bz2.compress(text(rows())))
    assert "bzip2 -dc" in str(found_in(tmp_path / "rows"))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert found_in(tmp_path / "rows") == ("a bzip2 file", None)


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("size", [1, 2, 5, 10**6])
def test_a_mark_of_utf8_is_no_part_of_the_first_label(tmp_path: Path, ending: str, size: int) -> None:
    content = text(rows(9))
    path = tmp_path / f"rows{ending}"
    marked = b"\xef\xbb\xbf" + content
    path.write_bytes(gzip.compress(marked) if ending else marked)
    pieces = itertools.pairwise(PlainLines().bounds(path, size))
    read = b"".join(data[:size].tobytes() for piece in pieces for data, size in chunks(path, *piece))
    assert read == content
    assert all(not isinstance(oracle.read_line(line, COLUMNS), str) for line in read.splitlines())


def test_a_fault_names_the_field_and_the_counts() -> None:
    lines = {
        b"1\t2": "wrong number of fields: 2 instead of 40 (label, 13 integers, 26 tokens)",
        b"yes" + b"\t" * 39: "label is not 0 or 1: it is 'yes'",
        b"1\t2\tx.5" + b"\t" * 37: "not an integer: field 3, integer 2 of 13, is 'x.5'",
        b"1\t2\t\t99999999999999999999" + b"\t" * 36: "integer beyond 64 bits: field 4, integer 3 of 13, is '9999999",
        b"1\t\xff" + b"\t" * 38: "not UTF-8",
        b"": "blank line",
    }
    for line, said in lines.items():
        (bad,) = parse(line + b"\n", CRITEO).bad
        assert fault(line, REASONS[bad.reason], PlainLines(), CRITEO).startswith(said)


def test_a_faulty_decimal_is_named_with_what_its_column_takes() -> None:
    price, stars = (NumericalColumn(name="price", type="decimal"), NumericalColumn(name="stars", type="decimal"))
    stars = dataclasses.replace(stars, rule="identity")
    columns = RawColumns(numbers=(NumericalColumn(name="count"), price, stars))
    lines = {
        b"1\t2\t3.5": "wrong number of fields: 3 instead of 4 (label, 3 numbers)",
        b"1\t2.5\tx\t5": "not an integer: field 2, count, is '2.5'",
        b"1\t2\tnan\t5": "not a decimal number: field 3, price, is 'nan'",
        b"1\t2\t0x1p3\t5": "not a decimal number: field 3, price, is '0x1p3'",
        b"1\t2\t.5\t1,000": "not a decimal number: field 4, stars, is '1,000'",
        b"1\t2\t-1e308\t5": "decimal number too large: field 3, price, is '-1e308', and it takes numbers below 1e308",
        b"1\t2\t\t1e4": "decimal number too large: field 4, stars, is '1e4', and it takes numbers below 1e4",
    }
    for line, said in lines.items():
        (bad,) = parse(line + b"\n", columns).bad
        assert fault(line, REASONS[bad.reason], PlainLines(), columns) == said
