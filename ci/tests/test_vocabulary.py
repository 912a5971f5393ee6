"""A column's vocabulary, looked up both ways."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from encoded import random_dataset

from dlrm_lib.dataset import EncodedDataset, Vocabulary
from dlrm_lib.errors import InputError

VALUES = ["b", "a", "é😀", "17", " "]


@pytest.fixture
def dataset(tmp_path: Path) -> EncodedDataset:
    """Two columns, of which the first has a vocabulary beside it."""
    dataset = random_dataset(tmp_path / "data", rows=(10, 4, 4), cardinalities=(6, 3))
    write(dataset, VALUES)
    return dataset


def write(dataset: EncodedDataset, values: list[str]) -> None:
    path = dataset.folder / "vocabulary" / "cat_0.parquet"
    path.parent.mkdir(exist_ok=True)
    ids = range(1, len(values) + 1)
    pq.write_table(pa.table({"value": values, "count": [10 * i for i in ids], "id": list(ids)}), path)


def test_values_and_ids_are_looked_up_one_by_one_and_as_arrays(dataset: EncodedDataset) -> None:
    for column in ("cat_0", 0, np.int64(0)):
        vocabulary = dataset.vocabulary(column)
        assert (vocabulary.name, len(vocabulary)) == ("cat_0", 6)
        assert repr(vocabulary) == "Vocabulary of cat_0: 6 ids"
        assert [vocabulary.id(value) for value in (*VALUES, "c", "")] == [1, 2, 3, 4, 5, 0, 0]
        assert [vocabulary.value(number) for number in range(6)] == [None, *VALUES]
        assert [vocabulary.count(value) for value in ("a", "17", "c")] == [20, 40, 0]
        found = vocabulary.ids(np.array(["a", "c", "é😀"]))
        assert (found.dtype, found.tolist()) == (np.int32, [2, 0, 3])
        assert vocabulary.ids([]).dtype == np.int32
        assert vocabulary.values[np.array([[3, 0], [1, 1]])].tolist() == [["é😀", None], ["b", "b"]]
        assert vocabulary.counts.tolist() == [0, 10, 20, 30, 40, 50]
        for array in (vocabulary.values, vocabulary.counts):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 7


def test_missing_may_have_an_id_of_its_own() -> None:
    vocabulary = Vocabulary("shop", ["", "a"], np.array([5, 3]), missing_id=1)
    assert vocabulary.ids(["", "a", "b"]).tolist() == [1, 2, 0]
    assert (vocabulary.missing_id, vocabulary.count("")) == (1, 5)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda d: d.vocabulary("shop"), ["data has no such categorical column", "found: 'shop'", "cat_0, cat_1,"]),
        (lambda d: d.vocabulary(2), ["no such categorical column", "found: 2"]),
        (lambda d: d.vocabulary(-1), ["no such categorical column", "found: -1"]),
        (lambda d: d.vocabulary(1), ["cat_1.parquet cannot be read", "found: no such file"]),
        (lambda d: d.vocabulary(0).id(17), ["cat_0 has texts for values", "found: 17, int", '"17"']),
        (
            lambda d: d.vocabulary(0).ids(["a", None]),
            ["found: None, NoneType", 'missing token as ""'],
        ),
        (lambda d: d.vocabulary(0).count(b"a"), ["found: b'a', bytes"]),
        (lambda d: d.vocabulary(0).value(6), ["cat_0 has ids from 0 to 5.", "found: 6"]),
        (lambda d: d.vocabulary(0).value(-1), ["cat_0 has ids from 0 to 5.", "found: -1"]),
    ],
)
def test_what_is_not_there_is_named(dataset: EncodedDataset, ask, said: list[str]) -> None:
    with pytest.raises(InputError) as error:
        ask(dataset)
    assert all(part in str(error.value) for part in said), str(error.value)
    assert len(str(error.value).splitlines()) <= 3


def test_files_that_do_not_fit_are_named(dataset: EncodedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    path = dataset.folder / "vocabulary" / "cat_0.parquet"
    write(dataset, VALUES[:3])
    with pytest.raises(InputError, match=r"cat_0.parquet does not fit the manifest.\n  found: 4 ids, of 6"):
        dataset.vocabulary(0)
    path.write_text("no Parquet")
    with pytest.raises(InputError, match=r"cat_0.parquet cannot be read.\n  found: .*Parquet magic"):
        dataset.vocabulary(0)
    pq.write_table(pa.table({"token": VALUES}), path)
    with pytest.raises(InputError, match=r"cat_0.parquet cannot be read.\n  found: .*value"):
        dataset.vocabulary(0)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"(?s)no pyarrow.*pip install"):
        dataset.vocabulary(0)


def test_a_million_values_take_seconds_at_most(tmp_path: Path) -> None:
    values = [f"{i:08x}" for i in range(1_000_000)]
    pq.write_table(pa.table({"value": values, "count": np.arange(1_000_000)}), tmp_path / "large")
    start = time.process_time()
    vocabulary = Vocabulary.read(tmp_path / "large", "large")
    assert (vocabulary.ids(values) == np.arange(1, 1_000_001)).all()
    assert time.process_time() - start < 10  # it takes less than one where nothing else runs
    assert vocabulary.value(255) == f"{254:08x}"
