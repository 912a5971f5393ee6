"""Parquet and CSV through all of preprocessing: the bytes that plain lines give, and what is said of bad input."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_forms import COLUMNS, Values, delimited_text, lines, mangled, packed, random_rows, write_parquet
from test_preprocess import LENIENT, check, files_of, stop_at, text_of_error

from dlrm_lib.__main__ import main
from dlrm_lib.columns import CRITEO_ON_THE_HUB, NumericalColumn, RawColumns
from dlrm_lib.config import PreprocessConfig
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.preprocess import preprocess
from dlrm_lib.raw_rows import read_raw

LOG = dataclasses.replace(
    COLUMNS,
    numbers=(NumericalColumn(name="price"), NumericalColumn(name="age", type="decimal", rule="quantile", bins=5)),
)


def with_decimals(rows: list[Values]) -> list[Values]:
    """The ages of every other row get a fraction."""
    return [[*row[:2], row[2] + ".25" * (row[2].isdigit() and at % 2), *row[3:]] for at, row in enumerate(rows)]


DAYS = [mangled(with_decimals(random_rows(120, seed)), seed) for seed in range(3)]


pytestmark = pytest.mark.usefixtures("two_tasks")


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the rows give as plain lines, which the oracle confirms; without the hashes of the files."""
    folder = tmp_path_factory.mktemp("lines")
    (folder / "raw").mkdir()
    for day, rows in enumerate(DAYS):
        (folder / "raw" / f"day_{day}").write_bytes(lines(rows))
    check(folder / "raw", folder / "encoded", LENIENT, LOG)
    return comparable(folder / "encoded")


def comparable(output: Path) -> dict[str, bytes]:
    """All files but those that name the raw ones; the reasons of what was rejected, in order."""
    found = files_of(output)
    manifest = json.loads(found.pop("manifest.json"))
    del manifest["source"], manifest["hashes"]
    found["rest of the manifest"] = repr(manifest).encode()
    rejected = found.pop("quarantine/rejected.tsv").splitlines()
    found["reasons"] = b"\n".join(line.split(b"\t")[2] for line in rejected)
    return found


def write_source(folder: Path, kind: str) -> Path:
    folder.mkdir()
    for day, rows in enumerate(DAYS):
        if kind == "by date":
            of_day = folder / f"day=2015-02-{27 + day if day < 2 else '29'}"
            of_day.mkdir()
            (of_day / "_SUCCESS").touch()
            for part, place in ((2, slice(0, 50)), (10, slice(50, None))):  # 10 comes after 2
                write_parquet(of_day / f"part-{part}.parquet", rows[place], group=9)
        elif kind == "Parquet":
            write_parquet(folder / f"day_{day}.parquet", rows, group=9)
        elif kind == "mixed":
            path = folder / f"day_{day}.{['csv', 'parquet', 'tsv.zst'][day]}"
            content = packed(delimited_text(rows, "\t" if day else ","), path.suffix)
            write_parquet(path, rows) if day == 1 else path.write_bytes(content)
        else:
            (folder / f"day_{day}{kind}").write_bytes(packed(delimited_text(rows, ";", "\r\n"), kind[4:]))
    return folder


@pytest.mark.parametrize("kind", ["Parquet", "by date", ".csv", ".csv.gz", ".csv.zst", "mixed"])
def test_every_form_gives_the_bytes_of_the_lines(tmp_path: Path, expected: dict[str, bytes], kind: str) -> None:
    source = write_source(tmp_path / "raw", kind)
    said: list[str] = []
    for partitions in (1, 9):
        preprocess(source, tmp_path / "out", LENIENT, columns=LOG, partitions=partitions, announce=said.append)
        assert comparable(tmp_path / "out") == expected
    last = {"by date": "day=2015-02-29", "mixed": "day_2.tsv.zst", "Parquet": "day_2.parquet"}.get(kind, f"day_2{kind}")
    assert f"held out: {last}, the last of 3 days; its first half is the test split" in said
    manifest = EncodedDataset(tmp_path / "out").manifest
    assert manifest.source[-1]["name"] == (f"{last}/part-10.parquet" if kind == "by date" else last)
    rejected = (tmp_path / "out" / "quarantine" / "rejected.tsv").read_bytes().splitlines()[1:]
    files = [file["name"].encode() for file in manifest.source]
    assert {line.split(b"\t")[0] for line in rejected} == set(files)
    assert all(line.count(b"\t") == 3 + 5 for line in rejected)


@pytest.mark.parametrize("kind", ["by date", ".csv"])
def test_a_killed_run_of_any_form_is_gone_on_with(tmp_path: Path, expected: dict[str, bytes], kind: str) -> None:
    source = write_source(tmp_path / "raw", kind)
    with pytest.raises(KeyboardInterrupt):
        preprocess(source, tmp_path / "out", LENIENT, columns=LOG, progress=stop_at("counting"))
    said: list[str] = []
    preprocess(source, tmp_path / "out", LENIENT, columns=LOG, announce=said.append)
    assert any("going on" in sentence for sentence in said)
    assert comparable(tmp_path / "out") == expected


def test_one_file_by_flags_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows = [["yes" if row[0] == "1" else "no", *row[1:]] for row in random_rows(200)]
    (tmp_path / "rows.csv").write_bytes(delimited_text(rows))
    flags = ["--label=clicked", "--numerical=price,age", "--categorical=shop,page,user", "--label_values=no,yes"]
    given = [f"--input={tmp_path / 'rows.csv'}", f"--output={tmp_path / 'out'}", "--frequency_limit=1"]
    assert main(["preprocess", *given, *flags]) == 0
    assert "rejected: 0 lines" in capsys.readouterr().out
    dataset = EncodedDataset(tmp_path / "out")
    assert dataset.spec.columns.names == COLUMNS.names
    assert dataset.spec.columns.label.values == ("no", "yes")
    clicks = sum(dataset.manifest.clicks.values())
    assert clicks == sum(row[0] == "yes" for row in rows)
    # The encoded set's own specification reads such rows.
    spec = tmp_path / "out" / "feature_spec.yaml"
    assert RawColumns.read(spec) == dataset.spec.columns
    before = comparable(tmp_path / "out")
    assert main(["preprocess", *given, "--overwrite", f"--feature_spec={spec}"]) == 0
    assert comparable(tmp_path / "out") == before
    assert main(["preprocess", *given, "--overwrite", f"--feature_spec={spec}", "--label=clicked"]) == 2
    assert "Columns are declared by --feature_spec and by flags" in capsys.readouterr().err


def hub_table(rows: int) -> pa.Table:
    numbers = {
        name: pa.array([None if i % 5 == 0 else i for i in range(rows)], pa.int32())
        for name in CRITEO_ON_THE_HUB.numerical_names
    }
    tokens = {
        name: pa.array([i % 7 - 2**31 for i in range(rows)], pa.int32()) for name in CRITEO_ON_THE_HUB.categorical_names
    }
    return pa.table({"label": pa.array([i % 3 == 0 for i in range(rows)]).cast(pa.int32()), **numbers, **tokens})


def test_the_columns_of_the_hub_need_no_declaration(tmp_path: Path) -> None:
    for number, day in enumerate(("2015-02-15", "2015-02-16")):
        (tmp_path / "data" / f"day={day}").mkdir(parents=True)
        pq.write_table(hub_table(50 + number), tmp_path / "data" / f"day={day}" / "0000.parquet")
    manifest = preprocess(tmp_path / "data", tmp_path / "out", PreprocessConfig(frequency_limit=1))
    assert EncodedDataset(tmp_path / "out").spec.columns == CRITEO_ON_THE_HUB
    assert manifest.rows == {"train": 50, "validation": 26, "test": 25}
    values = pq.read_table(tmp_path / "out" / "vocabulary" / "cat_0.parquet")["value"].to_pylist()
    assert sorted(values) == sorted(str(i - 2**31) for i in range(7))
    table = read_raw(tmp_path / "data", 20)
    assert table.part.tolist() == [0] * 20 + [1] * 20
    assert table.columns[1] == "label"
    assert table.label.tolist()[:4] == [True, False, False, True]


BAD = {
    "a missing column": ({"shop": "store"}, ["raw.parquet has no column 'shop'.", "'store'", "Declare them: --label"]),
    "a near name": ({"price": "prize"}, ["has no column 'price'.", "'prize' is near 'price'"]),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_column_that_is_absent_is_named_with_those_there(tmp_path: Path, kind: str) -> None:
    renamed, said = BAD[kind]
    names = [renamed.get(name, name) for name in COLUMNS.names]
    path = write_parquet(tmp_path / "raw.parquet", random_rows(5))
    pq.write_table(pq.read_table(path).rename_columns([*names, "more"]), path)
    (tmp_path / "raw.csv").write_bytes(b",".join(name.encode() for name in names) + b"\n1,2,3,a,b,c\n")
    for source in (path, tmp_path / "raw.csv"):
        text = text_of_error(source, tmp_path / "out", columns=COLUMNS)
        assert all(part.replace("raw.parquet", source.name) in text for part in said), text
        assert len(text.splitlines()) == 3


def test_bad_rows_are_named_with_file_row_and_column(tmp_path: Path) -> None:
    rows = [list(row) for row in random_rows(50, tokens=["a", "b"])]
    rows[30][2] = "1.5"
    path = write_parquet(tmp_path / "raw.parquet", rows, group=7)
    (tmp_path / "raw.csv").write_bytes(delimited_text(rows).replace(b'a\n""b""\n', b"a"))
    strict = PreprocessConfig(strict=True)
    for source, unit in ((path, "row 31"), (tmp_path / "raw.csv", "line 32")):
        for config in (PreprocessConfig(), strict):
            text = text_of_error(source, tmp_path / "out", config, COLUMNS, partitions=9)
            assert f"{source}, {unit}: not an integer: column 'age' is '1.5'." in text, text
        assert "Mend the" in text
    (tmp_path / "raw.csv").write_bytes(delimited_text(rows[:9]) + b"1,2\n")
    text = text_of_error(tmp_path / "raw.csv", tmp_path / "out", strict, COLUMNS)
    assert "wrong number of fields: 2 instead of the 8 of the header" in text


def test_files_that_name_their_columns_and_others_do_not_go_together(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "day_0.csv").write_bytes(delimited_text(random_rows(9)))
    (tmp_path / "raw" / "day_1").write_bytes(lines(random_rows(9)))
    text = text_of_error(tmp_path / "raw", tmp_path / "out", columns=COLUMNS)
    assert "day_1 does not name its columns, and another file does" in text
    (tmp_path / "raw" / "day_0.csv").write_bytes(b"")
    (tmp_path / "raw" / "day_1").unlink()
    assert "holds no rows" in text_of_error(tmp_path / "raw" / "day_0.csv", tmp_path / "out", columns=COLUMNS)
    (tmp_path / "raw" / "day_0.csv").write_bytes(delimited_text([]))
    text = text_of_error(tmp_path / "raw" / "day_0.csv", tmp_path / "out", columns=COLUMNS)
    assert "leaves no rows" in text or "holds no rows" in text
