"""What stands out in the columns of a data set: found where it is, and nothing said where all is well."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from encoded import random_dataset

from dlrm_lib.columns import NumericalColumn, RawColumns
from dlrm_lib.config import PreprocessConfig, as_dict
from dlrm_lib.drift import drift_remarks
from dlrm_lib.features import FeatureSpec
from dlrm_lib.manifest import Manifest
from dlrm_lib.numeric_rules import FIXED_RULES

ROWS = {"train": 16_000, "validation": 2_000, "test": 2_000}
NUMBER = {"missing": 0.1, "mean": 2.5, "deviation": 1.2, "constant": False}
TOKEN = {"missing": 0.05, "unknown": 0.1, "constant": False}
NEVER = {"missing": 1.0, "mean": 0.0, "deviation": 0.0, "constant": True}


def remarks(columns, rows=ROWS, clicks=None, rule="log_x_plus_3"):
    manifest = Manifest(
        config=as_dict(PreprocessConfig(numeric_rule=rule)),
        source=[],
        rows=rows,
        clicks=clicks or {split: count // 4 for split, count in rows.items()},
        quarantined={},
        cardinalities=[],
        vocabulary="",
        columns=columns,
    )
    named = RawColumns(numbers=(NumericalColumn(name="c"),))
    spec = FeatureSpec(numerical=1, cardinalities=(), numeric_rules=(FIXED_RULES[rule],), raw_columns=named)
    return drift_remarks(manifest, spec)


def column(then, now):
    return {"train": then, "validation": now, "test": now}


@pytest.mark.parametrize(
    ("then", "now", "says"),
    [
        (NEVER, NUMBER, "c is missing in all training rows, and in 10% of those held out"),
        (NEVER, NUMBER | {"missing": 0.0}, "c is missing in all training rows, and in none of those held out"),
        (NUMBER, NEVER, "c is missing in 10% of the training rows, and in 100% of those held out"),
        (NEVER, NEVER, "c is missing in all rows, and says nothing"),
        (
            NUMBER | {"missing": 0.9999},
            NUMBER,
            "c is missing in 100% of the training rows, and in 10% of those held out",
        ),
        (
            {"missing": 0.0, "mean": 7.0, "deviation": 0.0, "constant": True},
            {"missing": 0.0, "mean": 7.0, "deviation": 0.0, "constant": True},
            "c has the same value in all rows, and says nothing",
        ),
        (
            {"missing": 0.0, "mean": 7.0, "deviation": 0.0, "constant": True},
            {"missing": 0.0, "mean": 3.0, "deviation": 0.0, "constant": True},
            "c is constant in the training rows, and not the same in those held out",
        ),
        (
            NUMBER,
            NUMBER | {"mean": 9.4},
            "c has another size: the encoded numbers are 2.50 ± 1.20 in the training rows, and 9.40 ± 1.20 in those "
            "held out",
        ),
        (
            {"missing": 0.0, "mean": 7.0, "deviation": 0.001, "constant": False},
            {"missing": 0.0, "mean": 7.0, "deviation": 2.0, "constant": False},
            "c has another size: the encoded numbers are 7.00 ± 0.00 in the training rows, and 7.00 ± 2.00 in those "
            "held out",
        ),
        (
            TOKEN,
            TOKEN | {"unknown": 0.71},
            "c has a value without an id, too rare or never seen, in 10% of the training rows, and in 71% of those "
            "held out",
        ),
        (
            {"missing": 0.05, "unknown": 0.95, "constant": True},
            {"missing": 0.04, "unknown": 0.96, "constant": True},
            "c has no value frequent enough for an id of its own: lower --frequency_limit",
        ),
        (
            {"missing": 0.0, "unknown": 0.0, "constant": True},
            {"missing": 0.0, "unknown": 0.5, "constant": False},
            "c is constant in the training rows, and not the same in those held out",
        ),
    ],
)
def test_a_column_that_stands_out_is_named_with_what_it_does(then, now, says):
    assert remarks({"other": column(NUMBER, NUMBER), "c": column(then, now)}) == [says]


@pytest.mark.parametrize(
    ("then", "now", "rows"),
    [
        (NUMBER, NUMBER | {"missing": 0.25, "mean": 3.0}, ROWS),
        (TOKEN, TOKEN | {"unknown": 0.25}, ROWS),
        (TOKEN | {"unknown": 0.5}, TOKEN | {"unknown": 0.0}, ROWS),  # fewer rare values are no fault
        (NEVER, NEVER | {"missing": 0.9975, "mean": 0.01, "constant": False}, ROWS),  # five rows of 2,000
        # As far as above, but on so few rows that chance does it.
        (NUMBER, NEVER | {"mean": 0.0}, {"train": 8, "validation": 1, "test": 1}),
        (TOKEN, TOKEN | {"unknown": 0.71}, {"train": 8, "validation": 2, "test": 2}),
        (NUMBER, NUMBER, {"train": 8, "validation": 0, "test": 0}),
    ],
)
def test_what_chance_or_time_does_to_any_column_is_not_remarked_on(then, now, rows):
    columns = {name: column(then, now) if rows["test"] else {"train": then} for name in ("c", "d")}
    assert remarks(columns, rows, clicks=dict.fromkeys(rows, 0.5)) == []


def test_columns_of_one_fault_are_named_together():
    columns = {f"num_{i}": column(NEVER, NUMBER) for i in range(6)} | {"cat_0": column(TOKEN, TOKEN | {"unknown": 0.9})}
    first, second = remarks(columns)
    assert first.endswith("in 10% of those held out; likewise num_1, num_2, num_3 and 2 more")
    assert second.startswith("cat_0 has a value without an id")


def test_the_rows_held_out_count_together_by_their_number():
    rows = {"train": 16_000, "validation": 1_000, "test": 3_000}
    splits = {"train": NUMBER, "validation": NUMBER | {"missing": 0.9}, "test": NUMBER | {"missing": 0.3}}
    (says,) = remarks({"c": splits}, rows)
    assert says == "c is missing in 10% of the training rows, and in 45% of those held out"


def test_a_constant_column_is_one_with_splits_of_any_sizes_and_without_rows_held_out():
    steady = {"missing": 0.333333, "mean": 0.693359, "deviation": 0.0, "constant": True}
    says = ["c has the same value in all rows, and says nothing"]
    rows = {"train": 7, "validation": 3, "test": 4}
    assert remarks({"c": column(steady, steady)}, rows, clicks=dict.fromkeys(rows, 1)) == says
    rows = {"train": 7, "validation": 0, "test": 0}
    assert remarks({"c": {"train": steady}, "d": {"train": NUMBER}}, rows, clicks={"train": 1}) == says


def test_where_zero_and_missing_are_one_number_the_sentence_says_so():
    (says,) = remarks({"c": column(NEVER | {"mean": 0.693359}, NUMBER)}, rule="log_x_plus_2")
    assert says == "c is missing or 0 in all training rows, and in 10% of those held out"
    (says,) = remarks({"cat_0": column(TOKEN, TOKEN | {"missing": 0.9})}, rule="log_x_plus_2")
    assert says == "cat_0 is missing in 5% of the training rows, and in 90% of those held out"


def test_splits_of_one_class():
    clicks = {"train": 4_000, "validation": 0, "test": 2_000}
    assert remarks({}, clicks=clicks) == [
        "no row of the validation split is a click: there is no AUC",
        "every row of the test split is a click: there is no AUC",
    ]
    (says,) = remarks({}, clicks={"train": 0, "validation": 1, "test": 1})
    assert says == "no row of the train split is a click: there is nothing to learn"


def test_a_manifest_of_an_earlier_version_is_read_and_says_nothing(tmp_path):
    dataset = random_dataset(tmp_path, rows=(30, 10, 10))
    now, spec = dataset.manifest, dataset.spec
    replace(now, columns={"num_0": column(NEVER, NUMBER)}).write(tmp_path)
    assert Manifest.read(tmp_path).hashes == now.hashes
    assert drift_remarks(Manifest.read(tmp_path), spec) == [
        "num_0 is missing or 0 in all training rows, and in 10% of those held out"
    ]
    document = json.loads((tmp_path / "manifest.json").read_text())
    del document["columns"]
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    assert Manifest.read(tmp_path).hashes == now.hashes
    assert drift_remarks(Manifest.read(tmp_path), spec) == []
