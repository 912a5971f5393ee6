"""``preprocess --inspect``: what it says of logs whose columns are known, and of files that are none."""

from __future__ import annotations

import datetime
import gzip
import os
import random
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from dlrm_lib.__main__ import main
from dlrm_lib.columns import RawColumns
from dlrm_lib.inspection import first_rows, propose
from dlrm_lib.inspection.beginning import ROWS

NAMES = ["", "event_time", "is_click", "price", "age", "shop", "user_id", "currency", "category_code", "tags", "brand"]
NAMES += ["zip", "note", "yes", "visited at", "views"]
ROLES = {
    "": "ignored: it has no name",
    "event_time": "ignored: a time?",
    "is_click": "label: by its name",
    "price": "numerical",
    "age": "numerical",
    "shop": "categorical",
    "user_id": "ignored: nearly every row has a value of its own",
    "currency": "ignored: all these rows have the same value",
    "category_code": "categorical: by its name",
    "tags": "categorical: several tokens in one field?",
    "brand": "categorical: {nans} rows say in words",
    "zip": "categorical",  # digits behind a zero are no quantity
    "note": "ignored: it is empty",
    "yes": "categorical: whole numbers as large as hashes",
    "visited at": "ignored: it climbs from row to row",
    "views": "numerical: {words} rows have no number here",
}


def rows(count: int) -> list[list[str]]:
    chance = random.Random(5)
    begin = datetime.datetime(2024, 1, 1)
    return [
        [
            *(str(i), (begin + datetime.timedelta(seconds=i)).isoformat(), chance.choice("01")),
            *(f"{100 * chance.random():.2f}", str(chance.randrange(80)) if chance.random() < 0.9 else ""),
            *(f"shop {chance.randrange(30)}", f"u{chance.randrange(10**9)}", "EUR", str(chance.randrange(100, 140))),
            *(chance.choice(["a|b", "c", "a|c|d"]), chance.choice(["nan", "x", "y"]), f"0{chance.randrange(9999)}", ""),
            *(str(chance.randrange(2**31)), str(1000 + 3 * i), "NULL" if i == 7 else str(chance.randrange(500))),
        ]
        for i in range(count)
    ]


def text(count: int = 3000, separator: str = ",", *, named: bool = True) -> bytes:
    lines = [NAMES] * named + rows(count)
    return "".join(separator.join(line) + "\n" for line in lines).encode()


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def said_of(path: Path, capsys: pytest.CaptureFixture) -> dict[str, str]:
    """The proposals as they are printed, by the name of the column."""
    assert main(["preprocess", f"--inspect={path}", f"--output={path.parent / 'spec.yaml'}", "--overwrite"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()[1:]
    lines = lines[: next(i for i, line in enumerate(lines) if line.startswith(("remark", "written")))]
    kind, proposal = head.index("type"), head.index("proposal")
    return {line[:kind].strip(): line[proposal:] for line in lines}


@pytest.mark.parametrize(
    ("name", "packed", "form"),
    [
        ("log.csv", lambda: text(), "text separated by commas, with a header"),
        ("bom.csv", lambda: b"\xef\xbb\xbf" + text(), "text separated by commas, with a header"),
        ("log.txt", lambda: text(separator=";").replace(b"\n", b"\r\n"), "text separated by semicolons, with a header"),
        (
            "log.tsv.gz",
            lambda: gzip.compress(text(separator="\t")),
            "text separated by tabs, with a header, packed with",
        ),
        ("log.csv.zst", lambda: zstd(text()), "packed with zstd"),
        ("quoted.csv", lambda: re.sub(rb"[^,\n]+", rb'"\g<0>"', text()), "text separated by commas, with a header"),
    ],
)
def test_a_log_with_a_header_is_read_whatever_its_form(
    tmp_path: Path, capsys: pytest.CaptureFixture, name: str, packed: Callable[[], bytes], form: str
) -> None:
    path = tmp_path / name
    path.write_bytes(packed())
    said = said_of(path, capsys)
    assert list(said) == NAMES
    nans = sum(row[10] == "nan" for row in rows(3000))
    for column, start in ROLES.items():
        assert said[column].startswith(start.format(nans=f"{nans:,}", words=1)), column
    found = first_rows(path)
    assert (found.table.num_rows, found.whole, found.named) == (3000, True, True)
    assert form in found.form
    columns = RawColumns.read(tmp_path / "spec.yaml")
    assert columns.label.name == "is_click"
    assert [(column.name, column.type) for column in columns.numbers] == [
        ("price", "decimal"),
        ("age", "integer"),
        ("views", "integer"),
    ]
    assert columns.categorical_names == ("shop", "category_code", "tags", "brand", "zip", "yes")


def test_only_the_first_rows_are_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.csv"
    path.write_text("label,n,shop\n" + "0,5,a\n" * (ROWS - 1) + "1,6,b\n" + "x,y,c\n" * 5)
    assert main(["preprocess", f"--inspect={path}"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{path}: text separated by commas, with a header; the first 20,000 rows\n")
    assert "label: by its name\n" in printed
    assert (tmp_path / "feature_spec.yaml").read_text().startswith("# Proposed from log.csv, the first 20,000 rows.\n")
    monkeypatch.setattr("dlrm_lib.inspection.beginning._CELLS", 30_000)  # else it takes very many columns
    path.write_text("label," + ",".join(f"c{i}" for i in range(249)) + "\n" + ("1" + ",7" * 249 + "\n") * 150)
    assert first_rows(path).table.num_rows == 120
    monkeypatch.setattr("dlrm_lib.inspection.beginning._CELLS", 3)
    assert first_rows(path).table.num_rows == 100
    assert main(["preprocess", f"--inspect={path}", "--overwrite"]) == 0
    assert "… and 50 more" in capsys.readouterr().out


def test_lines_without_a_header_are_counted_by_their_places(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "day_0"
    chance = random.Random(1)
    lines = (
        [str(i % 2), str(i % 900), "", str(-(i % 9)), chance.choice(['"q', "b"]), "", str(i % 70), f"{chance.random()}"]
        for i in range(500)
    )
    path.write_text("".join("\t".join(line) + "\n" for line in lines))
    assert main(["preprocess", f"--inspect={path}"]) == 0
    printed = capsys.readouterr().out
    assert "categorical: holds integers, but stands behind tokens" in printed
    assert RawColumns.read(tmp_path / "feature_spec.yaml") == RawColumns.unnamed(3, 4)
    path.write_text("".join("\t".join(["1", *["2"] * 13, *["ab12cd34"] * 26]) + "\n" for _ in range(9)))
    assert main(["preprocess", f"--inspect={path}", "--overwrite"]) == 0
    assert "read without --feature_spec too" in capsys.readouterr().out
    assert RawColumns.read(tmp_path / "feature_spec.yaml") == RawColumns.unnamed()
    path.write_text("7\t2\tx\n" * 9)
    assert main(["preprocess", f"--inspect={path}", f"--output={tmp_path / 'none.yaml'}"]) == 2
    assert "The first field of" in capsys.readouterr().err
    assert not (tmp_path / "none.yaml").exists()


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("label\tpair\n" + "1\ta,b,c\n0\tx,y,z\n" * 50, ["label", "pair"]),
        ("label;price\n" + "1;1,50\n0;2,75\n" * 50, ["label", "price"]),
        ("label,note,n\n" + "1,so; so,2\n0,well; well,3\n" * 50, ["label", "note", "n"]),
    ],
)
def test_what_separates_fields_is_in_the_header_too(tmp_path: Path, text: str, columns: list[str]) -> None:
    (tmp_path / "log").write_text(text)
    assert first_rows(tmp_path / "log").table.column_names == columns


def test_parquet_brings_its_types(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    chance, count = random.Random(2), 2000
    columns = {
        "label": [chance.random() < 0.3 for _ in range(count)],
        "visits": [None if chance.random() < 0.1 else float(chance.randrange(90)) for _ in range(count)],
        "amount": [chance.random() for _ in range(count)],
        "when": [datetime.datetime(2024, 1, 1) + datetime.timedelta(seconds=i) for i in range(count)],
        "tags": [["a", "b"]] * count,
        "shop": pa.array([f"s{chance.randrange(9)}" for _ in range(count)]).dictionary_encode(),
        "categorical_feature_3": [chance.randrange(99) for _ in range(count)],
        "a: b": [chance.choice("pqr") for _ in range(count)],
        "gone": pa.nulls(count),
    }
    pq.write_table(pa.table(columns), tmp_path / "log.parquet", row_group_size=300)
    said = said_of(tmp_path / "log.parquet", capsys)
    roles = {name: what.partition(":")[0].partition(",")[0] for name, what in said.items()}
    assert roles == {
        "label": "label",
        "visits": "numerical",  # pandas makes floats of integers where some are missing
        "amount": "numerical",
        "when": "ignored",
        "tags": "ignored",
        "shop": "categorical",
        "categorical_feature_3": "categorical",
        "a: b": "categorical",
        "gone": "ignored",
    }
    assert RawColumns.read(tmp_path / "spec.yaml").categorical_names == ("shop", "categorical_feature_3", "a: b")


def test_a_label_is_proposed_by_its_name_and_never_assumed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "log.csv"
    path.write_text("mobile,new,shop\n" + "0,1,a\n1,0,b\n1,1,c\n" * 9)
    said = said_of(path, capsys)
    assert "label" not in "".join(said.values())
    assert main(["preprocess", f"--inspect={path}", f"--output={tmp_path / 'again.yaml'}"]) == 0
    assert "remark: no column is proposed as the label; those of two values are mobile, new." in capsys.readouterr().out
    assert yaml.safe_load((tmp_path / "again.yaml").read_text())["channel_spec"]["label"] == []
    # The most telling name; of two that tell as much, what has two values.
    path.write_text("target,clicked,was clicked,Label\n" + "0,1,0,x\n1,1,1,y\n" * 9)
    assert [name for name, what in said_of(path, capsys).items() if what.startswith("label")] == ["was clicked"]
    path.write_text("converted,shop\n" + "no,a\nyes,b\n" * 9)
    assert "yes would be a click" in said_of(path, capsys)["converted"]


def test_names_are_written_as_yaml_reads_them_back(tmp_path: Path) -> None:
    names = ["yes", "null", "12:30", "a: b", "#c", "- d", "é€😀", "quote\"'", "tab\\t", " e ", "0x1f", "[x]", "x\x85y"]
    table = pa.table({"label": ["0", "1"] * 9, **{name: ["p", "q"] * 9 for name in names}})
    pq.write_table(table, tmp_path / "log.parquet")
    assert main(["preprocess", f"--inspect={tmp_path / 'log.parquet'}"]) == 0
    assert RawColumns.read(tmp_path / "feature_spec.yaml").categorical_names == tuple(names)


def test_a_name_that_is_there_twice_is_proposed_for_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "log.csv"
    path.write_text("label,label,click,a,a\n" + "0,1,1,p,q\n1,0,0,q,q\n" * 9)
    assert main(["preprocess", f"--inspect={path}"]) == 0
    assert capsys.readouterr().out.count("ignored: another column has this name too") == 4
    assert yaml.safe_load((tmp_path / "feature_spec.yaml").read_text())["channel_spec"]["label"] == ["click"]


def damaged_gzip() -> bytes:
    return gzip.compress(os.urandom(9000).hex().encode() + b"\n")[:3000]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty.\n  found: 0 bytes"),
        (b"\n \n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"label,a,b\n", "holds no row.\n  found: text separated by commas, with a header: label, a, b"),
        (bytes(range(256)) * 9, "is not text in UTF-8.\n  found: NUL bytes"),
        ("label,a\n1,2\n".encode("utf-16"), "is not text in UTF-8"),
        (b"hello world\nthis is prose\n", "is no table: neither tabs nor semicolons nor commas"),
        (b"x" * 2**21, "is not text in UTF-8.\n  found: no line ends in"),
        (b"PK\x03\x04" + bytes(99), "does not hold rows as it is.\n  found: a zip archive\n  remedy: Unpack it"),
        (b"PAR1" + bytes(99), "is damaged"),
        (damaged_gzip(), "is damaged"),
        (b'label,a,b\n1,2,"x\n' + b"0,3,y\n" * 40_000, "field larger than field limit (131072).\n  remedy: A quote"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value[:12],
)
def test_what_is_no_log_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture, data: bytes, said: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    assert main(["preprocess", f"--inspect={path}"]) == 2
    printed = capsys.readouterr()
    assert said in printed.err, printed.err
    assert len(printed.err.splitlines()) <= 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_one_row_and_odd_rows_are_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1\t2\tx\n")
    assert main(["preprocess", f"--inspect={path}"]) == 0
    assert capsys.readouterr().out.startswith(f"{path}: text separated by tabs, without a header; all of its 1 row\n")
    path.write_bytes(b"label,shop\n" + b"1,caf\xe9\n0,bar\n" * 40 + b"1,2,3\n" * 3)
    assert main(["preprocess", f"--inspect={path}", "--overwrite"]) == 0
    printed = capsys.readouterr().out
    assert "remark: 3 records have another number of fields, and would be rejected" in printed
    assert "remark: 40 rows are not UTF-8, and would be rejected" in printed


def test_a_specification_is_not_overwritten_by_mistake(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path, spec = tmp_path / "log.csv", tmp_path / "feature_spec.yaml"
    path.write_text("label,shop\n0,a\n1,b\n")
    spec.write_text("mine")
    for flags, said in (
        ([], f"{spec} is there already."),
        (["--frequency_limit=3"], "--frequency_limit does nothing beside --inspect"),
        (["--feature_spec=x.yaml"], "--feature_spec does nothing beside --inspect"),
        ([f"--output={path / 'spec.yaml'}"], "cannot be written"),
    ):
        assert main(["preprocess", f"--inspect={path}", *flags]) == 2
        assert said in capsys.readouterr().err
    assert spec.read_text() == "mine"
    for wrong, said in (
        (tmp_path, "is a folder, and one file is looked at.\n  found: feature_spec.yaml, log.csv"),
        (tmp_path / "none", "none cannot be read.\n  found: No such file"),
        ("/dev/null", "/dev/null is no file on a disk"),
    ):
        assert main(["preprocess", f"--inspect={wrong}", f"--output={tmp_path / 'new'}"]) == 2
        assert said in capsys.readouterr().err


def test_what_it_says_of_real_rows(real_rows: Path) -> None:
    for name in ("kaggle_train_4584.tsv", "kaggle_train_68k.tsv.gz", "terabyte_day0_10k.tsv"):
        proposals = propose(first_rows(real_rows / name))
        assert [proposal.role for proposal in proposals] == ["label"] + ["numerical"] * 13 + ["categorical"] * 26
