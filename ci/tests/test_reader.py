"""Orders, resuming, random rows, and reading ahead."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from encoded import random_dataset
from packed_rows import write_dataset

from dlrm_lib.dataset import (
    EncodedDataset,
    InOrder,
    RandomDataset,
    ShuffledBatches,
    ShuffledRows,
    open_dataset,
    permutation,
    read_ahead,
    take,
)
from dlrm_lib.dataset.encoded import ColumnSplit
from dlrm_lib.errors import InputError
from dlrm_lib.features import FeatureSpec

ROWS = 103
ORDERS = [None, InOrder(), np.random.default_rng(0).permutation(15), ShuffledBatches(5, 1), ShuffledRows(5, 1)]


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    """The training rows of both layouts, whose last column has every id once: the row's own name."""
    folder = tmp_path_factory.mktemp("data")
    encoded = random_dataset(folder / "encoded", rows=(ROWS, 0, 0), cardinalities=(3, ROWS)).folder
    np.arange(ROWS, dtype=np.int8).tofile(encoded / "train" / "cat_1.bin")
    write_dataset(folder / "packed", rows=(ROWS, 0, 1), cardinalities=(3, ROWS), numerical=1)
    path = folder / "packed" / "train_data.bin"
    fields = np.fromfile(path, np.int32).reshape(-1, 4)
    fields[:, 3] = np.arange(ROWS)
    fields.tofile(path)
    return [
        EncodedDataset(encoded).train,
        open_dataset(folder / "packed", num_numerical_features=1).train,
    ]


def tensors(batches):
    return [[tensor.tolist() for tensor in batch] for batch in batches]


def names(batches):
    return [batch.categorical[:, 1].tolist() for batch in batches]


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("computed", [False, True])
def test_every_row_comes_once_whole(splits, order, computed, monkeypatch):
    if computed:
        monkeypatch.setattr(permutation, "_STORED", 0)
    for split in splits:
        expected = {batch.categorical[0, 1].item(): tensors([batch]) for batch in split.batches(1)}
        for batch_size in (1, 7, 102, 103, 1000):
            if isinstance(order, np.ndarray) and batch_size != 7:
                continue
            batches = list(split.batches(batch_size, order))
            assert len(batches) == split.steps(batch_size)
            assert sorted(itertools.chain(*names(batches))) == list(range(ROWS))
            for batch in batches:
                for row, name in enumerate(batch.categorical[:, 1].tolist()):
                    assert tensors([[part[row : row + 1] for part in batch]]) == expected[name]


def test_blocks_end_where_they_should(tmp_path, monkeypatch):
    split = random_dataset(tmp_path / "data", rows=(ROWS, 0, 0)).train
    for order in (None, ShuffledRows(1, 1)):
        whole = tensors(split.batches(50, order))
        monkeypatch.setattr("dlrm_lib.dataset.file_split._BLOCK", 7)
        assert tensors(split.batches(50, order)) == whole
        monkeypatch.undo()


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 10_000])
@pytest.mark.parametrize("cardinalities", [(), (3, 127, 128, 32_767, 32_768, 2_000_000)])
@pytest.mark.parametrize("numerical", [0, 13])
def test_compiled_code_takes_the_rows_that_numpy_takes(count, cardinalities, numerical):
    spec = FeatureSpec(numerical=numerical, cardinalities=cardinalities)
    rng, rows = np.random.default_rng(count), 10_000
    columns = [rng.integers(np.iinfo(d).min, np.iinfo(d).max, rows, d, True) for d in spec.category_dtypes]
    # Every float16 there is, and every byte as a label.
    halves = np.resize(rng.permutation(2**16).astype(np.uint16), (rows, numerical)).view(np.float16)
    labels = np.resize(np.arange(256, dtype=np.uint8), rows)
    split = ColumnSplit(Path("train"), spec, labels.view(bool), halves, columns)
    row_ids = rng.permutation(rows)[:count]
    compiled = [part.numpy() for part in split.gather(row_ids, check=False)]
    assert split._take or not count
    split._take = None
    by_numpy = [part.numpy() for part in split.gather(row_ids, check=False)]
    for found, other in zip(compiled, by_numpy, strict=True):
        assert np.array_equal(found, other, equal_nan=found.dtype == np.float32)
        assert (np.signbit(found) == np.signbit(other)).all()
    assert compiled[1].tolist() == [[int(column[row]) for column in columns] for row in row_ids]
    assert compiled[2].tolist() == labels[row_ids].tolist()


@pytest.mark.parametrize("row", [-1, ROWS, 2**62])
def test_rows_that_do_not_exist_are_not_read(splits, row):
    with pytest.raises(IndexError, match=str(row)):
        splits[0].gather(np.array([0, row]))


def test_without_a_compiler_numpy_takes_the_rows(splits, monkeypatch, tmp_path):
    split, order = splits[0], ShuffledRows(1, 1)
    compiled = tensors(split.batches(7, order))
    monkeypatch.setenv("CC", "false")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    take._compiled.cache_clear()
    split = split.first(ROWS)
    assert tensors(split.batches(7, order)) == compiled
    assert split._take is None
    take._compiled.cache_clear()


def test_orders_differ_by_seed_and_epoch(splits):
    for split in splits:
        for kind in (ShuffledBatches, ShuffledRows):
            one, again, epoch, seed = (
                names(split.batches(7, order)) for order in (kind(1, 0), kind(1, 0), kind(1, 1), kind(2, 0))
            )
            assert one == again
            assert one != epoch != seed != one
        in_batches = names(split.batches(7, ShuffledBatches(1, 0)))
        assert sorted(in_batches) == names(split.batches(7))
        assert sorted(names(split.batches(7, ShuffledRows(1, 0)))) != names(split.batches(7))


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_a_run_goes_on_at_any_step(splits, order):
    for split in splits:
        straight = names(split.batches(7, order))
        for start in (0, 1, 8, 14, 15, 20):
            assert names(split.batches(7, order, start)) == straight[start:]
            assert names(read_ahead(split, 7, order, start)) == straight[start:]


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_reading_ahead_changes_nothing(splits, order, workers):
    for split in splits:
        assert tensors(read_ahead(split, 7, order, workers=workers)) == tensors(split.batches(7, order))
        assert list(read_ahead(split, 7, order, start=99, workers=workers)) == []


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("read_ahead")]


@pytest.mark.parametrize("workers", [1, 2])
def test_no_thread_stays_when_the_loop_is_left(splits, workers):
    for how in ("break", "close", "error", "end"):
        batches = read_ahead(splits[0], 1, workers=workers)
        assert not readers()
        next(batches)
        assert 1 <= len(readers()) <= workers
        if how == "close":
            batches.close()
        elif how == "error":
            with pytest.raises(RuntimeError, match="thrown"):
                batches.throw(RuntimeError("thrown"))
        elif how == "end":
            assert len(list(batches)) == ROWS - 1
        else:
            for _ in batches:
                break
            del batches
        assert not readers()


def test_only_a_few_batches_are_held(splits):
    for workers in (1, 2):
        read = []
        batches = read_ahead(splits[0], 1, workers=workers, put=lambda batch, read=read: read.append(1) or batch)
        for used in range(1, 6):
            next(batches)
            time.sleep(0.05)
            assert len(read) == used + workers + 1
        batches.close()
        assert len(read) == 5 + workers + 1


def test_the_next_batch_is_on_its_way_while_this_one_is_used(splits):
    arrived = threading.Semaphore(0)

    def put(batch):
        assert threading.current_thread() is not threading.main_thread()
        arrived.release()
        return batch._replace(label=batch.label + 10)

    batches = read_ahead(splits[0], 7, put=put)
    assert next(batches).label.min() >= 10
    for _ in range(2):
        assert arrived.acquire(timeout=10)
    batches.close()


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_error_comes_in_its_place(tmp_path, workers):
    dataset = random_dataset(tmp_path / "data", rows=(50, 0, 0))
    path = dataset.folder / "train" / "cat_1.bin"
    ids = np.fromfile(path, np.int8)
    ids[[33, 45]] = 7
    ids.tofile(path)
    reached = []
    batches = read_ahead(EncodedDataset(dataset.folder).train, 5, workers=workers)
    with pytest.raises(InputError, match=r"cat_1\.bin, row 33:"):
        reached.extend(len(batch.label) for batch in batches)
    assert reached == [5] * 6
    assert not readers()
    assert sum(len(b.label) for b in read_ahead(dataset.train, 5, workers=workers, check=False)) == 50


SPEC = FeatureSpec(numerical=3, cardinalities=(4, 100, 2_000_000))


def test_random_rows_are_good_and_repeat():
    dataset = RandomDataset(SPEC, train_rows=10**9, test_rows=10, seed=1)
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [10**9, 0, 10]
    pool = dataset.train.pool_rows
    assert 2**19 < pool == 2**21
    first, again = dataset.train.read(0, 1000), dataset.train.read(pool, pool + 1000)
    assert tensors([first]) == tensors([again])
    assert (first.numerical.shape, first.categorical.shape) == ((1000, 3), (1000, 3))
    for column, cardinality in enumerate(SPEC.cardinalities):
        assert 0 <= first.categorical[:, column].min() <= first.categorical[:, column].max() < cardinality
    assert set(first.label.tolist()) == {0.0, 1.0}
    assert 0.4 < first.label.mean() < 0.6
    straddling = dataset.train.read(pool - 2, pool + 2)
    assert straddling.numerical.tolist() == [
        *dataset.train.read(pool - 2, pool).numerical.tolist(),
        *first.numerical[:2].tolist(),
    ]
    rows = np.array([5, pool + 7, 3 * pool - 1])
    assert dataset.train.gather(rows).label.tolist() == [dataset.train.read(r, r + 1).label.item() for r in rows]
    assert dataset.test.label.tolist() == dataset.test.read(0, 10).label.tolist()
    assert dataset.test.read(0, 10).numerical.tolist() != dataset.train.read(0, 10).numerical.tolist()


@pytest.mark.parametrize("order", [None, ShuffledBatches(0, 0), ShuffledRows(0, 0)])
def test_random_rows_are_read_as_any(order):
    train = RandomDataset(SPEC, train_rows=100, test_rows=0).train
    assert [len(b.label) for b in train.first(40).batches(16)] == [16, 16, 8]
    found = [b.numerical[:, 0].tolist() for b in read_ahead(train, 16, order, workers=2)]
    assert sorted(itertools.chain(*found)) == sorted(train.read(0, 100).numerical[:, 0].tolist())


def test_bags_and_zipf():
    uniform = RandomDataset(SPEC, train_rows=5000, indices_per_lookup=4, fixed=True).train.read(0, 5000)
    zipf = RandomDataset(SPEC, train_rows=5000, indices_per_lookup=4, fixed=True, ids="zipf").train.read(0, 5000)
    for batch in (uniform, zipf):
        assert batch.categorical.shape == (5000, 3, 4)
        for column, cardinality in enumerate(SPEC.cardinalities):
            ids = batch.categorical[:, column]
            assert 0 <= ids.min() <= ids.max() < cardinality
    # Of 100 ids, id k should come up as often as log((k + 2) / (k + 1)) / log(101).
    share = np.bincount(zipf.categorical[:, 1].flatten().numpy(), minlength=100) / 20_000
    expected = np.diff(np.log(np.arange(1, 102))) / np.log(101)
    assert np.abs(share - expected).max() < 5 * np.sqrt(0.15 * 0.85 / 20_000)
    assert np.bincount(uniform.categorical[:, 1].flatten().numpy()).max() < 300
    with pytest.raises(ValueError, match="uniform or zipf"):
        RandomDataset(SPEC, ids="pareto")


@pytest.mark.parametrize("ids", ["uniform", "zipf"])
def test_bags_of_random_size_hold_different_ids(ids):
    longest, spec = 9, FeatureSpec(numerical=1, cardinalities=(3, 100_000))
    settings = {"train_rows": 20_000, "test_rows": 10, "indices_per_lookup": longest, "ids": ids}
    dataset = RandomDataset(spec, seed=3, **settings)
    bags = dataset.train.read(0, 20_000).categorical.numpy()
    for column, cardinality in enumerate(spec.cardinalities):
        for bag in bags[:500, column]:
            real = bag[bag < cardinality]
            assert 1 <= len(real) == len(set(real.tolist()))
            assert bag.tolist() == sorted(real.tolist()) + [cardinality] * (longest - len(real))
    # Of 100,000 ids drawn evenly hardly two in a bag are equal: its size is as likely as any other from 1 to 9.
    if ids == "uniform":
        sizes = np.bincount((bags[:, 1] < 100_000).sum(1), minlength=longest + 1)
        assert sizes[0] == 0
        assert np.abs(sizes[1:] / 20_000 - 1 / 9).max() < 5 * np.sqrt(1 / 9 * 8 / 9 / 20_000)
    again = RandomDataset(spec, seed=3, **settings)
    assert np.array_equal(again.train.read(0, 20_000).categorical, bags)
    assert not np.array_equal(RandomDataset(spec, seed=4, **settings).train.read(0, 20_000).categorical, bags)
    assert np.array_equal(dataset.train.first(50).read(0, 50).categorical, bags[:50])
    fixed = RandomDataset(spec, seed=3, **settings, fixed=True)
    assert (fixed.train.read(0, 20_000).categorical.numpy() < np.array([[3], [100_000]])).all()
    assert fixed.manifest.hashes != dataset.manifest.hashes


def test_the_seed_and_sizes_of_random_rows_are_in_the_manifest():
    hashes = [
        RandomDataset(spec, train_rows=rows, seed=seed).manifest.hashes
        for spec, rows, seed in (
            (SPEC, 5, 0),
            (SPEC, 5, 0),
            (SPEC, 5, 1),
            (SPEC, 6, 0),
            (FeatureSpec(numerical=3, cardinalities=(4, 100, 7)), 5, 0),
        )
    ]
    assert hashes[0] == hashes[1]
    changed = [{name for name in one if one[name] != hashes[0][name]} for one in hashes[2:]]
    assert changed == [{"source"}, {"split"}, {"vocabulary"}]
