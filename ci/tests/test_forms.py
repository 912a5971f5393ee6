"""Parquet and delimited text give the rows that the same values give as plain lines, wherever they are cut."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import itertools
import random
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import oracle_preprocess as oracle
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlrm_lib.columns import CategoricalColumn, LabelColumn, NumericalColumn, RawColumns
from dlrm_lib.errors import InputError
from dlrm_lib.preprocess import delimited
from dlrm_lib.preprocess.delimited import Delimited
from dlrm_lib.preprocess.diagnosis import explain
from dlrm_lib.preprocess.forms import Form, cut, form_of
from dlrm_lib.preprocess.parquet import Parquet
from dlrm_lib.preprocess.rows import reasons

COLUMNS = RawColumns(
    label=LabelColumn(name="clicked"),
    numbers=(NumericalColumn(name="price"), NumericalColumn(name="age")),
    tokens=tuple(CategoricalColumn(name=name) for name in ("shop", "page", "user")),
)
DECIMALS = dataclasses.replace(
    COLUMNS,
    numbers=(
        NumericalColumn(name="price", type="decimal"),
        NumericalColumn(name="age", type="decimal", rule="identity"),
    ),
)
ODD = [
    "",
    "a",
    'say "x"',
    '"',
    '""',
    "a,b;c",
    " ",
    "é€😀",
    "12345678",
    "123456789",
    "1234567é",
    "nul\0",
    "\0",
    "x" * 300,
]
Values = Sequence[str]


def random_rows(count: int, seed: int = 0, tokens: Sequence[str] = ODD) -> list[Values]:
    rng = random.Random(seed)
    numbers = ["", "0", "-1", "007", str(2**63 - 1), str(-(2**63)), "15"]
    return [[rng.choice("01"), *rng.choices(numbers, k=2), *rng.choices(tokens, k=3)] for _ in range(count)]


def mangled(rows: list[Values], seed: int = 0) -> list[Values]:
    """Some of the values spoilt in each way that a value can be."""
    rng, rows = random.Random(seed), [list(row) for row in rows]
    for row in rng.sample(rows, len(rows) // 4):
        for at, bad in rng.sample([(0, "2"), (0, ""), (1, "x"), (1, "1.5"), (2, "9" * 30), (2, "+1"), (2, "-")], 2):
            row[at] = bad
    return rows


def lines(rows: list[Values]) -> bytes:
    return b"".join("\t".join(row).encode() + b"\n" for row in rows)


def delimited_text(
    rows: list[Values], separator: str = ",", end: str = "\n", quoting: int = csv.QUOTE_MINIMAL
) -> bytes:
    """With a header, and the columns in another order beside some that nobody asks for."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=separator, lineterminator=end, quoting=quoting)
    order = [3, 1, 0, 5, 4, 2]
    writer.writerow(["id", *(COLUMNS.names[at] for at in order), "more"])
    for number, row in enumerate(rows):
        writer.writerow([number, *(row[at] for at in order), 'a\n"b"\n' if number % 3 else "c"])
    return out.getvalue().encode()


def write_parquet(path: Path, rows: list[Values], group: int = 1 << 20, **options: Any) -> Path:
    """Text in every column, missing values null or empty."""
    columns = list(zip(*rows, strict=True)) or [()] * COLUMNS.total
    arrays = [
        pa.array([value or ("" if at % 2 else None) for value in of], pa.string()) for at, of in enumerate(columns)
    ]
    arrays.append(pa.array(range(len(rows)), pa.int64()))
    pq.write_table(pa.table(arrays, names=[*COLUMNS.names, "more"]), path, row_group_size=group, **options)
    return path


Read = tuple[list[tuple], list[tuple[int, str]], list[bytes]]


def read(path: Path, form: Form, columns: RawColumns = COLUMNS, most: int = 1 << 40) -> Read:
    """All rows, and line (or row) number, reason and text of what is rejected, read range by range."""
    rows, rejected, texts = [], [], []
    for piece in cut([path], [form], most):
        line = piece.before()
        for found in piece.read(columns):
            tokens = [found.tokens(j).strings().to_pylist() for j in range(columns.categorical)]
            values = found.integer.astype(object)
            values[:, [column.type == "decimal" for column in columns.numbers]] = found.decimal
            numbers = [
                [None if gone else number for number, gone in zip(*row, strict=True)]
                for row in zip(values.tolist(), found.missing.tolist(), strict=True)
            ]
            rows += zip(found.label.tolist(), map(tuple, numbers), *tokens, strict=True)
            rejected += [(line + bad.line, reasons(columns)[bad.reason]) for bad in found.bad]
            texts += [bad.text for bad in found.bad]
            line += found.lines
    return rows, rejected, texts


def expected(rows: list[Values], columns: RawColumns = COLUMNS) -> tuple[list[tuple], list[tuple[int, str]]]:
    """Rows, and number and reason of those rejected, as the oracle has them."""
    found = [oracle.read_line("\t".join(row).encode(), columns) for row in rows]
    good = [(bool(row.label), tuple(row.numbers), *row.tokens) for row in found if isinstance(row, oracle.Row)]
    return good, [(number, row) for number, row in enumerate(found) if isinstance(row, str)]


@pytest.mark.parametrize("group", [1, 7, 1000])
@pytest.mark.parametrize("options", [{}, {"use_dictionary": False, "compression": "zstd"}], ids=str)
def test_parquet_gives_the_rows_of_the_lines(tmp_path: Path, group: int, options: dict) -> None:
    rows = mangled(random_rows(300))
    path = write_parquet(tmp_path / "rows", rows, group, **options)
    form = form_of(path, COLUMNS)
    assert form == Parquet()
    good, bad = expected(rows)
    for most in (1, 1 << 40):
        found = read(path, form, most=most)
        assert found[:2] == (good, bad)
        assert found[2] == ["\t".join(rows[number]).encode() for number, _ in bad]
    assert form.sample(path) == (path.stat().st_size, 300)


def test_decimals_are_those_of_the_lines(tmp_path: Path) -> None:
    """As text in Parquet, with dictionaries and without, and in quotes and without; wherever it is cut."""
    rng = random.Random(1)
    numbers = ["", "0", "-.5", "12.", "1e-3", "0.1", "1" * 40 + "e-37", "1e4", "1e309", "nan", "+1", "1,5", "-", "7 "]
    numbers += [repr(rng.lognormvariate(0, 3)) for _ in range(30)]
    rows = [[rng.choice("01"), *rng.choices(numbers, k=2), *rng.choices(ODD, k=3)] for _ in range(400)]
    good, bad = expected(rows, DECIMALS)
    assert {reason for _, reason in bad} == {"not a decimal number", "decimal number too large"}
    for options in ({}, {"use_dictionary": False}):
        path = write_parquet(tmp_path / "rows", rows, 50, **options)
        for most in (1, 1 << 40):
            assert read(path, form_of(path, DECIMALS), DECIMALS, most)[:2] == (good, bad)
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
        path = tmp_path / "rows.csv"
        path.write_bytes(delimited_text(rows, ";", quoting=quoting))
        for most in (999, 1 << 40):
            found, rejected, texts = read(path, form_of(path, DECIMALS), DECIMALS, most)
            assert found == good
            assert [reason for _, reason in rejected] == [reason for _, reason in bad]
            assert texts == ["\t".join(rows[number]).encode() for number, _ in bad]
    path.write_text('clicked,price,age,shop,page,user\n1,"1""5",2,a,b,c\n0,"1".5,2,a,b,c\n1,"1.5",2,a,b,c\n')
    found, rejected, _ = read(path, form_of(path, DECIMALS), DECIMALS)
    assert (found, rejected) == (
        [(True, (1.5, 2.0), "a", "b", "c")],
        [(1, "not a decimal number"), (2, "not a decimal number")],
    )


DECIMAL_TYPES = {
    "double": ("price", pa.array([0.1, None, float("nan")]), [0.1, None, None], []),
    "float32": ("price", pa.array([0.1, -0.0, 0.5], pa.float32()), [float(np.float32(0.1)), 0.0, 0.5], []),
    "int64": ("price", pa.array([-(2**63), None, 2**53 + 1]), [-(2.0**63), None, 2.0**53], []),
    "uint64": ("price", pa.array([2**64 - 1, 0, 1], pa.uint64()), [2.0**64, 0.0, 1.0], []),
    "bool": ("price", pa.array([True, False, None]), [1.0, 0.0, None], []),
    "decimal128": (
        "price",
        pa.array([Decimal("0.1"), None, Decimal("-12345678901234567.25")], pa.decimal128(30, 2)),
        [0.1, None, -12345678901234567.25],
        [],
    ),
    "categories": ("price", pa.array(["2.5", None, "2.5"]).dictionary_encode(), [2.5, None, 2.5], []),
    "nothing": ("price", pa.nulls(3), [None] * 3, []),
    "infinite": ("price", pa.array([1.0, float("-inf"), 2.0]), [1.0, 2.0], [(1, "not a decimal number")]),
    "too large": ("age", pa.array([9999.5, 1e4, -1e4]), [9999.5], [(at, "decimal number too large") for at in (1, 2)]),
    "large integers": ("age", pa.array([9999, 10000, 0]), [9999.0, 0.0], [(1, "decimal number too large")]),
}


@pytest.mark.parametrize("kind", DECIMAL_TYPES)
def test_types_that_are_read_as_decimals(tmp_path: Path, kind: str) -> None:
    name, values, wanted, rejected = DECIMAL_TYPES[kind]
    pq.write_table(table(**{name: values}), tmp_path / "rows")
    rows, bad, _ = read(tmp_path / "rows", form_of(tmp_path / "rows", DECIMALS), DECIMALS)
    assert [row[1][DECIMALS.numerical_names.index(name)] for row in rows] == wanted
    assert bad == rejected


def test_decimals_that_are_not_declared_are_to_be(tmp_path: Path) -> None:
    """Said of what could be declared so, and of nothing else."""
    path = tmp_path / "rows.csv"
    rows = [["1", "2.5", "", "a", "b", "c"], ["0", "3", "7", "a", "b", "c"]] * 9
    path.write_bytes(delimited_text(rows))
    finding = explain(path, form_of(path, COLUMNS), COLUMNS)
    assert finding == (
        "decimals in 'price'",
        "Declare them in a --feature_spec: feature_spec: {price: {type: decimal}}.",
    )
    pq.write_table(table(price=pa.array([0.5, 1.0, None]), age=pa.array([0.5, 1.0, None])), tmp_path / "rows")
    finding = explain(tmp_path / "rows", form_of(tmp_path / "rows", COLUMNS), COLUMNS)
    assert finding
    assert (finding.facts, (finding.remedy or "")[-23:]) == ("decimals in 'price', 'age'", " and so for the others.")
    assert explain(path, form_of(path, DECIMALS), DECIMALS) is None
    path.write_bytes(delimited_text([["1", "2.5", "x", "a", "b", "c"], *rows]))
    assert explain(path, form_of(path, COLUMNS), COLUMNS) is None
    pq.write_table(table(price=pa.array([1, 2, 3]).cast(pa.decimal128(21, 1))), tmp_path / "rows")
    with pytest.raises(InputError, match=r"remedy: Declare it in a --feature_spec: .*\{price: \{type: decimal\}\}"):
        form_of(tmp_path / "rows", COLUMNS)


def test_parquet_without_rows(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "rows", [])
    assert read(path, form_of(path, COLUMNS)) == ([], [], [])


def table(**columns: Any) -> pa.Table:
    """Columns of three rows, the others filled up."""
    filled = {name: pa.array(["1", "0", "1"]) for name in COLUMNS.names} | columns
    return pa.table(
        {name: values if isinstance(values, pa.Array) else pa.array(values) for name, values in filled.items()}
    )


FITTING = {
    "bool label": ("clicked", pa.array([True, False, True]), [True, False, True]),
    "int label": ("clicked", pa.array([1, 0, 1], pa.int8()), [True, False, True]),
    "float label": ("clicked", pa.array([1.0, 0.0, 1.0]), [True, False, True]),
    "int8": ("price", pa.array([-5, None, 7], pa.int8()), [-5, None, 7]),
    "uint64": ("price", pa.array([5, None, 2**63 - 1], pa.uint64()), [5, None, 2**63 - 1]),
    "floats of pandas": ("price", pa.array([-5.0, None, float("nan")]), [-5, None, None]),
    "float32": ("price", pa.array([2.0**24, 0.0, -0.0], pa.float32()), [2**24, 0, 0]),
    "2**53": ("price", pa.array([2.0**53, -(2.0**53), 1.0]), [2**53, -(2**53), 1]),
    "bool": ("price", pa.array([True, False, None]), [1, 0, None]),
    "nothing": ("price", pa.nulls(3), [None, None, None]),
    "dictionary": ("price", pa.array(["5", None, "5"]).dictionary_encode(), [5, None, 5]),
    "int64 token": ("shop", pa.array([-(2**63), None, 12345678], pa.int64()), [str(-(2**63)), "", "12345678"]),
    "uint64 token": ("shop", pa.array([2**64 - 1, None, 0], pa.uint64()), [str(2**64 - 1), "", "0"]),
    "float token": ("shop", pa.array([5.0, None, -3.0]), ["5", "", "-3"]),
    "bool token": ("shop", pa.array([True, None, False]), ["true", "", "false"]),
    "binary": ("shop", pa.array([b"a", None, "é".encode()]), ["a", "", "é"]),
    "large text": ("shop", pa.array(["a", None, "x" * 99], pa.large_string()), ["a", "", "x" * 99]),
    "categories": ("shop", pa.array(["a", None, "b"]).dictionary_encode(), ["a", "", "b"]),
    "categories of ints": ("shop", pa.array([7, None, 8]).dictionary_encode(), ["7", "", "8"]),
    "no token": ("shop", pa.nulls(3), ["", "", ""]),
    "several lines": ("shop", pa.array(["a\tb", "c\nd", None]), ["a\tb", "c\nd", ""]),
}


@pytest.mark.parametrize("kind", FITTING)
def test_types_that_are_read(tmp_path: Path, kind: str) -> None:
    name, values, wanted = FITTING[kind]
    pq.write_table(table(**{name: values}), tmp_path / "rows")
    rows, bad, _ = read(tmp_path / "rows", form_of(tmp_path / "rows", COLUMNS))
    assert bad == []
    place = {"clicked": lambda row: row[0], "price": lambda row: row[1][0], "shop": lambda row: row[2]}[name]
    assert [place(row) for row in rows] == wanted


UNFIT = {
    "decimals": ("price", pa.array([0.5, 1.0, None]), [(0, "not an integer")], b"0.5"),
    "infinite": ("price", pa.array([1.0, float("inf"), 1.0]), [(1, "not an integer")], b"inf"),
    "beyond 2**53": ("price", pa.array([1.0, 1.0, 2.0**53 + 2]), [(2, "not an integer")], b"9007199254740994.0"),
    "beyond 64 bits": (
        "price",
        pa.array([1, 2**63, 2], pa.uint64()),
        [(1, "integer beyond 64 bits")],
        b"9223372036854775808",
    ),
    "label 2": ("clicked", pa.array([1, 2, 0]), [(1, "label is not 0 or 1")], b"2"),
    "label null": ("clicked", pa.array([True, None, False]), [(1, "label is not 0 or 1")], b""),
    "float token": ("shop", pa.array([0.5, 1.0, 2.0]), [(0, "not an integer")], b"0.5"),
    "Latin-1": ("shop", pa.array([b"a", b"\xe9t\xe9", b"b"]), [(1, "not UTF-8")], b"\xe9t\xe9"),
    "Latin-1 number": ("price", pa.array([b"\xe9", b"1", b"2"]), [(0, "not UTF-8")], b"\xe9"),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_values_that_are_rejected(tmp_path: Path, kind: str) -> None:
    name, values, wanted, shown = UNFIT[kind]
    pq.write_table(table(**{name: values}), tmp_path / "rows")
    rows, bad, texts = read(tmp_path / "rows", form_of(tmp_path / "rows", COLUMNS))
    assert (len(rows), bad) == (2, wanted)
    assert texts[0].split(b"\t")[COLUMNS.names.index(name)] == shown


@pytest.mark.parametrize(
    "values",
    [pa.array([[1], [2], []]), pa.array([1, 2, 3], pa.timestamp("ms")), pa.array([1, 2, 3]).cast(pa.decimal128(21, 1))],
    ids=["list", "timestamp", "decimal"],
)
def test_types_that_are_not_read(tmp_path: Path, values: pa.Array) -> None:
    pq.write_table(table(page=values), tmp_path / "rows")
    with pytest.raises(InputError) as error:
        form_of(tmp_path / "rows", COLUMNS)
    said = str(error.value).splitlines()
    assert said[0] == f"{tmp_path / 'rows'}: column 'page' has values of a type that is not read."
    assert said[1].startswith(f"  found: {str(values.type)[:4]}")
    assert len(said) == 3
    pq.write_table(table(unasked=values), tmp_path / "rows")
    assert form_of(tmp_path / "rows", COLUMNS) == Parquet()


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "rows", random_rows(3000), compression="none")
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(InputError, match="rows holds damaged Parquet data"):
        form_of(path, COLUMNS)
    path.write_bytes(whole[:4] + bytes(2000) + whole[2004:])
    with pytest.raises(InputError, match="rows holds damaged Parquet data"):
        read(path, Parquet())


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_delimited_text_gives_the_rows_of_the_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, separator: str, end: str, ending: str
) -> None:
    rows = mangled(random_rows(200, tokens=[*ODD, "two\nlines", "a\tb"]))
    path = tmp_path / f"rows.csv{ending}"
    good, bad = expected([[value.replace("\n", "\r").replace("\t", "\r") for value in row] for row in rows])
    for quoting, marked in ((csv.QUOTE_MINIMAL, b""), (csv.QUOTE_ALL, b"\xef\xbb\xbf")):
        content = marked + delimited_text(rows, separator, end, quoting)
        path.write_bytes(packed(content, ending))
        form = form_of(path, COLUMNS)
        assert isinstance(form, Delimited)
        starts = [number for number, record in enumerate(records(content, separator)) if record][1:]
        for chunk, most in itertools.product((3000, 1 << 21), (1, 999, 1 << 40)):
            monkeypatch.setattr(delimited, "CHUNK", chunk)
            found, rejected, texts = read(path, form, most=most)
            assert [
                tuple(x.replace("\n", "\r").replace("\t", "\r") if isinstance(x, str) else x for x in row)
                for row in found
            ] == good
            assert rejected == [(starts[number], reason) for number, reason in bad]
            assert [len(text.split(b"\t")) for text in texts] == [6] * len(bad)


def packed(content: bytes, ending: str) -> bytes:
    if ending == ".zst":
        return pa.compress(content, "zstd", asbytes=True)
    return gzip.compress(content) if ending == ".gz" else content


def records(content: bytes, separator: str) -> list[bool]:
    """For each line of a text whether a record starts in it."""
    reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter=separator)
    starts, before = {0}, 0
    for _ in reader:
        before = reader.line_num
        starts.add(before)
    return [line in starts for line in range(before)]
